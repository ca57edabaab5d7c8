"""The log of a run: lines of ``metrics.jsonl``, scalars for TensorBoard and other trackers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from dcpt.atomic_files import set_aside
from dcpt.leases import LeaseLostError, no_owner
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.training.trackers import End, Trackers


class Journal:
    """Writes a run's events; a context manager.

    Args:
        folder: The run's folder.
        config: The run.
        n_tokens: Tokens already logged. Later TensorBoard events are purged and rewritten.
        check_owner: Called before each line; raises an error if another process owns the run.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        n_tokens: int,
        check_owner: Callable[[], None] = no_owner,
    ) -> None:
        self._check_owner = check_owner
        channels = config.identity.channels
        self._weights = {c.name: c.weight for c in channels if c.side == "general"}
        # Imported here: 0.15 s that `dcpt evaluate` and timing do not need.
        from torch.utils.tensorboard import SummaryWriter

        scalars = folder.path / "tensorboard"
        if scalars.exists() and not scalars.is_dir():
            set_aside(scalars)
        self._metrics = folder.open_metrics()
        self._scalars: Any = SummaryWriter(scalars, purge_step=n_tokens + 1)
        self._trackers = Trackers(config, folder, self._note_failure)
        self._end: End = "stopped"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scalars.close()
        self._trackers.close(self._end_after(error))
        self._metrics.close()

    def _end_after(self, error: BaseException | None) -> End:
        """How the run ended here; one that another process owns now is only stopped."""
        # A worker that is asked to stop closes the training's generator.
        if error is None or isinstance(error, (GeneratorExit, KeyboardInterrupt)):
            return self._end
        try:
            self._check_owner()
        except LeaseLostError:
            return "stopped"
        except OSError:  # the lease cannot be read, so nothing says that it is lost
            return "failed"
        return "failed"

    def write_point(self, point: Mapping[str, Any]) -> None:
        """Write an evaluation of all channels."""
        self._write("point", point)
        scalars = {f"loss/{name}": loss for name, loss in point["loss"].items()}
        if point["share"]:  # validation loss of the whole mixture
            total = sum(share * point["loss"][name] for name, share in point["share"].items())
            scalars["loss/total"] = total
        if len(self._weights) > 1:
            weighted = sum(w * point["loss"][name] for name, w in self._weights.items())
            scalars["loss/general_total"] = weighted / sum(self._weights.values())
        for what in ("tokens", "epochs"):
            scalars |= {f"{what}/{name}": value for name, value in point[what].items()}
        self._plot(scalars, point["n_tokens"])

    def write_training(self, event: Mapping[str, Any]) -> None:
        """Write training losses, gradient norm and speed since the last such line."""
        self._write("train", event)
        scalars = {f"train_loss/{name}": loss for name, loss in event["channel_loss"].items()}
        scalars |= {
            "train_loss/total": event["loss"],
            "learning_rate": event["learning_rate"],
            "grad_norm": event["grad_norm"],
            "tokens_per_s": event["tokens_per_s"],
        }
        self._plot(scalars, event["n_tokens"])

    def finish(self) -> None:
        """Note that training reached its end; otherwise the run counts as stopped."""
        self._end = "finished"

    def write_note(self, words: str) -> None:
        """Write a sentence for people."""
        self._write("note", {"words": words})

    def _note_failure(self, tracker: str, reason: str) -> None:
        words = f"training goes on without {tracker}: {reason}"
        self._write("note", {"words": words, "tracker": tracker, "reason": reason})

    def _write(self, event: str, content: Mapping[str, Any]) -> None:
        self._check_owner()
        # Each line is a single write, so a killed process truncates at most the last line.
        self._metrics.write(json.dumps({"event": event, **content}, allow_nan=False) + "\n")

    def _plot(self, scalars: Mapping[str, float], n_tokens: int) -> None:
        for name, value in scalars.items():
            self._scalars.add_scalar(name, value, n_tokens)
        self._trackers.log(scalars, n_tokens)


class SilentJournal(Journal):
    """The journal of a process that writes nothing: the first process of the run does."""

    def __init__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def write_point(self, point: Mapping[str, Any]) -> None:
        """Write nothing."""

    def write_training(self, event: Mapping[str, Any]) -> None:
        """Write nothing."""

    def finish(self) -> None:
        """Write nothing."""

    def write_note(self, words: str) -> None:
        """Write nothing."""
