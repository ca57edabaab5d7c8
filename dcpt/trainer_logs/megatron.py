"""The text that Megatron-LM prints.

A line of training holds ``iteration 100/ 1000 | consumed samples: 25600 | learning rate: 3.0E-04 |
lm loss: 2.5E+00 |``, one of an evaluation ``validation loss at iteration 100 | lm loss value:
2.6E+00 | lm loss PPL: 1.3E+01 |``, with ``validation-1 loss`` for the second of several validation
sets. The arguments are printed at the start as ``name ....... value``.

Metrics have the names that Megatron-LM gives them in TensorBoard: ``lm loss`` and ``lm loss
validation``, ``lm loss validation-1``.

Source: ``megatron/training/training.py`` and ``arguments.py`` of
https://github.com/NVIDIA/Megatron-LM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dcpt.trainer_logs.records import Format, LogBuilder
from dcpt.trainer_logs.text_files import read_lines

_TRAINING = re.compile(r"\biteration\s+(\d+)\s*/\s*\d+\s*\|(.*)")
_EVALUATION = re.compile(
    r"\b(validation(?:-\d+)?) loss at iteration\s+(\d+)( on test set)?[^|]*\|(.*)"
)
_ARGUMENT = re.compile(r"(?:^|\s)(\w+) \.{3,} (\S.*?)\s*$")


def _numbers(text: str) -> Iterator[tuple[str, float]]:
    for part in text.split("|"):
        name, colon, value = part.rpartition(":")
        if colon:
            try:
                yield name.strip(), float(value)
            except ValueError:
                continue


def _read(path: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    log = LogBuilder()
    for line in read_lines(path):
        if "iteration" not in line:
            if " ..." in line and (found := _ARGUMENT.search(line)) is not None:
                log.config.setdefault(found[1], found[2])
        elif (training := _TRAINING.search(line)) is not None:
            log.add(int(training[1]), _numbers(training[2]))
        elif (evaluation := _EVALUATION.search(line)) is not None:
            kind = evaluation[1].replace("validation", "test") if evaluation[3] else evaluation[1]
            losses = [
                (f"{name.removesuffix(' value')} {kind}", value)
                for name, value in _numbers(evaluation[4])
                if name.endswith(" value")
            ]
            log.add(int(evaluation[2]), losses)
    yield None, log


def _matches(path: Path, head: str) -> bool:
    lines = (line for line in head.split("\n") if "iteration" in line)
    return any("|" in line and _TRAINING.search(line) for line in lines) or bool(
        _EVALUATION.search(head)
    )


FORMAT = Format("Megatron-LM", ("*.log", "*.out", "*.txt"), _matches, _read)
