"""Records of ``dcpt refine``: when it ends, its rounds, and how it went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from dcpt.quantities import format_rate, format_share, format_shares

if TYPE_CHECKING:
    from dcpt.decide.budget import Budget, Price
    from dcpt.decide.records import Recommendation, Verification
    from dcpt.grid.queue import Outcome


@dataclass(frozen=True)
class Goal:
    """When refining ends.

    Args:
        budget: What all chosen runs of the study may cost, those of earlier calls included.
        width: Width of the share's interval that is narrow enough.
        level: Interval probability.
    """

    budget: Budget
    width: float
    level: float = 0.9


@dataclass(frozen=True)
class Round:
    """The decision after some runs.

    Args:
        number: 0 before the first run of this call.
        n_runs: Runs chosen so far, those of earlier calls included.
        spent: What they cost.
        answer: The recommendation.
        ended: Why no further runs are chosen; empty if there are more rounds.
    """

    number: int
    n_runs: int
    spent: Price
    answer: Recommendation
    ended: str = ""

    @property
    def width(self) -> float | None:
        """Width of the share's interval; None if no share is recommended."""
        interval = self.answer.ratio_interval
        if self.answer.best is None or interval.low is None or interval.high is None:
            return None
        return interval.high - interval.low

    def say(self, budget: Budget) -> str:
        """The round in a line."""
        best, interval = self.answer.best, self.answer.ratio_interval
        answer = "no share meets the limit"
        if best is not None:
            rate = "" if best.learning_rate is None else f" at {format_rate(best.learning_rate)}"
            answer = f"share {format_share(best.ratio)}{rate}, interval "
            answer += format_shares(interval.low, interval.high)
        spent = budget.say(budget.of(self.spent))
        return f"round {self.number}: {answer}; {self.n_runs} runs cost {spent}{self._end}"

    @property
    def _end(self) -> str:
        return f"; {self.ended}" if self.ended else ""

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        best, rate = self.answer.best, None
        if best is not None:
            rate = best.learning_rate
        return {
            "number": self.number,
            "n_runs": self.n_runs,
            "spent": asdict(self.spent),
            "ratio": None if best is None else best.ratio,
            "learning_rate": rate,
            "ratio_interval": asdict(self.answer.ratio_interval),
            "ended": self.ended or None,
        }


@dataclass
class Refined:
    """How refining went.

    Args:
        rounds: The rounds of this call.
        outcome: The training of all runs of this call.
        verification: The last round; None if a run failed or was cancelled, or if nothing can be
            verified.
        not_verified: Why nothing can be verified; empty otherwise.
    """

    outcome: Outcome
    rounds: list[Round] = field(default_factory=list)
    verification: Verification | None = None
    not_verified: str = ""

    @property
    def answer(self) -> Recommendation | None:
        """The last recommendation; None if a run failed or was cancelled before the first."""
        return self.rounds[-1].answer if self.rounds else None

    @property
    def words(self) -> list[str]:
        """The verification in sentences, or why there is none."""
        if self.verification is not None:
            return self.verification.words
        return [self.not_verified] if self.not_verified else []

    def add(self, outcome: Outcome) -> None:
        """Add how further training ended."""
        self.outcome.finished += outcome.finished
        self.outcome.failed |= outcome.failed
        self.outcome.cancelled += outcome.cancelled
        self.outcome.notes += [note for note in outcome.notes if note not in self.outcome.notes]

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        answer, checked = self.answer, self.verification
        return {
            "rounds": [done.as_dict() for done in self.rounds],
            "recommendation": None if answer is None else answer.as_dict(),
            "verification": None if checked is None else checked.as_dict(),
            "not_verified": self.not_verified or None,
            "finished": self.outcome.finished,
            "failed": self.outcome.failed,
            "cancelled": self.outcome.cancelled,
        }
