"""Part ``fits`` of ``fuzz.py``: mutated tables that pass the check through the commands."""

from __future__ import annotations

import re
from contextlib import suppress
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from random import Random

import pandas as pd
from fuzz_cases import KINDS, Outcome, call_dcpt, find_fault, note_about, random_of
from fuzz_tables import PASSING, Cells, mutated

SIZES = (1_000_000, 4_000_000, 16_000_000)
READERS = ("diagnose", "laws", "runs")
TRIES = 8


def fit_table(number: int, folder: Path, seed: int) -> Outcome:
    """Run ``dcpt fit`` and the commands after it on a mutated table that passes the check."""
    rng = random_of(seed, "fits", number)
    for _ in range(TRIES):
        table, clean, about = _passing_table(rng, folder)
        law = [] if rng.random() < 0.1 else _cheap_laws(clean)
        about = f"{' '.join(law) or 'auto'}: {about}"
        note_about(folder.parent, about)
        words = ["fit", "runs.csv", "--draws", "20", "--out", "made", *law]
        found = [_judge(words, folder, table, about)]
        if found[0].kind != "named":  # Otherwise the table supports no law.
            break
    found += [_judge([word, "runs.csv"], folder, table, about) for word in READERS]
    if (folder / "made").is_dir():
        words = ["recommend", "made", "--n-params", "9M", "--n-tokens", "16M", "--limit", "+3%"]
        for name in [name[5:] for name in clean.columns if str(name).startswith("loss_")]:
            words += ["--base-loss", f"{name}=4"]
        peak = ["--base-peak-learning-rate", "3e-3", "--base-n-tokens", "100M"]
        found.append(_judge([*words, *peak], folder, table, about))
        found.append(_judge(["report", "made"], folder, table, about))
        found += _find_markup(folder / "made" / "report" / "report.html", about)
    return max(found, key=lambda outcome: KINDS.index(outcome.kind))


def _passing_table(rng: Random, folder: Path) -> tuple[Cells, pd.DataFrame, str]:
    """Write a mutated ``runs.csv`` that passes the check."""
    import dcpt

    path = folder / "runs.csv"
    while True:
        table, about = mutated(rng, PASSING, SIZES)
        path.write_text(table.as_csv(), encoding="utf-8", errors="replace")
        with suppress(dcpt.InputError):
            return table, dcpt.load_runs(path), about


def _cheap_laws(clean: pd.DataFrame) -> list[str]:
    """Choose laws that a table with these columns can support and that are fitted in a second."""
    known = "base_peak_learning_rate" in clean and "warmup_tokens" in clean
    laws = ["joint-general", "paced-domain"] if known else ["d-cpt"]
    return [word for law in laws for word in ("--law", law)]


# As Python prints them, and as values of JSON; "NaN" is also a word of ordinary sentences.
_NO_NUMBER = re.compile(
    r"(?<![\w.'\"=-])[-+]?(?:nan|inf)(?![\w'\"/])|[:,\[] ?-?(?:NaN|Infinity) ?(?=[,\]}]|$)"
)


def find_no_number(text: str) -> str | None:
    """Return the first line of output with NaN or an infinity, or None."""
    lines = [] if text.startswith("Usage:") else text.splitlines()
    return next((line for line in lines if _NO_NUMBER.search(line)), None)


def _judge(words: list[str], folder: Path, table: Cells, about: str) -> Outcome:
    printed = call_dcpt(words, folder)
    kind, about = find_fault(printed), f"{words[0]}, {about}"
    shown = printed.out[-600:] if printed.code == 0 else printed.err[-1500:]
    if kind is None and printed.code == 0 and (line := find_no_number(printed.out)) is not None:
        given = any(_NO_NUMBER.search(text) for text in [*table.header, *chain(*table.rows)])
        kind, shown = (None, "") if given else ("silent", line)
    if kind is None and printed.code == 1:
        kind = "unnamed"
    return Outcome(kind or ("named" if printed.code else "equal"), about, shown)


class _Markup(HTMLParser):
    """Collects script elements and event handlers of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect an element that a page without scripts never has."""
        if tag in ("script", "iframe", "object") or any(name.startswith("on") for name, _ in attrs):
            self.found.append(self.get_starttag_text() or tag)


def _find_markup(page: Path, about: str) -> list[Outcome]:
    if not page.is_file():
        return []
    reader = _Markup()
    reader.feed(page.read_text(encoding="utf-8"))
    return [Outcome("unescaped", f"report.html, {about}", markup) for markup in reader.found[:1]]
