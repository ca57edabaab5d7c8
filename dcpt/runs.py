"""A run: what defines it, what it reads at which learning rate, and what its channels are called.

With ``run_folders`` this is the contract between the two halves of dcpt. No torch, scipy or pandas
here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

NUMERICS = 2
"""Raised by hand when a change to training alters losses: old runs are then trained anew."""

Packing = Literal["concatenated", "documents"]
"""Whether tokens of a sequence see all that comes before them in it, or their own document alone.
"""

Side = Literal["general", "domain", "extra"]


class Frozen(BaseModel):
    """A record that refuses unknown keys and changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelIdentity(Frozen):
    """One stream of text as a run sees it.

    ``weight`` counts among the general channels only. An ``extra`` channel is read by decays with
    a mixture of their own, and by nothing else.
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
    """A Llama-type base that the study pre-trains itself (tied embeddings)."""

    width: int
    layers: int
    heads: int
    vocab_size: int
    max_sequence_tokens: int


class Decay(Frozen):
    """A linear decay of the learning rate from its peak to ``final_fraction`` of it.

    Args:
        mixture: Shares of all channels in it, by name; None goes on with the trunk's mixture.
        optimizer: Whether AdamW's moments are taken over from the trunk or start anew.
    """

    start_tokens: int
    n_tokens: int
    final_fraction: float = 0.0
    mixture: dict[str, float] | None = None
    optimizer: Literal["carried", "reset"] = "carried"


class Identity(Frozen):
    """All that defines a run: two runs with equal identities have equal losses.

    Args:
        base: ``ladder`` (pretrain, with its architecture), ``run:<hash of the pretrain run>``,
            or ``weights:<sha256>`` of a checkpoint.
        trunk: Hash of the trunk that a branch leaves.
        base_state_tokens: Tokens at which the base's full state was kept, moments included, if a
            trunk starts from that and not from the finished base.
        warmup_tokens: Tokens over which the learning rate rises linearly to its peak.
        warmup_ratio: Share of domain tokens during the warmup; None is ``ratio``.
        decay: None on a trunk; a branch's final decay; the end of a pre-training.
        validation_tokens: Tokens of each channel's validation shard that every point evaluates.
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
    """What is written down beside a run but does not define it.

    Args:
        size: Label of the base's size, as in the study.
        n_tokens: Tokens at the end of the run (a branch's decay included).
        evaluation_at: Tokens at which every channel's validation loss is measured.
        keep_state_at: Tokens at which the full state is kept, for branches.
        base_path: Checkpoint folder or hub id; a pre-training run's folder name for a ladder.
        mixture_name: What the study calls a branch's own mixture.
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
    save_model: bool = False
    purpose: Literal["base", "grid", "verify"] = "grid"


class RunConfig(Frozen):
    """One run, ready to be trained."""

    identity: Identity
    recorded: Recorded

    @property
    def slug(self) -> str:
        """What a person reads in the folder's name; nothing is ever parsed from it."""
        one, size = self.identity, self.recorded.size
        if one.kind == "pretrain":
            return f"pretrain-{size}"
        name = f"{size}-r{one.ratio:g}-lr{one.learning_rate:g}-seed{one.seed}"
        if one.decay is None:
            return name
        own = f"-{self.recorded.mixture_name}" if self.recorded.mixture_name else ""
        return f"{name}-branch{one.decay.start_tokens}{own}"

    @property
    def name(self) -> str:
        """The folder's name: ``<slug>-<8 hex>``."""
        return f"{self.slug}-{self.identity.hash}"

    @property
    def n_steps(self) -> int:
        """Optimizer steps from D = 0 to the end of the run."""
        return self.recorded.n_tokens // self.identity.batch_tokens


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; refuses NaN and whatever JSON cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_record(value: Any) -> str:
    """8 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:8]


def channel_shares(channels: Sequence[ChannelIdentity], ratio: float) -> dict[str, Fraction]:
    """Share of every channel in training, exact. The one place where ``1 - ratio`` is taken.

    Args:
        channels: At most one on the domain side; the general ones divide ``1 - ratio`` by weight.
        ratio: Share of domain tokens, 0..1, read as the decimal number a person wrote.

    Returns:
        Channel name to share; shares of 0 are left out; they sum to 1.
    """
    domain = Fraction(repr(float(ratio)))
    weights = {c.name: Fraction(repr(float(c.weight))) for c in channels if c.side == "general"}
    total = sum(weights.values())
    shares = {name: (1 - domain) * weight / total for name, weight in weights.items()}
    shares |= {c.name: domain for c in channels if c.side == "domain"}
    return {name: share for name, share in shares.items() if share > 0}


def mixture_phases(identity: Identity) -> list[tuple[int, dict[str, Fraction]]]:
    """What a run reads: the step from which each mixture holds, and the shares of all channels."""
    one = identity
    phases = [(0, channel_shares(one.channels, one.ratio))]
    warmup_steps = -(-one.warmup_tokens // one.batch_tokens)
    if one.warmup_ratio is not None and warmup_steps:
        phases = [
            (0, channel_shares(one.channels, one.warmup_ratio)),
            (warmup_steps, phases[0][1]),
        ]
    if one.decay is not None and one.decay.mixture is not None:
        own = {name: Fraction(repr(share)) for name, share in one.decay.mixture.items()}
        phases.append((one.decay.start_tokens // one.batch_tokens, own))
    names = [channel.name for channel in one.channels]
    return [(step, {n: shares.get(n, Fraction(0)) for n in names}) for step, shares in phases]


class Sided(Protocol):
    """Anything that is a channel: it has a name and a side."""

    @property
    def name(self) -> str:
        """Its name in the study."""

    @property
    def side(self) -> Side:
        """The side it is on."""


def table_names(channels: Sequence[Sided]) -> dict[str, str]:
    """How the runs table calls each channel of a study.

    The domain is always ``domain`` and a lone general channel ``general``; several general
    channels keep their names.
    """
    lone = sum(c.side == "general" for c in channels) == 1
    plain = {"domain": "domain"} | ({"general": "general"} if lone else {})
    return {c.name: plain.get(c.side, c.name) for c in channels}


def learning_rate_at(identity: Identity, step: int) -> float:
    """Learning rate of optimizer step ``step`` (0 is the first one)."""
    tokens = (step + 1) * identity.batch_tokens
    rate = identity.learning_rate
    if tokens < identity.warmup_tokens:
        return rate * tokens / identity.warmup_tokens
    decay = identity.decay
    if decay is None or tokens <= decay.start_tokens:
        return rate
    # The last of n steps trains at 1/(n + 1) of the way's end: none at the peak, none at zero.
    done = (tokens - decay.start_tokens) / (decay.n_tokens + identity.batch_tokens)
    return rate * (1 - min(1.0, done) * (1 - decay.final_fraction))


def drifted_fields(old: Identity, new: Identity) -> list[str]:
    """Names of the fields in which two identities differ."""
    one, two = old.model_dump(), new.model_dump()
    return [name for name in one if one[name] != two[name]]


def bases_by_size(configs: Iterable[RunConfig]) -> dict[str, set[str]]:
    """The bases that runs start from, by the labels of their sizes.

    A pre-training run makes one, named as its trunks name it.
    """
    found: dict[str, set[str]] = {}
    for config in configs:
        one = config.identity
        base = f"run:{one.hash}" if one.kind == "pretrain" else one.base
        found.setdefault(config.recorded.size, set()).add(base)
    return found
