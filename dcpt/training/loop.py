"""The training loop. Read it from top to bottom."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from dcpt.atomic_files import DamagedFileError, set_aside
from dcpt.leases import no_owner
from dcpt.runs.course import learning_rate_at
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Identity, RunConfig
from dcpt.training.data import RunData, open_data
from dcpt.training.evaluate import describe_evaluation
from dcpt.training.forward import Losses, forward_of
from dcpt.training.journal import Journal, SilentJournal
from dcpt.training.models import (
    base_state,
    check_vocabulary,
    load_base,
    save_model,
    shape_of,
)
from dcpt.training.sharded.divided import ReplicatedForward
from dcpt.training.sharded.layout import fits_whole
from dcpt.training.sharded.load import load_sharded
from dcpt.training.sharded.ranks import ALONE, Ranks, whole
from dcpt.training.state import (
    TrainingState,
    load_state,
    reset_moments,
    save_state,
    start_state,
)
from dcpt.training.state_file import delete_partial_states
from dcpt.training.step import Step
from dcpt.training.watch import TrainingError, Watch
from dcpt.training.watchdog import WATCHDOG
from dcpt.training.work import Work, find_work, must_save_model

__all__ = ["TrainingError", "own_stream", "train", "train_stepwise"]

VERSIONS = {"torch": str(torch.__version__), "transformers": transformers.__version__}


def train(
    config: RunConfig, study: Path, *, device: str = "cpu", stop_at_step: int | None = None
) -> None:
    """Train a run to its end from its last saved state; does nothing if the run is done.

    A pre-training run starts from random weights, a trunk from its base, a branch from its trunk's
    state. On the CPU an interrupted run ends bit for bit like an uninterrupted run. On a GPU sums
    have no fixed order, so losses agree within 1e-3 nats (``tests/training/test_cuda.py``).

    Args:
        config: The run.
        study: The study's folder; the run's own folder is in ``runs`` below it.
        device: Where to train.
        stop_at_step: Save a checkpoint and stop at this step, as after an interruption.

    Raises:
        InputError: If the base or the text is missing or does not fit.
        TrainingError: If a loss is not finite or a file cannot be written.
    """
    with own_stream(device):
        for _ in train_stepwise(config, study, device=device, stop_at_step=stop_at_step):
            pass


def train_stepwise(
    config: RunConfig,
    study: Path,
    *,
    device: str = "cpu",
    stop_at_step: int | None = None,
    must_stop: Callable[[], bool] = lambda: False,
    check_owner: Callable[[], None] = no_owner,
    note: str | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[int]:
    """Train as ``train`` does, and pause after every step, so that runs can share a device.

    On CUDA all parts must run in the same stream, which is not the default stream. The run saves a
    checkpoint and stops at the first step before which ``must_stop`` is true. ``check_owner`` is
    called before a file is written and raises an error if another process owns the run. ``note`` is
    a sentence for the run's journal. With several ``ranks`` each process calls this for its device;
    the first writes the files.

    Yields:
        Tokens that the run has reached.
    """
    WATCHDOG.announce()
    folder = RunFolder.of(config, study / "runs")
    try:
        if ranks.decide(lambda: _is_done(config, folder)):
            return
        yield from _train(
            config, study, folder, device, stop_at_step, must_stop, check_owner, note, ranks
        )
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"run {config.name}: a file cannot be read or written ({error}); check the disk and "
            "rerun: training resumes from the last checkpoint",
            "disk",
        ) from error


def _is_done(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the run is done; else its folder is prepared."""
    if folder.is_done(config):
        return True
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.set_damaged_aside(config)
    delete_partial_states(folder.path)
    if folder.is_done(config):
        return True
    folder.write_config(config)
    return False


