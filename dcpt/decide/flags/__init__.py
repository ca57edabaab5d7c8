"""Warnings of a recommendation, each a kind, its values and a sentence for people."""

from __future__ import annotations

from dcpt.decide.flags.beyond_runs import beyond_the_runs
from dcpt.decide.flags.certainty import about_the_certainty, add_answer_without
from dcpt.decide.flags.laws import (
    about_runs_at_the_target,
    about_texts,
    about_the_laws,
    flag_bases,
)
from dcpt.decide.flags.limit import about_the_limit
from dcpt.decide.flags.rate import about_the_rate
from dcpt.decide.general_mix import about_the_mix, at_edge_of_mixes, mix_hardly_read
from dcpt.decide.question import Question
from dcpt.decide.records import Recommendation
from dcpt.flags import Flag

__all__ = ["add_answer_without", "find_flags"]


def find_flags(question: Question, recommendation: Recommendation) -> list[Flag]:
    """Find everything a reader should know before trusting a recommendation.

    Args:
        question: The target and its fit.
        recommendation: The answer, its flags not yet filled in.
    """
    return [
        *flag_bases(question),
        *about_the_laws(question, recommendation),
        *about_runs_at_the_target(question),
        *about_texts(question),
        *about_the_mix(question.fit, question.target),
        *_about_the_best_mix(question, recommendation),
        *beyond_the_runs(question, recommendation),
        *about_the_limit(question, recommendation),
        *about_the_rate(question, recommendation),
        *about_the_certainty(recommendation),
    ]


def _about_the_best_mix(question: Question, recommendation: Recommendation) -> list[Flag]:
    """Warnings about a mix that was searched."""
    if not recommendation.shares:
        return []
    weights = {name: recommendation.laws[name] for name in question.decisive}
    return [
        *at_edge_of_mixes(question.fit, question.target.mix),
        *mix_hardly_read(question.fit, weights),
    ]
