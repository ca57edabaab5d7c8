"""The training loop. Read it from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from dcpt.leases import no_owner
from dcpt.runs.course import learning_rate_at
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Identity, RunConfig
from dcpt.training.data import RunData, open_data
from dcpt.training.end import describe_end, save_whole_model, starting_points
from dcpt.training.evaluate import describe_evaluation
from dcpt.training.journal import Journal, SilentJournal
from dcpt.training.models import check_vocabulary
from dcpt.training.sharded.ranks import ALONE, Ranks
from dcpt.training.start import begin, check_same_batches, load_start
from dcpt.training.state import TrainingState, reset_moments, save_state
from dcpt.training.state_file import delete_partial_states
from dcpt.training.step import Step
from dcpt.training.watch import TrainingError, Watch
from dcpt.training.watchdog import WATCHDOG
from dcpt.training.work import Work, must_save_model

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
    must_save: Callable[[], bool] = lambda: False,
    check_owner: Callable[[], None] = no_owner,
    note: str | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[int]:
    """Train as ``train`` does, and pause after every step, so that runs can share a device.

    On CUDA all parts must run in the same stream, which is not the default stream. The run saves a
    checkpoint and stops at the first step before which ``must_stop`` is true; where ``must_save``
    is, it saves one and goes on. ``check_owner`` is called before a file is written and raises an
    error if another process owns the run. ``note`` is a sentence for the run's journal. With
    several ``ranks`` each process calls this for its device; the first writes the files.

    Yields:
        Tokens that the run has reached.
    """
    WATCHDOG.announce()
    folder = RunFolder.of(config, study / "runs")
    try:
        if ranks.decide(lambda: _is_done(config, folder)):
            return
        yield from _train(
            config,
            study,
            folder,
            device,
            stop_at_step,
            must_stop,
            must_save,
            check_owner,
            note,
            ranks,
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
    must_save: Callable[[], bool],
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
        run = _Run(config, folder, data, state, work, watch, journal, check_owner)
        for sentence in [*notes, *([note] if note else [])]:
            journal.write_note(sentence)
        while True:
            run.do_what_is_due()
            if state.step == work.end:
                journal.finish()
                break
            stops, saves = ranks.decide(
                lambda: (
                    state.step == stop_at_step or must_stop(),
                    watch.is_checkpoint_due(is_asked=must_save()),
                )
            )
            if stops or saves:
                run.save_checkpoint()
            if stops:
                return
            run.note_epochs()
            watch.add_step(take_step(data.mixture.batch(state.step)))
            if watch.is_log_due():
                journal.write_training(watch.describe_training())
            yield run.n_tokens
    run.finish(before, device)


@dataclass(frozen=True)
class _Run:
    """A run that is being trained."""

    config: RunConfig
    folder: RunFolder
    data: RunData
    state: TrainingState
    work: Work
    watch: Watch
    journal: Journal | SilentJournal
    check_owner: Callable[[], None]

    @property
    def n_tokens(self) -> int:
        """Tokens that the run has reached."""
        return self.state.step * self.config.identity.batch_tokens

    def do_what_is_due(self) -> None:
        """Evaluate, reset and keep the state, as the work asks at this step.

        This is done before the step's checkpoint, so that a resumed run need not do it again.
        """
        step, work = self.state.step, self.work
        if step in work.points - work.known:
            self.watch.check_losses()
            with self.watch.pause():
                self.journal.write_point(make_point(self.config, self.state, self.data, self.watch))
        if step in work.resets:
            self.watch.note_reset()
            self.state.loss_sum_C.zero_()
            self.state.loss_tokens_C.zero_()
            if is_reset_of_moments(self.config.identity, self.n_tokens):
                reset_moments(self.state)
        if step in work.states:
            self.watch.check_losses()
            self.check_owner()
            self._save(self.folder.state(self.n_tokens))

    def save_checkpoint(self) -> None:
        """Save the state that an interrupted run resumes from."""
        self.watch.check_losses()
        self.check_owner()
        with self.watch.checkpoint():
            self._save(self.folder.checkpoint)

    def _save(self, path: Path) -> None:
        save_state(path, self.state, self.config.identity, self.watch.wall_s)

    def note_epochs(self) -> None:
        """Note the channels whose text begins again at this step."""
        for name, epoch in self.data.mixture.repeats(self.state.step).items():
            self.journal.write_note(
                f"{name} text ended at {self.n_tokens} tokens; epoch {epoch + 1} begins"
            )

    def finish(self, before: Mapping[str, Any], device: str) -> None:
        """Save the model and the result; ``before`` is the result of an earlier call."""
        state, watch, folder = self.state, self.watch, self.folder
        at_end = self.work.end == self.work.run_end
        self.check_owner()
        if at_end and must_save_model(self.config):
            save_whole_model(state, self.data.tokenizer, folder.model)
        if not state.ranks.is_first:
            return
        done = describe_end(folder, state, self.data) if at_end else before
        about = {
            "wall_s": watch.wall_s,
            "tokens_per_s": watch.tokens_per_s or before.get("tokens_per_s"),
            "device": device,
            "gpus": state.ranks.count,
            "layout": state.layout,
            "versions": VERSIONS,
        }
        self.check_owner()  # saving a large model takes minutes
        folder.write_result({**done, **about}, starting_points(self.config, folder))


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
