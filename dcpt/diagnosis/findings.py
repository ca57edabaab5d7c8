"""Diagnose a runs table: all findings, sorted, each with its numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from dcpt.diagnosis.curves import Curve, read_curves
from dcpt.diagnosis.design import about_design, about_share
from dcpt.diagnosis.journals import Journal, read_journals
from dcpt.diagnosis.rates import about_rates
from dcpt.diagnosis.records import (
    KINDS,
    VERDICTS,
    Diagnosis,
    DomainStart,
    Finding,
    in_order,
    lacking,
)
from dcpt.diagnosis.text import about_text, start_of
from dcpt.diagnosis.training import about_stops, about_training
from dcpt.flags import Flag
from dcpt.table import DOMAIN, load_runs
from dcpt.table.channels import general_weights
from dcpt.table.study_rows import LARGEST_LOSS
from dcpt.table.units import flag_units

__all__ = [
    "KINDS",
    "VERDICTS",
    "Diagnosis",
    "DomainStart",
    "Finding",
    "Journal",
    "diagnose",
    "read_journals",
]

EXPLAINED_BY = {
    "not_learning": {"known_or_templated", "oscillating", "spike"},
    "general_unlike_base": {"oscillating", "spike"},
    "rate_buys_nothing": {"not_finite", "oscillating", "spike"},
}
"""A finding is left out if the same run has a finding of these kinds."""

KNOWN_BEFORE_THE_END = {"not_finite", "known_or_templated", "new_or_dirty", "repeated"}
"""Findings that are valid for a run that has not ended. The others compare its last points with its
first points, and early in a run the learning rate has just risen again."""


def diagnose(
    runs: str | os.PathLike[str] | pd.DataFrame,
    journals: Mapping[str, Journal] | None = None,
    near_copies: Iterable[Flag] = (),
) -> Diagnosis:
    """Diagnose runs from their channel losses.

    Args:
        runs: A runs table: a ``.csv`` or ``.parquet`` file, or a frame. Rows with a reason in
            ``excluded`` are included.
        journals: Data of a study's run folders that the table lacks
            (:func:`read_journals`); None where there are none.
        near_copies: What the screen of a study's text for near-duplicates found.

    Returns:
        The findings, and the two numbers of the cross-domain D-CPT law.

    Raises:
        InputError: If the table is not valid.

    Examples:
        >>> found = dcpt.diagnose(dcpt.bundled_runs("code"))
        >>> [finding.kind for finding in found.with_verdict("alarm")]
        ['confounded']
    """
    table, by_journal = load_runs(runs), dict(journals or {})
    weights = general_weights(table)
    by_run: dict[str, dict[str, Curve]] = {}
    for curve in read_curves(table, by_journal):
        by_run.setdefault(curve.run, {})[curve.channel] = curve
    bought_nothing = {finding.run: finding for finding in about_rates(table)}
    findings: list[Finding] = []
    for run in dict.fromkeys([*by_run, *by_journal]):
        curves, journal = by_run.get(run, {}), by_journal.get(run, Journal())
        found = list(about_stops(run, journal))
        found += about_text(curves, weights)
        found += [bought_nothing[run]] if run in bought_nothing else []
        for curve in curves.values():
            found += [*_about_divergence(curve), *about_training(curve), *about_share(curve)]
        if not journal.ended and journal.stopped is None:
            found = [*_of_unfinished(found), _unfinished(run)]
        kinds = {finding.kind for finding in found if finding.verdict != "cannot be judged"}
        findings += [
            finding for finding in found if not EXPLAINED_BY.get(finding.kind, set()) & kinds
        ]
    if journals is None:
        lacks = "the run folders (error.json): give the study's file, not its table"
        findings.append(lacking("not_finite", lacks))
    findings += [
        Finding(flag.kind, flag.sentence, flag.subject, flag.values, verdict="look")
        for flag in flag_units(table)
    ]
    findings += [
        Finding(flag.kind, flag.sentence, flag.subject, flag.values, verdict="fact")
        for flag in near_copies
    ]
    findings += about_design(table)
    domains = (curves[DOMAIN] for curves in by_run.values() if DOMAIN in curves)
    starts = tuple(start for domain in domains if (start := start_of(domain)) is not None)
    return Diagnosis(in_order(list(_gathered(findings))), starts, len(by_run))


def _of_unfinished(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings that are valid before the end of a run."""
    return (finding for finding in findings if finding.kind in KNOWN_BEFORE_THE_END)


def _unfinished(run: str) -> Finding:
    return lacking("unfinished", "the end of the run", {"run": run})


def _about_divergence(curve: Curve) -> Iterator[Finding]:
    if curve.largest > LARGEST_LOSS:
        words = f"The loss reached {curve.largest:.3g}: the run diverged. Lower the learning rate."
        values = {"largest": curve.largest}
        yield Finding("not_finite", words, curve.subject, values, verdict="alarm")


def _gathered(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Merge findings that lack the same data in several runs into one, with the number of runs."""
    counts: dict[tuple[str, str | None, str | None], int] = {}
    for finding in findings:
        if finding.verdict == "cannot be judged":
            key = (finding.kind, finding.channel, finding.lacks)
            counts[key] = counts.get(key, 0) + (finding.run is not None)
        else:
            yield finding
    for (kind, channel, lacks), count in counts.items():
        where = f" in {count} runs" if count else ""
        yield Finding(
            kind,
            f"Cannot be judged{where} without {lacks}.",
            {} if channel is None else {"channel": channel},
            {"runs": float(count)} if count else {},
            verdict="cannot be judged",
            lacks=lacks,
        )
