"""Errors of each law, and of the stack of all laws, at held-out rows of a runs table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pages import markdown

from dcpt.laws import LAWS, Fit, Points, offer_laws
from dcpt.laws.law import evaluate
from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.laws.suitable import say_refusals

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = list[list[str]]

TAILS = (0.05, 0.95)
STACK, BASE = "**stack**", "no change from the base"


def losses_by_law(fit: Fit, channel: str, points: Points) -> dict[str, Array]:
    """Predict the loss by each single law, shape (M,), nats; NaN where a law does not apply."""
    annealed, result = points.get("annealed") > 0, {}
    for name, fitted in fit.by_channel[channel].members.items():
        in_constant, in_annealed = (p in fitted.law.phases for p in ("constant", "annealed"))
        applies = fitted.accepts(points) & np.where(annealed, in_annealed, in_constant)
        if applies.any():
            at, values = points.take(applies), fitted.values
            result[name] = np.full(len(points), np.nan)
            result[name][applies] = evaluate(fitted.law, at, values, fitted.references)
    return result


def with_stack(fit: Fit, channel: str, points: Points) -> dict[str, Array]:
    """Predict the loss by each law and by the stack of all, shape (M,), nats."""
    return {**losses_by_law(fit, channel, points), STACK: fit.central(channel, points)}


def gaps_by_law(fit: Fit, data: ChannelData, held: Mask) -> dict[str, Array]:
    """Predicted minus measured loss at held-out points, by law, stack and base."""
    points, measured = data.points.take(held), data.losses[held]
    losses = with_stack(fit, data.channel, points)
    if data.side == "general":
        losses[BASE] = points.get("base_loss")
    gaps = {name: loss - measured for name, loss in losses.items()}
    return {name: gap[np.isfinite(gap)] for name, gap in gaps.items()}


def rmse(gap: Array) -> float:
    return float(np.sqrt(np.mean(gap**2)))


def in_short(title: str, channel: str, gaps: Mapping[str, Array]) -> list[str]:
    """Format a row of the summary: the stack, the best law (chosen afterwards), the base's loss."""
    alone = {name: rmse(gap) for name, gap in gaps.items() if name not in (STACK, BASE)}
    best = min(alone, key=lambda name: alone[name])
    base = f"{rmse(gaps[BASE]):.3f}" if BASE in gaps else "-"
    return [title, channel, f"{rmse(gaps[STACK]):.3f}", f"{best} {alone[best]:.3f}", base]


def about_the_stack(fit: Fit, data: ChannelData, parts: Mapping[str, Mask]) -> str:
    """Describe in a line the stack's weights and how many points its intervals contain."""
    described = []
    for part, mask in parts.items():
        points, measured = data.points.take(mask), data.losses[mask]
        weights = {n: w for n, w in fit.weights_at(data.channel, points).items() if w > 5e-3}
        low, high = np.quantile(fit.sample(data.channel, points), TAILS, axis=0)
        inside, width = ((low <= measured) & (measured <= high)).mean(), (high - low).mean()
        named = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        described.append(
            f"{part}: {named}; {inside:.0%} of {len(measured)} points in the 90 % interval, "
            f"{width:.3f} wide"
        )
    return f"- Stack, {data.channel}. " + ". ".join(described) + ".\n"


def refusals(runs: pd.DataFrame, data: ChannelData) -> str:
    """List in a line the laws that the fitted runs cannot support, with the reasons."""
    reasons = {
        name: reason
        for name, reason in offer_laws(runs, data.channel).items()
        if reason is not None and LAWS[name].side in ("any", data.side)
    }
    words = "; ".join(say_refusals(reasons, LAWS, points_from_table(runs, data.channel)))
    return f"- Refused, {data.channel}: {words}.\n"


def held_out(
    title: str, fit: Fit, runs: pd.DataFrame, held: Mask, parts: Mapping[str, Mask], short: Rows
) -> str:
    """Format the errors at parts of the held-out rows, with notes on the stack and refused laws.

    The fit is to the other rows of ``runs``. Rows of the summary are added to ``short``.
    """
    rows, notes = [], ""
    for channel in ("general", "domain"):
        data = points_from_table(runs, channel)
        masks = {part: np.asarray(mask)[data.rows - 2] for part, mask in parts.items()}
        columns = {part: gaps_by_law(fit, data, mask) for part, mask in masks.items()}
        for law in dict.fromkeys(law for gaps in columns.values() for law in gaps):
            rows.append([channel, law])
            for gaps in columns.values():
                rows[-1].append(f"{rmse(gaps[law]):.4f}" if law in gaps else "-")
                rows[-1].append(f"{gaps[law].mean():+.4f}" if law in gaps else "-")
        short += [in_short(f"{title}, {part}", channel, gaps) for part, gaps in columns.items()]
        notes += about_the_stack(fit, data, masks) + refusals(runs[~held], data)
    head = ["channel", "law", *(f"{part}: {what}" for part in parts for what in ("RMSE", "bias"))]
    return markdown(head, rows) + notes + "\n"
