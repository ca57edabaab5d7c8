"""The training stream: an exact, deterministic mixture of channels, computable at any step.

Which channel a sequence comes from is a periodic pattern made by R. Tijdeman's rule for the
chairman assignment problem (Discrete Mathematics 32, 1980): after any number i of sequences, each
channel has been drawn i * share times, give or take less than one. Which window of its channel a
sequence reads is a keyed permutation of the windows, another one for each epoch. Both are pure
functions of the sequence's number, so nothing is replayed on resume, and both are integer
arithmetic written out here, so that no library's random stream can change a mixture.

Shares may change at chosen steps (a warmup or a decay with a mixture of its own). Each phase has a
pattern of its own; windows go on where the phase before left off.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dcpt.errors import InputError

BLOCK_STEPS = 64
"""Steps whose windows are computed at once: permuting 2048 numbers takes only three times as long
as permuting 32, and a GPU takes 2 ms for a step of a small model."""

LONGEST_PERIOD = 1_000_000
"""Sequences after which the pattern of channels must repeat; it is held in memory."""

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Batch:
    """The sequences of one optimizer step.

    Attributes:
        tokens: Token ids, shape (B, T + 1): inputs are ``[:, :-1]``, targets ``[:, 1:]``.
        channel_index: Where each sequence comes from, shape (B,): places in ``Mixture.channels``.
    """

    tokens: Integers
    channel_index: Integers


@dataclass(frozen=True)
class Phase:
    """Shares of all channels from a step on, until the next phase begins; they sum to 1."""

    first_step: int
    shares: Mapping[str, Fraction]


class Mixture:
    """Sequences of several channels in exact shares.

    A sequence is a window of T + 1 tokens; windows of a channel start T tokens apart, so each
    token is a target once an epoch (what is left behind the last full window is never read).

    Args:
        phases: Shares of the channels in training: the first phase begins at step 0. All name the
            same channels; one that has a share of 0 in all of them is listed among ``channels``
            and never drawn.
        shards: Token ids of each channel, one-dimensional, as ``open_shard`` returns them.
        sequence_tokens: T, targets in a sequence.
        batch_sequences: B, sequences in a batch.
        seed: Orders the windows; it has no influence on which channel comes when.

    Raises:
        InputError: If shares do not sum to 1 or need too long a pattern, or if a shard is missing
            or shorter than one sequence.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        shards: Mapping[str, NDArray[np.unsignedinteger]],
        sequence_tokens: int,
        batch_sequences: int,
        seed: int,
    ) -> None:
        first = [phase.first_step for phase in phases]
        assert first[0] == 0, "the first phase begins at step 0"
        assert first == sorted(set(first)), "phases follow each other"
        self.channels = tuple(phases[0].shares)
        assert all(tuple(phase.shares) == self.channels for phase in phases), "channels differ"
        for phase in phases:
            _check(phase.shares, shards, sequence_tokens, batch_sequences)
        self.sequence_tokens = sequence_tokens
        self.batch_sequences = batch_sequences
        self.seed = seed
        drawn = {name for phase in phases for name, share in phase.shares.items() if share > 0}
        self._windows = [
            # A view of shape (n, T + 1), no copy; a channel that is never drawn needs no shard.
            sliding_window_view(np.asarray(shards[name]), sequence_tokens + 1)[::sequence_tokens]
            if name in drawn
            else np.empty((1, sequence_tokens + 1), dtype=np.uint16)
            for name in self.channels
        ]
        self._n_windows = np.array([len(windows) for windows in self._windows], dtype=np.int64)
        self._first_sequences = [step * batch_sequences for step in first]
        self._patterns = [_Pattern(phase.shares) for phase in phases]
        self._block: tuple[int, Integers, Integers] = (-1, _NONE, _NONE)

    def batch(self, step: int) -> Batch:
        """Read the batch of one step, counted from 0."""
        block, place = divmod(step, BLOCK_STEPS)
        if self._block[0] != block:
            self._block = (block, *self._reads(block))
        channel_index, window = self._block[1][place], self._block[2][place]
        tokens = np.empty((self.batch_sequences, self.sequence_tokens + 1), dtype=np.int64)
        for channel in np.unique(channel_index):
            rows = channel_index == channel
            tokens[rows] = self._windows[channel][window[rows]]
        return Batch(tokens, channel_index.copy())

    def tokens(self, step: int) -> dict[str, int]:
        """Count the target tokens of each channel in all the batches before ``step``."""
        counts = self._counts(step) * self.sequence_tokens
        return dict(zip(self.channels, counts.tolist(), strict=True))

    def epochs(self, step: int) -> dict[str, float]:
        """Number of epochs of each channel before ``step``."""
        epochs = self._counts(step) / self._n_windows
        return dict(zip(self.channels, epochs.tolist(), strict=True))

    def repeats(self, step: int) -> dict[str, int]:
        """Name the channels that begin to repeat, or repeat once more, in the batch of ``step``.

        Returns:
            For these channels only, the epoch that begins, counted from 0: 1 means that the
            channel was read completely and starts again with the same text, reshuffled.
        """
        last_before = (self._counts(step) - 1) // self._n_windows
        last = (self._counts(step + 1) - 1) // self._n_windows
        begun = (last > last_before) & (last > 0)
        return {self.channels[c]: int(last[c]) for c in np.flatnonzero(begun)}

    def _reads(self, block: int) -> tuple[Integers, Integers]:
        """Channel and window of each sequence of a block of steps, both (BLOCK_STEPS, B)."""
        n = BLOCK_STEPS * self.batch_sequences
        numbers = block * n + np.arange(n, dtype=np.int64)
        channel, drawn_before = np.empty_like(numbers), np.empty_like(numbers)
        phase = np.searchsorted(self._first_sequences, numbers, side="right") - 1
        for p in np.unique(phase):
            rows, first = phase == p, self._first_sequences[p]
            channel[rows], drawn = self._patterns[p].draws(numbers[rows] - first)
            drawn_before[rows] = drawn + self._drawn(first)[channel[rows]]
        window = np.empty_like(numbers)
        for c in np.unique(channel):
            window[channel == c] = self._order(int(c), drawn_before[channel == c])
        return channel.reshape(BLOCK_STEPS, -1), window.reshape(BLOCK_STEPS, -1)

    def _counts(self, step: int) -> Integers:
        """Sequences of each channel before a step, shape (channels,)."""
        return self._drawn(step * self.batch_sequences)

    def _drawn(self, sequences: int) -> Integers:
        """How often each channel is among the first so many sequences, shape (channels,)."""
        total = np.zeros(len(self.channels), dtype=np.int64)
        ends = [*self._first_sequences[1:], sequences]
        for pattern, first, end in zip(self._patterns, self._first_sequences, ends, strict=True):
            total += pattern.counts(max(0, min(end, sequences) - first))
        return total

    def _order(self, channel: int, drawn_before: Integers) -> Integers:
        """Turn numbers of draws from one channel into numbers of its windows."""
        n = int(self._n_windows[channel])
        epoch, place = np.divmod(drawn_before, n)
        windows = np.empty_like(place)
        for e in np.unique(epoch):
            rows = epoch == e
            windows[rows] = permute(place[rows], n, f"{self.seed}/{self.channels[channel]}/{e}")
        return windows


