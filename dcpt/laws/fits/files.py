"""A fit on disk: ``fit.json`` for people and programs, and ``draws.npz`` (no pickle)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dcpt.atomic_files import DamagedFileError, make_room, read_record, write_bytes, write_record
from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.laws.fits.channel_files import channel_record, read_channels
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.fits.result import Fit, WithoutRun
from dcpt.laws.fits.two_level_files import two_level_arrays
from dcpt.laws.fits.two_level_member import TWO_LEVEL
from dcpt.laws.formulas import LAWS
from dcpt.laws.formulas.coordinates import NOTATION
from dcpt.laws.formulas.sources import MANY_SOURCES, WEIGHT, many_sources
from dcpt.laws.law import Law
from dcpt.laws.menu import laws_named
from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]

FORMAT = 8

WITHOUT = "without a run/"
"""Begins the names of draws of the fit without a run."""

REMEDY = "fit the runs again (`dcpt fit`)"
"""Ends the message about a damaged file of a fit."""


def write_fit(fit: Fit, folder: str | Path) -> Path:
    """Write a fit; each file appears whole or not at all.

    Args:
        fit: The fit.
        folder: Where to write; created if it does not exist.

    Returns:
        The path of ``fit.json``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = _draws(fit.by_channel)
    if fit.without is not None:
        others = _draws(fit.without.by_channel)
        arrays |= {f"{WITHOUT}{name}": values for name, values in others.items()}
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    content = packed.getvalue()
    record = {**_fit_record(fit), "draws_sha256": hashlib.sha256(content).hexdigest()}
    make_room(folder / "draws.npz")
    write_bytes(folder / "draws.npz", content)
    write_record(folder / "fit.json", record)
    return folder / "fit.json"


def _draws(by_channel: Mapping[str, ChannelFit]) -> dict[str, Array]:
    """The draws and held-out errors of all channels, by the names in ``draws.npz``."""
    arrays: dict[str, Array] = {}
    for channel, of_channel in by_channel.items():
        arrays[f"{channel}/ranks"] = of_channel.ranks
        arrays[f"{channel}/errors"] = of_channel.errors
        for name, member in of_channel.members.items():
            arrays[f"{channel}/law/{name}"] = member.draws
        if of_channel.two_level is not None:
            for name, array in two_level_arrays(of_channel.two_level).items():
                arrays[f"{channel}/{TWO_LEVEL}/{name}"] = array
        for phase, compared in of_channel.comparisons.items():
            for split, gaps in compared.gaps.items():
                arrays[f"{channel}/{phase}/{split}"] = np.stack(list(gaps.values()))
                arrays[f"{channel}/{phase}/{split}/growth"] = compared.growth[split]
    return arrays


def _fit_record(fit: Fit) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "software": {name: installed_version(name) for name in ("dcpt", "numpy", "scipy")},
        "runs_sha256": fit.table_sha256,
        "notation": NOTATION,
        "transform": f"sum of Huber({fit.delta:g}) on log-loss residuals",
        "delta": fit.delta if np.isfinite(fit.delta) else None,
        "seed": fit.seed,
        "n_draws": fit.n_draws,
        "general_channel": fit.general_channel,
        "domain_channel": fit.domain_channel,
        "phase_for_decisions": fit.phase_for_decisions,
        "seen_rates": [list(entry) for entry in fit.seen_rates],
        "warmup_tokens": fit.warmup_tokens,
        "batch_tokens": fit.batch_tokens,
        "general_weights": dict(fit.general_weights),
        "validation_channels": list(fit.validation_channels),
        "general_mix": {name: list(parts) for name, parts in fit.general_mix.items()},
        "tied_sources": list(fit.tied_sources),
        "size_column": fit.size_column,
        "schedules": {name: s.model_dump() for name, s in fit.schedules.items()},
        "bases": {name: [list(pair) for pair in bases] for name, bases in fit.bases.items()},
        "flags": [flag.as_dict() for flag in fit.flags],
        "channels": {name: channel_record(of) for name, of in fit.by_channel.items()},
        "without": None if fit.without is None else _without_record(fit.without),
    }


def _without_record(without: WithoutRun) -> dict[str, Any]:
    channels = {name: channel_record(of) for name, of in without.by_channel.items()}
    return {"run": without.run, "channels": channels}


