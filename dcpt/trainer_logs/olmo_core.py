"""The metrics that OLMo-core saves: ``metrics_step<N>.json``, a file per step.

``MetricSaverCallback`` writes the latest value of every metric, so an evaluation is in all files
after it until the next one. A value of ``eval/`` that is exactly that of the file before was not
measured again and is passed over. ``metrics.json`` names no step and is not read. The console of
OLMo-core prints evaluations without their step, so it is not read either.

Losses are ``eval/<evaluator>/<text>/CE loss``; ``throughput/total tokens`` counts tokens.

Source: ``src/olmo_core/train/callbacks/metric_saver.py`` and ``evaluator_callback.py`` of
https://github.com/allenai/OLMo-core, version 3.0.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcpt.errors import InputError
from dcpt.trainer_logs.records import Format, LogBuilder

_FILE = re.compile(r"metrics_step(\d+)\.json")


def _read(folder: Path) -> Iterator[tuple[str | None, LogBuilder]]:
    found = ((_FILE.fullmatch(path.name), path) for path in folder.iterdir())
    files = sorted((int(match[1]), path) for match, path in found if match)
    log = LogBuilder()
    before: dict[str, Any] = {}
    for step, path in files:
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}); remove or restore the file") from None
        new = [
            (name, value)
            for name, value in metrics.items()
            if not (name.startswith("eval/") and before.get(name) == value)
        ]
        log.add(step, new)
        before = metrics
    yield None, log


FORMAT = Format(
    "OLMo-core",
    ("metrics_step*.json",),
    lambda path, head: _FILE.fullmatch(path.name) is not None,
    _read,
    of_folder=True,
)
