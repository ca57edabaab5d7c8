"""Trackers next to TensorBoard: W&B, MLflow and Trackio. Each is imported only if a study names it.

Where a tracker sends its data is set as in any other program: by its own login, configuration and
environment variables (``WANDB_MODE=offline``, ``MLFLOW_TRACKING_URI``, ``TRACKIO_SPACE_ID``). The
study is the group or experiment of its runs, and a run goes on under its name after a resume. The
step of every value is the number of tokens.
"""

from __future__ import annotations

import contextvars
import importlib.util
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any, Literal, Protocol

from dcpt.errors import InputError
from dcpt.leases import wait_and_hold
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig

WAIT_S = 20
"""Seconds that W&B may take to start or end a run, and MLflow to answer; trackers without a network
would otherwise wait for minutes while the run stands still."""

_PROJECT = "dcpt"
"""The project in W&B and Trackio, unless their environment variables name another."""

_LONGEST_REASON = 150
"""Characters of an error; those of HTTP libraries repeat the address three times."""


End = Literal["finished", "stopped", "failed"]
"""How a run's training ended: a stopped run goes on later."""


class Tracker(Protocol):
    """A run in a tracker."""

    def log(self, scalars: Mapping[str, float], n_tokens: int) -> None:
        """Log values at a number of tokens."""

    def close(self, end: End) -> None:
        """Send what is left, and end the run."""


class Wandb:
    """A run in W&B; offline runs are in the run's folder, below ``wandb``.

    W&B ignores values at steps before its last one, which a resumed run may log again.
    """

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            group=config.recorded.study_name,
            id=config.name,
            name=config.name,
            resume="allow",
            config=describe(config),
            dir=str(folder.path),
            settings=wandb.Settings(
                reinit="create_new",  # runs that share a device are open at the same time
                console="off",
                disable_git=True,
                save_code=False,
                init_timeout=WAIT_S,
                finish_timeout=WAIT_S,
                finish_timeout_raises=True,
            ),
        )

    def log(self, scalars: Mapping[str, float], n_tokens: int) -> None:
        """Log values at a number of tokens."""
        self._run.log({**scalars, "n_tokens": n_tokens}, step=n_tokens)

    def close(self, end: End) -> None:
        """Send what is left, at most for ``WAIT_S``."""
        # 255 is the exit code that W&B itself gives a run interrupted with Ctrl-C.
        codes: dict[End, int] = {"finished": 0, "stopped": 255, "failed": 1}
        self._run.finish(exit_code=codes[end])


class MLflow:
    """A run in MLflow; the study is its experiment."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(WAIT_S // 2))
        from mlflow import MlflowClient

        # Two workers that create a database or an experiment at the same time fail.
        with wait_and_hold(folder.path.parent / "mlflow.lease"):
            self._client = MlflowClient()
            self._id = self._open(config)

    def _open(self, config: RunConfig) -> str:
        """Find the run by its name, or create it; returns MLflow's id."""
        from mlflow.entities import Param

        study = config.recorded.study_name or _PROJECT
        experiment = self._client.get_experiment_by_name(study)
        place = experiment.experiment_id if experiment else self._client.create_experiment(study)
        named = self._client.search_runs([place], f"tags.`dcpt.run` = '{config.name}'")
        if named:
            found: str = named[0].info.run_id
            self._client.update_run(found, status="RUNNING")
            return found
        tags = {"dcpt.run": config.name}
        new: str = self._client.create_run(place, run_name=config.name, tags=tags).info.run_id
        about = [Param(name, str(value)) for name, value in describe(config).items()]
        self._client.log_batch(new, params=about)
        return new

    def log(self, scalars: Mapping[str, float], n_tokens: int) -> None:
        """Log values at a number of tokens."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, n_tokens) for name, value in scalars.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, end: End) -> None:
        """End the run in MLflow's words."""
        words: dict[End, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
        self._client.set_terminated(self._id, words[end])


class Trackio:
    """A run in Trackio."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        import trackio

        # A context of its own: otherwise Trackio ends the other runs of this process.
        self._run = contextvars.Context().run(
            trackio.init,
            project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
            group=config.recorded.study_name,
            name=config.name,
            resume="allow",
            config=describe(config),
            embed=False,
        )

    def log(self, scalars: Mapping[str, float], n_tokens: int) -> None:
        """Log values at a number of tokens."""
        self._run.log({**scalars, "n_tokens": n_tokens}, step=n_tokens)

    def close(self, end: End) -> None:
        """Send what is left; Trackio does not record how a run ends."""
        self._run.finish()


KINDS: dict[str, Callable[[RunConfig, RunFolder], Tracker]] = {
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""How a run is opened, by the name in ``logging.trackers``; the name is that of the module."""

_PACKAGES = {"mlflow": "mlflow-skinny sqlalchemy alembic"}
"""What pip installs where that is not the module's name: ``mlflow`` itself would replace newer
versions of pandas and pyarrow with older ones."""

_FAILED: dict[str, str] = {}
"""Trackers that could not open a run in this process, and why: the runs after it do not wait."""


class Trackers:
    """The trackers of a run. One that fails is left out from then on; training goes on.

    Args:
        config: The run, whose record names its trackers.
        folder: The run's folder.
        on_failure: Called with a tracker's name and the reason.
    """

    def __init__(
        self, config: RunConfig, folder: RunFolder, on_failure: Callable[[str, str], None]
    ) -> None:
        self._on_failure = on_failure
        self._open: dict[str, Tracker] = {}
        for name in config.recorded.trackers:
            if name in _FAILED:
                on_failure(name, _FAILED[name])
                continue
            tracker = self._try(name, partial(KINDS[name], config, folder))
            if tracker is not None:
                self._open[name] = tracker

    def log(self, scalars: Mapping[str, float], n_tokens: int) -> None:
        """Log values at a number of tokens."""
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.log, scalars, n_tokens))

    def close(self, end: End) -> None:
        """Send what is left, and end the run in every tracker."""
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.close, end))

    def _try(self, name: str, act: Callable[[], Any]) -> Any:
        """Call a tracker; an error ends it. What it prints is dropped: it breaks ``--json``."""
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                return act()
        except Exception as error:  # another program's errors, of any type, must not stop training
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]
            _FAILED[name] = reason
            self._open.pop(name, None)
            self._on_failure(name, reason)
            return None


def check_installed(names: Sequence[str]) -> None:
    """Refuse trackers whose package is missing.

    Raises:
        InputError: Names them, with the command that installs them.
    """
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        packages = " ".join(_PACKAGES.get(name, name) for name in missing)
        raise InputError(
            f"logging.trackers: {', '.join(missing)} cannot be imported; install what is missing "
            f"with `pip install {packages}`, or remove the name from the study"
        )


def _is_installed(package: str) -> bool:
    # A folder of the name, such as the one that W&B writes into, has a spec without an origin.
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def describe(config: RunConfig) -> dict[str, str | float | None]:
    """What a tracker shows of a run's settings."""
    identity = config.identity
    return {
        "size": config.recorded.size,
        "kind": identity.kind,
        "ratio": identity.ratio,
        "learning_rate": identity.learning_rate,
        "n_tokens_planned": config.recorded.n_tokens,
        "warmup_tokens": identity.warmup_tokens,
        "batch_tokens": identity.batch_tokens,
        "sequence_tokens": identity.sequence_tokens,
        "seed": identity.seed,
        "dtype": identity.dtype,
    }
