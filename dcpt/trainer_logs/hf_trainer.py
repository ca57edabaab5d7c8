"""``trainer_state.json`` of the Trainer of transformers.

The file is written with every checkpoint and by ``trainer.save_state()``. Its key ``log_history``
is a list of records, each with ``step`` and either training values (``loss``, ``learning_rate``) or
those of one evaluation (``eval_loss``, and ``eval_<name>_loss`` if ``eval_dataset`` is a dict).

Source: https://huggingface.co/docs/transformers/main_classes/callback (TrainerState), read and
checked with transformers 5.24.0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from dcpt.errors import InputError
from dcpt.trainer_logs.records import Format, LogBuilder


def _read(path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON ({error}); copy the trainer_state.json of another checkpoint"
        ) from None
    log = LogBuilder()
    for record in state["log_history"]:
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            log.add(record["step"], ((name, x) for name, x in record.items() if name != "step"))
    batch = state.get("train_batch_size")
    log.config = {} if batch is None else {"train_batch_size": batch}
    yield None, log


FORMAT = Format(
    "HF Trainer",
    ("trainer_state.json",),
    lambda path, head: head.lstrip().startswith("{") and '"log_history"' in _all(path, head),
    _read,
)


def _all(path: Path, head: str) -> str:
    """The whole text of a file named as the Trainer names it: callbacks' states may come first."""
    if '"log_history"' in head or path.suffix != ".json":
        return head
    return path.read_text(encoding="utf-8", errors="replace")
