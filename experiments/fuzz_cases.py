"""Shared by the parts of ``fuzz.py``: run a case in its own process, run a command, odd values."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

KINDS = (
    "equal",
    "named",
    "healed",
    "silent",
    "unnamed",
    "unescaped",
    "user file changed",
    "traceback",
    "hang",
)
"""Outcomes of a case, from harmless to worst; the first three are correct."""

FAULTS = KINDS[3:]
MEMORY_BYTES = 4 << 30

LONE_SURROGATE = b"caf\xe9".decode("utf-8", "surrogateescape")
ODD_NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1e999",
    "-5",
    "-0",
    "0",
    "1e-400",
    "1e308",
    "1_000",
    "0x1F",
    "1,5",
    "1.5.2",
    "٣",
    "½",
    "10B",
    "1e18",
    "1e19",
    "9007199254740993",
    "99999999999999999999",
    "3e-4-sweep",
    "+3%",
    "50%",
    "--",
    "-",
    "NA",
    "n/a",
    "none",
    "true",
    "1e-3",
]
ODD_NAMES = (
    "",
    " ",
    'a"><script>alert(1)</script>',
    "<img src=x onerror=alert(1)>",
    "x[/b]",
    "[red]x[/red]",
    "[bold",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\x1b[31mred",
    "a\x00b",
    "a\nb",
    "a\tb",
    "\u202egnp.exe",
    "\ufeffname",
    "é" * 300,
    "x" * 5000,
    "../outside",
    "a|b",
    "| a | b |\n|---|---|",
    "a`b`*c*_d_",
    "$\\frac{1}{0}$",
    "{{7*7}}",
    "%s%n",
    "漢字",
    "🙂",
    "a,b",
    "'; DROP TABLE runs; --",
)
_TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|"
    r"\b(?!InputError|DamagedFileError|TrainingError|OSError)[A-Z][A-Za-z]*(?:Error|Exception): "
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Outcome:
    """Outcome of a case.

    Args:
        kind: One of ``KINDS``.
        about: A short description of the fault in the input.
        words: The printed text, or the exception.
    """

    kind: str
    about: str
    words: str = ""


@dataclass(frozen=True)
class Printed:
    """Output of a command, and its exit code (None after an exception)."""

    code: int | None
    out: str
    err: str

    @property
    def words(self) -> str:
        """Both streams."""
        return self.out + self.err


Body = Callable[[int, Path], Outcome]
"""Runs a case, given its number and an empty folder, and returns its outcome."""


# --------------------------------------------------------------------------------- a command
def call_dcpt(words: Sequence[str], folder: Path) -> Printed:
    """Run ``dcpt`` in this process, which serves only this case.

    Args:
        words: The arguments.
        folder: The working directory.
    """
    os.chdir(folder)
    texts = []
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = tempfile.NamedTemporaryFile(dir=folder.parent, delete=False)  # noqa: SIM115
        os.dup2(file.fileno(), number)
        errors = "strict" if number == 1 else "backslashreplace"
        stream = open(number, "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        texts.append(Path(file.name))
    code: int | None = 0
    sys.argv = ["dcpt", *words]
    try:
        runpy.run_module("dcpt", run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = None
        traceback.print_exc()
    for opened in (sys.stdout, sys.stderr):
        with suppress(Exception):
            opened.flush()
    out, err = (text.read_text(encoding="utf-8", errors="replace") for text in texts)
    return Printed(code, out, err)


def find_fault(printed: Printed) -> str | None:
    """Return the kind of a fault that is visible in any output, or None."""
    if printed.code is None or _TRACEBACK.search(printed.words):
        return "traceback"
    if has_control(printed.words):
        return "unescaped"
    silent = not printed.err.strip() and not printed.out.strip()
    if printed.code not in (0, 1, 2) or (printed.code and silent):
        return "unnamed"
    return None


def has_control(text: str) -> bool:
    """Whether a text could move a terminal's cursor or reverse its letters."""
    return _CONTROL.search(text) is not None


def load_modules() -> None:
    """Import everything once, so that a forked case costs milliseconds."""
    import dcpt

    for module in pkgutil.walk_packages(dcpt.__path__, "dcpt."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # Of an optional package.
                importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "pyarrow.parquet", "scipy.optimize", "safetensors.torch"):
        importlib.import_module(name)
    import transformers

    # transformers imports the modules of these names when they are first used.
    for name in ("LlamaForCausalLM", "AutoModelForCausalLM", "PreTrainedTokenizerFast"):
        getattr(transformers, name)


