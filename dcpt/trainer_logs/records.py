"""What the log of every trainer is read into: the metrics of a run by step."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Series:
    """The values of one metric.

    Args:
        steps: Steps in ascending order, shape (M,), int64.
        values: Values at these steps, shape (M,), float64.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    def before(self, step: int) -> Series:
        """The values at smaller steps."""
        n = int(np.searchsorted(self.steps, step))
        return Series(self.steps[:n], self.values[:n])

    def followed_by(self, later: Series) -> Series:
        """These values and later ones of the same metric."""
        return Series(
            np.concatenate([self.steps, later.steps]), np.concatenate([self.values, later.values])
        )

    def at(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values at some steps, NaN where there is none."""
        found = np.full(len(steps), np.nan)
        if len(self.steps):
            place = np.minimum(np.searchsorted(self.steps, steps), len(self.steps) - 1)
            same = self.steps[place] == steps
            found[same] = self.values[place[same]]
        return found


@dataclass(frozen=True)
class StepBack:
    """A place where the steps of a log go back, as after a resume.

    Args:
        last: The last step before it.
        to: The step after it.
        n_values: Number of values of all metrics at ``to`` or later that it replaces.
    """

    last: int
    to: int
    n_values: int


@dataclass(frozen=True)
class RunLog:
    """The log of one run.

    Args:
        run: Name of the run.
        trainer: The program that wrote the log, as in messages.
        source: The file or folder.
        metrics: Values by name of the metric.
        config: Settings of the run that the log holds, by name.
        steps_back: Where the steps go back.
        repeats: By metric, how many values were logged again at the same step with another value.
        has_steps: False if the log has one value per metric and no steps.
    """

    run: str
    trainer: str
    source: Path
    metrics: dict[str, Series]
    config: dict[str, Any] = field(default_factory=dict)
    steps_back: tuple[StepBack, ...] = ()
    repeats: dict[str, int] = field(default_factory=dict)
    has_steps: bool = True

    @property
    def last_step(self) -> int:
        """The last step of any metric; -1 if there is no metric."""
        return max((int(s.steps[-1]) for s in self.metrics.values() if len(s.steps)), default=-1)


class LogBuilder:
    """Collects the values of a run in the order of its log.

    If the steps go back, the values from that step on are forgotten: the run was resumed from
    there, and what was logged before belongs to weights that no longer exist.

    Args:
        has_steps: False if the log has one value per metric and no steps.
    """

    def __init__(self, *, has_steps: bool = True) -> None:
        self.config: dict[str, Any] = {}
        self.steps_back: list[StepBack] = []
        self.repeats: Counter[str] = Counter()
        self._has_steps = has_steps
        self._columns: dict[str, tuple[array[int], array[float]]] = {}
        self._last = -1

    def add(self, step: int, values: Iterable[tuple[str, object]]) -> None:
        """Add what was logged at a step; values that are no numbers are passed over."""
        if step < self._last:
            self._go_back(step)
        self._last = step
        columns = self._columns
        for name, value in values:
            if type(value) is not float and type(value) is not int:
                continue
            column = columns.get(name)
            if column is None:
                column = columns[name] = (array("q"), array("d"))
            steps, numbers = column
            if steps and steps[-1] == step:
                self.repeats[name] += numbers[-1] != value
                numbers[-1] = value
            else:
                steps.append(step)
                numbers.append(value)

    def _go_back(self, step: int) -> None:
        n_values = 0
        for steps, numbers in self._columns.values():
            keep = len(steps)
            while keep and steps[keep - 1] >= step:
                keep -= 1
            n_values += len(steps) - keep
            del steps[keep:], numbers[keep:]
        self.steps_back.append(StepBack(self._last, step, n_values))

    def build(self, run: str, trainer: str, source: Path) -> RunLog:
        """The log of the run."""
        metrics = {
            name: Series(np.array(steps, dtype=np.int64), np.array(numbers, dtype=np.float64))
            for name, (steps, numbers) in self._columns.items()
        }
        return RunLog(
            run,
            trainer,
            source,
            metrics,
            self.config,
            tuple(self.steps_back),
            {name: n for name, n in self.repeats.items() if n},
            self._has_steps,
        )


@dataclass(frozen=True)
class Format:
    """A kind of log.

    Args:
        trainer: The program that writes it, as in messages.
        patterns: Names of its files, for the search in folders.
        matches: Whether a file of which the first MiB is given is such a log.
        read: Reads a log. Yields the runs in it: the name that the log gives the run, or None where
            the path names it, and its values.
        of_folder: Whether the folder of the file is the log, such as that of TensorBoard.
    """

    trainer: str
    patterns: tuple[str, ...]
    matches: Callable[[Path, str], bool]
    read: Callable[[Path], Iterator[tuple[str | None, LogBuilder]]]
    of_folder: bool = False


def merge_logs(first: RunLog, second: RunLog) -> RunLog:
    """Merge two logs of one run, the second written later or holding other metrics.

    Where both have a metric, the run was resumed: values of the first log from the step on at which
    the second one starts are forgotten.
    """
    shared = first.metrics.keys() & second.metrics.keys()
    start = min((int(second.metrics[name].steps[0]) for name in shared), default=0)
    metrics, n_values = {**first.metrics, **second.metrics}, 0
    for name in shared:
        kept = first.metrics[name].before(start)
        n_values += len(first.metrics[name].steps) - len(kept.steps)
        metrics[name] = kept.followed_by(second.metrics[name])
    back = (StepBack(first.last_step, start, n_values),) if n_values else ()
    return RunLog(
        second.run,
        second.trainer,
        second.source,
        metrics,
        {**first.config, **second.config},
        (*first.steps_back, *back, *second.steps_back),
        {**first.repeats, **second.repeats},
        second.has_steps,
    )
