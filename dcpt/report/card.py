"""The card of a fit in a hub repository: the answer, its warnings, and how to ask again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dcpt.decide.records import Recommendation, Verification
from dcpt.limit import NO_LIMIT
from dcpt.report.decision_sections import (
    answer_sentence,
    lead_sentences,
    question_line,
    warnings_section,
)
from dcpt.report.decision_tiles import answer_tiles
from dcpt.report.page import Report, render_markdown
from dcpt.report.parts import Section, Table, Tabled

FILES = {
    "fit.json": "the laws, their weights and their held-out errors",
    "draws.npz": "bootstrap draws of the laws' parameters",
    "runs.csv": "the runs table: one row per evaluation",
    "recommendation.json": "the answer with its intervals and warnings",
    "verification.json": "measured losses at the recommendation",
    "report/report.html": "the report with its figures",
    "report/report.md": "the report as text",
    "report/report.json": "the report's records",
}
"""Files of a fit in a repository, and what they hold."""

_OPTIONS = {
    "base_losses": "base-loss",
    "channel_limits": "limit",
    "weights": "weight",
    "base": None,
    "section_sha256": None,
}
"""Options of ``dcpt recommend`` for fields of a target; others have the name of their field, and
None has no option: a fit folder has no bases and no study."""


def render_card(
    title: str,
    recommendation: Recommendation,
    verification: Verification | None,
    *,
    repo: str,
    repo_type: str,
    files: Sequence[str],
    laws: Sequence[str] = (),
) -> str:
    """Write the card (``README.md``): share, rate and interval, odds, warnings and the command.

    Args:
        title: Title of the report.
        recommendation: The answer.
        verification: What was measured at the recommendation, if anything.
        repo: Owner and name of the repository.
        repo_type: ``model`` or ``dataset``.
        files: Files next to the card.
        laws: Own laws that the fit needs, as ``module:name``.
    """
    listed = Table(["file", "content"], [[name, FILES[name]] for name in files], words=2)
    report = Report(
        title=title,
        answer=answer_sentence(recommendation, verification),
        question=question_line(recommendation),
        lead=lead_sentences(recommendation, verification),
        tiles=answer_tiles(recommendation),
        sections=[
            warnings_section(recommendation),
            Section("files", "Files", [Tabled(listed, "Written by dcpt.")]),
        ],
    )
    kind = [] if repo_type == "model" else ["--repo-type", repo_type]
    download = shlex.join(["hf", "download", repo, *kind, "--local-dir", "fit"])
    ask = shlex.join(recommend_command(recommendation, laws))
    return (
        "---\ntags:\n- dcpt\n- continual-pretraining\n- scaling-laws\n---\n\n"
        f"{render_markdown(report)}\n## Ask again\n\n```bash\n{download}\n{ask}\n```\n"
    )


def recommend_command(recommendation: Recommendation, laws: Sequence[str] = ()) -> list[str]:
    """The words of the command that gives a recommendation again, from a fit in ``fit``."""
    words = [f"--level={recommendation.level}"]
    if not recommendation.limits and not recommendation.target.weights:
        words.append(f"--limit={NO_LIMIT}")
    for name, value in vars(recommendation.target).items():
        option = _OPTIONS.get(name, name.replace("_", "-"))
        was_searched = name == "mix" and bool(recommendation.shares)
        if value is None or option is None or was_searched:
            continue
        for channel, given in value.items() if isinstance(value, dict) else [("", value)]:
            words.append(f"--{option}={channel}{'=' if channel else ''}{_as_option(given)}")
    return ["dcpt", "recommend", "fit", *words, *(f"--law={law}" for law in laws)]


def _as_option(value: object) -> str:
    """A value of a target as ``dcpt recommend`` reads it; counts without a decimal point."""
    is_count = isinstance(value, float) and value.is_integer()
    return f"{value:.0f}" if is_count else str(value).replace(" nats", "")
