"""``dcpt export``: the recommendation as a configuration of another trainer."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpt.cli.options import (
    FixedRate,
    Json,
    OwnLaws,
    Place,
    UniqueTokens,
    WarmupTokens,
    read_channel_texts,
    read_count,
    read_positive,
    read_share,
    read_unique_tokens,
)
from dcpt.errors import InputError

if TYPE_CHECKING:
    from dcpt.trainer_configs import DocumentLengths

Trainer = Annotated[
    str,
    typer.Option(
        help="ms-swift, llama-factory, axolotl, megatron, nemo, torchtitan, nanotron, olmo-core, "
        "hf-datasets, or yaml for every other trainer."
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(help="Folder to write to. Default: export/TRAINER, in the folder of the fit."),
]
Paths = Annotated[
    list[str] | None,
    typer.Option(help="law=/data/law.jsonl is the text of a channel. Repeatable."),
]
Lengths = Annotated[
    list[str] | None,
    typer.Option(
        help="law=812 is the mean length of a channel's documents, law=812:950 with its "
        "standard deviation. Default: those of the study. Repeatable."
    ),
]
TableWeights = Annotated[
    list[str] | None,
    typer.Option(help="en=3 is the weight of a general channel of a table. Repeatable."),
]
DecayMixture = Annotated[
    list[str] | None,
    typer.Option(
        help="Mixture of the final decay: a name in the study's branches.mixtures, or shares "
        "such as law=80%. Repeatable."
    ),
]
DecayLength = Annotated[
    str | None,
    typer.Option(
        help="Length of the decay, of the tokens before it: 10%. Default: as in the runs."
    ),
]
BatchSequences = Annotated[
    int | None, typer.Option(min=1, help="Sequences of a step over all devices.")
]
SequenceTokens = Annotated[int | None, typer.Option(min=8, help="Tokens of a sequence.")]
Devices = Annotated[int, typer.Option(min=1, help="Number of data-parallel devices.")]


def export(
    place: Place,
    to: Trainer,
    out: OutFolder = None,
    path: Paths = None,
    tokens_per_document: Lengths = None,
    unique_tokens: UniqueTokens = None,
    weight: TableWeights = None,
    decay_mixture: DecayMixture = None,
    decay: DecayLength = None,
    batch_sequences: BatchSequences = None,
    sequence_tokens: SequenceTokens = None,
    devices: Devices = 1,
    learning_rate: FixedRate = None,
    warmup_tokens: WarmupTokens = None,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Write the recommendation as a configuration of another trainer.

    Shares are converted to the unit of the trainer, tokens or documents. A decay with its own
    mixture is a second file where the trainer needs one.

    Example: dcpt export study.yaml --to ms-swift --path law=/data/law.jsonl
    """
    from dcpt.cli.console import as_json, note_all, note_damaged
    from dcpt.pipeline.export import export_config
    from dcpt.pipeline.export_options import ExportOptions
    from dcpt.pipeline.workspace import damaged_files, open_place

    name, shares = _read_mixture(decay_mixture)
    options = ExportOptions(
        paths=read_channel_texts("--path", path, "law=/data/law.jsonl"),
        lengths=_read_lengths(tokens_per_document),
        unique_tokens=read_unique_tokens(unique_tokens),
        weights=_read_numbers("--weight", weight, "en=3"),
        decay_mixture=shares,
        decay_mixture_name=name,
        decay=None if decay is None else read_share("--decay", decay),
        batch_sequences=batch_sequences,
        sequence_tokens=sequence_tokens,
        devices=devices,
        learning_rate=learning_rate,
        warmup_tokens=read_count("--warmup-tokens", warmup_tokens),
        command=shlex.join(["dcpt", *sys.argv[1:]]),
    )
    opened = open_place(place)
    note_damaged(damaged_files(opened))
    files, notes = export_config(opened, to, options, out=out, laws=law or ())
    if json:
        typer.echo(as_json({"files": files, "notes": notes}))
        return
    note_all(notes)
    typer.echo("\n".join(map(str, files)))


def _read_numbers(option: str, pairs: list[str] | None, example: str) -> dict[str, float]:
    """``law=300M`` pairs as positive numbers by channel."""
    return {
        channel: read_positive(f"{option} {channel}", text, example)
        for channel, text in read_channel_texts(option, pairs, example).items()
    }


def _read_lengths(pairs: list[str] | None) -> dict[str, DocumentLengths]:
    """``law=812`` or ``law=812:950`` as document lengths by channel."""
    from dcpt.trainer_configs import DocumentLengths

    option, example, found = "--tokens-per-document", "law=812 or law=812:950", {}
    for channel, text in read_channel_texts(option, pairs, example).items():
        mean, colon, deviation = text.partition(":")
        place = f"{option} {channel}"
        found[channel] = DocumentLengths(
            mean=read_positive(place, mean, example),
            deviation=read_positive(place, deviation, example) if colon else None,
        )
    return found


def _read_mixture(texts: list[str] | None) -> tuple[str | None, dict[str, float]]:
    """A mixture of the study by its name, or shares by channel."""
    names = [text for text in texts or [] if "=" not in text]
    if names and len(texts or []) > 1:
        raise InputError(
            f"--decay-mixture {names[0]}: give one name of a mixture, or shares such as law=80%"
        )
    if names:
        return names[0], {}
    pairs = read_channel_texts("--decay-mixture", texts, "law=80%")
    return None, {name: read_share(f"--decay-mixture {name}", text) for name, text in pairs.items()}
