"""The report: the answer and its evidence on a page, as HTML, Markdown and JSON."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import TypeAdapter

from dcpt.atomic_files import write_text
from dcpt.decide.records import Recommendation, Verification
from dcpt.errors import InputError
from dcpt.flags import rank_flags
from dcpt.laws.fits.files import installed_version
from dcpt.own_folders import claim_files, record_files
from dcpt.report.decision_sections import (
    answer_sentence,
    lead_sentences,
    learning_rate_section,
    other_shares_section,
    question_line,
    trade_off_section,
    verification_section,
    warnings_section,
)
from dcpt.report.decision_tiles import answer_tiles
from dcpt.report.fit_sections import (
    laws_section,
    loss_curves_section,
    residuals_section,
    runs_section,
)
from dcpt.report.fit_tables import bytes_per_token
from dcpt.report.markdown import code_span, escape_markdown
from dcpt.report.own_decays import own_decay_record, own_decays_section
from dcpt.report.parts import Bullets, Section, Text, Tile
from dcpt.report.sliders import settings_section
from dcpt.report.theme import css_variables, number_ids

if TYPE_CHECKING:
    from dcpt.decide.settings import Settings
    from dcpt.laws.fits.result import Fit
    from dcpt.table.study_rows import OwnDecay

_PACKAGES = ("dcpt", "numpy", "scipy", "pandas", "matplotlib")


@dataclass(frozen=True)
class Report:
    """Content of the report, as the templates take it.

    Args:
        title: Title of the page.
        answer: The answer in a sentence.
        question: Size, tokens and limit of the target.
        lead: The sentences below the answer.
        tiles: The most important numbers.
        sections: The sections, in order.
        footer: The last line.
    """

    title: str
    answer: str
    question: str
    lead: str
    tiles: list[Tile]
    sections: list[Section]
    footer: str = "The same answer for programs is in report.json, as plain text in report.md."


def write_report(
    folder: str | Path,
    *,
    runs: pd.DataFrame,
    fit: Fit,
    recommendation: Recommendation,
    verification: Verification | None = None,
    own_decays: Sequence[OwnDecay] = (),
    settings: Settings | None = None,
    title: str,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write ``report.html`` (self-contained), ``report.md`` and ``report.json``.

    Args:
        folder: Where to write; created if absent.
        runs: The runs table that was fitted.
        fit: The fitted laws.
        recommendation: The answer.
        verification: Results of the verification runs, if any were trained.
        own_decays: Results of decays with mixtures of their own, if the study has any.
        settings: Answers at other settings (:func:`dcpt.decide.settings.answer_settings`), for
            sliders.
        title: Title of the page.
        notes: Sentences about how the runs were made.

    Returns:
        The three paths, the page first.

    Raises:
        InputError: If the folder cannot be written, or a person's file is in the way.

    Examples:
        >>> known = {"runs": runs, "fit": fit, "recommendation": recommendation}
        >>> [path.name for path in dcpt.write_report("page", **known, title="Chinese verse")]
        ['report.html', 'report.md', 'report.json']
    """
    made = how_made(fit)
    report = compose(
        runs, fit, recommendation, verification, own_decays, settings, title, notes, made
    )
    record = {
        "title": title,
        "answer": report.answer,
        "recommendation": _plain(recommendation),
        "verification": None if verification is None else _plain(verification),
        "own_decays": [own_decay_record(decay) for decay in own_decays],
        "laws": fit.records(),
        "fit_flags": [flag.as_dict() for flag in rank_flags(fit.flags)],
        "notes": list(notes),
        "made": dict(made),
    }
    texts = {
        "report.html": render_html(report),
        "report.md": render_markdown(report),
        "report.json": json.dumps(record, indent=1, ensure_ascii=False, default=_number) + "\n",
    }
    return _write_files(Path(folder), texts)


