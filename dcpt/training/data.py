"""The text of a run: its training mixture and the fixed validation tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpt.errors import InputError
from dcpt.runs.course import mixture_phases
from dcpt.runs.identity import RunConfig
from dcpt.text.manifest import Prepared, load_prepared
from dcpt.text.mixture import Mixture, Phase
from dcpt.text.shard_files import open_shard
from dcpt.training.evaluate import Validation, count_ids, open_validation


@dataclass(frozen=True)
class RunData:
    """The text of a run.

    Attributes:
        mixture: Training batches of all channels, in the identity's order.
        validation: The text that every point evaluates.
        unique_tokens: Unique tokens of training text of each channel that has any.
        repetition: Tokens of each channel's training text over its unique tokens.
        vocab_size: The largest id of the text + 1.
        tokenizer: Folder of the tokenizer.
    """

    mixture: Mixture
    validation: Validation
    unique_tokens: dict[str, int]
    repetition: dict[str, float]
    vocab_size: int
    tokenizer: Path

    def describe_reading(self, step: int) -> dict[str, Any]:
        """Describe the text read before a step: the part of a point that needs no model.

        Returns:
            By channel ``share`` of the tokens read (empty at step 0), ``tokens``, ``epochs`` and
            ``unique_tokens``.
        """
        tokens = {n: k for n, k in self.mixture.tokens(step).items() if n in self.unique_tokens}
        total = sum(tokens.values())
        return {
            "share": {name: n / total for name, n in tokens.items()} if total else {},
            "tokens": tokens,
            "epochs": {
                name: passes * self.repetition[name]
                for name, passes in self.mixture.epochs(step).items()
                if name in self.repetition
            },
            "unique_tokens": self.unique_tokens,
        }


def open_data(config: RunConfig, study: Path) -> RunData:
    """Open the prepared text of a run.

    Raises:
        InputError: If it does not exist, or is not the text that the run was planned with.
    """
    identity = config.identity
    prepared = load_prepared(study / config.recorded.data_path)
    check_text(config, prepared)
    names = [channel.name for channel in identity.channels]
    trained = [channel.name for channel in identity.channels if channel.side != "validation"]
    shards = {name: open_shard(prepared.folder, name, "train") for name in trained}
    unique = {name: prepared.unique_tokens(name) for name in trained}
    return RunData(
        mixture=Mixture(
            [Phase(step, shares) for step, shares in mixture_phases(identity)],
            shards,
            identity.sequence_tokens,
            identity.batch_sequences,
            identity.seed,
        ),
        validation=open_validation(
            prepared, names, identity.sequence_tokens, identity.validation_tokens, identity.packing
        ),
        unique_tokens=unique,
        repetition={name: len(shard) / unique[name] for name, shard in shards.items()},
        vocab_size=count_ids(prepared, names),
        tokenizer=prepared.tokenizer_path,
    )


def check_text(config: RunConfig, prepared: Prepared) -> None:
    """Refuse text that was prepared again after the run was planned.

    Validation text does not change a base, so that of a pre-training run may be another.

    Raises:
        InputError: If a channel is missing, or its shards or its tokenizer have other hashes.
    """
    problems = []
    is_base = config.identity.kind == "pretrain"
    for channel in config.identity.channels:
        text = prepared.channels.get(channel.name)
        if text is None:
            problems.append(
                f"{prepared.folder}: channel {channel.name} is not prepared; run `dcpt prepare`"
            )
        elif (
            text.train.sha256,
            channel.valid_sha256 if is_base else prepared.evaluated(channel.name).sha256,
            text.tokenizer_sha256,
        ) != (
            channel.train_sha256,
            channel.valid_sha256,
            config.identity.tokenizer_sha256,
        ):
            problems.append(
                f"{prepared.folder}: the text or the tokenizer of channel {channel.name} is not "
                f"what run {config.name} was planned with; plan the study again"
            )
    if problems:
        raise InputError(problems)
