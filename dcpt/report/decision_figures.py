"""The figures of a decision: trade-off, frontier and verification.

Every ``plot_*`` draws on the axes it is given or on a new ``matplotlib.figure.Figure`` (never
pyplot's state) and returns the figure. Losses are nats per token, shares are per cent of domain
text. The figures of a fit are in ``dcpt.report.fit_figures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dcpt.decide.records import Choice, Frontier, Recommendation, Verification
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.report.cells import channel_name, percent, rate
from dcpt.report.fit_figures import plot_loss_curves
from dcpt.report.line_labels import place_labels
from dcpt.report.residual_figures import plot_predicted_measured
from dcpt.report.theme import (
    COLOURS,
    DOMAIN,
    GENERAL,
    INK,
    MUTED,
    PAPER,
    PICK,
    dress,
    new_axes,
    scale_roles,
)
from dcpt.table.study_rows import LARGEST_LOSS

__all__ = [
    "base_general_loss",
    "frontier_at",
    "plot_domain_cost",
    "plot_frontier",
    "plot_general_rise",
    "plot_loss_curves",
    "plot_predicted_measured",
    "plot_trade_off",
    "plot_verification",
]

Array = NDArray[np.float64]


def base_general_loss(recommendation: Recommendation) -> float | None:
    """The general loss of the base, nats per token; None where it is not known."""
    channel = recommendation.general_channel
    return None if channel is None else recommendation.target.base_losses.get(channel)


def _allowed_rise(recommendation: Recommendation, base: float) -> float | None:
    """The largest rise of the general loss within the limit; None without a limit."""
    allowed = recommendation.allowed_general_loss
    return None if allowed is None else allowed - base


def frontier_at(recommendation: Recommendation) -> Frontier | None:
    """The frontier at the recommended learning rate, or else the middle frontier."""
    frontiers = recommendation.frontiers
    if not frontiers:
        return None
    best = recommendation.best
    if best is None or best.learning_rate is None:
        return frontiers[len(frontiers) // 2]
    wanted = np.log(best.learning_rate)
    return min(frontiers, key=lambda f: abs(np.log(f.learning_rate or 1.0) - wanted))


def plot_trade_off(recommendation: Recommendation, axes: Sequence[Axes] | None = None) -> Figure:
    """Draw general rise and domain loss against the share, at the recommended learning rate.

    Args:
        recommendation: The recommendation to draw.
        axes: Two axes (general, domain); None makes a figure.

    Returns:
        The figure.
    """
    if axes is None:
        figure = Figure(figsize=(9.2, 3.6))
        axes = [figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)]
        figure.subplots_adjust(left=0.08, right=0.985, top=0.95, bottom=0.15, wspace=0.22)
    plot_general_rise(recommendation, axes[0])
    return plot_domain_cost(recommendation, axes[1])


def plot_general_rise(recommendation: Recommendation, ax: Axes | None = None) -> Figure:
    """Draw the rise of the general loss against the share, with limit, r*, interval and habits.

    The base's general loss has to be known.
    """
    ax = dress(ax or new_axes())
    frontier = frontier_at(recommendation)
    base = _number(base_general_loss(recommendation))
    allowed = _allowed_rise(recommendation, base)
    if frontier is not None:
        shares = 100 * np.asarray(frontier.ratio)
        middle, low, high = (
            _numbers(values) - base
            for values in (frontier.general, frontier.general_low, frontier.general_high)
        )
        high = np.where(np.isnan(high), LARGEST_LOSS - base, high)  # beyond the figure's edge
        ax.fill_between(shares, low, high, color=GENERAL, alpha=0.16, linewidth=0)
        ax.plot(shares, middle, color=GENERAL, linewidth=2)
        ax.set_ylim(*_rise_window(recommendation, frontier, allowed or 0.0))
        _draw_habits(ax, shares, middle, _at_rate(recommendation, frontier), GENERAL)
    ax.axhline(0, color=MUTED, linewidth=0.8)
    if allowed is not None:
        ax.axhline(allowed, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
        ax.annotate(
            f"limit {recommendation.target.limits_in_words}",
            (0.015, allowed),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color=INK,
        )
    best = recommendation.best
    if best is not None:
        _draw_pick(ax, recommendation, best.general_rise.value)
    _label_shares(ax, "general loss, rise over the base (nats)")
    return cast(Figure, ax.figure)


def plot_domain_cost(recommendation: Recommendation, ax: Axes | None = None) -> Figure:
    """Draw the domain loss against the share, with r*, its interval and the habits."""
    ax = dress(ax or new_axes())
    frontier = frontier_at(recommendation)
    if frontier is not None:
        shares = 100 * np.asarray(frontier.ratio)
        middle = _numbers(frontier.domain)
        low, high = _numbers(frontier.domain_low), _numbers(frontier.domain_high)
        ax.fill_between(shares, low, high, color=DOMAIN, alpha=0.18, linewidth=0)
        ax.plot(shares, middle, color=DOMAIN, linewidth=2)
        # Near share 0 the domain loss is that of an untouched base: it would flatten all the rest.
        seen = (shares >= 10) & ~np.isnan(low) & ~np.isnan(high)
        if seen.any():
            bottom, top = np.fmin.reduce(low[seen]), np.fmax.reduce(high[seen])
            ax.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
        _draw_habits(ax, shares, middle, _at_rate(recommendation, frontier), DOMAIN)
    best = recommendation.best
    if best is not None:
        _draw_pick(ax, recommendation, best.losses[recommendation.domain_channel].value)
    _label_shares(ax, "domain loss (nats per token)")
    return cast(Figure, ax.figure)


def _rise_window(
    recommendation: Recommendation, frontier: Frontier, allowed: float
) -> tuple[float, float]:
    """Axis limits of the rise: they include the answer, not the cliff near share 1."""
    base = _number(base_general_loss(recommendation))
    low = _extreme(np.fmin, frontier.general_low, base) - base
    high = _extreme(np.fmax, frontier.general_high, base) - base
    best = recommendation.best
    reach = [4 * abs(allowed), 0.02]
    if best is not None and best.general_rise.high is not None:
        reach.append(1.6 * best.general_rise.high)
    top = min(float(high), max(reach))
    top = max(top, 1.15 * allowed)
    bottom = max(min(float(low), 0.0), -top)
    return bottom - 0.06 * (top - bottom), top + 0.02 * (top - bottom)


def _numbers(losses: Sequence[float | None]) -> Array:
    """Losses of a record as numbers; unpredictable losses are NaN, which is not drawn."""
    return np.array(losses, dtype=np.float64)


def _number(loss: float | None) -> float:
    return np.nan if loss is None else loss


def _extreme(find: np.ufunc, losses: Sequence[float | None], otherwise: float) -> float:
    """The lowest or highest known loss; ``otherwise`` if none is known."""
    known = [loss for loss in losses if loss is not None]
    return float(find.reduce(known)) if known else otherwise


def _at_rate(recommendation: Recommendation, frontier: Frontier) -> list[Choice]:
    """The common shares that were predicted at the frontier's learning rate."""
    return [
        habit
        for habit in recommendation.habits
        if habit.learning_rate is None
        or frontier.learning_rate is None
        or np.isclose(habit.learning_rate, frontier.learning_rate, rtol=0.02)
    ]


