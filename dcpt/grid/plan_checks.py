"""What every run of a plan would fail of, refused before any is trained."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from dcpt.errors import InputError
from dcpt.runs.course import channel_shares
from dcpt.runs.identity import ChannelIdentity
from dcpt.study.schema import Study
from dcpt.text.manifest import Prepared
from dcpt.text.mixture import LONGEST_PERIOD


def check_plan(
    study: Study,
    prepared: Prepared,
    channels: Sequence[ChannelIdentity],
    extra: Collection[ChannelIdentity],
    ratios: Collection[float],
) -> None:
    """Check the validation text and the mixtures of a plan.

    Args:
        study: The study.
        prepared: Its text.
        channels: The channels that trunks read and measure.
        extra: The channels that decays alone read.
        ratios: The ratios of the trunks.

    Raises:
        InputError: With all problems found.
    """
    wanted = study.evaluation.tokens
    problems = list(_short_texts(prepared, [*channels, *extra], wanted))
    if study.training.warmup_ratio is not None:
        ratios = {*ratios, study.training.warmup_ratio}
    problems += _long_patterns(channels, ratios)
    if problems:
        raise InputError(problems)


def _short_texts(
    prepared: Prepared, channels: Sequence[ChannelIdentity], wanted: int
) -> Iterator[str]:
    for channel in channels:
        evaluated = prepared.evaluated(channel.name)
        if evaluated.tokens > wanted or channel.side == "validation":
            continue
        is_whole = evaluated is prepared.channels[channel.name].valid
        without = "" if is_whole else " without near-copies of training text"
        yield (
            f"evaluation.tokens: {wanted} are asked of channel {channel.name}, whose validation "
            f"text holds {evaluated.tokens}{without}; lower it, or raise valid_fraction"
        )


def _long_patterns(channels: Sequence[ChannelIdentity], ratios: Collection[float]) -> Iterator[str]:
    for ratio in sorted(ratios):
        shares = channel_shares(tuple(channels), ratio).values()
        if math.lcm(*(share.denominator for share in shares)) > LONGEST_PERIOD:
            yield (
                f"ratio {ratio!r}: with these weights the pattern of channels repeats after more "
                f"than {LONGEST_PERIOD} sequences; round the ratio to two or three decimals, or "
                "give the general channels rounder weights"
            )
