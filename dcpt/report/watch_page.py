"""The page of a large run that is still training: each channel against its predicted band."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dcpt.atomic_files import write_text
from dcpt.decide.watched import Watched, WatchedChannel
from dcpt.errors import InputError
from dcpt.own_folders import claim_files, record_files
from dcpt.quantities import format_count, format_loss, format_losses, format_percent
from dcpt.report.cells import channel_name, nats, percent, rate, span
from dcpt.report.page import Report, render_html
from dcpt.report.parts import Group, Picture, Section, Table, Tabled, Text, Tile
from dcpt.report.theme import DOMAIN, GENERAL, INK, PICK, dress, new_axes, to_svg

LEGEND = [
    ("predicted before the run, with its interval", ""),
    ("circles: measured", ""),
    ("forecast of the end", "pick"),
    ("dashed: the limit", ""),
]


def write_watch_page(watched: Watched, file: Path, *, every_s: float | None = None) -> Path:
    """Write the page.

    Args:
        watched: Where the run stands.
        file: An HTML file; one that dcpt did not write is not replaced.
        every_s: Seconds after which a browser loads the page again; None never.

    Raises:
        InputError: If the file cannot be written, or a person's file is in the way.
    """
    folder, names = file.parent, (file.name,)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        claim_files(folder, names)
        write_text(file, render_html(_report(watched), every_s))
        record_files(folder, names)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; name another file") from None
    return file


def _report(watched: Watched) -> Report:
    target, verdict = watched.target, watched.verdict
    return Report(
        title=watched.run,
        answer=verdict[0].upper() + verdict[1:],
        question=f"{format_count(target.n_params)} parameters, {format_count(target.n_tokens)} "
        f"tokens, limit {target.limits_in_words}, {percent(watched.ratio)} domain text at "
        f"{rate(watched.learning_rate)}",
        lead=" ".join([*watched.notes, *watched.advice]),
        tiles=[_tile(channel) for channel in watched.channels],
        sections=[_curves(watched), _numbers(watched)],
        footer="The band is the prediction before the run. The forecast is the predicted curve, "
        "shifted to the losses measured in the phase of the end.",
    )


def _tile(channel: WatchedChannel) -> Tile:
    end = channel.forecast
    more = f"{format_losses(end.low, end.high)}; before the run {nats(channel.predicted.value)}"
    if channel.allowed is not None:
        more += f"; limit {nats(channel.allowed)}"
    return Tile(f"{channel_name(channel.channel)}, forecast", nats(end.value), more)


def _curves(watched: Watched) -> Section:
    panels = [
        to_svg(plot_watched(watched, channel), f"{channel.channel} loss over tokens")
        for channel in watched.channels
    ]
    caption = f"every channel so far, and its forecast at {format_count(watched.target.n_tokens)}"
    return Section("curves", "Losses", [Picture([Group(panels)], caption, LEGEND)])


def _numbers(watched: Watched) -> Section:
    level = format_percent(watched.level)
    head = ["channel", "tokens", "measured", "predicted", f"{level} interval", "place"]
    rows: list[list[str]] = []
    bad: set[int] = set()
    for channel in watched.channels:
        for point in channel.points:
            if point.side:
                bad.add(len(rows))
            rows.append(
                [
                    channel_name(channel.channel),
                    format_count(point.n_tokens),
                    format_loss(point.measured),
                    nats(point.predicted.value),
                    span(point.predicted),
                    {0: "inside", 1: "above", -1: "below"}[point.side],
                ]
            )
    table = Tabled(Table(head, rows, bad=frozenset(bad)), "Measured and predicted losses", True)
    return Section("numbers", "Numbers", [Text("Losses in nats per token."), table])


def plot_watched(watched: Watched, channel: WatchedChannel, ax: Axes | None = None) -> Figure:
    """Draw a channel's measured losses on its band, with the forecast of its end and its limit.

    Args:
        watched: Where the run stands.
        channel: The channel.
        ax: Axes to draw on; None makes a figure.
    """
    ax = dress(ax or new_axes())
    colour = DOMAIN if channel.channel == "domain" else GENERAL
    tokens = np.array([point.n_tokens for point in channel.points])
    end = watched.target.n_tokens
    bands = [point.predicted for point in channel.points]
    low, high, middle = (
        np.array([getattr(band, name) for band in bands], dtype=np.float64)
        for name in ("low", "high", "value")
    )
    ax.fill_between(tokens, low, high, color=colour, alpha=0.16, linewidth=0)
    ax.plot(tokens, middle, color=colour, linewidth=2)
    measured = [point.measured for point in channel.points]
    ax.plot(tokens, measured, linestyle="none", marker="o", markersize=4, color=INK)
    forecast = channel.forecast
    if None not in (forecast.value, forecast.low, forecast.high):
        assert forecast.value is not None
        below, above = forecast.value - (forecast.low or 0), (forecast.high or 0) - forecast.value
        spread = [[max(below, 0.0)], [max(above, 0.0)]]
        ax.errorbar([end], [forecast.value], yerr=spread, color=PICK, marker="D", capsize=3)
    if channel.allowed is not None:
        ax.axhline(channel.allowed, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
    ax.set_xlim(0, 1.04 * end)
    ax.set_xlabel("tokens")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    ax.set_ylabel(f"{channel_name(channel.channel)} loss (nats)")
    ax.yaxis.set_major_locator(MaxNLocator(6))
    return cast(Figure, ax.figure)