_NONE = np.empty((0, 0), dtype=np.int64)


class _Pattern:
    """The periodic pattern of one phase; sequences are numbered from its beginning."""

    def __init__(self, shares: Mapping[str, Fraction]) -> None:
        self._pattern = channel_pattern(shares)
        self._per_period = np.bincount(self._pattern, minlength=len(shares))
        self._places = [np.flatnonzero(self._pattern == c) for c in range(len(shares))]
        self._rank = np.zeros(len(self._pattern), dtype=np.int64)
        for places in self._places:
            self._rank[places] = np.arange(len(places))

    def draws(self, numbers: Integers) -> tuple[Integers, Integers]:
        """Channel of each sequence, and how often it was drawn before in this phase."""
        period, place = np.divmod(numbers, len(self._pattern))
        channel = self._pattern[place]
        return channel, period * self._per_period[channel] + self._rank[place]

    def counts(self, n: int) -> Integers:
        """Sequences of each channel among the first ``n``, shape (channels,)."""
        periods, rest = divmod(n, len(self._pattern))
        within = [int(np.searchsorted(places, rest)) for places in self._places]
        counts: Integers = periods * self._per_period + np.array(within, dtype=np.int64)
        return counts


def channel_pattern(shares: Mapping[str, Fraction]) -> Integers:
    """Assign channels to sequences so that no prefix is off by a whole sequence.

    Tijdeman's rule: among the channels that are owed enough to be eligible, draw the one that would
    be the first to fall a bound of 1 - 1/(2k - 2) sequences behind (k channels). With all numbers
    multiplied by the period and by 2k - 2 the arithmetic is in whole numbers and exact.

    Args:
        shares: Shares that sum to 1.

    Returns:
        Places in ``shares``, shape (period,); the period is the least common denominator. The
        order of ``shares`` names the channels and does not change which is drawn.
    """
    period = math.lcm(*(share.denominator for share in shares.values()))
    places = {name: place for place, name in enumerate(shares)}
    drawn = sorted(name for name, share in shares.items() if share > 0)
    if len(drawn) == 1:
        return np.array([places[drawn[0]]], dtype=np.int64)
    slack = 2 * len(drawn) - 2
    unit = period * slack  # what one sequence counts for
    gain = [int(shares[name] * period) * slack for name in drawn]
    owed = [0] * len(drawn)
    pattern = np.empty(period, dtype=np.int64)
    for i in range(period):
        owed = [debt + g for debt, g in zip(owed, gain, strict=True)]
        eligible = [c for c, debt in enumerate(owed) if debt >= period]
        # Sequences until it falls behind the bound; a fraction, so that ties are seen as ties.
        chosen = min(eligible, key=lambda c: Fraction(unit - period - owed[c], gain[c]))
        owed[chosen] -= unit
        pattern[i] = places[drawn[chosen]]
    return pattern


