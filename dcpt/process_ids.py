"""Process ids that tell whether a process is alive: an id alone is given again to a later one."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import uuid
from functools import cache
from pathlib import Path


@cache
def started_at() -> int | None:
    """When this process started, in the kernel's ticks; None where that is not known."""
    return _state_and_start(os.getpid())[1]


@cache
def id_space() -> str:
    """Where process ids mean what they mean here: this start of this machine, in this container."""
    if sys.platform != "linux":
        return f"{socket.gethostname()} {uuid.getnode()}"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # then no other process can be seen
        return secrets.token_hex(8)


def is_alive(pid: int, started: int | None, space: str) -> bool | None:
    """Whether a process is alive; None if that cannot be seen from here.

    Args:
        pid: Its id.
        started: Its ``started_at``.
        space: Its ``id_space``.
    """
    if space != id_space() or os.name == "nt":
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, of another user
        pass
    state, found = _state_and_start(pid)
    if state in ("Z", "X"):  # killed, and not yet noticed by its parent
        return False
    if found is None or started is None:
        return None
    return found == started  # else the id belongs to a later process


def _state_and_start(pid: int) -> tuple[str | None, int | None]:
    """A process's state and start, in ticks since the machine's start; None where not known."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux, or the process is hidden from other users
        return None, None
    fields = about.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], int(fields[19])


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=started_at.cache_clear)
