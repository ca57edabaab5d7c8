"""Display of ``dcpt fit`` and ``dcpt recommend``: laws, warnings, the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dcpt.cli.console import make_table, print_line
from dcpt.flags import Flag, rank_flags, show_flags
from dcpt.laws.fits.horizon import say_horizon
from dcpt.quantities import format_rate

if TYPE_CHECKING:
    from dcpt.decide.records import Recommendation
    from dcpt.laws import Fit

_SHOWN_WEIGHT = 0.005


def show_fit(console: Console, fitted: Fit) -> None:
    """Print the laws with weight, then the warnings about the fit."""
    console.print(law_table(fitted))
    for line in say_horizon(fitted.horizons(), None):
        print_line(console, line)
    show_warnings(console, fitted)


def show_warnings(console: Console, fitted: Fit) -> None:
    """Print the warnings about a fit, the most important first."""
    print_flags(console, rank_flags(fitted.flags))


def print_flags(console: Console, flags: Sequence[Flag]) -> None:
    """Print ranked warnings: the first in full, the others in one line."""
    for line in show_flags(flags):
        print_line(console, line, "yellow")


def fit_record(fitted: Fit) -> dict[str, Any]:
    """A fit for programs: its laws, and its warnings as the terminal ranks them."""
    flags = [flag.as_dict() for flag in rank_flags(fitted.flags)]
    return {
        "fits": fitted.records(),
        "horizons": {name: asdict(horizon) for name, horizon in fitted.horizons().items()},
        "two_level": two_level_errors(fitted),
        "flags": flags,
        "size_column": fitted.size_column,
    }


def two_level_errors(fitted: Fit) -> dict[str, dict[str, float]]:
    """RMSE of the two-level model at the held-out largest size by channel and phase, nats."""
    return {
        name: dict(of.two_level.held_out)
        for name, of in fitted.by_channel.items()
        if of.two_level is not None
    }


def law_table(fitted: Fit) -> Table:
    """The laws of every channel with weight: held-out errors in nats, kinds of warnings.

    The two-level model has weights of its own at every point, and its error is that of the held-out
    largest size alone.
    """
    rows = [
        (
            law["channel"],
            law["law"],
            law["held_out_phase"],
            f"{law['weight'][law['held_out_phase']]:.2f}",
            f"{mean(law['held_out'].values()):.3f}" if law["held_out"] else "unknown",
            " ".join(flag["kind"] for flag in law["flags"]),
        )
        for law in fitted.records()
        if law["weight"][law["held_out_phase"]] >= _SHOWN_WEIGHT
    ]
    rows += [
        (channel, "two-level", phase, "by point", f"{error:.3f}", "")
        for channel, errors in two_level_errors(fitted).items()
        for phase, error in errors.items()
    ]
    table = make_table(
        f"laws by weight (N: {fitted.size_column or 'not named'}); error in nats on held-out runs",
        ("channel", "law", "phase", "weight", "error", "flags"),
        rows,
    )
    table.columns[1].no_wrap = True
    return table


def show_answer(console: Console, answer: Recommendation) -> None:
    """Print the recommendation in sentences, the cost of other shares, and the warnings."""
    from dcpt.decide.sentences import describe, unexplained_flags

    for i, line in enumerate(describe(answer)):
        print_line(console, line, "bold" if i == 0 else None)
    console.print(cost_table(answer))
    for note in cost_notes(answer):
        print_line(console, note)
    print_flags(console, unexplained_flags(answer))


def cost_table(answer: Recommendation) -> Table:
    """The losses of the recommended share, the central pair and common shares."""
    from dcpt.report.decision_tables import choices_table

    rate = answer.habits[0].learning_rate
    at = "" if rate is None else f" at a learning rate of {format_rate(rate)}"
    table = choices_table(answer)
    rows = [[cell.replace("−", "-") for cell in row[:-1]] for row in table.rows]
    title = f"what other shares cost{at}, in nats per token"
    return make_table(title, table.head[:-1], rows)


def cost_notes(answer: Recommendation) -> list[str]:
    """Explanations of the marks in the table of costs."""
    from dcpt.report.decision_tables import choice_notes, compared_choices

    return choice_notes([choice for _, choice in compared_choices(answer)])
