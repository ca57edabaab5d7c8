"""Leases: one process owns a folder, whatever the locks of its file system do."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dcpt import leases
from dcpt.leases import (
    SILENT_S,
    UNWRITTEN_S,
    LeaseLostError,
    hold,
    holder,
    is_held,
    wait_and_hold,
)
from dcpt.process_ids import id_space, started_at


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the process that watches."""
    clock = Clock()
    monkeypatch.setattr(leases.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(leases, "_SEEN", {})
    return clock


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    return tmp_path / "lease"


def files(stem: Path) -> list[str]:
    return sorted(path.name for path in stem.parent.glob("lease.*"))


def write_lease(stem: Path, number: int = 1, **changed: Any) -> Path:
    """Write the lease of another process: by default of one on another host."""
    path = stem.with_name(f"lease.{number}")
    path.touch()
    owner = {"token": "t", "host": "node-7", "pid": 1, "started": 5, "space": "elsewhere"}
    owner |= {"device": path.stat().st_dev, "inode": path.stat().st_ino}
    path.write_text(json.dumps({**owner, **changed}) + "\n000000000000\n")
    return path


def beat(path: Path, count: int) -> None:
    record, _ = path.read_text().splitlines()
    path.write_text(f"{record}\n{count:012d}\n")


def watch(stem: Path, clock: Clock, seconds: float) -> bool:
    """Look every second for some time; returns whether the lease was held at the last look."""
    for _ in range(int(seconds)):
        is_held(stem)
        clock.now += 1
    return is_held(stem)


@contextmanager
def child(stem: Path, body: str) -> Iterator[subprocess.Popen[str]]:
    """Another process of this machine, which holds the lease as ``lease`` and does the body."""
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom dcpt.leases import hold\n"
        f"with hold(Path(sys.argv[1])) as lease:\n    print(bool(lease), flush=True)\n    {body}"
    )
    command = [sys.executable, "-c", code, str(stem)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process


def test_a_lease_is_held_by_one_and_released(stem: Path) -> None:
    with hold(stem) as lease:
        assert lease is not None
        lease.check()
        assert is_held(stem)
        with hold(stem) as again:
            assert again is None
        owner = holder(stem)
        assert owner == lease.owner
    assert not is_held(stem)
    assert holder(stem) is None
    with hold(stem) as lease:
        assert lease is not None
    assert files(stem) == ["lease.2"]


def flock_fails(*_: object) -> None:
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("flock", [flock_fails, lambda *_: None], ids=["fails", "always succeeds"])
def test_ownership_needs_no_flock(stem: Path, monkeypatch: pytest.MonkeyPatch, flock: Any) -> None:
    for name in ("flock", "lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, flock)
    with child(stem, "time.sleep(60)") as other:
        with hold(stem) as lease:
            assert lease is None
        other.kill()
    with hold(stem) as lease:
        assert lease is not None


def test_the_lease_of_a_killed_process_is_free_even_before_its_parent_noticed(stem: Path) -> None:
    with child(stem, "os.kill(os.getpid(), 9)") as other:
        # The process is a zombie: nobody has waited for it.
        leases.os.waitid(leases.os.P_PID, other.pid, leases.os.WEXITED | leases.os.WNOWAIT)
        assert not is_held(stem)
        with hold(stem) as lease:
            assert lease is not None


FORK = """
import os, sys, time
from pathlib import Path
from dcpt import leases
leases.BEAT_S = 0.05
folder = Path(sys.argv[1])
with leases.hold(folder / "parents"):
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        with leases.hold(folder / "childs") as lease:
            print(lease.owner.pid != parent, leases.is_held(folder / "parents"), flush=True)
            sys.stdin.readline()
        sys.exit()  # it leaves the parent's `with`, too
    os.waitpid(pid, 0)
    print("waited", flush=True)
    sys.stdin.readline()
"""


def test_a_forked_process_owns_its_leases_alone(tmp_path: Path) -> None:
    command, pipe = [sys.executable, "-c", FORK, str(tmp_path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "True True\n"
        lease = tmp_path / "childs.1"
        before, deadline = lease.read_bytes(), time.monotonic() + 60
        with hold(tmp_path / "childs") as mine:
            assert mine is None
        while lease.read_bytes() == before:  # no heartbeat yet
            assert time.monotonic() < deadline
            time.sleep(0.01)
        parent.stdin.write("end\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "waited\n"
        assert is_held(tmp_path / "parents")
        assert not is_held(tmp_path / "childs")
        parent.stdin.write("end\n")


def test_a_process_with_the_id_of_a_dead_owner_is_another(stem: Path) -> None:
    started, space = started_at(), id_space()
    assert started is not None
    write_lease(stem, pid=leases.os.getpid(), started=started, space=space)
    assert is_held(stem)
    write_lease(stem, pid=leases.os.getpid(), started=started - 1, space=space)
    assert not is_held(stem)


def test_a_suspended_process_of_this_machine_keeps_its_lease(stem: Path, clock: Clock) -> None:
    started, space = started_at(), id_space()
    write_lease(stem, pid=leases.os.getpid(), started=started, space=space)
    assert watch(stem, clock, 10 * SILENT_S)


def test_a_copied_lease_is_free_when_its_heartbeat_stands_still(
    stem: Path, tmp_path: Path, clock: Clock
) -> None:
    copies = [tmp_path / "of_this_process", tmp_path / "of_another"]
    with hold(stem):
        shutil.copytree(tmp_path, copies[0], ignore=shutil.ignore_patterns("of_*"))
        with child(tmp_path / "other", "time.sleep(60)") as other:
            copies[1].mkdir()
            shutil.copy(tmp_path / "other.1", copies[1] / "lease.1")
            for copy in copies:
                assert watch(copy / "lease", clock, SILENT_S - 1)
                assert not watch(copy / "lease", clock, 2)
                with hold(copy / "lease") as lease:
                    assert lease is not None
            assert is_held(stem)
            assert is_held(tmp_path / "other")
            other.kill()


def test_an_owner_elsewhere_is_gone_when_its_heartbeat_stands_still(
    stem: Path, clock: Clock
) -> None:
    path = write_lease(stem)
    assert watch(stem, clock, SILENT_S - 1)
    beat(path, 1)
    assert watch(stem, clock, SILENT_S - 1)
    assert not watch(stem, clock, 2)
    with hold(stem) as lease:
        assert lease is not None
    assert files(stem) == ["lease.2"]


@pytest.mark.parametrize("skew_s", [-86_400.0, 86_400.0])
def test_clocks_of_other_hosts_do_not_count(stem: Path, clock: Clock, skew_s: float) -> None:
    path = write_lease(stem)
    for count in range(100):
        beat(path, count)
        leases.os.utime(path, (skew_s, path.stat().st_mtime + skew_s))
        assert is_held(stem)
        clock.now += 5


def test_an_outage_of_the_file_system_is_no_silence(stem: Path, clock: Clock) -> None:
    write_lease(stem)
    assert is_held(stem)
    clock.now += 3600  # no look came through
    assert is_held(stem)
    assert not watch(stem, clock, SILENT_S)


def test_a_lease_that_was_never_written_is_free_after_a_while(stem: Path, clock: Clock) -> None:
    stem.with_name("lease.1").touch()
    assert watch(stem, clock, UNWRITTEN_S - 1)
    assert not watch(stem, clock, 2)


def test_a_damaged_lease_keeps_its_owner_while_its_heart_beats(stem: Path, clock: Clock) -> None:
    with hold(stem) as lease:
        assert lease is not None
        lease.path.write_text(lease.path.read_text()[:60])
        for _ in range(20):
            assert watch(stem, clock, leases.BEAT_S)
            leases._HEART.beat()


def test_a_lease_that_a_full_disk_does_not_take_leaves_no_file(
    stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, *_: Any, **__: Any) -> Any:
        leases.os.close(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leases.os, "fdopen", refuse)
    with pytest.raises(OSError, match="No space"), hold(stem):
        pass
    assert files(stem) == []


def fail(*_: Any, **__: Any) -> Any:
    raise OSError(5, "Input/output error")


def test_a_release_that_cannot_be_written_comes_with_a_later_heartbeat(
    stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(leases, "_write_beat", fail)
        with hold(stem):
            pass
    assert holder(stem) is not None  # what other processes see
    assert not is_held(stem)
    leases._HEART.beat()
    assert holder(stem) is None
    with hold(stem) as lease:
        assert lease is not None


@pytest.mark.parametrize("broken", ["listing", "listing and deleting"])
def test_a_lease_whose_taking_fails_is_not_waited_for(
    stem: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    looks: Iterator[Any] = iter([list, fail])
    with monkeypatch.context() as away:
        away.setattr(leases, "_numbers", lambda _: next(looks)())
        if "deleting" in broken:
            away.setattr(Path, "unlink", fail)
            away.setattr(leases, "_write_beat", fail)
        with pytest.raises(OSError, match="Input/output"), hold(stem):
            pass
    assert not is_held(stem)
    with hold(stem) as lease:
        assert lease is not None


def test_an_old_lease_that_cannot_be_deleted_does_not_count(
    stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold(stem):
        pass
    with monkeypatch.context() as away:
        away.setattr(Path, "unlink", fail)
        with hold(stem) as lease:
            assert lease is not None
            lease.check()
    assert files(stem) == ["lease.1", "lease.2"]
    with hold(stem):
        assert files(stem) == ["lease.3"]


def test_who_lost_the_lease_notices_and_leaves_the_successor_alone(stem: Path) -> None:
    with hold(stem) as lease:
        assert lease is not None
        lease.path.unlink()
        successor = write_lease(stem, number=2)
        before = successor.read_bytes()
        leases._HEART.beat()
        with pytest.raises(LeaseLostError, match="another process took over") as lost:
            lease.check()
        assert str(stem.parent) in str(lost.value)
    assert successor.read_bytes() == before
    assert files(stem) == ["lease.2"]


def test_a_heartbeat_moves_the_counter(stem: Path) -> None:
    with hold(stem) as lease:
        assert lease is not None
        before = lease.path.read_bytes()
        leases._HEART.beat()
        after = lease.path.read_bytes()
        assert before != after
        assert len(before) == len(after)
        lease.check()


def test_a_slow_process_withdraws_a_number_that_is_too_low(
    stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: Iterator[list[int]] = iter([[], [1, 3]])  # 1 to 3 came and went since the first look
    monkeypatch.setattr(leases, "_numbers", lambda _: next(looks))
    write_lease(stem, number=3)
    with hold(stem) as lease:
        assert lease is None
    assert files(stem) == ["lease.3"]


RACER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from dcpt.leases import hold
folder, n = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with ExitStack() as held:
    won = [i for i in range(n) if held.enter_context(hold(folder / f"{i}.lease"))]
    print(*won, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("before", ["nothing", "a dead owner"])
def test_two_processes_that_race_for_200_runs_never_both_own_one(
    tmp_path: Path, before: str
) -> None:
    n, space = 200, id_space()
    if before == "a dead owner":
        for i in range(n):
            path = write_lease(tmp_path / "lease", pid=2**22 - 1, space=space)
            path.rename(tmp_path / f"{i}.lease.1")
    command = [sys.executable, "-c", RACER, str(tmp_path), str(n)]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        racers = [
            stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
            for _ in range(2)
        ]
        won: Counter[str] = Counter()
        for line in ("ready\n", None):
            for racer in racers:
                assert racer.stdout is not None
                found = racer.stdout.readline()
                assert line in (None, found)
                won.update(found.split() if line is None else ())
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write("go\n")
                racer.stdin.flush()
    assert sorted(won, key=int) == [str(i) for i in range(n)]
    assert set(won.values()) == {1}


def test_waiting_ends_when_the_owner_is_gone(stem: Path) -> None:
    with child(stem, "time.sleep(0.3)"), wait_and_hold(stem) as lease:
        lease.check()
        assert holder(stem) == lease.owner
