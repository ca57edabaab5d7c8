"""Diagnosis of training from a run's losses: oscillation, spikes, NaN, overfitting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dcpt.diagnosis.curves import EARLY, Array, Curve
from dcpt.diagnosis.journals import Journal
from dcpt.diagnosis.records import Finding, lacking
from dcpt.laws.flags.noise import EVALUATION_NOISE
from dcpt.quantities import format_count, format_percent, format_rate

DECAY_DROP = 0.1
"""If the final decay lowers the loss by this share of the base's loss or more, the rate was too
high. The decay removes the noise that the rate causes: up to 6.8 % in the pilot, at twice the
base's own peak rate, and 2 % in synthetic runs at healthy rates; 12 and 15 % at 30 times such a
rate."""

OVERSHOOT = 0.45
"""Share of the base's loss by which an early peak of the loss falls again at constant rate: up to
3 % in the pilot and the demo; 38 % in a synthetic run at a healthy rate (the general loss, with
shuffled bytes as domain text); 53 to 157 % at 30 times such a rate."""

SWING = 0.05
"""Median swing of the training loss between log lines, as a share of the loss, from which a run
oscillates."""

LINE_TOKENS = 20_000
"""Fewest tokens of the channel behind a log line for its swing to be judged: losses of single
tokens scatter by about 1.5 nats, so with this many the text alone causes 0.01 nats. The lines of
the synthetic runs cover a hundred to a thousand tokens, and swing by up to 12 % at healthy
rates."""

FEWEST_LINES = 10
"""Fewest log lines for their swings to be judged."""

SPIKE = 0.05
"""Share of the loss by which it rises between two points and then falls again, after the first
quarter of a run: 0 in the pilot, up to 2 % in the demo; the synthetic spike rose by 39 % (domain)
and 55 % (general)."""

SPIKE_OF_LINES = 0.1
"""The same for log lines, whose batches differ: they must lie this far above the lines around them,
and ``OUTLYING`` times their scatter."""

OUTLYING = 6.0

OVERFITTED = 2 * EVALUATION_NOISE
"""Nats by which the validation loss rises from its lowest, and the training loss falls, while text
is repeated: twice the noise. The synthetic run with eleven epochs: 0.12 and 0.27."""


def about_training(curve: Curve) -> Iterator[Finding]:
    """Findings about a channel of a run; channels that were not trained are left out."""
    if not curve.is_trained:
        return
    swings = list(_about_oscillation(curve))
    yield from swings
    if not swings:
        yield from _about_spikes(curve)
    yield from _about_overfitting(curve)


def about_stops(run: str, journal: Journal) -> Iterator[Finding]:
    """Report a run that stopped at a loss that is not finite."""
    if journal.stopped is not None:
        numbers = {} if journal.n_tokens is None else {"last_point": float(journal.n_tokens)}
        yield Finding("not_finite", journal.stopped, {"run": run}, numbers, verdict="alarm")


def _about_oscillation(curve: Curve) -> Iterator[Finding]:
    """Report oscillation, by any of its three signs."""
    signs, numbers = [], {}
    drop = _largest_drop(curve)
    if drop >= max(DECAY_DROP * curve.base_loss, curve.noise):
        numbers["decay_drop"] = drop
        signs.append(
            f"its decay lowered the loss by {drop:.3f} nats, "
            f"{format_percent(drop / curve.base_loss)} of the base's loss"
        )
    over = _overshoot(curve)
    if over >= max(OVERSHOOT * curve.base_loss, curve.noise):
        numbers["overshoot"] = over
        signs.append(f"an early peak fell by {over:.3f} nats at constant learning rate")
    swing = _swing(curve)
    if swing >= SWING:
        numbers["swing"] = swing
        signs.append(f"its training loss swings by {100 * swing:.1f} % from line to line")
    if signs:
        rate = "" if np.isnan(curve.learning_rate) else f" {format_rate(curve.learning_rate)}"
        said = "; ".join(signs)
        words = f"{said[0].upper()}{said[1:]}: the learning rate{rate} is too high for this size."
        yield Finding("oscillating", words, curve.subject, numbers, verdict="alarm")


def _largest_drop(curve: Curve) -> float:
    """Largest fall of the loss from the start of a branch to its end; NaN without branches."""
    drops = [
        float(curve.losses[curve.tokens == left][0]) - end
        for left, end in curve.decays
        if (curve.tokens == left).any()
    ]
    return max(drops, default=np.nan)


def _overshoot(curve: Curve) -> float:
    """How far the loss falls from an early peak above the base's loss; NaN without such a peak."""
    early = curve.losses[: int((curve.tokens <= EARLY * curve.tokens[-1:]).sum())]
    if not len(early) or not early.max() > curve.base_loss:
        return np.nan
    return float(early.max() - max(curve.losses[-1], curve.base_loss))


