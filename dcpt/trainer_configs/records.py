"""What a trainer's configuration is written from: sources of text, stages, learning rate, batch."""

from __future__ import annotations

from dataclasses import dataclass

from dcpt.errors import InputError
from dcpt.quantities import format_count, format_rate
from dcpt.runs.identity import Side


@dataclass(frozen=True)
class DocumentLengths:
    """Lengths of a source's documents, in tokens of the trainer's tokenizer.

    Args:
        mean: Mean tokens per document, the end of text included.
        deviation: Their standard deviation; None where it is unknown.
        documents: Number of documents they were measured on; None where it is unknown.
    """

    mean: float
    deviation: float | None = None
    documents: int | None = None

    @property
    def spread(self) -> float | None:
        """Mean square over square of the mean: 1 if all documents have the same length."""
        if self.deviation is None:
            return None
        return 1 + (self.deviation / self.mean) ** 2


@dataclass(frozen=True)
class Source:
    """The text of a channel, as the trainer reads it.

    Args:
        name: The channel.
        side: The side it is on.
        weight: Its weight relative to the other general channels.
        path: Where the trainer finds the text; None if nobody has said.
        lengths: Lengths of its documents; None where they are unknown.
        unique_tokens: Tokens of its distinct documents; None where they are unknown.
    """

    name: str
    side: Side
    weight: float = 1.0
    path: str | None = None
    lengths: DocumentLengths | None = None
    unique_tokens: float | None = None

    @property
    def place(self) -> str:
        """The path, or a placeholder that no trainer finds."""
        return self.path or f"PATH-OF-{self.name}"


@dataclass(frozen=True)
class Stage:
    """Steps in which the shares of the sources do not change.

    Args:
        name: ``warmup``, ``main`` or ``decay``.
        first_step: Its first step, counted from 0.
        n_steps: Number of its steps.
        shares: Share of the stage's tokens of each source, above 0, by name; they sum to 1.
    """

    name: str
    first_step: int
    n_steps: int
    shares: dict[str, float]

    @property
    def end_step(self) -> int:
        """The first step that no longer belongs to it."""
        return self.first_step + self.n_steps


@dataclass(frozen=True)
class Recipe:
    """The target's run, as a recommendation describes it.

    Args:
        sources: All sources, by name.
        stages: The stages, in their order.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of the linear warmup from 0.
        decay_steps: Steps of the linear decay to 0, at the end of the run; 0 without a decay.
        batch_sequences: Sequences of a step over all devices.
        sequence_tokens: Tokens of a sequence.
        devices: Number of data-parallel devices.
        about: Lines about the recommendation and the command, for the head of each file.

    Raises:
        InputError: If the batch cannot be divided among the devices. Each trainer requires it: its
            batch is sequences of a device x devices x accumulation.
    """

    sources: dict[str, Source]
    stages: tuple[Stage, ...]
    learning_rate: float
    warmup_steps: int
    decay_steps: int
    batch_sequences: int
    sequence_tokens: int
    devices: int = 1
    about: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        batch, devices = self.batch_sequences, self.devices
        below = batch - batch % devices
        if below == batch:
            return
        nearest = f"{below} or {below + devices}" if below else str(devices)
        raise InputError(
            f"--devices {devices}: a batch of {batch} sequences cannot be divided among {devices} "
            f"devices; give --batch-sequences {nearest}, or another number of devices"
        )

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self.stages[-1].end_step

    @property
    def stable_steps(self) -> int:
        """Steps between warmup and decay."""
        return self.n_steps - self.warmup_steps - self.decay_steps

    @property
    def batch_tokens(self) -> int:
        """Tokens of a step."""
        return self.batch_sequences * self.sequence_tokens

    def stage_tokens(self, stage: Stage) -> int:
        """Tokens of a stage."""
        return stage.n_steps * self.batch_tokens

    def source_tokens(self, name: str) -> float:
        """Tokens of a source in the whole run."""
        return sum(self.stage_tokens(stage) * stage.shares.get(name, 0) for stage in self.stages)

    def describe(self) -> list[str]:
        """The run in lines: steps, batch, schedule, and what it reads of each source."""
        decay = (
            f"linear to 0 over the last {self.decay_steps} steps" if self.decay_steps else "none"
        )
        lines = [
            f"Run: {format_count(self.n_steps * self.batch_tokens)} tokens in {self.n_steps} steps "
            f"of {self.batch_sequences} sequences of {self.sequence_tokens} tokens.",
            f"Learning rate: peak {format_rate(self.learning_rate)}, warmup of "
            f"{self.warmup_steps} steps, decay: {decay}.",
        ]
        return lines + [self._describe_source(name) for name in self.sources]

    def _describe_source(self, name: str) -> str:
        source, tokens = self.sources[name], self.source_tokens(name)
        if source.unique_tokens is None:
            epochs = "epochs unknown"
        else:
            epochs = (
                f"{tokens / source.unique_tokens:.3g} epochs of "
                f"{format_count(source.unique_tokens)} unique tokens"
            )
        return f"Source {name}: {format_count(tokens)} tokens, {epochs}."
