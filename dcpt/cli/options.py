"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpt.errors import InputError
from dcpt.limit import NO_LIMIT, Limit
from dcpt.names import read_channel_name

if TYPE_CHECKING:
    from dcpt.pipeline.answer import LimitFields
    from dcpt.table.schedules import Schedule

StudyFile = Annotated[Path, typer.Argument(help="The study's YAML file.")]
Place = Annotated[
    Path, typer.Argument(help="A study's YAML file, or a folder written by dcpt fit.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="With --dry-run: price the runs on GPUs that need not be here, as h100:8, h200 or "
        "a100:4, from measured speeds.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of parallel processes. Default: one per GPU, or one per core."
    ),
]
EngineKind = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Where to train: local, slurm or ray. Default: that of the study, or local.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="n_params=N reads the table's column N as n_params. Repeatable."),
]
TargetSize = Annotated[str | None, typer.Option(help="Parameters of the target, e.g. 7B.")]
TargetTokens = Annotated[str | None, typer.Option(help="CPT tokens of the target, decay included.")]
TargetLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help="Largest rise of the general loss: +3%, +0.05 (nats), -5%; none for no limit. "
        "web=3% limits a channel. Repeatable: all must be kept.",
    ),
]
TargetConfidence = Annotated[
    str | None,
    typer.Option(
        help="Share of the bootstrap draws in which the pair keeps the limit: 90%. Default: the "
        "study's, or 80%."
    ),
]
FixedRate = Annotated[float | None, typer.Option(help="Fix the learning rate at this value.")]
BaseLosses = Annotated[
    list[str] | None,
    typer.Option(
        "--base-loss", help="general=2.775 is the loss of the base before CPT. Repeatable."
    ),
]
BasePeak = Annotated[
    float | None,
    typer.Option(
        "--base-peak-learning-rate", help="Peak learning rate of the base's pre-training."
    ),
]
BaseTokens = Annotated[
    str | None,
    typer.Option("--base-n-tokens", help="Tokens of the base's pre-training, e.g. 2T."),
]
UniqueTokens = Annotated[
    list[str] | None,
    typer.Option(
        "--unique-tokens",
        help="domain=200M are the distinct tokens of a channel's text. Repeatable.",
    ),
]
TargetSchedule = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="Schedule of the runs that the target follows. Default: one that decays as they do.",
    ),
]
Mix = Annotated[
    list[str] | None,
    typer.Option(
        "--mix",
        help="web=70% is the part of a channel in the general text. Repeatable: the parts add up "
        "to 100%. Default: that of the runs; where they have several that laws read, `recommend` "
        "chooses the best.",
    ),
]
LossWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        help="general=2 is the weight of a channel in the mean loss that is minimized, in place of "
        "the domain loss. No limit unless --limit gives one. Repeatable.",
    ),
]
WarmupTokens = Annotated[
    str | None,
    typer.Option("--warmup-tokens", help="Tokens of the warmup. Default: as in the runs."),
]
Table = Annotated[
    Path, typer.Argument(help="A study's YAML file, or a CSV or parquet table of runs.")
]
Laws = Annotated[
    list[str] | None,
    typer.Option(
        "--law",
        help="Name of a law, auto (all that the table supports), or module:name of your own "
        "law. Repeatable.",
    ),
]
OwnLaws = Annotated[
    list[str] | None,
    typer.Option("--law", help="module:name of your own law, if the fit contains one. Repeatable."),
]
Level = Annotated[float, typer.Option(min=0.5, max=0.99, help="Interval probability.")]
Channels = Annotated[
    list[str] | None, typer.Option("--channel", help="Use only this channel. Repeatable.")
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        help="Column to leave out, such as a learning_rate that was tuned for each run. "
        "Repeatable.",
    ),
]
SizeColumn = Annotated[
    str | None,
    typer.Option(
        "--size-column",
        help="Column that is N: n_params (default), n_params_non_embedding, n_params_active.",
    ),
]
Schedules = Annotated[
    Path | None,
    typer.Option(
        "--schedules", help="YAML or JSON file with the schedules that the column schedule names."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the planned runs and their cost. Train nothing.")
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the file of --out.")]


def is_table(text: str) -> bool:
    """Whether a word names a study or a table of runs, and not a law."""
    return Path(text).is_file() or Path(text).suffix in (".csv", ".parquet", ".pq", ".yaml", ".yml")


def read_mapping(columns: list[str] | None) -> dict[str, str]:
    """``n_params=N`` pairs as table column by known name."""
    return _read_pairs("--column", columns, "n_params=N")


def read_numbers(option: str, pairs: list[str] | None, example: str) -> dict[str, float]:
    """``general=2.775`` pairs as number by name; the error names the option."""
    found = _read_pairs(option, pairs, example)
    return {name: _read_number(option, name, text, example) for name, text in found.items()}


def read_base_losses(pairs: list[str] | None) -> dict[str, float]:
    """``general=2.775`` pairs as loss by channel."""
    found = read_numbers("--base-loss", pairs, "general=2.775")
    return {_read_channel("--base-loss", name): loss for name, loss in found.items()}


def read_unique_tokens(pairs: list[str] | None) -> dict[str, float]:
    """``domain=200M`` pairs as distinct tokens by channel."""
    option = "--unique-tokens"
    found = _read_pairs(option, pairs, "domain=200M")
    counts = {name: read_count(f"{option} {name}", text) for name, text in found.items()}
    return {_read_channel(option, name): float(n) for name, n in counts.items() if n is not None}


def read_limits(texts: list[str] | None) -> LimitFields:
    """Limits such as ``+3%``, ``none`` or ``web=3%`` as fields of a target; empty without any."""
    if not texts:
        return {}
    option, whole = "--limit", [text for text in texts if "=" not in text]
    if len(whole) > 1:
        raise InputError(f"{option} {' and '.join(whole)}: give one limit for all channels")
    pairs = _read_pairs(option, [text for text in texts if "=" in text], "web=3%")
    if pairs and NO_LIMIT in whole:
        raise InputError(f"{option} {NO_LIMIT} contradicts the limits on {', '.join(pairs)}")
    of_channels = {_read_channel(option, name): Limit.parse(text) for name, text in pairs.items()}
    return {"limit": whole[0] if whole else NO_LIMIT, "channel_limits": of_channels}


def read_weights(pairs: list[str] | None) -> dict[str, float]:
    """``general=2`` pairs as weight of the loss by channel."""
    found = read_numbers("--weight", pairs, "general=2")
    return {_read_channel("--weight", name): weight for name, weight in found.items()}


def read_mix(pairs: list[str] | None) -> dict[str, float]:
    """``web=70%`` pairs as part of the general text by channel."""
    found = read_channel_texts("--mix", pairs, "web=70%")
    return {name: read_share(f"--mix {name}", text, zero=True) for name, text in found.items()}


def read_channel_texts(option: str, pairs: list[str] | None, example: str) -> dict[str, str]:
    """``general=text`` pairs as text by channel."""
    found = _read_pairs(option, pairs, example)
    return {_read_channel(option, name): text for name, text in found.items()}


def read_positive(option: str, text: str, example: str) -> float:
    """A number above 0, such as ``812.5`` or ``300M``."""
    from dcpt.quantities import parse_count

    try:
        value = float(text)
    except ValueError:
        try:
            value = parse_count(text)
        except ValueError:
            value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{option}: {text!r} is not a number above 0; write it as {example}")
    return value


def read_channels(names: list[str] | None) -> list[str] | None:
    """The channels that ``--channel`` names; None where it names none."""
    return [_read_channel("--channel", name) for name in names or []] or None


def read_bounds(pairs: list[str] | None) -> dict[str, tuple[float, float]]:
    """``gamma=0.1:2`` pairs as bounds by parameter."""
    option, example, bounds = "--bounds", "gamma=0.1:2", {}
    for name, text in _read_pairs(option, pairs, example).items():
        low, colon, high = text.partition(":")
        if not colon:
            raise InputError(f"{option} {name}={text}: write it as {example}")
        bounds[name] = (
            _read_number(option, name, low, example),
            _read_number(option, name, high, example),
        )
    return bounds


def read_shares(option: str, texts: list[str] | None) -> list[float] | None:
    """Shares such as ``25%`` or ``0.25``; None where there are none."""
    return [read_share(option, text) for text in texts or []] or None


def read_share(option: str, text: str, zero: bool = False) -> float:
    """A share such as ``25%`` or ``0.25``; 0 only where ``zero`` is set."""
    number = text.strip().removesuffix("%")
    share = _read_number(option, "", number, "25%") / (100 if text.strip().endswith("%") else 1)
    if not 0 <= share <= 1 or (share == 0 and not zero):
        raise InputError(f"{option} {text}: a share lies between 0 and 1; write it as 25%")
    return share


def read_ratio(text: str) -> float:
    """A share of ``--ratio``; what is no percentage is judged with the rest of the question."""
    if text.strip().endswith("%"):
        return read_share("--ratio", text, zero=True)
    return _read_number("--ratio", "", text, "0.25 or 25%")


def read_count(option: str, text: str | None) -> int | None:
    """A human number; the error names the option."""
    from dcpt.quantities import parse_count

    try:
        return None if text is None else parse_count(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


def read_schedules(file: Path | None) -> dict[str, Schedule] | None:
    """The learning-rate schedules of a file; None without a file."""
    from dcpt.table.schedules import load_schedules

    return None if file is None else load_schedules(file)


def _read_pairs(option: str, pairs: list[str] | None, example: str) -> dict[str, str]:
    """``name=text`` pairs as text by name."""
    found: dict[str, str] = {}
    for pair in pairs or []:
        name, _, text = pair.partition("=")
        if not (name and text):
            raise InputError(f"{option} {pair}: write it as {example}")
        if name in found:
            raise InputError(f"{option} names {name} twice; give it once")
        found[name] = text
    return found


def _read_channel(option: str, name: str) -> str:
    try:
        return read_channel_name(name)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


def _read_number(option: str, name: str, text: str, example: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        place = f"{option} {name}".rstrip()
        raise InputError(f"{place}: {text!r} is not a finite number; write it as {example}")
    return value