def own_stream(device: str) -> AbstractContextManager[Any]:
    """A new stream on CUDA; on the CPU a context that does nothing."""
    if not device.startswith("cuda"):
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def _train(
    config: RunConfig,
    study: Path,
    folder: RunFolder,
    device: str,
    stop_at_step: int | None,
    must_stop: Callable[[], bool],
    check_owner: Callable[[], None],
    note: str | None,
    ranks: Ranks,
) -> Iterator[int]:
    identity, before = config.identity, folder.result() or {}
    data = open_data(config, study)
    state = load_start(config, study, device, data, ranks)
    check_vocabulary(state.model.train(), data.vocab_size, f"run {config.name}")
    work, notes = begin(config, study, state)
    check_same_batches(config, data, work, ranks)
    take_step = Step(
        state,
        identity,
        config.micro_batch_sequences * ranks.count,
        checkpointing=bool(config.recorded.activation_checkpointing),
    )
    watch = Watch(config, state, spent_s=max(state.wall_s, before.get("wall_s", 0.0)))

    logged = max(state.step, *work.known, 0) * identity.batch_tokens
    with (
        Journal(folder, config, logged, check_owner) if ranks.is_first else SilentJournal()
    ) as journal:
        for words in [*notes, *([note] if note else [])]:
            journal.write_note(words)
        while True:
            n_tokens = state.step * identity.batch_tokens

            # All that is due at this step is done before its checkpoint, so that a resumed run
            # need not do it again.
            if state.step in work.points - work.known:
                watch.check_losses()
                with watch.pause():
                    journal.write_point(make_point(config, state, data, watch))
            if state.step in work.resets:
                watch.note_reset()
                state.loss_sum_C.zero_()
                state.loss_tokens_C.zero_()
                if is_reset_of_moments(identity, n_tokens):
                    reset_moments(state)
            if state.step in work.states:
                watch.check_losses()
                check_owner()
                save_state(folder.state(n_tokens), state, identity, watch.wall_s)
            if state.step == work.end:
                journal.finish()
                break
            stops, saves = ranks.decide(
                lambda: (state.step == stop_at_step or must_stop(), watch.is_checkpoint_due())
            )
            if stops or saves:
                watch.check_losses()
                check_owner()
                with watch.checkpoint():
                    save_state(folder.checkpoint, state, identity, watch.wall_s)
            if stops:
                return

            # Take a step.
            for name, epoch in data.mixture.repeats(state.step).items():
                journal.write_note(
                    f"{name} text ended at {n_tokens} tokens; epoch {epoch + 1} begins"
                )
            watch.add_step(take_step(data.mixture.batch(state.step)))
            if watch.is_log_due():
                journal.write_training(watch.describe_training())
            yield state.step * identity.batch_tokens

    check_owner()
    if work.end == work.run_end and must_save_model(config):
        save_whole_model(state, data.tokenizer, folder.model)
    if not ranks.is_first:
        return
    done = describe_end(folder, state, data) if work.end == work.run_end else before
    speed = watch.tokens_per_s or before.get("tokens_per_s")
    about = {
        "wall_s": watch.wall_s,
        "tokens_per_s": speed,
        "device": device,
        "gpus": ranks.count,
        "layout": state.layout,
        "versions": VERSIONS,
    }
    check_owner()  # saving a large model takes minutes
    folder.write_result({**done, **about}, starting_points(config, folder))


def load_start(
    config: RunConfig, study: Path, device: str, data: RunData, ranks: Ranks
) -> TrainingState:
    """The state at D = 0; over several devices each holds a part of it where it is too large."""
    identity, border_id = config.identity, data.validation.border_id
    if ranks.count == 1:
        return start_state(load_base(config, study, device), identity, border_id)
    forward: Losses
    shape = shape_of(config, study)
    if not ranks.always_shards and ranks.decide(
        lambda: fits_whole(config, shape, device, ranks.count)
    ):
        model = load_base(config, study, device)
        forward = ReplicatedForward(forward_of(model, identity.dtype, border_id), ranks)
    else:
        model, forward = load_sharded(config, study, ranks, device, border_id)
    return start_state(model, identity, forward=forward, ranks=ranks)


def check_same_batches(config: RunConfig, data: RunData, work: Work, ranks: Ranks) -> None:
    """Compare the first and the last batch of the processes of a run.

    Raises:
        TrainingError: If they differ, so the processes do not read the same text.
    """
    if ranks.count == 1:
        return
    digest = hashlib.sha256(config.identity.hash.encode())
    for step in (0, work.end - 1):
        digest.update(data.mixture.batch(step).tokens.tobytes())
    digests = ranks.gather(digest.hexdigest())
    others = [index for index, other in enumerate(digests) if other != digests[0]]
    if others:
        raise TrainingError(
            f"run {config.name}: process {others[0]} of {ranks.count} reads other batches than "
            "process 0; make the same prepared text visible to all, and rerun",
            "input",
        )


