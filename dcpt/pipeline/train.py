"""From text to trained runs: prepare, train, evaluate a base."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcpt.atomic_files import DamagedFileError, set_aside, write_record
from dcpt.engines.engine import Say, Tick
from dcpt.errors import InputError
from dcpt.grid.planned import PlannedRun, Trunk, find_folders
from dcpt.pipeline.bases import (
    known_base,
    measured_file,
    measured_on,
    pretraining_of,
    read_measured,
)
from dcpt.pipeline.named_runs import ask_again
from dcpt.pipeline.text_changes import check_text, text_settings
from dcpt.pipeline.workspace import Workspace
from dcpt.quantities import count_things
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Purpose
from dcpt.study.bases import BaseBeforeDecay
from dcpt.study.engine import EngineSection
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Channel

if TYPE_CHECKING:
    from dcpt.grid.queue import Outcome, RunQueue
    from dcpt.grid.slots import Slot
    from dcpt.text.manifest import Prepared
    from dcpt.text.sources import ChannelSource


def prepare_study(
    workspace: Workspace,
    *,
    workers: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Prepared:
    """Tokenise every channel of the study into ``prepared``; a second call does nothing."""
    from dcpt.text.bases import StudyBase
    from dcpt.text.prepare import prepare

    study, folder = workspace.study, workspace.folder
    tokenizer = study.tokenizer
    if isinstance(tokenizer, str):
        tokenizer = _resolve(tokenizer, folder, must_exist=False)
    return prepare(
        [_source_of(channel, folder) for channel in study.channels],
        folder.prepared,
        tokenizer,
        sequence_tokens=study.training.sequence_tokens,
        workers=workers,
        progress=progress,
        add_bos=study.add_bos,
        near_duplicates=study.near_duplicates,
        settings=text_settings(study),
        bases=[
            StudyBase(f"bases.checkpoints.{label}", place, checkpoint.model)
            for label, checkpoint in study.bases.checkpoints.items()
            if (place := Path(_resolve(checkpoint.model, folder, must_exist=False))).is_dir()
        ],
        own_folders=[
            folder.runs,
            workspace.fit_folder,
            folder.path / "bases",
            folder.path / "resolved.json",
        ],
    )


def _source_of(channel: Channel, folder: StudyFolder) -> ChannelSource:
    """Where the text of a channel comes from, and how it is read."""
    from dcpt.text.sources import ChannelSource

    return ChannelSource(
        name=channel.name,
        train=None if channel.train is None else _resolve(channel.train, folder),
        valid=None if channel.valid is None else _resolve(channel.valid, folder),
        text_field=channel.text_field,
        valid_fraction=channel.valid_fraction,
        max_tokens=channel.max_tokens,
        text_separator=channel.text_separator,
        chat_field=channel.chat_field,
        side=channel.side,
    )


def _resolve(path: str, folder: StudyFolder, must_exist: bool = True) -> str:
    """A path relative to the study's folder; hub ids stay as they are.

    Args:
        path: As it is written.
        folder: The study's folder.
        must_exist: Whether it can only be a path. If not, what exists neither in the study's folder
            nor in the working folder is a hub id, unless its first part is a folder of the study.
    """
    if path.startswith("hf:"):
        return path
    local = folder.path / Path(path).expanduser()
    if must_exist or local.exists():
        return str(local)
    looks_local = "/" in path and local.parent.is_dir() and not Path(path).exists()
    return str(local) if looks_local else path


def train_study(
    workspace: Workspace,
    slots: Sequence[Slot],
    *,
    trunks: Sequence[Trunk] | None = None,
    purpose: Purpose = "grid",
    on_tick: Tick | None = None,
    engine: EngineSection | None = None,
    again: bool = False,
    say: Say | None = None,
) -> Outcome:
    """Train all runs of the study, or only those of some trunks, that are not done.

    Args:
        workspace: The study.
        slots: The workers.
        trunks: Only these trunks; None takes all runs that the study asks for.
        purpose: Why the trunks are trained.
        on_tick: Called with the queue while runs are in training.
        engine: Where to train; None takes the study's section ``engine``.
        again: Train runs that were cancelled, too.
        say: Called with sentences about what the engine waits for; None keeps silent.

    Raises:
        InputError: If settings of the text were changed after it was prepared, the package of a
            tracker is missing, or a run needs more devices than there are.
    """
    from dcpt.engines.choose import open_engine
    from dcpt.grid.old_states import StateCleaner, delete_unneeded
    from dcpt.grid.slots import choose_slots
    from dcpt.pipeline.gpus import spread_runs
    from dcpt.training.trackers import check_installed

    check_text(workspace)
    section, trackers = engine or workspace.study.engine, workspace.study.logging.trackers
    check_installed(trackers)
    planned = workspace.planned if trunks is None else workspace.plan_trunks(trunks, purpose)
    workspace.planner.settle_warmup()
    if again:
        ask_again(workspace, planned)
    # A plan of some trunks does not know all branches.
    deletes = workspace.study.training.delete_states and trunks is None
    if deletes:
        on_tick = _both(StateCleaner(), on_tick)
    outcome: Outcome | None = None
    try:
        spread = spread_runs(workspace, planned, slots, section)
        outcome = open_engine(section, workspace.folder, slots, on_tick, say).run(spread)
        if deletes:
            # Also those of runs that an earlier call trained.
            delete_unneeded(planned, workspace.folder)
        if trackers:
            outcome.notes += failed_trackers(outcome.finished, planned, workspace.folder)
    finally:
        if outcome is None or outcome.finished or not outcome.is_whole:  # the folders have changed
            workspace.forget_runs()
    if trunks is None and outcome.is_whole:
        device = slots[0].device if section.kind == "local" else choose_slots(1)[0].device
        _measure_target_base(workspace, device)
    return outcome


def _measure_target_base(workspace: Workspace, device: str) -> None:
    """Measure the target's base on the study's text, if this or another study pre-trained it.

    A base is trained for any domain, and no trunk need start from that of the target.
    """
    study, folder = workspace.study, workspace.folder
    label = None if study.target is None else study.target.base
    if label is None or _is_measured(workspace, label):
        return
    if label in study.bases.checkpoints:
        if study.bases.study is not None:
            evaluate_base(workspace, study.bases.checkpoints[label].model, label)
        return
    run = pretraining_of(workspace, label)
    start = run.recorded.base_n_tokens
    assert start is not None, f"{run.name} records no start of its trunks"
    row = _evaluate_run(workspace, RunFolder.of(run, folder.runs), start, device)
    _keep_measured(workspace, label, row)


def _evaluate_run(
    workspace: Workspace, folder: RunFolder, start_tokens: int, device: str
) -> dict[str, Any]:
    """Measure a base that a study pre-trained, as it was at ``start_tokens``."""
    from dcpt.training.base_losses import evaluate_trained

    study = workspace.study
    return evaluate_trained(
        folder,
        start_tokens,
        workspace.folder.prepared,
        [channel.name for channel in study.channels if channel.side != "extra"],
        sequence_tokens=study.training.sequence_tokens,
        validation_tokens=study.evaluation.tokens,
        device=device,
        dtype=study.training.dtype,
        packing=study.training.packing,
    )


def _is_measured(workspace: Workspace, label: str) -> bool:
    """Whether the losses of a base are known; a damaged file of them is no measurement."""
    try:
        known_base(workspace, label)
    except DamagedFileError as damaged:
        if damaged.path != measured_file(workspace.folder, label):
            raise
        return False
    except InputError:
        return False
    return True


def _both(first: Tick, second: Tick | None) -> Tick:
    """Call both with the queue."""

    def tick(queue: RunQueue) -> None:
        first(queue)
        if second is not None:
            second(queue)

    return tick


def failed_trackers(
    names: Collection[str], planned: Sequence[PlannedRun], folder: StudyFolder
) -> list[str]:
    """A sentence for each tracker that failed in runs, with the number of runs and the reason."""
    folders = find_folders(planned, folder.runs)
    found: dict[str, dict[str, str]] = {}  # tracker -> run -> reason
    for name in names:
        for event in folders[name].events():
            if "tracker" in event:
                found.setdefault(event["tracker"], {})[name] = event["reason"]
    return [
        f"{len(reasons)} of {count_things(len(names), 'run')} went on without {tracker} "
        f"({next(iter(reasons.values()))}); their losses are in metrics.jsonl and in TensorBoard"
        for tracker, reasons in found.items()
    ]


def evaluate_base(workspace: Workspace, model: str, label: str | None = None) -> dict[str, Any]:
    """Measure a base on the study's validation shards: its row at D = 0.

    A base that runs take up before its decay is measured there.

    Args:
        workspace: The study.
        model: Folder or hub id.
        label: The base's name in the study; None finds it by its model.

    Returns:
        The row; that of a base of the study is kept in ``bases/<label>.json`` for recommending.

    Raises:
        InputError: If the label is no base of the study, the model does not fit the text, or
            settings of the text were changed after it was prepared.
    """
    from dcpt.grid.slots import choose_slots
    from dcpt.training.checkpoints import locate_checkpoint
    from dcpt.training.evaluate import evaluate_model

    study, folder = workspace.study, workspace.folder
    if label is not None and label not in study.bases.names:
        raise InputError(f"--label {label}: the study's bases are {', '.join(study.bases.names)}")
    if label is None:
        found = study.bases.checkpoints.items()
        label = next((name for name, base in found if base.model == model), None)
    check_text(workspace)
    base, device = study.bases.checkpoints.get(label or ""), choose_slots(1)[0].device
    if isinstance(base, BaseBeforeDecay) and base.model == model:
        run = RunFolder((folder.path / model).parent)
        row = _evaluate_run(workspace, run, base.n_tokens, device)
    else:
        row = evaluate_model(
            locate_checkpoint(model, folder.path),
            folder.prepared,
            [channel.name for channel in study.channels],
            sequence_tokens=study.training.sequence_tokens,
            validation_tokens=study.evaluation.tokens,
            device=device,
            dtype=study.training.dtype,
            packing=study.training.packing,
        )
    broken = [name for name, loss in row["loss"].items() if not math.isfinite(loss)]
    if broken:
        raise InputError(
            f"{model}: the loss of channel {', '.join(broken)} is not a number; the model "
            "overflows in this precision: set training.dtype to float32, or choose another "
            "checkpoint"
        )
    if label is None:
        return {"base": model, "measured_on": measured_on(workspace), **row}
    return _keep_measured(workspace, label, row)


def _keep_measured(workspace: Workspace, label: str, row: dict[str, Any]) -> dict[str, Any]:
    """Keep the row of a base in ``bases/<label>.json``; a damaged one there is set aside."""
    folder = workspace.folder
    row = {"base": label, "measured_on": measured_on(workspace), **row}
    (folder.path / "bases").mkdir(exist_ok=True)
    try:
        read_measured(folder, label)
    except DamagedFileError as damaged:
        set_aside(damaged.path)
    write_record(measured_file(folder, label), row)
    return row
