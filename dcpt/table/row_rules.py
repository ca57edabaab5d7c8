"""Rules between the cells of a row and between the rows of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.table.cells import show
from dcpt.table.channels import general_channels
from dcpt.table.columns import known_column

FEWEST_TOKENS = 1000
"""A table of models whose longest run saw fewer tokens counts them in another unit."""


@dataclass(frozen=True)
class Finding:
    """Rows that break one rule in one column; the sentence is only written for those shown."""

    column: str
    rows: NDArray[np.intp]
    sentence: Callable[[int], str]


def row_findings(table: pd.DataFrame, labels: pd.Index[Any]) -> Iterator[Finding]:
    """Rules between cells.

    Args:
        table: The points (rows that are not excluded) whose cells are all sound.
        labels: Names of all rows of the table, for messages.
    """
    yield from _phase_findings(table)
    yield from _token_findings(table)
    yield from _key_findings(table, labels)
    for name in table.columns.astype(str):
        column = known_column(name)
        if column is not None and column.one_per_run:
            yield from _varying_findings(table, name, labels, of_run=True)
    for channel in general_channels(table):
        if f"weight_{channel}" in table:
            yield from _varying_findings(table, f"weight_{channel}", labels, of_run=False)


def _phase_findings(table: pd.DataFrame) -> Iterator[Finding]:
    tokens = table["n_tokens"]
    left_at = table.get("branch_n_tokens")
    if "phase" not in table:
        if left_at is not None:
            yield Finding(
                "branch_n_tokens",
                table.index[left_at.notna()].to_numpy(),
                lambda row: (
                    f"{show(left_at[row])} belongs to a branch, and the table has no column phase;"
                    " add it (base, constant, annealed)"
                ),
            )
        return
    phase = table["phase"]
    yield Finding(
        "n_tokens",
        table.index[(phase == "base") & (tokens != 0)].to_numpy(),
        lambda row: (
            f"{show(tokens[row])} in a row of phase base, where it must be 0; write 0, or the "
            "phase constant or annealed"
        ),
    )
    yield Finding(
        "phase",
        table.index[(phase != "base") & (tokens == 0)].to_numpy(),
        lambda row: f"{phase[row]!r} at n_tokens 0, which is the base before CPT; write base",
    )
    if left_at is None:
        return
    yield Finding(
        "branch_n_tokens",
        table.index[(phase == "annealed") & (left_at >= tokens)].to_numpy(),
        lambda row: (
            f"{show(left_at[row])} is not below n_tokens {show(tokens[row])}; n_tokens counts "
            "the tokens of the decay too, so write the D of the branch's end there"
        ),
    )
    yield Finding(
        "branch_n_tokens",
        table.index[(phase != "annealed") & left_at.notna()].to_numpy(),
        lambda row: (
            f"{show(left_at[row])} in a row of phase {phase[row]}; only annealed rows leave a "
            "trunk: empty the cell, or write annealed"
        ),
    )


def _token_findings(table: pd.DataFrame) -> Iterator[Finding]:
    """Tokens that are steps, or counted in millions or billions."""
    tokens, batch = table["n_tokens"], table.get("batch_tokens")
    trained = tokens > 0
    if batch is not None and (trained & (tokens < batch)).any():
        yield Finding(
            "n_tokens",
            table.index[trained & (tokens < batch)].to_numpy(),
            lambda row: (
                f"{show(tokens[row])} is less than batch_tokens {show(batch[row])}, the tokens of "
                "one step; if it counts steps, multiply it by batch_tokens"
            ),
        )
    elif trained.any() and tokens.max() < FEWEST_TOKENS and "n_params" in table:
        yield Finding(
            "n_tokens",
            table.index[trained].to_numpy(),
            lambda row: (
                f"{show(tokens[row])} counts tokens, and no run of the table saw "
                f"{FEWEST_TOKENS:,}; if it is in millions or billions, write the tokens "
                "themselves, such as 7000000000 or 7B"
            ),
        )


def _key_findings(table: pd.DataFrame, labels: pd.Index[Any]) -> Iterator[Finding]:
    optional = [name for name in ("phase", "branch_n_tokens") if name in table]
    key = ["run", "n_tokens", *optional]
    if "phase" in table:
        says = f"a point ({', '.join(key)}) is there once; remove one, or give its run another name"
    else:
        says = (
            "the table has no column phase; add it (base, constant, annealed) if one of them "
            "is the end of a decay, otherwise remove one or give its run another name"
        )

    def sentence(row: int) -> str:
        mine = table.loc[row, key]
        same = (table[key] == mine) | (table[key].isna() & mine.isna())
        first = table.index[same.all(axis="columns")][0]
        return (
            f"{show(mine['n_tokens'])} of run {mine['run']!r} repeats row {labels[first]}; {says}"
        )

    yield Finding("n_tokens", table.index[table.duplicated(key)].to_numpy(), sentence)


def _varying_findings(
    table: pd.DataFrame, name: str, labels: pd.Index[Any], *, of_run: bool
) -> Iterator[Finding]:
    """Rows whose value differs from the first of their run, or of the whole table."""
    known = table[table[name].notna()]
    group = known["run"] if of_run else pd.Series(name, index=known.index)
    first = known[name].groupby(group, sort=False).transform("first")

    def sentence(row: int) -> str:
        before = labels[known.index[group == group[row]][0]]
        rule = f"one run ({group[row]!r}) has one {name}" if of_run else "a weight is fixed"
        remedy = "correct it, or give the run another name" if of_run else "give it one value"
        return (
            f"{show(known[name][row])} differs from {show(first[row])} in row {before}; "
            f"{rule}: {remedy}"
        )

    yield Finding(name, known.index[(known[name] != first).to_numpy()].to_numpy(), sentence)
