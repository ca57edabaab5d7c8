"""Each warning of a fit: a table that earns it, and tables that must not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dcpt.bundled import bundled_runs
from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.laws import LAWS, Law, Parameter, fit
from dcpt.laws.flags.design_flags import _off_curve, flag_design, flag_evaluations, flag_settings
from dcpt.laws.flags.kinds import SENTENCES, make_flag
from dcpt.laws.flags.law_flags import flag_law
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.solver.search import fit_law

TOKENS = (1e6, 2e6, 3e6, 5e6, 8e6, 13e6, 21e6, 34e6)


def table(
    sizes: tuple[float, ...] = (1e6, 4e6, 16e6),
    ratios: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9),
    rates: tuple[float, ...] = (3e-4, 9e-4),
    tokens: tuple[float, ...] = TOKENS,
    noise: float = 0.002,
) -> pd.DataFrame:
    """Every size x ratio x rate is a run."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            {"run": f"{n:g} {r} {rate}", "n_params": n, "n_tokens": d}
            | {"ratio": r, "learning_rate": rate, "phase": "constant"}
            for n in sizes
            for r in ratios
            for rate in rates
            for d in tokens
        ]
    )
    d, n, r = frame["n_tokens"] / 1e7, frame["n_params"] / 4e6, frame["ratio"]
    frame["loss_general"] = 2 + n**-0.3 - 0.02 * d**0.3 + 0.1 * r / (1.05 - r) ** 0.5
    frame["loss_domain"] = 2 + n**-0.3 + d**-0.3 - 0.3 * np.log(r)
    frame[["loss_general", "loss_domain"]] += rng.normal(0, noise, (len(frame), 2))
    return frame


def design(frame: pd.DataFrame, channel: str = "general") -> set[str]:
    return labels(flag_design(points_from_table(frame, channel)))


def labels(flags: Iterable[Flag]) -> set[str]:
    return {flag.label for flag in flags}


