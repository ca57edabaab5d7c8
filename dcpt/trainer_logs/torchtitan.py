"""The text that torchtitan prints.

A line of training ends in ``step: 10  loss: 8.30291  grad_norm: 3.2131  memory: ...``, one of an
evaluation in ``validate step: 10  loss: 7.9012  memory: ...``. torchtitan logs the tokens so far,
the learning rate and the losses of named validation sets to TensorBoard or W&B alone.

Metrics have the names that torchtitan gives them there: ``loss_metrics/global_avg_loss`` and
``validation_metrics/loss``. If several ranks print, the lowest that prints losses is read.

Source: ``torchtitan/components/metrics.py`` of https://github.com/pytorch/torchtitan, version
0.3.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dcpt.trainer_logs.records import Format, LogBuilder
from dcpt.trainer_logs.text_files import read_lines

_LINE = re.compile(
    r"\b(validate )?step:\s*(\d+)\s+loss:\s*(\S+)\s+(?:grad_norm:\s*(\S+)\s+)?memory:"
)
_RANK = re.compile(r"\[rank(\d+)\]")


def _read(path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    logs: dict[int, LogBuilder] = {}
    for line in read_lines(path):
        found = _LINE.search(line) if "step:" in line else None
        if found is None:
            continue
        rank = _RANK.search(line)
        log = logs.setdefault(int(rank[1]) if rank else 0, LogBuilder())
        name = "validation_metrics/loss" if found[1] else "loss_metrics/global_avg_loss"
        values = [(name, float(found[3]))]
        if found[4]:
            values.append(("grad_norm", float(found[4])))
        log.add(int(found[2]), values)
    yield None, logs[min(logs)] if logs else LogBuilder()


FORMAT = Format(
    "torchtitan",
    ("*.log", "*.out", "*.txt"),
    lambda path, head: _LINE.search(head) is not None,
    _read,
)
