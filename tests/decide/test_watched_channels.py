"""The channels of a large run: texts that are only measured, and totals of several channels."""

from __future__ import annotations

import pandas as pd
import pytest

import dcpt
from dcpt.bundled import bundled_runs
from dcpt.decide.large_run import watch_run
from dcpt.decide.watched import Watched
from dcpt.errors import InputError
from dcpt.laws import Fit
from dcpt.table import load_runs

N_TOKENS, RATIO, RATE = 44_000_000, 0.5, 6e-4
BASES = {"general": 2.775, "tasks": 2.775 / 2}
LAWS = ["saturating-general", "plateau-domain"]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Runs with a text that no run is trained on; its loss is half of the general one."""
    runs = bundled_runs("zh_annealed")
    runs = runs.assign(loss_tasks=runs["loss_general"] / 2, weight_tasks=0.0, weight_general=1.0)
    return dcpt.fit(load_runs(runs), law=LAWS, n_draws=20)


def target(**limits: str) -> dcpt.Target:
    known = {"base_losses": BASES, "base_peak_learning_rate": 1e-3}
    return dcpt.Target(29_106_688, N_TOKENS, "+3%", channel_limits=limits, **known)


def log_of(fit: Fit, bases: dict[str, float], **offsets: float) -> pd.DataFrame:
    """Losses at constant rate up to 0.6 of the run and after a short decay, as predicted."""
    parts = []
    for phase, tokens in (("constant", (0.2, 0.4, 0.6)), ("annealed", (0.61,))):
        asked = {"n_params": 29_106_688, "base_peak_learning_rate": 1e-3, "phase": phase}
        asked |= {f"base_loss_{name}": loss for name, loss in bases.items()}
        asked |= {"ratio": RATIO, "learning_rate": RATE}
        found = fit.predict(n_tokens=[part * N_TOKENS for part in tokens], **asked)
        losses = found.pivot_table(index="n_tokens", columns="channel", values="loss")
        rows = {f"loss_{name}": losses[name] + offsets.get(name, 0.0) for name in losses}
        parts.append(pd.DataFrame({"run": "large", "phase": phase, **rows}).reset_index())
    return load_runs(pd.concat(parts, ignore_index=True))


def watch(fit: Fit, asked: dcpt.Target, log: pd.DataFrame) -> Watched:
    return watch_run(fit, asked, log, ratio=RATIO, learning_rate=RATE)


def test_a_text_that_is_only_measured_may_break_its_limit(fit: Fit) -> None:
    log = log_of(fit, BASES, tasks=0.1)
    watched = watch(fit, target(tasks="+3%"), log)
    assert [channel.channel for channel in watched.channels] == ["general", "tasks", "domain"]
    assert [channel.channel for channel in watched.breaking] == ["tasks"]
    tasks = watched.channels[1]
    assert tasks.allowed == pytest.approx(1.03 * BASES["tasks"])
    assert tasks.forecast.value == pytest.approx(tasks.predicted.value + 0.1, abs=0.001)
    assert "(tasks)" in watched.words[0]
    assert not watch(fit, target(tasks="+3%"), log_of(fit, BASES)).breaking


def test_without_a_limit_it_is_compared_with_its_band(fit: Fit) -> None:
    watched = watch(fit, target(), log_of(fit, BASES, tasks=0.3))
    tasks = watched.channels[-1]
    assert (tasks.channel, tasks.allowed, tasks.probability) == ("tasks", None, None)
    assert tasks.left_at == pytest.approx(0.2 * N_TOKENS)
    assert not watched.breaking


def test_a_channel_that_the_log_lacks_is_said(fit: Fit) -> None:
    log = log_of(fit, BASES).drop(columns="loss_tasks")
    watched = watch(fit, target(), log)
    assert watched.unseen == ("tasks",)
    assert "The log has no loss of tasks: not watched." in watched.words
    with pytest.raises(InputError, match="no loss of tasks, which the limit is on"):
        watch(fit, target(tasks="+3%"), log)


def test_the_total_of_several_channels_is_that_of_the_runs() -> None:
    """The log has the losses of the channels alone, and the limit is on their weighted total."""
    runs = bundled_runs("zh_annealed").rename(columns={"loss_general": "loss_web"})
    runs = runs.drop(columns=[name for name in runs if name.endswith("_general")])
    runs = runs.assign(loss_code=runs["loss_web"] / 2, weight_web=3.0, weight_code=1.0)
    fit = dcpt.fit(load_runs(runs), law=LAWS, n_draws=20)
    bases = {"web": 2.775, "code": 2.775 / 2}
    known = {"base_losses": bases, "base_peak_learning_rate": 1e-3}
    asked = dcpt.Target(29_106_688, N_TOKENS, "+3%", **known)
    log = log_of(fit, bases, web=0.1).drop(columns="loss_general_total")
    watched = watch(fit, asked, log)
    total = next(channel for channel in watched.channels if channel.channel == "general_total")
    expected = (3 * log["loss_web"] + log["loss_code"]) / 4
    measured = [point.measured for point in total.points]
    assert measured == pytest.approx(expected.sort_values(key=lambda _: log["n_tokens"]).tolist())
    assert [channel.channel for channel in watched.breaking] == ["general_total"]