def _swing(curve: Curve) -> float:
    """Median second difference of the logged training losses, halved, over the loss."""
    tokens, losses = curve.lines
    warmup = 0.0 if np.isnan(curve.warmup_tokens) else curve.warmup_tokens
    after = tokens > warmup
    tokens, losses = tokens[after], losses[after]
    if len(losses) < FEWEST_LINES:
        return np.nan
    share = 1.0 if np.isnan(curve.planned) else curve.planned
    if np.median(np.diff(tokens)) * share < LINE_TOKENS:
        return np.nan
    return float(np.median(np.abs(np.diff(losses, 2)) / 2 / losses[1:-1]))


def _about_spikes(curve: Curve) -> Iterator[Finding]:
    at, rise, where = _spike_of_points(curve)
    if np.isnan(rise):
        at, rise, where = _spike_of_lines(curve)
    if not np.isnan(rise):
        words = (
            f"The {where} jumped by {rise:.3f} nats near {format_count(at)} tokens and came back. "
            "Check the text and the gradient norm there. If it happens again, lower the rate."
        )
        numbers = {"n_tokens": at, "rise": rise}
        yield Finding("spike", words, curve.subject, numbers, verdict="alarm")


def _spike_of_points(curve: Curve) -> tuple[float, float, str]:
    """D and height of the largest late rise between two points that then falls again."""
    rises, falls = np.diff(curve.losses)[:-1], -np.diff(curve.losses)[1:]
    late = curve.late[:-2]  # the point before the rise must be late
    spikes = (
        late & (rises >= np.maximum(SPIKE * curve.losses[:-2], curve.noise)) & (falls > curve.noise)
    )
    if not spikes.any():
        return np.nan, np.nan, ""
    at = int(np.argmax(np.where(spikes, rises, -np.inf)))
    return float(curve.tokens[at + 1]), float(rises[at]), "validation loss"


def _spike_of_lines(curve: Curve) -> tuple[float, float, str]:
    """D and height of the log line that is highest above the two lines before and after it."""
    tokens, losses = curve.lines
    if len(losses) < FEWEST_LINES or not len(curve.tokens):
        return np.nan, np.nan, ""
    windows = np.lib.stride_tricks.sliding_window_view(losses, 5)
    around: Array = np.median(windows[:, [0, 1, 3, 4]], axis=1)
    above = losses[2:-2] - around
    scatter = float(np.median(np.abs(above)))
    high = (above >= SPIKE_OF_LINES * around) & (above >= OUTLYING * scatter)
    high &= tokens[2:-2] > EARLY * curve.tokens[-1]
    if not high.any():
        return np.nan, np.nan, ""
    at = int(np.argmax(np.where(high, above, -np.inf)))
    return float(tokens[at + 2]), float(above[at]), "training loss"


def _about_overfitting(curve: Curve) -> Iterator[Finding]:
    if not len(curve.tokens) or curve.epochs <= 1:
        return
    if np.isnan(curve.train_losses).all():
        yield lacking("repeated_overfitting", f"train_loss_{curve.channel}", curve.subject)
        return
    best = int(np.argmin(curve.losses))
    rise = float(curve.losses[-1] - curve.losses[best])
    fall = float(curve.train_losses[best] - curve.train_losses[-1])
    if rise >= max(OVERFITTED, curve.noise) and fall >= OVERFITTED:
        epochs = "" if np.isnan(curve.epochs) else f" over {curve.epochs:.1f} epochs of its text"
        words = (
            f"From {format_count(curve.tokens[best])} tokens on the training loss fell by "
            f"{fall:.3f} and the validation loss rose by {rise:.3f}{epochs}: the model overfits. "
            "Use a smaller share, a shorter run or more text."
        )
        numbers = {"rise": rise, "train_fall": fall, "epochs": curve.epochs}
        known = {name: value for name, value in numbers.items() if not np.isnan(value)}
        yield Finding("repeated_overfitting", words, curve.subject, known, verdict="alarm")
