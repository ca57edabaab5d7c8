"""A channel's weighted laws: central predictions, bootstrap draws, and the error of the laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError
from dcpt.laws.fits.coverage import AXES, OUTER, PHASES, Seen
from dcpt.laws.fits.draws import pick_laws
from dcpt.laws.fits.growth import growth_at
from dcpt.laws.fits.horizon import Horizon
from dcpt.laws.fits.members import Member
from dcpt.laws.fits.stack import Comparison, Stack
from dcpt.laws.fits.two_level_member import TWO_LEVEL, TwoLevelMember
from dcpt.laws.points.record import SAME, Points

Array = NDArray[np.float64]

INNER_ERROR = 0.5
"""Part of the error at held-out shares and rates that remains at those of the runs."""

UNTESTED_SIZE_ERROR = 0.4
"""Law's error if no size could be held out, as a part of the predicted step in size.

Such steps were missed by about 40 % on tables of two sizes. Steps that were held out with the
parameters in N fitted to both sizes were missed by 4 to 38 % (``experiments/held_out_tables.md``),
which their held-out error covers.
"""


def picks(ranks: Array, stack: Stack) -> dict[str, NDArray[np.intp]]:
    """Numbers of the draws that a stack takes from each of its laws.

    Args:
        ranks: Numbers in (0, 1) that pick each draw's law, shape (n_draws,).
        stack: The stack.
    """
    picked = pick_laws(ranks, np.array(list(stack.weights.values())))
    return {name: np.flatnonzero(picked == i) for i, name in enumerate(stack.weights)}


@dataclass(frozen=True)
class ChannelFit:
    """The fit of a channel.

    Args:
        channel: Its name.
        side: ``general`` or ``domain``.
        members: Fitted laws by name.
        comparisons: By phase (``constant``, ``annealed``).
        seen: The ranges of its points.
        ranks: Numbers in (0, 1) that pick each draw's law, shape (n_draws,).
        errors: The law's own error in units of its held-out error, shape (n_draws,).
        left_out: (row, reason) of rows not fitted.
        residuals: Columns row, run, phase, law, measured, predicted.
        horizons: Errors of rolling-origin tests, by phase; a phase without tests is absent.
        two_level: The two-level model beside the laws; None if the table does not suit it, or laws
            were named by hand.
    """

    channel: str
    side: str
    members: Mapping[str, Member]
    comparisons: Mapping[str, Comparison]
    seen: Seen
    ranks: Array
    errors: Array
    left_out: tuple[tuple[int, str], ...]
    residuals: Mapping[str, list[object]]
    horizons: Mapping[str, Horizon] = field(default_factory=dict)
    two_level: TwoLevelMember | None = None

    def groups(self, points: Points) -> list[tuple[Points, NDArray[np.intp], Stack]]:
        """Group points by phase and by the laws that hold there, each group with its stack.

        Where a law with weight does not hold, the weights of the others are computed again for that
        group only. The two-level model predicts all or no points of a group. The prediction at a
        point therefore does not depend on the other points.

        Returns:
            The points of each group, their index, and the stack of laws.

        Raises:
            InputError: If no law holds at a point, with the reason of each.
        """
        annealed = np.zeros(len(points)) if points.annealed is None else points.annealed
        points = replace(points, annealed=annealed)
        parts = []
        for phase, is_annealed in PHASES.items():
            index = np.flatnonzero((annealed > 0) == is_annealed)
            if len(index) == 0:
                continue
            comparison = self.comparisons.get(phase)
            if comparison is None:
                raise InputError(
                    f"channel {self.channel} has no {phase} points, so none can be predicted"
                )
            part, names = points.take(index), list(comparison.weights)
            accepted = [self.members[name].accepts(part) for name in names]
            if self.two_level is not None:
                accepted.append(self.two_level.accepts(part))
            of_points = np.stack(accepted, axis=1)
            # Most often all points are alike, and sorting 9,000 rows takes longer than a law.
            alike = (of_points == of_points[0]).all()
            for row in of_points[:1] if alike else np.unique(of_points, axis=0):
                same = np.flatnonzero((of_points == row).all(axis=1))
                group = part.take(same)
                able = [name for name, may in zip(names, row, strict=False) if may]
                if not able:
                    words = "; ".join(self._refusals(group, names))
                    raise InputError(f"channel {self.channel} cannot be predicted there: {words}")
                parts.append((group, index[same], comparison.stack(able)))
        return parts

    def _refusals(self, points: Points, names: Sequence[str]) -> list[str]:
        """Why laws do not predict points; laws with the same reason are named together."""
        by_reason: dict[str, list[str]] = {}
        for name in names:
            reason = str(self.members[name].refuse(points)).removeprefix(f"{name} ")
            by_reason.setdefault(reason, []).append(name)
        return [f"{', '.join(laws)} {reason}" for reason, laws in by_reason.items()]

    def weights_at(self, points: Points) -> dict[str, float]:
        """Mean weights of the laws and the two-level model that predict these points; sum 1."""
        weights = dict.fromkeys([*self.members, TWO_LEVEL], 0.0)
        for part, index, stack in self.groups(points):
            of_model = self._weight_of_two_level(part, stack).mean()
            weights[TWO_LEVEL] += of_model * len(index) / len(points)
            for name, weight in stack.weights.items():
                weights[name] += (1.0 - of_model) * weight * len(index) / len(points)
        named = {n for p in self._phases(points) for n in self.comparisons[p].weights}
        named |= {TWO_LEVEL} if self.two_level is not None else set()
        return {name: weight for name, weight in weights.items() if name in named}

    def central(self, points: Points) -> Array:
        """Weighted mean of the laws and the two-level model, shape (M,), nats per token."""
        loss = np.zeros(len(points))
        for part, index, stack in self.groups(points):
            loss[index] = self._mean(part, stack)
            weight = self._weight_of_two_level(part, stack)
            if self.two_level is not None and weight.any():
                loss[index] += weight * (self.two_level.predict(part) - loss[index])
        return loss

    def sample(self, points: Points) -> Array:
        """Predictive draws, shape (n_draws, M), nats per token.

        Each is the prediction of a refitted law plus a law error from the stack's held-out error,
        averaged with a draw of the two-level model.
        """
        loss = np.zeros((len(self.ranks), len(points)))
        for part, index, stack in self.groups(points):
            block, picked = np.zeros((len(self.ranks), len(part))), picks(self.ranks, stack)
            alone = self._by_law(part, stack)
            moved = stack.guarded(alone) - alone
            for number, name in enumerate(stack.weights):
                rows = picked[name]
                if len(rows):
                    block[rows] = self.members[name].sample(part, rows) + moved[number]
            # The spread between laws covers part of the held-out error; only the rest is added.
            rest = self._stack_error(part, stack) ** 2 - block.var(axis=0)
            own = np.sqrt(np.maximum(rest, (self._residual(part) * self._growth(part, stack)) ** 2))
            block += self.errors[:, None] * own
            weight = self._weight_of_two_level(part, stack)
            if self.two_level is not None and weight.any():
                block += weight * (self.two_level.sample(part, np.arange(len(block))) - block)
            loss[:, index] = block
        return loss

    def _weight_of_two_level(self, points: Points, stack: Stack) -> Array:
        """Weight of the two-level model at points of a group, shape (M,); the laws have the rest.

        Both are weighted by the inverse square of their errors, which held-out runs scale. At the
        largest size the laws' error is the one without its runs if these are few, as laws hardly
        learn from a few runs.
        """
        model = self.two_level
        if model is None or model.refuse(points) is not None:
            return np.zeros(len(points))
        laws = self._stack_error(points, stack) ** 2
        largest = self.seen.largest["n_params"]
        if model.runs_at(largest):
            at_largest = np.isclose(points.get("n_params"), largest, rtol=SAME)
            error = self._growth(points, stack) * self._unit_error("largest_n", stack)
            laws = laws + at_largest * error**2
        return laws / (laws + model.deviations(points) ** 2)

    def _by_law(self, points: Points, stack: Stack) -> Array:
        """Predictions of the laws of a stack, shape (L, M), nats."""
        with np.errstate(over="ignore", invalid="ignore"):
            losses = [self.members[name].predict(points) for name in stack.weights]
        return np.stack(losses)

    def _mean(self, points: Points, stack: Stack) -> Array:
        return stack.mean(self._by_law(points, stack))

    def _stack_error(self, points: Points, stack: Stack) -> Array:
        """The law error of a stack at points of a phase, shape (M,), nats.

        Along each axis the held-out error is scaled by the distance of the point from the runs, in
        units of the distance of the held-out points. Beyond one unit it grows with the square root,
        as a sum of independent steps does. The domain loss beyond the longest run is the exception:
        a wrong slope stays wrong, and with the root 90 % intervals held 64 % of the annealed losses
        at four times the tokens. All errors grow with the rise of the loss.
        """
        phase, grown = self._phases(points)[0], self._growth(points, stack)
        inner = [e for s, e in stack.unit_errors.items() if s in ("ratios", "learning_rate")]
        among = INNER_ERROR * float(np.sqrt(np.mean(np.square(inner)))) if inner else 0.0
        square = (max(self._residual(points), among) * grown) ** 2
        # A mixture that is asked for is none of the runs', as those held out are none of the rest.
        square += (stack.unit_errors.get("mixtures", 0.0) * grown) ** 2
        for split, axis in AXES.items():
            steps = self.seen.remoteness(points, split, phase)
            is_slope = split == "longest_d" and self.side == "domain"
            remote = steps if is_slope else np.minimum(steps, np.sqrt(steps))
            if axis == "n_params" and "largest_n" not in stack.spread:
                untested = UNTESTED_SIZE_ERROR * self._size_step(points, stack)
                square += np.where(remote > 0, untested**2, 0.0)
            else:
                square += (remote * grown * self._unit_error(split, stack)) ** 2
        return np.asarray(np.sqrt(square), dtype=np.float64)

    def _growth(self, points: Points, stack: Stack) -> Array:
        """Factor by which errors grow at points of a phase, shape (M,)."""
        typical = self.seen.rises.get(self._phases(points)[0])
        return growth_at(points, self._mean(points, stack), typical)

    def _residual(self, points: Points) -> float:
        return self.seen.residuals[self._phases(points)[0]]

    def _unit_error(self, split: str, stack: Stack) -> float:
        """Held-out error of a split, else of one like it, per unit of growth, nats."""
        errors = (stack.unit_errors, *(c.unit_errors for c in self.comparisons.values()))
        for name in (split, OUTER.get(split, split)):
            for by_split in errors:
                if name in by_split:
                    return by_split[name]
        return max([*self.seen.residuals.values(), *stack.unit_errors.values()])

    def _size_step(self, points: Points, stack: Stack) -> Array:
        """Predicted difference between these points and the same points at the largest size."""
        at_largest = replace(
            points,
            **{
                name: np.full(len(points), value)
                for name, value in self.seen.largest.items()
                if getattr(points, name, None) is not None
            },
        )
        return np.abs(self._mean(points, stack) - self._mean(at_largest, stack))

    @staticmethod
    def _phases(points: Points) -> list[str]:
        """Phases among the points; points without a phase are at constant rate."""
        annealed = np.zeros(len(points)) if points.annealed is None else points.annealed
        return [name for name, value in PHASES.items() if ((annealed > 0) == value).any()]
