from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpt.errors import InputError
from dcpt.text.mixture import Mixture, Phase, channel_pattern, permute


@st.composite
def shares_of_channels(draw: st.DrawFn) -> dict[str, Fraction]:
    weights = draw(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any))
    return {f"c{i}": Fraction(w, sum(weights)) for i, w in enumerate(weights)}


def shard(n_tokens: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + n_tokens, dtype=np.uint32)


def two_channels(share: Fraction = Fraction(3, 7), seed: int = 0) -> Mixture:
    return Mixture(
        [Phase(0, {"general": 1 - share, "domain": share})],
        {"general": shard(101), "domain": shard(50, 1000)},
        sequence_tokens=4,
        batch_sequences=5,
        seed=seed,
    )


@given(shares_of_channels())
def test_no_prefix_is_off_by_a_sequence(shares: dict[str, Fraction]) -> None:
    pattern = channel_pattern(shares)
    twice = np.concatenate([pattern, pattern])
    n = np.arange(1, len(twice) + 1)
    for place, share in enumerate(shares.values()):
        drawn = np.cumsum(twice == place)
        # In whole numbers, so that the bound is checked exactly.
        off = np.abs(drawn * share.denominator - n * share.numerator)
        assert (off < share.denominator).all()


@given(shares_of_channels(), st.integers(1, 7), st.integers(0, 40))
def test_tokens_before_a_step_are_those_of_its_batches(
    shares: dict[str, Fraction], batch_sequences: int, step: int
) -> None:
    shards = {name: shard(31) for name in shares}
    mixture = Mixture([Phase(0, shares)], shards, 3, batch_sequences, seed=1)
    drawn = [mixture.batch(s).channel_index for s in range(step)]
    counts = np.bincount(np.concatenate([*drawn, []]).astype(int), minlength=len(shares))
    assert mixture.tokens(step) == dict(zip(shares, (3 * counts).tolist(), strict=True))
    assert mixture.epochs(step) == dict(zip(shares, (counts / 10).tolist(), strict=True))


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(0, 3))
def test_every_window_comes_once_an_epoch(n_tokens_over: int, seed: int) -> None:
    tokens = shard(4 + n_tokens_over)
    n = (len(tokens) - 1) // 4
    mixture = Mixture([Phase(0, {"only": Fraction(1)})], {"only": tokens}, 4, 1, seed)
    for epoch in range(3):
        starts = [int(mixture.batch(epoch * n + j).tokens[0, 0]) for j in range(n)]
        assert sorted(starts) == list(range(0, 4 * n, 4))
    assert (mixture.batch(0).tokens[0] == mixture.batch(0).tokens[0, 0] + np.arange(5)).all()


@given(st.lists(st.integers(0, 500), min_size=1, max_size=10))
def test_steps_in_any_order_are_the_steps_in_sequence(steps: list[int]) -> None:
    forward, fresh = two_channels(), two_channels()
    expected = {step: forward.batch(step) for step in sorted(steps)}
    for step in steps:
        batch = fresh.batch(step)
        assert (batch.tokens == expected[step].tokens).all()
        assert (batch.channel_index == expected[step].channel_index).all()


@given(st.integers(1, 2000), st.text(max_size=5))
def test_permute_is_a_permutation(n: int, key: str) -> None:
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


def test_permute_shuffles_and_never_changes() -> None:
    first, second = permute(np.arange(5000), 5000, "a"), permute(np.arange(5000), 5000, "b")
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.05
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    # Neighbours must not stay neighbours.
    assert (np.abs(np.diff(first)) == 1).mean() < 0.01
    # A mixture that was begun goes on the same way in every later version.
    assert permute(np.arange(8), 1000, "0/general/0").tolist() == PERMUTED


PERMUTED = [487, 609, 236, 528, 93, 628, 690, 976]


def test_sequences_come_from_the_channel_they_name() -> None:
    mixture = two_channels()
    assert mixture.channels == ("general", "domain")
    for step in range(50):
        batch = mixture.batch(step)
        assert batch.tokens.shape == (5, 5)
        assert batch.tokens.dtype == np.int64
        assert ((batch.tokens >= 1000).all(axis=1) == (batch.channel_index == 1)).all()


def test_seed_and_epoch_change_the_order_and_not_the_channels() -> None:
    first, other = two_channels(seed=0), two_channels(seed=1)
    batches = [(first.batch(s), other.batch(s)) for s in range(20)]
    assert all((a.channel_index == b.channel_index).all() for a, b in batches)
    assert any((a.tokens != b.tokens).any() for a, b in batches)
    alone = Mixture([Phase(0, {"only": Fraction(1)})], {"only": shard(401)}, 4, 100, seed=0)
    assert (alone.batch(0).tokens != alone.batch(1).tokens).any()


def test_order_in_which_channels_are_named_changes_nothing() -> None:
    pattern = channel_pattern({"a": Fraction(1, 3), "b": Fraction(1, 3), "c": Fraction(1, 3)})
    other = channel_pattern({"c": Fraction(1, 3), "b": Fraction(1, 3), "a": Fraction(1, 3)})
    assert (np.array(list("abc"))[pattern] == np.array(list("cba"))[other]).all()


