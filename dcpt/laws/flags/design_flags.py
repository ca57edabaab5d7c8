"""Warnings about a table before any law is fitted: effects that its design cannot separate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.laws.flags.kinds import make_flag
from dcpt.laws.points.channel_data import ChannelData
from dcpt.laws.points.record import SAME, Points, distinct
from dcpt.table.channels import DOMAIN
from dcpt.table.schedule_phases import FALLING, phases_of
from dcpt.table.schedules import Schedule

Array = NDArray[np.float64]

CONFOUNDED = 0.9
"""Correlation of two axes (in logarithms) above which their effects cannot be separated."""

SAME_MULTIPLE = 1.1
"""Sizes whose D / N all lie within this factor were trained on the same multiple of N."""

REPEATED = 2.0
"""Epochs from which repetition matters: by arXiv 2305.16264, two of them are worth 1.97."""

EARLIER = 6
"""Points of a run before its last one through which its own curve is drawn."""

OFF_CURVE = 4.0
"""A last point this many expected errors below its curve is off it: 4 of 182 curves of the bundled
runs at constant rate are, and 38 of the 50 general ones that end in a decay."""

NO_SCATTER = 1e-3
"""Share of the loss: a last point nearer to its curve than this is on it."""

FEWEST_RUNS = 5
"""With one run a 90 % interval held 3 of 30 new synthetic runs, with two 18, with four 24."""

SAME_BASE = 0.005
"""Nats: what equal runs differ by; one base measured twice on the same tokens differs by less."""


def flag_design(data: ChannelData) -> list[Flag]:
    """Flags of a channel's points: axes without values, axes that move together, odd ends."""
    points, channel = data.points, {"channel": data.channel}
    flags = [*_about_sizes(points), *_about_rates(points)]
    if len(distinct(points, "n_tokens")) == 1:
        flags.append(make_flag("one_length"))
    if len(np.unique(data.runs)) < FEWEST_RUNS:
        flags.append(make_flag("few_runs"))
    if _ends_off_their_curves(data):
        flags.append(make_flag("undeclared_decay", channel))
    if _repeats_with_the_share(points):
        flags.append(make_flag("epochs_follow_ratio", channel))
    return flags


def flag_phase(runs: pd.DataFrame, schedules: Mapping[str, Schedule] | None) -> list[Flag]:
    """Flags of a table whose columns do not say where the learning rate decays.

    Args:
        runs: A checked runs table.
        schedules: The schedules that the column ``schedule`` names, where they were given.
    """
    named = "schedule" in runs.columns and bool(runs["schedule"].notna().any())
    if named and schedules is None:
        return [make_flag("schedules_not_given")]
    if "phase" in runs.columns:
        return []
    if not named:
        return [make_flag("phase_not_named")]
    phases = phases_of(runs.reset_index(drop=True), schedules)
    annealed, falling = (f"{int((phases == name).sum()):,}" for name in ("annealed", FALLING))
    return [make_flag("phase_by_schedule", annealed=annealed, falling=falling)]


def flag_channels(names: Sequence[str]) -> list[Flag]:
    """Flags of a table of several channels none of which is the domain.

    Args:
        names: The channels of the table.
    """
    if len(names) < 2 or DOMAIN in names:
        return []
    return [make_flag("no_domain", channels=list(names))]


def _about_sizes(points: Points) -> Iterator[Flag]:
    sizes = distinct(points, "n_params")
    if not np.isfinite(sizes).all():
        yield make_flag("no_sizes")
    elif len(sizes) == 1:
        yield make_flag("one_size")
    elif len(sizes) == 2:
        yield make_flag("few_sizes")
    if len(sizes) > 1:
        both = np.log([points.get("n_params"), points.get("n_tokens")])
        multiples = both[1] - both[0]
        if np.ptp(multiples) <= np.log(SAME_MULTIPLE) or _correlation(*both) > CONFOUNDED:
            yield make_flag("confounded", axes=["n_params", "n_tokens"])


