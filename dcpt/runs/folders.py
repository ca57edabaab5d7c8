"""A run's folder on disk, which training writes and the runs table is read from."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dcpt.atomic_files import (
    DamagedFileError,
    make_room,
    read_record,
    set_aside,
    write_bytes,
    write_record,
)
from dcpt.file_hashes import file_sha256, file_state
from dcpt.leases import Lease, hold, is_held
from dcpt.runs.cancelled import take_back
from dcpt.runs.identity import RunConfig, drifted_fields, hash_record
from dcpt.runs.records import check_result, first_problem, read_events, read_lines, readable_lines

REMEDY = "`dcpt run-grid` (or `verify`) sets it aside and trains what is missing"
"""Ends the message about a damaged file of a run."""

LEASE = "lease"
"""Name of the files in a run's folder that say which process owns it, see ``dcpt.leases``."""

NAME = re.compile(r"-([0-9a-f]{8})$")
"""The end of the name of a run's folder: its hash."""


_SOUND: dict[Path, tuple[list[list[int]], dict[str, str]]] = {}
"""Folders whose records are valid: the states of the record files, and the hashes of other files in
the result. Unchanged files are not read again."""


class RunFolder:
    """One run on disk: configuration, metrics, states, and how it ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, runs: Path) -> RunFolder:
        """The run's folder below ``runs``, found by the hash in its name."""
        return cls.find(config.identity.hash, runs) or cls(runs / config.name)

    @classmethod
    def find(cls, identity_hash: str, runs: Path) -> RunFolder | None:
        """The folder below ``runs`` of the run with this hash, None if there is none."""
        found = sorted(path for path in runs.glob(f"*-{identity_hash}") if path.is_dir())
        return cls(found[0]) if found else None

    @property
    def metrics(self) -> Path:
        """``metrics.jsonl``: a JSON object per line, append-only."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The state saved at intervals, to resume from."""
        return self.path / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        """The finished run as an ordinary model folder."""
        return self.path / "model"

    def state(self, n_tokens: int) -> Path:
        """The full state saved at ``n_tokens``."""
        return self.path / f"state-{n_tokens}.safetensors"

    def states(self) -> dict[int, Path]:
        """All saved states by their tokens; files of other names are ignored."""
        found = {p.stem.removeprefix("state-"): p for p in self.path.glob("state-*.safetensors")}
        return {int(tokens): path for tokens, path in found.items() if tokens.isdecimal()}

    # ------------------------------------------------------------------ records
    def config(self) -> RunConfig | None:
        """The run's stored configuration, None if nothing was written yet.

        Raises:
            DamagedFileError: If it cannot be read, belongs to another run, or is missing.
        """
        path = self.path / "config.json"
        stored = read_record(path, REMEDY)
        if stored is None:
            if self.metrics.exists() or (self.path / "result.json").exists():
                raise DamagedFileError(path, "it is missing", REMEDY)
            return None
        try:
            # The stored fields are hashed: this version may have more of them.
            found = hash_record(stored.get("identity"))
            config = RunConfig.model_validate(stored)
        except ValueError as error:  # pydantic's errors are ValueErrors
            raise DamagedFileError(path, first_problem(error), REMEDY) from None
        if not self.path.name.endswith(f"-{found}"):
            reason = f"its {path.name} is of run {found}, but its name does not end in that hash"
            remedy = "restore its name, or move it away; `dcpt run-grid` trains what is missing"
            raise DamagedFileError(self.path, reason, remedy)
        return config

    def write_config(self, config: RunConfig) -> None:
        """Store the configuration. A later call may change what is recorded, not the identity."""
        self.path.mkdir(parents=True, exist_ok=True)
        stored = self.config() if (self.path / "config.json").exists() else None
        if stored is not None:
            drift = drifted_fields(stored.identity, config.identity)
            assert not drift, f"{self.path} holds another run: {', '.join(drift)} differ"
        if stored != config:
            write_record(self.path / "config.json", config.model_dump(mode="json"))

    def result(self) -> dict[str, Any] | None:
        """``result.json``, which is written last: if it exists, the run is done.

        Raises:
            DamagedFileError: If it is not a valid result.
        """
        path = self.path / "result.json"
        found = read_record(path, REMEDY)
        if found is not None:
            try:
                check_result(found)
            except ValueError as error:
                raise DamagedFileError(path, first_problem(error), REMEDY) from None
        return found

    def write_result(self, result: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Mark the run as done, and delete files that only an unfinished run needs.

        Args:
            result: The result.
            files: Files that other runs start from; their hashes are checked before that.
        """
        about: dict[str, Any] = {
            "files": {path.relative_to(self.path).as_posix(): file_sha256(path) for path in files}
        }
        if deleted := self.deleted_states():
            about["deleted_states"] = deleted
        if self.metrics.exists():
            with self.metrics.open("rb+") as metrics:
                content = metrics.read()
                os.fsync(metrics.fileno())  # the points must be on disk before the result
            digest = hashlib.sha256(content).hexdigest()
            about["metrics"] = {"bytes": len(content), "sha256": digest}
        write_record(self.path / "result.json", {**result, **about})
        make_room(self.checkpoint)
        self.checkpoint.unlink(missing_ok=True)
        self.clear_error()
        take_back(self.path)  # a request that came too late

    def deleted_states(self) -> list[int]:
        """Tokens of the states that were deleted because no run needed them any more."""
        deleted = (self.result() or {}).get("deleted_states", [])
        return [n for n in deleted if not self.state(n).exists()]

    def delete_states(self, tokens: Collection[int]) -> None:
        """Delete states of a finished run, and note that in its result.

        Args:
            tokens: Tokens of states that exist.
        """
        result = self.result()
        assert result is not None, f"{self.path} is not done"
        deleted = sorted({*self.deleted_states(), *tokens})
        # Noted first: a killed process leaves a state too many, never one that is missed.
        write_record(self.path / "result.json", {**result, "deleted_states": deleted})
        for n_tokens in tokens:
            self.state(n_tokens).unlink(missing_ok=True)

    def error(self) -> dict[str, Any] | None:
        """``error.json``: message and traceback of a failure, or the message that it is damaged."""
        path = self.path / "error.json"
        try:
            found = read_record(path, REMEDY)
            if found is not None and not isinstance(found.get("message"), str):
                raise DamagedFileError(path, "it holds no message", REMEDY)
        except DamagedFileError as damaged:
            return {"message": str(damaged), "traceback": ""}
        return found

    def clear_error(self) -> None:
        """Remove the error of an earlier attempt."""
        make_room(self.path / "error.json")
        (self.path / "error.json").unlink(missing_ok=True)

    def is_done(self, config: RunConfig) -> bool:
        """Whether the run has its full length, no damage, and the states and model asked for."""
        try:
            result = self.result()
        except DamagedFileError:
            return False
        if result is None or result["n_tokens"] < config.recorded.n_tokens:
            return False
        if config.recorded.save_model and not self.model.is_dir():
            return False
        deleted = result.get("deleted_states", [])
        if not all(n in deleted or self.state(n).exists() for n in config.recorded.keep_state_at):
            return False
        return self.damage() is None

    # ------------------------------------------------------------------ metrics
    def events(self) -> Iterator[dict[str, Any]]:
        """Lines of ``metrics.jsonl`` in order; an incomplete last line is ignored.

        Raises:
            DamagedFileError: At a line that cannot be read.
        """
        yield from read_events(self.metrics, REMEDY)

    def open_metrics(self) -> IO[str]:
        """Open ``metrics.jsonl`` for appending, after removing an incomplete last line."""
        if self.metrics.exists():
            content = self.metrics.read_bytes()
            os.truncate(self.metrics, content.rfind(b"\n") + 1)
        return self.metrics.open("a", encoding="utf-8", buffering=1)

    def points(self) -> list[dict[str, Any]]:
        """Evaluations in order of tokens; of a point repeated after a resume, the last."""
        found = {event["n_tokens"]: event for event in self.events() if event["event"] == "point"}
        return [found[n] for n in sorted(found)]

    # ------------------------------------------------------------------- damage
    def damage(self) -> DamagedFileError | None:
        """The first damaged file of the run, None if there is none.

        Files that passed the check are not read again unless they change. States are checked when
        they are loaded.
        """
        try:
            self.check()
        except DamagedFileError as damaged:
            return damaged
        return None

    def check(self) -> None:
        """Check the run's files.

        Raises:
            DamagedFileError: Names the first damaged file.
        """
        names = ("config.json", "result.json", "metrics.jsonl")
        states = [file_state(p) for name in names if (p := self.path / name).exists()]
        known, files = _SOUND.get(self.path, (None, {}))
        if known != states:
            files = self._check_records()
            _SOUND[self.path] = states, files
        for name, digest in files.items():
            path = self.path / name
            # A state or model deleted to free space is no damage: it is made again if needed.
            if not (self.model if path.parent == self.model else path).exists():
                continue
            if not path.is_file() or file_sha256(path) != digest:
                raise DamagedFileError(path, "its content is not what was written", REMEDY)

    def _check_records(self) -> dict[str, str]:
        """Check the records; returns the hashes in the result."""
        config, result = self.config(), self.result()
        if result is None:
            points = {point["n_tokens"] for point in self.points()}
            is_trunk = config is not None and config.identity.kind == "trunk"
            if is_trunk and self.checkpoint.exists() and 0 not in points:
                reason = "a checkpoint was saved, but the point at 0 tokens is missing"
                raise DamagedFileError(self.metrics, reason, REMEDY)
            return {}
        assert config is not None  # config() refuses a missing file
        written = result.get("metrics")
        if written is None:
            points = {point["n_tokens"] for point in self.points()}
            missing = self._must_have(config, result) - points
            if missing:
                reason = f"the run is done, but its point at {min(missing)} tokens is missing"
                raise DamagedFileError(self.metrics, reason, REMEDY)
        else:
            lines, n_bytes = read_lines(self.metrics, REMEDY), written["bytes"]
            if hashlib.sha256(lines[:n_bytes]).hexdigest() != written["sha256"]:
                list(self.events())  # names the invalid line, if there is one
                reason = f"it does not begin with the {n_bytes} bytes of the finished run"
                raise DamagedFileError(self.metrics, reason, REMEDY)
            if len(lines) > n_bytes:  # hashed lines are not parsed: 1,000 runs take 2 s
                list(self.events())
        files: dict[str, str] = result.get("files", {})
        return files

    def _must_have(self, config: RunConfig, result: Mapping[str, Any]) -> set[int]:
        """Tokens of points that a done run must have if its metrics have no hash (old versions).

        A trunk that was extended resumed from a saved state; points that were planned later may
        be missing before that state.
        """
        end = result["n_tokens"]
        since = max((n for n in self.states() if n < end), default=0)
        planned = {n for n in config.recorded.evaluation_at if since < n <= end}
        return planned | {end} | ({0} if config.identity.kind == "trunk" else set())

    def set_damaged_aside(self, config: RunConfig) -> list[str]:
        """Rename damaged files to ``.damaged``, so that training makes them again.

        The lines of metrics before the first invalid one are kept, unless the metrics have a hash:
        then no line can be trusted. With the metrics the result is set aside, too, since the run
        is no longer done.

        Args:
            config: The run; its configuration is written again if it was damaged.

        Returns:
            A sentence on each file that was damaged.
        """
        sentences = []
        while (damaged := self.damage()) is not None:
            sentences.append(str(damaged))
            if damaged.path == self.metrics:
                self._set_metrics_aside()
            elif damaged.path == self.path:  # the files belong to another run
                for path in sorted(self.path.iterdir()):
                    if path.stem != LEASE and ".damaged" not in path.name:
                        set_aside(path)
            else:
                set_aside(self.model if damaged.path.parent == self.model else damaged.path)
            if damaged.path in (self.path, self.path / "config.json"):
                self.write_config(config)
        if sentences:
            with self.open_metrics() as metrics:
                for words in sentences:
                    metrics.write(json.dumps({"event": "note", "words": words}) + "\n")
        return sentences

    def _set_metrics_aside(self) -> None:
        result, kept = self.result(), b""
        if result is None or "metrics" not in result:
            kept = readable_lines(self.metrics)
        if result is not None:
            set_aside(self.path / "result.json")
        if self.metrics.exists():
            set_aside(self.metrics)
        if kept:
            write_bytes(self.metrics, kept)

    # --------------------------------------------------------------------- owner
    @contextmanager
    def lock(self) -> Iterator[Lease | None]:
        """Own the run; yields None if another process does. Exit releases it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with hold(self.path / LEASE) as lease:
            yield lease

    def is_locked(self) -> bool:
        """Whether a process is training the run now; needs only read permission."""
        return is_held(self.path / LEASE)
