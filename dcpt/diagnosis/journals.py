"""Data that only the run folders of a study hold: training losses, and runs that stopped."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import CHOSEN, RunConfig
from dcpt.runs.names import table_names
from dcpt.runs.stored import StoredRuns


@dataclass(frozen=True)
class Journal:
    """Data of a trunk beyond its points.

    Args:
        lines: (D, loss by the table's channel names) of each logged training line, D ascending.
        stopped: Message of the loss that was not finite and stopped the trunk or a branch, if any.
        n_tokens: D of the last point before it stopped; None without such a point.
        ended: Whether the trunk has all points that were planned.
    """

    lines: tuple[tuple[int, dict[str, float]], ...] = ()
    stopped: str | None = None
    n_tokens: int | None = None
    ended: bool = True


def read_journals(stored: StoredRuns, asked: Collection[str]) -> dict[str, Journal]:
    """Read the journals of a study's runs, by the run names of its table.

    Args:
        stored: What the study's run folders hold.
        asked: Hashes of the trunks and branches that the study asks for; runs that were trained to
            narrow or to verify a decision are read as well.
    """
    trunks = stored.trunk_names
    found: dict[str, Journal] = {}
    for folder, config in stored.sound:
        identity = config.identity
        if identity.hash not in asked and config.recorded.purpose not in CHOSEN:
            continue
        name = trunks.get(identity.trunk or identity.hash, folder.path.name)
        before = found.get(name, Journal())
        stopped = _why_stopped(folder)
        points = folder.points() if stopped is not None else []
        found[name] = Journal(
            lines=_lines(folder, config) if identity.kind == "trunk" else before.lines,
            stopped=stopped or before.stopped,
            n_tokens=int(points[-1]["n_tokens"]) if points else before.n_tokens,
            ended=folder.is_done(config) if identity.kind == "trunk" else before.ended,
        )
    return found


def _why_stopped(folder: RunFolder) -> str | None:
    error = folder.error() or {}
    return str(error["message"]) if error.get("kind") == "not_finite" else None


def _lines(folder: RunFolder, config: RunConfig) -> tuple[tuple[int, dict[str, float]], ...]:
    """Logged training lines; after a resume the later lines of the same tokens count."""
    names = table_names(config.identity.channels)
    lines: list[tuple[int, dict[str, float]]] = []
    events: list[dict[str, Any]] = [event for event in folder.events() if event["event"] == "train"]
    for event in events:
        while lines and lines[-1][0] >= event["n_tokens"]:
            lines.pop()
        losses = {names[name]: loss for name, loss in event["channel_loss"].items()}
        lines.append((event["n_tokens"], losses))
    return tuple(lines)