def _about_rates(points: Points) -> Iterator[Flag]:
    rates = distinct(points, "learning_rate")
    if not np.isfinite(rates).all():
        yield make_flag("no_learning_rates")
    elif len(rates) == 1:
        yield make_flag("one_learning_rate")
    elif len(distinct(points, "n_params")) > 1:
        both = np.log([points.get("n_params"), points.get("learning_rate")])
        if abs(_correlation(*both)) > CONFOUNDED:
            yield make_flag("confounded", axes=["n_params", "learning_rate"])


def flag_settings(runs: pd.DataFrame) -> list[Flag]:
    """Flags of settings that change together with the size, the rate or the share.

    Batch and warmup are compared by the correlation of their logarithms over runs. Seeds and bases
    are flagged where each has a rate or a share of its own among the runs of every size.

    Args:
        runs: A checked runs table.
    """
    trained = runs[runs["n_tokens"] > 0]
    if "excluded" in trained:
        trained = trained[trained["excluded"].isna()]
    first = trained.groupby("run", sort=False).first()
    pairs = [
        (axis, name)
        for name in ("batch_tokens", "warmup_tokens")
        for axis in ("n_params", "learning_rate", "ratio")
        if axis in first and name in first and _move_together(first[axis], first[name])
    ]
    pairs += [
        (axis, name)
        for name in ("seed", "base")
        for axis in ("learning_rate", "ratio")
        if axis in first and name in first and _one_to_one(first, axis, name)
    ]
    return [make_flag("confounded", axes=list(pair)) for pair in pairs]


def _move_together(axis: pd.Series, setting: pd.Series) -> bool:
    known = axis.notna() & (setting > 0)
    values, other = axis[known].to_numpy(float), np.log(setting[known].to_numpy(float))
    if len(np.unique(values)) < 2 or len(np.unique(other)) < 2:
        return False
    return abs(_correlation(values if axis.name == "ratio" else np.log(values), other)) > CONFOUNDED


def _one_to_one(first: pd.DataFrame, axis: str, label: str) -> bool:
    """Whether runs of one size have another label exactly where they have another value."""
    known = first.dropna(subset=[axis, label])
    sizes = known["n_params"] if "n_params" in known else pd.Series(0, known.index)
    several = [part for _, part in known.groupby(sizes, dropna=False) if part[label].nunique() > 1]
    return bool(several) and all(
        part[axis].nunique() > 1
        and (part.groupby(axis)[label].nunique() == 1).all()
        and (part.groupby(label)[axis].nunique() == 1).all()
        for part in several
    )


