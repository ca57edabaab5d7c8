"""Degenerate tables give the right error or the right answer, and never a NaN."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpt.cli import main
from dcpt.errors import InputError
from dcpt.laws import LAWS, Fit, fit, offer_laws, write_fit
from dcpt.laws.law import References, evaluate
from dcpt.laws.points.record import Points

REFERENCES = References(n_params=4e6, n_tokens=4e6, learning_rate=3e-4)
TRUTH = [1.8, 0.4, 0.3, 0.5, 0.25, 0.3, 0.1, 0.05, 0.5]
"""d-cpt: E, A, alpha, B, beta, eta, C, eps, gamma."""


def with_known_losses(frame: pd.DataFrame) -> pd.DataFrame:
    """Add exact losses of d-cpt for both channels."""
    columns = {name: frame[name].to_numpy(float) for name in ("n_params", "n_tokens", "ratio")}
    for channel, share in (("domain", frame["ratio"]), ("general", 1 - frame["ratio"])):
        points = Points(**columns, share=share.to_numpy(float))
        losses = evaluate(LAWS["d-cpt"], points, np.array(TRUTH), REFERENCES)
        frame = frame.assign(**{f"loss_{channel}": losses})
    return frame


def table() -> pd.DataFrame:
    rows = [
        {"run": f"{n:g}-{r}", "n_params": n, "n_tokens": d, "ratio": r, "learning_rate": 3e-4}
        for n in (1_000_000, 4_000_000, 16_000_000)
        for r in (0.1, 0.3, 0.5, 0.7, 0.9)
        for d in (1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000)
    ]
    return with_known_losses(pd.DataFrame(rows).assign(phase="constant"))


def cell(column: str, value: object) -> pd.DataFrame:
    frame = table().astype({column: object})
    frame.loc[3, column] = value
    return frame


def table_of_two_ratios() -> pd.DataFrame:
    return table().query("ratio < .4")


REFUSED = {
    "NaN": (cell("loss_general", "NaN"), "column loss_general: 'NaN' is not a number; leave"),
    "empty": (
        cell("loss_domain", None).assign(loss_general=cell("loss_general", None)["loss_general"]),
        ": the cell is empty, as are those of all other channels",
    ),
    "zero": (cell("loss_general", 0), "column loss_general: 0 is not a loss > 0; nats per token"),
    "negative": (cell("loss_domain", -2.5), "column loss_domain: -2.5 is not a loss > 0"),
    "infinite": (
        cell("loss_general", "inf"),
        "column loss_general: inf is not a finite number; correct it",
    ),
    "perplexity": (cell("loss_general", 33.1), "33.1 is above 20 where nats per token are expec"),
    "7 billion": (cell("n_params", 7), "7 looks like 7B, which is written 7000000000"),
    "7B": (cell("n_params", "7B"), "7000000000 differs from 1000000 in row"),
    "millions": (
        table().assign(n_tokens=lambda t: t["n_tokens"] / 1e6),
        "counts tokens, and no run of the table saw 1,000; if it is in millions",
    ),
    "steps": (
        table().assign(batch_tokens=10**7),
        "is less than batch_tokens 10000000, the tokens of one step; if it counts steps",
    ),
    "percent": (cell("ratio", 50), "is it in percent? 50 % is written 0.5"),
    "two points": (table().iloc[:2], "it has 2 parameters and the channel only 2 points"),
    "one point": (table().iloc[:1], "it has 1 parameters and the channel only 1 points"),
    "two ratios": (
        table_of_two_ratios(),
        "needs at least 3 ratios (column ratio) and the table has 2 (0.1,",
    ),
    "two sizes": (
        table().query("n_params < 5e6 and ratio < .4"),
        "it describes a single ratio and the table has 2",
    ),
    "only bases": (
        table().drop_duplicates("run").assign(n_tokens=0, phase="base"),
        "the channel has no points in its phases (constant, annealed)",
    ),
    "all excluded": (table().assign(excluded="broken"), "the channel has no points in its phases"),
    "no rows": (table().iloc[:0], "the table holds no rows; give one row per evaluation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_tables_are_refused_in_short_messages(case: str) -> None:
    frame, expected = REFUSED[case]
    with pytest.raises(InputError) as caught:
        fit(frame, n_draws=2)
    assert expected in str(caught.value)
    assert all(len(problem) < 650 for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("case", REFUSED)
def test_the_command_ends_with_code_2_and_no_traceback(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, expected = REFUSED[case]
    frame.to_csv(tmp_path / "runs.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["dcpt", "fit", str(tmp_path / "runs.csv"), "--draws", "20"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert expected in output.err
    assert output.out == ""
    assert all(line.startswith("dcpt: ") for line in output.err.strip().splitlines())


def test_a_refusal_names_the_axis_and_the_laws_that_can_be_fitted() -> None:
    one_ratio = table().query("ratio == .5")
    with pytest.raises(InputError) as caught:
        fit(one_ratio, ["d-cpt", "u10"], ["domain"], n_draws=2)
    assert caught.value.problems == [
        "channel domain: d-cpt, u10: it needs at least 3 ratios (column ratio) and the table has "
        "1 (0.5); laws that suit it: chinchilla"
    ]
    with pytest.raises(InputError, match="needs learning_rate, the general side's loss at D = 0"):
        fit(table().drop(columns="learning_rate"), "anchored-domain-lr", n_draws=2)


def test_laws_refused_for_the_same_reason_are_listed_together() -> None:
    with pytest.raises(InputError) as caught:
        fit(table_of_two_ratios(), n_draws=2)
    for problem in caught.value.problems:
        assert problem.count("needs at least 3 ratios (column ratio)") == 1
        assert problem.count("which is missing from the table") <= 3
        assert "other laws need what is missing: " in problem
        assert problem.endswith("add the runs or columns that one of them needs")


def test_a_request_that_no_law_can_predict_lists_the_laws_together() -> None:
    found = fit(table().query("n_params == 1e6"), ["d-cpt", "bimix", "u10"], n_draws=2)
    with pytest.raises(InputError) as caught:
        found.predict(n_params=7e9, n_tokens=1e7, ratio=0.5, learning_rate=3e-4)
    assert "d-cpt, bimix, u10 was fitted at one n_params (1e+06)" in str(caught.value)


def check_predictions(found: Fit, frame: pd.DataFrame) -> pd.DataFrame:
    """Check that all numbers of a fit are finite; return its predictions for the frame."""
    for record in found.records():
        assert np.isfinite([record["objective"], *record["parameters"].values()]).all(), record
    assert np.isfinite(found.residuals()[["measured", "predicted"]]).all(axis=None)
    predicted = found.predict(frame)
    assert np.isfinite(predicted[["loss", "low", "high"]]).all(axis=None)
    assert (predicted["low"] <= predicted["high"]).all()
    return predicted


@pytest.mark.parametrize(
    ("rows", "law"),
    [
        ("run == '4e+06-0.5'", "chinchilla"),
        ("ratio == .5", "chinchilla"),
        ("n_params == 1e6", "d-cpt"),
        ("run.str.startswith('4')", "u10"),
    ],
)
def test_a_single_run_ratio_or_size_is_fitted_and_predicted(rows: str, law: str) -> None:
    frame = table().query(rows)
    found = fit(frame, law, n_draws=5)
    predicted = check_predictions(found, frame)
    for channel, part in predicted.groupby("channel"):
        assert np.abs(part["loss"].to_numpy() - frame[f"loss_{channel}"].to_numpy()).max() < 0.01
    assert ("one_size" in {flag.kind for flag in found.flags}) == (frame["n_params"].nunique() == 1)
    auto = check_predictions(fit(frame, n_draws=5), frame)
    assert len(auto) == 2 * len(frame)


@pytest.mark.parametrize("rows", ["ratio > 0", "n_params == 1e6", "run == '4e+06-0.5'"])
@pytest.mark.parametrize("level", [1e-6, 3.0, 20.0])
def test_equal_losses_give_a_constant(rows: str, level: float) -> None:
    frame = table().query(rows).assign(loss_general=level, loss_domain=level)
    predicted = check_predictions(fit(frame, n_draws=5), frame)
    assert predicted[["loss", "low", "high"]].to_numpy() == pytest.approx(level, rel=1e-3)


def test_a_law_that_cannot_be_constant_comes_close() -> None:
    # The decreasing terms of muennighoff have positive lower bounds, so it is never constant.
    frame = table().assign(loss_general=3.0, loss_domain=3.0, unique_tokens_domain=500_000)
    found = fit(frame.query("ratio == .5"), "muennighoff", ["domain"], n_draws=5)
    assert found.residuals()["residual"].abs().max() < 0.01


def test_sizes_over_many_decades_do_not_warn_of_overflow() -> None:
    frame = table().replace({"n_params": {1_000_000: 10**7, 4_000_000: 10**9, 16_000_000: 7e10}})
    base = {"base_loss_general": 3.5, "base_n_tokens": 1e12, "warmup_tokens": 1e5}
    found = fit(frame.assign(**base), "anchored-general-lr", n_draws=5)
    assert len(check_predictions(found, frame.assign(**base))) == len(found.residuals())


def test_very_large_held_out_errors_are_recorded(tmp_path: Path) -> None:
    # Without size 1e12, the fitted exponents of N can give losses above 1e150 there.
    frame = table().replace({"n_params": {1_000_000: 1000, 4_000_000: 7e9, 16_000_000: 1e12}})
    frame = frame.assign(
        loss_general=np.random.default_rng(5).uniform(1e-3, 20, len(frame)),
        base_loss_general=3.5,
        base_n_tokens=10**12,
        warmup_tokens=10**5,
    )
    found = fit(frame, "anchored-general", ["general"], n_draws=2)
    errors = found.by_channel["general"].comparisons["constant"].errors["anchored-general"]
    assert max(errors.values()) > 1e4
    write_fit(found, tmp_path)


def test_annealed_points_that_no_law_can_use_are_not_a_phase(tmp_path: Path) -> None:
    # The start of the decay is unknown, so a law of schedules uses only the points before it.
    tokens = np.arange(1, 21) * 1_000_000
    frame = with_known_losses(
        pd.DataFrame({"run": "a", "n_params": 4e6, "n_tokens": tokens, "ratio": 0.5})
    )
    frame = frame.assign(
        phase=np.where(tokens < 20e6, "constant", "annealed"),
        learning_rate=3e-4,
        batch_tokens=500_000,
        warmup_tokens=0,
    )
    found = fit(frame, "lr-annealing", ["domain"], n_draws=5)
    assert list(found.by_channel["domain"].comparisons) == ["constant"]
    assert found.phase_for_decisions == "constant"
    write_fit(found, tmp_path)


def lists_of(values: list[float], *counts: int) -> st.SearchStrategy[list[float]]:
    """Lists of distinct values whose length is one of the counts."""
    return st.sampled_from(counts).flatmap(
        lambda n: st.lists(st.sampled_from(values), min_size=n, max_size=n, unique=True)
    )


@st.composite
def odd_tables(draw: st.DrawFn) -> pd.DataFrame:
    """Valid tables: complete or incomplete grids, of any scale, with any losses."""
    tokens = draw(lists_of([1, 7, 1e3, 1e6, 2e6, 8e6, 1e9, 1e12], 3, 5, 8))
    known = {"base_n_tokens": 10**9, "base_peak_learning_rate": 1e-3, "unique_tokens_domain": 10**6}
    known |= {"warmup_tokens": draw(st.sampled_from([0, 1, 1000])), "batch_tokens": 1}
    phases = draw(st.sampled_from([["constant"], ["base", "constant"], ["base", "annealed"]]))
    phases = [*phases, *draw(st.sampled_from([[], ["annealed"]]))]
    ends = {"base": [0], "constant": tokens, "annealed": [1.1 * max(tokens) + 1]}
    rows = [
        {"run": f"{n:g} {r:g} {rate:g}", "n_params": n, "ratio": r, "learning_rate": rate}
        | {"phase": phase, "n_tokens": int(d)}
        for n in draw(lists_of([1e3, 1e6, 4e6, 7e9, 1e12], 1, 3, 4))
        for r in draw(lists_of([0, 0.001, 0.1, 0.3, 0.7, 0.999, 1], 1, 4, 6))
        for rate in draw(lists_of([1e-7, 1e-4, 1e-3, 1], 1, 3))
        for phase in dict.fromkeys(phases)
        for d in ends[phase]
    ]
    frame = pd.DataFrame(rows)
    holes = draw(st.sets(st.sampled_from(frame["run"].unique().tolist()), max_size=2))
    if holes < set(frame["run"]):
        frame = frame[~frame["run"].isin(holes)]
    frame = frame.assign(**{name: known[name] for name in draw(st.sets(st.sampled_from([*known])))})
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for channel in ("general", "domain"):
        least = draw(st.sampled_from([1e-6, 0.01, 2.0]))
        frame[f"loss_{channel}"] = {
            "equal": np.full(len(frame), least),
            "nearly equal": 3 + rng.normal(0, 1e-9, len(frame)),
            "random": rng.uniform(least, 20, len(frame)),
            "falling": 2 + (frame["n_tokens"] + 1.0) ** -0.2 + frame["ratio"],
        }[draw(st.sampled_from(["equal", "nearly equal", "random", "falling"]))]
    unnamed = draw(st.sampled_from([[], [], [], ["n_params"], ["learning_rate"], ["ratio"]]))
    return frame.drop(columns=unnamed)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(odd_tables(), st.sampled_from(["general", "domain"]), st.data())
def test_every_valid_table_is_fitted_or_refused(
    frame: pd.DataFrame, channel: str, data: st.DataObject
) -> None:
    fitted_laws = [name for name, why in offer_laws(frame, channel).items() if why is None]
    if not fitted_laws:
        with pytest.raises(InputError) as caught:
            fit(frame, channels=[channel], n_draws=2)
        assert all(len(problem) < 1200 for problem in caught.value.problems)
        return
    law = data.draw(st.sampled_from([*fitted_laws, "auto"]))
    try:
        found = fit(frame, law, [channel], n_draws=2)
    except InputError as refused:
        found, message = None, str(refused)
    if found is None:
        assert "give losses above 0 at every point" in message
        return
    for record in found.records():
        assert np.isfinite([record["objective"], *record["parameters"].values()]).all(), record
    assert np.isfinite(found.residuals()[["measured", "predicted"]]).all(axis=None)
    assert all("{" not in flag.sentence for flag in found.flags)
    for member in found.by_channel[channel].members.values():
        assert np.isfinite(member.draws).all(), member.law.name


@pytest.mark.long
def test_a_million_points() -> None:
    runs, each = 20_000, 50
    run = np.repeat(np.arange(runs), each)
    frame = pd.DataFrame(
        {
            "run": run.astype(str),
            "n_params": np.array([1e6, 4e6, 16e6])[run % 3],
            "n_tokens": np.tile(np.geomspace(1e5, 1e8, each).round(), runs),
            "ratio": np.array([0.1, 0.25, 0.5, 0.75, 0.9])[run // 3 % 5],
            "learning_rate": 3e-4,
            "phase": "constant",
        }
    )
    exact = with_known_losses(frame)["loss_domain"]
    noise = np.exp(np.random.default_rng(0).normal(0, 0.002, len(frame)))
    found = fit(frame.assign(loss_domain=exact * noise), "d-cpt", n_draws=20)
    request = frame.assign(loss_domain=exact).iloc[::99_991]
    predicted = found.predict(request)
    assert np.abs(predicted["loss"].to_numpy() / request["loss_domain"].to_numpy() - 1).max() < 2e-4
    assert {flag.kind for flag in found.flags} <= {"one_learning_rate", "drawn_from_part"}
