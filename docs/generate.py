"""Write the reference pages that come from the code: columns, laws and study keys.

``make docs`` calls it before the site is built: ``python docs/generate.py``. The pages are not kept
in git. The reference of the command line and of the Python names is read from ``--help`` and from
docstrings while the site is built.
"""

from __future__ import annotations

from pathlib import Path

from dcpt.laws.formulas import NOTATION
from dcpt.laws.law import Law
from dcpt.laws.menu import NAMES, laws_named
from dcpt.study.files import study_template
from dcpt.table.columns import COLUMNS

REFERENCE = Path(__file__).parent / "reference"
FIRST_LINE = "<!-- Written by docs/generate.py. -->\n\n"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def describe_columns() -> str:
    """All columns of the runs table."""
    needed = {
        None: "",
        "rows": "every row",
        "points": "every row that is not excluded",
        "trained points": "every row with D > 0 that is not excluded, if the column exists",
    }
    rows = [
        (
            f"`{column.name}<channel>`" if column.name.endswith("_") else f"`{column.name}`",
            column.unit or "text",
            column.meaning,
            needed[column.filled],
        )
        for column in COLUMNS
    ]
    return table(("column", "unit", "meaning", "needed in"), rows)


def describe_law(law: Law) -> str:
    """One law: its formula, source, needs and parameters."""
    parts = [
        f"## {law.name}",
        f"`{law.formula}`",
        f"Source: {law.source}. Side: {law.side}. Phases: {', '.join(law.phases)}. "
        f"Needs: {', '.join(law.needs)}."
        + (f" One value only: {', '.join(law.one_value)}." if law.one_value else ""),
    ]
    rows = [
        (f"`{p.name}`", p.role, f"{p.lower:g} to {p.upper:g}", p.unit, p.scale, p.meaning)
        for p in law.parameters
    ]
    head = ("parameter", "role", "bounds", "unit", "scale", "meaning")
    return "\n\n".join([*parts, table(head, rows)])


def main() -> None:
    """Write the pages."""
    notation = [(f"`{name}`", meaning) for name, meaning in NOTATION.items()]
    pages = {
        "columns.md": describe_columns(),
        "laws.md": "# Laws\n\n"
        + table(("symbol", "meaning"), notation)
        + "\n\n"
        + "\n\n".join(describe_law(law) for law in laws_named(NAMES).values()),
        "study.md": "# The study file\n\n`dcpt init` writes this file. It explains every key.\n\n"
        f"```yaml\n{study_template('study.yaml')}```",
    }
    for name, text in pages.items():
        (REFERENCE / name).write_text(f"{FIRST_LINE}{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
