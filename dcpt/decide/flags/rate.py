"""Flags about the learning rate, and the phase of the losses."""

from __future__ import annotations

from collections.abc import Iterator

from dcpt.decide.question import Question
from dcpt.decide.records import Recommendation
from dcpt.flags import Flag
from dcpt.quantities import format_rate


def about_the_rate(question: Question, recommendation: Recommendation) -> Iterator[Flag]:
    """Losses at constant rate, and a learning rate that the runs do not decide."""
    best, target = recommendation.best, question.target
    if recommendation.phase != "annealed":
        yield Flag(
            "constant_rate_losses",
            "The runs have no points after a decay, so losses at constant learning rate were used. "
            "A decay undoes part of the rise and changes the best pair. Add decay branches.",
        )
    if question.schedule is not None and target.schedule is None:
        yield Flag(
            "schedule_of_runs",
            f"The target's learning rate is taken to follow schedule {question.schedule} of the "
            "runs, stretched to its length. --schedule names another.",
            values={"schedule": question.schedule},
        )
    if target.learning_rate is not None:
        yield Flag(
            "learning_rate_held",
            f"The learning rate was fixed at {format_rate(target.learning_rate)} as asked. Another "
            "rate may allow a better pair.",
            values={"learning_rate": target.learning_rate},
        )
    elif best is not None and best.learning_rate is None:
        yield Flag(
            "learning_rate_held",
            "The runs table has no learning rate, so the answer is valid at the runs' rate only. "
            "Whether another rate is better is unknown.",
        )
    elif best is not None and best.learning_rate is not None:
        yield from _about_a_chosen_rate(question, best.learning_rate)


def _about_a_chosen_rate(question: Question, rate: float) -> Iterator[Flag]:
    """A rate without a choice, or at the edge of those of the runs."""
    rates = question.choosable
    if len(rates) == 1 and len({rate for _, rate, _ in question.fit.seen_rates}) > 1:
        yield Flag(
            "learning_rate_by_rule",
            "Every size was trained at one learning rate of its own, so the effect of another rate "
            f"is unknown. {format_rate(rates[0])}, which continues that rule to the target, was "
            "used. Train one size at three rates so that the rate can be chosen.",
            values={"learning_rate": rates[0]},
        )
    elif len(rates) == 1:
        yield Flag(
            "learning_rate_held",
            f"All runs have one learning rate ({format_rate(rates[0])}), so it was used. Another "
            "rate may change the loss more than the share does. Train a few small runs at a third "
            "of it and at three times it.",
            values={"learning_rate": rates[0]},
        )
    elif rate in (rates[0], rates[-1]):
        end, more = ("lowest", "lower") if rate == rates[0] else ("highest", "higher")
        yield Flag(
            "learning_rate_at_edge",
            f"The chosen learning rate {format_rate(rate)} is the {end} of the runs at sizes near "
            f"the target. A {more} one may be better. Add runs there.",
            values={"learning_rate": rate},
        )
