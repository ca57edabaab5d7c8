"""The best mix of the general text at a target, for runs that vary it and laws that read it.

Share of domain text, mix of the general text and learning rate are chosen together: together the
first two are the share of every source. Mixes of a lattice are compared, all in the same bootstrap
draws, and finer lattices follow around the best of them. Only mixes between the smallest and the
largest part of each channel in the runs are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dcpt.decide.general_mix import has_free_mix
from dcpt.decide.intervals import interval_of, known_or_none, limits_of
from dcpt.decide.question import Array, Question, ask
from dcpt.decide.records import Interval, Target
from dcpt.decide.surface import Surface, choosable_rates, predict_mixes, round_down
from dcpt.decide.target_schedule import phase_of_target
from dcpt.decide.trade_off import best_share
from dcpt.errors import InputError

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

MOST_CHANNELS = 6
"""General channels whose mix is searched: a lattice of as many mixes as can be predicted at a time
has three values of each part then."""

POINTS = 12_000
"""Combinations of mix, share and rate in a lattice: 0.4 s of CPU for a channel. From the second
lattice on the best mixes of the one before, at most one for each draw, are compared with it."""

MOST_SHARES = 49
"""Shares that are compared at a time: all of the grid, 0.02 apart, and then those around the best,
which are 0.005 apart where they lie within 0.24."""

MOST_RATES = 3
"""Learning rates of the runs that are compared while a mix is searched."""

MARGIN = 0.04
"""Shares this far around the best ones are compared again."""

DRAW_ROUNDS, ANSWER_ROUNDS = 3, 2
"""Lattices around the best mixes of all draws, for the intervals; then around the answer."""

MIX_DECIMALS = 2
"""The parts of a mix are whole per cent of the general text."""


@dataclass(frozen=True)
class BestMix:
    """The best mix of the general text at a target, with intervals of the share of every source.

    Args:
        mix: Part of each channel in the general text, in whole per cent.
        domain: The best share of domain text by the central predictions; its interval, with the
            mix chosen again in each bootstrap draw. A draw in which no mixture is within the limit
            counts as 0.
        general: Intervals of the share of each general channel, over the draws in which a mixture
            is within the limit; unknown where there is none.
    """

    mix: dict[str, float]
    domain: Interval
    general: dict[str, tuple[float | None, float | None]]

    def shares(self, domain: str, ratio: float | None) -> dict[str, Interval]:
        """The share of every source at a share of domain text, each with its interval."""
        found = {domain: Interval(ratio, self.domain.low, self.domain.high)}
        for name, (low, high) in self.general.items():
            share = None if ratio is None else (1 - ratio) * self.mix[name]
            found[name] = Interval(share, low, high)
        return found


@dataclass(frozen=True)
class _Mixtures:
    """The best mixtures in K draws, or a single one.

    Args:
        within: Whether any mixture is within the limit, shape (K,).
        ratio: The best share of domain text, shape (K,); NaN where none is within the limit.
        parts: Parts of the G channels in the general text of those within it, shape (<= K, G).
    """

    within: NDArray[np.bool_]
    ratio: Array
    parts: Array


@dataclass(frozen=True)
class _Round:
    """The best mixtures of a lattice.

    Args:
        at_odds: At the asked odds.
        central: By the central predictions.
        draws: In each bootstrap draw.
        answer: Parts of the best mix at the asked odds, else by the central predictions, else those
            of the lowest general loss, shape (1, G).
    """

    at_odds: _Mixtures
    central: _Mixtures
    draws: _Mixtures
    answer: Array


def find_best_mix(fit: Fit, target: Target, level: float) -> BestMix | None:
    """Search the mix of the general text where the target leaves it free.

    Args:
        fit: The fit.
        target: The target.
        level: Interval probability.

    Returns:
        The best mix; None where the target has a mix, all runs have one, or no law reads it.

    Raises:
        InputError: If the runs do not change every share on its own, there are too many channels,
            or the target is impossible.
    """
    if target.mix or not has_free_mix(fit, phase_of_target(fit, target)):
        return None
    _check(fit)
    low, high = np.array(list(fit.general_mix.values())).T
    middle = _middle(low, high)
    names = list(fit.general_mix)
    asked = ask(fit, replace(target, mix=dict(zip(names, middle.tolist(), strict=True))))
    rounds = _search(_with_few_rates(asked), names, (low, high), middle)
    draws, last = rounds[DRAW_ROUNDS - 1].draws, rounds[-1]
    shares = (1 - draws.ratio[draws.within, None]) * draws.parts
    limits = limits_of(shares, level).T.tolist() if len(shares) else [(None, None)] * len(names)
    best = known_or_none(round_down(float(last.central.ratio[0])))
    return BestMix(
        mix=_in_per_cent(names, last.answer[0]),
        domain=interval_of(best, np.nan_to_num(draws.ratio, nan=0.0), level),
        general={name: (ends[0], ends[1]) for name, ends in zip(names, limits, strict=True)},
    )


def _check(fit: Fit) -> None:
    """Refuse runs from which no best mix can be told."""
    names, tied = list(fit.general_mix), fit.tied_sources
    if tied:
        what = (
            f"the share of {tied[0]} does not change apart from the others"
            if len(tied) == 1
            else f"the shares of {', '.join(tied[:-1])} and {tied[-1]} always change together"
        )
        raise InputError(
            f"the best mixture of {', '.join(['domain', *names])} is not known: {what} in the "
            "runs. Add runs that change each share on its own, or give the mix of the general text "
            f"({' '.join(f'--mix {name}=...' for name in names)})"
        )
    if len(names) > MOST_CHANNELS:
        raise InputError(
            f"the runs have {len(names)} general channels, and the best mix is searched for at "
            f"most {MOST_CHANNELS}: give it (--mix {names[0]}=...), or add channels together in "
            "the table"
        )


def _with_few_rates(question: Question) -> Question:
    """The question with fewer learning rates to compare."""
    rates = question.choosable
    if len(rates) > 1:
        places = np.linspace(0, len(question.seen) - 1, min(MOST_RATES, len(question.seen)))
        rates = question.seen[places.round().astype(int)]
    return replace(question, rates=rates, choosable=rates)


def _with_few_shares(question: Question, around: Array) -> Question:
    """The question with the shares to compare around best shares; all of the grid around none."""
    grid = question.ratio
    if len(around):
        grid = grid[(grid >= around.min() - MARGIN) & (grid <= around.max() + MARGIN)]
    step = -(-len(grid) // MOST_SHARES)
    return replace(question, ratio=np.unique([*grid[::step], grid[-1]]))


def _search(
    question: Question, names: list[str], bounds: tuple[Array, Array], middle: Array
) -> list[_Round]:
    """Compare mixes on finer and finer lattices: around those of all draws, then of the answer."""
    count = POINTS // (MOST_SHARES * len(question.rates))
    low, high = bounds
    known, shares = middle[None], np.array([])
    rounds: list[_Round] = []
    for number in range(DRAW_ROUNDS + ANSWER_ROUNDS):
        lattice, step = _lattice(low, high, count)
        mixes = np.unique(np.concatenate([lattice, known]), axis=0)
        found = _compare(_with_few_shares(question, shares), names, mixes)
        rounds.append(found)
        every = [found.at_odds, found.central, found.draws]
        known = np.concatenate([found.answer, *(best.parts for best in every)])
        shares = np.concatenate([best.ratio[best.within] for best in every])
        around = known if number < DRAW_ROUNDS - 1 else found.answer
        low = np.maximum(bounds[0], around.min(axis=0) - step)
        high = np.minimum(bounds[1], around.max(axis=0) + step)
    return rounds


def _compare(question: Question, names: list[str], mixes: Array) -> _Round:
    """The best of M mixes of the general text, shape (M, G)."""
    surface = predict_mixes(question, dict(zip(names, mixes.T, strict=True)))
    at_odds = _best(question, surface, surface.kept, surface.minimized, mixes)
    central = _best(question, surface, surface.general, surface.minimized, mixes)
    of_draws = surface.general_draws, surface.minimized_draws
    lowest = mixes[[int(surface.general.min(axis=(1, 2)).argmin())]]
    return _Round(
        at_odds=at_odds,
        central=central,
        draws=_best(question, surface, *of_draws, mixes),
        answer=np.concatenate([at_odds.parts, central.parts, lowest])[:1],
    )


def _best(
    question: Question, surface: Surface, general: Array, minimized: Array, mixes: Array
) -> _Mixtures:
    """The best mixture of losses of shape (K, M, L, R); of (M, L, R) that of a single one."""
    shares, losses = best_share(surface.ratio, general, minimized, question.allowed)
    losses = np.where(choosable_rates(question, surface.rates), losses, np.inf)
    by_mix = losses.reshape(-1, len(mixes) * len(surface.rates))
    place = by_mix.argmin(axis=1)
    rows = np.arange(len(place))
    within = np.isfinite(by_mix[rows, place])
    ratio = np.where(within, shares.reshape(by_mix.shape)[rows, place], np.nan)
    return _Mixtures(within, ratio, mixes[place // len(surface.rates)][within])


def _lattice(low: Array, high: Array, count: int) -> tuple[Array, Array]:
    """Mixes between two ends of each part, about ``count``, and the step of each part.

    The widest part is what the others leave: where it lies outside its ends, there is no mix.
    """
    widest = int((high - low).argmax())
    free = [i for i in range(len(low)) if i != widest]
    n = max(3, int(count ** (1 / len(free))))
    axes = [np.unique(np.linspace(low[i], high[i], n)) for i in free]
    parts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(free))
    rest = 1 - parts.sum(axis=1)
    inside = (rest >= low[widest] - 1e-9) & (rest <= high[widest] + 1e-9)
    lattice = np.insert(parts[inside], widest, np.clip(rest[inside], 0, 1), axis=1)
    return lattice, (high - low) / (n - 1)


def _middle(low: Array, high: Array) -> Array:
    """A mix between two ends of each part, shape (G,), all at the same fraction of the way.

    The middles of the ends, scaled to a sum of 1, may lie outside the ends.
    """
    return np.asarray(low + (high - low) * (1 - low.sum()) / (high - low).sum())


def _in_per_cent(names: list[str], parts: Array) -> dict[str, float]:
    """Parts in whole per cent, each less than 1 % off: those with the largest rest are rounded up.

    Where the largest part takes what rounding leaves, it is off by up to 2.5 % with six channels.
    """
    scale = 10**MIX_DECIMALS
    whole = np.floor(parts * scale + 1e-6)
    n_up = round(scale - whole.sum())
    whole[np.argsort(whole - parts * scale, kind="stable")[:n_up]] += 1
    return dict(zip(names, (whole / scale).tolist(), strict=True))
