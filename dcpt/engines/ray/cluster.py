"""Connect to a Ray cluster, or start one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dcpt.errors import InputError
from dcpt.grid.slots import count_cores
from dcpt.study.engine import RaySection

_ANSWER_S = 20.0
"""Seconds that a cluster has to answer. Ray itself gives up after two minutes, with a page of
warnings, and ends the process."""

_QUESTION = "import ray; ray.init({address!r}, log_to_driver=False, logging_level='CRITICAL')"

_STORE_BYTES = 80 * 2**20
"""Memory of the object store where Ray is started here; only small messages pass through it."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a cluster that is started here reports to nobody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns that a later version changes this
}


def check_installed() -> None:
    """Refuse an installation without Ray.

    Raises:
        InputError: With the command that installs it.
    """
    _be_quiet()
    try:
        import ray  # noqa: F401
    except ImportError:
        raise InputError("engine ray needs ray; install it with: pip install 'dcpt[ray]'") from None


@contextmanager
def connected(section: RaySection) -> Iterator[None]:
    """Be connected inside the ``with`` statement; what was started here ends with it.

    Raises:
        InputError: If the cluster does not answer, or this machine is too small.
    """
    address = section.address or os.environ.get("RAY_ADDRESS")
    given: dict[str, Any] = {"address": address}
    if address is None:
        check_machine(section)
        given = {"address": "local", "include_dashboard": False}
        given["object_store_memory"] = _STORE_BYTES
    else:
        check_answers(address)
    # Ray takes over SIGTERM; its handler would end the process without saving runs.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _silent_nodes():
            _open(given, section)
            yield
    finally:
        import ray

        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _silent_nodes() -> Iterator[None]:
    """Keep what Ray prints about its nodes out of stdout.

    With ``log_to_driver=False`` Ray 2.60 still prints 20 lines of a node's log when it is lost,
    in the middle of a view or of JSON.
    """
    from ray._private import worker

    printing = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


def _open(given: dict[str, Any], section: RaySection) -> None:
    import ray

    try:
        ray.init(
            **given,
            runtime_env=section.runtime_env or None,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"engine.ray: Ray refuses: {reason}") from None


def check_machine(section: RaySection) -> None:
    """Refuse to start Ray on a machine that is smaller than the section asks.

    Raises:
        InputError: Names the key.
    """
    cores = section.nodes * section.cpus_per_node
    if cores > count_cores():
        raise InputError(
            f"engine.ray: nodes x cpus_per_node asks for {cores} cores, and this machine has "
            f"{count_cores()}; lower them, or name the address of a cluster"
        )
    gpus = section.nodes * section.gpus_per_node
    if gpus:
        import torch

        if gpus > torch.cuda.device_count():
            raise InputError(
                f"engine.ray: nodes x gpus_per_node asks for {gpus} GPUs, and this machine has "
                f"{torch.cuda.device_count()}; lower them, or name the address of a cluster"
            )


def check_answers(address: str) -> None:
    """Refuse an address where no cluster answers.

    Another process asks: a question of Ray cannot be taken back.

    Raises:
        InputError: Says what is there.
    """
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        asked = subprocess.run(
            [sys.executable, "-c", _QUESTION.format(address=address)],
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "timed out" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise InputError(f"{_no_answer(address)} ({why}); {_REMEDY}") from None
    if asked.returncode:
        lines = [line for line in asked.stderr.splitlines() if line.strip()]
        why = lines[-1].strip()[:300] if lines else f"exit code {asked.returncode}"
        raise InputError(f"{_no_answer(address)} ({why}); {_REMEDY}")


_REMEDY = "check the address and that the cluster runs (ray status), and rerun"


def _no_answer(address: str) -> str:
    return f"engine.ray.address: no Ray cluster answers at {address} within {_ANSWER_S:.0f} s"


def _be_quiet() -> None:
    """Set Ray's settings before it is imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
