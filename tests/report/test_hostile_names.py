"""Names out of a foreign table go through every station and stay text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_report import make_recommendation, make_runs, make_verification
from rich.console import Console
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.cli.console import make_table, print_line
from dcpt.decide.records import Recommendation
from dcpt.laws.fits.fit_runs import fit
from dcpt.report.markdown import code_span, escape_markdown
from dcpt.report.page import write_report
from dcpt.table import load_runs, write_runs
from dcpt.table.study_rows import OwnDecay

NASTY = [
    '"><script>alert(1)</script>',
    "' onload='alert(1)",
    "</style></svg><img src=x onerror=alert(1)>",
    "x[/b]",
    "[red]x[link=file:///etc/passwd]",
    "a|b`c`*d*_e_[f](javascript:alert(1))",
    "=HYPERLINK(0)",
    ":smile: {{ 7 * 7 }} {% raw %} ${x} $x$",
    "]]>-->&lt;b&gt;\\",
    ",;\"'",
]


def hostile(name: str, suffixes: Iterator[str]) -> str:
    """A name that sorts as the plain one does, so that the draws of a fit are the same."""
    return name + next(suffixes)


def tables() -> dict[str, pd.DataFrame]:
    """The same runs with plain and with hostile names."""
    plain = make_runs()
    names = {old: f"r{i:02d}" for i, old in enumerate(sorted(plain["run"].unique()))}
    plain["run"] = plain["run"].map(names)
    plain = plain.assign(size="s", base="b", eval_id="e", note="n", excluded=None)
    plain.loc[plain.index[5], "excluded"] = "why"
    endless = cycle(NASTY)
    other = plain.copy()
    for column in ("run", "size", "base", "eval_id", "note", "excluded"):
        known = {name: hostile(name, endless) for name in plain[column].dropna().unique()}
        other[column] = plain[column].map(known, na_action="ignore")
    return {"plain": plain, "hostile": other.rename(columns={"note": "note" + NASTY[0]})}


class Structure(HTMLParser):
    """Every element of a page with the names of its attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Any] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, [name for name, _ in attrs]))


def own_decay(mixture: str, run: str) -> OwnDecay:
    losses = {"general": 3.0, "domain": 4.0}
    return OwnDecay(
        mixture=mixture,
        shares={"general": 0.5, "domain": 0.5},
        run=run,
        n_params=1_800_000,
        ratio=0.5,
        learning_rate=3e-4,
        seed=0,
        branch_n_tokens=10,
        n_tokens=20,
        losses=losses,
        ordinary=losses,
    )


