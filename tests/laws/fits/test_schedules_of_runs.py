"""Runs whose schedules are known and that have no column phase: what the laws take of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dcpt.decide import Target, recommend
from dcpt.decide.large_run import watch_run
from dcpt.decide.next_runs import next_runs
from dcpt.decide.question import ask
from dcpt.errors import InputError
from dcpt.laws import Fit, fit, load_fit, write_fit
from dcpt.laws.points.channel_data import points_from_table
from dcpt.table.schedule_phases import phases_of
from dcpt.table.schedules import Schedule

BATCH = 1000
PEAK = 1e-3
HALF_A_FALL = 0.05
"""Nats: a prediction of the other phase is a whole fall of the rate away, 0.1."""


def schedule(shape: str, end: float, n_steps: int = 1000, flat_to: int = 50) -> Schedule:
    """A warmup over 50 steps, the peak up to ``flat_to``, and a fall to ``end``."""
    parts = [{"shape": "linear", "to_step": 50, "lr_from": 0, "lr_to": PEAK}]
    if flat_to > 50:
        parts.append({"shape": "constant", "to_step": flat_to, "lr_from": PEAK, "lr_to": PEAK})
    if flat_to < n_steps:
        parts.append({"shape": shape, "to_step": n_steps, "lr_from": PEAK, "lr_to": end})
    return Schedule.model_validate(parts)


SCHEDULES = {
    "cosine": schedule("cosine", 0.1 * PEAK),
    "wsd": schedule("linear", 0.0, flat_to=900),
    "flat": schedule("constant", PEAK, flat_to=1000),
}


def runs(names: tuple[str, ...]) -> pd.DataFrame:
    """Synthetic losses of three shares: a fall of the rate lowers both by 0.1 nats."""
    rows = []
    for name in names:
        rates = SCHEDULES[name].curve().rates
        for ratio in (0.2, 0.4, 0.6, 0.8):
            for step in (*range(150, 1000, 50), 1000):
                fallen = 0.1 * (1.0 - rates[step - 1] / PEAK)
                rows.append(
                    {
                        "run": f"{name}-{ratio}",
                        "schedule": name,
                        "n_params": 1e7,
                        "ratio": ratio,
                        "n_tokens": step * BATCH,
                        "batch_tokens": BATCH,
                        "learning_rate": PEAK,
                        "base_loss_general": 3.0,
                        "base_loss_domain": 4.0,
                        "loss_general": 3.0 + 0.2 * ratio**2 + 0.02 * step / 1000 - fallen,
                        "loss_domain": 4.0 - ratio**0.5 * (step / 1000) ** 0.3 - fallen,
                    }
                )
    return pd.DataFrame(rows)


def test_the_schedule_tells_the_phase() -> None:
    table = runs(("cosine", "wsd", "flat"))
    phases = phases_of(table, SCHEDULES)
    step = table["n_tokens"] / BATCH
    assert set(phases[table["schedule"] == "flat"]) == {"constant"}
    wsd = table["schedule"] == "wsd"
    assert (phases[wsd & (step <= 900)] == "constant").all()
    assert (phases[wsd & (step == 950)] == "falling").all()
    assert (phases[wsd & (step == 1000)] == "annealed").all()
    cosine = table["schedule"] == "cosine"
    assert (phases[cosine & (step < 950)] == "falling").all()
    assert (phases[cosine & (step == 1000)] == "annealed").all()
    with_phase = table.assign(phase="constant")
    assert set(phases_of(with_phase, SCHEDULES)) == {"constant"}  # the column counts
    assert set(phases_of(table, None)) == {"constant"}
    annealed = points_from_table(table, "domain", SCHEDULES).points.get("annealed")
    assert np.isnan(annealed).sum() == (phases == "falling").sum()


def fitted(*names: str) -> Fit:
    return fit(runs(names), n_draws=20, schedules={name: SCHEDULES[name] for name in names})


TARGET = Target(1e7, 1_000_000, "+5%", {"general": 3.0, "domain": 4.0})


@pytest.mark.long
def test_runs_that_all_decay_are_answered_for_a_decay(tmp_path: Path) -> None:
    found = fitted("wsd")
    assert found.phase_for_decisions == "annealed"
    (flag,) = (flag for flag in found.flags if flag.kind == "phase_by_schedule")
    assert flag.values == {"annealed": "4", "falling": "4"}
    write_fit(found, tmp_path)
    answer = recommend(load_fit(tmp_path), TARGET)
    assert answer.phase == "annealed"
    assert "constant_rate_losses" not in {flag.kind for flag in answer.flags}
    assert {"wsd"} == {f.values["schedule"] for f in answer.flags if f.kind == "schedule_of_runs"}
    assert answer.best is not None
    truth = 4.0 - answer.best.ratio**0.5 - 0.1
    assert answer.best.losses["domain"].value == pytest.approx(truth, abs=HALF_A_FALL)


@pytest.mark.long
def test_a_target_may_follow_another_schedule_of_the_runs() -> None:
    found = fitted("wsd", "flat")
    held = recommend(found, Target(**{**vars(TARGET), "schedule": "flat"}))
    assert held.phase == "constant"
    assert held.best is not None
    truth = 4.0 - held.best.ratio**0.5
    assert held.best.losses["domain"].value == pytest.approx(truth, abs=HALF_A_FALL)
    with pytest.raises(InputError, match=r"'steep' is not among those of the fitted runs \(wsd, "):
        recommend(found, Target(**{**vars(TARGET), "schedule": "steep"}))


@pytest.mark.long
def test_a_target_in_the_other_phase_is_answered_with_that_phase_s_rates_and_shares() -> None:
    """The decayed runs have a single rate and smaller shares than those at a constant rate."""
    schedules, tables = {"wsd": SCHEDULES["wsd"]}, [runs(("wsd",))]
    for factor in (0.5, 1.0, 2.0):
        name, flat = f"flat{factor:g}", runs(("flat",))
        parts = [
            {**part.model_dump(), "lr_from": factor * part.lr_from, "lr_to": factor * part.end}
            for part in SCHEDULES["flat"].root
        ]
        schedules[name] = Schedule.model_validate(parts)
        flat["ratio"] += 0.1
        flat["loss_domain"] = 4.0 - flat["ratio"] ** 0.5 * (flat["n_tokens"] / 1e6) ** 0.3 * factor
        own = {"schedule": name, "run": flat["run"] + name, "learning_rate": factor * PEAK}
        tables.append(flat.assign(**own))
    table = pd.concat(tables, ignore_index=True).assign(base_peak_learning_rate=2e-3)
    found = fit(table, n_draws=20, schedules=schedules)
    assert found.phase_for_decisions == "annealed"
    known = {**vars(TARGET), "base_peak_learning_rate": 2e-3, "schedule": "flat1"}
    question = ask(found, Target(**known))
    assert question.seen == pytest.approx([0.5 * PEAK, PEAK, 2 * PEAK])
    assert ask(found, Target(**{**known, "limit": None})).ratio[-1] == pytest.approx(0.9)


@pytest.mark.long
def test_laws_of_the_schedule_answer_at_a_stretched_one() -> None:
    """A target of twice the steps is at the end of its own decay, not in the runs' one."""
    table = runs(("wsd", "flat", "cosine"))
    found = fit(table, "after-2505.07796-replay", n_draws=20, schedules=SCHEDULES)
    target = Target(**{**vars(TARGET), "n_tokens": 2_000_000, "schedule": "wsd"})
    answer = recommend(found, target)
    assert answer.phase == "annealed"
    asked = pd.DataFrame({"ratio": [0.5], "n_tokens": [2e6], "learning_rate": [PEAK]})
    points = found.points("domain", asked.assign(n_params=1e7), shape=SCHEDULES["wsd"])
    assert points.get("lr_area")[0] == pytest.approx(PEAK * (1950 - 50 - 50), rel=0.01)


