"""The fit of a table: truths, draws, intervals at a larger size, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ladder import SIZES, make_ladder
from scipy.optimize import least_squares

from dcpt.errors import InputError
from dcpt.laws import LAWS, Fit, fit, load_fit, write_fit
from dcpt.laws.fits.draws import draw_run_weights, refit
from dcpt.laws.fits.growth import growth_at
from dcpt.laws.flags.law_flags import flag_law
from dcpt.laws.law import evaluate
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.solver.minimise import evaluate_with_slopes, huber
from dcpt.laws.solver.search import fit_law
from dcpt.laws.suitable import data_for

TRUTHS = {
    "joint-general": [0.03, 0.2, 0.5, 0.4, 0.05, 0.8, 0.2, 0.7],
    "anchored-general-lr": [0.05, 0.05, 0.1, 0.4, 0.7, 0.05, 0.3, 0.05],
    "annealed-general": [0.03, 0.2, 0.5, 0.05, 0.8, 0.2],
    "annealed-general-l0": [0.03, 0.06, 0.5, 0.05, 0.8, 0.2],
    "anchored-domain-lr": [0.3, 0.8, 0.6, 0.3, 0.3, 0.05, 0.04],
    "annealed-domain": [0.3, 0.8, 0.6, 0.3, 0.3, 0.05, 0.04, 0.05, 0.5],
    "annealed-domain-lam": [0.3, 0.8, 0.6, 0.3, 0.3, 0.1],
}


@pytest.mark.parametrize("name", TRUTHS)
def test_planted_truths_come_back(ladder: pd.DataFrame, name: str) -> None:
    law = LAWS[name]
    channel = "general" if law.side == "general" else "domain"
    data = data_for(law, points_from_table(ladder, channel))
    first = fit_law(law, data, n_starts=8)
    truth = np.array(TRUTHS[name])
    synthetic = type(first)(**{**first.__dict__, "values": truth}).predict(data.points)
    data = type(data)(**{**data.__dict__, "losses": synthetic})
    found = fit_law(law, data)
    assert np.abs(found.predict(data.points) - synthetic).max() < 1e-4


@pytest.mark.parametrize("name", ["joint-general", "annealed-domain", "anchored-general-lr"])
def test_never_worse_than_a_scipy_reference(ladder: pd.DataFrame, name: str) -> None:
    law = LAWS[name]
    channel = "general" if law.side == "general" else "domain"
    found = fit_law(law, points_from_table(ladder, channel))
    problem = found.problem
    low, high = problem.to_theta(problem.lower), problem.to_theta(problem.upper)
    rng = np.random.default_rng(7)

    def residuals(theta: np.ndarray) -> np.ndarray:
        loss = evaluate_with_slopes(problem, theta[None])[0][0]
        return np.log(np.maximum(loss, 1e-3)) - np.log(problem.losses)

    scores = []
    for _ in range(6):
        start = problem.to_theta(found.values) + rng.normal(0, 0.3, len(low))
        start = np.clip(start, low + 1e-9, high - 1e-9)
        reference = least_squares(
            residuals, start, bounds=(low, high), loss="huber", f_scale=1e-3, max_nfev=300
        )
        scores.append(huber(residuals(reference.x), 1e-3).sum())
    assert found.objective <= min(scores) * (1 + 1e-5)


def question(size: float, phase: str = "annealed", tokens: float = 225e3) -> pd.DataFrame:
    base, peak = SIZES[size]
    grid = [(r, x * peak) for r in (0.1, 0.25, 0.5, 0.75, 0.9) for x in (0.1, 0.3, 1.0)]
    return pd.DataFrame(
        {
            "n_params": size,
            "n_tokens": tokens,
            "ratio": [r for r, _ in grid],
            "learning_rate": [x for _, x in grid],
            "phase": phase,
            "base_loss_general": base,
            "base_loss_domain": 6.0,
            "base_peak_learning_rate": peak,
            "base_n_tokens": 2e6,
        }
    )


@pytest.mark.long
def test_a_larger_base_is_predicted_with_honest_intervals() -> None:
    target = max(SIZES)
    inside, errors, widths = [], [], []
    for seed in range(3):
        table = make_ladder(sizes=tuple(SIZES), seed=seed)
        fitted = fit(table.query("n_params < 1e6"), seed=seed, n_draws=50)
        truth = table.query("n_params > 1e6 and phase == 'annealed'")
        predicted = fitted.predict(question(target))
        for channel in ("general", "domain"):
            part = predicted[predicted["channel"] == channel].reset_index()
            measured = truth[f"loss_{channel}"].to_numpy()
            inside += list((part["low"] <= measured) & (measured <= part["high"]))
            errors += list(part["loss"] - measured)
            widths += list(part["high"] - part["low"])
    assert np.sqrt(np.mean(np.square(errors))) < 0.06
    # Intervals say 90 %; far wider ones would hold everything and decide nothing.
    assert np.mean(inside) >= 0.75
    assert np.mean(widths) < 0.35


def test_errors_of_the_law_grow_outside_of_what_was_seen(ladder_fit: Fit) -> None:
    inside = ladder_fit.predict(question(132e3).iloc[[4]])
    larger = ladder_fit.predict(question(1105e3).iloc[[4]])
    width = (inside["high"] - inside["low"]).to_numpy()
    assert ((larger["high"] - larger["low"]).to_numpy() > width).all()


def test_one_size_holds_at_that_size_only(ladder: pd.DataFrame) -> None:
    found = fit(ladder.query("n_params < 1e5"), n_draws=50)
    assert "one_size" in {flag.kind for flag in found.flags}
    record = next(r for r in found.records() if r["law"] == "anchored-domain-lr")
    assert record["parameters"]["w"] == 0
    assert record["parameters"]["nu"] == 0
    assert np.isfinite(found.predict(question(56e3))["loss"]).all()
    with pytest.raises(InputError, match="fitted at one n_params"):
        found.predict(question(1105e3))
    general = fit(ladder.query("n_params < 1e5"), "joint-general", n_draws=50)
    assert np.isfinite(general.predict(question(1105e3))["loss"]).all()


@pytest.mark.long
def test_same_seed_same_numbers(ladder: pd.DataFrame, ladder_fit: Fit) -> None:
    again = fit(ladder, n_draws=50)
    assert again.predict(question(1105e3)).equals(ladder_fit.predict(question(1105e3)))
    other = fit(ladder, seed=1, n_draws=50)
    assert not other.predict(question(1105e3)).equals(ladder_fit.predict(question(1105e3)))


def test_draws_are_the_same_runs_in_every_channel(ladder: pd.DataFrame) -> None:
    # A second general channel with the first one's losses must meet the same runs in every draw.
    fitted = fit(ladder.assign(loss_en=ladder["loss_general"]), "annealed-general", n_draws=20)
    draws = [fitted.by_channel[c].members["annealed-general"].draws for c in ("general", "en")]
    assert np.array_equal(*draws)
    assert np.ptp(draws[0], axis=0).max() > 0


def test_an_answer_does_not_depend_on_the_points_beside_it(ladder_fit: Fit) -> None:
    # At 225k tokens the annealed laws hold, at 400k only those of both phases do.
    near, far = question(132e3).iloc[[7]], question(132e3, tokens=400e3).iloc[[7]]
    both = ladder_fit.predict(pd.concat([near, far], ignore_index=True))
    for number, frame in enumerate((near, far)):
        alone = ladder_fit.predict(frame)
        there = both[both["n_tokens"] == frame["n_tokens"].iloc[0]]
        assert len(there) == 2
        assert np.array_equal(alone[["loss", "low"]], there[["loss", "low"]]), number


def test_weights_at_a_point_are_those_of_the_laws_asked(ladder_fit: Fit) -> None:
    points = ladder_fit.points("general", question(132e3, tokens=400e3).iloc[[7]])
    weights = ladder_fit.weights_at("general", points)
    asked = {law for law, weight in weights.items() if weight > 0} - {"two-level"}
    assert asked
    assert asked <= {"joint-general", "saturating-general", "sized-general"}
    near = ladder_fit.points("general", question(132e3).iloc[[7]])
    weights = ladder_fit.weights_at("general", near)
    assert sum(weights.values()) == pytest.approx(1.0)
    of_laws = 1 - weights.pop("two-level")
    alone = {law: weight / of_laws for law, weight in weights.items()}
    assert alone == pytest.approx(ladder_fit.weights("general"))


def test_phases_and_numbers_are_checked(ladder_fit: Fit) -> None:
    with pytest.raises(InputError, match="phase 'anealed' cannot be predicted: write constant"):
        ladder_fit.predict(question(132e3, "anealed"))
    with pytest.raises(InputError, match="predict needs numbers in n_params"):
        ladder_fit.predict(n_params="7B")
    unnamed = ladder_fit.predict(question(132e3).drop(columns="phase"))
    assert unnamed["loss"].equals(ladder_fit.predict(question(132e3))["loss"])


def test_one_learning_rate_is_not_answered_at_another(ladder: pd.DataFrame) -> None:
    rule = ladder.assign(learning_rate=1e-3)
    found = fit(rule, "joint-general", ["general"], n_draws=5)
    asked = question(132e3).assign(learning_rate=1e-3)
    assert np.isfinite(found.predict(asked)["loss"]).all()
    with pytest.raises(InputError, match="fitted at one learning_rate"):
        found.predict(asked.assign(learning_rate=3e-3))


def test_files_of_two_fits_are_not_read_as_one(ladder: pd.DataFrame, tmp_path: Path) -> None:
    first, other = (fit(ladder, "annealed-general", n_draws=5, seed=seed) for seed in (0, 1))
    write_fit(first, tmp_path / "one")
    write_fit(other, tmp_path / "other")
    (tmp_path / "other" / "draws.npz").replace(tmp_path / "one" / "draws.npz")
    with pytest.raises(InputError, match="belong to different fits"):
        load_fit(tmp_path / "one")
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["draws.npz", "fit.json"]


def test_round_trip_without_pickle(ladder_fit: Fit, tmp_path: Path) -> None:
    path = write_fit(ladder_fit, tmp_path / "fit")
    back = load_fit(path.parent)
    assert back.predict(question(1105e3)).equals(ladder_fit.predict(question(1105e3)))
    assert back.flags == ladder_fit.flags
    assert back.records() == ladder_fit.records()
    assert back.residuals().equals(ladder_fit.residuals())
    arrays = np.load(path.parent / "draws.npz", allow_pickle=False)
    assert all(arrays[name].dtype == np.float64 for name in arrays.files)


def test_fit_json_recomputes_a_prediction_by_hand(ladder: pd.DataFrame, tmp_path: Path) -> None:
    fitted = fit(ladder, "annealed-general", n_draws=20)
    record = json.loads(write_fit(fitted, tmp_path).read_text())["channels"]["general"]
    law = record["laws"]["annealed-general"]
    p = {parameter["name"]: parameter["value"] for parameter in law["parameters"]}
    row = question(1105e3).iloc[7]
    lam = row["learning_rate"] / law["references"]["learning_rate"]
    s = 1 - row["ratio"]
    by_hand = row["base_loss_general"] - p["F"] * s
    by_hand += p["H"] * row["learning_rate"] / row["base_peak_learning_rate"]
    by_hand += p["C"] * np.log(1 + p["k"] * lam) * row["ratio"] / (s + p["eps"]) ** p["g"]
    found = fitted.predict(question(1105e3).iloc[[7]])["loss"].iloc[0]
    assert found == pytest.approx(by_hand, rel=1e-12)


def test_a_damaged_or_missing_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fit\.json does not exist"):
        load_fit(tmp_path)
    (tmp_path / "fit.json").write_text("{")
    with pytest.raises(InputError, match=r"fit\.json: the file is damaged .*`dcpt fit`"):
        load_fit(tmp_path)


@pytest.mark.parametrize("name", ["fit.json", "draws.npz"])
@pytest.mark.parametrize("way", ["emptied", "halved", "changed", "a list", "a folder"])
def test_a_torn_file_of_a_fit_is_named_and_written_again(
    ladder_fit: Fit, tmp_path: Path, name: str, way: str
) -> None:
    write_fit(ladder_fit, tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    middle = len(content) // 2
    torn = {
        "emptied": b"",
        "halved": content[:middle],
        "changed": content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
        "a list": b"[]",
    }
    if way == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(torn[way])
    with pytest.raises(InputError, match=rf"{name}: the file is damaged .*`dcpt fit`"):
        load_fit(tmp_path)
    write_fit(ladder_fit, tmp_path)
    assert load_fit(tmp_path).records() == ladder_fit.records()


def test_fixed_and_bounded_parameters_stay(ladder: pd.DataFrame) -> None:
    held = fit(ladder, "joint-general", fixed={"kappa": 0.5}, bounds={"g": (0.3, 0.6)}, n_draws=5)
    parameters = held.records()[0]["parameters"]
    assert parameters["kappa"] == 0.5
    assert 0.3 <= parameters["g"] <= 0.6


def test_flags_name_their_subject_and_values(ladder: pd.DataFrame, ladder_fit: Fit) -> None:
    rule = ladder.assign(learning_rate=ladder["base_peak_learning_rate"] * 0.3)
    flags = fit(rule, "joint-general", n_draws=5).flags
    (flag,) = (flag for flag in flags if flag.kind == "confounded")
    assert flag.values == {"axes": ["n_params", "learning_rate"]}
    assert flag.sentence.startswith("n_params and learning_rate changed together")
    for flag in (*flags, *ladder_fit.flags):
        assert "{" not in flag.sentence


def test_questions_outside_a_laws_range_are_refused(ladder_fit: Fit) -> None:
    with pytest.raises(InputError, match=r"0 < ratio <= 1"):
        ladder_fit.predict(question(1105e3).assign(ratio=0.0))
    with pytest.raises(InputError, match="predict does not know n_parms"):
        ladder_fit.predict(n_parms=1e6)
    with pytest.raises(InputError, match="needs base_loss"):
        ladder_fit.predict(question(1105e3).drop(columns="base_loss_general"))


def test_constant_points_can_be_asked_where_decisions_are_annealed(ladder_fit: Fit) -> None:
    assert ladder_fit.phase_for_decisions == "annealed"
    frame = pd.concat([question(132e3), question(132e3, "constant", 205e3)], ignore_index=True)
    predicted = ladder_fit.predict(frame)
    assert len(predicted) == 2 * len(frame)
    assert np.isfinite(predicted[["loss", "low", "high"]]).all(axis=None)


def test_a_question_outside_the_runs_is_flagged(ladder_fit: Fit) -> None:
    asked = ladder_fit.points("general", question(1105e3, tokens=1e6).iloc[[7]])
    found = ladder_fit.flags_at("general", asked)
    axes = {flag.subject["axis"] for flag in found if flag.kind == "extrapolates"}
    assert axes == {"n_params", "n_tokens"}
    inside = ladder_fit.points("general", question(132e3).iloc[[7]])
    assert ladder_fit.flags_at("general", inside) == ()


def test_each_draw_is_the_best_fit_under_its_own_runs(ladder: pd.DataFrame) -> None:
    data = points_from_table(ladder, "general")
    fitted = fit_law(LAWS["annealed-general"], data)
    weights = draw_run_weights(20, len(data.run_names), seed=3)
    draws = refit(fitted, weights)
    problem, better = fitted.problem, 0
    for row, values in zip(weights[:, fitted.data.runs], draws, strict=True):
        scores = [
            (
                row
                * huber(
                    np.log(evaluate(problem.law, problem.points, v, problem.references))
                    - np.log(problem.losses),
                    problem.delta,
                )
            ).sum()
            for v in (values, fitted.values)
        ]
        assert scores[0] <= scores[1] * (1 + 1e-9)
        better += scores[0] < 0.999 * scores[1]
    assert better > 15


def test_draws_carry_the_laws_own_error(ladder_fit: Fit) -> None:
    """As far beyond the largest size as that lay beyond the others: its held-out error at least."""
    channel = replace(ladder_fit.by_channel["general"], two_level=None)
    points = ladder_fit.points("general", question(1105e3))
    losses = channel.central(points)
    grown = growth_at(points, losses, channel.seen.rises["annealed"])
    error = channel.comparisons["annealed"].unit_errors["largest_n"] * grown
    assert (channel.sample(points).std(axis=0) > 0.95 * error).all()


def test_parameters_that_trade_are_flagged(ladder: pd.DataFrame) -> None:
    # Bases whose losses differ by next to nothing: the floor and its weight cannot be separated.
    alike = ladder.query("phase != 'annealed' and n_tokens > 0").copy()
    alike["base_loss_general"] = 3.4 + 1e-6 * (alike["n_params"] > 1e5)
    data = points_from_table(alike, "domain")
    law = LAWS["anchored-domain-lr"]
    free = fit_law(law, data, bounds={"E": (-9.0, 9.0), "w": (-5.0, 5.0)})
    assert "ill_conditioned" in {flag.kind for flag in flag_law(free)}
    held = fit_law(law, data, fixed={"w": 0.5})
    assert "ill_conditioned" not in {flag.kind for flag in flag_law(held)}


def test_bounds_of_the_caller_win_over_an_axis_with_one_value(ladder: pd.DataFrame) -> None:
    small = ladder.query("n_params < 1e5")
    data = points_from_table(small, "domain")
    found = fit_law(LAWS["anchored-domain-lr"], data, bounds={"w": (0.4, 0.6)})
    assert 0.4 <= found.parameters["w"] <= 0.6


def test_one_size_is_asked_at_others_if_all_its_size_terms_are_given(ladder: pd.DataFrame) -> None:
    small = ladder.query("n_params < 1e5")
    asked = question(132e3)
    with pytest.raises(InputError, match="fitted at one n_params"):
        fit(small, "plateau-domain", n_draws=5).predict(asked)
    given = fit(small, "plateau-domain", n_draws=5, fixed={"w": 0.8})
    assert np.isfinite(given.predict(asked)["loss"]).all()
    half = fit(small, "paced-domain", n_draws=5, fixed={"w": 0.8})
    with pytest.raises(InputError, match="fitted at one n_params"):
        half.predict(asked)
