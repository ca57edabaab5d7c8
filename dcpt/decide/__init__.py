"""Decisions: the best share and learning rate for a target, checked by training."""

from __future__ import annotations

from dcpt.decide.files import (
    read_recommendation,
    read_verification,
    write_recommendation,
    write_verification,
)
from dcpt.decide.recommend import recommend
from dcpt.decide.records import Recommendation, Target, Verification
from dcpt.decide.sentences import summarise
from dcpt.decide.verify import Planned, compare_verification, plan_verification
from dcpt.quantities import format_rate

__all__ = [
    "Planned",
    "Recommendation",
    "Target",
    "Verification",
    "compare_verification",
    "format_rate",
    "plan_verification",
    "read_recommendation",
    "read_verification",
    "recommend",
    "summarise",
    "write_recommendation",
    "write_verification",
]
