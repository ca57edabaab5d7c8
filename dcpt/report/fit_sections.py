"""The second half of a report: loss curves, residuals, laws and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dcpt.quantities import format_count
from dcpt.report.cells import channel_name, nats, percent, rate
from dcpt.report.fit_figures import (
    Panel,
    compare_points,
    draw_loss_panel,
    loss_panels,
    panel_title,
    ratio_roles,
    size_limits,
)
from dcpt.report.fit_tables import (
    laws_table,
    left_out_table,
    parameters_table,
    runs_table,
    sizes_table,
)
from dcpt.report.parts import Group, Heading, Part, Picture, Section, Tabled, Text
from dcpt.report.residual_figures import draw_residuals
from dcpt.report.theme import INK, MARKS, new_axes, to_svg

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

MOST_PANELS = 12
"""Most panels of loss curves per channel; with more, three learning rates per size are shown."""


_FEW = 3
"""Most panels side by side that are drawn larger."""


def loss_curves_section(fit: Fit, runs: pd.DataFrame) -> Section:
    """Losses over tokens with the law over the points, channel by channel."""
    parts: list[Part] = [
        Text(
            "Every run's losses over its training, and the law's line through them. If the lines "
            "miss the points here, do not trust the predictions above."
        )
    ]
    for channel in fit.channels:
        parts += [
            Heading(f"{channel_name(channel)} loss, nats per token".capitalize()),
            _curves(fit, runs, channel),
        ]
    return Section("loss-curves", "Loss curves", parts)


def _curves(fit: Fit, runs: pd.DataFrame, channel: str) -> Picture:
    """All panels of a channel, a group per size."""
    panels = loss_panels(fit, runs, channel)
    shown = _shown(panels)
    roles, limits = ratio_roles(runs, panels), size_limits(panels)
    several = [panel.n_params for panel in shown]
    # Sizes get rows of their own only if they have several learning rates.
    rows = max(several.count(size) for size in several) > _FEW
    groups: dict[float | None, list[str]] = {}
    for panel in shown:
        ax = new_axes(2.4, 2.2, head=0.3, side=0.44)
        figure = draw_loss_panel(ax, panel, roles, limits[panel.n_params], channel)
        title = f"learning rate {rate(panel.learning_rate)}" if rows else panel_title(panel)
        ax.set_title(title, fontsize=10, color=INK, loc="left")
        ax.set_ylabel("")  # The heading says which loss; the panel is small.
        label = f"{channel_name(channel)} loss over tokens, {panel_title(panel)}"
        groups.setdefault(panel.n_params if rows else None, []).append(to_svg(figure, label))
    annealed = any(curve.annealed_losses.size for panel in panels for curve in panel.curves)
    legend = [
        (f"{MARKS[role][1]} {percent(ratio)} domain text", role) for ratio, role in roles.items()
    ]
    legend.append(("open marks: measured at constant learning rate, lines: the law", ""))
    if annealed:
        legend.append(("filled marks: measured after a decay, bars: the law there", ""))
    few = (
        ""
        if len(shown) == len(panels)
        else (
            f" ({len(shown)} of {len(panels)} panels: the lowest, a middle and the highest "
            "learning rate of each size; the next figure has all points)"
        )
    )
    falls = (
        "after a decay the losses drop below their line"
        if annealed
        else ("each line should pass through its marks")
    )
    return Picture(
        [
            Group(svgs, "" if size is None else f"{format_count(size)} parameters")
            for size, svgs in groups.items()
        ],
        f"What to see: how {channel_name(channel)} loss moves with tokens and share; {falls}{few}.",
        legend,
        "small" if rows else "middle",
    )


def _shown(panels: list[Panel]) -> list[Panel]:
    """All panels, or three learning rates of each size where there are too many."""
    if len(panels) <= MOST_PANELS:
        return panels
    kept = []
    for size in dict.fromkeys(panel.n_params for panel in panels):
        same = [panel for panel in panels if panel.n_params == size]
        kept += [same[i] for i in sorted({0, len(same) // 2, len(same) - 1})]
    return kept


def residuals_section(fit: Fit, runs: pd.DataFrame) -> Section:
    """Residuals of the laws, point by point."""
    panels, worst = [], []
    for channel in fit.channels:
        figure = draw_residuals(fit, runs, channel)
        label = f"Measured minus predicted {channel_name(channel)} loss of every point"
        panels.append(to_svg(figure, label))
        worst.append(_typical_miss(fit, runs, channel))
    return Section(
        "residuals",
        "Predicted against measured",
        [
            Text(f"Typical miss on the points that were fitted: {'; '.join(worst)}."),
            Picture(
                [Group(panels)],
                "What to see: a good law scatters closely around the zero line at every size; a "
                "bend, or a size to one side of the line, is an effect that the law does not model "
                "(filled: after a decay).",
            ),
        ],
    )


def _typical_miss(fit: Fit, runs: pd.DataFrame, channel: str) -> str:
    """Root mean square and largest miss of a channel, as text."""
    data, predicted = compare_points(fit, runs, channel)
    missed = np.abs(data.losses - predicted)
    typical = float(np.sqrt(np.mean(missed**2)))
    return (
        f"{channel_name(channel)} {nats(typical)} nats (root mean square; the largest is "
        f"{nats(float(missed.max()))})"
    )


def laws_section(fit: Fit) -> Section:
    """The laws used, their held-out errors and their parameters."""
    records = fit.records()
    parts: list[Part] = [
        Text(
            "A law is a formula for a channel's loss. Laws are compared by their error on held-out "
            "runs, sizes or stretches of training, and weighted by these errors. Single parameters "
            "mean little even where predictions are good; flags mark them."
        ),
        Tabled(
            laws_table(records),
            "Stack weight, and error on held-out points (nats, root mean square); shaded or →: "
            "the best law",
        ),
    ]
    for record in records:
        phases = " and ".join(record["weight"])
        label = f"{record['law']} for {channel_name(record['channel'])} loss, {phases}"
        table = parameters_table(record)
        parts.append(Tabled(table, label, folded=True, note=record["formula"]))
    return Section("laws", "The laws used", parts)


def runs_section(fit: Fit, runs: pd.DataFrame) -> Section:
    """The runs that the laws were fitted to."""
    parts: list[Part] = [
        Text(
            "Losses in nats per token on fixed validation text: before training (base), at the "
            "last point of constant learning rate (constant), at the end of a decay to zero "
            "(annealed)."
        ),
        Tabled(sizes_table(runs), "By size"),
        Tabled(runs_table(runs), f"All {runs['run'].nunique()} runs", folded=True),
    ]
    left_out = left_out_table(fit)
    if left_out.rows:
        parts.append(Tabled(left_out, "Rows that were not fitted, and why", folded=True))
    return Section("runs", "Runs", parts)
