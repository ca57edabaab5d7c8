"""The figure of a result: one function for fits, recommendations and verifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure

from dcpt.decide.records import Recommendation, Verification
from dcpt.errors import InputError
from dcpt.laws.fits.result import Fit
from dcpt.report.decision_figures import plot_frontier, plot_trade_off, plot_verification
from dcpt.report.fit_figures import plot_loss_curves
from dcpt.report.residual_figures import plot_predicted_measured

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["residuals", "losses", "trade_off", "frontier"]

KINDS: dict[type, tuple[Kind, ...]] = {
    Fit: ("residuals", "losses"),
    Recommendation: ("trade_off", "frontier"),
}
"""The figures of a result, the default first."""


def plot(
    result: Fit | Recommendation | Verification,
    runs: pd.DataFrame | None = None,
    *,
    kind: Kind | None = None,
    channel: str | None = None,
) -> Figure:
    """Draw a result.

    Args:
        result: A fit, a recommendation or a verification.
        runs: The runs table that was fitted. Needed for ``losses``; gives ``residuals`` a colour
            per size. A recommendation needs none.
        kind: Of a fit, ``residuals`` (default: measured minus predicted loss, a panel per channel)
            or ``losses`` (loss over tokens with the laws, a panel per size and learning rate). Of a
            recommendation, ``trade_off`` (default: general rise and domain loss over the share, at
            the recommended learning rate) or ``frontier`` (domain loss against general rise, a line
            per learning rate). Losses are in nats per token.
        channel: The channel of ``losses``; None takes the one that the limit is on.

    Returns:
        A matplotlib figure, which no pyplot state refers to: show it in a notebook, or call
        ``savefig``.

    Raises:
        InputError: If the result has no such figure, or ``losses`` lacks its table or channel.

    Examples:
        >>> figure = dcpt.plot(recommendation)
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['domain text in training (%)', 'domain text in training (%)']
        >>> len(dcpt.plot(fit, runs, kind="losses").axes)  # two sizes, five learning rates
        10
    """
    if isinstance(result, Verification):
        return plot_verification(result)
    if not isinstance(result, Fit | Recommendation):
        raise InputError(
            f"plot has no figure of a {type(result).__name__}; give a fit, a recommendation or a "
            "verification"
        )
    kinds = KINDS[type(result)]
    if kind is not None and kind not in kinds:
        raise InputError(f"plot has no figure {kind!r} of this result; it has {', '.join(kinds)}")
    if isinstance(result, Recommendation):
        return plot_frontier(result) if kind == "frontier" else plot_trade_off(result)
    if kind != "losses":
        return plot_predicted_measured(result, runs)
    name = channel or result.general_channel or result.channels[0]
    if runs is None or name not in result.channels:
        raise InputError(
            "the figure of losses needs the runs table that was fitted and one of its channels "
            f"({', '.join(result.channels)}): plot(fit, runs, kind='losses', channel=...)"
        )
    return plot_loss_curves(result, runs, name)
