"""The mapping file: which metric is which channel, steps to tokens, and what each run was.

``dcpt import`` drafts it; what the logs do not tell is ``???`` there, which a person replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from dcpt.errors import InputError
from dcpt.key_problems import explain_problem
from dcpt.names import read_channel_name
from dcpt.quantities import Count
from dcpt.table.columns import COLUMNS, known_column, nearest_column
from dcpt.yaml_files import read_yaml

FILL_IN = "???"
"""Stands in a draft for a value that a person has to write."""

SHOWN = 5
"""Names that a message lists; the others are counted."""

RUN_KEYS = ("run", "n_tokens_before")
"""What an entry of a run may have besides columns of the runs table."""

Found = TypeVar("Found")

Value = str | int | float | None
Columns = dict[str, Value]


def _read_names(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list | tuple) else (value,)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("is not a name of the log; write the name, or several as [old, new]")
    return tuple(names)


Names = Annotated[tuple[str, ...], BeforeValidator(_read_names)]
"""A name of the log, or several."""


class Tokens(BaseModel):
    """How steps become tokens.

    Args:
        per_step: Tokens of one step over all devices.
        metric: The metric that counts tokens, or samples.
        times: What a count of the metric is multiplied by: tokens of a sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_step: Annotated[Count, Field(gt=0)] | None = None
    metric: str | None = None
    times: Annotated[Count, Field(gt=0)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.per_step is None) == (self.metric is None):
            raise ValueError("give either per_step or metric")
        return self


class Mapping(BaseModel):
    """What the logs do not say, or say in their own words.

    A column of the runs table has its value from the run's entry in ``runs``; else from the name of
    the run; else from the configuration in its log; else from ``all_runs``.

    Args:
        losses: By channel, the metric of its validation loss; several where it was renamed.
        train_losses: The same for the training loss of a channel.
        loss_unit: The unit of all losses in the logs.
        bytes_per_token: By channel, for losses in bits per byte.
        step: The metric that counts steps; None takes the steps of the log.
        tokens: How steps become tokens; None where the logs have no steps.
        learning_rate: The metric of the learning rate, whose highest value is the run's peak.
        run_names: Pattern of the names of runs, with columns in braces and ``*`` for anything.
        config: By column, the settings in the log that give it; several are summed.
        all_runs: Columns that are the same for all runs.
        runs: Columns of single runs. ``run`` is the run that a log belongs to (its trunk, or the
            run that it resumes), ``n_tokens_before`` the tokens before its step 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    losses: Annotated[dict[str, Names], Field(min_length=1)]
    train_losses: dict[str, Names] = {}
    loss_unit: Literal["nats", "bits", "perplexity", "bits_per_byte"] = "nats"
    bytes_per_token: dict[str, Annotated[float, Field(gt=0)]] = {}
    step: str | None = None
    tokens: Tokens | None = None
    learning_rate: str | None = None
    run_names: str | None = None
    config: dict[str, Names] = {}
    all_runs: Columns = {}
    runs: dict[str, Columns] = {}

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for channel in (*self.losses, *self.train_losses):
            read_channel_name(channel)
        for losses in (self.losses, self.train_losses):
            _check_once(losses)
        if self.loss_unit == "bits_per_byte":
            missing = [name for name in self.losses if name not in self.bytes_per_token]
            if missing:
                raise ValueError(
                    f"bytes_per_token of {', '.join(missing)} is missing; give the mean number of "
                    "bytes of a token, since losses are nats per token"
                )
        for place, columns in self._columns():
            for name in columns:
                _check_column(place, name, set(self.losses))
        return self

    def _columns(self) -> Iterator[tuple[str, list[str]]]:
        yield "config", list(self.config)
        yield "all_runs", list(self.all_runs)
        for run, entry in self.runs.items():
            yield f"runs, {run}", [name for name in entry if name not in RUN_KEYS]


def _check_once(losses: dict[str, Names]) -> None:
    """Refuse a metric that is the loss of two channels, such as a draft's line that was copied."""
    channels: dict[str, str] = {}
    for channel, names in losses.items():
        for name in names:
            other = channels.setdefault(name, channel)
            if other != channel:
                raise ValueError(
                    f"losses: {name} is the metric of {other} and of {channel}; remove one of them"
                )


def _check_column(place: str, name: str, channels: set[str]) -> None:
    if name in ("run", "loss_") or name.startswith(("loss_", "train_loss_")):
        raise ValueError(f"{place}: {name} is not a setting of a run; remove it")
    if known_column(name, channels) is None:
        near = nearest_column(name)
        hint = f"did you mean {near}?" if near else "see the columns of the runs table"
        raise ValueError(f"{place}: {name} is not a column of the runs table; {hint}")


def read_mapping(path: Path) -> Mapping:
    """Read a completed mapping file.

    Args:
        path: A YAML file.

    Returns:
        The mapping.

    Raises:
        InputError: If a value is still ``???``, or with all problems of the file together.
    """
    found = read_yaml(path, "give the path of a mapping file")
    if not isinstance(found, dict) or "losses" not in found:
        raise InputError(
            f"{path} is not a mapping file (it has no section losses); give another path with "
            "--mapping, where dcpt import writes a draft"
        )
    open_places = [*_open_values(found)]
    if open_places:
        raise InputError(_say_open(path, open_places))
    found = {key: value for key, value in found.items() if value is not None}
    try:
        return TypeAdapter(Mapping).validate_python(found)
    except ValidationError as error:
        raise InputError(
            [
                explain_problem(
                    problem,
                    ", ".join([path.name, *(str(part) for part in problem["loc"])]),
                    lambda: list(Mapping.model_fields),
                )
                for problem in error.errors()
            ]
        ) from None


def _open_values(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places of values, or names of channels, that are still to be filled in."""
    if value == FILL_IN:
        yield place
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == FILL_IN:
                yield (*place, key)
            yield from _open_values(inner, (*place, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _open_values(inner, place)


def _say_open(path: Path, places: list[tuple[str, ...]]) -> list[str]:
    """A sentence for each kind of value that is still open."""
    meanings = {column.name: column for column in COLUMNS}
    runs: dict[str, list[str]] = {}
    for place in places:
        runs.setdefault(".".join((place[0], *place[2:]) if place[0] == "runs" else place), [])
        if place[0] == "runs":
            runs[".".join((place[0], *place[2:]))].append(place[1])
    sentences = []
    for key, names in runs.items():
        column = meanings.get(key.rpartition(".")[2])
        what = f" ({column.meaning})" if column else ""
        of = f" of {len(names)} runs ({list_names(names)})" if names else ""
        sentences.append(f"{path}: {key}{what}{of} is still {FILL_IN}; write the value")
    return sentences


def list_names(names: list[str]) -> str:
    """Names for a message, the first few of them."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def find_each(
    mapped: dict[str, Names], find: Callable[[str, Names], Found | None]
) -> dict[str, Found]:
    """What a log has of each name of the mapping; without those that ``find`` gives None for.

    Args:
        mapped: By channel or column, names of the log.
        find: Looks the names of a channel or column up, and adds a problem if it finds nothing.
    """
    found = {key: find(key, names) for key, names in mapped.items()}
    return {key: value for key, value in found.items() if value is not None}


def mapped_metrics(losses: dict[str, Names]) -> list[str]:
    """The metrics of the losses of all channels."""
    return [name for names in losses.values() for name in names]
