"""Each finding fires on runs made to show it, and nothing else is found there.

``data/diagnose_runs.csv`` was made by ``experiments/diagnose.py``: real runs of small Llamas.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_configs import run_config

import dcpt
from dcpt.diagnosis import KINDS, Diagnosis, Journal, diagnose, read_journals
from dcpt.flags import Flag
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Decay, RunConfig
from dcpt.runs.stored import read_stored

MADE = Path(__file__).parent / "data" / "diagnose_runs.csv"

PLANTED = {
    "healthy": set(),
    "rate_x30": {"oscillating"},
    "rate_tiny": {"not_learning"},
    "spike": {"spike"},
    "not_finite": set(),  # its last point was sound: only its folder knows
    "confounded": {"confounded"},
    "wrong_mix": {"share_off_plan"},
    "templated": {"known_or_templated"},
    "known": {"known_or_templated"},
    "new": {"new_or_dirty"},
    "random_words": {"new_or_dirty"},
    "shuffled_bytes": {"new_or_dirty"},
    "other_general": {"general_unlike_base"},
    "tiny_pool": {"repeated_overfitting"},
}


def kinds(found: Diagnosis) -> set[str]:
    """What is not neutral and could be judged."""
    return {finding.kind for finding in found.with_verdict("alarm", "look")}


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return dcpt.load_runs(MADE)


def synthetic(**columns: object) -> pd.DataFrame:
    """A healthy run: 16 points, r = .5, its domain learnt, its general loss a little higher."""
    tokens = np.array([0, *np.geomspace(1e5, 1e7, 15).round()])
    rows = {
        "run": "one",
        "n_tokens": tokens,
        "n_params": 1e8,
        "ratio": 0.5,
        "learning_rate": 3e-4,
        "phase": np.where(tokens == 0, "base", "constant"),
        "loss_general": 2.5 + 0.05 * (1 - np.exp(-tokens / 1e6)),
        "loss_domain": 2.2 + 1.0 * np.exp(-tokens / 2e6),
        "train_loss_general": 2.5 + 0.05 * (1 - np.exp(-tokens / 1e6)),
        "train_loss_domain": 2.2 + 1.0 * np.exp(-tokens / 2e6),
        "share_general": 0.5,
        "share_domain": 0.5,
        "unique_tokens_general": 1e8,
        "unique_tokens_domain": 1e8,
        "warmup_tokens": 5e4,
    }
    return pd.DataFrame({**rows, **columns})


# ------------------------------------------------------------------------------ the made runs
@pytest.mark.parametrize("case", PLANTED)
def test_what_was_planted_is_found_and_nothing_else(made: pd.DataFrame, case: str) -> None:
    assert kinds(diagnose(made[made["case"] == case])) == PLANTED[case]


def test_every_run_of_a_case_shows_it(made: pd.DataFrame) -> None:
    for case, wanted in PLANTED.items():
        for kind in wanted - {"confounded"}:
            runs = made[made["case"] == case]
            assert {finding.run for finding in diagnose(runs).of(kind)} == set(runs["run"])


def test_the_healthy_runs_learn_and_forget(made: pd.DataFrame) -> None:
    healthy = made[made["case"] == "healthy"]
    found = diagnose(healthy)
    assert not found.alarms
    taught = set(healthy.loc[healthy["ratio"] > 0, "run"])
    assert {
        finding.run for finding in found.of("learning") if finding.channel == "domain"
    } == taught


def test_a_rate_too_high_is_seen_without_a_decay_too(made: pd.DataFrame) -> None:
    runs = made[(made["case"] == "rate_x30") & (made["phase"] != "annealed")]
    assert kinds(diagnose(runs)) == {"oscillating"}


def test_overfitting_cannot_be_judged_without_training_losses(made: pd.DataFrame) -> None:
    runs = made[made["case"] == "tiny_pool"].drop(columns=["train_loss_domain"])
    found = diagnose(runs)
    assert not found.of("repeated_overfitting")
    lacking = found.with_verdict("cannot be judged")
    assert ("repeated_overfitting", "train_loss_domain") in {(f.kind, f.lacks) for f in lacking}


def test_shares_cannot_be_judged_without_their_column(made: pd.DataFrame) -> None:
    runs = made[made["case"] == "wrong_mix"].drop(columns=["share_domain", "share_general"])
    lacking = {(f.kind, f.lacks) for f in diagnose(runs).with_verdict("cannot be judged")}
    assert {("share_off_plan", "share_domain"), ("share_off_plan", "share_general")} <= lacking


def test_text_that_is_seen_once_needs_no_training_losses() -> None:
    found = diagnose(synthetic().drop(columns=["train_loss_domain", "train_loss_general"]))
    assert {f.kind for f in found.with_verdict("cannot be judged")} == {"not_finite"}


# -------------------------------------------------------------------------------- the pilot
@pytest.mark.parametrize(
    ("name", "wanted"),
    [("code", {"confounded"}), ("code_lr", set()), ("zh_annealed", {"new_or_dirty"})],
)
def test_what_fires_on_the_pilot(name: str, wanted: set[str]) -> None:
    assert kinds(diagnose(dcpt.bundled_runs(name))) == wanted


def test_verse_is_repeated_at_high_shares_only() -> None:
    found = diagnose(dcpt.bundled_runs("zh_annealed")).of("repeated")
    runs = dcpt.bundled_runs("zh_annealed").groupby("run")["ratio"].first()
    assert {finding.run for finding in found} == set(runs[runs >= 0.9].index)


# ---------------------------------------------------------------------------- synthetic tables
@given(
    scale=st.floats(0.5, 3),
    fall=st.floats(0.2, 1.2),
    rise=st.floats(-0.02, 0.6),
    noise=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_smooth_runs_raise_no_alarm(scale: float, fall: float, rise: float, noise: int) -> None:
    rng, run = np.random.default_rng(noise), synthetic()
    tokens = run["n_tokens"].to_numpy()
    general = 2.5 + rise * (1 - np.exp(-tokens / 1e6)) + rng.normal(0, 0.002, len(tokens))
    domain = 2.2 + fall * np.exp(-tokens / 2e6) + rng.normal(0, 0.002, len(tokens))
    run = run.assign(loss_general=general * scale, loss_domain=domain * scale)
    # A scale of 3 gives general losses above 6, whose unit is questioned at this size.
    assert kinds(diagnose(run)) <= {"loss_unit"}


def test_a_planted_spike_is_placed_where_it_is() -> None:
    run = synthetic()
    run.loc[12, "loss_domain"] += 0.4
    (spike,) = diagnose(run).of("spike")
    assert (spike.channel, spike.values["n_tokens"]) == ("domain", run.loc[12, "n_tokens"])


def test_a_spike_between_points_is_read_from_the_lines() -> None:
    tokens = np.arange(1, 41) * 250_000
    losses = 2.2 + np.exp(-tokens / 2e6)
    calm = Journal(
        tuple((int(t), {"domain": float(x)}) for t, x in zip(tokens, losses, strict=True))
    )
    assert kinds(diagnose(synthetic(), {"one": calm})) == set()
    losses[30] += 1.0
    loud = Journal(
        tuple((int(t), {"domain": float(x)}) for t, x in zip(tokens, losses, strict=True))
    )
    (spike,) = diagnose(synthetic(), {"one": loud}).of("spike")
    assert spike.values["n_tokens"] == tokens[30]


def test_lines_that_swing_oscillate() -> None:
    swinging = tuple((i * 250_000, {"domain": 2.4 + 0.3 * (-1) ** i}) for i in range(1, 41))
    assert kinds(diagnose(synthetic(), {"one": Journal(swinging)})) == {"oscillating"}


def test_lines_of_few_tokens_swing_by_their_text_alone() -> None:
    swinging = tuple((60_000 + i * 1000, {"domain": 2.4 + 0.3 * (-1) ** i}) for i in range(40))
    assert kinds(diagnose(synthetic(), {"one": Journal(swinging)})) == set()


def test_a_validation_loss_that_rises_with_the_training_loss_is_not_learnt_by_heart() -> None:
    run = synthetic(unique_tokens_domain=1e6)
    worse = np.maximum(0, run["n_tokens"] / 1e7 - 0.3)
    fitted = run["train_loss_domain"] - worse
    rising = run["loss_domain"] + worse
    learnt = run.assign(loss_domain=rising, train_loss_domain=fitted)
    assert kinds(diagnose(learnt)) == {"repeated_overfitting"}
    drifting = run.assign(loss_domain=rising, train_loss_domain=rising)
    assert kinds(diagnose(drifting)) == set()


def test_a_channel_without_text_in_training_is_noise() -> None:
    run = synthetic(ratio=0.0, share_domain=0.0, share_general=1.0)
    run["loss_domain"] = 8 + np.random.default_rng(0).normal(0, 1, len(run))
    assert kinds(diagnose(run)) <= {"new_or_dirty"}


def test_a_run_that_diverged_is_excluded_from_fits_and_found_here() -> None:
    run = synthetic(excluded=None)
    run["excluded"] = run["excluded"].astype(object)
    run.loc[15, ["loss_domain", "excluded"]] = [50.0, "diverged: a loss above 20"]
    assert "not_finite" in kinds(diagnose(run))


def test_low_starts_are_compared_in_bits_where_bytes_are_known() -> None:
    run = synthetic(loss_domain=np.linspace(2.4, 2.0, 16))
    assert kinds(diagnose(run)) == set()
    run = run.assign(bytes_per_token_general=4.0, bytes_per_token_domain=10.0)
    (found,) = diagnose(run).of("known_or_templated")
    assert found.values["start"] == pytest.approx(2.4 / 10 / np.log(2))
    assert found.values["ratio"] == pytest.approx(2.4 / 10 / (2.5 / 4))


def test_bytes_that_are_no_numbers_are_named() -> None:
    with pytest.raises(dcpt.InputError, match="bytes_per_token_domain"):
        diagnose(synthetic(bytes_per_token_domain="many"))


def test_a_base_without_losses_is_asked_for() -> None:
    found = diagnose(synthetic().query("n_tokens > 0"))
    lacks = {finding.lacks for finding in found.with_verdict("cannot be judged")}
    assert "base_loss_domain (or a row at n_tokens 0)" in lacks


def test_several_general_channels_need_weights_to_be_one_side() -> None:
    run = synthetic().rename(columns=lambda name: name.replace("_general", "_en"))
    run = run.assign(loss_zh=3.0, share_zh=0.25, share_en=0.25)
    lacks = {finding.lacks for finding in diagnose(run).with_verdict("cannot be judged")}
    assert {"weight_en", "ratio (and weight_zh)"} <= lacks
    weighted = run.assign(weight_en=1.0, weight_zh=1.0)
    assert kinds(diagnose(weighted)) == set()
    off = diagnose(weighted.assign(share_en=0.4, share_zh=0.1)).of("share_off_plan")
    assert {(finding.channel, finding.values["planned"]) for finding in off} == {
        ("en", 0.25),
        ("zh", 0.25),
    }


def test_a_warmup_with_a_mixture_of_its_own_is_no_wrong_mix() -> None:
    run = synthetic(warmup_tokens=2e6)
    tokens = run["n_tokens"].to_numpy()
    read = np.where(tokens <= 2e6, 0.1 * tokens, 0.1 * 2e6 + 0.5 * (tokens - 2e6))
    share = read / np.maximum(tokens, 1)
    assert kinds(diagnose(run.assign(share_domain=share, share_general=1 - share))) == set()


def test_sizes_that_share_a_rate_are_not_confounded() -> None:
    rates = {1e7: 9e-4, 1e8: 3e-4}
    by_rule = [synthetic(run=f"{n:g}", n_params=n, learning_rate=lr) for n, lr in rates.items()]
    assert kinds(diagnose(pd.concat(by_rule))) == {"confounded"}
    crossed = [*by_rule, synthetic(run="crossed", n_params=1e7, learning_rate=3e-4)]
    assert kinds(diagnose(pd.concat(crossed))) == set()


def decayed(run: str, learning_rate: float, general: float, domain: float) -> pd.DataFrame:
    """A run that falls as the others do, and what is left of it after a decay."""
    trunk = synthetic(run=run, learning_rate=learning_rate)
    end = trunk.iloc[[-1]].assign(phase="annealed", loss_general=general, loss_domain=domain)
    end["n_tokens"], end["branch_n_tokens"] = end["n_tokens"] * 1.1, end["n_tokens"]
    return pd.concat([trunk, end], ignore_index=True)


@pytest.mark.parametrize(
    ("domain", "share", "fires"), [(2.52, 0.5, True), (2.505, 0.5, False), (2.52, 0.4, False)]
)
def test_a_rate_that_buys_nothing(domain: float, share: float, fires: bool) -> None:
    low = decayed("low", 3e-4, 2.5, 2.5)
    high = decayed("high", 9e-4, 2.6, domain).assign(ratio=share)
    found = [
        finding for finding in diagnose(pd.concat([low, high])).findings if finding.run == "high"
    ]
    worse = [finding for finding in found if finding.kind == "rate_buys_nothing"]
    assert bool(worse) == fires
    if fires:
        assert (
            "At 9e-4 every channel ends its decay with a higher loss than at 3e-4"
            in worse[0].sentence
        )
        assert "(general +0.100, domain +0.020)" in worse[0].sentence
        assert worse[0].verdict == "look"


def test_rates_are_not_compared_at_constant_rate() -> None:
    low, high = synthetic(run="low", learning_rate=3e-4), synthetic(run="high", learning_rate=9e-4)
    high.loc[high["n_tokens"] > 0, ["loss_general", "loss_domain"]] += 0.1
    assert "rate_buys_nothing" not in kinds(diagnose(pd.concat([low, high])))


def test_a_confounded_design_needs_both_columns() -> None:
    both = pd.concat([synthetic(), synthetic(run="two", learning_rate=9e-4)])
    found = diagnose(both.drop(columns="n_params")).with_verdict("cannot be judged")
    assert ("confounded", "n_params") in {(finding.kind, finding.lacks) for finding in found}


def test_the_two_numbers_of_the_cross_domain_law() -> None:
    run = synthetic()
    (start,) = diagnose(run).starts
    first = run[run["n_tokens"] >= 2.5 * 5e4].iloc[0]
    assert start.initial_loss == pytest.approx(3.2)
    assert start.until_tokens == first["n_tokens"]
    slope = (3.2 - first["loss_domain"]) / first["n_tokens"] * 1e6
    assert start.early_slope == pytest.approx(slope)


def test_a_diagnosis_is_json_and_knows_all_kinds(made: pd.DataFrame) -> None:
    output = json.loads(json.dumps(diagnose(made).as_dict(), allow_nan=False))
    assert output["n_runs"] == made["run"].nunique()
    assert {finding["kind"] for finding in output["findings"]} <= set(KINDS)


def test_nothing_is_changed_in_the_table(made: pd.DataFrame) -> None:
    before = made.copy()
    diagnose(made)
    pd.testing.assert_frame_equal(made, before)


# ------------------------------------------------------------------------------- run folders
def leave(runs: Path, config: RunConfig, *events: dict[str, object]) -> RunFolder:
    folder = RunFolder.of(config, runs)
    folder.write_config(config)
    with folder.open_metrics() as metrics:
        for event in events:
            metrics.write(json.dumps(event) + "\n")
    return folder


def line(n_tokens: int, loss: float) -> dict[str, object]:
    return {"event": "train", "n_tokens": n_tokens, "channel_loss": {"law": loss}}


def test_a_run_that_stopped_at_a_nan_is_found_by_its_folder(tmp_path: Path) -> None:
    trunk = run_config()
    decay = Decay(start_tokens=100, n_tokens=10)
    branch = run_config(kind="branch", trunk=trunk.identity.hash, decay=decay)
    folder = leave(tmp_path, trunk, {"event": "point", "n_tokens": 50}, line(20, 3.0))
    broken = leave(tmp_path, branch)
    message = "TrainingError: run x: the training loss of step 63 is nan at a learning rate of 1"
    error = {"message": message, "traceback": "", "kind": "not_finite"}
    (broken.path / "error.json").write_text(json.dumps(error))
    journals = read_journals(read_stored(tmp_path), {trunk.identity.hash, branch.identity.hash})
    (found,) = diagnose(synthetic(), journals).of("not_finite")
    assert (found.run, found.sentence) == (folder.path.name, message)
    assert journals[folder.path.name].lines == ((20, {"domain": 3.0}),)


def test_another_failure_is_no_nan(tmp_path: Path) -> None:
    trunk = run_config()
    folder = leave(tmp_path, trunk)
    message = "OSError: a file cannot be written while the loss is reported"
    error = {"message": message, "traceback": "", "kind": "disk"}
    (folder.path / "error.json").write_text(json.dumps(error))
    found = diagnose(synthetic(), read_journals(read_stored(tmp_path), {trunk.identity.hash}))
    assert not found.of("not_finite")
    assert [finding.kind for finding in found.with_verdict("cannot be judged")] == ["unfinished"]


def test_lines_that_a_resumed_run_told_twice_count_once(tmp_path: Path) -> None:
    trunk = run_config()
    folder = leave(tmp_path, trunk, line(10, 3.0), line(30, 2.9), line(20, 2.8), line(30, 2.7))
    lines = read_journals(read_stored(tmp_path), {trunk.identity.hash})[folder.path.name].lines
    assert lines == ((10, {"domain": 3.0}), (20, {"domain": 2.8}), (30, {"domain": 2.7}))
    assert read_journals(read_stored(tmp_path), set()) == {}


def test_a_decay_with_a_mixture_of_its_own_says_nothing_of_the_rate() -> None:
    end = (
        synthetic()
        .iloc[[-1]]
        .assign(phase="annealed", branch_n_tokens=1e7, n_tokens=1.1e7, loss_general=1.5)
    )
    assert kinds(diagnose(pd.concat([synthetic(), end]))) == {"oscillating"}
    excluded = pd.concat([synthetic(), end.assign(excluded="a mixture of its own")])
    assert kinds(diagnose(excluded)) == set()


def flat(change: float, error: float | None) -> pd.DataFrame:
    """A run whose domain loss ends at some distance from the base's, 3.0."""
    rows = [{"n_tokens": 0, "loss_general": 2.0, "loss_domain": 3.0}]
    rows += [
        {"n_tokens": n, "loss_general": 2.1, "loss_domain": 3.0 + change}
        for n in (1e6, 2e6, 4e6, 8e6)
    ]
    table = pd.DataFrame(rows).assign(run="one", ratio=0.5, learning_rate=1e-3)
    return table if error is None else table.assign(se_domain=error, se_general=error)


