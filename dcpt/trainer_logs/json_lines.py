"""``logging.jsonl`` of ms-swift and ``trainer_log.jsonl`` of LLaMA-Factory.

ms-swift writes the records of the Trainer with ``global_step/max_steps`` ("30/300"), and with
``iteration`` ("30/300") where it trains with Megatron. Source: ``swift/trainers/patcher.py`` and
``swift/megatron/callbacks/print.py`` of https://github.com/modelscope/ms-swift, version 4.6.0.

LLaMA-Factory writes ``current_steps``, ``loss``, ``eval_loss``, ``lr`` and perhaps
``total_tokens``; it has no losses of several evaluation sets, which are in ``trainer_state.json``.
Source: ``src/llamafactory/train/callbacks.py`` of https://github.com/hiyouga/LLaMA-Factory,
version 0.9.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dcpt.trainer_logs.records import Format, LogBuilder
from dcpt.trainer_logs.text_files import first_object, read_json_lines

_SWIFT_STEPS = ("global_step/max_steps", "iteration")


def _swift_step(record: dict[str, Any]) -> int | None:
    for name in _SWIFT_STEPS:
        text = record.get(name)
        if isinstance(text, str) and "/" in text:
            done = text.partition("/")[0].strip()
            return int(done) if done.isdecimal() else None
    return None


def _factory_step(record: dict[str, Any]) -> int | None:
    step = record.get("current_steps")
    return step if isinstance(step, int) else None


def _reader(
    step_of: Callable[[dict[str, Any]], int | None],
) -> Callable[[Path], Iterator[tuple[str | None, LogBuilder]]]:
    def read(path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
        log = LogBuilder()
        for _, record in read_json_lines(path):
            step = step_of(record)
            if step is not None:
                log.add(step, record.items())
        yield None, log

    return read


SWIFT = Format(
    "ms-swift",
    ("logging.jsonl",),
    lambda path, head: _swift_step(first_object(head)) is not None,
    _reader(_swift_step),
)
LLAMA_FACTORY = Format(
    "LLaMA-Factory",
    ("trainer_log.jsonl",),
    lambda path, head: _factory_step(first_object(head)) is not None,
    _reader(_factory_step),
)
