"""Where a study's runs are trained: its section ``engine``.

No key here is part of a run: the same study trains the same runs on every engine.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from dcpt.names import shorten
from dcpt.study.section import Section

Kind = Literal["local", "slurm", "ray"]
Gpu = Literal["a100", "h100", "h200"]

_ADDRESS = re.compile(r"[^\s/:]+:[0-9]+")
_UNITS = {"m": 1, "min": 1, "h": 60, "d": 1440}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(m|min|h|d)?")


def _parse_minutes(value: object) -> float:
    match = _TIME.fullmatch(str(value).strip().lower())
    if match is None or isinstance(value, bool):
        raise ValueError(f"{shorten(value)} is not a time; write minutes, or 90m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2] or "m"]


Minutes = Annotated[float, BeforeValidator(_parse_minutes)]


_NEEDED = "dcpt needs its own value; leave it out"
_OWN_OPTIONS = {
    "partition": "write the key partition",
    "account": "write the key account",
    "gpus-per-node": "write the key gpus_per_node",
    "cpus-per-task": "write the key cpus_per_task",
    "mem": "write the key memory",
    "time": "write the key time_limit",
    "array": "write the key parallel_jobs",
    **dict.fromkeys(
        ("dependency", "error", "job-name", "nodes", "open-mode", "output", "requeue", "signal"),
        _NEEDED,
    ),
    "no-requeue": _NEEDED,
}
"""Options of sbatch that dcpt sets. Written in ``extra`` they would replace its own or stand twice,
where the last counts."""


def _option(key: str) -> str:
    """The name of an option of sbatch as its manual writes it."""
    return key.lower().lstrip("-").replace("_", "-")


class SlurmSection(Section):
    """How jobs are submitted to Slurm.

    ``job_time`` is the time that a job should take: short runs share a job. ``extra`` are further
    options of ``sbatch``, without their dashes; ``false`` leaves an option out.
    """

    partition: str | None = Field(default=None, min_length=1)
    account: str | None = Field(default=None, min_length=1)
    gpus_per_node: int = Field(default=0, ge=0)
    gpu: Gpu = "h100"
    cpus_per_task: int = Field(default=1, ge=1)
    memory: str | None = Field(default=None, pattern=r"^[0-9]+[KMGT]?$")
    time_limit: Minutes = Field(default=240.0, ge=1)
    job_time: Minutes = Field(default=30.0, gt=0)
    parallel_jobs: int = Field(default=32, ge=1)
    setup: list[str] = []
    extra: dict[str, str | int | bool] = {}

    @field_validator("extra")
    @classmethod
    def _check_extra(cls, extra: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        refused = {key: instead for key in extra if (instead := _OWN_OPTIONS.get(_option(key)))}
        if refused:
            words = "; ".join(f"{shorten(key)}: {instead}" for key, instead in refused.items())
            raise ValueError(f"dcpt sets these options of sbatch itself: {words}")
        return extra


class RaySection(Section):
    """What is taken of a Ray cluster.

    ``nodes`` times, ``gpus_per_node`` GPUs and ``cpus_per_node`` cores of one node are reserved.
    ``runtime_env`` is that of Ray, as its documentation describes it.
    """

    address: str | None = Field(default=None, min_length=1)
    nodes: int = Field(default=1, ge=1)
    gpus_per_node: int = Field(default=0, ge=0)
    gpu: Gpu = "h100"
    cpus_per_node: int = Field(default=1, ge=1)
    max_retries: int = Field(default=3, ge=0)
    runtime_env: dict[str, Any] = {}

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and value != "auto" and _ADDRESS.fullmatch(value) is None:
            raise ValueError(
                f"{shorten(value)} is not host:port, nor auto; from outside of the cluster, hand "
                "the command itself to it: ray job submit"
            )
        return value


class EngineSection(Section):
    """The engine that trains the runs, and a section for each engine that has settings."""

    kind: Kind = "local"
    slurm: SlurmSection = SlurmSection()
    ray: RaySection = RaySection()