@pytest.mark.parametrize(
    ("change", "error", "verdict"),
    [
        (0.02, None, "alarm"),
        (0.02, 0.03, "cannot be judged"),
        (0.0, 0.03, "alarm"),
        (0.2, 0.03, "alarm"),
        (-0.5, 0.03, None),
    ],
)
def test_a_rise_within_the_standard_error_is_no_alarm(change, error, verdict) -> None:
    found = [
        finding
        for finding in diagnose(flat(change, error)).findings
        if finding.kind == "not_learning"
    ]
    assert [finding.verdict for finding in found] == ([] if verdict is None else [verdict])


def test_a_run_that_has_not_ended_raises_no_alarm() -> None:
    table = flat(0.2, None)
    assert [finding.kind for finding in diagnose(table, {}).alarms] == ["not_learning"]
    found = diagnose(table, {"one": Journal(ended=False)})
    assert not found.alarms
    (unfinished,) = [finding for finding in found.findings if finding.kind == "unfinished"]
    assert unfinished.verdict == "cannot be judged"
    assert unfinished.values == {"runs": 1.0}
    # What stopped it is known before its end.
    stopped = Journal(stopped="the loss is nan", ended=False)
    assert "not_finite" in {finding.kind for finding in diagnose(table, {"one": stopped}).alarms}


def test_a_journal_knows_whether_its_run_has_ended(tmp_path: Path) -> None:
    trunk = run_config()
    leave(tmp_path, trunk)
    (journal,) = read_journals(read_stored(tmp_path), {trunk.identity.hash}).values()
    assert not journal.ended


def test_near_copies_of_the_prepared_text_are_findings() -> None:
    found = Flag("near_copies", "channel law: 4 of 20", {"channel": "law"}, {"documents": 4})
    (finding,) = diagnose(dcpt.bundled_runs("code"), near_copies=[found]).of("near_copies")
    assert (finding.verdict, finding.sentence) == ("fact", "channel law: 4 of 20")
    assert finding.values == {"documents": 4}
