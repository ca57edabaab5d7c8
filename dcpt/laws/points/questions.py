"""Convert a prediction request (a frame, or numbers by keyword) to the points of a channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.points.channel_data import SHARE, base_losses, points_from_columns, shares_of_sources
from dcpt.laws.points.record import Points
from dcpt.table.cells import show
from dcpt.table.columns import KIND_RULES, known_column
from dcpt.table.rate_histories import read_history
from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]

FIELDS = (
    *("n_params", "n_tokens", "ratio", "learning_rate", "base_peak_learning_rate"),
    *("base_n_tokens", "warmup_tokens", "batch_tokens", "branch_n_tokens"),
    *("lr_area", "anneal_area"),
)
"""Numeric columns of a prediction request."""

TEXTS = ("phase", "schedule")
"""Text columns of a prediction request."""

DECAY = 0.1
"""Default length of a decay without ``branch_n_tokens``, as a fraction of the tokens before it."""


def frame_from_keywords(keywords: Mapping[str, Any]) -> pd.DataFrame:
    """Build a frame of table columns from keywords.

    Args:
        keywords: Numbers or texts by column name; scalars are repeated to the common length. None
            stands for a column that is not given.

    Returns:
        A frame with one row per requested point.

    Raises:
        InputError: If a keyword is not a column of a prediction request, a value is not a number,
            or the lengths differ.
    """
    of_channels = ("base_loss_<channel>", "unique_tokens_<channel>", "share_<channel>")
    allowed = (*FIELDS, *TEXTS, "base_loss", *of_channels)
    families = ("base_loss_", "unique_tokens_", SHARE)
    wrong = [name for name in keywords if name not in allowed and not name.startswith(families)]
    if wrong:
        raise InputError(f"predict does not know {', '.join(wrong)}; it takes {', '.join(allowed)}")
    given = {name: value for name, value in keywords.items() if value is not None}
    size = max((np.size(v) for v in given.values()), default=0)
    if any(np.size(v) not in (1, size) for v in given.values()):
        sizes = ", ".join(f"{n} has {np.size(v)}" for n, v in given.items())
        raise InputError(f"predict needs columns of one length, but {sizes}; give equal lengths")
    frame = pd.DataFrame({n: np.broadcast_to(np.ravel(v), size) for n, v in given.items()})
    for name in frame.columns:
        if name not in TEXTS:
            _numbers(frame, name)
    return frame


def check_question(frame: pd.DataFrame) -> None:
    """Check a prediction request by the rules of the runs table.

    Unlike in the table, counts may be fractional, so that a curve over tokens can be sampled.

    Args:
        frame: Table columns.

    Raises:
        InputError: With all problems, each with the column, the value, the rule and the remedy.
    """
    problems = []
    at_base = np.zeros(len(frame), dtype=bool)
    if "n_tokens" in frame.columns:
        at_base = np.asarray(frame["n_tokens"] == 0)
        if len(frame) and at_base.all():
            problems.append(
                "n_tokens 0 is the base before CPT, whose losses are inputs and not predictions; "
                "give n_tokens above 0"
            )
    for name in map(str, frame.columns):
        try:
            if name == "phase":
                _phases(frame, name)
            elif name in FIELDS or name.startswith(("base_loss", "unique_tokens_", SHARE)):
                problems += _broken_rules(name, _numbers(frame, name))
            elif name.startswith("loss_"):
                problems += _broken_rules(name, _numbers(frame[at_base], name))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)


def _broken_rules(name: str, values: Array) -> Iterator[str]:
    """One sentence about the first rule of a column that its numbers break, if any."""
    column = known_column("base_loss_own" if name == "base_loss" else name)
    values = values[~np.isnan(values)]
    if column is None or not len(values):
        return
    tested = np.floor(values) if column.kind == "count" else values
    for rule in (*KIND_RULES[column.kind], *column.rules):
        broken = np.flatnonzero(rule.broken(tested))
        if len(broken):
            value = float(values[broken[0]])
            says = rule.says(value) if np.isfinite(value) else "is not a finite number; correct it"
            more = f" ({len(broken) - 1:,} more like it)" if len(broken) > 1 else ""
            yield f"{name} {show(value)} {says}{more}"
            return


def _numbers(frame: pd.DataFrame, name: str) -> Array:
    try:
        return np.asarray(pd.to_numeric(frame[name]), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"predict needs numbers in {name}, but a value is not a number ({error}); write "
            "7000000000, not 7B"
        ) from error


def _phases(frame: pd.DataFrame, default: str) -> pd.Series:
    """The phase of each row; rows at D = 0 may have any.

    Raises:
        InputError: If a phase is neither ``constant`` nor ``annealed``.
    """
    if "phase" not in frame.columns:
        return pd.Series(default, frame.index)
    phase = frame["phase"]
    wrong = ~phase.isin(["constant", "annealed"])
    if "n_tokens" in frame.columns:
        wrong &= frame["n_tokens"] != 0
    if wrong.any():
        raise InputError(
            f"phase {phase[wrong].iloc[0]!r} cannot be predicted: write constant (at the trunk's "
            "learning rate) or annealed (after a decay to zero)"
        )
    return phase


def ask_points(
    frame: pd.DataFrame,
    channel: str,
    side: str,
    general: str | None,
    defaults: Mapping[str, float | None],
    phase: str,
    schedules: Mapping[str, Schedule] | None = None,
    with_history: bool = True,
    sources: Sequence[str] = (),
    shape: Schedule | None = None,
) -> Points:
    """Convert a frame to the points of a channel.

    Args:
        frame: M rows with table columns. Base losses are taken from D = 0 rows of the same run,
            else from ``base_loss_<channel>``, else from ``base_loss``.
        channel: Name of the channel.
        side: Side of the channel, ``general`` or ``domain``.
        general: The channel whose base loss represents the general side; None if there is none, and
            the channel's own base loss serves.
        defaults: Values for columns that are missing from the frame; None is unknown.
        phase: Phase of all rows if the frame has no column ``phase``.
        schedules: Schedules by the names used in the column ``schedule``.
        with_history: Whether to compute the history of the learning rate. It is slow for a target
            with many steps, so it is computed only for laws that need it.
        sources: Sources whose shares a law reads (columns ``share_<channel>``).
        shape: The schedule that every row is at the end of, see
            :func:`dcpt.table.rate_histories.read_history`; None takes what the columns say.

    Returns:
        M points.

    Raises:
        InputError: If a value is not a number, a phase is unknown, a schedule is unknown, or
            schedules are named but not given.
    """
    missing = {
        name: value
        for name, value in defaults.items()
        if value is not None and name not in frame.columns
    }
    frame = frame.assign(**missing)

    phases = _phases(frame, phase)
    points = points_from_columns(lambda name: _numbers_if_given(frame, name), channel, side, phases)
    own, of_general = _base_losses(frame, channel, side, general)
    shares = shares_of_sources(lambda name: _numbers_if_given(frame, name), sources)
    points = replace(points, base_loss=own, base_loss_general=of_general, source_shares=shares)
    if schedules is None and "schedule" in frame.columns and frame["schedule"].notna().any():
        raise InputError(
            f"schedule {frame['schedule'].dropna().iloc[0]!r} is named and no file of schedules is "
            "given; add --schedules FILE (schedules=)"
        )
    if not with_history:
        return points
    numbers = {name: _numbers(frame, name) for name in FIELDS if name in frame}
    numeric = frame.assign(**numbers, phase=phases)
    return replace(points, **read_history(numeric, schedules, DECAY, shape))


def _numbers_if_given(frame: pd.DataFrame, name: str) -> Array | None:
    return _numbers(frame, name) if name in frame.columns else None


def _base_losses(
    frame: pd.DataFrame, channel: str, side: str, general: str | None
) -> tuple[Array | None, Array | None]:
    """The base's losses of a channel and of the general side; the column ``base_loss`` is either.

    See :func:`ask_points` for the arguments.
    """
    either = _numbers_if_given(frame, "base_loss")
    own = _base_loss(frame, channel)
    own = either if own is None else own
    of_general = own if general is None else _base_loss(frame, general)
    if of_general is None and side == "general":
        of_general = either
    return own, of_general


def _base_loss(frame: pd.DataFrame, channel: str) -> Array | None:
    """The base loss of a channel, shape (M,): from D = 0 rows, or from its own column."""
    if {"run", "n_tokens", f"loss_{channel}"} <= set(frame.columns):
        losses = base_losses(frame, channel)
        return losses if np.isfinite(losses).any() else None
    return _numbers_if_given(frame, f"base_loss_{channel}")
