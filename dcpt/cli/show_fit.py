"""What ``dcpt fit`` and ``dcpt recommend`` show: laws, warnings, the answer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dcpt.cli.console import make_table, print_line
from dcpt.quantities import format_rate

if TYPE_CHECKING:
    from dcpt.decide.records import Recommendation
    from dcpt.laws import Fit

_SHOWN_WEIGHT = 0.005


def show_fit(console: Console, fitted: Fit) -> None:
    """The laws that carry weight, then the warnings about the fit."""
    console.print(law_table(fitted))
    show_warnings(console, fitted)


def show_warnings(console: Console, fitted: Fit) -> None:
    """The warnings about a fit: the weightiest in full, the others in one line."""
    from dcpt.decide.warnings import SHOWN_IN_FULL, fold_warnings, rank_flags, warning_line

    flags = rank_flags([], fitted.flags)
    lines = [flag.words for flag in flags[:SHOWN_IN_FULL]]
    if flags[SHOWN_IN_FULL:]:
        lines.append(fold_warnings(flags[SHOWN_IN_FULL:]))
    _print_warnings(console, [warning_line(line) for line in lines])


def _print_warnings(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        print_line(console, line, "yellow")


def fit_record(fitted: Fit) -> dict[str, Any]:
    """A fit for programs: its laws, and its flags with their words."""
    return {"fits": fitted.records(), "flags": flag_records(fitted.flags)}


def flag_records(flags: Sequence[str]) -> list[dict[str, str]]:
    """Flags with their words, for programs."""
    from dcpt.laws import explain_flag

    return [{"name": flag, "words": explain_flag(flag)} for flag in flags]


def law_table(fitted: Fit) -> Table:
    """The laws of every channel that carry weight: held-out errors in nats, flags by name."""
    rows = [
        (
            one["channel"],
            one["law"],
            one["held_out_phase"],
            f"{one['weight'][one['held_out_phase']]:.2f}",
            f"{mean(one['held_out'].values()):.3f}" if one["held_out"] else "unknown",
            " ".join(one["flags"]),
        )
        for one in fitted.records()
        if one["weight"][one["held_out_phase"]] >= _SHOWN_WEIGHT
    ]
    table = make_table(
        "laws by weight; error in nats on runs held out",
        ("channel", "law", "phase", "weight", "error", "flags"),
        rows,
    )
    table.columns[1].no_wrap = True
    return table


def show_answer(console: Console, answer: Recommendation) -> None:
    """The recommendation in sentences, then what other shares cost, then the warnings."""
    from dcpt.decide import summarise

    sentences = summarise(answer)
    warnings = [line for line in sentences if line.startswith("Warning: ")]
    for i, line in enumerate(line for line in sentences if line not in warnings):
        print_line(console, line, "bold" if i == 0 else None)
    console.print(cost_table(answer))
    for note in cost_notes(answer):
        print_line(console, note)
    _print_warnings(console, warnings)


def cost_table(answer: Recommendation) -> Table:
    """What the recommended share, the safe pair and common shares would cost."""
    from dcpt.report.decision_tables import choices_table

    rate = answer.habits[0].learning_rate
    at = "" if rate is None else f" at a learning rate of {format_rate(rate)}"
    table = choices_table(answer)
    rows = [[cell.replace("−", "-") for cell in row[:-1]] for row in table.rows]
    title = f"what other shares cost{at}, in nats per token"
    return make_table(title, table.head[:-1], rows)


def cost_notes(answer: Recommendation) -> list[str]:
    """What the marks in the table of costs mean."""
    from dcpt.report.decision_tables import choice_notes, compared_choices

    return choice_notes([choice for _, choice in compared_choices(answer)])
