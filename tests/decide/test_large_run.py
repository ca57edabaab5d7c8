"""A large run against its prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import dcpt
from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.decide import write_recommendation
from dcpt.decide.large_run import watch_run
from dcpt.decide.watched import Watched
from dcpt.errors import InputError
from dcpt.laws import Fit, write_fit
from dcpt.table import load_runs

N_TOKENS, RATIO, RATE = 44_000_000, 0.5, 6e-4
TARGET = dcpt.Target(
    n_params=29_106_688,
    n_tokens=N_TOKENS,
    limit="+3%",
    base_losses={"general": 2.775, "domain": 8.66},
    base_peak_learning_rate=1e-3,
)
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def verse_fit() -> Fit:
    return dcpt.fit(bundled_runs("zh_annealed"), n_draws=40)


def predicted(fit: Fit, n_tokens: list[float], phase: str) -> pd.DataFrame:
    """Central predictions at tokens, a column per channel."""
    asked = {"n_params": TARGET.n_params, "base_peak_learning_rate": 1e-3, "phase": phase}
    asked |= {f"base_loss_{name}": loss for name, loss in TARGET.base_losses.items()}
    found = fit.predict(n_tokens=n_tokens, ratio=RATIO, learning_rate=RATE, **asked)
    return found.pivot_table(index="n_tokens", columns="channel", values="loss")


def large_run(fit: Fit, part: float, **offsets: float) -> pd.DataFrame:
    """The predicted curve of a run, moved by an offset per channel, up to a part of its tokens.

    Its last point is the end of a short decay.
    """
    tokens = [round(N_TOKENS * part * step / 8) for step in range(1, 9)]
    parts = []
    for phase, there in (("constant", tokens), ("annealed", [tokens[-1] + 1])):
        losses = predicted(fit, [float(n) for n in there], phase)
        rows = {"run": "large", "n_params": TARGET.n_params, "n_tokens": there, "phase": phase}
        rows |= {f"loss_{name}": losses[name] + offsets.get(name, 0.0) for name in losses}
        rows |= {"branch_n_tokens": None if phase == "constant" else tokens[-2]}
        parts.append(pd.DataFrame(rows | {"ratio": RATIO, "learning_rate": RATE}))
    return load_runs(pd.concat(parts, ignore_index=True))


def watch(fit: Fit, runs: pd.DataFrame, target: dcpt.Target = TARGET) -> Watched:
    return watch_run(fit, target, runs, ratio=RATIO, learning_rate=RATE)


def test_the_forecast_is_the_curve_shifted_by_what_was_seen(verse_fit: Fit) -> None:
    end = predicted(verse_fit, [N_TOKENS], "annealed").iloc[0]
    found = watch(verse_fit, large_run(verse_fit, 0.6, general=-0.01, domain=0.02))
    for channel in found.channels:
        offset = {"general": -0.01, "domain": 0.02}[channel.channel]
        assert channel.predicted.value == pytest.approx(end[channel.channel], abs=1e-6)
        assert channel.forecast.value == pytest.approx(end[channel.channel] + offset, abs=1e-4)
        assert channel.left_at is None
        assert channel.forecast.low == pytest.approx(channel.predicted.low + offset, abs=1e-4)
        assert channel.forecast.high == pytest.approx(channel.predicted.high + offset, abs=1e-4)
    general = found.channels[0]
    assert general.channel == "general"
    assert general.allowed == pytest.approx(2.775 * 1.03)
    assert not found.breaking
    assert "on track, every channel inside its 90 % band" in found.words[0]


def test_losses_at_constant_rate_do_not_shift_the_end_after_the_decay(verse_fit: Fit) -> None:
    runs = large_run(verse_fit, 0.6, general=0.2)
    found = watch(verse_fit, runs[runs["phase"] == "constant"])
    general = found.channels[0]
    assert general.forecast == general.predicted
    assert general.left_at is not None
    assert not general.breaks_limit
    assert "A short decay from a checkpoint" in found.words[-1]
    assert watch(verse_fit, runs).channels[0].breaks_limit


def test_an_early_decay_does_not_shift_the_end(verse_fit: Fit) -> None:
    early = watch(verse_fit, large_run(verse_fit, 0.3, general=0.05)).channels[0]
    assert early.forecast == early.predicted


def test_a_channel_that_leaves_its_band_is_said(verse_fit: Fit) -> None:
    runs = large_run(verse_fit, 0.6, domain=1.0)
    (channel,) = (c for c in watch(verse_fit, runs).channels if c.channel == "domain")
    first = float(runs.loc[runs["n_tokens"] >= 0.05 * N_TOKENS, "n_tokens"].iloc[0])
    assert channel.left_at == first
    assert not channel.breaks_limit
    runs.loc[runs.index[:-2], "loss_domain"] -= 1.0  # two points outside are no departure yet
    (channel,) = (c for c in watch(verse_fit, runs).channels if c.channel == "domain")
    assert channel.left_at is None


def test_a_break_of_the_limit_is_forecast_with_an_earlier_end(verse_fit: Fit) -> None:
    runs = large_run(verse_fit, 0.6, general=0.05)
    ends = predicted(verse_fit, [0.6 * N_TOKENS, N_TOKENS], "annealed")["general"] + 0.05
    between = replace(TARGET, limit=f"+{ends.mean() - 2.775:.4f}")
    found = watch(verse_fit, runs, between)
    assert [channel.channel for channel in found.breaking] == ["general"]
    assert found.earlier_end is not None
    assert 0.6 * N_TOKENS < found.earlier_end < N_TOKENS
    there = predicted(verse_fit, [found.earlier_end], "annealed")["general"].iloc[0] + 0.05
    assert there == pytest.approx(ends.mean(), abs=0.003)
    assert "An end at" in found.words[-1]
    never = watch(verse_fit, runs, replace(TARGET, limit=f"+{ends.min() - 2.775 - 0.01:.4f}"))
    assert never.earlier_end is None
    assert "Even an end now" in never.words[-1]


def test_logs_that_cannot_be_judged(verse_fit: Fit) -> None:
    runs = large_run(verse_fit, 0.5)
    early = runs[:1].assign(n_tokens=1_000_000)
    for wrong, words in (
        (runs[:0], "the log holds no point yet"),
        (early, r"no point beyond 2.2M tokens, .* last one is at 1M\): watch it later"),
        (runs.assign(n_tokens=runs["n_tokens"] * 3), "has 66M tokens, and the prediction is for"),
        (runs.assign(n_params=7_000_000), "has 7M parameters, and the prediction is for 29.1M"),
        (runs.drop(columns="loss_general"), "has no loss of general, which the limit is on"),
        (pd.concat([runs, runs.assign(run="other")]), r"holds 2 runs \(large, other\)"),
    ):
        with pytest.raises(InputError, match=words):
            watch(verse_fit, wrong)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def fit_folder(verse_fit: Fit, tmp_path: Path) -> Path:
    folder = tmp_path / "fit"
    folder.mkdir()
    write_fit(verse_fit, folder)
    write_recommendation(dcpt.recommend(verse_fit, TARGET), folder)
    return folder


def test_the_command_ends_with_3_where_a_limit_will_break(
    verse_fit: Fit, fit_folder: Path, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    large_run(verse_fit, 0.5).to_csv(good, index=False)
    large_run(verse_fit, 0.5, general=0.2).to_csv(bad, index=False)
    page = tmp_path / "page" / "watch.html"
    kept = call("watch", fit_folder, "--log", good, "--page", page)
    assert kept.exit_code == 0, kept.output
    assert "on track" in page.read_text(encoding="utf-8").lower()
    assert call("watch", fit_folder, "--log", bad, "--page", page, "--json").exit_code == 3
    assert "will be broken" in page.read_text(encoding="utf-8")
    own = tmp_path / "own.html"
    own.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError):
        CliRunner().invoke(
            app,
            ["watch", str(fit_folder), "--log", str(good), "--page", str(own)],
            catch_exceptions=False,
        )
    assert own.read_text(encoding="utf-8") == "mine"


def test_what_the_log_lacks_is_taken_from_the_recommendation_and_said(
    verse_fit: Fit, fit_folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    names = ["ratio", "learning_rate", "phase", "n_params", "branch_n_tokens"]
    large_run(verse_fit, 0.5)[:-1].drop(columns=names).to_csv(log, index=False)
    result = call("watch", fit_folder, "--log", log)
    assert result.exit_code in (0, 3), result.output
    assert "the log names no ratio; the recommended one," in result.stderr
    state = tmp_path / "trainer_state.json"
    state.write_text("{}", encoding="utf-8")
    refused = call("watch", fit_folder, "--log", state)
    assert isinstance(refused.exception, InputError)
    assert "--mapping" in str(refused.exception)
