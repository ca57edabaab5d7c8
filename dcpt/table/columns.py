"""Every column that the runs table knows: its unit, its meaning and the rules of its cells.

A name that ends in ``_`` stands for one column per channel (``loss_`` for ``loss_general``,
``loss_domain`` ...). Other columns are the user's own: they are kept and never read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import did_you_mean, find_nearest

Values = NDArray[Any]
"""Cells of one column, (rows,): float64 with NaN where unknown, or text with None."""

PHASES = ("base", "constant", "annealed")

BASE_LOSS = "base_loss_"
"""The family of columns with the losses of the base."""


@dataclass(frozen=True)
class Rule:
    """What a cell must satisfy.

    Args:
        broken: The cells that break the rule, from all known cells of the column at once.
        says: The rule and the remedy for one broken cell: the part of a sentence after its value.
        of_points: Whether rows with a reason in ``excluded`` may break it.
    """

    broken: Callable[[Values], NDArray[np.bool_]]
    says: Callable[[Any], str]
    of_points: bool = False


@dataclass(frozen=True)
class Column:
    """One known column, or one family of columns (``name`` ends in ``_``).

    Args:
        name: The column, or what stands before the channel's name.
        kind: ``text``, ``number``, or ``count`` (a whole number >= 0).
        unit: Unit of a number, for people.
        meaning: One line for people.
        rules: Rules of each known cell, beyond those of the kind.
        filled: Which rows need the cell where the table has the column: every row; every point
            (rows without a reason in ``excluded``); every trained point (a point with D > 0).
        one_per_run: Whether one run has one value.
    """

    name: str
    kind: Literal["text", "number", "count"]
    unit: str
    meaning: str
    rules: tuple[Rule, ...] = ()
    filled: Literal["rows", "points", "trained points"] | None = None
    one_per_run: bool = False


def _says_size(value: float) -> str:
    suffix, scale = ("M", 1e6) if value >= 100 else ("B", 1e9)
    return (
        "is below 1,000 where a count of parameters is expected; is it in millions or billions? "
        f"{value:g} looks like {value:g}{suffix}, which is written {value * scale:.0f}"
    )


def _says_phase(value: str) -> str:
    hint = did_you_mean(value.lower(), PHASES)
    return f"is not a phase; write base (D = 0), constant or annealed{hint}"


_NOT_FINITE = Rule(
    np.isinf,
    lambda value: (
        "is not a finite number; correct it, or leave the cell empty and give a reason in the "
        "column excluded"
    ),
)
_NOT_WHOLE = Rule(
    lambda values: (values < 0) | (values % 1 != 0) | (values > 1e18),
    lambda value: "is not a whole count from 0 to 1e18; write the count itself",
)
_NOT_PRINTABLE = Rule(
    lambda texts: np.array([not text.isprintable() for text in texts], dtype=bool),
    lambda value: "holds a line break or a control character; write one line of plain text",
)
KIND_RULES: dict[str, tuple[Rule, ...]] = {
    "text": (_NOT_PRINTABLE,),
    "number": (_NOT_FINITE,),
    "count": (_NOT_FINITE, _NOT_WHOLE),
}
"""Rules that every column of a kind has; the first broken one is reported."""

_NOT_NEGATIVE = Rule(lambda values: values < 0, lambda value: "is negative; write a number >= 0")
_BATCH = Rule(
    lambda values: values < 1,
    lambda value: "is no batch; write the tokens of one step over all devices",
)
_SIZE = Rule(lambda values: values < 1000, _says_size)
_RATIO = Rule(
    lambda values: (values < 0) | (values > 1),
    lambda value: (
        "lies outside 0..1, where a share of the tokens is expected; is it in percent? "
        f"{value:g} % is written {value / 100:g}"
    ),
)
_LEARNING_RATE = Rule(
    lambda values: (values <= 0) | (values > 1),
    lambda value: (
        "is not a learning rate in (0, 1]; write the trunk's peak rate itself, such as 0.0003, "
        "not a multiple of another"
    ),
)
_POSITIVE_LOSS = Rule(
    lambda values: values <= 0,
    lambda value: "is not a loss > 0; nats per token are expected, not a log-likelihood or a rise",
)
# The smallest positive numbers overflow in the fit, which takes the logarithms of losses.
_TINY_LOSS = Rule(
    lambda values: (values > 0) & (values < 1e-6),
    lambda value: (
        "is below 0.000001, which no model reaches in nats per token; correct it, or leave the "
        "cell empty and give a reason in the column excluded"
    ),
    of_points=True,
)
_LOSS_UNIT = Rule(
    lambda values: values > 20,
    lambda value: (
        "is above 20 where nats per token are expected; is it a perplexity (take its natural "
        "logarithm) or a sum (divide it by the number of tokens)?"
    ),
    of_points=True,  # a run that diverged may stay in the table
)
_LOSS = (_POSITIVE_LOSS, _TINY_LOSS, _LOSS_UNIT)
_PHASE = Rule(lambda texts: ~np.isin(texts.astype(str), PHASES), _says_phase)
# A column of 0 and 1 would otherwise exclude every row, since "0" is text too.
_REASON = Rule(
    lambda texts: np.isin(
        np.char.lower(texts.astype(str)), ("true", "false", "yes", "no", "0", "1", "nan", "none")
    ),
    lambda value: (
        "is not a reason; write why the row is left out, or leave the cell empty to keep it"
    ),
)

COLUMNS: tuple[Column, ...] = (
    Column("run", "text", "", "the trunk's name; its branches have it too", filled="rows"),
    Column("n_tokens", "count", "tokens", "D, decay included; 0 is the base", filled="rows"),
    Column("loss_", "number", "nats/token", "validation loss", _LOSS),
    Column("n_params", "count", "count", "parameters in all", (_SIZE,), "trained points", True),
    Column("n_params_non_embedding", "count", "count", "without embeddings", (_SIZE,), None, True),
    Column("n_params_active", "count", "count", "used for each token", (_SIZE,), None, True),
    Column("ratio", "number", "0..1", "share of domain tokens", (_RATIO,), "trained points", True),
    Column(
        "learning_rate",
        "number",
        "absolute",
        "the trunk's peak",
        (_LEARNING_RATE,),
        "trained points",
        True,
    ),
    Column("phase", "text", "", ", ".join(PHASES), (_PHASE,), filled="points"),
    Column("branch_n_tokens", "count", "tokens", "D at which the branch left its trunk"),
    Column("lr_area", "number", "LR x steps", "S1 of arXiv 2408.11029", (_NOT_NEGATIVE,)),
    # S2 is a sum of drops and negative while the rate climbs, so it only has to be finite.
    Column("anneal_area", "number", "LR x steps", "S2 of arXiv 2408.11029"),
    Column("schedule", "text", "", "name of the learning-rate schedule"),
    Column("batch_tokens", "count", "tokens", "tokens of one step", (_BATCH,), None, True),
    Column("warmup_tokens", "count", "tokens", "length of the warmup", (), None, True),
    Column("base", "text", "", "label of the base", (), None, True),
    Column(BASE_LOSS, "number", "nats/token", "the base's own loss", _LOSS),
    Column(
        "base_peak_learning_rate",
        "number",
        "absolute",
        "peak rate of the base's pre-training",
        (_LEARNING_RATE,),
        None,
        True,
    ),
    Column("base_n_tokens", "count", "tokens", "the base's pre-training", (), None, True),
    Column("se_", "number", "nats/token", "standard error of the loss", (_NOT_NEGATIVE,)),
    Column("share_", "number", "0..1", "share of the channel in training", (_RATIO,)),
    Column("unique_tokens_", "count", "tokens", "unique text behind the channel"),
    Column("train_loss_", "number", "nats/token", "training loss since the point before", _LOSS),
    Column(
        "all_loss_",
        "number",
        "nats/token",
        "loss on all validation text, near-copies of training text included",
        _LOSS,
    ),
    Column("weight_", "number", "", "fixed weight of a general channel", (_NOT_NEGATIVE,)),
    Column("seed", "count", "", "seed of the run", (), None, True),
    Column("size", "text", "", "label of the size"),
    Column("eval_id", "text", "", "label of the evaluation's fixed tokens"),
    Column("excluded", "text", "", "the reason why the row is left out of every fit", (_REASON,)),
)
"""The known columns, in the order of the documentation."""

SIZE_COLUMNS = ("n_params", "n_params_non_embedding", "n_params_active")
"""Columns that may be N in the laws, the default first."""

_BY_NAME = {column.name: column for column in COLUMNS if not column.name.endswith("_")}
_FAMILIES = {column.name: column for column in COLUMNS if column.name.endswith("_")}


def channels_of(names: Collection[str]) -> list[str]:
    """The channels that columns of these names have losses of, in their order."""
    return [name.removeprefix("loss_") for name in names if name.startswith("loss_") and name[5:]]


def base_channels_of(names: Collection[str]) -> list[str]:
    """The channels that columns of these names have losses of the base of, in their order."""
    return [name.removeprefix(BASE_LOSS) for name in names if name.startswith(BASE_LOSS)]


def channel_of(name: str) -> str | None:
    """The channel that a column of a family would be of (``x`` for ``se_x``); else None."""
    return next((name[len(p) :] for p in _FAMILIES if name.startswith(p) and name != p), None)


def in_normal_form(name: str) -> str:
    """A column's name with its channel in normal form C; other names as they are."""
    return name if channel_of(name) is None else unicodedata.normalize("NFC", name)


def known_column(name: str, channels: Collection[str] | None = None) -> Column | None:
    """The record of a table column.

    Args:
        name: Name of the column in the table.
        channels: Channels of the table: ``weight_decay`` is a person's own column unless there is
            a channel ``decay``. None takes any channel. A base's loss is read without them: the
            general side may be measured at the base only.

    Returns:
        The record; None for a column of a person's own.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    for prefix, column in _FAMILIES.items():
        channel = name.removeprefix(prefix)
        if not channel or channel == name:
            continue
        if channels is None or channel in channels or prefix == BASE_LOSS:
            return column
    return None


def nearest_column(name: str) -> str | None:
    """The known column whose name is nearest to this one, if any is near."""
    return find_nearest(name.lower(), [*_BY_NAME, *(f"{p}<channel>" for p in _FAMILIES)])
