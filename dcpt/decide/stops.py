"""The values that each setting around a target can take, and the losses of bases of other sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dcpt.decide.checks import depends_on_text
from dcpt.decide.records import Recommendation, Target
from dcpt.decide.worst_channel import GENERAL_WORST
from dcpt.limit import Limit
from dcpt.table.channels import GENERAL_TOTAL

if TYPE_CHECKING:
    from dcpt.laws.fits.result import Fit

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Sizes and tokens, as multiples of the target's. The answers at a size and a number of tokens take
0.4 s on a core, so 25 of them take 9 s."""

TEXT_FACTORS = (0.5, 1.0, 2.0)
"""Amounts of domain text, as multiples of the target's."""

LIMITS: Mapping[str, tuple[float, ...]] = {
    "percent": (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0),
    "nats": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2),
}
"""Limits on the general loss, by unit."""

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Odds that a limit is kept at."""

SAME_SIZE = 0.05
"""Sizes this near, relatively, are one size: a slope between them would be noise."""


@dataclass(frozen=True)
class Stops:
    """The values of each setting, ascending; the target's own is among them.

    Args:
        n_params: Sizes.
        n_tokens: Tokens of the run.
        unique_tokens: Unique tokens of domain text; a None alone if no law depends on them.
        limits: Limits on the general loss; the target's own alone (None without one) if it has none
            or has limits on several channels.
        confidences: Odds that the limit is kept at; the target's own alone without a limit.
    """

    n_params: tuple[float, ...]
    n_tokens: tuple[float, ...]
    unique_tokens: tuple[float | None, ...]
    limits: tuple[Limit | None, ...]
    confidences: tuple[float, ...]


def find_stops(fit: Fit, recommendation: Recommendation) -> Stops:
    """The settings around a target.

    The size is a setting where the runs have sizes and the base's losses are known at two or more.
    """
    target, domain = recommendation.target, recommendation.domain_channel
    own = target.confidence
    laws = [law for law, weight in recommendation.laws[domain].items() if weight > 0]
    text = target.unique_tokens.get(domain) if depends_on_text(fit, domain, laws) else None
    by_size = fit.size_column is not None and sizes_with_known_bases(fit, target) > 1
    return Stops(
        n_params=_around(target.n_params, FACTORS) if by_size else (target.n_params,),
        n_tokens=_around(target.n_tokens, FACTORS),
        unique_tokens=(None,) if text is None else _around(text, TEXT_FACTORS),
        limits=_limits(recommendation),
        confidences=tuple(sorted({*(CONFIDENCES if recommendation.limits else ()), own})),
    )


def _limits(recommendation: Recommendation) -> tuple[Limit | None, ...]:
    """Limits on the general loss; with limits on several channels there are no others."""
    limit = recommendation.target.limit
    if limit is None or len(recommendation.limits) > 1:
        return (limit,)
    amounts = {*LIMITS[limit.unit], limit.amount}
    return tuple(replace(limit, amount=amount) for amount in sorted(amounts))


def _around(value: float, factors: Sequence[float]) -> tuple[float, ...]:
    """Multiples of a value with two digits; the value itself as it is."""
    return tuple(value if factor == 1 else float(f"{factor * value:.2g}") for factor in factors)


def sizes_with_known_bases(fit: Fit, target: Target) -> int:
    """At how many sizes every loss of the target's base is known; 0 if it has none."""
    losses = _named_losses(fit, target)
    return min((len(_known_losses(fit, target, name)) for name in losses), default=0)


def base_losses_at(fit: Fit, target: Target, n_params: float) -> dict[str, float]:
    """Losses of a base of another size, nats per token.

    They lie on the lines through the known bases (the target's and those of the runs) in the
    logarithms of size and loss. Beyond the last base its line goes on.
    """
    if n_params == target.n_params:
        return _named_losses(fit, target)
    return {
        name: _on_the_line(_known_losses(fit, target, name), n_params)
        for name in _named_losses(fit, target)
    }


def _named_losses(fit: Fit, target: Target) -> dict[str, float]:
    """The base's losses, without those that are computed from others."""
    losses = {name: loss for name, loss in target.base_losses.items() if name != GENERAL_WORST}
    if fit.general_weights and all(name in losses for name in fit.general_weights):
        losses.pop(GENERAL_TOTAL, None)
    return losses


def _known_losses(fit: Fit, target: Target, channel: str) -> list[tuple[float, float]]:
    """(size, loss) of the target's base and of the runs' bases of other sizes, ascending."""
    known = [(target.n_params, target.base_losses[channel])]
    for size, loss in fit.bases.get(channel, ()):
        if size and all(abs(np.log(size / other)) > SAME_SIZE for other, _ in known):
            known.append((size, loss))
    return sorted(known)


def _on_the_line(known: Sequence[tuple[float, float]], n_params: float) -> float:
    sizes, losses = np.log(np.array(known)).T
    left = int(np.clip(np.searchsorted(sizes, np.log(n_params)) - 1, 0, len(sizes) - 2))
    slope = (losses[left + 1] - losses[left]) / (sizes[left + 1] - sizes[left])
    return float(np.exp(losses[left] + slope * (np.log(n_params) - sizes[left])))
