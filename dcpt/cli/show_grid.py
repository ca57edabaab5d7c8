"""The output of the commands that train: progress, run by run and in all."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from dcpt.cli.console import make_table, print_line
from dcpt.errors import Stopped
from dcpt.grid.planned import PlannedRun
from dcpt.grid.queue import Outcome, RunQueue
from dcpt.grid.slots import Slot
from dcpt.grid.status import GridStatus, RunStatus, seconds_left
from dcpt.quantities import count_things, format_seconds

SLOW_BFLOAT16 = (
    "training.dtype is bfloat16 and the runs train on a CPU, where it is usually slower than "
    "float32; set dtype: float32 unless the model needs the memory"
)
_REFRESH_S = 0.5
_TOTALS_EVERY_S = 60.0


class GridView(ABC):
    """Shows the progress of training, from the state of the engine.

    Args:
        console: The console to print to.
        slots: The workers.
        title: Name of the work.
    """

    def __init__(self, console: Console, slots: Sequence[Slot], title: str) -> None:
        self.console, self.slots, self.title = console, slots, title
        self.started = time.monotonic()
        self.status: GridStatus | None = None
        self.planned: Sequence[PlannedRun] = ()

    def tick(self, queue: RunQueue) -> None:
        """Show changes; the engine calls this several times a second."""
        if self.status is None:
            self.status, self.planned = GridStatus(queue), queue.planned
            if self._is_slow_bfloat16():
                print_line(self.console, f"note: {SLOW_BFLOAT16}", "yellow")
            self.begin(queue)
        self.show(queue, self.status)

    def _is_slow_bfloat16(self) -> bool:
        on_cpu = any(not slot.is_accelerator for slot in self.slots)
        return on_cpu and any(run.config.identity.dtype == "bfloat16" for run in self.planned)

    def begin(self, queue: RunQueue) -> None:  # noqa: B027 (a view may show nothing here)
        """Show the planned work."""

    def say(self, sentence: str) -> None:
        """Print a sentence of the engine; it stays above a live view."""
        print_line(self.console, sentence)

    @abstractmethod
    def show(self, queue: RunQueue, status: GridStatus) -> None:
        """Show changes since the last call."""

    @abstractmethod
    def finish(self) -> None:
        """Show the final state."""

    def totals(self, status: GridStatus) -> str:
        """A line on all runs, with the time left."""
        statuses = status.statuses
        done = sum(run.state == "done" for run in statuses)
        counts = {
            "failed": status.n_failed,
            "cancelled": sum(run.state == "cancelled" for run in statuses),
            "in training": sum(run.state == "running" for run in statuses),
        }
        others = "".join(f", {n} {state}" for state, n in counts.items() if n)
        elapsed = format_seconds(time.monotonic() - self.started)
        seconds = seconds_left(statuses, self.slots)
        left = "time left unknown" if seconds is None else f"about {format_seconds(seconds)} left"
        runs = count_things(len(statuses), "run")
        return f"{self.title}: {done} of {runs} done{others}; {elapsed} elapsed, {left}"


class LiveView(GridView):
    """A table in the terminal: the runs in training, progress, tokens/s, training losses."""

    def __init__(self, console: Console, slots: Sequence[Slot], title: str, live: Live) -> None:
        super().__init__(console, slots, title)
        self.live, self.drawn = live, 0.0

    def show(self, queue: RunQueue, status: GridStatus) -> None:
        """Redraw, at most twice a second."""
        if time.monotonic() - self.drawn >= _REFRESH_S:
            self.draw(status)

    def draw(self, status: GridStatus) -> None:
        """Draw the current state."""
        self.drawn = time.monotonic()
        status.update()
        running = [run for run in status.statuses if run.state == "running"]
        channels = list(dict.fromkeys(name for run in running for name in run.losses))
        rows = [
            (
                run.name,
                f"{1 - run.left_tokens / run.planned.trained_tokens:.0%}",
                f"{run.tokens_per_s:,.0f}" if run.tokens_per_s else "",
                *(f"{run.losses[name]:.3f}" if name in run.losses else "" for name in channels),
            )
            for run in running
        ]
        text = Text(self.totals(status), style="bold")
        columns = ("running", "done", "tokens/s", *channels)
        parts = [text, make_table("", columns, rows)] if rows else [text]
        self.live.update(Group(*parts), refresh=True)

    def finish(self) -> None:
        """Leave the final state in the terminal."""
        if self.status is None:
            self.live.update(Text(f"{self.title}: nothing left to train"), refresh=True)
        else:
            self.draw(self.status)


class LogView(GridView):
    """Lines for output that is not a terminal: a line per finished run, and totals every minute."""

    def __init__(self, console: Console, slots: Sequence[Slot], title: str) -> None:
        super().__init__(console, slots, title)
        self.last_totals = self.started
        self.n_ended = 0

    def begin(self, queue: RunQueue) -> None:
        """Print the number of runs to train."""
        n_done = len(queue.planned) - len(queue.pending) - len(queue.running)
        self.say(
            f"{self.title}: {len(queue.planned) - n_done} runs to train, {n_done} done, "
            f"{len(self.slots)} workers"
        )

    def show(self, queue: RunQueue, status: GridStatus) -> None:
        """Print a line for every run that ended, and the totals every minute."""
        outcome = queue.outcome
        n_ended = len(outcome.finished) + len(outcome.failed) + len(outcome.cancelled)
        totals_are_due = time.monotonic() - self.last_totals >= _TOTALS_EVERY_S
        if n_ended == self.n_ended and not totals_are_due:
            return
        self.n_ended = n_ended
        for run in status.update():
            self.say(_ended_line(run, outcome))
        if totals_are_due:
            self.last_totals = time.monotonic()
            self.say(self.totals(status))

    def finish(self) -> None:
        """Print the final totals."""
        if self.status is None:
            self.say(f"{self.title}: nothing left to train")
        else:
            self.status.update()
            self.say(self.totals(self.status))


@contextmanager
def watch_grid(console: Console, slots: Sequence[Slot], title: str) -> Iterator[GridView]:
    """Show training progress: a live view in a terminal, else lines."""
    if not console.is_terminal:
        log = LogView(console, slots, title)
        yield log
        log.finish()
        return
    live = Live(console=console, auto_refresh=False, transient=False)
    view = LiveView(console, slots, title, live)
    live.start()
    try:
        yield view
        view.finish()
    finally:
        _end_live(live)


def _end_live(live: Live) -> None:
    """End the live view; after SIGHUP the terminal may be gone."""
    is_stopped = isinstance(sys.exception(), Stopped)
    try:
        live.stop()
    except OSError:
        if not is_stopped:
            raise


def _ended_line(run: RunStatus, outcome: Outcome) -> str:
    """How a run ended."""
    name = run.planned.name
    if name in outcome.failed:
        return f"failed {name}: {outcome.failed[name]}"
    if name in outcome.cancelled:
        return f"cancelled {name}: {run.n_tokens:,} tokens"
    return f"finished {name}: {_end(run)}"


def _end(run: RunStatus) -> str:
    """Tokens, time and losses of a finished run."""
    time_taken = "" if run.wall_s is None else f", {format_seconds(run.wall_s)}"
    return f"{run.n_tokens:,} tokens{time_taken}, {_losses(run.losses)}"


def _losses(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())


def occupancy_words(outcome: Outcome) -> str | None:
    """When training began and how busy the GPUs were; None if no run took a step."""
    if outcome.first_step_s is None or outcome.later_s is None:
        return None
    words = f"first step after {format_seconds(outcome.first_step_s)}"
    if outcome.occupancy is not None:
        words += (
            f"; in the {format_seconds(outcome.later_s)} from then on GPUs were "
            f"{outcome.occupancy:.0%} busy (100% is an H100 with three runs of a size side by side)"
        )
    return words
