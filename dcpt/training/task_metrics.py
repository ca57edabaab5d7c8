"""Metrics of lm-eval's tasks on a model; lm-eval is an optional package (the extra ``tasks``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from dcpt.errors import InputError, did_you_mean
from dcpt.training.checkpoints import check_finite, checkpoint_files

_FEW_SHOT_SEED = 1234
"""Seed that lm-eval's own command draws few-shot examples with."""

_CPU_BATCH = 8
"""Sequences of a forward pass on a CPU. On a GPU lm-eval tries how many fit into the memory."""


@dataclass(frozen=True)
class TaskMetric:
    """A metric of a task, or of a group of tasks.

    Args:
        task: Name of the task or group.
        metric: Name of the metric, such as ``acc``.
        filter: What lm-eval did to the answers before it compared them; ``none`` if nothing.
        value: The metric; None if lm-eval gives no finite number.
        se: Its standard error; None where lm-eval gives none, as for a single document.
        n_documents: Documents of the task.
    """

    task: str
    metric: str
    filter: str
    value: float | None
    se: float | None
    n_documents: int


def load_tasks(names: Sequence[str]) -> dict[str, Any]:
    """Load tasks of lm-eval, with their documents.

    Args:
        names: Names and patterns of lm-eval's tasks, groups and tags, and YAML files of tasks.

    Returns:
        What lm-eval calls a ``TaskDict``.

    Raises:
        InputError: If lm-eval is missing, or a task is unknown or cannot be loaded.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise InputError(
            f"--tasks needs lm-eval ({error}); install it with: pip install 'dcpt[tasks]'"
        ) from None
    manager = TaskManager()
    known = [name for given in names for name in _known_names(given, manager)]
    with _refusing("--tasks", "load the tasks", "check them and their documents"):
        loaded: dict[str, Any] = manager.load(known)
    return loaded


def _known_names(given: str, manager: Any) -> list[str]:
    """The names that lm-eval knows of a name, a pattern, or a YAML file.

    Raises:
        InputError: If there is none.
    """
    if Path(given).suffix in (".yaml", ".yml"):
        if not Path(given).is_file():
            raise InputError(f"--tasks {given}: no such file; check the path")
        return [given]
    found: list[str] = manager.match_tasks([given])
    if not found:
        raise InputError(
            f"--tasks {given}: lm-eval has no such task{did_you_mean(given, manager.all_tasks)}; "
            "`lm-eval ls tasks` lists them; a task of your own is a YAML file"
        )
    return found


def measure_tasks(path: str | Path, tasks: Mapping[str, Any], device: str) -> list[TaskMetric]:
    """Run tasks on a model, in the precision of its weights.

    The metrics are those of ``lm-eval run --model hf`` with its defaults.

    Args:
        path: A checkpoint folder or a hub id; no code of it is run.
        tasks: What ``load_tasks`` gave.
        device: Where to compute.

    Raises:
        InputError: If the model or its tokenizer cannot be loaded, or lm-eval stops with an error.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    place = f"checkpoint {path}"
    check_finite(path, place)
    with _refusing(place, "load the model", "give a whole checkpoint with its tokenizer"):
        model = HFLM(
            pretrained=str(checkpoint_files(path)[0].parent),
            device=device,
            batch_size="auto" if device.startswith("cuda") else _CPU_BATCH,
            trust_remote_code=False,
            use_safetensors=True,
        )
    for task in tasks["tasks"].values():
        # Drawn anew for each model, so that all models get the same examples.
        task.set_fewshot_seed(seed=_FEW_SHOT_SEED)
    with _refusing(place, "evaluate the model", "check the tasks and the memory"):
        results = lm_eval.evaluate(model, tasks, log_samples=False)
    return _read_metrics(results["results"])


def _read_metrics(results: Mapping[str, Mapping[str, Any]]) -> list[TaskMetric]:
    """The metrics in lm-eval's results, whose keys are ``metric,filter``."""
    found = []
    for task, values in results.items():
        for key in values:
            metric, comma, name = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            value, se = _finite(values[key]), _finite(values.get(f"{metric}_stderr,{name}"))
            found.append(TaskMetric(task, metric, name, value, se, values["sample_len"]))
    return found


def _finite(value: Any) -> float | None:
    """A finite number; None for what lm-eval writes in its place, such as ``N/A``."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


@contextmanager
def _refusing(place: str, what: str, remedy: str) -> Iterator[None]:
    """Turn any error of lm-eval into an ``InputError``: it raises those of many libraries."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"{place}: lm-eval cannot {what} ({reason}); {remedy}") from error
