"""The keys of a study file, and the rules between them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dcpt.errors import did_you_mean
from dcpt.limit import NO_LIMIT
from dcpt.names import same_but_case
from dcpt.quantities import Count
from dcpt.runs.identity import Optimizer, Packing
from dcpt.runs.records import EvaluatedText
from dcpt.study.bases import Bases
from dcpt.study.engine import EngineSection
from dcpt.study.section import Section
from dcpt.study.values import ChannelName, Fraction, Name, Rate, Seed, Threshold, read_limit


class Channel(Section):
    """A channel of text. Weights are relative to the other general channels.

    Only decays whose mixture names it read an ``extra`` channel (such as the best domain text, or
    instructions). No run reads a ``validation`` channel: its text is measured only.
    """

    name: ChannelName
    side: Literal["general", "domain", "extra", "validation"]
    train: str | None = None
    valid: str | None = None
    text_field: str = "text"
    weight: float = Field(default=1.0, gt=0)
    valid_fraction: Fraction = Field(default=0.02, gt=0, lt=1)
    max_tokens: Count | None = None
    text_separator: str | None = Field(default=None, min_length=1)
    chat_field: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if self.chat_field is not None and "text_field" in self.model_fields_set:
            raise ValueError("give either text_field (texts) or chat_field (chats)")
        return self

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if self.side != "validation":
            if self.train is None:
                raise ValueError("train is missing; name the text that runs are trained on")
            return self
        if self.valid is None:
            raise ValueError("valid is missing; name the text that is measured")
        unused = self.model_fields_set & {"train", "weight", "valid_fraction", "max_tokens"}
        if unused:
            raise ValueError(
                f"{', '.join(sorted(unused))}: no run is trained on a channel of side validation; "
                "leave it out"
            )
        return self


class GridPart(Section):
    """A part of the grid: all combinations of its bases, ratios, learning rates and seeds.

    Learning rates are absolute, or multiples of each base's own peak. With multiples, the runs
    follow that rule, and a target that does not is an extrapolation.
    """

    bases: list[Name] = Field(min_length=1)
    ratios: list[Annotated[Fraction, Field(ge=0, le=1)]] = Field(min_length=1)
    learning_rates: list[Rate] = []
    learning_rate_multiples: list[Annotated[float, Field(gt=0)]] = []
    seeds: list[Seed] = Field(default=[0], min_length=1)

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        if bool(self.learning_rates) == bool(self.learning_rate_multiples):
            raise ValueError("give either learning_rates (absolute) or learning_rate_multiples")
        return self


class ListedRun(Section):
    """A run that the grid does not list, such as one that ``dcpt next-runs`` chose.

    ``tokens`` is its length before its decay; without it, that of the study.
    """

    base: Name
    ratio: Annotated[Fraction, Field(ge=0, le=1)]
    learning_rate: Rate
    tokens: Count | None = None
    seed: Seed = 0


class Included(Section):
    """The file that ``include`` names."""

    runs: list[ListedRun] = []


class Branches(Section):
    """Decays to zero. Every trunk ends with a decay; others may start at chosen tokens.

    ``mixtures`` names further decays at the trunk's end, each with its own shares of channels.
    They are trained and reported, but no law is fitted to them.
    """

    at: list[Count] = []
    decay: Fraction = Field(default=0.1, gt=0, le=1)
    optimizer: Literal["carried", "reset"] = "carried"
    mixtures: dict[Name, dict[ChannelName, Annotated[Fraction, Field(gt=0, le=1)]]] = {}

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        for name, shares in self.mixtures.items():
            total = sum(Decimal(repr(share)) for share in shares.values())
            if total != 1:
                raise ValueError(f"mixtures.{name}: its shares sum to {total}; make them sum to 1")
        return self


class Training(Section):
    """How every run is trained."""

    batch_sequences: int = Field(default=32, ge=1)
    micro_batch_sequences: int | None = Field(default=None, ge=1)
    activation_checkpointing: bool | None = None
    gpus_per_run: int | None = Field(default=None, ge=1)
    sequence_tokens: int = Field(default=512, ge=8)
    warmup: Fraction | None = Field(default=None, ge=0, lt=1)
    warmup_tokens: Count | None = None
    warmup_ratio: Fraction | None = Field(default=None, ge=0, le=1)
    packing: Packing = "concatenated"
    dtype: Literal["float32", "bfloat16"] = "float32"
    optimizer: Optimizer = Optimizer()
    checkpoint_every_s: float = Field(default=60.0, gt=0)
    save_models: bool = False
    delete_states: bool = False

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup is not None and self.warmup_tokens is not None:
            raise ValueError("give warmup (a share of the trunk) or warmup_tokens, not both")
        return self


class Logging(Section):
    """Trackers that runs are logged to, next to TensorBoard."""

    trackers: list[Literal["wandb", "mlflow", "trackio"]] = []

    @model_validator(mode="after")
    def _check_twice(self) -> Self:
        for name in self.trackers:
            if self.trackers.count(name) > 1:
                raise ValueError(f"trackers names {name} twice; write it once")
        return self


class Evaluation(Section):
    """The fixed validation tokens of each channel, and the points where they are evaluated.

    ``text`` chooses which losses are used: on validation text without near-copies of training text,
    or on all of it. Both are measured.
    """

    tokens: Count = 262_144
    text: EvaluatedText = "clean"
    points_per_doubling: float = Field(default=1.0, gt=0, le=8)
    first_tokens: Count | None = None


class TargetSection(Section):
    """The large run. ``base`` names a base of the study; otherwise give size and losses.

    With ``weights`` there is no limit, unless one is given.
    """

    base: Name | None = None
    n_params: Count | None = None
    tokens: Count
    limit: Annotated[str | dict[ChannelName, str], BeforeValidator(read_limit)] = "+3%"
    weights: dict[ChannelName, Annotated[float, Field(ge=0)]] = {}
    confidence: Fraction = Field(default=0.8, ge=0.5, le=0.99)
    learning_rate: Rate | None = None
    base_losses: dict[ChannelName, Annotated[float, Field(gt=0, le=20)]] = {}
    base_peak_learning_rate: Rate | None = None
    base_n_tokens: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out_the_limit(cls, keys: object) -> object:
        if isinstance(keys, dict) and keys.get("weights") and "limit" not in keys:
            return {**keys, "limit": NO_LIMIT}
        return keys

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights and not any(self.weights.values()):
            raise ValueError("weights: all are 0; give a channel a weight above 0")
        return self

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.base is None and self.n_params is None:
            raise ValueError("name a base of the study, or give n_params (and base_losses)")
        return self


class Study(Section):
    """A whole study. Paths in it are relative to the folder of its file."""

    name: Name
    channels: list[Channel] = Field(min_length=1)
    tokenizer: str | int
    add_bos: bool | None = None
    near_duplicates: Threshold | None = None
    bases: Bases
    grid: list[GridPart] = Field(min_length=1)
    runs: list[ListedRun] = []
    include: str | None = None
    tokens: Count
    branches: Branches = Branches()
    training: Training = Training()
    engine: EngineSection = EngineSection()
    logging: Logging = Logging()
    evaluation: Evaluation = Evaluation()
    target: TargetSection | None = None

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        domains = [channel.name for channel in self.channels if channel.side == "domain"]
        if len(domains) != 1 or not self.general:
            raise ValueError(
                "a study needs one channel of side domain and at least one of side general; this "
                f"one has {len(domains)} and {len(self.general)}; set side of each channel"
            )
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [channel.name for channel in self.channels]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two channels are called {name!r}; give each a name of its own")
        for name, other in same_but_case(names):
            raise ValueError(
                f"the channels {name!r} and {other!r} differ in case alone, and folders are named "
                "after them; rename one"
            )
        for channel in self.channels:
            lone = len(self.general) == 1
            taken = {"total", "general_total", "general_worst"} | (
                {"domain"} if channel.side != "domain" else set()
            )
            if channel.side != "general" or not lone:
                taken.add("general")  # the name of the side
            if channel.name.casefold() in taken:
                raise ValueError(
                    f"a channel of side {channel.side} may not be called {channel.name!r}: the "
                    "runs table uses this name for something else; rename it"
                )
        return self

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        names = [channel.name for channel in self.channels if channel.side != "validation"]
        read = {name for shares in self.branches.mixtures.values() for name in shares}
        for channel in self.channels:
            if channel.side == "validation" and channel.name in read:
                raise ValueError(
                    f"branches.mixtures: {channel.name!r} has side validation, so it is measured "
                    f"only; name one of {', '.join(names)}"
                )
        for name in sorted(read - set(names)):
            raise ValueError(
                f"branches.mixtures: {name!r} is not among the channels; name one of "
                f"{', '.join(names)}" + did_you_mean(name, names)
            )
        for channel in self.channels:
            if channel.side == "extra" and channel.name not in read:
                raise ValueError(
                    f"channel {channel.name!r} of side extra is in no mixture of "
                    "branches.mixtures; name it there, or remove it"
                )
        for name in self.named_bases:
            if name not in self.bases.names:
                raise ValueError(
                    f"base {name!r} is not among the study's bases; add it there, or name one of "
                    f"{', '.join(self.bases.names)}" + did_you_mean(name, self.bases.names)
                )
        return self

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        batch = self.training.batch_sequences * self.training.sequence_tokens
        lengths = {"tokens": self.tokens}
        if self.bases.ladder is not None:
            lengths["bases.ladder.tokens"] = self.bases.ladder.tokens
        if self.target is not None:
            lengths["target.tokens"] = self.target.tokens
        for number, run in enumerate(self.runs):
            if run.tokens is not None:
                lengths[f"runs.{number}.tokens"] = run.tokens
        for name, tokens in lengths.items():
            if tokens < 4 * batch:
                raise ValueError(
                    f"{name}: {tokens} is under four steps of {batch} tokens; "
                    "lengthen the run or make the batch smaller"
                )
        return self

    @property
    def named_bases(self) -> list[str]:
        """Labels of the bases that runs and the target name."""
        named = [name for part in self.grid for name in part.bases]
        named += [run.base for run in self.runs]
        if self.target is not None and self.target.base is not None:
            named.append(self.target.base)
        return list(dict.fromkeys(named))

    @property
    def general(self) -> list[Channel]:
        """Channels of the general side."""
        return [channel for channel in self.channels if channel.side == "general"]

    @property
    def domain(self) -> Channel:
        """The domain channel."""
        return next(channel for channel in self.channels if channel.side == "domain")
