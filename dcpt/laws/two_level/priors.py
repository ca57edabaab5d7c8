"""The shipped priors of the two-level model: ``priors.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dcpt.laws.two_level.kernel import Prior, Surface


@cache
def shipped_prior(side: str) -> Prior:
    """The prior of a side, ``general`` or ``domain``.

    Source: ``python experiments/two_level_priors.py``, from the public tables named in the file.
    """
    content = files("dcpt.laws.two_level").joinpath("priors.json").read_text(encoding="utf-8")
    return prior_from_record(json.loads(content)["priors"][side])


def prior_from_record(record: Mapping[str, Any]) -> Prior:
    """Read a prior from its JSON record."""
    surfaces = {
        name: Surface(**{**record[name], "linear": np.array(record[name]["linear"])})
        for name in ("level", "drift", "walk")
    }
    return Prior(
        **{
            **record,
            **surfaces,
            "centre": np.array(record["centre"]),
            "lengths": tuple(record["lengths"]),
            "growth_lengths": tuple(record["growth_lengths"]),
        }
    )


def prior_as_record(prior: Prior) -> dict[str, Any]:
    """The JSON record of a prior, with four digits of each number."""
    record = dict(prior.__dict__)
    for name in ("level", "drift", "walk"):
        surface: Surface = record[name]
        record[name] = {key: _rounded(value) for key, value in surface.__dict__.items()}
    return {key: v if isinstance(v, dict) else _rounded(v) for key, v in record.items()}


def _rounded(values: ArrayLike) -> Any:
    flat = [float(f"{value:.4g}") for value in np.ravel(values)]
    return flat if np.ndim(values) else flat[0]