def _draw_habits(ax: Axes, shares: Array, middle: Array, habits: list[Choice], colour: str) -> None:
    """Mark the common shares on a curve."""
    if not habits:
        return
    places = np.array([100 * habit.ratio for habit in habits])
    ax.plot(
        places,
        np.interp(places, shares, middle),
        linestyle="none",
        marker="o",
        markersize=5,
        markerfacecolor=PAPER,
        markeredgecolor=colour,
        markeredgewidth=1.4,
    )


def _draw_pick(ax: Axes, recommendation: Recommendation, height: float | None) -> None:
    """Mark the recommended share as a diamond on the curve, and its interval as a strip."""
    best, interval = recommendation.best, recommendation.ratio_interval
    assert best is not None
    if interval.low is not None and interval.high is not None:
        ax.axvspan(100 * interval.low, 100 * interval.high, color=PICK, alpha=0.13, linewidth=0)
    ax.axvline(100 * best.ratio, color=PICK, linewidth=1.4)
    if height is not None:
        ax.plot([100 * best.ratio], [height], color=PICK, marker="D", markersize=7, zorder=5)
    ax.annotate(
        f"r* {percent(best.ratio)}",
        (100 * best.ratio, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if best.ratio > 0.5 else 5, 0),
        textcoords="offset points",
        ha="right" if best.ratio > 0.5 else "left",
        va="top",
        color=PICK,
        weight="bold",
    )


def _label_shares(ax: Axes, label: str) -> None:
    """Axis of shares in per cent."""
    ax.set_xlim(0, 100)
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel("domain text in training (%)")
    ax.set_ylabel(label)
    ax.yaxis.set_major_locator(MaxNLocator(6))


