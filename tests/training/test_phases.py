"""Warmups and decays with their own mixture, reset moments, and the moments of a base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_runs import BATCH_TOKENS, Made, points_of
from safetensors.torch import load_file
from test_resume import assert_same_weights, elsewhere

from dcpt.errors import InputError
from dcpt.runs.identity import Decay, RunConfig
from dcpt.runs.stored import read_stored
from dcpt.table.study_rows import read_study_rows
from dcpt.training.evaluate import evaluate_model
from dcpt.training.loop import train


@pytest.fixture
def other(made: Made, tmp_path: Path) -> Made:
    return elsewhere(made, tmp_path / "other")


def with_decay(branch: RunConfig, name: str | None = None, **fields: object) -> RunConfig:
    """Return the branch with other fields of its decay."""
    identity, recorded = branch.identity, branch.recorded
    assert identity.decay is not None
    decay = Decay(**{**identity.decay.model_dump(), **fields})
    return RunConfig(
        identity=identity.model_copy(update={"decay": decay}),
        recorded=recorded.model_copy(update={"mixture_name": name}),
    )


def without_code(made: Made, config: RunConfig) -> RunConfig:
    """Return the run on two channels, where only a decay may read ``code``."""
    channels = tuple(c for c in config.identity.channels if c.name != "code")
    identity = config.identity.model_copy(update={"channels": channels})
    return config.model_copy(update={"identity": identity})


def test_a_warmup_reads_its_own_mixture(made: Made) -> None:
    config = made.trunk(12, points=(4,), warmup_ratio=0.0)
    train(config, made.study)
    _, warm, end = made.folder(config).points()
    assert warm["tokens"]["law"] == 0
    assert end["tokens"]["law"] == pytest.approx(0.4 * 8 * BATCH_TOKENS, abs=16)


def test_a_decay_reads_its_own_mixture_and_channels(made: Made, other: Made) -> None:
    trunk = without_code(made, made.trunk(8, points=(8,)))
    plain = made.branch(trunk, 8, 4)
    extra = made.identity().channels[1].model_copy(update={"side": "extra"})
    assert extra.name == "code"
    own = with_decay(plain, "best", mixture={"code": 0.75, "en": 0.25})
    own = own.model_copy(
        update={
            "identity": own.identity.model_copy(
                update={"channels": (*trunk.identity.channels, extra)}
            )
        }
    )
    for config in (trunk, plain, own):
        train(config, made.study)
    (point,) = made.folder(own).points()
    assert set(point["loss"]) == {"en", "law", "code"}
    before = made.folder(trunk).points()[-1]["tokens"]
    assert point["tokens"]["code"] == 3 * BATCH_TOKENS
    assert point["tokens"]["en"] - before["en"] == BATCH_TOKENS
    assert point["tokens"]["law"] == before["law"]
    assert set(point["train_loss"]) == {"en", "code"}

    rows = read_study_rows(read_stored(made.runs), [trunk, plain, own]).rows
    reasons = [row.get("excluded") for row in rows if row["phase"] == "annealed"]
    assert sorted(reasons, key=str) == [None, "decay with a mixture of its own: best"]
    assert not any("code" in column for row in rows for column in row)

    train(trunk, other.study)
    train(own, other.study, stop_at_step=10)
    train(own, other.study)
    assert points_of(made.folder(own)) == points_of(other.folder(own))


def test_a_decay_may_start_with_fresh_moments(made: Made) -> None:
    trunk = made.trunk(8)
    carried = made.branch(trunk, 8, 2, keep_state_at=(8 * BATCH_TOKENS, 10 * BATCH_TOKENS))
    reset = with_decay(carried, optimizer="reset")
    for config in (trunk, carried, reset):
        train(config, made.study)
    state = load_file(made.folder(trunk).state(8 * BATCH_TOKENS))
    for config, steps in ((carried, 10), (reset, 2)):
        end = load_file(made.folder(config).state(10 * BATCH_TOKENS))
        assert {float(end[name]) for name in end if name.startswith("step.")} == {steps}
    fresh = load_file(made.folder(reset).state(8 * BATCH_TOKENS))
    for name, tensor in fresh.items():
        if name.startswith("exp_avg"):
            assert not tensor.any()
        elif name.startswith("model."):
            assert torch.equal(tensor, state[name])


def test_a_reset_is_not_repeated_on_resume(made: Made, other: Made) -> None:
    trunk = made.trunk(8)
    reset = with_decay(made.branch(trunk, 6, 5, keep_state_at=(11 * BATCH_TOKENS,)))
    reset = with_decay(reset, optimizer="reset")
    for stop, runs in ((None, made), (6, other)):
        train(trunk, runs.study)
        if stop is not None:
            for at in (6, 8):
                train(reset, runs.study, stop_at_step=at)
        train(reset, runs.study)
    n = 11 * BATCH_TOKENS
    assert_same_weights(made.folder(reset).state(n), other.folder(reset).state(n))


def test_a_trunk_goes_on_with_its_bases_moments(made: Made) -> None:
    base = made.pretrain(12, 4)
    start = 8 * BATCH_TOKENS
    keeping = base.model_copy(
        update={
            "recorded": base.recorded.model_copy(
                update={"keep_state_at": (start,), "evaluation_at": (start,)}
            )
        }
    )
    train(keeping, made.study)
    before, end = made.folder(keeping).points()
    assert (before["n_tokens"], end["n_tokens"]) == (start, 12 * BATCH_TOKENS)
    fields = {"base": f"run:{base.identity.hash}", "base_path": None, "warmup_tokens": 0}
    config = made.trunk(2, base_state_tokens=start, keep=(0, 2), **fields)
    train(config, made.study)
    assert made.folder(config).points()[0]["loss"] == before["loss"]
    kept = load_file(made.folder(keeping).state(start))
    mine = load_file(made.folder(config).state(0))
    assert kept["step.model.norm.weight"] == 8
    for name, tensor in kept.items():
        if not name.startswith("loss_"):
            assert torch.equal(mine[name], tensor)
    assert load_file(made.folder(config).state(2 * BATCH_TOKENS))["step.model.norm.weight"] == 10

    made.folder(keeping).state(start).unlink()
    late = made.trunk(2, base_state_tokens=start, seed=7, **fields)
    with pytest.raises(InputError, match=r"kept no state at 512 tokens; train that run again"):
        train(late, made.study)


def test_documents_by_themselves_are_another_run_with_other_losses(made: Made) -> None:
    plain, apart = made.trunk(6), made.trunk(6, packing="documents")
    assert plain.identity.hash != apart.identity.hash
    train(plain, made.study)
    train(apart, made.study)
    plain_points, apart_points = (made.folder(config).points() for config in (plain, apart))
    assert plain_points[0]["eval_id"] != apart_points[0]["eval_id"]
    assert plain_points[0]["loss"] != apart_points[0]["loss"]
    assert plain_points[0]["tokens"] == apart_points[0]["tokens"]
    measured = evaluate_model(
        made.base, made.study / "data", ["en", "code", "law"], 16, 160, packing="documents"
    )
    assert measured["loss"] == apart_points[0]["loss"]