def permute(place: Integers, n: int, key: str) -> Integers:
    """Apply a keyed permutation of 0..n-1, without ever holding the permutation.

    A Feistel network of eight rounds permutes the numbers of 2 * half bits; results beyond n are
    sent through it again until they fall inside (cycle walking; fewer than four passes expected).

    Args:
        place: Numbers below n, any shape.
        n: Size of the permutation.
        key: Chooses the permutation.

    Returns:
        The permuted numbers, same shape.
    """
    half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    digest = hashlib.blake2b(key.encode(), digest_size=64).digest()
    round_keys = np.frombuffer(digest, dtype="<u8")
    result = place.astype(np.uint64)
    outside = np.ones(result.shape, dtype=bool)
    while outside.any():
        x = result[outside]
        left, right = x >> shift, x & mask
        for round_key in round_keys:
            left, right = right, left ^ (_scramble(right + round_key) & mask)
        result[outside] = (left << shift) | right
        outside = result >= n
    return result.astype(np.int64)


def _scramble(x: Words) -> Words:
    """Mix the bits of each number (the finalizer of splitmix64; wraps around on purpose)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _check(
    shares: Mapping[str, Fraction],
    shards: Mapping[str, NDArray[np.unsignedinteger]],
    sequence_tokens: int,
    batch_sequences: int,
) -> None:
    problems = [
        f"channel {name}: a share of {share} is outside 0..1; shares are parts of 1"
        for name, share in shares.items()
        if not 0 <= share <= 1
    ]
    if sum(shares.values()) != 1:
        problems.append(f"the channels' shares sum to {sum(shares.values())}; they must sum to 1")
    if sequence_tokens < 1 or batch_sequences < 1:
        problems.append(
            f"a batch of {batch_sequences} sequences of {sequence_tokens} tokens is empty; both "
            "must be at least 1"
        )
    period = math.lcm(*(share.denominator for share in shares.values()))
    if period > LONGEST_PERIOD:
        problems.append(
            f"the channels' shares ({', '.join(f'{n} {s}' for n, s in shares.items())}) repeat "
            f"only after {period} sequences, more than {LONGEST_PERIOD}; choose rounder ratios or "
            "weights, such as 0.35 in place of 0.3517"
        )
    for name, share in shares.items():
        if share > 0 and name not in shards:
            problems.append(f"channel {name} has a share of {share} and no tokens; prepare it")
        elif share > 0 and len(shards[name]) <= sequence_tokens:
            problems.append(
                f"channel {name} holds {len(shards[name])} tokens, fewer than the "
                f"{sequence_tokens + 1} of one sequence; give it more text or shorten sequences"
            )
    if problems:
        raise InputError(problems)
