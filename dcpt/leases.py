"""Leases: which process owns a folder, also on file systems whose locks do not work.

Shared file systems of clusters refuse every ``flock`` or grant every ``flock``. A lease needs only
that a file is created by one process alone (``O_EXCL``), which NFS and Lustre keep.

The leases of a folder are numbered files, ``lease.1``, ``lease.2``; the highest counts. Whoever
finds it released, or its owner gone, creates the next number, which one process alone can do. It
then deletes the lower numbers. A file is never taken over, renamed or created again for another
owner, so no process can end the lease of another by mistake. A process that was slow and created a
number below the highest withdraws it.

An owner on this machine is gone when its process is: its id and start time tell. An owner
elsewhere, or of a lease that was copied with its folder, is gone when its heartbeat, a counter in
the file, has stood still for ``SILENT_S`` on the clock of the process that watches: clocks of
different hosts are never compared. A lease that names no owner is free after ``UNWRITTEN_S``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dcpt.errors import InputError
from dcpt.process_ids import id_space, is_alive, started_at

BEAT_S = 5.0
"""Seconds between two heartbeats of a lease."""

SILENT_S = 120.0
"""Seconds without a heartbeat after which an owner whose process cannot be seen is gone. Shorter,
and a busy file server would cost runs their owner; longer, and the runs of a lost node wait."""

UNWRITTEN_S = 4 * BEAT_S
"""The same for a lease that names no owner. Its owner died before it could write its name, in the
first milliseconds, or the file is damaged and still shows the heartbeats of its owner."""

_LONGEST_LOOK_S = 2 * BEAT_S
"""Most seconds of silence that two looks in a row tell. After an outage of the file server the
watcher may read before the owner could write its next heartbeat."""

_WAIT_S = 0.5
_RELEASED = "released"


class LeaseLostError(InputError):
    """Another process owns what this process was working on."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lease.

    Args:
        token: A random name of this lease.
        host: Name of its machine.
        pid: Id of its process.
        started: When the process started, in the kernel's ticks; None where that is not known.
        space: The machine since its last start, and the container: where ``pid`` has a meaning.
        device: The file system of the lease's file, as this machine numbers it.
        inode: The file's number there; a copy of the file has another.
    """

    token: str
    host: str
    pid: int
    started: int | None
    space: str
    device: int
    inode: int


@dataclass(frozen=True)
class Lease:
    """A lease that a process holds; it can be sent to the other processes of a run.

    Args:
        path: Its file.
        owner: The process.
    """

    path: Path
    owner: Owner

    def check(self) -> None:
        """Check that the lease still holds.

        Raises:
            LeaseLostError: If another process took over.
        """
        try:
            found = read_owner(self.path)
        except FileNotFoundError:
            found = None
        if found != self.owner:
            raise LeaseLostError(
                f"{self.path.parent}: another process took over, since this one gave no sign of "
                f"life for {SILENT_S:.0f} s (it was paused, or the file system was away); this "
                "process stops here, and the other goes on from the last saved state"
            )


def no_owner() -> None:
    """The check of work that needs no owner, such as that of a caller with a folder to itself."""


@contextmanager
def hold(stem: Path) -> Iterator[Lease | None]:
    """Hold a lease inside the ``with`` statement; yields None if another process holds it.

    Args:
        stem: Folder and name of its files, without the number. The folder must exist.
    """
    lease = _take(stem)
    try:
        yield lease
    finally:
        if lease is not None:
            _HEART.release(lease)


@contextmanager
def wait_and_hold(
    stem: Path, on_wait: Callable[[Owner | None], None] = lambda _: None
) -> Iterator[Lease]:
    """Hold a lease inside the ``with`` statement, once no other process holds it.

    Args:
        stem: Folder and name of its files, without the number. The folder must exist.
        on_wait: Called twice a second with the process that is waited for; what it raises ends the
            waiting.
    """
    while (lease := _take(stem)) is None:
        on_wait(holder(stem))
        time.sleep(_WAIT_S)
    try:
        yield lease
    finally:
        _HEART.release(lease)


def is_held(stem: Path) -> bool:
    """Whether a process holds the lease; needs only permission to read.

    Of an owner whose process cannot be seen this is known only after ``SILENT_S`` of looking.
    """
    number = _highest(stem)
    return number is not None and not _is_free(_numbered(stem, number))


def holder(stem: Path) -> Owner | None:
    """The owner of a lease that is not released, whether its process is alive or not."""
    number = _highest(stem)
    if number is None:
        return None
    with suppress(FileNotFoundError):
        return read_owner(_numbered(stem, number))
    return None


def last_beat(stem: Path) -> float | None:
    """Time of the last heartbeat by the clock of its machine or file server, to be shown only."""
    number = _highest(stem)
    if number is None:
        return None
    with suppress(FileNotFoundError):
        return _numbered(stem, number).stat().st_mtime
    return None


def read_owner(path: Path) -> Owner | None:
    """The owner that a lease names; None if it is released, or is being written.

    Raises:
        FileNotFoundError: If it is not there.
    """
    record, _, beat = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    if beat.startswith(_RELEASED):
        return None
    try:
        return Owner(**json.loads(record))
    except (ValueError, TypeError):
        return None


def _take(stem: Path) -> Lease | None:
    """Create the next lease; None if the highest is held, or another process was faster."""
    highest = _highest(stem)
    if highest is not None and not _is_free(_numbered(stem, highest)):
        return None
    number = (highest or 0) + 1
    path = _numbered(stem, number)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    about = os.fstat(descriptor)
    owner = Owner(
        secrets.token_hex(8),
        socket.gethostname(),
        os.getpid(),
        started_at(),
        id_space(),
        about.st_dev,
        about.st_ino,
    )
    lease = Lease(path, owner)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(f"{json.dumps(asdict(owner))}\n{_beat(0)}\n")
        numbers = _numbers(stem)
    except OSError:  # the disk is full: a lease that nobody uses would be waited for
        _withdraw(lease)
        raise
    # Higher numbers may have come and the one created here may have been deleted since the look.
    if max(numbers, default=number) > number:
        _withdraw(lease)
        return None
    _HEART.add(lease)
    for lower in numbers:
        if lower < number:
            with suppress(OSError):  # it does not count; the next owner tries again
                _numbered(stem, lower).unlink()
    return lease


def _withdraw(lease: Lease) -> None:
    """Delete a lease that this process created and does not use."""
    try:
        lease.path.unlink(missing_ok=True)
    except OSError:
        _HEART.give_up(lease)


def _numbered(stem: Path, number: int) -> Path:
    return stem.with_name(f"{stem.name}.{number}")


def _numbers(stem: Path) -> list[int]:
    """Numbers of the leases that are there."""
    name = re.compile(re.escape(stem.name) + r"\.(\d+)")
    try:
        found = map(name.fullmatch, os.listdir(stem.parent))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(match[1]) for match in found if match is not None]


def _highest(stem: Path) -> int | None:
    return max(_numbers(stem), default=None)


def _beat(count: int) -> str:
    """The second line of a lease; all have the same length, since they are written in place."""
    return f"{count:012d}"


class _Heart:
    """Writes the heartbeats of all leases of this process, in a thread of its own."""

    def __init__(self) -> None:
        self._held: dict[str, Lease] = {}
        self._given_up: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._count = 0

    def __contains__(self, token: str) -> bool:
        return token in self._held

    def gave_up(self, token: str) -> bool:
        """Whether this process has ended a lease, and its file does not say so yet."""
        return token in self._given_up

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.owner.token] = lease
            self._start()

    def release(self, lease: Lease) -> None:
        """Mark a lease as released, unless another process has taken over."""
        with self._lock:
            held = self._held.pop(lease.owner.token, None)
        if held is not None:  # a forked process leaves the lease of its parent alone
            self.give_up(lease)

    def give_up(self, lease: Lease) -> None:
        """Mark a lease as released; if its file cannot be written now, with a later heartbeat."""
        with self._lock:
            self._given_up[lease.owner.token] = lease
            self._mark_released()
            self._start()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
            self._thread.start()

    def _mark_released(self) -> None:
        for token, lease in list(self._given_up.items()):
            try:
                if read_owner(lease.path) == lease.owner:
                    _write_beat(lease, f"{_RELEASED:<12}")
            except FileNotFoundError:  # another process has taken over
                pass
            except OSError:
                continue
            del self._given_up[token]

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_S)
            self.beat()

    def beat(self) -> None:
        with self._lock:
            self._count += 1
            for lease in self._held.values():
                # A beat that cannot be written comes 5 s later; `check` sees a lost lease.
                with suppress(OSError):
                    _write_beat(lease, _beat(self._count))
            self._mark_released()


def _write_beat(lease: Lease, beat: str) -> None:
    """Replace the second line. A file system of a cluster sends it to the others on closing."""
    with lease.path.open("r+b") as file:  # this mode creates no file
        file.seek(len(json.dumps(asdict(lease.owner))) + 1)
        file.write(beat.encode())


_HEART = _Heart()


def _forget_parent() -> None:
    """Start without leases in a forked process, which has another id and no thread of beats."""
    global _HEART
    _HEART = _Heart()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_parent)

_SEEN: dict[Path, tuple[bytes, float, float]] = {}
"""What was last read from the leases of owners that cannot be seen, when, and for how long it has
not changed, in seconds."""


def _is_free(path: Path) -> bool:
    """Whether a lease is released or its owner gone; one that is not there has a successor."""
    try:
        content = path.read_bytes()
        owner, about = read_owner(path), path.stat()
    except FileNotFoundError:
        return False
    if owner is None and content.rstrip().endswith(_RELEASED.encode()):
        return True
    alive = None if owner is None else _is_alive(owner)
    # A living process that a copied lease names works on the original. A dead one owns neither.
    if owner is not None and (owner.device, owner.inode) != (about.st_dev, about.st_ino) and alive:
        alive = None
    if alive is None:
        return _silence(path, content) >= (UNWRITTEN_S if owner is None else SILENT_S)
    return not alive


def _silence(path: Path, content: bytes) -> float:
    """For how long the content has not changed, in seconds of this process's clock."""
    now = time.monotonic()
    known, looked, silent_s = _SEEN.get(path, (b"", now, 0.0))
    silent_s = silent_s + min(now - looked, _LONGEST_LOOK_S) if known == content else 0.0
    _SEEN[path] = content, now, silent_s
    return silent_s


def _is_alive(owner: Owner) -> bool | None:
    """Whether the owner's process is alive; None if that cannot be seen from here."""
    if owner.token in _HEART:
        return True
    if _HEART.gave_up(owner.token):
        return False
    return is_alive(owner.pid, owner.started, owner.space)
