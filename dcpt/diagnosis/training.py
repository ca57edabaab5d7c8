"""What a run's losses say about its training: oscillation, spikes, NaN, overfitting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dcpt.diagnosis.curves import EARLY, Array, Curve
from dcpt.diagnosis.journals import Journal
from dcpt.diagnosis.records import Finding
from dcpt.laws.flags.noise import EVALUATION_NOISE
from dcpt.quantities import format_count, format_percent, format_rate

DECAY_DROP = 0.1
"""Share of the base's loss that a final decay takes back, from which the rate was too high. The
decay takes back the noise that the rate makes: up to 6.8 % in the pilot, at twice the base's own
peak, and 2 % in made runs at healthy rates; 12 and 15 % in those at 30 times such a rate."""

OVERSHOOT = 0.45
"""Share of the base's loss by which a loss that was thrown up early comes down again, the rate
constant: up to 3 % in the pilot and the demo; 38 % in one made run at a healthy rate, the general
loss beside shuffled bytes; 53 to 157 % in those at 30 times such a rate."""

SWING = 0.05
"""Median swing of a training loss from one line to the next, as a share of the loss, from which it
oscillates."""

LINE_TOKENS = 20_000
"""Tokens of the channel that a line must tell of for its swing to be judged: losses of single
tokens scatter by some 1.5 nats, so that the text alone then makes .01 nats. The lines of the made
runs tell of some hundred to thousand tokens, and swing by up to 12 % at healthy rates."""

FEWEST_LINES = 10
"""Lines about training from which their swings are judged."""

SPIKE = 0.05
"""Share of the loss by which it rises from one point to the next and then falls again, beyond the
first quarter of a run: 0 in the pilot, up to 2 % in the demo; the made spike rose by 39 % (domain)
and 55 % (general)."""

SPIKE_OF_LINES = 0.1
"""The same for lines about training, whose batches differ: they must lie this far, and
``OUTLYING`` times their own scatter, above the lines around."""

OUTLYING = 6.0

OVERFITTED = 2 * EVALUATION_NOISE
"""Nats by which the validation loss rises from its lowest, and the training loss falls, while text
is repeated: twice the noise. The made run on a pool seen eleven times: .12 and .27."""


def about_training(curve: Curve) -> Iterator[Finding]:
    """Findings about one channel of one run; a channel without text in training is noise here."""
    if not curve.is_trained:
        return
    swings = list(_about_oscillation(curve))
    yield from swings
    if not swings:
        yield from _about_spikes(curve)
    yield from _about_overfitting(curve)


def about_stops(run: str, journal: Journal) -> Iterator[Finding]:
    """A run that stopped at a loss that is not finite."""
    if journal.stopped is not None:
        numbers = {} if journal.n_tokens is None else {"last_point": float(journal.n_tokens)}
        yield Finding("not_finite", "alarm", journal.stopped, run, None, numbers)


def _about_oscillation(curve: Curve) -> Iterator[Finding]:
    """One finding from whichever of the three signs are there."""
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
        words = f"{'; '.join(signs)}: the learning rate{rate} is too high for this size"
        yield Finding("oscillating", "alarm", words, curve.run, curve.channel, numbers)


def _largest_drop(curve: Curve) -> float:
    """Loss where a branch left minus that at its end, the largest of all; NaN without any."""
    drops = [
        float(curve.losses[curve.tokens == left][0]) - end
        for left, end in curve.decays
        if (curve.tokens == left).any()
    ]
    return max(drops, default=np.nan)


def _overshoot(curve: Curve) -> float:
    """How far the loss comes down from its early height above the base's; NaN where it has none."""
    early = curve.losses[: int((curve.tokens <= EARLY * curve.tokens[-1:]).sum())]
    if not len(early) or not early.max() > curve.base_loss:
        return np.nan
    return float(early.max() - max(curve.losses[-1], curve.base_loss))


def _swing(curve: Curve) -> float:
    """Median second difference of the training losses of a run's lines, halved, over the loss."""
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
            f"the {where} jumped by {rise:.3f} nats near {format_count(at)} tokens and came back: "
            "look at the text and the gradient norm there; if it comes again, lower the rate"
        )
        numbers = {"n_tokens": at, "rise": rise}
        yield Finding("spike", "alarm", words, curve.run, curve.channel, numbers)


def _spike_of_points(curve: Curve) -> tuple[float, float, str]:
    """D and height of the largest rise from one late point to the next that then falls again."""
    rises, falls = np.diff(curve.losses)[:-1], -np.diff(curve.losses)[1:]
    late = curve.late[:-2]  # the rise begins there already
    there = (
        late & (rises >= np.maximum(SPIKE * curve.losses[:-2], curve.noise)) & (falls > curve.noise)
    )
    if not there.any():
        return np.nan, np.nan, ""
    at = int(np.argmax(np.where(there, rises, -np.inf)))
    return float(curve.tokens[at + 1]), float(rises[at]), "validation loss"


def _spike_of_lines(curve: Curve) -> tuple[float, float, str]:
    """D and height of the training line that stands out of the two before and the two after."""
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
        column = f"train_loss_{curve.channel}"
        words = f"cannot be judged without {column}"
        yield Finding(
            "repeated_overfitting",
            "cannot be judged",
            words,
            curve.run,
            curve.channel,
            lacks=column,
        )
        return
    best = int(np.argmin(curve.losses))
    rise = float(curve.losses[-1] - curve.losses[best])
    fall = float(curve.train_losses[best] - curve.train_losses[-1])
    if rise >= max(OVERFITTED, curve.noise) and fall >= OVERFITTED:
        seen = "" if np.isnan(curve.epochs) else f", its text seen {curve.epochs:.1f} times"
        words = (
            f"from {format_count(curve.tokens[best])} tokens on the training loss fell by "
            f"{fall:.3f} and the validation loss rose by {rise:.3f}{seen}: the model overfits; use "
            "a smaller share, a shorter run or more text"
        )
        numbers = {"rise": rise, "train_fall": fall, "epochs": curve.epochs}
        known = {name: value for name, value in numbers.items() if not np.isnan(value)}
        yield Finding("repeated_overfitting", "alarm", words, curve.run, curve.channel, known)
