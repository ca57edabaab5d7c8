"""Refine a decision: choose runs, train them, fit and recommend again; verify at the end.

There is no file about the rounds. Which runs were chosen, and what they cost, is read from the run
folders: their configurations have the purpose ``next``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dcpt.grid.planned import Trunk
from dcpt.pipeline.answer import collect_runs, fit_runs, read_target, recommend_for
from dcpt.pipeline.bases import check_fit
from dcpt.pipeline.next_runs import (
    choose_next,
    measured_speeds,
    next_trunks,
    runs_not_fitted,
    trainable_bases,
)
from dcpt.pipeline.target import complete_target
from dcpt.pipeline.train import Tick, train_study
from dcpt.pipeline.verify import verify_study
from dcpt.pipeline.workspace import Workspace
from dcpt.quantities import format_rate, format_share, format_shares

if TYPE_CHECKING:
    from dcpt.decide.budget import Budget, Price
    from dcpt.decide.records import Recommendation, Target, Verification
    from dcpt.grid.queue import Outcome, RunQueue
    from dcpt.grid.slots import Slot


class View(Protocol):
    """Shows the training of runs."""

    def tick(self, queue: RunQueue) -> None:
        """Show changes."""


Watch = Callable[[str], AbstractContextManager[View]]


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
    ended: str

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
        verification: The last round; None if a run failed, or nothing can be verified.
        not_verified: Why nothing can be verified; empty otherwise.
    """

    outcome: Outcome
    rounds: list[Round] = field(default_factory=list)
    verification: Verification | None = None
    not_verified: str = ""

    @property
    def answer(self) -> Recommendation | None:
        """The last recommendation; None if a run failed before the first."""
        return self.rounds[-1].answer if self.rounds else None

    def add(self, outcome: Outcome) -> None:
        """Add how further training ended."""
        self.outcome.finished += outcome.finished
        self.outcome.failed |= outcome.failed

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
        }


def refine_study(
    workspace: Workspace,
    slots: Sequence[Slot],
    goal: Goal,
    *,
    laws: Sequence[str] = (),
    watch: Watch | None = None,
    on_round: Callable[[Round], None] = lambda _: None,
) -> Refined:
    """Choose runs, train them, fit and recommend again, until the goal is reached; then verify.

    A second call resumes the first: its runs are finished, none is trained twice, and their cost
    counts. A round has as many runs as there are workers.

    Args:
        workspace: The study, whose grid is trained.
        slots: The workers.
        goal: When to end.
        laws: Laws to fit, as ``dcpt fit`` takes them; empty takes all that suit the table.
        watch: Shows the training of runs, given a title.
        on_round: Called with every round.

    Raises:
        InputError: If the budget is too small for any run, or no run can be trained.
    """
    from dcpt.grid.queue import Outcome

    refined, trunks = Refined(Outcome()), chosen_trunks(workspace)
    while True:
        if trunks:
            with _watching(watch, "refining") as on_tick:
                refined.add(
                    train_study(workspace, slots, trunks=trunks, purpose="next", on_tick=on_tick)
                )
            if refined.outcome.failed:
                return refined
        target, answer = _decide(workspace, goal, laws)
        done = _round(workspace, goal, target, answer, trunks, len(refined.rounds))
        more: list[Trunk] = []
        if not done.ended:
            left = goal.budget.less(done.spent)
            chosen = choose_next(
                workspace, target, left, level=goal.level, laws=_own(laws), most=len(slots)
            )
            more = next_trunks(workspace, chosen)
            if not more:
                done = _ended(done, "no other run narrows the interval")
        refined.rounds.append(done)
        on_round(done)
        if not more:
            with _watching(watch, "verification") as on_tick:
                return _verify(workspace, slots, refined, laws, on_tick)
        trunks = [*trunks, *more]


@contextmanager
def _watching(watch: Watch | None, title: str) -> Iterator[Tick | None]:
    """What training calls while it runs."""
    if watch is None:
        yield None
        return
    with watch(title) as view:
        yield view.tick


