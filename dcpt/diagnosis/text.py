"""Diagnosis of the text from the losses: known, new, unlike the base's, learnt, repeated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dcpt.diagnosis.curves import Curve
from dcpt.diagnosis.records import DomainStart, Finding, Verdict, lacking
from dcpt.laws.flags.design_flags import REPEATED
from dcpt.laws.flags.noise import EVALUATION_NOISE, GENERAL_FALL

LOW_START = 0.6
"""Ratio of domain to general loss before CPT below which the text is memorized or templated. In
synthetic runs boilerplate that the base knew starts at 0.3, a related language at 1.5; no domain of
the pilot or of the demo starts below 1.4."""

SAME_START = 1.2
"""Ratio below which the domain is like general text to the base: the synthetic run on the base's
own language starts at 1.05, healthy runs at 1.5."""

KNOWN_FALL = 0.04
"""The loss of a known text falls by at most this share of its start: the synthetic run on the
base's own language fell by 1.7 %, healthy runs by 12 % and more, those of the pilot by 38 % and
more."""

HIGH_START = 1.75
"""Ratio of domain to general loss before CPT from which a text is new or dirty. In the pilot code
starts at 1.4 to 1.5 and verse in a script that the base never saw at 2.8 to 3.1; the demo's code
book at 1.9 to 2.1. Synthetic runs: a related language 1.5, random words 4.2, a new language 8.9,
shuffled bytes 26."""


def about_text(curves: Mapping[str, Curve], weights: Mapping[str, float]) -> Iterator[Finding]:
    """Findings about the text of a run.

    Args:
        curves: The run's channels by name.
        weights: Weights of the general channels, where known.
    """
    general = [curve for curve in curves.values() if curve.side == "general"]
    for curve in curves.values():
        yield from _about_repetition(curve)
        if np.isnan(curve.base_loss):
            lacks = f"base_loss_{curve.channel} (or a row at n_tokens 0)"
            yield lacking("learning", lacks, curve.subject)
            continue
        if curve.side == "domain":
            yield from _about_start(curve, general, weights)
        change = last_change(curve)
        if change is not None and curve.is_trained:
            yield from _about_change(curve, change)


def last_change(curve: Curve) -> float | None:
    """Loss minus the base's, at the last point at constant rate or else at the end of a branch.

    Nats per token; None before the first point beyond the warmup.
    """
    settled = curve.losses[curve.settled]
    ends = [loss for _, loss in curve.decays]
    last = settled[-1] if len(settled) else (ends[-1] if ends else np.nan)
    change = float(last - curve.base_loss)
    return None if np.isnan(change) else change


def _about_start(
    domain: Curve, general: Sequence[Curve], weights: Mapping[str, float]
) -> Iterator[Finding]:
    """Report a low or high start, in bits per byte where known, else in nats per token."""
    known = [curve for curve in general if not np.isnan(curve.base_loss)]
    counted = {
        curve.channel: weights.get(curve.channel, 0.0 if weights else 1.0) for curve in known
    }
    if not known or (len(known) > 1 and not weights):
        lacks = "base_loss_<general channel>" if not known else f"weight_{known[0].channel}"
        yield lacking("known_or_templated", lacks, domain.subject)
        yield lacking("new_or_dirty", lacks, domain.subject)
        return
    in_bits = all(np.isfinite(curve.bytes_per_token) for curve in (domain, *known))
    per = {curve.channel: curve.bytes_per_token * np.log(2) if in_bits else 1.0 for curve in known}
    scale = domain.bytes_per_token * np.log(2) if in_bits else 1.0
    unit = "bits per byte" if in_bits else "nats per token"
    total = sum(counted.values())
    general_start = (
        sum(counted[curve.channel] * curve.base_loss / per[curve.channel] for curve in known)
        / total
    )
    start = domain.base_loss / scale
    ratio, change = start / general_start, last_change(domain)
    numbers = {"start": start, "general_start": general_start, "ratio": ratio}
    starts = (
        f"The domain starts at {start:.3g} {unit}, {ratio:.2f} times the general loss of "
        f"{general_start:.3g}"
    )
    if change is not None and domain.is_trained:
        numbers |= {"end": (domain.base_loss + change) / scale}
        starts += f", and ends at {numbers['end']:.3g}"
    was_trained = change is not None and domain.is_trained
    changed_little = was_trained and abs(change or 0.0) < KNOWN_FALL * domain.base_loss
    if ratio < LOW_START or (ratio < SAME_START and changed_little):
        words = (
            f"{starts}: the base knows this text already, the text is templated, or its losses are "
            "in another unit (bits per byte, for example)."
        )
        yield Finding("known_or_templated", words, domain.subject, numbers, verdict="look")
    elif ratio >= HIGH_START:
        words = (
            f"{starts}: the text is new to the base, or dirty (broken encoding, random words). "
            "Read some of it."
        )
        yield Finding("new_or_dirty", words, domain.subject, numbers, verdict="look")


def _about_change(curve: Curve, change: float) -> Iterator[Finding]:
    """Report learning, not learning, forgetting, and a general loss that falls clearly."""
    numbers = {"base": curve.base_loss, "change": change}
    losses = f"{curve.base_loss:.3f} before CPT, {change:+.3f} nats at the end of the trunk"

    def say(kind: str, verdict: Verdict, words: str) -> Finding:
        return Finding(kind, f"{losses}: {words}.", curve.subject, numbers, verdict=verdict)

    fall = GENERAL_FALL * curve.base_loss
    if curve.side == "general" and change < -max(fall, curve.noise):
        yield say(
            "general_unlike_base",
            "look",
            f"the general loss fell by {-100 * change / curve.base_loss:.1f} %: this general text "
            "differs from the base's training data, so its loss says little about forgetting; "
            "measure the general loss on text like the base's",
        )
    elif change < -EVALUATION_NOISE:
        yield say("learning", "fact", "learning")
    elif curve.side == "domain" and EVALUATION_NOISE < change < curve.noise - EVALUATION_NOISE:
        # A loss that stays the same is not noise: all points use the same sequences.
        yield lacking("not_learning", "more validation text (evaluation.tokens)", curve.subject)
    elif curve.side == "domain":
        yield say(
            "not_learning",
            "alarm",
            f"the fall is within the difference of equal runs ({EVALUATION_NOISE:g}); raise the "
            "learning rate, check that the channel is trained, or read the text",
        )
    elif change > curve.noise:
        yield say("forgetting", "fact", "the base forgets")


def _about_repetition(curve: Curve) -> Iterator[Finding]:
    if curve.is_trained and curve.epochs >= REPEATED:
        yield Finding(
            "repeated",
            f"Its text was repeated {curve.epochs:.1f} times.",
            curve.subject,
            {"epochs": curve.epochs},
            verdict="fact",
        )


def start_of(domain: Curve) -> DomainStart | None:
    """The two numbers of the cross-domain D-CPT law; None where the initial loss is unknown."""
    if np.isnan(domain.base_loss):
        return None
    settled = np.flatnonzero(domain.settled)
    if not len(settled) or not domain.is_trained:
        return DomainStart(domain.run, domain.base_loss, None, None)
    tokens = float(domain.tokens[settled[0]])
    slope = (domain.base_loss - float(domain.losses[settled[0]])) / tokens * 1e6
    return DomainStart(domain.run, domain.base_loss, slope, int(tokens))