def with_names(recommendation: Recommendation, suffix: str) -> Recommendation:
    flags = [replace(flag, sentence=flag.sentence + suffix) for flag in recommendation.flags]
    target = replace(recommendation.target, base="base" + suffix)
    return replace(recommendation, flags=flags, target=target)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both tables through file, check, fit and report."""
    folders = {}
    for kind, frame in tables().items():
        folder = tmp_path_factory.mktemp(kind)
        write_runs(frame, folder / "runs.csv")
        runs = load_runs(folder / "runs.csv")
        suffix = "".join(NASTY) if kind == "hostile" else ""
        write_report(
            folder,
            runs=runs,
            fit=fit(runs, law=["sized-general", "plateau-domain"], n_draws=10),
            recommendation=with_names(make_recommendation(), suffix),
            verification=make_verification(missed=True),
            own_decays=[own_decay("mix" + suffix, "r00")],
            title="Title" + suffix,
            notes=["A note" + suffix],
        )
        folders[kind] = folder
    return folders


def test_a_page_has_the_elements_of_the_same_page_with_plain_names(reports: Any) -> None:
    pages = {kind: (folder / "report.html").read_text() for kind, folder in reports.items()}
    plain, other = (Structure(pages[kind]).elements for kind in ("plain", "hostile"))
    # Long cells may wrap: that is a class, whose name is among the attributes of either.
    assert other == plain
    assert "<script" not in pages["hostile"]
    assert not [names for _, names in other if any(name.startswith("on") for name in names)]
    for name in NASTY[:3]:
        assert name not in pages["hostile"]
    assert pages["hostile"].count("&lt;script&gt;alert(1)") >= 4


def test_markdown_has_the_lines_of_the_same_report_with_plain_names(reports: Any) -> None:
    texts = {kind: (folder / "report.md").read_text() for kind, folder in reports.items()}
    lines = {kind: text.splitlines() for kind, text in texts.items()}
    assert len(lines["plain"]) == len(lines["hostile"])
    for plain, other in zip(lines["plain"], lines["hostile"], strict=True):
        cells = [re.sub(r"\\.", "", line).count("|") for line in (plain, other)]
        assert cells[0] == cells[1]
    outside_code = re.sub(r"(`+).*?\1", "", re.sub(r"\\.", "", texts["hostile"]))
    assert "<" not in outside_code
    assert "](" not in outside_code


def test_a_table_comes_back_exactly(reports: Any) -> None:
    wanted = tables()["hostile"]
    found = load_runs(reports["hostile"] / "runs.csv")
    for column in ("run", "size", "base", "eval_id"):
        assert found[column].tolist() == wanted[column].tolist()
    write_runs(found, reports["hostile"] / "again.csv")
    again = load_runs(reports["hostile"] / "again.csv")
    pd.testing.assert_frame_equal(again, found)


@pytest.mark.parametrize(
    "words",
    [
        ["runs"],
        ["diagnose"],
        ["laws"],
        ["fit", "--law", "sized-general", "--law", "plateau-domain", "--draws", "20"],
        ["compare", "--law", "sized-general", "--law", "plateau-domain"],
    ],
)
def test_commands_print_hostile_names_as_text(reports: Any, words: list[str]) -> None:
    arguments = [words[0], str(reports["hostile"] / "runs.csv"), *words[1:]]
    output = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert output.exit_code == 0
    assert "\x1b" not in output.output
    if words == ["diagnose"]:
        assert all(name in output.output for name in tables()["hostile"]["run"])


@pytest.mark.parametrize("name", [*NASTY, "a\x1b[31mb", "a\rb", "a\u202eb"])
def test_tables_and_lines_show_names_as_they_are(name: str) -> None:
    out = StringIO()
    console = Console(file=out, width=400, force_terminal=True, color_system=None)
    table = make_table(name, [name, name], [(name, name)])
    console.print(table)
    print_line(console, name, "red")
    shown = name.replace("\x1b", "\\x1b").replace("\r", "\\r").replace("\u202e", "\\u202e")
    assert out.getvalue().count(shown) == 6
    assert "\x1b[31mb" not in out.getvalue()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0.5 nats, -0.1 and n_params", "0.5 nats, -0.1 and n_params"),
        ("a|b", r"a\|b"),
        ("*a* _b_ `c` ~~d~~ [e](f)", r"\*a\* \_b\_ \`c\` \~\~d\~\~ \[e\](f)"),
        ("<b>&lt;&", "&lt;b>&amp;lt;&"),
        ("# a\nb", r"\# a b"),
        ("- a", r"\- a"),
        ("12. a", r"12\. a"),
        ("+0.083", "+0.083"),
        ("\\", r"\\"),
    ],
)
def test_markdown_shows_the_text_itself(text: str, written: str) -> None:
    assert escape_markdown(text) == written


def test_code_stands_between_more_backticks_than_it_holds() -> None:
    assert code_span("a <b> | c") == "`a <b> | c`"
    assert code_span("a``b\n`") == "``` a``b ` ```"


def test_made_names_sort_alike() -> None:
    made = tables()
    order = [np.argsort(made[kind]["run"].to_numpy(), kind="stable") for kind in made]
    assert np.array_equal(*order)
