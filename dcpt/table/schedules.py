"""Files of learning-rate schedules, which rows of a table name in the column ``schedule``."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from dcpt.errors import InputError
from dcpt.key_problems import explain_problem
from dcpt.quantities import Count
from dcpt.table.rate_curves import Curve
from dcpt.yaml_files import read_yaml

Array = NDArray[np.float64]

MOST_STEPS = 10_000_000
"""A run with more steps than this has a wrong batch_tokens."""

MOST_SEGMENTS = 30

Rate = Annotated[float, Field(ge=0, le=1)]


class Segment(BaseModel):
    """A part of a schedule, from the end of the part before it to ``to_step``.

    Args:
        shape: Form of the curve from ``lr_from`` to ``lr_to``; ``cosine`` is half a period.
        to_step: The last step of the segment; steps count from 1.
        lr_from: Absolute learning rate of the step before the segment.
        lr_to: Learning rate of its last step; may be left out if the segment is constant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Literal["linear", "cosine", "geometric", "constant"]
    to_step: Count = Field(gt=0, le=MOST_STEPS)
    lr_from: Rate
    lr_to: Rate | None = None

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        if self.lr_to is None and self.shape != "constant":
            raise ValueError(
                f"lr_to is missing; give the rate at the end of the {self.shape} segment"
            )
        if self.shape == "constant" and self.end != self.lr_from:
            raise ValueError(
                f"lr_to {self.end:g} differs from lr_from {self.lr_from:g} in a constant segment; "
                "leave it out, or choose another shape"
            )
        if self.shape == "geometric" and not min(self.lr_from, self.end) > 0:
            raise ValueError("a geometric segment cannot start or end at 0; give rates above 0")
        return self

    @property
    def end(self) -> float:
        """Learning rate of the last step."""
        return self.lr_from if self.lr_to is None else self.lr_to

    def rates(self, n_steps: int) -> Array:
        """Learning rate of each of its steps, shape (n_steps,)."""
        done = np.arange(1, n_steps + 1) / n_steps
        if self.shape == "geometric":
            return np.asarray(self.lr_from * (self.end / self.lr_from) ** done, dtype=np.float64)
        if self.shape == "cosine":
            done = 0.5 * (1.0 - np.cos(np.pi * done))
        return self.lr_from + (self.end - self.lr_from) * done


class Schedule(RootModel[tuple[Segment, ...]]):
    """A learning-rate schedule: its segments in order."""

    model_config = ConfigDict(frozen=True)
    root: tuple[Segment, ...]

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if not 1 <= len(self.root) <= MOST_SEGMENTS:
            raise ValueError(
                f"a schedule of {len(self.root)} segments; give between 1 and {MOST_SEGMENTS}"
            )
        for number, (segment, following) in enumerate(pairwise(self.root), 2):
            if following.to_step <= segment.to_step:
                raise ValueError(
                    f"segment {number} goes to step {following.to_step} and the one before it to "
                    f"step {segment.to_step}; segments are in order and do not overlap, so to_step "
                    "must rise"
                )
        return self

    @property
    def n_steps(self) -> int:
        """The last step."""
        return self.root[-1].to_step

    @property
    def peak(self) -> float:
        """The highest learning rate."""
        return max(max(segment.lr_from, segment.end) for segment in self.root)

    def stretched(self, n_steps: int, peak: float = 1.0) -> Schedule:
        """The same curve over another number of steps, with another peak."""
        parts, last, scale = [], 0, peak / self.peak
        for segment in self.root:
            last = max(last + 1, round(segment.to_step * n_steps / self.n_steps))
            rates = {"lr_from": segment.lr_from * scale, "lr_to": segment.end * scale}
            parts.append({**segment.model_dump(), "to_step": last, **rates})
        return Schedule.model_validate(parts)

    def curve(self) -> Curve:
        """Its learning rate step by step."""
        parts, ends, last, rate = [], set(), 0, 0.0
        for segment in self.root:
            parts.append(segment.rates(segment.to_step - last))
            # A jump is a separate drop, whatever follows in the segment that it opens.
            ends |= {segment.to_step} if segment.lr_from == rate else {segment.to_step, last + 1}
            last, rate = segment.to_step, segment.end
        return Curve(np.concatenate(parts), tuple(sorted(ends)))


def load_schedules(path: str | os.PathLike[str]) -> dict[str, Schedule]:
    """Read a file of schedules.

    Args:
        path: YAML or JSON that maps each name to a list of segments::

            cosine:
              - {shape: linear, to_step: 2000, lr_from: 0, lr_to: 3e-4}
              - {shape: cosine, to_step: 24000, lr_from: 3e-4, lr_to: 3e-5}

    Returns:
        The schedules by name, as ``dcpt.fit(runs, schedules=...)`` takes them.

    Raises:
        InputError: If the file cannot be read, or with all problems of its segments together.
    """
    path = Path(path)
    found = read_yaml(path, "give the path of a file of schedules")
    if not isinstance(found, dict) or not found:
        raise InputError(
            f"{path} holds no schedules; map each name to a list of segments (shape, to_step, "
            "lr_from, lr_to)"
        )
    try:
        return TypeAdapter(dict[str, Schedule]).validate_python(found)
    except ValidationError as error:
        raise InputError(
            [f"{path.name}: {_explain(problem)}" for problem in error.errors()]
        ) from None


def _explain(problem: Any) -> str:
    """A sentence for a pydantic problem: place, value, rule, remedy."""
    place = [
        f"segment {part + 1}" if isinstance(part, int) else part[:60] for part in problem["loc"]
    ]
    return explain_problem(problem, ", ".join(place), lambda: list(Segment.model_fields))
