"""What defines a run, and what is recorded with it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

NUMERICS = 2
"""Raised by hand when a change to training alters losses; old runs are then trained again."""

Packing = Literal["concatenated", "documents"]
"""Whether tokens attend to all tokens before them in the sequence, or only in their document."""

Side = Literal["general", "domain", "extra", "validation"]

Purpose = Literal["base", "grid", "next", "verify"]
"""Why a run was trained: as a base, for the study's grid, chosen by ``dcpt refine`` to narrow the
decision, or to verify a recommendation."""

CHOSEN: tuple[Purpose, ...] = ("next", "verify")
"""Purposes of runs that a study file need not list; their rows are in the study's table too."""


class Frozen(BaseModel):
    """A record that refuses unknown keys and changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelIdentity(Frozen):
    """A channel of text as a run reads it.

    ``weight`` is relative to the other general channels. Only decays with a mixture of their own
    read an ``extra`` channel.
    """

    name: str
    side: Side
    weight: float
    train_sha256: str
    valid_sha256: str


class Optimizer(Frozen):
    """AdamW and gradient clipping."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0


class Architecture(Frozen):
    """A Llama-type base, with tied embeddings, that the study pre-trains itself."""

    width: int
    layers: int
    heads: int
    vocab_size: int
    max_sequence_tokens: int


class Decay(Frozen):
    """A linear decay of the learning rate from its peak to ``final_fraction`` of it.

    Args:
        mixture: Shares of all channels in it, by name; None goes on with the trunk's mixture.
        optimizer: Whether AdamW's moments are taken over from the trunk or reset.
    """

    start_tokens: int
    n_tokens: int
    final_fraction: float = 0.0
    mixture: dict[str, float] | None = None
    optimizer: Literal["carried", "reset"] = "carried"


class Identity(Frozen):
    """The settings that define a run: two runs with equal identities have equal losses.

    Args:
        base: ``ladder`` (pretrain, with its architecture), ``run:<hash of the pretrain run>``,
            or ``weights:<sha256>`` of a checkpoint.
        trunk: Hash of the trunk that a branch starts from.
        base_state_tokens: Tokens at which the base's full state, with moments, was saved, if a
            trunk starts from it and not from the finished base.
        warmup_tokens: Tokens over which the learning rate rises linearly to its peak.
        warmup_ratio: Share of domain tokens during the warmup; None means ``ratio``.
        decay: The final decay of a branch or of a pre-training; None for a trunk.
        validation_tokens: Tokens of each channel's validation shard, evaluated at every point.
    """

    kind: Literal["pretrain", "trunk", "branch"]
    base: str
    architecture: Architecture | None = None
    base_state_tokens: int | None = None
    trunk: str | None = None
    tokenizer_sha256: str
    channels: tuple[ChannelIdentity, ...]
    ratio: float
    learning_rate: float
    warmup_tokens: int
    warmup_ratio: float | None = None
    decay: Decay | None = None
    batch_sequences: int
    sequence_tokens: int
    optimizer: Optimizer = Optimizer()
    packing: Packing = "concatenated"
    validation_tokens: int
    seed: int
    dtype: Literal["float32", "bfloat16"] = "float32"
    numerics: int = NUMERICS

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_sequences * self.sequence_tokens

    @property
    def hash(self) -> str:
        """8 hex digits of the canonical JSON of the identity."""
        return hash_record(self.model_dump())


class Recorded(Frozen):
    """What is recorded with a run but does not define it.

    Args:
        size: Label of the base's size, as in the study.
        n_tokens: Tokens at the end of the run (a branch's decay included).
        evaluation_at: Tokens at which every channel's validation loss is measured.
        keep_state_at: Tokens at which the full state is saved, for branches.
        base_path: Checkpoint folder or hub id; for a base of a ladder, ``model`` in the folder of
            its pre-training run, which may be a run of another study.
        mixture_name: The study's name for a branch's own mixture.
        micro_batch_sequences: Most sequences in a forward and backward pass. None chooses it by the
            memory of a GPU; on the CPU it is the whole batch.
        activation_checkpointing: Whether the backward pass computes each layer again from its
            input. None chooses it by the memory of a GPU; on the CPU nothing is computed again.
        study_name: Name of the study; trackers group its runs under it.
        trackers: Trackers that the run is logged to, next to TensorBoard.
    """

    size: str
    n_tokens: int
    evaluation_at: tuple[int, ...]
    keep_state_at: tuple[int, ...] = ()
    base_path: str | None = None
    mixture_name: str | None = None
    base_peak_learning_rate: float | None = None
    base_n_tokens: int | None = None
    data_path: str = "data"
    checkpoint_every_s: float = 60.0
    micro_batch_sequences: int | None = None
    activation_checkpointing: bool | None = None
    save_model: bool = False
    purpose: Purpose = "grid"
    study_name: str | None = None
    trackers: tuple[str, ...] = ()


class RunConfig(Frozen):
    """One run, ready to be trained."""

    identity: Identity
    recorded: Recorded

    @property
    def slug(self) -> str:
        """What a person reads in the folder's name; nothing is ever parsed from it."""
        identity, size = self.identity, self.recorded.size
        if identity.kind == "pretrain":
            return f"pretrain-{size}"
        name = f"{size}-r{identity.ratio:g}-lr{identity.learning_rate:g}-seed{identity.seed}"
        if identity.decay is None:
            return name
        own = f"-{self.recorded.mixture_name}" if self.recorded.mixture_name else ""
        return f"{name}-branch{identity.decay.start_tokens}{own}"

    @property
    def name(self) -> str:
        """The folder's name: ``<slug>-<8 hex>``."""
        return f"{self.slug}-{self.identity.hash}"

    @property
    def micro_batch_sequences(self) -> int:
        """Most sequences in a forward and backward pass."""
        batch = self.identity.batch_sequences
        return min(batch, self.recorded.micro_batch_sequences or batch)

    @property
    def n_steps(self) -> int:
        """Optimizer steps from D = 0 to the end of the run."""
        return self.recorded.n_tokens // self.identity.batch_tokens


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; refuses NaN and values that JSON cannot represent."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_record(value: Any) -> str:
    """8 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:8]


def drifted_fields(old: Identity, new: Identity) -> list[str]:
    """Names of the fields in which two identities differ."""
    before, after = old.model_dump(), new.model_dump()
    return [name for name in before if before[name] != after[name]]
