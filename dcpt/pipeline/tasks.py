"""Tasks of lm-eval on a model, or on the saved models of a study's runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dcpt.errors import InputError
from dcpt.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from dcpt.training.task_metrics import TaskMetric


def evaluate_tasks(
    names: Sequence[str], model: str | None, workspace: Workspace | None
) -> dict[str, list[TaskMetric]]:
    """Run tasks on a model, or on every saved model of a study's runs; writes nothing.

    Args:
        names: Names of lm-eval's tasks, and YAML files of tasks.
        model: Folder, relative to the study or not, or hub id. None takes the saved models.
        workspace: The study; None without one.

    Returns:
        The metrics by model: by ``model``, or by the names of the runs.

    Raises:
        InputError: If there is no model, or lm-eval is missing, or refuses a task or a model.
    """
    from dcpt.grid.slots import choose_slots
    from dcpt.training.task_metrics import load_tasks, measure_tasks

    places = _find_models(model, workspace)
    tasks, device = load_tasks(names), choose_slots(1)[0].device
    return {name: measure_tasks(place, tasks, device) for name, place in places.items()}


def _find_models(model: str | None, workspace: Workspace | None) -> dict[str, str]:
    """The place of each model by its name.

    Raises:
        InputError: If there is none.
    """
    from dcpt.training.checkpoints import locate_checkpoint

    if model is not None:
        return {model: locate_checkpoint(model, *([workspace.folder.path] if workspace else []))}
    if workspace is None:
        raise InputError("--tasks: give a model, or with --study take the saved models of its runs")
    saved = [folder for folder, _ in workspace.stored.sound if folder.model.is_dir()]
    if not saved:
        raise InputError(
            f"{workspace}: no run has a saved model; set training.save_models: true and run "
            f"`dcpt run-grid {workspace}`"
        )
    return {folder.path.name: str(folder.model) for folder in saved}
