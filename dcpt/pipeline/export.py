"""From a recommendation to the configuration files of a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dcpt.atomic_files import write_text
from dcpt.own_folders import claim_files, record_files
from dcpt.pipeline.answer import read_current_answer
from dcpt.pipeline.export_options import ExportOptions
from dcpt.pipeline.export_recipe import make_recipe
from dcpt.pipeline.workspace import Place, fit_folder

if TYPE_CHECKING:
    from dcpt.decide.records import Recommendation
    from dcpt.trainer_configs.records import Recipe


def export_config(
    place: Place,
    trainer: str,
    options: ExportOptions,
    *,
    out: Path | None = None,
    laws: Sequence[str] = (),
) -> tuple[list[Path], list[str]]:
    """Write the configuration files of a trainer for the recommendation.

    Args:
        place: A study, or a folder of a fit.
        trainer: Name of the trainer.
        options: What a person says about the run.
        out: Folder to write to; None takes ``export/<trainer>`` in the folder of the fit.
        laws: A person's own laws in the fit.

    Returns:
        The files, and notes, a sentence each.

    Raises:
        InputError: If there is no recommendation, it is older than its fit or its target, something
            is not known, or a file of a person is in the way.
    """
    from dcpt.trainer_configs import find_trainer

    known = find_trainer(trainer)
    answer, fitted = read_current_answer(place, laws)
    recipe = make_recipe(place, answer, fitted, options)
    folder = out or fit_folder(place) / "export" / trainer
    texts = known.write(recipe)
    claim_files(folder, texts)
    for name, text in texts.items():
        write_text(folder / name, text)
    record_files(folder, texts)
    return [folder / name for name in texts], _notes(answer, recipe)


def _notes(answer: Recommendation, recipe: Recipe) -> list[str]:
    notes = []
    without = [source for source in recipe.sources.values() if source.path is None]
    if without:
        notes.append(
            f"replace {', '.join(source.place for source in without)} by the paths of your text, "
            "or give --path NAME=PATH"
        )
    if answer.evidence.level != "recommended":
        notes.append(f"the evidence is: {answer.evidence.level}; `dcpt recommend` says why")
    if any(stage.first_step for stage in recipe.stages):
        notes.append("no law was fitted to a warmup or decay with a mixture of its own")
    return notes