def test_repeats_tells_each_epoch_once() -> None:
    # 12 windows in the domain, 5 sequences a batch, of which 2 1/7 are the domain's.
    mixture = two_channels()
    begun = {step: mixture.repeats(step) for step in range(60)}
    domain = [epochs["domain"] for epochs in begun.values() if "domain" in epochs]
    assert domain == list(range(1, int(mixture.epochs(60)["domain"]) + 1))
    first = next(step for step, epochs in begun.items() if "domain" in epochs)
    assert mixture.epochs(first)["domain"] <= 1 < mixture.epochs(first + 1)["domain"]


def test_a_channel_of_no_share_needs_no_shard() -> None:
    phases = [Phase(0, {"general": Fraction(0), "domain": Fraction(1)})]
    mixture = Mixture(phases, {"domain": shard(50)}, 4, 5, seed=0)
    assert set(mixture.batch(3).channel_index.tolist()) == {1}
    assert mixture.tokens(3) == {"general": 0, "domain": 60}


def test_the_shards_are_not_copied() -> None:
    tokens = shard(100)
    mixture = Mixture([Phase(0, {"only": Fraction(1)})], {"only": tokens}, 4, 1, seed=0)
    tokens[:] = 7
    assert (mixture.batch(0).tokens == 7).all()


@pytest.mark.parametrize(
    ("shares", "shards", "sequence_tokens", "says"),
    [
        ({"a": Fraction(1, 2)}, {"a": shard(9)}, 4, "sum to 1/2"),
        ({"a": Fraction(3, 2), "b": Fraction(-1, 2)}, {"a": shard(9)}, 4, "3/2 is outside 0..1"),
        (
            {"a": Fraction(1, 1009), "b": Fraction(1, 1013), "c": 1 - Fraction(2022, 1022117)},
            {n: shard(9) for n in "abc"},
            4,
            "rounder ratios",
        ),
        ({"a": Fraction(1)}, {}, 4, "channel a has a share of 1 and no tokens"),
        ({"a": Fraction(1)}, {"a": shard(4)}, 4, "holds 4 tokens, fewer than the 5"),
        ({"a": Fraction(1)}, {"a": shard(4)}, 0, "must be at least 1"),
    ],
)
def test_bad_mixtures_are_refused(
    shares: dict[str, Fraction], shards: dict[str, np.ndarray], sequence_tokens: int, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        Mixture([Phase(0, shares)], shards, sequence_tokens, 4, seed=0)


@given(
    st.lists(shares_of_channels(), min_size=2, max_size=3),
    st.lists(st.integers(1, 90), min_size=2, max_size=2),
    st.integers(0, 200),
)
@settings(max_examples=40)
def test_each_phase_has_its_shares_and_goes_on_where_the_last_left_off(
    drawn: list[dict[str, Fraction]], lengths: list[int], step: int
) -> None:
    names = sorted({name for shares in drawn for name in shares})
    starts = [0, *np.cumsum(lengths).tolist()]
    phases = [
        Phase(start, {name: shares.get(name, Fraction(0)) for name in names})
        for start, shares in zip(starts, drawn, strict=False)
    ]
    shards = {name: shard(31, 100 * i) for i, name in enumerate(names)}
    mixture = Mixture(phases, shards, 3, 2, seed=1)
    batches = [mixture.batch(s) for s in range(step)]
    channels = np.concatenate([*(batch.channel_index for batch in batches), []]).astype(int)
    counts = np.bincount(channels, minlength=len(names))
    assert mixture.tokens(step) == dict(zip(names, (3 * counts).tolist(), strict=True))
    ends = [*starts[1 : len(phases)], max(step, starts[len(phases) - 1])]
    for phase, end in zip(phases, ends, strict=True):
        within = channels[2 * phase.first_step : 2 * min(end, step)]
        for place, name in enumerate(names):
            assert abs((within == place).sum() - len(within) * phase.shares[name]) < 1
    firsts = np.concatenate([*(batch.tokens[:, 0] for batch in batches), []]).astype(int)
    for place in range(len(names)):  # ten windows a channel: no two alike in an epoch
        windows = firsts[channels == place]
        for epoch in range(0, len(windows), 10):
            some = windows[epoch : epoch + 10].tolist()
            assert len(set(some)) == len(some)


def test_a_phase_that_is_a_continuation_changes_nothing_before_it() -> None:
    plain, shares = two_channels(), {"general": Fraction(4, 7), "domain": Fraction(3, 7)}
    own = {"general": Fraction(1, 2), "domain": Fraction(1, 2)}
    shards = {"general": shard(101), "domain": shard(50, 1000)}
    changed = Mixture([Phase(0, shares), Phase(70, own)], shards, 4, 5, seed=0)
    for step in (0, 3, 63, 64, 69):
        assert np.array_equal(plain.batch(step).tokens, changed.batch(step).tokens)
    assert not np.array_equal(plain.batch(70).channel_index, changed.batch(70).channel_index)
