"""Stand-in runs of fault campaigns and benchmarks: they count steps instead of training.

Everything around the steps is that of dcpt: workers, leases, signals, folders. The jobs of the
cluster import this module, so its folder must be on ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dcpt.atomic_files import read_json, write_json
from dcpt.engines.slurm.job import JobEnd, train_job
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig

STEP_S = 0.05
N_STEPS = int(os.environ.get("STANDIN_STEPS", "60"))
CHECKPOINT_STEPS = 20
"""Steps between two saved states, a second."""


def count_steps(
    config: RunConfig,
    study: Path,
    *,
    must_stop: Callable[[], bool] = lambda: False,
    **_: Any,
) -> Iterator[int]:
    """Count from the last saved step to the end, as ``train_stepwise`` trains.

    Each step is a line of ``steps.jsonl``, so that repeated steps and a second training show.

    Yields:
        Tokens that the run has reached.
    """
    folder = RunFolder.of(config, study / "runs")
    folder.write_config(config)
    saved = folder.path / "saved.json"
    step = (read_json(saved) or {"step": 0})["step"]
    with (folder.path / "steps.jsonl").open("a", encoding="utf-8", buffering=1) as log:
        while step < N_STEPS:
            stops = must_stop()
            if stops or step % CHECKPOINT_STEPS == 0:
                write_json(saved, {"step": step})
            if stops:
                return
            time.sleep(STEP_S)
            step += 1
            log.write(json.dumps({"step": step}) + "\n")
            yield step * config.identity.batch_tokens
    with folder.open_metrics() as metrics:
        metrics.write(json.dumps({"event": "note", "words": "counted"}) + "\n")
    folder.write_result({"n_tokens": config.recorded.n_tokens, "loss": {}})


def count_in_worker(*arguments: Any) -> None:
    """A worker whose runs count steps."""
    from dcpt.grid.worker import work
    from dcpt.training import lanes

    setattr(lanes, "train_stepwise", count_steps)  # noqa: B010 (mypy knows the type)
    setattr(lanes, "fitted_to", lambda _device, config, *_: config)  # noqa: B010
    work(*arguments)


def count_job(order: dict[str, Any]) -> JobEnd:
    """A job whose runs count steps."""
    from dcpt.grid.local import LocalEngine

    setattr(LocalEngine, "_work", staticmethod(count_in_worker))  # noqa: B010
    return train_job(order)


def read_steps(folder: Path) -> list[int]:
    """The steps that a run counted, in order."""
    path = folder / "steps.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line)["step"] for line in lines]
