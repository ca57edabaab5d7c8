"""The mix of the general channels of a target: that of the runs, unless laws know others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dcpt.decide.records import Target
from dcpt.flags import Flag
from dcpt.laws.flags.mix_flags import SAME_MIX
from dcpt.quantities import format_percent
from dcpt.table.channels import DOMAIN

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

Array = NDArray[np.float64]

ROUNDING = 0.01
"""The parts of a mix sum to 1 within this much: people write them in whole per cent."""

LEAST_READ = 0.5
"""Weight of the laws that read the mix below which its effect counts as hardly known."""


def check_mix(fit: Fit, target: Target, phase: str) -> tuple[Target, list[str]]:
    """Complete the target's mix from runs of a single mix, and check a given one.

    Returns:
        The target, and a sentence on each problem.
    """
    of_runs = fit.general_mix
    if target.mix:
        return _normalized(target), list(_problems(fit, target, phase))
    if not of_runs:
        return target, []
    if _is_single(of_runs):
        middle = {name: (low + high) / 2 for name, (low, high) in of_runs.items()}
        return _normalized(replace(target, mix=middle)), []
    laws = _laws_of_mix(fit, phase)
    if not laws:
        return target, []
    return target, [
        f"the mix of the general text is missing, laws with weight read it ({', '.join(laws)}) and "
        f"the runs have several: give the part of each channel as mix ("
        f"{' '.join(f'--mix {name}=...' for name in of_runs)}); without a mix `dcpt recommend` "
        "finds the best"
    ]


def has_free_mix(fit: Fit, phase: str) -> bool:
    """Whether the runs have several mixes of the general text and laws with weight read them."""
    of_runs = fit.general_mix
    return bool(of_runs) and not _is_single(of_runs) and bool(_laws_of_mix(fit, phase))


def _normalized(target: Target) -> Target:
    """The target with parts that sum to 1 exactly."""
    whole = sum(target.mix.values()) or 1.0
    return replace(target, mix={name: part / whole for name, part in target.mix.items()})


def mix_columns(mix: Mapping[str, float] | Mapping[str, Array], ratio: Array) -> dict[str, Array]:
    """Columns ``share_<channel>`` at shares of domain text, shape (M,), in a mix or M mixes."""
    if not mix:
        return {}
    parts = {f"share_{name}": (1 - ratio) * part for name, part in mix.items()}
    return {**parts, f"share_{DOMAIN}": ratio}


def say_mix(mix: Mapping[str, float]) -> str:
    """A mix as text: ``web 70 %, code 30 %``."""
    return ", ".join(f"{name} {format_percent(part)}" for name, part in mix.items())


def about_the_mix(fit: Fit, target: Target) -> Iterator[Flag]:
    """A mix outside those of the runs."""
    outside = {
        name: part
        for name, part in target.mix.items()
        if not fit.general_mix[name][0] - SAME_MIX <= part <= fit.general_mix[name][1] + SAME_MIX
    }
    if outside:
        of_runs = ", ".join(
            f"{name} {format_percent(fit.general_mix[name][0])} to "
            f"{format_percent(fit.general_mix[name][1])}"
            for name in outside
        )
        yield Flag(
            "extrapolates",
            f"The mix of the general text, {say_mix(target.mix)}, lies outside those of the runs "
            f"({of_runs}). Train runs with such a mix.",
            {"axis": "mix"},
            outside,
        )


def at_edge_of_mixes(fit: Fit, mix: Mapping[str, float]) -> Iterator[Flag]:
    """Parts of a best mix that are as small or as large as those of any run.

    Args:
        fit: The fit.
        mix: A best mix, in whole per cent: its parts are less than 1 % off.
    """
    for name, part in mix.items():
        for end, much, more in zip(
            fit.general_mix[name], ("little", "much"), ("smaller", "larger"), strict=True
        ):
            if abs(part - end) < ROUNDING and ROUNDING < end < 1 - ROUNDING:
                yield Flag(
                    "mix_at_edge",
                    f"The best mix has as {much} {name} text as any run ({format_percent(end)} of "
                    f"the general text), so a {more} part may be better. Train runs with it.",
                    {"channel": name},
                    {"part": part, "of_runs": end},
                )


def _problems(fit: Fit, target: Target, phase: str) -> Iterator[str]:
    """What is wrong with a given mix, one sentence each."""
    of_runs, given = fit.general_mix, say_mix(target.mix)
    if not of_runs:
        yield (
            f"mix {given}: the runs table has no share_<channel> columns of several general "
            "channels, so no law knows the mix: leave it out, or add the columns"
        )
        return
    if set(target.mix) != set(of_runs):
        yield f"mix {given}: give the part of each of {', '.join(of_runs)}"
        return
    whole = sum(target.mix.values())
    if min(target.mix.values()) < 0 or abs(whole - 1) > ROUNDING:
        yield f"mix {given}: the parts sum to {format_percent(whole)}, and must sum to 100 %"
        return
    off = max(abs(part - sum(of_runs[name]) / 2) for name, part in target.mix.items())
    if _is_single(of_runs) and off > SAME_MIX:
        mean = {name: (low + high) / 2 for name, (low, high) in of_runs.items()}
        yield (
            f"mix {given}: all runs have the mix {say_mix(mean)}, so no law knows another: train "
            "runs with other mixes, or leave it out"
        )
    elif not _is_single(of_runs) and not _laws_of_mix(fit, phase):
        yield (
            f"mix {given}: no law with weight reads the shares of the general channels, so the "
            "losses of a mix of its own are not known: leave it out"
        )


def _is_single(of_runs: Mapping[str, tuple[float, float]]) -> bool:
    """Whether all runs have one mix."""
    return all(high - low <= SAME_MIX for low, high in of_runs.values())


def _laws_of_mix(fit: Fit, phase: str) -> list[str]:
    """Laws with weight in a phase that read the shares of the sources."""
    return [
        f"{law} of {channel}"
        for channel in fit.channels
        for law, weight in fit.weights(channel, phase).items()
        if weight > 0 and _reads_mix(fit, channel, law)
    ]


def _reads_mix(fit: Fit, channel: str, law: str) -> bool:
    """Whether a law of a channel reads the shares of the sources."""
    members = fit.by_channel[channel].members
    return law in members and "source_shares" in members[law].law.needs


def mix_hardly_read(fit: Fit, weights: Mapping[str, Mapping[str, float]]) -> Iterator[Flag]:
    """Channels whose predictions come mostly from laws that know the share of domain text alone.

    Args:
        fit: The fit.
        weights: Weights of the laws that predict the target, by the channels that decide.
    """
    for channel, of_laws in weights.items():
        read = sum(weight for law, weight in of_laws.items() if _reads_mix(fit, channel, law))
        if read < LEAST_READ:
            yield Flag(
                "mix_hardly_read",
                f"Laws that read the mix have {format_percent(read)} of the weight in the "
                f"{channel} loss. The others predict it for the average mix, so the effect of the "
                "mix is underestimated. Train more runs of other mixes, or fit with --law "
                "many-sources.",
                {"channel": channel},
                {"weight": read},
            )