def installed_version(name: str) -> str | None:
    """Version of a package; None if it runs from its sources without being installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def load_fit(folder: str | Path, laws: Sequence[str | Law] = ()) -> Fit:
    """Read a fit that :func:`write_fit` wrote.

    Args:
        folder: The folder of ``fit.json`` and ``draws.npz``, or the path of ``fit.json``.
        laws: Your own laws that the fit uses (records, or ``module:name``). A file never names
            code to run.

    Raises:
        InputError: If a file is missing, damaged or of another format, or names a law that is
            unknown or has changed since.

    Examples:
        >>> from dcpt.laws import write_fit
        >>> file = write_fit(fit, "saved")
        >>> dcpt.load_fit("saved").sha256 == fit.sha256
        True
    """
    place = Path(folder)
    place = place.parent if place.name == "fit.json" else place
    named = laws_named(laws) if laws else {}
    try:
        record = read_record(place / "fit.json", REMEDY)
        if record is None:
            raise FileNotFoundError(2, "no such file", str(place / "fit.json"))
        content = (place / "draws.npz").read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename} does not exist: give the folder that `dcpt fit --out` wrote"
        ) from error
    except OSError as error:
        raise _unreadable(place / "draws.npz", f"{error.strerror}") from error
    if record.get("format") != FORMAT:
        raise InputError(
            f"{place / 'fit.json'} has format {record.get('format')!r} and this version reads "
            f"{FORMAT}: fit the runs again"
        )
    if record.get("draws_sha256") != hashlib.sha256(content).hexdigest():
        raise _unreadable(place / "draws.npz", "fit.json and draws.npz belong to different fits")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            draws = {name: arrays[name] for name in arrays.files}
        there = {**LAWS, **_law_of_sources(record), **named}
        return _read_fit(record, draws, there, place)
    except InputError:
        raise
    except (BadZipFile, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _unreadable(place / "fit.json", f"{type(error).__name__}: {error}") from error


def read_size_column(folder: Path) -> str | None:
    """The column that is N in the laws of a fit, without its draws and laws.

    None if there is no fit, or its table names no sizes. :func:`load_fit` refuses other formats.
    """
    record = read_record(folder / "fit.json", REMEDY)
    return None if record is None else record.get("size_column")


def _law_of_sources(record: Mapping[str, Any]) -> dict[str, Law]:
    """The law of the sources that a fit's table had, by name; empty if the fit has none."""
    fitted = [channel["laws"].get(MANY_SOURCES) for channel in record["channels"].values()]
    parameters = next((law["parameters"] for law in fitted if law is not None), None)
    if parameters is None:
        return {}
    names = [p["name"] for p in parameters if p["name"].startswith(WEIGHT)]
    return {MANY_SOURCES: many_sources([name.removeprefix(WEIGHT) for name in names])}


def _unreadable(file: Path, reason: str) -> DamagedFileError:
    return DamagedFileError(file, reason, REMEDY)


def _read_fit(
    record: Mapping[str, Any], draws: Mapping[str, Array], laws: Mapping[str, Law], place: Path
) -> Fit:
    return Fit(
        by_channel=read_channels(record["channels"], draws, laws, place),
        general_channel=record["general_channel"],
        domain_channel=record["domain_channel"],
        seen_rates=tuple((size, rate, phase) for size, rate, phase in record["seen_rates"]),
        flags=tuple(Flag(**flag) for flag in record["flags"]),
        warmup_tokens=record["warmup_tokens"],
        batch_tokens=record["batch_tokens"],
        general_weights=record["general_weights"],
        validation_channels=tuple(record["validation_channels"]),
        general_mix={name: (low, high) for name, (low, high) in record["general_mix"].items()},
        tied_sources=tuple(record["tied_sources"]),
        size_column=record["size_column"],
        schedules={
            name: Schedule.model_validate(segments)
            for name, segments in record["schedules"].items()
        },
        bases={
            name: tuple((size, loss) for size, loss in bases)
            for name, bases in record["bases"].items()
        },
        n_draws=record["n_draws"],
        seed=record["seed"],
        table_sha256=record["runs_sha256"],
        delta=float("inf") if record["delta"] is None else record["delta"],
        without=_read_without(record["without"], draws, laws, place),
    )


def _read_without(
    record: Mapping[str, Any] | None,
    draws: Mapping[str, Array],
    laws: Mapping[str, Law],
    place: Path,
) -> WithoutRun | None:
    if record is None:
        return None
    others = {
        name.removeprefix(WITHOUT): values
        for name, values in draws.items()
        if name.startswith(WITHOUT)
    }
    return WithoutRun(record["run"], read_channels(record["channels"], others, laws, place))