def _write_files(place: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write the files of the report into a folder; returns their paths."""
    try:
        claim_files(place, list(texts))
        for name, text in texts.items():
            write_text(place / name, text)
        record_files(place, list(texts))
        return [place / name for name in texts]
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {place}: {error.strerror}; name another folder"
        ) from error


def compose(
    runs: pd.DataFrame,
    fit: Fit,
    recommendation: Recommendation,
    verification: Verification | None,
    own_decays: Sequence[OwnDecay],
    settings: Settings | None,
    title: str,
    notes: Sequence[str],
    made: Mapping[str, str],
) -> Report:
    """Put the sections in order, the answer first.

    Args:
        runs: The runs table that was fitted.
        fit: The fitted laws.
        recommendation: The answer.
        verification: Results of the verification runs, if any.
        own_decays: Results of decays with mixtures of their own; no section if empty.
        settings: Answers at other settings; no sliders if None.
        title: Title of the page.
        notes: Sentences about how the runs were made.
        made: Versions and hashes, by name.
    """
    sections = [
        trade_off_section(recommendation, bytes_per_token(runs)),
        *([] if settings is None else [settings_section(settings)]),
        other_shares_section(recommendation),
        learning_rate_section(recommendation),
        verification_section(recommendation, verification),
        *([own_decays_section(own_decays)] if own_decays else []),
        loss_curves_section(fit, runs),
        residuals_section(fit, runs),
        laws_section(fit),
        runs_section(fit, runs),
        warnings_section(recommendation),
        Section(
            "how-made",
            "How this was made",
            [
                *(Text(note) for note in notes),
                Bullets([f"{name}: {value}" for name, value in made.items()]),
            ],
        ),
    ]
    return Report(
        title=title,
        answer=answer_sentence(recommendation, verification),
        question=question_line(recommendation),
        lead=lead_sentences(recommendation, verification),
        tiles=answer_tiles(recommendation),
        sections=sections,
    )


def how_made(fit: Fit) -> dict[str, str]:
    """When, from which runs table (SHA-256 of its content), and with which versions."""
    return {
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "runs table": f"sha256 {fit.table_sha256}",
        "fit": (
            f"sum of Huber({fit.delta:g}) on log-loss residuals, {fit.n_draws} draws on resampled "
            f"runs, seed {fit.seed}"
        ),
        "Python": platform.python_version(),
        **{name: installed_version(name) or "not installed" for name in _PACKAGES},
    }


def render_html(report: Report, every_s: float | None = None) -> str:
    """The page as one HTML document without external references.

    Args:
        report: Its content.
        every_s: Seconds after which a browser loads it again; None never.
    """
    environment = _environment()
    environment.finalize = _as_html
    numbers = count(1)
    environment.filters["svg"] = lambda svg: Markup(number_ids(svg, next(numbers)))
    style = _source(environment, "style.css")
    for mode in ("light", "dark"):
        style = style.replace(f"{mode.upper()}_VARIABLES", css_variables(mode))
    page = environment.get_template("report.html.j2")
    script = _source(environment, "sliders.js")
    return page.render(**vars(report), style=Markup(style), script=script, every_s=every_s)


def _source(environment: Environment, name: str) -> str:
    """A file of the templates as it is."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def render_markdown(report: Report) -> str:
    """The page as Markdown, without its figures."""
    environment = _environment()
    # Values are escaped for Markdown here, before the environment would escape them for HTML.
    environment.finalize = _as_markdown
    environment.filters["code"] = lambda text: Markup(code_span(text))
    return environment.get_template("report.md.j2").render(**vars(report))


def _as_html(value: Any) -> Any:
    """Keep a number and its per cent sign in one line."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", value)


def _as_markdown(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape_markdown(str(value)))


def _environment() -> Environment:
    """The templates of this package; they escape every value, and a missing value is an error."""
    return Environment(
        loader=PackageLoader("dcpt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _plain(record: Recommendation | Verification) -> Any:
    """A record as plain JSON values, the same as its own file."""
    return json.loads(TypeAdapter(type(record)).dump_json(record))


def _number(value: Any) -> Any:
    """A numpy number as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not written to JSON")