def plot_frontier(recommendation: Recommendation, ax: Axes | None = None) -> Figure:
    """Draw domain loss against general rise: a line per learning rate, the recommended pair."""
    ax = dress(ax or new_axes())
    base = _number(base_general_loss(recommendation))
    allowed = _allowed_rise(recommendation, base)
    frontiers = recommendation.frontiers
    roles = scale_roles([frontier.learning_rate for frontier in frontiers])
    chosen = frontier_at(recommendation)
    windows: list[tuple[float, float]] = []
    seen: list[Array] = []
    lines: list[tuple[Array, Array, Frontier]] = []
    for frontier in frontiers:
        window = _rise_window(recommendation, frontier, allowed or 0.0)
        rise, domain = _numbers(frontier.general) - base, _numbers(frontier.domain)
        visible = (rise <= window[1]) & (np.asarray(frontier.ratio) >= 0.1) & ~np.isnan(domain)
        windows.append((float(np.fmin.reduce(rise, initial=0.0)), window[1]))
        seen.append(domain[visible])
        lines.append((rise, domain, frontier))
    if frontiers:
        left, right = min(w[0] for w in windows), max(w[1] for w in windows)
        ax.set_xlim(left - 0.03 * (right - left), right)
        heights = np.concatenate(seen) if any(s.size for s in seen) else np.array([0.0, 1.0])
        pad = 0.06 * max(float(np.ptp(heights)), 1e-3)
        ax.set_ylim(float(heights.min()) - pad, float(heights.max()) + pad)
    places = place_labels(ax, [line[:2] for line in lines])
    for (rise, domain, frontier), place in zip(lines, places, strict=True):
        _draw_frontier(ax, rise, domain, frontier, roles, frontier is chosen, place)
    if allowed is not None:
        ax.axvline(allowed, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
        ax.annotate(
            f"limit {recommendation.target.limits_in_words}",
            (allowed, 0.985),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            color=INK,
        )
    best = recommendation.best
    if best is not None:
        ax.plot(
            [_number(best.general_rise.value)],
            [_number(best.losses[recommendation.domain_channel].value)],
            color=PICK,
            marker="D",
            markersize=8,
            markeredgecolor=PAPER,
            linestyle="none",
            zorder=6,
        )
    ax.set_xlabel("general loss, rise over the base (nats)")
    ax.set_ylabel("domain loss (nats per token)")
    return cast(Figure, ax.figure)


def _draw_frontier(
    ax: Axes,
    rise: Array,
    domain: Array,
    frontier: Frontier,
    roles: dict[float | None, str],
    chosen: bool,
    place: tuple[float, float],
) -> None:
    """Draw the line of a learning rate, with its label at a place on it."""
    colour, weight = COLOURS[roles[frontier.learning_rate]].light, "bold" if chosen else "normal"
    ax.plot(rise, domain, color=colour, linewidth=2.6 if chosen else 1.4)
    if frontier.learning_rate is None or np.isnan(place).any():
        return
    ax.text(
        *place,
        rate(frontier.learning_rate),
        ha="center",
        va="center",
        color=colour,
        weight=weight,
        zorder=5,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
    )


def plot_verification(verification: Verification, axes: Sequence[Axes] | None = None) -> Figure:
    """Draw predicted intervals and measured losses, a panel per channel, a row per trained run.

    A measurement inside its interval is a filled diamond; a miss is a cross with the label MISS.

    Args:
        verification: Results of the verification runs.
        axes: One axes per channel; None makes a figure.

    Returns:
        The figure.
    """
    names = verified_channels(verification)
    if axes is None:
        figure = Figure(figsize=(4.6 * len(names), 1.1 + 0.6 * len(verification.runs)))
        axes = [figure.add_subplot(1, len(names), i + 1) for i in range(len(names))]
        figure.subplots_adjust(left=0.16, right=0.97, bottom=0.25, top=0.9, wspace=0.35)
    for ax, name in zip(axes, names, strict=True):
        draw_verified(verification, name, ax)
    return cast(Figure, axes[0].figure)


def verified_channels(verification: Verification) -> list[str]:
    """Channels that were both predicted and measured, in the order of the records."""
    names: dict[str, None] = {}
    for run in verification.runs:
        names |= {name: None for name in run.predicted if name in run.measured}
    names.pop(GENERAL_WORST, None)  # no model has such a loss
    return list(names)


def draw_verified(verification: Verification, name: str, ax: Axes) -> Figure:
    """Draw a channel of ``plot_verification``."""
    dress(ax)
    ax.grid(axis="y", visible=False)
    runs = [run for run in verification.runs if name in run.measured and name in run.predicted]
    for row, run in enumerate(runs):
        interval = run.predicted[name]
        style: dict[str, Any] = {"color": MUTED, "solid_capstyle": "round"}
        if interval.low is not None and interval.high is not None:
            ax.plot([interval.low, interval.high], [row, row], linewidth=7, alpha=0.35, **style)
        if interval.value is not None:
            ax.plot([interval.value], [row], marker="|", markersize=11, mew=2, **style)
        inside = run.inside.get(name)
        ax.plot(
            [run.measured[name]],
            [row],
            marker="X" if inside is False else "D",
            markersize=9 if inside is False else 7,
            color=DOMAIN if inside is False else PICK,
            markeredgecolor=PAPER,
            linestyle="none",
        )
        ax.annotate(
            {True: "inside", False: "MISS", None: "no interval"}[inside],
            (run.measured[name], row),
            xytext=(0, -9),
            textcoords="offset points",
            ha="center",
            va="top",
            color=DOMAIN if inside is False else PICK,
            weight="bold",
        )
    ax.set_yticks(range(len(runs)), [percent(run.ratio) for run in runs])
    ax.set_ylabel("domain text")
    ax.set_ylim(len(runs) - 0.3, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.12)
    ax.set_xlabel(f"{channel_name(name)} loss (nats per token)")
    return cast(Figure, ax.figure)