# --------------------------------------------------------------------------------- many cases
@dataclass
class _Child:
    number: int
    folder: Path
    began: float


def run_cases(
    numbers: Iterable[int], body: Body, limit_s: float, workers: int, keep: Path | None = None
) -> Iterator[tuple[int, Outcome, float]]:
    """Run cases, each in a forked process with its own folder.

    Args:
        numbers: Numbers of the cases.
        body: Runs a case.
        limit_s: Time in seconds after which a case counts as hanging and is killed.
        workers: Number of cases that run at the same time.
        keep: Folder that keeps the files; None deletes them.

    Yields:
        The number of a case, its outcome and its seconds, when it ends.
    """
    waiting, running = iter(numbers), dict[int, _Child]()
    left: int | None = next(waiting, None)
    while left is not None or running:
        while left is not None and len(running) < workers:
            folder = keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
            pid = _fork(left, folder, body)
            running[pid] = _Child(left, folder, time.monotonic())
            left = next(waiting, None)
        time.sleep(0.002)
        for pid, child in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            seconds = time.monotonic() - child.began
            hangs = not ended and seconds > limit_s
            if not ended and not hangs:
                continue
            _kill_group(pid)
            if hangs:
                os.waitpid(pid, 0)
            del running[pid]
            yield child.number, _read_outcome(child.folder, status, hangs), seconds
            if keep is None:
                shutil.rmtree(child.folder, ignore_errors=True)


def _fork(number: int, folder: Path, body: Body) -> int:
    """Start a case; returns the process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Cached hashes stay in the folder of the case, and nothing can be downloaded.
        os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "cache")}
        os.environ |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        case = folder / "case"
        case.mkdir()
        note_about(folder, "")
        try:
            outcome = body(number, case)
        except BaseException:
            outcome = Outcome("traceback", _read_about(folder), traceback.format_exc())
        (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))
    finally:
        os._exit(0)


def note_about(folder: Path, about: str) -> None:
    """Save the description of a case, so that the parent has it if the case hangs."""
    (folder / "about.json").write_text(json.dumps(about))


def _read_about(folder: Path) -> str:
    return str(json.loads((folder / "about.json").read_text()))


def _read_outcome(folder: Path, status: int, hangs: bool) -> Outcome:
    if hangs:
        return Outcome("hang", _read_about(folder), "the time limit")
    try:
        return Outcome(**json.loads((folder / "outcome.json").read_text()))
    except (OSError, ValueError):
        return Outcome("traceback", _read_about(folder), f"the process died: status {status}")


def _kill_group(pid: int) -> None:
    """Kill the processes that a case left behind, such as workers."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


# --------------------------------------------------------------------------------- bytes
def damage_bytes(content: bytes, rng: Random) -> tuple[bytes, str]:
    """Damage content at random; returns it and a description."""
    at = rng.randrange(len(content) + 1)
    how = rng.choice(["cut", "emptied", "flipped", "inserted", "reencoded", "doubled"])
    if how == "cut":
        return content[:at], f"cut after {at} bytes"
    if how == "emptied":
        return b"", "emptied"
    if how == "flipped" and content:
        damaged = bytearray(content)
        places = [rng.randrange(len(content)) for _ in range(3)]
        for place in places:
            damaged[place] ^= 1 << rng.randrange(8)
        return bytes(damaged), f"bits flipped in bytes {places}"
    if how == "reencoded":
        code = rng.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-be", "cp037"])
        return content.decode("utf-8", "replace").encode(code, "replace"), f"encoded as {code}"
    if how == "doubled":
        return content + content, "written twice"
    junk = rng.choice([b"\x00", b"\xff\xfe", b"\r", b'"', b"\x1a", b"\xef\xbb\xbf", b"\x1b[2J"])
    return content[:at] + junk + content[at:], f"{junk!r} inserted after {at} bytes"


def random_of(seed: int, part: str, number: int) -> Random:
    """Return the random numbers of a case, the same in every call and on every machine."""
    return Random(f"{seed}:{part}:{number}")
