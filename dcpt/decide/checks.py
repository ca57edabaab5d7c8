"""Checks of a target against a fit: impossible values, and missing ones that the laws need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dcpt.decide.records import LEAST_CONFIDENCE, MOST_CONFIDENCE, Target
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.errors import InputError
from dcpt.table.channels import GENERAL_TOTAL, weighted_total

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

TOTAL_OFF = 0.005
"""Nats per token by which a given total may differ from the weighted mean of its parts."""


def named_losses(fit: Fit, target: Target, general: str | None) -> Target:
    """Give the losses ``general`` and ``domain`` their channels' names and fill in the total.

    Raises:
        InputError: If the fit lacks the channel of a loss, or a total contradicts its parts.
    """
    losses, weights = dict(target.base_losses), fit.general_weights
    losses.pop(GENERAL_WORST, None)  # added by an earlier call
    for side, channel in (("general", general), ("domain", fit.domain_channel)):
        if channel is not None and channel not in losses and side in losses:
            losses[channel] = losses.pop(side)
    known = {*fit.channels, *weights, general, fit.general_channel, "domain"}
    unknown = [name for name in losses if name not in known]
    if unknown:
        raise InputError(
            f"target base loss of {', '.join(unknown)}: the fit has no such channel; its channels "
            f"are {', '.join(fit.channels)}"
        )
    if general is not None and weights and all(name in losses for name in weights):
        total = weighted_total(losses, weights)
        given = losses.setdefault(general, total)
        if abs(given - total) > TOTAL_OFF:
            raise InputError(
                f"target base loss of {general} is {given:g} and the weighted mean of "
                f"{', '.join(weights)} is {total:.4g}; leave the total out, or correct one of them"
            )
    return replace(target, base_losses=losses)


def with_unique_tokens(
    fit: Fit, target: Target, general: str | None, phase: str
) -> tuple[Target, dict[str, float], list[str]]:
    """Complete the unique tokens of the channels whose laws need them.

    Channels may be called ``general`` and ``domain``. What the target does not name is taken from
    the runs, if they all have one value.

    Returns:
        The target, the values that were taken from the runs, and a sentence on each that is
        missing.

    Raises:
        InputError: If the fit lacks a channel that the target names.
    """
    texts, of_runs, problems = dict(target.unique_tokens), {}, []
    for side, channel in (("general", general), ("domain", fit.domain_channel)):
        if channel is not None and channel not in texts and side in texts:
            texts[channel] = texts.pop(side)
    known = {*fit.channels, *fit.general_channels, *(fit.general_weights or {})}
    unknown = [name for name in texts if name not in known]
    if unknown:
        raise InputError(
            f"target unique tokens of {', '.join(unknown)}: the fit has no such channel; its "
            f"channels are {', '.join(fit.channels)}"
        )
    for channel in fit.channels:
        laws = [law for law in _laws(fit, channel, phase) if depends_on_text(fit, channel, [law])]
        if not laws or channel in texts:
            continue
        seen = fit.by_channel[channel].seen.values.values()
        values = {value for by_axis in seen for value in by_axis.get("unique_tokens", ())}
        if len(values) == 1:
            of_runs[channel] = values.pop()
            continue
        several = f"; those of the runs are {len(values)} different ones" if values else ""
        problems.append(
            f"target unique tokens of channel {channel} are missing and the laws need them "
            f"({', '.join(laws)}){several}: give the distinct tokens of its text as "
            f"unique_tokens[{channel!r}] (--unique-tokens {channel}=...)"
        )
    return replace(target, unique_tokens={**texts, **of_runs}), of_runs, problems


def depends_on_text(fit: Fit, channel: str, laws: Sequence[str]) -> bool:
    """Whether any of these laws of a channel depends on the amount of its text."""
    members = fit.by_channel[channel].members
    return any(law in members and "unique_tokens" in members[law].law.needs for law in laws)


def impossible(target: Target) -> list[str]:
    """List the values of a target that are impossible, one sentence each."""
    problems = []
    if not 1000 <= target.n_params < math.inf:
        problems.append(
            f"target n_params {target.n_params:g} is below 1,000: a count of parameters is "
            "expected, such as 7B (is it in millions or billions?)"
        )
    if not 0 < target.n_tokens < math.inf:
        problems.append(
            f"target n_tokens {target.n_tokens:g} is not above 0: write the tokens of the whole "
            "run, such as 10B"
        )
    limits = {"": target.limit, **{f"{n}: ": of for n, of in target.channel_limits.items()}}
    wrong = {name: limit.problem() for name, limit in limits.items() if limit is not None}
    problems += [f"target {name}{said}" for name, said in wrong.items() if said is not None]
    problems += [
        f"target limit {name}={limit}: each is for the limit on all channels; leave it out"
        for name, limit in target.channel_limits.items()
        if limit.each
    ]
    if not LEAST_CONFIDENCE <= target.confidence <= MOST_CONFIDENCE:
        problems.append(
            f"target confidence {target.confidence:g} is not between {LEAST_CONFIDENCE:g} and "
            f"{MOST_CONFIDENCE:g}: write the share of the draws that must keep the limit, such as "
            "0.8"
        )
    for channel, loss in target.base_losses.items():
        if not 0 < loss <= 20:
            problems.append(
                f"target base loss of {channel} is {loss:g}: nats per token between 0 and 20 are "
                "expected (is it a perplexity or a sum?)"
            )
    for channel, n in target.unique_tokens.items():
        if not 0 < n < math.inf:
            problems.append(
                f"target unique tokens of {channel} are {n:g}: write a count of tokens above 0, "
                "such as 200M"
            )
    for name in ("learning_rate", "base_peak_learning_rate"):
        rate = getattr(target, name)
        if rate is not None and not 0 < rate <= 1:
            problems.append(
                f"target {name} {rate:g} is not in (0, 1]: write it absolute, like 3e-4"
            )
    if target.base_n_tokens is not None and not 0 < target.base_n_tokens < math.inf:
        problems.append(
            f"target base_n_tokens {target.base_n_tokens:g} is not above 0: write the tokens of "
            "the base's pre-training, or leave it out"
        )
    if target.warmup_tokens is not None and not 0 <= target.warmup_tokens < target.n_tokens:
        problems.append(
            f"target warmup_tokens {target.warmup_tokens:g} is not between 0 and n_tokens "
            f"({target.n_tokens:g}): write tokens, not steps"
        )
    return problems


def missing(
    fit: Fit, target: Target, limited: Sequence[str], minimized: Sequence[str], phase: str
) -> list[str]:
    """List the values that the laws of a phase need and the target lacks, one sentence each."""
    problems = []
    without = [channel for channel in limited if channel not in target.base_losses]
    for channel in fit.channels:
        needs = _needs(fit, channel, phase)
        if not needs & {"ratio", "share", "source_shares"} and channel in (*limited, *minimized):
            problems.append(
                f"the laws of channel {channel} ({', '.join(_laws(fit, channel, phase))}) do not "
                "depend on the share, so no share can be chosen: fit a table with at least three "
                "ratios"
            )
        wanted = [channel] if "base_loss" in needs else []
        if "base_loss_general" in needs:  # the channel's own where there is no general side
            wanted.append(fit.general_channel or channel)
        without += [n for n in wanted if n not in target.base_losses and n not in without]
    problems += [
        f"target base loss of channel {channel} is missing, which "
        f"{'the limit is' if channel in limited else 'its laws are'} relative to: measure it on "
        f"the runs' validation text (`dcpt evaluate MODEL` in a study) and give it as "
        f"base_losses[{channel!r}] (--base-loss {channel}=...)" + _or_parts(fit, channel)
        for channel in without
    ]
    needs_all = set().union(*(_needs(fit, channel, phase) for channel in fit.channels))
    remedies = {
        "base_peak_learning_rate": "the peak learning rate of the base's pre-training",
        "base_n_tokens": "the tokens that the base was pre-trained on",
        "warmup_tokens": "the tokens of its warmup (the runs have several or none)",
    }
    problems += [
        f"target {name} is missing and the laws need it: give {meaning}"
        for name, meaning in remedies.items()
        if name in needs_all
        and getattr(target, name) is None
        # If all runs have the same warmup, the target takes it.
        and not (name == "warmup_tokens" and fit.warmup_tokens is not None)
    ]
    return problems


def _or_parts(fit: Fit, channel: str) -> str:
    weights = fit.general_weights
    if channel != GENERAL_TOTAL or not weights:
        return ""
    return f"; or give those of {', '.join(weights)}, from which it is computed"


def _laws(fit: Fit, channel: str, phase: str) -> list[str]:
    """Laws with weight in a channel's prediction in a phase."""
    return [law for law, weight in fit.weights(channel, phase).items() if weight > 0]


def _needs(fit: Fit, channel: str, phase: str) -> set[str]:
    """Fields of the points that the laws of a channel in a phase cannot do without."""
    members = fit.by_channel[channel].members
    return {field for law in _laws(fit, channel, phase) for field in members[law].law.needs}