@pytest.mark.long
def test_watch_and_refine_follow_the_schedule_of_the_target() -> None:
    """No column says the warmup: without the schedule the laws know no area of the rate."""
    names = ("cosine", "flat")
    schedules = {name: SCHEDULES[name] for name in names}
    found = fit(runs(names), "after-2505.07796-replay", n_draws=20, schedules=schedules)
    target = Target(**{**vars(TARGET), "schedule": "cosine"})
    own = runs(("cosine",)).drop(columns="schedule").assign(phase="constant")
    own = own[(own["run"] == "cosine-0.4") & (own["n_tokens"] <= 700_000)]
    watched = watch_run(found, target, own, ratio=0.4, learning_rate=PEAK)
    question = ask(found, target)
    along = own.assign(schedule="cosine")
    for channel in watched.channels:
        end = question.central(channel.channel, np.array([0.4]), np.array([PEAK]))[0]
        assert channel.predicted.value == pytest.approx(end, abs=1e-9)
        points = found.points(channel.channel, along, schedules)
        predicted = [point.predicted.value for point in channel.points]
        assert predicted == pytest.approx(found.central(channel.channel, points), abs=1e-3)
    assert next_runs(found, target, "100%").runs


@pytest.mark.long
def test_a_table_whose_schedules_alone_tell_the_rate_is_answered() -> None:
    """The laws of the schedule have weight in the domain, and lr_area is that of the target."""
    table = runs(("wsd",)).drop(columns="learning_rate")
    found = fit(table, ["auto"], n_draws=20, schedules={"wsd": SCHEDULES["wsd"]})
    answer = recommend(found, TARGET)
    assert answer.best is not None
    assert answer.best.learning_rate == pytest.approx(PEAK)


def test_a_stretched_schedule_keeps_its_form() -> None:
    twice = SCHEDULES["cosine"].stretched(2000)
    assert (twice.n_steps, twice.peak) == (2000, 1.0)
    rates = SCHEDULES["cosine"].curve().rates / PEAK
    assert np.abs(twice.curve().rates[1::2] - rates).max() < 1e-9


def test_the_file_of_the_schedules_is_asked_for_and_no_column_that_is_there() -> None:
    with pytest.raises(InputError) as raised:
        fit(runs(("wsd",)), "lr-annealing")
    (general, _) = raised.value.problems
    assert "it needs --schedules FILE, which defines the names in the column schedule;" in general
    assert "learning_rate" not in general.partition(";")[0]
