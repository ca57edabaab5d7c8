"""Refine a decision: choose runs, train them, fit and recommend again; verify at the end.

There is no file about the rounds. Which runs were chosen, and what they cost, is read from the run
folders: their configurations have the purpose ``next``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from dcpt.engines.engine import Say, Tick
from dcpt.grid.planned import Trunk, unfinished
from dcpt.pipeline.answer import (
    FitOptions,
    collect_runs,
    fit_runs,
    read_target,
    recommend_for,
)
from dcpt.pipeline.bases import check_fit, known_base
from dcpt.pipeline.next_runs import (
    choose_next,
    measured_speeds,
    next_trunks,
    runs_not_fitted,
    trainable_bases,
)
from dcpt.pipeline.rounds import Goal, Refined, Round
from dcpt.pipeline.target import complete_target
from dcpt.pipeline.train import train_study
from dcpt.pipeline.verify import verify_study
from dcpt.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from dcpt.decide.budget import Price
    from dcpt.decide.records import Target
    from dcpt.grid.queue import RunQueue
    from dcpt.grid.slots import Slot


class View(Protocol):
    """Shows the training of runs."""

    def tick(self, queue: RunQueue) -> None:
        """Show changes."""

    def say(self, sentence: str) -> None:
        """Show a sentence of the engine."""


Watch = Callable[[str], AbstractContextManager[View]]
"""Opens a view, given a title."""


@dataclass(frozen=True)
class _Work:
    """What all rounds of a call share.

    Args:
        workspace: The study.
        slots: The workers.
        goal: When to end.
        laws: Laws to fit; empty takes all that suit the table.
        watch: Opens a view of the training; None shows nothing.
    """

    workspace: Workspace
    slots: Sequence[Slot]
    goal: Goal
    laws: Sequence[str]
    watch: Watch | None

    @property
    def own_laws(self) -> list[str]:
        """A person's own laws among those to fit."""
        return [law for law in self.laws if ":" in law]

    @contextmanager
    def watching(self, title: str) -> Iterator[tuple[Tick | None, Say | None]]:
        """What training calls while it runs."""
        if self.watch is None:
            yield None, None
            return
        with self.watch(title) as view:
            yield view.tick, view.say


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
        watch: Opens a view of the training, given a title.
        on_round: Called with every round.

    Raises:
        InputError: If the budget is too small for any run, or no run can be trained.
    """
    from dcpt.grid.queue import Outcome

    work = _Work(workspace, slots, goal, laws, watch)
    refined, trunks = Refined(Outcome()), chosen_trunks(workspace)
    while True:
        _train(work, trunks, refined)
        if not refined.outcome.is_whole:
            return refined
        target, done = _decide(work, trunks, len(refined.rounds))
        more = [] if done.ended else _choose(work, target, done)
        if not more and not done.ended:
            done = replace(done, ended="no other run narrows the interval")
        refined.rounds.append(done)
        on_round(done)
        if not more:
            _verify(work, refined)
            return refined
        trunks = [*trunks, *more]


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


def _train(work: _Work, trunks: Sequence[Trunk], refined: Refined) -> None:
    """Train the runs that are not done, those that were cancelled included."""
    workspace = work.workspace
    if unfinished(workspace.plan_trunks(trunks, "next"), workspace.folder):
        with work.watching("refining") as (on_tick, say):
            outcome = train_study(
                workspace,
                work.slots,
                trunks=trunks,
                purpose="next",
                on_tick=on_tick,
                again=True,
                say=say,
            )
        refined.add(outcome)


def _decide(work: _Work, trunks: Sequence[Trunk], number: int) -> tuple[Target, Round]:
    """Fit what is not fitted yet, recommend, and judge whether this is enough.

    Runs that verified a recommendation are fitted only if further runs are to be chosen: otherwise
    each call would verify another recommendation than the last.
    """
    workspace = work.workspace
    runs = collect_runs(workspace)
    newer = set(runs_not_fitted(workspace, runs))
    if newer - _verifying(workspace):
        _fit(work, runs)
        newer = set()
    target, done = _recommend(work, trunks, number)
    if newer and not done.ended:
        _fit(work, runs)
        target, done = _recommend(work, trunks, number)
    return target, done


def _verifying(workspace: Workspace) -> set[str]:
    """Names of runs that verified a recommendation."""
    return {
        folder.path.name
        for folder, config in workspace.stored.sound
        if config.identity.kind == "trunk" and config.recorded.purpose == "verify"
    }


def _fit(work: _Work, runs: pd.DataFrame) -> None:
    """Fit the runs with the settings of the fit that is there, if there is any."""
    from dcpt.laws import load_fit

    folder = work.workspace.fit_folder
    how = FitOptions(law=work.laws or "auto")
    if (folder / "fit.json").exists():
        before = load_fit(folder, work.own_laws)
        how |= FitOptions(
            n_draws=before.n_draws,
            seed=before.seed,
            delta=before.delta,
            size_column=before.size_column,
        )
    fit_runs(runs, folder, **how)


def _recommend(work: _Work, trunks: Sequence[Trunk], number: int) -> tuple[Target, Round]:
    """Recommend from the fit that is there, and judge whether this is enough."""
    from dcpt.decide.budget import price_run
    from dcpt.decide.next_runs import SHORT

    workspace, goal = work.workspace, work.goal
    check_fit(workspace)
    target, _ = complete_target(workspace, read_target(workspace))
    answer = recommend_for(workspace, target, goal.level, work.own_laws)
    done = Round(number, len(trunks), _spent(workspace, target, trunks), answer)
    if done.width is not None and done.width <= goal.width:
        return target, replace(done, ended=f"the interval is at most {goal.width:g} wide")
    speeds = measured_speeds(workspace)
    prices = [
        price_run(target, base.n_params, SHORT * target.n_tokens, speeds)
        for base in trainable_bases(workspace, target).values()
    ]
    left = goal.budget.less(done.spent)
    if trunks and not any(left.allows(price) for price in prices):
        return target, replace(done, ended="the budget is spent")
    return target, done


def _spent(workspace: Workspace, target: Target, trunks: Sequence[Trunk]) -> Price:
    """What some trunks with their decays cost."""
    from dcpt.decide.budget import FREE, price_run

    speeds, spent = measured_speeds(workspace), FREE
    for trunk in trunks:
        assert trunk.n_tokens is not None  # every chosen run has a length of its own
        n_tokens = trunk.n_tokens * (1 + workspace.study.branches.decay)
        n_params = known_base(workspace, trunk.base)["n_params"]
        spent += price_run(target, n_params, n_tokens, speeds)
    return spent


def _choose(work: _Work, target: Target, done: Round) -> list[Trunk]:
    """The runs of the next round; none if no run narrows the interval."""
    goal = work.goal
    chosen = choose_next(
        work.workspace,
        target,
        goal.budget.less(done.spent),
        level=goal.level,
        laws=work.own_laws,
        most=len(work.slots),
    )
    return next_trunks(work.workspace, chosen)


def _verify(work: _Work, refined: Refined) -> None:
    """The last round: train at the recommendation, where the study can train the target."""
    answer, workspace = refined.rounds[-1].answer, work.workspace
    if answer.best is None:
        refined.not_verified = "no share meets the limit, so nothing is verified"
    elif answer.target.base not in workspace.study.bases.names:
        refined.not_verified = (
            "the study cannot train the target, so nothing is verified; name a base of the study "
            "in target.base"
        )
    else:
        with work.watching("verification") as (on_tick, say):
            refined.verification, outcome = verify_study(
                workspace, work.slots, on_tick=on_tick, say=say, laws=work.own_laws
            )
        refined.add(outcome)