def without(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.drop(columns=column)


@pytest.mark.parametrize(
    ("frame", "flags"),
    [
        (table(), set()),
        (table(sizes=(1e6, 4e6)), {"few_sizes"}),
        (table(sizes=(1e6,)), {"one_size"}),
        (without(table(), "n_params"), {"no_sizes"}),
        (table(rates=(3e-4,)), {"one_learning_rate"}),
        (without(table(), "learning_rate"), {"no_learning_rates"}),
    ],
)
def test_axes_without_values(frame: pd.DataFrame, flags: set[str]) -> None:
    assert design(frame) == flags


@pytest.mark.parametrize(("power", "confounded"), [(-0.5, True), (0.5, True), (0.0, False)])
def test_size_and_rate_that_move_together(power: float, confounded: bool) -> None:
    frame = table()
    frame["learning_rate"] *= (frame["n_params"] / 4e6) ** power * 0.5
    one_a_size = frame[frame["run"].str.endswith("0.0003")]
    flags = flag_design(points_from_table(one_a_size, "general"))
    axes = [flag.values["axes"] for flag in flags if flag.kind == "confounded"]
    assert axes == ([["n_params", "learning_rate"]] if confounded else [])


def test_tokens_that_are_one_multiple_of_the_size() -> None:
    def ends(*multiples: float) -> pd.DataFrame:
        frame = table(tokens=multiples)
        return frame.assign(n_tokens=frame["n_tokens"] * frame["n_params"])

    flag = "confounded"
    assert flag in design(ends(20))
    assert flag in design(ends(20, 21))
    assert flag in design(ends(20, 40))
    assert flag not in design(ends(5, 500))
    assert flag not in design(ends(20).assign(n_tokens=20e6))
    assert flag not in design(ends(20).query("n_params == 4e6"))
    (found,) = (f for f in flag_design(points_from_table(ends(20), "general")) if f.kind == flag)
    assert found.sentence.startswith("n_params and n_tokens changed together across the runs")


def test_text_whose_repetition_follows_the_ratio() -> None:
    def repeated(unique: float) -> pd.DataFrame:
        return table().assign(unique_tokens_domain=unique)

    flag = "epochs_follow_ratio (domain)"
    # At 34M tokens the largest ratio, .9, sees 30.6M domain tokens.
    assert flag in design(repeated(10e6), "domain")
    assert flag not in design(repeated(20e6), "domain")
    assert flag not in design(repeated(10e6), "general")
    less = repeated(10e6)
    less.loc[(less["ratio"] == 0.5) & (less["n_params"] < 2e6), "unique_tokens_domain"] = 5e6
    assert flag not in design(less, "domain")
    by_ratio = repeated(10e6).assign(unique_tokens_domain=lambda t: (10e6 * t["ratio"]).round())
    assert flag in design(by_ratio, "domain")
    assert flag in design(without(repeated(10e6), "ratio"), "domain")


def decayed(frame: pd.DataFrame, drop: float = 0.03) -> pd.DataFrame:
    """The last point of every run after a decay."""
    last = frame.groupby("run")["n_tokens"].transform("max") == frame["n_tokens"]
    return frame.assign(loss_general=frame["loss_general"] - drop * last)


def test_a_last_point_off_its_own_curve() -> None:
    flag = "undeclared_decay (general)"
    assert design(table()) == set()
    assert design(decayed(table())) == {flag}
    assert design(decayed(table()), "domain") == set()
    assert design(decayed(table(), -0.03)) == set(), "a rise is no decay"
    assert design(decayed(table(), 0.002)) == set(), "no more than the runs scatter"
    runs = table()["run"].unique()
    some = table()["run"].isin(runs[: len(runs) // 3])
    assert design(pd.concat([decayed(table()[some]), table()[~some]])) == set()


def test_a_declared_decay_is_not_undeclared() -> None:
    frame = decayed(table())
    last = frame["n_tokens"] == TOKENS[-1]
    annealed = frame.assign(phase=np.where(last, "annealed", "constant"))
    assert design(annealed) == set()
    assert design(frame.assign(anneal_area=np.where(last, 1.0, -0.1))) == set()


@pytest.mark.parametrize("last", [55e6, 100e6, 340e6, 34e9])
@pytest.mark.parametrize("beta", [0.05, 0.3, 0.7, 1.5])
def test_an_exact_power_law_is_not_off_its_own_curve(last: float, beta: float) -> None:
    frame = table(tokens=(*TOKENS, last))
    exact = 2 + 6 * (frame["n_tokens"] / 1e6) ** -beta
    assert design(frame.assign(loss_general=exact)) == set()
    assert design(frame.assign(loss_general=3.0)) == set()


def test_runs_too_short_for_a_curve_are_not_judged() -> None:
    assert design(decayed(table(tokens=TOKENS[-6:]))) == set()
    assert design(decayed(table(tokens=TOKENS[-7:]))) == {"undeclared_decay (general)"}
    single = decayed(table(tokens=TOKENS, sizes=(1e6,), ratios=(0.5,), rates=(3e-4,)))
    assert "undeclared_decay (general)" not in design(single)


@pytest.mark.parametrize("name", ["zh_annealed", "code", "code_lr"])
def test_bundled_runs_earn_only_what_is_true_of_them(name: str) -> None:
    runs = bundled_runs(name)
    # Two sizes; verse that was seen up to 2.7 times at one amount of it.
    true = {"zh_annealed": {"few_sizes", "epochs_follow_ratio (domain)"}}
    assert design(runs) | design(runs, "domain") == true.get(name, set())


def test_few_of_the_bundled_curves_and_most_of_the_decays_are_off() -> None:
    tables = [bundled_runs(name) for name in ("zh_annealed", "code", "code_lr")]
    data = [points_from_table(t, channel) for t in tables for channel in ("general", "domain")]
    off = np.concatenate([_off_curve(channel) for channel in data])
    assert len(off) > 180
    assert off.sum() <= 4
    untold = tables[0].drop(columns=["phase", "branch_n_tokens"])
    assert _off_curve(points_from_table(untold, "general")).mean() > 0.7


def test_bundled_decays_are_found_when_their_phase_is_not_told() -> None:
    untold = bundled_runs("zh_annealed").drop(columns=["phase", "branch_n_tokens"])
    assert "undeclared_decay (general)" in design(untold)
    assert {"undeclared_decay (general)", "phase_not_named"} <= labels(
        fit(untold, "saturating-general", n_draws=2).flags
    )


def evaluated(**losses: float) -> pd.DataFrame:
    """Runs named by the set that they were measured on and their base, with the loss at D = 0."""
    rows = [
        {"run": run, "base": base, "eval_id": run[0], "n_tokens": d, "loss_general": loss + d / 1e9}
        for run, loss in losses.items()
        for base in [run[-1]]
        for d in (0, 1e6, 2e6, 4e6, 8e6)
    ]
    return pd.DataFrame(rows)


def test_a_base_with_two_losses_refuses_evaluations_that_differ() -> None:
    with pytest.raises(InputError) as caught:
        fit(evaluated(x_a=3.0, y_a=3.2), "chinchilla", n_draws=2)
    assert caught.value.problems == [
        "channel general: base 'a' has different losses by eval_id (3 on x, 3.2 on y), so losses "
        "of these runs were not measured on the same tokens and cannot be compared; evaluate all "
        "runs on one set, or fit one eval_id at a time (give the other rows a reason in excluded)"
    ]
    output = evaluated(x_a=3.0, y_a=3.2).query("n_tokens > 0")
    output["base_loss_general"] = np.where(output["eval_id"] == "x", 3.0, 3.2)
    with pytest.raises(InputError, match=r"3 on x, 3\.2 on y"):
        flag_evaluations(output, ["general"])


@pytest.mark.parametrize(
    ("frame", "flags"),
    [
        (evaluated(x_a=3.0, x_b=3.2), []),
        (evaluated(x_a=3.0, y_a=3.002), []),
        (evaluated(x_a=3.0, y_a=3.002, y_b=3.5), []),
        (evaluated(x_a=3.0, y_b=3.2), ["several_evaluations"]),
        (evaluated(x_a=3.0, y_a=3.0, z_b=3.0), ["several_evaluations"]),
        (evaluated(x_a=3.0, y_a=3.2).query("n_tokens > 0"), ["several_evaluations"]),
        (without(evaluated(x_a=3.0, y_a=3.2), "base"), ["several_evaluations"]),
        (without(evaluated(x_a=3.0, y_a=3.2), "eval_id"), []),
        (evaluated(x_a=3.0, y_a=3.2).assign(excluded=[""] * 5 + ["other text"] * 5), []),
    ],
)
def test_evaluations_that_may_be_compared(frame: pd.DataFrame, flags: list[str]) -> None:
    frame = frame.replace({"excluded": {"": None}}) if "excluded" in frame else frame
    assert [flag.kind for flag in flag_evaluations(frame, ["general"])] == flags
    assert set(flags) <= labels(fit(frame, "chinchilla", n_draws=2).flags)


def two_valleys(slope: float) -> Law:
    """log loss = ln E + (.1 + slope a) r, a pulled to -1 and 1 by the ratio .5."""

    def loss(points, p, ref):
        r = points.get("ratio")
        pull = 3.0 * (p["a"] * p["a"] - 1.0) * (r == 0.5)
        return p["E"] * np.exp((0.1 + slope * p["a"]) * (r - 0.5) + pull)

    return Law(
        name="two-valleys",
        formula="E e^((.1 + slope a)(r - .5) + pull)",
        source="this test",
        side="any",
        phases=("constant",),
        needs=("n_tokens", "ratio"),
        parameters=(
            Parameter("E", "amplitude", 2.9, 3.1, "nats/token", "linear", "level"),
            Parameter("a", "nonlinear", -2.0, 2.0, "1", "linear", "which valley"),
        ),
        loss=loss,
    )


def between_the_valleys() -> pd.DataFrame:
    frame = table(rates=(3e-4,), sizes=(1e6,))
    return frame.assign(loss_general=3.0 * np.exp(0.1 * (frame["ratio"] - 0.5)))


def test_other_minima_as_good_are_told() -> None:
    data = points_from_table(between_the_valleys(), "general")
    found = fit_law(two_valleys(0.02), data)
    assert {-1, 1} == {round(float(values[1])) for values in (found.values, *found.rivals)}
    assert {"several_minima", "minima_disagree"} <= {flag.kind for flag in flag_law(found)}
    # The same two minima say the same where the valley has no effect on a loss.
    alike = fit_law(two_valleys(0.0), data)
    assert not {"several_minima", "minima_disagree"} & {flag.kind for flag in flag_law(alike)}


def test_a_start_that_has_not_arrived_is_no_other_minimum() -> None:
    data = points_from_table(bundled_runs("code_lr"), "general")
    found = fit_law(LAWS["joint-general"], data)
    low, high = (found.problem.to_theta(v) for v in (found.lower, found.upper))
    away = found.problem.to_values(found.problem.to_theta(found.values) + 0.02 * (high - low))
    moved = replace(found, rivals=np.clip(away, found.lower, found.upper)[None])
    assert not {"several_minima", "minima_disagree"} & {flag.kind for flag in flag_law(moved)}


def test_every_kind_of_flag_says_what_to_do() -> None:
    remedies = (
        "Add ",
        "add ",
        "Use ",
        "Fix ",
        "Fit again",
        "Verify",
        "rite ",
        "train ",
        "Evaluate ",
    )
    remedies += ("Thin ", "`dcpt laws` lists", "Name ")
    given = {"parameters": ["E"], "axes": ["n_params", "n_tokens"], "phase": "annealed"}
    given["channels"] = ["en", "med"]
    given |= {"annealed": "4", "falling": "2"}
    given |= {"reason": "needs runs of at least two sizes", "runs": ["a"]}
    for kind in SENTENCES:
        flag = make_flag(kind, {"channel": "domain", "law": "d-cpt", "axis": "ratio"}, **given)
        assert any(remedy in flag.sentence for remedy in remedies), kind
        assert flag.sentence.endswith(".")


def test_parameters_on_a_bound_are_one_flag() -> None:
    data = points_from_table(table(rates=(3e-4,)), "general")
    bounds = {"E": (5.0, 6.0)}
    found = fit_law(LAWS["d-cpt"], data, bounds=bounds)
    (flag,) = (flag for flag in flag_law(found) if flag.kind == "at_bound")
    assert flag.subject == {"channel": "general", "law": "d-cpt"}
    assert "E" in flag.values["parameters"]
    assert len(flag.values["parameters"]) > 1
    assert flag.sentence.startswith(" and ".join(flag.values["parameters"]) + " ended on a bound")


@pytest.mark.parametrize(
    ("changes", "axes"),
    [
        ({}, []),
        ({"batch_tokens": lambda t: t["n_params"] / 100}, [["n_params", "batch_tokens"]]),
        (
            {"warmup_tokens": lambda t: 1e9 * t["learning_rate"]},
            [["learning_rate", "warmup_tokens"]],
        ),
        (
            {"batch_tokens": lambda t: (1e4 * np.exp(t["ratio"])).round()},
            [["ratio", "batch_tokens"]],
        ),
        ({"seed": lambda t: (100 * t["ratio"]).round()}, [["ratio", "seed"]]),
        (
            {"base": lambda t: t["n_params"].astype(str) + t["ratio"].astype(str)},
            [["ratio", "base"]],
        ),
        ({"base": lambda t: t["n_params"].astype(str)}, []),
        ({"batch_tokens": 16384, "seed": 0}, []),
    ],
)
def test_settings_that_change_with_an_axis(changes: dict[str, Any], axes: list[list[str]]) -> None:
    found = flag_settings(table().assign(**changes))
    assert [flag.values["axes"] for flag in found] == axes
