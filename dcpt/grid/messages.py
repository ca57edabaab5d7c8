"""What the engine and its workers send each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Start:
    """To a worker: train this run.

    Attributes:
        config: The run's configuration, as JSON holds it.
    """

    config: Mapping[str, Any]


@dataclass(frozen=True)
class Compile:
    """To a worker without runs: compile the model of a run that will be sent to some worker.

    Attributes:
        config: The run's configuration, as JSON holds it.
    """

    config: Mapping[str, Any]


@dataclass(frozen=True)
class Release:
    """To a worker: save this run and end it, since another worker takes it over.

    Attributes:
        run: Its name.
    """

    run: str


@dataclass(frozen=True)
class Stop:
    """To a worker: save all runs and leave."""


@dataclass(frozen=True)
class Ready:
    """From a worker, as its first message: a run that was sent may have started."""


@dataclass(frozen=True)
class Progress:
    """From a worker, several times a second.

    Attributes:
        reached: Tokens that each of its runs has reached, by name.
    """

    reached: Mapping[str, int]


@dataclass(frozen=True)
class End:
    """From a worker: a run ended.

    Attributes:
        run: Its name.
        state: A state of ``dcpt.training.lanes.Ended``.
        words: Why it failed, or why another process has it now.
    """

    run: str
    state: str
    words: str = ""


ToWorker = Start | Compile | Release | Stop
FromWorker = Ready | Progress | End
