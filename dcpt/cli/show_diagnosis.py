"""Display of ``dcpt diagnose``: findings, then the two numbers of each domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from dcpt.cli.console import make_table, print_line
from dcpt.diagnosis import KINDS, VERDICTS, Diagnosis, DomainStart, Finding
from dcpt.quantities import count_things, format_count

if TYPE_CHECKING:
    from rich.table import Table

HEADS = {
    "alarm": "Problems",
    "look": "Worth checking",
    "cannot be judged": "Not enough data",
    "fact": "OK",
}
STYLES = {"alarm": "red", "look": "yellow"}

STARTS = (
    "The domain's two numbers in the cross-domain D-CPT law (arXiv 2406.01375): k1 in nats per "
    "token; k2 in nats per million tokens, from D = 0 to the first point beyond the warmup."
)

MOST_SHOWN = 5
"""Runs with the same finding that are listed; the others are only counted."""


def show_diagnosis(console: Console, found: Diagnosis) -> None:
    """Print findings by verdict, runs with the same finding as a group; then k1 and k2."""
    print_line(console, _summary(found), style="bold")
    for verdict in VERDICTS:
        findings = found.with_verdict(verdict)
        if findings:
            print_line(console, f"{HEADS[verdict]}:", style="bold")
        for group in _groups(findings):
            _show_group(console, group, STYLES.get(verdict))
    if found.starts:
        print_line(console, STARTS)
        console.print(starts_table(found.starts))


def _summary(found: Diagnosis) -> str:
    alarms, looks = (len(found.with_verdict(verdict)) for verdict in ("alarm", "look"))
    unfinished = sum(
        int(finding.values.get("runs", 1))
        for finding in found.findings
        if finding.kind == "unfinished"
    )
    not_ended = f" ({unfinished} not ended)" if unfinished else ""
    return f"{found.n_runs} runs{not_ended}: {alarms} problems, {looks} findings worth checking"


def _groups(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Group findings by kind, channel and missing data."""
    groups: dict[tuple[str, str | None, str | None], list[Finding]] = {}
    for finding in findings:
        key = (finding.kind, finding.channel, finding.lacks)
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


def _show_group(console: Console, group: Sequence[Finding], style: str | None) -> None:
    first = group[0]
    where = "" if first.channel is None else f", {first.channel}"
    head = f"  {KINDS[first.kind]}{where}"
    if first.run is None:
        for finding in group:
            print_line(console, f"{head}: {finding.sentence}", style=style)
        return
    print_line(console, f"{head}: {count_things(len(group), 'run')}", style=style)
    # Facts are only counted: a table has hundreds of runs that learn.
    shown = 0 if first.verdict == "fact" else MOST_SHOWN
    for finding in group[:shown]:
        print_line(console, f"    {finding.run}: {finding.sentence}")
    if shown and len(group) > shown:
        print_line(console, f"    and {len(group) - shown} more; --json has all")


def starts_table(starts: Sequence[DomainStart]) -> Table:
    """k1 and k2 of every run."""
    rows = [
        (
            start.run,
            f"{start.initial_loss:.3f}",
            "" if start.early_slope is None else f"{start.early_slope:.4g}",
            "" if start.until_tokens is None else format_count(start.until_tokens),
        )
        for start in starts
    ]
    return make_table("", ("run", "initial loss k1", "early slope k2", "to D"), rows)
