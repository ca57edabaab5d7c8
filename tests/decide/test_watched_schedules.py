"""A large run at the edges of its schedule: warmup, final decay, resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import dcpt
from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.decide import write_recommendation
from dcpt.decide.large_run import watch_run
from dcpt.decide.watched import Watched
from dcpt.errors import InputError
from dcpt.laws import Fit, write_fit
from dcpt.laws.points.questions import DECAY
from dcpt.table import load_runs
from dcpt.table.files import load_log

N_TOKENS, RATIO, RATE = 44_000_000, 0.5, 6e-4
TARGET = dcpt.Target(
    n_params=29_106_688,
    n_tokens=N_TOKENS,
    limit="+3%",
    base_losses={"general": 2.775},
    base_peak_learning_rate=1e-3,
)
PARTS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.94, 0.96, 0.98)
IN_DECAY = sum(part > 1.02 / (1 + DECAY) for part in PARTS)
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def verse_fit() -> Fit:
    laws = ["saturating-general", "plateau-domain"]
    return dcpt.fit(bundled_runs("zh_annealed"), law=laws, n_draws=20)


def log_of(fit: Fit, parts: tuple[float, ...] = PARTS, phase: str = "constant") -> pd.DataFrame:
    """A log that says no phase, with the losses that were predicted at a phase."""
    tokens = [float(round(part * N_TOKENS)) for part in parts]
    asked = {"n_params": TARGET.n_params, "base_peak_learning_rate": 1e-3, "phase": phase}
    asked |= {"base_loss_general": 2.775, "ratio": RATIO, "learning_rate": RATE}
    found = fit.predict(n_tokens=tokens, **asked)
    losses = found.pivot_table(index="n_tokens", columns="channel", values="loss")
    rows = {f"loss_{name}": losses[name].to_numpy() for name in losses}
    return load_runs(pd.DataFrame({"run": "large", "n_tokens": tokens, **rows}))


def watch(fit: Fit, log: pd.DataFrame, target: dcpt.Target = TARGET) -> Watched:
    return watch_run(fit, target, log, ratio=RATIO, learning_rate=RATE)


def test_points_of_the_warmup_are_not_judged(verse_fit: Fit) -> None:
    log = log_of(verse_fit)
    log.loc[:1, "loss_general"] += 2.0
    slow = replace(TARGET, warmup_tokens=0.4 * N_TOKENS)
    for watched in (
        watch(verse_fit, log, slow),
        watch(verse_fit, log.assign(warmup_tokens=0.4 * N_TOKENS)),
    ):
        judged = [point.n_tokens for point in watched.channels[0].points]
        assert judged == pytest.approx([0.5 * N_TOKENS, 0.7 * N_TOKENS, 0.9 * N_TOKENS])
    with pytest.raises(InputError, match=r"no point beyond 17.6M tokens, .* at 13.2M\)"):
        watch(verse_fit, log[:2], slow)


def test_points_of_a_decay_that_has_begun_are_not_judged(verse_fit: Fit) -> None:
    log = log_of(verse_fit)
    steady = watch(verse_fit, log[:5])
    assert steady.n_in_decay == 0
    log.loc[log.index[-IN_DECAY:], ["loss_general", "loss_domain"]] -= 0.5
    watched = watch(verse_fit, log)
    assert watched.n_in_decay == IN_DECAY == 3
    assert watched.n_tokens == round(0.98 * N_TOKENS)
    for channel, before in zip(watched.channels, steady.channels, strict=True):
        assert channel.left_at is None
        assert channel.points == before.points
        assert channel.forecast == before.forecast
    assert "The final decay has begun." in " ".join(watched.words)
    with pytest.raises(InputError, match="points within its final decay alone"):
        watch(verse_fit, log[-2:])


def test_a_limit_that_breaks_in_the_decay_is_not_kept_by_an_earlier_decay(verse_fit: Fit) -> None:
    log = log_of(verse_fit)
    tight = replace(TARGET, limit="-2%")
    assert watch(verse_fit, log[:3], tight).earlier_end is None
    late = watch(verse_fit, log, tight)
    assert late.breaking
    assert late.earlier_end is None
    assert "Go back to a checkpoint before it" in late.words[-1]


def test_the_end_of_a_log_without_phases_is_annealed(verse_fit: Fit) -> None:
    end = log_of(verse_fit, (1.0,), "annealed").assign(n_tokens=N_TOKENS - 100_000)
    end["loss_general"] += 0.01
    log = pd.concat([log_of(verse_fit), end], ignore_index=True)
    watched = watch(verse_fit, log)
    general = watched.channels[0]
    assert general.is_shifted
    assert general.forecast.value == pytest.approx(general.predicted.value + 0.01, abs=1e-3)
    assert general.points[-1].side == 0


def test_phases_of_the_log_count(verse_fit: Fit) -> None:
    log = log_of(verse_fit).assign(phase="constant")
    assert watch(verse_fit, log).n_in_decay == 0


def test_rows_before_a_resume_are_left_out(verse_fit: Fit, tmp_path: Path) -> None:
    """The run went wrong from half of its tokens on, and was resumed from there."""
    log = log_of(verse_fit)[:4]
    wrong = log[1:].assign(loss_general=4.0)
    file, folder = tmp_path / "log.csv", tmp_path / "fit"
    folder.mkdir()
    write_fit(verse_fit, folder)
    write_recommendation(dcpt.recommend(verse_fit, TARGET), folder)
    pd.concat([log[:1], wrong, log[1:]]).to_csv(file, index=False)
    result = CliRunner().invoke(app, ["watch", str(folder), "--log", str(file)])
    assert result.exit_code == 0, result.output
    assert "3 earlier rows are left out" in result.stderr
    assert "on track, every channel inside" in result.stdout
    rows, n_replaced = load_log(file)
    assert n_replaced == 3
    pd.testing.assert_frame_equal(rows, load_runs(log))


def test_the_end_of_an_early_decay_replaces_no_row(tmp_path: Path) -> None:
    rows = {"run": "a", "loss_general": 3.0, "n_tokens": [10_000, 20_000, 15_000, 30_000]}
    phases = ["constant", "constant", "annealed", "constant"]
    file = tmp_path / "log.csv"
    pd.DataFrame({**rows, "phase": phases}).to_csv(file, index=False)
    assert load_log(file)[1] == 0
    pd.DataFrame({**rows, "n_tokens": [10_000, 20_000, 25_000, 15_000]}).to_csv(file, index=False)
    found, n_replaced = load_log(file)
    assert n_replaced == 2
    assert found["n_tokens"].tolist() == [10_000, 15_000]
