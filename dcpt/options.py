"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcpt.errors import InputError

StudyFile = Annotated[Path, typer.Argument(help="The study's YAML file.")]
Place = Annotated[Path, typer.Argument(help="A study's YAML file, or a folder made by dcpt fit.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes at once (default: one per GPU, or per core).")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="n_params=N: the table's column N is n_params. Repeatable."),
]
BaseLosses = Annotated[
    list[str] | None,
    typer.Option("--base-loss", help="general=2.775: the base's own loss. Repeatable."),
]
BasePeak = Annotated[
    float | None,
    typer.Option("--base-peak-learning-rate", help="Peak rate of the base's own pre-training."),
]
BaseTokens = Annotated[
    str | None,
    typer.Option("--base-n-tokens", help="Tokens that the base was pre-trained on, e.g. 2T."),
]
WarmupTokens = Annotated[
    str | None, typer.Option("--warmup-tokens", help="Default: that of the runs.")
]


def read_mapping(columns: list[str] | None) -> dict[str, str]:
    """``n_params=N`` pairs as table column by known name."""
    pairs = [column.partition("=") for column in columns or []]
    for name, sign, theirs in pairs:
        if not (name and sign and theirs):
            raise InputError(f"--column {name}{sign}{theirs}: write it as n_params=N")
    return {name: theirs for name, _, theirs in pairs}


def read_count(option: str, text: str | None) -> int | None:
    """A human number; the error names the option."""
    from dcpt.quantities import parse_count

    try:
        return None if text is None else parse_count(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


def read_losses(pairs: list[str] | None) -> dict[str, float]:
    """``general=2.775`` pairs as loss by channel."""
    losses = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        try:
            losses[name] = float(value)
        except ValueError:
            raise InputError(f"--base-loss {pair}: write it as general=2.775") from None
        if not (name and sign):
            raise InputError(f"--base-loss {pair}: write it as general=2.775")
    return losses
