"""The figures of a report as files of their own: SVG and PNG, in the style of the page."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure

from dcpt.atomic_files import write_bytes
from dcpt.errors import InputError
from dcpt.names import CHANNEL_NAME
from dcpt.own_folders import claim_files, record_files
from dcpt.report.decision_figures import (
    base_general_loss,
    plot_domain_cost,
    plot_frontier,
    plot_trade_off,
    plot_verification,
)
from dcpt.report.fit_figures import plot_loss_curves
from dcpt.report.residual_figures import plot_predicted_measured
from dcpt.report.theme import PAPER

if TYPE_CHECKING:
    import pandas as pd

    from dcpt.decide.records import Recommendation, Verification
    from dcpt.laws.fits.result import Fit

DOTS_PER_INCH = 200
"""Of a PNG: 1,800 pixels for the two panels of the trade-off, enough for a slide or a column."""


def write_figures(
    folder: str | Path,
    *,
    runs: pd.DataFrame,
    fit: Fit,
    recommendation: Recommendation,
    verification: Verification | None = None,
) -> list[Path]:
    """Write every figure of the report as SVG and as PNG.

    The same runs give the same SVG files. Their text is text, so that it can be searched and
    edited.

    Args:
        folder: Where to write; created if absent.
        runs: The runs table that was fitted.
        fit: The fitted laws.
        recommendation: The answer.
        verification: Results of the verification runs, if any were trained.

    Returns:
        The paths, two for each figure.

    Raises:
        InputError: If the folder cannot be written, or a person's file is in the way.
    """
    place, contents = Path(folder), {}
    for name, figure in _figures(runs, fit, recommendation, verification):
        for kind in ("svg", "png"):
            contents[f"{name}.{kind}"] = _written(figure, kind)
    try:
        claim_files(place, contents)
        for name, content in contents.items():
            write_bytes(place / name, content)
        record_files(place, contents)
    except OSError as error:
        raise InputError(
            f"the figures cannot be written to {place}: {error.strerror}; name another folder"
        ) from error
    return [place / name for name in contents]


def _figures(
    runs: pd.DataFrame,
    fit: Fit,
    recommendation: Recommendation,
    verification: Verification | None,
) -> Iterator[tuple[str, Figure]]:
    """The figures with their names."""
    if recommendation.frontiers and base_general_loss(recommendation) is None:
        yield "trade_off", plot_domain_cost(recommendation)  # the rise has no zero to start from
    elif recommendation.frontiers:
        yield "trade_off", plot_trade_off(recommendation)
        yield "frontier", plot_frontier(recommendation)
    if verification is not None:
        yield "verification", plot_verification(verification)
    for number, channel in enumerate(fit.channels):
        # The column of a table may hold characters that no file name can.
        safe = channel if CHANNEL_NAME.fullmatch(channel) else f"channel_{number}"
        yield f"losses_{safe}", plot_loss_curves(fit, runs, channel)
    yield "residuals", plot_predicted_measured(fit, runs)


def _written(figure: Figure, kind: str) -> bytes:
    buffer = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dcpt"}):
        figure.savefig(
            buffer,
            format=kind,
            facecolor=PAPER,
            dpi=DOTS_PER_INCH,
            bbox_inches="tight",
            metadata={"Date": None} if kind == "svg" else None,
        )
    return buffer.getvalue()
