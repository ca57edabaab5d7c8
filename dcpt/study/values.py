"""The values of a study's keys, as people write them: names, shares, rates, seeds, limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dcpt.errors import InputError
from dcpt.limit import NO_LIMIT, Limit
from dcpt.names import read_channel_name, shorten

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=40)]
ChannelName = Annotated[str, AfterValidator(read_channel_name)]


def _parse_fraction(value: object) -> float:
    text = str(value).strip()
    try:
        # In decimals: 2.2 % is 0.022, not 0.022000000000000002, which no mixture can match exactly.
        return float(Decimal(text[:-1]) / 100) if text.endswith("%") else float(text)
    except (ValueError, ArithmeticError):
        raise ValueError(f"{shorten(value)} is not a share; write 0.02 or 2%") from None


Fraction = Annotated[float, BeforeValidator(_parse_fraction)]
Rate = Annotated[float, Field(gt=0, le=1)]


def _parse_threshold(value: object) -> object:
    if value is True:
        raise ValueError("true is not a similarity; write one such as 0.4, or false for no screen")
    return value


# Of the pairs at a Jaccard similarity of 0.3, the screen compares two in five.
Threshold = Annotated[
    Literal[False] | Annotated[float, Field(ge=0.3, le=1)], BeforeValidator(_parse_threshold)
]
# The seed of a step is about a million times larger and must fit into 64 bits.
Seed = Annotated[int, Field(ge=0, lt=2**40)]


def read_limit(value: object) -> str | dict[str, str]:
    """Accept a limit, or limits by channel; YAML reads ``+0.05`` as a number."""
    if isinstance(value, dict):
        return {str(name): _check_channel_limit(limit) for name, limit in value.items()}
    return NO_LIMIT if value == NO_LIMIT else _check_single_limit(value)


def _check_channel_limit(value: object) -> str:
    if str(value).strip().endswith("each"):
        raise ValueError(f"{value!r}: each is for the limit on all channels; leave it out")
    return _check_single_limit(value)


def _check_single_limit(value: object) -> str:
    try:
        wrong = Limit.parse(value).problem()
    except InputError as error:
        wrong = str(error)
    if wrong is not None:
        raise ValueError(wrong.removeprefix("limit "))
    return str(value)
