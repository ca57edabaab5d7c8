"""The figures of a fit: loss curves with the law over the points, and residuals.

A constant-rate point is an open mark, a point after its decay a filled one; the law is a
line, and a short bar where it predicts a decayed point. Colours are an ordered scale over shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.quantities import format_count
from dcpt.report.cells import channel_name, percent, rate
from dcpt.report.theme import COLOURS, INK, MARKS, dress, scale_roles

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

Array = NDArray[np.float64]
_CURVE_POINTS = 32


@dataclass(frozen=True)
class Curve:
    """A run in a panel: measured losses and the law.

    Args:
        ratio: Share of domain text, None where the table has none.
        n_tokens: Tokens of the constant-rate points, shape (A,).
        losses: Their losses, nats per token, shape (A,).
        annealed_n_tokens: Tokens of the decayed points, shape (B,).
        annealed_losses: Their losses, shape (B,).
        annealed_law: The law there, shape (B,).
        line_n_tokens: Where the law is drawn, shape (C,).
        line: The law at constant rate, shape (C,).
    """

    ratio: float | None
    n_tokens: Array
    losses: Array
    annealed_n_tokens: Array
    annealed_losses: Array
    annealed_law: Array
    line_n_tokens: Array
    line: Array


@dataclass(frozen=True)
class Panel:
    """The curves of a size and learning rate.

    Args:
        n_params: Parameters; None where the table has none.
        learning_rate: Peak learning rate; None where the table has none.
        curves: A curve for each run.
    """

    n_params: float | None
    learning_rate: float | None
    curves: list[Curve]


def loss_panels(fit: Fit, runs: pd.DataFrame, channel: str) -> list[Panel]:
    """Collect the points of a channel and its law, a panel per (size, learning rate), in order.

    Args:
        fit: The fitted laws.
        runs: The runs table.
        channel: The channel.

    Returns:
        Panels by size, then by learning rate. Points left out of the fit are not in them.
    """
    data, law = compare_points(fit, runs, channel)
    members = [np.flatnonzero(data.runs == run) for run in np.unique(data.runs)]
    lines = _law_lines(fit, channel, data, members)
    panels: dict[tuple[float | None, float | None], list[Curve]] = {}
    for rows, (tokens, line) in zip(members, lines, strict=True):
        place = (
            _shared_value(data.points.n_params, rows),
            _shared_value(data.points.learning_rate, rows),
        )
        annealed = _annealed(data, rows)
        n_tokens = _tokens(data)
        constant, decayed = rows[~annealed], rows[annealed]
        panels.setdefault(place, []).append(
            Curve(
                _shared_value(data.points.ratio, rows),
                n_tokens[constant],
                data.losses[constant],
                n_tokens[decayed],
                data.losses[decayed],
                law[decayed],
                tokens,
                line,
            )
        )
    keys = sorted(panels, key=lambda key: (key[0] or 0.0, key[1] or 0.0))
    return [Panel(*key, sorted(panels[key], key=lambda curve: curve.ratio or 0.0)) for key in keys]


def compare_points(fit: Fit, runs: pd.DataFrame, channel: str) -> tuple[ChannelData, Array]:
    """The points of a channel that its laws were fitted to, and their predictions there.

    Args:
        fit: The fitted laws.
        runs: The runs table.
        channel: The channel.

    Returns:
        M points with their losses, and the stack's predictions, nats per token, shape (M,).
    """
    everything = points_from_table(runs, channel)
    residuals = fit.residuals()
    fitted = residuals.loc[residuals["channel"] == channel, "row"].to_numpy()
    data = everything.take(np.isin(everything.rows, fitted))
    return data, fit.central(channel, data.points)


def _shared_value(values: Array | None, rows: NDArray[np.intp]) -> float | None:
    """The value that all rows of a run share; None where it is unknown."""
    return None if values is None or np.isnan(values[rows[0]]) else float(values[rows[0]])


def _tokens(data: ChannelData) -> Array:
    """Tokens of every point."""
    assert data.points.n_tokens is not None
    return data.points.n_tokens


def _annealed(data: ChannelData, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of the rows are points after a decay."""
    annealed = data.points.annealed
    return np.zeros(len(rows), bool) if annealed is None else annealed[rows] > 0


def _law_lines(
    fit: Fit, channel: str, data: ChannelData, runs: list[NDArray[np.intp]]
) -> list[tuple[Array, Array]]:
    """The law along the constant part of every run, predicted in a single call."""
    n_tokens = _tokens(data)
    index: list[NDArray[np.intp]] = []
    tokens: list[Array] = []
    for rows in runs:
        constant = rows[~_annealed(data, rows)]
        if constant.size < 2:
            tokens.append(np.empty(0))
            continue
        ends = n_tokens[constant]
        tokens.append(np.geomspace(ends.min(), ends.max(), _CURVE_POINTS))
        index.append(np.repeat(constant[:1], _CURVE_POINTS))
    if not index:
        return [(empty, empty) for empty in tokens]
    places = replace(data.points.take(np.concatenate(index)), n_tokens=np.concatenate(tokens))
    values = fit.central(channel, places)
    cuts = np.cumsum([len(part) for part in tokens])[:-1]
    return list(zip(tokens, np.split(values, cuts), strict=True))


