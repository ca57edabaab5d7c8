"""Figures of what the laws miss: measured minus predicted loss, a panel per channel.

A constant-rate point is an open mark, a point after its decay a filled one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from dcpt.laws.points.channel_data import points_from_table
from dcpt.quantities import format_count
from dcpt.report.cells import channel_name, nats
from dcpt.report.theme import COLOURS, INK, MARKS, MUTED, PAPER, dress, new_axes, scale_roles

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Residuals:
    """What the laws of a channel miss at the M points that were fitted.

    Args:
        predicted: Predictions of the weighted laws, nats per token, shape (M,).
        missed: Measured minus predicted losses, nats, shape (M,).
        annealed: Which points lie after a decay, shape (M,).
        n_params: Parameters at each point, shape (M,); None where they are not known.
    """

    predicted: Array
    missed: Array
    annealed: NDArray[np.bool_]
    n_params: Array | None


def find_residuals(fit: Fit, channel: str, runs: pd.DataFrame | None = None) -> Residuals:
    """Compare the fitted points of a channel with the predictions of its weighted laws.

    The two-level model is left out: it follows the points that it is conditioned on, so its
    residuals there say little.

    Args:
        fit: The fitted laws.
        channel: Which losses.
        runs: The runs table that was fitted; without it the sizes are not known.
    """
    points = fit.residuals()
    points = points[points["channel"] == channel]
    weights = {phase: fit.weights(channel, phase) for phase in points["phase"].unique()}
    weight = np.array(
        [weights[phase].get(law, 0.0) for phase, law in points[["phase", "law"]].to_numpy()]
    )
    points = points.assign(weight=weight, part=weight * points["predicted"])
    rows = points.groupby("row").agg(
        {"part": "sum", "weight": "sum", "measured": "first", "phase": "first"}
    )
    rows = rows[rows["weight"] > 0]
    predicted = np.asarray(rows["part"] / rows["weight"], dtype=np.float64)
    return Residuals(
        predicted,
        np.asarray(rows["measured"], dtype=np.float64) - predicted,
        np.asarray(rows["phase"] == "annealed"),
        None if runs is None else _sizes(runs, channel, rows.index.to_numpy()),
    )


def _sizes(runs: pd.DataFrame, channel: str, rows: NDArray[np.intp]) -> Array | None:
    """Parameters at rows of the runs table, shape (M,); None where they are not known."""
    data = points_from_table(runs, channel)
    if data.points.n_params is None:
        return None
    of_row = dict(zip(data.rows.tolist(), data.points.n_params, strict=True))
    return np.array([of_row[row] for row in rows.tolist()], dtype=np.float64)


def plot_predicted_measured(
    fit: Fit, runs: pd.DataFrame | None = None, axes: Sequence[Axes] | None = None
) -> Figure:
    """Draw measured minus predicted loss against the predicted one, a panel per channel.

    Args:
        fit: The fitted laws.
        runs: The runs table; without it the sizes have one colour.
        axes: One axes per channel of the fit; None makes a figure.

    Returns:
        The figure.
    """
    names = list(fit.channels)
    if axes is None:
        figure = Figure(figsize=(4.6 * len(names), 3.4))
        axes = [figure.add_subplot(1, len(names), i + 1) for i in range(len(names))]
        figure.subplots_adjust(
            left=0.72 / (4.6 * len(names)), right=0.985, bottom=0.16, top=0.96, wspace=0.26
        )
    for ax, name in zip(axes, names, strict=True):
        draw_residuals(fit, runs, name, ax)
    return cast(Figure, axes[0].figure)


def draw_residuals(
    fit: Fit, runs: pd.DataFrame | None, channel: str, ax: Axes | None = None
) -> Figure:
    """One channel of ``plot_predicted_measured``: a colour and a marker per size."""
    ax = dress(ax or new_axes())
    found = find_residuals(fit, channel, runs)
    sizes = np.zeros(len(found.missed)) if found.n_params is None else found.n_params
    roles = scale_roles([float(size) for size in np.unique(sizes)])
    for size, role in roles.items():
        label = format_count(size) if size else None
        for after in (False, True):
            here = (sizes == size) & (found.annealed == after)
            if not here.any():
                continue
            colour = COLOURS[role].light
            ax.plot(
                found.predicted[here],
                found.missed[here],
                marker=MARKS[role][0],
                markersize=4,
                linestyle="none",
                color=colour,
                markerfacecolor=colour if after else "none",
                markeredgewidth=0.8,
                label=label,
            )
            label = None  # a size has one line in the legend, whichever phase it has
    ax.axhline(0, color=MUTED, linewidth=1)
    reach = 1.1 * max(float(np.abs(found.missed).max()), 1e-3)
    ax.set_ylim(-reach, reach)
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: nats(value, sign=value != 0)))
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(f"{channel_name(channel)} loss, predicted (nats per token)")
    ax.set_ylabel("measured minus predicted (nats)")
    if found.n_params is not None:
        ax.legend(
            frameon=True,
            framealpha=0.85,
            facecolor=PAPER,
            edgecolor="none",
            labelcolor=INK,
            handletextpad=0.2,
        )
    return cast(Figure, ax.figure)
