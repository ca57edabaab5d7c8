"""What a run's losses say about the text: known, new, unlike the base's, learnt, repeated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dcpt.diagnosis.curves import Curve
from dcpt.diagnosis.records import DomainStart, Finding
from dcpt.laws.flags.design_flags import REPEATED
from dcpt.laws.flags.noise import EVALUATION_NOISE, GENERAL_FALL

LOW_START = 0.6
"""Domain loss before CPT over the general one, below which the text is known by heart or made of
templates. Made runs: boilerplate that the base knew starts at .3, a related language at 1.5; no
domain of the pilot or of the demo starts below 1.4."""

SAME_START = 1.2
"""Below it the base reads the domain as it reads general text: the made run on the base's own
language starts at 1.05, healthy ones at 1.5."""

KNOWN_FALL = 0.04
"""Share of its start by which a text that is known falls at most: the made run on the base's own
language fell by 1.7 %, healthy ones by 12 % and more, those of the pilot by 38 % and more."""

HIGH_START = 1.75
"""Domain loss before CPT over the general one from which a text is new or dirty. In the pilot code
starts at 1.4 to 1.5 and verse in a script the base never saw at 2.8 to 3.1; the demo's code book
at 1.9 to 2.1; made runs: a related language 1.5, random words 4.2, a new one 8.9, shuffled bytes
26."""


def about_text(curves: Mapping[str, Curve], weights: Mapping[str, float]) -> Iterator[Finding]:
    """Findings about the text of one run.

    Args:
        curves: The run's channels by name.
        weights: Of several general channels, where they are known.
    """
    general = [one for one in curves.values() if one.side == "general"]
    for curve in curves.values():
        yield from _about_repetition(curve)
        if np.isnan(curve.base_loss):
            yield _lacks("learning", curve, f"base_loss_{curve.channel} (or a row at n_tokens 0)")
            continue
        if curve.side == "domain":
            yield from _about_start(curve, general, weights)
        change = last_change(curve)
        if change is not None and curve.is_trained:
            yield from _about_change(curve, change)


def last_change(curve: Curve) -> float | None:
    """Loss minus the base's at the last point at constant rate, else at the end of a branch.

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
    """Low and high starts, in bits per byte where the bytes are known, else in nats per token."""
    known = [one for one in general if not np.isnan(one.base_loss)]
    counted = {one.channel: weights.get(one.channel, 0.0 if weights else 1.0) for one in known}
    if not known or (len(known) > 1 and not weights):
        lacks = "base_loss_<general channel>" if not known else f"weight_{known[0].channel}"
        yield _lacks("known_or_templated", domain, lacks)
        yield _lacks("new_or_dirty", domain, lacks)
        return
    in_bits = all(np.isfinite(one.bytes_per_token) for one in (domain, *known))
    per = {one.channel: one.bytes_per_token * np.log(2) if in_bits else 1.0 for one in known}
    scale = domain.bytes_per_token * np.log(2) if in_bits else 1.0
    unit = "bits per byte" if in_bits else "nats per token"
    total = sum(counted.values())
    beside = sum(counted[one.channel] * one.base_loss / per[one.channel] for one in known) / total
    start = domain.base_loss / scale
    ratio, change = start / beside, last_change(domain)
    numbers = {"start": start, "general_start": beside, "ratio": ratio}
    starts = (
        f"the domain starts at {start:.3g} {unit}, {ratio:.2f} times the general loss of "
        f"{beside:.3g}"
    )
    if change is not None and domain.is_trained:
        numbers |= {"end": (domain.base_loss + change) / scale}
        starts += f", and ends at {numbers['end']:.3g}"
    taught = change is not None and domain.is_trained
    little = taught and abs(change or 0.0) < KNOWN_FALL * domain.base_loss
    if ratio < LOW_START or (ratio < SAME_START and little):
        words = f"{starts}: the base knows this text already, or it is made of templates"
        yield Finding("known_or_templated", "look", words, domain.run, domain.channel, numbers)
    elif ratio >= HIGH_START:
        words = (
            f"{starts}: the text is new to the base, or dirty (broken encoding, random words); "
            "read some of it"
        )
        yield Finding("new_or_dirty", "look", words, domain.run, domain.channel, numbers)


def _about_change(curve: Curve, change: float) -> Iterator[Finding]:
    """Learning, not learning, forgetting, and a general loss that falls clearly."""
    numbers = {"base": curve.base_loss, "change": change}
    said = f"{curve.base_loss:.3f} before CPT, {change:+.3f} nats at the end of the trunk"

    def say(kind: str, verdict: str, words: str) -> Finding:
        full = f"{said}: {words}"
        return Finding(kind, verdict, full, curve.run, curve.channel, numbers)  # type: ignore[arg-type]

    fall = GENERAL_FALL * curve.base_loss
    if curve.side == "general" and change < -max(fall, curve.noise):
        yield say(
            "general_unlike_base",
            "look",
            f"the general loss fell by {-100 * change / curve.base_loss:.1f} %: this general text "
            "differs from the base's own mix, so its loss says little about what the base forgets; "
            "measure the general loss on text like the base's",
        )
    elif change < -EVALUATION_NOISE:
        yield say("learning", "fact", "learning")
    elif curve.side == "domain" and EVALUATION_NOISE < change < curve.noise - EVALUATION_NOISE:
        # A loss that stays where it was is no noise: all points are on the same sequences.
        yield _lacks("not_learning", curve, "more validation text (evaluation.tokens)")
    elif curve.side == "domain":
        yield say(
            "not_learning",
            "alarm",
            f"it does not fall by more than equal runs differ by ({EVALUATION_NOISE:g}); raise the "
            "learning rate, check that the channel is trained, or read the text",
        )
    elif change > curve.noise:
        yield say("forgetting", "fact", "the base forgets")


def _about_repetition(curve: Curve) -> Iterator[Finding]:
    if curve.is_trained and curve.epochs >= REPEATED:
        yield Finding(
            "repeated",
            "fact",
            f"its text was seen {curve.epochs:.1f} times",
            curve.run,
            curve.channel,
            {"epochs": curve.epochs},
        )


def start_of(domain: Curve) -> DomainStart | None:
    """The two numbers of the cross-domain law; None where the initial loss is unknown."""
    if np.isnan(domain.base_loss):
        return None
    there = np.flatnonzero(domain.settled)
    if not len(there) or not domain.is_trained:
        return DomainStart(domain.run, domain.base_loss, None, None)
    tokens = float(domain.tokens[there[0]])
    slope = (domain.base_loss - float(domain.losses[there[0]])) / tokens * 1e6
    return DomainStart(domain.run, domain.base_loss, slope, int(tokens))


def _lacks(kind: str, curve: Curve, column: str) -> Finding:
    words = f"cannot be judged without {column}"
    return Finding(kind, "cannot be judged", words, curve.run, curve.channel, lacks=column)
