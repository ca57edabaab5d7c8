"""The record of a channel in ``fit.json``: written, and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.laws.fits.channel_fit import ChannelFit
from dcpt.laws.fits.coverage import Seen
from dcpt.laws.fits.folds import SPLITS
from dcpt.laws.fits.horizon import Horizon
from dcpt.laws.fits.members import Member
from dcpt.laws.fits.stack import Comparison
from dcpt.laws.fits.two_level_files import read_two_level, two_level_record
from dcpt.laws.fits.two_level_member import TWO_LEVEL, TwoLevelMember
from dcpt.laws.formulas import LAWS
from dcpt.laws.law import Law, References
from dcpt.laws.points.rate_rule import RateRule

Array = NDArray[np.float64]


def channel_record(fit: ChannelFit) -> dict[str, Any]:
    """A channel for ``fit.json``, without its arrays of draws."""
    return {
        "side": fit.side,
        "laws": {name: _member_record(member) for name, member in fit.members.items()},
        "comparisons": {
            phase: {name: v for name, v in c.__dict__.items() if name not in ("gaps", "growth")}
            for phase, c in fit.comparisons.items()
        },
        "seen": {
            "values": {
                phase: {axis: list(values) for axis, values in by_axis.items()}
                for phase, by_axis in fit.seen.values.items()
            },
            "steps": dict(fit.seen.steps),
            "largest": dict(fit.seen.largest),
            "residuals": dict(fit.seen.residuals),
            "rises": dict(fit.seen.rises),
        },
        "horizons": {phase: asdict(horizon) for phase, horizon in fit.horizons.items()},
        "two_level": None if fit.two_level is None else two_level_record(fit.two_level),
        "left_out": [list(pair) for pair in fit.left_out],
        "points": {name: list(values) for name, values in fit.residuals.items()},
    }


def _member_record(member: Member) -> dict[str, Any]:
    law = member.law
    return {
        "formula": law.formula,
        "source": law.source,
        "holds_on": [str(valid) for valid in law.holds_on],
        "parameters": [
            {
                "name": parameter.name,
                "value": float(member.values[i]),
                "lower": float(member.lower[i]),
                "upper": float(member.upper[i]),
                "unit": parameter.unit,
                "role": parameter.role,
                "meaning": parameter.meaning,
            }
            for i, parameter in enumerate(law.parameters)
        ],
        "references": dict(member.references.__dict__),
        "objective": member.objective,
        "n_points": member.n_points,
        "held_at": dict(member.held_at),
        "rate_rule": None if member.rate_rule is None else member.rate_rule.__dict__,
        "flags": [flag.as_dict() for flag in member.flags],
    }


def read_channels(
    records: Mapping[str, Any], draws: Mapping[str, Array], laws: Mapping[str, Law], place: Path
) -> dict[str, ChannelFit]:
    """Read channels back.

    Args:
        records: The record of each channel.
        draws: The arrays of the fit, by name.
        laws: The laws that the records may name.
        place: The folder of the fit, for messages.

    Raises:
        InputError: If a law is unknown, or is not the law that was fitted.
    """
    return {
        name: _read_channel(name, channel, draws, laws, place) for name, channel in records.items()
    }


def _read_rule(record: Mapping[str, list[float]] | None) -> RateRule | None:
    return None if record is None else RateRule(tuple(record["sizes"]), tuple(record["rates"]))


def _read_gaps(
    place: str, laws: Sequence[str], draws: Mapping[str, Array]
) -> dict[str, dict[str, Array]]:
    """Held-out errors of a channel and phase by split and law."""
    return {
        split: dict(zip(laws, draws[f"{place}/{split}"], strict=True))
        for split in SPLITS
        if f"{place}/{split}" in draws
    }


def _check_same(law: Law, record: Mapping[str, Any], place: Path) -> None:
    """Refuse a law that has changed since the fit."""
    then = record["formula"], tuple(fitted["name"] for fitted in record["parameters"])
    if then != (law.formula, law.names):
        raise InputError(
            f"{place / 'fit.json'}: the law {law.name} was fitted as {then[0]} with the parameters "
            f"{', '.join(then[1])}, and is now {law.formula} with {', '.join(law.names)}: fit the "
            "runs again"
        )


def _read_channel(
    channel: str,
    record: Mapping[str, Any],
    draws: Mapping[str, Array],
    laws: Mapping[str, Law],
    place: Path,
) -> ChannelFit:
    unknown = [name for name in record["laws"] if name not in laws]
    if unknown:
        raise InputError(
            f"{place / 'fit.json'} uses the law {', '.join(unknown)}, which is not in the menu "
            f"({', '.join(LAWS)}); if it is your own, name it with laws= or --law module:name"
        )
    for name, law in record["laws"].items():
        _check_same(laws[name], law, place)
    return ChannelFit(
        channel=channel,
        side=record["side"],
        members={
            name: _read_member(laws[name], law, draws[f"{channel}/law/{name}"])
            for name, law in record["laws"].items()
        },
        comparisons={
            phase: _read_comparison(f"{channel}/{phase}", compared, draws)
            for phase, compared in record["comparisons"].items()
        },
        seen=_read_seen(record["seen"]),
        ranks=draws[f"{channel}/ranks"],
        errors=draws[f"{channel}/errors"],
        left_out=tuple((row, reason) for row, reason in record["left_out"]),
        residuals=record["points"],
        horizons={
            phase: Horizon(horizon["compute"], tuple(map(tuple, horizon["tests"])))
            for phase, horizon in record["horizons"].items()
        },
        two_level=_read_two_level(channel, record, draws),
    )


def _read_member(law: Law, record: Mapping[str, Any], draws: Array) -> Member:
    parameters = record["parameters"]
    return Member(
        law=law,
        values=np.array([parameter["value"] for parameter in parameters]),
        draws=draws,
        references=References(**record["references"]),
        lower=np.array([parameter["lower"] for parameter in parameters]),
        upper=np.array([parameter["upper"] for parameter in parameters]),
        objective=record["objective"],
        n_points=record["n_points"],
        held_at=record["held_at"],
        flags=tuple(Flag(**flag) for flag in record["flags"]),
        rate_rule=_read_rule(record["rate_rule"]),
    )


def _read_comparison(key: str, record: Mapping[str, Any], draws: Mapping[str, Array]) -> Comparison:
    """The comparison of laws whose arrays begin with ``key``: a channel and a phase."""
    return Comparison(
        **record,
        gaps=_read_gaps(key, list(record["weights"]), draws),
        growth={
            split: draws[f"{key}/{split}/growth"] for split in SPLITS if f"{key}/{split}" in draws
        },
    )


def _read_seen(record: Mapping[str, Any]) -> Seen:
    return Seen(
        values={
            phase: {axis: tuple(values) for axis, values in by_axis.items()}
            for phase, by_axis in record["values"].items()
        },
        steps=record["steps"],
        largest=record["largest"],
        residuals=record["residuals"],
        rises=record["rises"],
    )


def _read_two_level(
    channel: str, record: Mapping[str, Any], draws: Mapping[str, Array]
) -> TwoLevelMember | None:
    of_model, place = record["two_level"], f"{channel}/{TWO_LEVEL}/"
    if of_model is None:
        return None
    arrays = {n.removeprefix(place): a for n, a in draws.items() if n.startswith(place)}
    return read_two_level(channel, record["side"], of_model, arrays)