def save_whole_model(state: TrainingState, tokenizer: Path, folder: Path) -> None:
    """Save the model folder; the rows of a sharded model are gathered by the first process."""
    if state.ranks.count == 1:
        save_model(state.model, tokenizer, folder)
        return
    weights = {}
    for name, tensor in state.model.state_dict().items():
        gathered = whole(tensor)
        if state.ranks.is_first:
            weights[name] = gathered.cpu()
    if state.ranks.is_first:
        save_model(state.model, tokenizer, folder, weights)


def begin(config: RunConfig, study: Path, state: TrainingState) -> tuple[Work, list[str]]:
    """Find the remaining work and load the state that it starts from.

    A damaged state is set aside, and training starts from the state before it.

    Returns:
        The work, and a sentence for each state that was set aside.
    """
    notes: list[str] = []
    while True:
        try:
            work, start = state.ranks.decide(lambda: _find_start(config, study))
            if start is not None:
                load_state(start, state, config.identity)
        except DamagedFileError as damaged:
            state.ranks.decide(partial(set_aside, damaged.path))
            notes.append(str(damaged))
        else:
            return work, notes


def _find_start(config: RunConfig, study: Path) -> tuple[Work, Path | None]:
    """The remaining work, and the state that it starts from; None is the base."""
    work = find_work(config, study / "runs")
    return work, work.start or base_state(config, study)


def starting_points(config: RunConfig, folder: RunFolder) -> list[Path]:
    """The files of a pre-trained base that trunks start from; empty for other runs."""
    if config.identity.kind != "pretrain":
        return []
    states = (folder.state(n) for n in config.recorded.keep_state_at)
    model = folder.model.iterdir() if folder.model.is_dir() else ()
    return sorted(path for path in (*model, *states) if path.is_file())


def is_reset_of_moments(identity: Identity, n_tokens: int) -> bool:
    """Whether a decay that starts with fresh moments starts here."""
    decay = identity.decay
    return decay is not None and decay.optimizer == "reset" and n_tokens == decay.start_tokens


def make_point(
    config: RunConfig, state: TrainingState, data: RunData, watch: Watch
) -> dict[str, Any]:
    """Evaluate every channel, and describe the training since the previous point.

    Raises:
        TrainingError: If a loss is not finite.
    """
    identity, step = config.identity, state.step
    sums = zip(
        identity.channels, state.loss_sum_C.tolist(), state.loss_tokens_C.tolist(), strict=True
    )
    measured = describe_evaluation(state.model, data.validation, state.forward)
    on_all = measured.get("all", measured)
    for name, loss in (*measured["loss"].items(), *on_all["loss"].items()):
        if not math.isfinite(loss):
            raise TrainingError(
                f"run {config.name}: the validation loss of channel {name} after step {step} is "
                f"{loss}; lower the learning rate ({identity.learning_rate:g}) or lengthen the "
                "warmup",
                "not_finite",
            )
    return {
        "n_tokens": step * identity.batch_tokens,
        "phase": phase_of(identity, step),
        **measured,
        "train_loss": {channel.name: loss / count for channel, loss, count in sums if count},
        **data.describe_reading(step),
        "learning_rate": learning_rate_at(identity, step - 1) if step else None,
        "wall_s": watch.wall_s,
    }


def phase_of(identity: Identity, step: int) -> str:
    """Name the phase of a point; the only point of a pre-training run is that of its base."""
    if identity.kind == "branch":
        return "annealed"
    return "constant" if identity.kind == "trunk" and step else "base"


def describe_end(folder: RunFolder, state: TrainingState, data: RunData) -> dict[str, Any]:
    """Sum up a run that reached its end: most of ``result.json``."""
    point = folder.points()[-1]
    copied = ("n_tokens", "loss", "n_params", "n_params_non_embedding", "epochs")
    return {
        "n_steps": state.step,
        **{name: point[name] for name in copied},
        "tokens": data.mixture.tokens(state.step),
    }
