"""Verification: which runs to train, and measured losses against predicted ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dcpt.engines.engine import Say, Tick
from dcpt.errors import InputError
from dcpt.grid.planned import Trunk
from dcpt.pipeline.answer import check_target, collect_runs
from dcpt.pipeline.bases import check_fit, known_base
from dcpt.pipeline.text_changes import check_text
from dcpt.pipeline.train import train_study
from dcpt.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from dcpt.decide.records import Recommendation, Verification
    from dcpt.grid.machines import Machine
    from dcpt.grid.queue import Outcome
    from dcpt.grid.slots import Slot
    from dcpt.pipeline.cost import GridCost


def verification_trunks(workspace: Workspace, answer: Recommendation) -> dict[str, Trunk]:
    """The trunks to train in order to check a recommendation, by label.

    Raises:
        InputError: If the recommendation is not for a base of the study, or there is none.
    """
    from dcpt.decide import plan_verification

    check_target(workspace, answer)
    study = workspace.study
    base = answer.target.base
    if base is None or base not in study.bases.names:
        raise InputError(
            f"{workspace}: target.base: {base!r} is not a base of the study, so nothing can be "
            "trained to verify the recommendation; add it under bases and name it in target.base"
        )
    n_params = known_base(workspace, base).get("n_params")
    if n_params != answer.target.n_params:
        raise InputError(
            f"the recommendation is for {answer.target.n_params:g} parameters, base {base!r} has "
            f"{n_params}; call `dcpt recommend {workspace}` without --n-params first"
        )
    if answer.best is None:
        raise InputError(f"{workspace}: no share is recommended, so there is nothing to verify")
    # The target's tokens count its decay: the trunk ends where a decay of that share begins.
    n_tokens = round(answer.target.n_tokens / (1 + study.branches.decay))
    seed, trunks = study.grid[0].seeds[0], {}
    for run in plan_verification(answer):
        assert run.learning_rate is not None  # every run of a study has one
        trunks[run.label] = Trunk(base, run.ratio, run.learning_rate, seed, n_tokens)
    return trunks


def estimate_verification(
    workspace: Workspace, slots: Sequence[Slot], machine: Machine | None = None
) -> GridCost:
    """What the runs that check the recommendation would cost.

    Args:
        workspace: The study, with a recommendation.
        slots: The workers of this machine; not used if a machine is given.
        machine: GPUs that need not be there.
    """
    from dcpt.decide import read_recommendation
    from dcpt.pipeline.cost import estimate_planned

    check_text(workspace)
    check_fit(workspace)
    trunks = verification_trunks(workspace, read_recommendation(workspace.fit_folder))
    planned = workspace.plan_trunks(list(trunks.values()), "verify")
    return estimate_planned(workspace, planned, slots, machine)


def verify_study(
    workspace: Workspace,
    slots: Sequence[Slot],
    *,
    on_tick: Tick | None = None,
    say: Say | None = None,
    laws: Sequence[str] = (),
) -> tuple[Verification | None, Outcome]:
    """Train the recommended pair and its neighbours, and compare measured with predicted losses.

    Returns:
        The verification (None if one of its runs failed or was cancelled), and how the training
        ended.
    """
    from dcpt.decide import compare_verification, read_recommendation, write_verification
    from dcpt.laws import load_fit

    check_fit(workspace)
    folder = workspace.fit_folder
    answer = read_recommendation(folder)
    trunks = verification_trunks(workspace, answer)
    outcome = train_study(
        workspace,
        slots,
        trunks=list(trunks.values()),
        purpose="verify",
        on_tick=on_tick,
        again=True,
        say=say,
    )
    if not outcome.is_whole:
        return None, outcome
    labels = {}
    for label, trunk in trunks.items():
        configs = (run.config for run in workspace.plan_trunks([trunk], "verify"))
        config = next(config for config in configs if config.identity.kind == "trunk")
        labels[workspace.stored.folder_of(config).path.name] = label
    runs = collect_runs(workspace)
    seen = _fitted_ends(workspace, answer)
    checked = compare_verification(load_fit(folder, laws), answer, runs, labels, seen)
    write_verification(checked, folder)
    return checked, outcome


def _fitted_ends(workspace: Workspace, answer: Recommendation) -> set[str]:
    """Names of the runs that the fit has at the target's tokens."""
    from dcpt.laws.points.record import SAME
    from dcpt.table import load_runs
    from dcpt.table.study_rows import VERIFICATION

    fitted = load_runs(workspace.fit_folder / "runs.csv")
    if "excluded" in fitted:  # the two-level model takes verification runs, the laws do not
        fitted = fitted[fitted["excluded"].isna() | (fitted["excluded"] == VERIFICATION)]
    near = (fitted["n_tokens"] / answer.target.n_tokens - 1).abs() <= SAME
    return set(fitted.loc[near, "run"])
