"""Laws of the history of the learning rate: inputs, recovered values, predictions, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from dcpt.errors import InputError
from dcpt.laws import LAWS, fit
from dcpt.laws.bounds import references_of
from dcpt.laws.fits.table_laws import offer_laws
from dcpt.laws.law import References, evaluate
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.points.record import Points
from dcpt.laws.solver.search import fit_law
from dcpt.laws.suitable import data_for
from dcpt.table.rate_curves import Curve, history_at
from dcpt.table.schedules import Schedule

PEAK = 3e-4
BATCH = 1000


def schedule(*segments: tuple[str, int, float, float]) -> Schedule:
    names = ("shape", "to_step", "lr_from", "lr_to")
    return Schedule.model_validate([dict(zip(names, segment, strict=True)) for segment in segments])


WARMUP = ("linear", 200, 0.0, PEAK)
SCHEDULES = {
    "constant": schedule(WARMUP, ("constant", 6000, PEAK, PEAK)),
    "cosine": schedule(WARMUP, ("cosine", 6000, PEAK, 3e-5)),
    "step": schedule(WARMUP, ("constant", 2000, PEAK, PEAK), ("constant", 5000, 9e-5, 9e-5)),
    "decay": schedule(WARMUP, ("constant", 5000, PEAK, PEAK), ("geometric", 6000, PEAK, 3e-5)),
}
TRUTH = {
    "lr-annealing": [2.5, 0.4, 0.5, 1.2],
    "multi-power": [2.4, 0.4, 0.45, 0.15, 60.0, 0.6, 0.64],
    "after-2505.07796": [2.4, 0.3, 0.6, 0.5, 0.7, 0.4, 2.0, 1.5],
    "after-2505.07796-replay": [2.4, 0.3, 0.6, 0.5, 0.7, 0.4, 2.0, 1.5, 0.5, 2.0],
}


def curves(ratios: tuple[float, ...] = (0.5,)) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "run": f"{name} {ratio}",
                "schedule": name,
                "n_tokens": step * BATCH,
                "batch_tokens": BATCH,
                "n_params": 10**7,
                "ratio": ratio,
                "loss_general": 3.0,
            }
            for ratio in ratios
            for name, named_schedule in SCHEDULES.items()
            for step in range(300, named_schedule.n_steps + 1, 150)
        ]
    )


def synthetic_curves(name: str) -> pd.DataFrame:
    """Exact losses of a law at all points of the curves."""
    frame = curves((0.2, 0.5, 0.8) if "replay" in name else (0.5,))
    points = points_from_table(frame, "general", SCHEDULES).points
    losses = evaluate(LAWS[name], points, np.array(TRUTH[name]), references_of(points))
    return frame.assign(loss_general=losses)


@pytest.mark.parametrize("name", TRUTH)
def test_a_schedule_that_was_never_seen_is_predicted(name: str) -> None:
    data = points_from_table(synthetic_curves(name), "general", SCHEDULES)
    held_out = np.array(["decay" in data.run_names[run] for run in data.runs])
    found = fit_law(LAWS[name], data.take(~held_out))
    assert found.objective < 1e-9
    unseen = data.take(held_out)
    assert np.abs(found.predict(unseen.points) - unseen.losses).max() < 1e-3


@pytest.mark.parametrize("name", SCHEDULES)
def test_sampled_drops_give_the_loss_of_all_of_them(name: str) -> None:
    """Within 3e-5 nats, with the parameters published for 400M and 12 times as many steps."""
    original = SCHEDULES[name]
    stretched = Schedule.model_validate(
        [{**part.model_dump(), "to_step": 12 * part.to_step} for part in original.root]
    )
    curve = stretched.curve()
    steps = np.unique(np.geomspace(100, original.n_steps * 12, 40).astype(int))
    values = {"alpha": 0.42878731, "C": 2.02462735, "beta": 0.59350493, "gamma": 0.63472457}
    values |= {"E": 2.37474466, "A": 0.65421216, "B": 523.42464371}
    vector = np.array([values[name] for name in LAWS["multi-power"].names])
    units = References(n_params=None, n_tokens=1.0, learning_rate=1.0, lr_area=1.0)
    found = evaluate(LAWS["multi-power"], points_at(curve, steps), vector, units)

    rates = np.concatenate([[0.0], curve.rates])
    areas = np.cumsum(rates)
    for step, loss in zip(steps, found, strict=True):
        k = np.arange(1, step + 1)
        since = areas[step] - areas[k - 1]
        effect = 1 - (1 + values["C"] * rates[k] ** -values["gamma"] * since) ** -values["beta"]
        gain = ((rates[k - 1] - rates[k]) * effect).sum()
        expected = values["E"] + values["A"] * areas[step] ** -values["alpha"]
        assert loss == pytest.approx(expected - values["B"] * gain, abs=3e-5)


def points_at(curve: Curve, steps: np.ndarray) -> Points:
    history = history_at(curve, steps)
    return Points(learning_rate=np.full(len(steps), PEAK), **history.__dict__)


@pytest.mark.parametrize("gamma", [0.5, 1.2])
def test_a_drop_to_a_rate_of_0_has_its_full_effect_at_once(gamma: float) -> None:
    """lr^-gamma is infinite there, so the drop has its full effect after the first further step."""
    down_and_up = Curve(np.array([1e-3, 1e-3, 0.0, 1e-3]))
    points = points_at(down_and_up, np.array([2, 3, 4]))
    values = np.array([2.0, 0.0, 0.5, 1e3, 1.0, 0.6, gamma])
    units = References(n_params=None, n_tokens=1.0, learning_rate=1.0, lr_area=1.0)
    found = evaluate(LAWS["multi-power"], points, values, units)
    assert np.isfinite(found).all()

    def effect(area: float) -> float:
        return 1 - (1 + 1e-3**-gamma * area) ** -0.6

    assert found[1] == pytest.approx(
        2.0 + effect(2e-3), rel=1e-9
    )  # at the drop itself it has no effect yet
    assert found[2] == pytest.approx(2.0 + effect(3e-3) - 1.0 + effect(1e-3), rel=1e-9)


def table_without_schedules() -> pd.DataFrame:
    """A trunk and a branch at each of three rates, without named schedules."""
    rows: list[dict[str, Any]] = []
    for rate in (1e-4, 3e-4, 9e-4):
        trunk = {"run": f"{rate}", "learning_rate": rate, "phase": "constant"}
        rows += [{**trunk, "n_tokens": step * BATCH} for step in range(100, 1001, 100)]
        end = {"phase": "annealed", "n_tokens": 1100 * BATCH, "branch_n_tokens": 1000 * BATCH}
        rows.append({**trunk, **end})
    frame = pd.DataFrame(rows).assign(warmup_tokens=20 * BATCH, batch_tokens=BATCH, ratio=0.5)
    frame["loss_general"] = 3.0
    points = points_from_table(frame, "general").points
    losses = evaluate(LAWS["lr-annealing"], points, np.array([2.5, 0.3, 0.4, 0.8]), UNITS)
    return frame.assign(loss_general=losses)


UNITS = References(n_params=None, n_tokens=1.0, learning_rate=1e-4, lr_area=0.1)


def test_a_request_gets_the_history_of_the_runs() -> None:
    """The history comes from the columns of the runs; areas given by keyword are equivalent."""
    frame = table_without_schedules()
    found = fit(frame, "lr-annealing", n_draws=5)
    request = {"n_tokens": 1100 * BATCH, "learning_rate": 3e-4, "batch_tokens": BATCH}
    annealed = found.predict(**request, phase="annealed")
    ends = frame[frame["phase"] == "annealed"]
    assert annealed["loss"][0] == pytest.approx(ends["loss_general"].iloc[1], abs=1e-5)
    other = found.predict(**request, phase="annealed", branch_n_tokens=500 * BATCH)
    assert abs(other["loss"][0] - annealed["loss"][0]) > 1e-3
    points = points_from_table(frame, "general").points
    areas = {n: float(points.get(n)[21]) for n in ("lr_area", "anneal_area")}
    same = found.predict(n_tokens=1100 * BATCH, phase="annealed", **areas)
    assert same["loss"][0] == pytest.approx(annealed["loss"][0], abs=1e-12)


def test_a_request_without_a_batch_uses_that_of_the_runs_if_they_have_a_single_size() -> None:
    request = {"n_tokens": 1100 * BATCH, "learning_rate": 3e-4, "phase": "annealed"}
    found = fit(table_without_schedules(), "lr-annealing", n_draws=5)
    named = found.predict(**request, batch_tokens=BATCH)
    assert found.predict(**request)["loss"][0] == named["loss"][0]
    table = table_without_schedules()
    table.loc[table["run"] == "0.0001", "batch_tokens"] = 2 * BATCH
    several = fit(table, "lr-annealing", n_draws=5)
    with pytest.raises(InputError, match="lr-annealing needs lr_area"):
        several.predict(**request)


def test_a_request_may_name_another_schedule() -> None:
    frame = synthetic_curves("multi-power")
    known = frame[~frame["run"].str.startswith("decay")]
    found = fit(known, "multi-power", n_draws=5, schedules=SCHEDULES)
    request = frame[frame["schedule"] == "decay"].drop(columns="loss_general")
    answer = found.predict(request, schedules=SCHEDULES)
    truth = frame[frame["schedule"] == "decay"]["loss_general"]
    assert answer["loss"].to_numpy() == pytest.approx(truth.to_numpy(), abs=1e-3)


@pytest.mark.parametrize("name", ["lr-annealing", "multi-power"])
def test_a_table_without_a_history_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: it needs batch_tokens, which is missing"):
        fit(table_without_schedules().drop(columns="batch_tokens"), name, n_draws=5)
    with pytest.raises(InputError, match=f"{name}: it needs --schedules FILE, which"):
        fit(synthetic_curves(name), name, n_draws=5)  # its schedules are not given


def test_areas_are_scaled_by_their_geometric_median() -> None:
    points = points_from_table(table_without_schedules(), "general").points
    middle = np.exp(np.median(np.log(points.get("lr_area"))))
    assert references_of(points).lr_area == pytest.approx(middle)


def test_laws_without_n_and_ratio_need_a_single_value_of_each() -> None:
    frame = table_without_schedules()
    ratios = frame.assign(ratio=np.where(frame["run"] == "0.0001", 0.2, 0.5))
    sizes = frame.assign(n_params=np.where(frame["run"] == "0.0001", 10**6, 10**7))
    for name in ("lr-annealing", "multi-power", "after-2505.07796"):
        assert offer_laws(frame, "general")[name] is None
        assert "it describes a single ratio" in str(offer_laws(ratios, "general")[name])
        assert "it describes a single n_params" in str(offer_laws(sizes, "general")[name])
    replay = "after-2505.07796-replay"
    assert "it needs at least 3 ratios" in str(offer_laws(frame, "general")[replay])
    three = frame.assign(ratio=frame["run"].map({"0.0001": 0.2, "0.0003": 0.5, "0.0009": 0.8}))
    assert offer_laws(three, "general")[replay] is None


def test_rows_of_unknown_history_are_left_out_with_their_reason() -> None:
    frame = table_without_schedules()
    frame.loc[[3, 10], ["learning_rate", "branch_n_tokens"]] = np.nan
    data = data_for(LAWS["multi-power"], points_from_table(frame, "general"))
    assert len(data.losses) == len(frame) - 2
    assert [row for row, reason in data.left_out if "multi-power needs" in reason] == [5, 12]
