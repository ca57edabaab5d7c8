"""Flags about the laws of a decision, and what they were fitted to."""

from __future__ import annotations

from collections.abc import Iterator

from dcpt.decide.question import Question
from dcpt.decide.records import Recommendation
from dcpt.flags import Flag
from dcpt.quantities import format_count
from dcpt.table.units import flag_base_loss


def about_the_laws(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
    """Laws that have weight in the fit and do not apply at the target."""
    dropped: dict[str, list[str]] = {}
    for channel, used in recommendation.laws.items():
        for law, weight in question.fit.weights(channel, question.phase).items():
            if weight > 0 and used.get(law, 0.0) == 0:
                dropped.setdefault(law, []).append(channel)
    if dropped:
        said = ", ".join(f"{law} ({', '.join(channels)})" for law, channels in dropped.items())
        used_laws = dict.fromkeys(
            law for used in recommendation.laws.values() for law in used if used[law] > 0
        )
        yield Flag(
            "laws_dropped",
            f"Laws with weight in the fit do not apply at the target and were not used: {said}. "
            f"The answer uses {', '.join(used_laws)} with new weights. Train runs nearer to the "
            "target.",
            values=dropped,
        )


def about_texts(question: Question) -> Iterator[Flag]:
    """Unique tokens that the target lacks and that were taken from the runs."""
    for channel, n in question.texts_of_runs.items():
        yield Flag(
            "unique_tokens_of_runs",
            f"The laws of channel {channel} depend on its unique tokens, which the target does not "
            f"name. Those of the runs, {format_count(n)}, were used. If the large run has other "
            f"text, give --unique-tokens {channel}=...",
            {"channel": channel},
            {"unique_tokens": n},
        )


def about_runs_at_the_target(question: Question) -> Iterator[Flag]:
    """Runs at the target's size that the two-level model takes."""
    names = dict.fromkeys(
        run
        for fit in question.fit.by_channel.values()
        if fit.two_level is not None
        for run in fit.two_level.runs_at(question.target.n_params)
    )
    if names:
        yield Flag(
            "runs_at_target",
            f"The two-level model takes runs at the target's size: {', '.join(names)}.",
            values={"runs": list(names)},
        )


def flag_bases(question: Question) -> list[Flag]:
    """Flags of base losses of the target that contradict the bases of the runs."""
    target, bases = question.target, question.fit.bases
    return [
        flag
        for channel, loss in target.base_losses.items()
        for flag in flag_base_loss(channel, target.n_params, loss, bases.get(channel, ()))
    ]
