"""The bases of a study: its own ladder, checkpoints, or the ladder of another study."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from dcpt.quantities import Count
from dcpt.study.section import Section
from dcpt.study.values import Fraction, Name, Rate, Seed


class LadderSize(Section):
    """A base of the ladder: a small Llama."""

    width: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    learning_rate: Rate | None = None

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not a multiple of twice the heads ({self.heads}); "
                "rotary embeddings need an even head size: choose another width, or other heads"
            )
        return self


class Ladder(Section):
    """Bases that the study pre-trains itself on the general text, all on the same tokens.

    ``start: before_decay`` lets runs go on from where the base's own decay began, with AdamW's
    moments as they were there, and without a warmup unless it is set.
    """

    sizes: dict[Name, LadderSize] = Field(min_length=1)
    tokens: Count
    learning_rate: Rate = 3e-3
    warmup: Fraction = Field(default=0.02, ge=0, lt=1)
    decay: Fraction = Field(default=0.2, ge=0, lt=1)
    final_fraction: Fraction = Field(default=0.1, ge=0, lt=1)
    start: Literal["end", "before_decay"] = "end"
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.start == "before_decay" and not self.decay:
            raise ValueError("start: before_decay needs bases with a decay; give decay > 0")
        return self


class Checkpoint(Section):
    """A checkpoint as a base: a local folder, or a hub id."""

    model: str
    peak_learning_rate: Rate | None = None
    n_tokens: Count | None = None


class BaseBeforeDecay(Checkpoint):
    """A base of another study that runs take up before its decay, with AdamW's moments.

    No study file holds it: it is found where ``bases.study`` names a ladder that starts
    ``before_decay``. ``run`` is the hash of its pre-training run, which kept its state at
    ``n_tokens``; ``model`` is its finished model.
    """

    run: str
    n_tokens: Count


class Bases(Section):
    """A ladder, checkpoints, or both; or the trained ladder of another study.

    ``study`` is the file of that study. Its bases are checkpoints of this one, under their labels
    there, and the tokenizer is theirs.
    """

    ladder: Ladder | None = None
    checkpoints: dict[Name, Checkpoint] = {}
    study: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if self.ladder is not None and self.study is not None:
            raise ValueError("give either ladder (bases of this study) or study (of another)")
        if self.ladder is None and not self.checkpoints:
            raise ValueError("name at least one base, under ladder or under checkpoints")
        twice = set(self.checkpoints) & set(self.ladder.sizes if self.ladder else ())
        if twice:
            raise ValueError(
                f"{sorted(twice)[0]!r} names both a ladder size and a checkpoint; rename one"
            )
        return self

    @property
    def names(self) -> list[str]:
        """Labels of all bases."""
        return [*(self.ladder.sizes if self.ladder else ()), *self.checkpoints]

    @property
    def all_bring_moments(self) -> bool:
        """Whether runs start with AdamW's moments from every base."""
        from_ladder = self.ladder is None or self.ladder.start == "before_decay"
        lent = (isinstance(base, BaseBeforeDecay) for base in self.checkpoints.values())
        return from_ladder and all(lent)