def chosen_trunks(workspace: Workspace) -> list[Trunk]:
    """Trunks that earlier calls chose, from the run folders; those of another study are left out.

    A trunk that left no decay yet has its own length, others those of their decays.
    """
    found: dict[Trunk, str] = {}
    for _, config in workspace.stored.sound:
        run, about = config.identity, config.recorded
        if about.purpose != "next" or about.size not in workspace.study.bases.names:
            continue
        end = about.n_tokens if run.decay is None else run.decay.start_tokens
        trunk = Trunk(about.size, run.ratio, run.learning_rate, run.seed, end)
        found[trunk] = run.trunk or run.hash
    planned = workspace.plan_trunks(list(found), "next")
    now = {run.identity_hash for run in planned}
    return [trunk for trunk, trunk_hash in found.items() if trunk_hash in now]


def _decide(workspace: Workspace, goal: Goal, laws: Sequence[str]) -> tuple[Target, Recommendation]:
    """Fit again if there are runs that the fit lacks, and recommend.

    Runs that verified a recommendation do not make a fit old: otherwise each call would verify
    another recommendation than the last.
    """
    runs, folder = collect_runs(workspace), workspace.fit_folder
    if set(runs_not_fitted(workspace, runs)) - _verifying(workspace):
        fit_runs(runs, folder, law=laws or "auto", **_as_before(folder, laws))
    check_fit(workspace)
    target, _ = complete_target(workspace, read_target(workspace))
    return target, recommend_for(workspace, target, goal.level, _own(laws))


def _as_before(folder: Path, laws: Sequence[str]) -> dict[str, Any]:
    """Settings of the fit that is there, for the next."""
    from dcpt.laws import load_fit

    if not (folder / "fit.json").exists():
        return {}
    fit = load_fit(folder, _own(laws))
    names = ("n_draws", "seed", "delta", "size_column")
    return {name: getattr(fit, name) for name in names}


def _own(laws: Sequence[str]) -> list[str]:
    """A person's own laws among those to fit."""
    return [law for law in laws if ":" in law]


def _verifying(workspace: Workspace) -> set[str]:
    """Names of runs that verified a recommendation."""
    return {
        folder.path.name
        for folder, config in workspace.stored.sound
        if config.identity.kind == "trunk" and config.recorded.purpose == "verify"
    }


def _round(
    workspace: Workspace,
    goal: Goal,
    target: Target,
    answer: Recommendation,
    trunks: Sequence[Trunk],
    number: int,
) -> Round:
    """The round, and whether it is the last but for the verification."""
    from dcpt.decide.budget import FREE, price_run
    from dcpt.decide.next_runs import SHORT

    speeds, bases = measured_speeds(workspace), trainable_bases(workspace, target)
    spent, longer = FREE, 1 + workspace.study.branches.decay
    for trunk in trunks:
        n_params = bases[trunk.base].n_params if trunk.base in bases else target.n_params
        assert trunk.n_tokens is not None  # every chosen run has a length of its own
        spent += price_run(target, n_params, trunk.n_tokens * longer, speeds)
    done = Round(number, len(trunks), spent, answer, "")
    if done.width is not None and done.width <= goal.width:
        return _ended(done, f"the interval is at most {goal.width:g} wide")
    short = SHORT * target.n_tokens
    prices = [price_run(target, base.n_params, short, speeds) for base in bases.values()]
    if trunks and not goal.budget.less(spent).allows(min(prices, key=goal.budget.of)):
        return _ended(done, "the budget is spent")
    return done


def _ended(done: Round, why: str) -> Round:
    return Round(done.number, done.n_runs, done.spent, done.answer, why)


def _verify(
    workspace: Workspace,
    slots: Sequence[Slot],
    refined: Refined,
    laws: Sequence[str],
    on_tick: Tick | None,
) -> Refined:
    """The last round: train at the recommendation, where the study can train the target."""
    answer = refined.rounds[-1].answer
    if answer.best is None:
        refined.not_verified = "no share meets the limit, so nothing is verified"
    elif answer.target.base not in workspace.study.bases.names:
        refined.not_verified = (
            "the study cannot train the target, so nothing is verified; name a base of the study "
            "in target.base"
        )
    else:
        checked, outcome = verify_study(workspace, slots, on_tick=on_tick, laws=_own(laws))
        refined.verification = checked
        refined.add(outcome)
    return refined
