"""The two-level model of a channel in the files of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpt.laws.fits.two_level_member import TwoLevelMember
from dcpt.laws.two_level.coordinates import Coordinates, Scales
from dcpt.laws.two_level.priors import prior_as_record, prior_from_record
from dcpt.laws.two_level.process import TwoLevel

Array = NDArray[np.float64]

COORDINATES = tuple(field.name for field in fields(Coordinates))


def two_level_record(member: TwoLevelMember) -> dict[str, Any]:
    """What ``fit.json`` says about a two-level model."""
    return {
        "prior": prior_as_record(member.model.prior),
        "scales": asdict(member.model.scales),
        "spreads": dict(member.spreads),
        "held_out": dict(member.held_out),
        "seed": list(member.seed),
        "few_runs": dict(member.few_runs),
    }


def two_level_arrays(member: TwoLevelMember) -> dict[str, Array]:
    """What ``draws.npz`` holds of a two-level model: the points that it is conditioned on."""
    model = member.model
    seen = {name: getattr(model.seen, name) for name in COORDINATES}
    return {**seen, "values": model.values, "runs": model.runs.astype(np.float64)}


def read_two_level(
    channel: str, side: str, record: Mapping[str, Any], arrays: Mapping[str, Array]
) -> TwoLevelMember:
    """Read a two-level model from its record and its arrays."""
    model = TwoLevel(
        channel=channel,
        side=side,
        prior=prior_from_record(record["prior"]),
        scales=Scales(**record["scales"]),
        seen=Coordinates(**{name: arrays[name] for name in COORDINATES}),
        values=arrays["values"],
        runs=arrays["runs"].astype(np.intp),
    )
    return TwoLevelMember(
        model=model,
        spreads=record["spreads"],
        held_out=record["held_out"],
        seed=(int(record["seed"][0]), int(record["seed"][1])),
        few_runs=record["few_runs"],
    )
