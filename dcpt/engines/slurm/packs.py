"""Pack runs into jobs: a trunk and its decays stay together, and short runs share a job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dcpt.grid.planned import PlannedRun


@dataclass(frozen=True)
class Pack:
    """The runs of a job.

    Attributes:
        runs: A run comes after those it needs.
        waits_for: Hashes of the unfinished runs of other jobs that it needs.
    """

    runs: tuple[PlannedRun, ...]
    waits_for: frozenset[str]


def pack_runs(
    runs: Sequence[PlannedRun],
    unfinished: Collection[str],
    seconds: Mapping[str, float],
    job_s: float,
    alone: Collection[str] = (),
) -> list[Pack]:
    """Pack runs into jobs that take about ``job_s`` seconds; a longer family is a job of its own.

    Families that wait for the same runs share jobs: the longest goes first into the first job with
    room for it.

    Args:
        runs: The runs; a run comes after those it needs.
        unfinished: Hashes of all runs that are not done.
        seconds: How long each run occupies a job, by name.
        job_s: The time that a job should take.
        alone: Names of runs whose family shares a job with no other.

    Returns:
        The jobs; first those that wait for no other.
    """
    bins: dict[frozenset[str], list[tuple[float, list[PlannedRun]]]] = {}
    packs: list[Pack] = []

    def length(family: Iterable[PlannedRun]) -> float:
        return sum(seconds[run.name] for run in family)

    for family in sorted(_families(runs), key=length, reverse=True):
        own = {run.identity_hash for run in family}
        waits_for = frozenset(n for run in family for n in run.needs if n in unfinished) - own
        if any(run.name in alone for run in family):
            packs.append(Pack(tuple(family), waits_for))
            continue
        takes, open_bins = length(family), bins.setdefault(waits_for, [])
        place = next(
            (i for i, (filled, _) in enumerate(open_bins) if filled + takes <= job_s), None
        )
        if place is None:
            open_bins.append((takes, list(family)))
        else:
            filled, packed = open_bins[place]
            open_bins[place] = filled + takes, [*packed, *family]
    packs += [Pack(tuple(found), waits) for waits, full in bins.items() for _, found in full]
    return sorted(packs, key=lambda pack: len(pack.waits_for))


def _families(runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """A trunk with its decays, or a base, each."""
    families: dict[str, list[PlannedRun]] = {}
    for run in runs:
        kind = run.config.identity.kind
        key = run.needs[0] if kind == "branch" and run.needs else run.identity_hash
        families.setdefault(key, []).append(run)
    return list(families.values())


def arrays_of(packs: Sequence[Pack]) -> list[tuple[tuple[str, ...], list[Pack]]]:
    """Jobs that wait for the same runs, as one array each: an array has one dependency."""
    arrays: dict[tuple[str, ...], list[Pack]] = {}
    for pack in packs:
        arrays.setdefault(tuple(sorted(pack.waits_for)), []).append(pack)
    return list(arrays.items())