def _correlation(first: Array, second: Array) -> float:
    """Correlation of two coordinates; 0 where one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _repeats_with_the_share(points: Points) -> bool:
    """Whether text is repeated and the share alone decides how much of it there was."""
    epochs, unique = points.epochs, points.unique_tokens
    if epochs is None or unique is None or not (epochs > REPEATED).any():
        return False
    ratio = np.zeros(len(points)) if points.ratio is None else points.ratio
    amounts = pd.Series(unique).groupby(ratio)
    return bool((amounts.max() <= (1 + SAME) * amounts.min()).all())


def _ends_off_their_curves(data: ChannelData) -> bool:
    """Whether half of the runs end below their own curves."""
    off = _off_curve(data)
    return len(off) > 1 and int(off.sum()) >= max(2.0, len(off) / 2)


def _off_curve(data: ChannelData) -> NDArray[np.bool_]:
    """Which runs end below their own curve, of those long enough to tell, shape (R,).

    The curve of a run is a parabola in log D through its last points at constant rate; it is
    judged by its own scatter and by how far it is drawn beyond them. A power law in D lies below
    that parabola and above the cubic: without any noise that alone tells it from a decay.
    """
    log_d, losses = _last_points(data)
    gap, expected = _beyond_curve(log_d, losses, degree=2)
    least = NO_SCATTER * losses[:, -1]
    below_cubic = _beyond_curve(log_d, losses, degree=3)[0] < 0
    return np.asarray((gap < -np.maximum(OFF_CURVE * expected, least)) & below_cubic)


def _beyond_curve(log_d: Array, losses: Array, degree: int) -> tuple[Array, Array]:
    """How far last points lie above a polynomial through those before, and its error, (R,)."""
    before = log_d[:, :-1]
    scaled = (log_d - before.mean(axis=1, keepdims=True)) / before.std(axis=1, keepdims=True)
    terms = scaled[:, :, None] ** np.arange(degree + 1)
    inverse = np.linalg.pinv(terms[:, :-1])
    solved = np.einsum("rtp,rp->rt", inverse, losses[:, :-1])
    curve = np.einsum("rpt,rt->rp", terms, solved)
    squares = ((losses - curve)[:, :-1] ** 2).sum(axis=1) / (EARLIER - degree - 1)
    leverage = (np.einsum("rt,rtp->rp", terms[:, -1], inverse) ** 2).sum(axis=1)
    return losses[:, -1] - curve[:, -1], np.sqrt(squares * (1 + leverage))


def _last_points(data: ChannelData) -> tuple[Array, Array]:
    """Log D and losses of the last points at constant rate, (R, EARLIER + 1), of runs so long."""
    declared = data.points.get("annealed") != 0  # annealed, or known to fall
    if data.points.anneal_area is not None:
        declared |= data.points.anneal_area > 0  # a schedule that has come down
    constant, tokens = np.flatnonzero(~declared), data.points.get("n_tokens")
    order = constant[np.lexsort((tokens[constant], data.runs[constant]))]
    _, length = np.unique(data.runs[order], return_counts=True)
    last = np.cumsum(length)[length > EARLIER] - 1
    rows = order[last[:, None] + np.arange(-EARLIER, 1)]
    return np.log(tokens[rows]), data.losses[rows]


def flag_evaluations(runs: pd.DataFrame, channels: Sequence[str]) -> list[Flag]:
    """Flags of losses that were measured on several sets of tokens (column ``eval_id``).

    They may be compared if a base was measured on all of them with equal losses.

    Args:
        runs: A checked runs table.
        channels: Those that are fitted.

    Raises:
        InputError: If one base (column ``base``) has different losses on two sets.
    """
    if "eval_id" not in runs.columns:
        return []
    if "excluded" in runs.columns:
        runs = runs[runs["excluded"].isna()]
    names = runs["eval_id"].dropna().unique()
    if len(names) < 2:
        return []
    found = _losses_of_bases(runs, channels)
    by_place = found.groupby(["channel", "base"])
    problems = [_say_different(part) for _, part in by_place if np.ptp(part["loss"]) > SAME_BASE]
    if problems:
        raise InputError(problems)
    on_all = (by_place["eval_id"].nunique() == len(names)).groupby("channel").any()
    if len(on_all) == len(channels) and on_all.all():
        return []
    return [make_flag("several_evaluations")]


def _losses_of_bases(runs: pd.DataFrame, channels: Sequence[str]) -> pd.DataFrame:
    """Columns channel, base, eval_id, loss: one row per base and set, nats per token."""
    runs = runs.reindex(columns=[*runs.columns.difference(["base"]), "base"])
    parts = []
    for channel in channels:
        at_base = runs[runs["n_tokens"] == 0].rename(columns={f"loss_{channel}": "loss"})
        given = runs.rename(columns={f"base_loss_{channel}": "loss"})
        parts += [
            rows[["base", "eval_id", "loss"]].dropna().assign(channel=channel)
            for rows in (at_base, given)
            if "loss" in rows.columns
        ]
    keys = ["channel", "base", "eval_id"]
    return pd.concat(parts).groupby(keys)["loss"].mean().reset_index()


def _say_different(part: pd.DataFrame) -> str:
    said = ", ".join(
        f"{loss:.4g} on {name}" for name, loss in zip(part["eval_id"], part["loss"], strict=True)
    )
    channel, base = part[["channel", "base"]].iloc[0]
    return (
        f"channel {channel}: base {base!r} has different losses by eval_id ({said}), so losses of "
        "these runs were not measured on the same tokens and cannot be compared; evaluate all "
        "runs on one set, or fit one eval_id at a time (give the other rows a reason in excluded)"
    )
