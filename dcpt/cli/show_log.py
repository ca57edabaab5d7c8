"""The output of ``dcpt logs``: the state of a run, and the ends of the files it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dcpt.cli.show_status import status_record
from dcpt.grid.run_log import RunLog
from dcpt.quantities import format_rate


def log_lines(log: RunLog) -> list[str]:
    """What a run's folder tells, for people."""
    status = log.status
    end = status.planned.config.recorded.n_tokens
    lines = [
        f"{status.name}: {status.state}, {status.n_tokens:,} of {end:,} tokens",
        f"folder: {log.folder.path}",
    ]
    if log.owner is not None:
        process = f"process: {log.owner.pid} on {log.owner.host}"
        if status.beat is not None:
            at = datetime.fromtimestamp(status.beat).isoformat(sep=" ", timespec="seconds")
            process += f", last sign of life {at}"
        lines.append(process)
    if status.state == "damaged" and status.error is not None:
        lines.append(status.error.sentence)
    if log.events:
        lines += ["", f"the end of {log.folder.metrics.name}:", *map(_event_line, log.events)]
    if log.error is not None:
        trace = str(log.error.get("traceback", "")).rstrip().splitlines()
        lines += ["", f"failed: {log.error['message']}", *trace]
    if log.stacks:
        lines += ["", "the end of stacks.txt:", *log.stacks]
    return lines


def _event_line(event: Mapping[str, Any]) -> str:
    """A line of the journal for people; an event without the usual fields as it is."""
    try:
        return _known_line(event)
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version, or a person
        return f"{event['event']}  {dict(event)}"


def _known_line(event: Mapping[str, Any]) -> str:
    match event["event"]:
        case "train":
            rate, speed = event.get("learning_rate"), event.get("tokens_per_s")
            parts = [f"train  {event['n_tokens']:>15,} tokens", f"loss {event['loss']:.3f}"]
            parts += [] if rate is None else [f"rate {format_rate(rate)}"]
            parts += [] if speed is None else [f"{speed:,.0f} tokens/s"]
            return "  ".join(parts)
        case "point":
            losses = "  ".join(f"{name} {loss:.3f}" for name, loss in event["loss"].items())
            return f"point  {event['n_tokens']:>15,} tokens  {losses}"
        case "note":
            return f"note   {event['words']}"
        case other:
            return f"{other}  {dict(event)}"


def log_record(log: RunLog) -> dict[str, Any]:
    """What a run's folder tells, for programs."""
    owner = None if log.owner is None else {"host": log.owner.host, "pid": log.owner.pid}
    return {
        **status_record(log.status),
        "folder": str(log.folder.path),
        "owner": owner,
        "events": log.events,
        "failure": log.error,
        "stacks": log.stacks,
    }