def plot_loss_curves(
    fit: Fit, runs: pd.DataFrame, channel: str, axes: Sequence[Axes] | None = None
) -> Figure:
    """Draw a channel's losses over tokens with the law, a panel per size and learning rate.

    Args:
        fit: The fitted laws.
        runs: The runs table.
        channel: The channel.
        axes: One axes per panel (``loss_panels``); None makes a figure, a row per size.

    Returns:
        The figure, with a legend of the shares.
    """
    panels = loss_panels(fit, runs, channel)
    if axes is None:
        sizes = list(dict.fromkeys(panel.n_params for panel in panels))
        across = max(sum(panel.n_params == size for panel in panels) for size in sizes)
        figure = Figure(figsize=(max(2.5 * across, 4.6), 2.2 * len(sizes) + 0.5))
        axes = []
        for row, size in enumerate(sizes):
            several = sum(panel.n_params == size for panel in panels)
            axes += [
                figure.add_subplot(len(sizes), across, row * across + i + 1) for i in range(several)
            ]
        figure.subplots_adjust(left=0.07, right=0.99, bottom=0.1, top=0.86, wspace=0.35, hspace=0.5)
    roles = ratio_roles(runs, panels)
    limits = size_limits(panels)
    for ax, panel in zip(axes, panels, strict=True):
        draw_loss_panel(ax, panel, roles, limits[panel.n_params], channel)
        ax.set_title(panel_title(panel), fontsize=9.5, color=INK, loc="left")
    figure = cast(Figure, axes[0].figure)
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[role].light,
            marker=MARKS[role][0],
            markerfacecolor="none",
            label=percent(ratio),
        )
        for ratio, role in roles.items()
    ]
    figure.legend(
        handles=handles, loc="upper center", ncols=len(handles), frameon=False, labelcolor=INK
    )
    return figure


def ratio_roles(runs: pd.DataFrame, panels: Sequence[Panel]) -> dict[float | None, str]:
    """The colour of every share in these panels; it is the same in all channels."""
    there = {curve.ratio for panel in panels for curve in panel.curves}
    known = runs["ratio"].dropna().astype(float).tolist() if "ratio" in runs else []
    roles = scale_roles([*known, *there])
    return {ratio: role for ratio, role in roles.items() if ratio in there}


def size_limits(panels: Sequence[Panel]) -> dict[float | None, tuple[float, float]]:
    """Common limits of the losses of each size, so that its learning rates can be compared."""
    limits: dict[float | None, tuple[float, float]] = {}
    for size in dict.fromkeys(panel.n_params for panel in panels):
        parts = [
            values
            for panel in panels
            if panel.n_params == size
            for curve in panel.curves
            for values in (curve.losses, curve.annealed_losses)
        ]
        losses = np.concatenate(parts)
        pad = 0.06 * max(float(np.ptp(losses)), 1e-3)
        limits[size] = (float(losses.min()) - pad, float(losses.max()) + pad)
    return limits


def panel_title(panel: Panel) -> str:
    """Size and learning rate of a panel."""
    size = "" if panel.n_params is None else f"{format_count(panel.n_params)}, "
    return f"{size}rate {rate(panel.learning_rate)}"


def draw_loss_panel(
    ax: Axes,
    panel: Panel,
    roles: Mapping[float | None, str],
    limits: tuple[float, float],
    channel: str,
) -> Figure:
    """Draw a panel of ``plot_loss_curves``.

    Args:
        ax: The axes to draw on.
        panel: Its curves.
        roles: Colour role by share.
        limits: Limits of the losses, nats per token.
        channel: Named on the axis.
    """
    dress(ax)
    for curve in panel.curves:
        role = roles[curve.ratio]
        colour, (mark, _) = COLOURS[role].light, MARKS[role]
        style: dict[str, Any] = {"color": colour, "marker": mark, "linestyle": "none"}
        ax.plot(curve.line_n_tokens, curve.line, color=colour, linewidth=1.1)
        ax.plot(curve.n_tokens, curve.losses, markersize=3.5, markerfacecolor="none", **style)
        ax.plot(curve.annealed_n_tokens, curve.annealed_losses, markersize=4, **style)
        style["marker"] = "_"
        ax.plot(curve.annealed_n_tokens, curve.annealed_law, markersize=13, **style)
    spans = [part for c in panel.curves for part in (c.n_tokens, c.annealed_n_tokens) if part.size]
    tokens = np.concatenate(spans)
    log_tokens(ax, float(tokens.min()) / 1.25, float(tokens.max()) * 1.35)
    ax.set_ylim(*limits)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel("tokens")
    ax.set_ylabel(f"{channel_name(channel)} loss (nats)")
    return cast(Figure, ax.figure)


def log_tokens(ax: Axes, low: float, high: float) -> None:
    """A logarithmic axis of tokens with a few labels such as ``1M`` and ``10M``."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    marks = [10.0**e for e in exponents if low <= 10.0**e <= high]
    if len(marks) < 2:
        marks = [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    ax.xaxis.set_major_locator(FixedLocator(marks[:: 1 + len(marks) // 5]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
