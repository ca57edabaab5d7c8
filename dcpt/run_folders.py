"""A run's folder on disk, and the small JSON files of a study.

Training writes these folders and the runs table is read from them. No torch, scipy or pandas here.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from dcpt.atomic_files import read_json, write_json
from dcpt.runs import RunConfig, drifted_fields

ErrorKind = Literal["not_finite", "out_of_memory", "device", "disk", "killed", "input", "other"]
"""What made a run fail, as ``error.json`` says it; older files do not."""


class RunFolder:
    """One run on disk: configuration, metrics, states, and how it ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, runs: Path) -> RunFolder:
        """The run's folder below ``runs``: the one that holds its hash, under whatever slug."""
        return cls.find(config.identity.hash, runs) or cls(runs / config.name)

    @classmethod
    def find(cls, identity_hash: str, runs: Path) -> RunFolder | None:
        """The folder below ``runs`` of the run with this hash, None if there is none."""
        found = sorted(runs.glob(f"*-{identity_hash}"))
        return cls(found[0]) if found else None

    @property
    def metrics(self) -> Path:
        """``metrics.jsonl``: one JSON object a line, append-only."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The state written every so often, to resume from."""
        return self.path / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        """The finished run as an ordinary model folder."""
        return self.path / "model"

    def state(self, n_tokens: int) -> Path:
        """The full state kept at ``n_tokens``."""
        return self.path / f"state-{n_tokens}.safetensors"

    def states(self) -> dict[int, Path]:
        """All kept states by their tokens."""
        found = self.path.glob("state-*.safetensors")
        return {int(path.stem.removeprefix("state-")): path for path in found}

    def config(self) -> RunConfig | None:
        """The run's stored configuration."""
        stored = read_json(self.path / "config.json")
        return None if stored is None else RunConfig.model_validate(stored)

    def write_config(self, config: RunConfig) -> None:
        """Store the configuration. What is recorded may change between calls, the identity not."""
        self.path.mkdir(parents=True, exist_ok=True)
        stored = self.config()
        if stored is not None:
            drift = drifted_fields(stored.identity, config.identity)
            assert not drift, f"{self.path} holds another run: {', '.join(drift)} differ"
        if stored != config:
            write_json(self.path / "config.json", config.model_dump(mode="json"))

    def result(self) -> dict[str, Any] | None:
        """``result.json``, written last: its presence means done."""
        found: dict[str, Any] | None = read_json(self.path / "result.json")
        return found

    def error(self) -> dict[str, Any] | None:
        """``error.json``: the traceback after a failure."""
        found: dict[str, Any] | None = read_json(self.path / "error.json")
        return found

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Declare the run done and clear what only an unfinished run needs."""
        write_json(self.path / "result.json", dict(result))
        self.checkpoint.unlink(missing_ok=True)
        (self.path / "error.json").unlink(missing_ok=True)

    def is_done(self, config: RunConfig) -> bool:
        """Whether the run reached its length and holds the states and the model asked of it."""
        result = self.result()
        if result is None or result["n_tokens"] < config.recorded.n_tokens:
            return False
        if config.recorded.save_model and not self.model.is_dir():
            return False
        return all(self.state(n).exists() for n in config.recorded.keep_state_at)

    def events(self) -> Iterator[dict[str, Any]]:
        """Lines of ``metrics.jsonl`` in order; a torn last line is forgiven."""
        if not self.metrics.exists():
            return
        for line in self.metrics.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)

    def open_metrics(self) -> IO[str]:
        """Open ``metrics.jsonl`` for appending; a torn last line of a killed process goes first."""
        if self.metrics.exists():
            content = self.metrics.read_bytes()
            os.truncate(self.metrics, content.rfind(b"\n") + 1)
        return self.metrics.open("a", encoding="utf-8", buffering=1)

    def points(self) -> list[dict[str, Any]]:
        """Evaluations by rising tokens; a resumed run's repeated point counts once."""
        found = {event["n_tokens"]: event for event in self.events() if event["event"] == "point"}
        return [found[n] for n in sorted(found)]

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the run's lock; yields False if another process holds it. Death releases it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def is_locked(self) -> bool:
        """Whether some process is training the run now; looking needs no right to write."""
        try:
            with (self.path / "lock").open() as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def stored_runs(runs: Path) -> list[tuple[RunFolder, RunConfig]]:
    """All runs below a study's ``runs``, by the names of their folders."""
    folders = [RunFolder(path.parent) for path in sorted(runs.glob("*/config.json"))]
    return [(folder, config) for folder in folders if (config := folder.config()) is not None]


def trunk_names(stored: Sequence[tuple[RunFolder, RunConfig]]) -> dict[str, str]:
    """What the runs table calls each trunk, by its hash: the name of its folder."""
    return {
        config.identity.hash: folder.path.name
        for folder, config in stored
        if config.identity.kind == "trunk"
    }


def write_error(folder: RunFolder, message: str, trace: str, kind: ErrorKind = "other") -> str:
    """Leave ``error.json`` in a run's folder; returns the message, which arrives in any case."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(
            folder.path / "error.json", {"message": message, "traceback": trace, "kind": kind}
        )
    except OSError as full:  # a full disk takes the error file too
        message += f" (and error.json could not be written: {full})"
    return message
