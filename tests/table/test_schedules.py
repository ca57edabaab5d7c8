"""Files of schedules, and learning-rate histories from schedules and from a run's own columns."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dcpt.errors import InputError
from dcpt.runs.course import learning_rate_at
from dcpt.runs.identity import ChannelIdentity, Decay, Identity
from dcpt.table.checks import check_runs
from dcpt.table.rate_curves import FINEST, MOST_DROPS, Curve, history_at
from dcpt.table.rate_histories import read_history
from dcpt.table.schedules import MOST_STEPS, Schedule, load_schedules

FILE = """
cosine:
  - {shape: linear, to_step: 10, lr_from: 0, lr_to: 3e-4}
  - {shape: cosine, to_step: 50, lr_from: 3e-4, lr_to: 3e-5}
two steps:
  - {shape: constant, to_step: 8, lr_from: 2e-4}
  - {shape: constant, to_step: 20, lr_from: 5e-5, lr_to: 5e-5}
  - {shape: geometric, to_step: 2_0_0, lr_from: 5e-5, lr_to: 5e-6}
"""


def slow_areas(rates: list[float]) -> tuple[float, float]:
    """S1 and S2 as 2408.11029 writes them, term by term; the rate before the first step is 0."""
    before = [0.0, *rates]
    s2 = 0.0
    for i in range(1, len(before)):
        s2 += sum((before[k - 1] - before[k]) * 0.999 ** (i - k) for k in range(1, i + 1))
    return sum(rates), s2


def wavy(steps: int) -> Curve:
    """A warmup, a jump down, a climb and a fall."""
    k = np.arange(1, steps + 1)
    rates = np.where(k <= 20, k / 20, 0.5 + 0.3 * np.sin(k / 40))
    return Curve(rates, (20, 21))


def test_areas_are_those_of_the_definition() -> None:
    curve = wavy(300)
    steps = np.array([0, 1, 7, 20, 21, 150, 300])
    found = history_at(curve, steps)
    for i, step in enumerate(steps):
        s1, s2 = slow_areas(curve.rates[:step].tolist())
        assert found.lr_area[i] == pytest.approx(s1, abs=1e-12)
        assert found.anneal_area[i] == pytest.approx(s2, abs=1e-9)


def test_fading_goes_on_over_the_blocks_that_it_is_computed_in() -> None:
    """At one jump, S2 is a geometric sum: no step-by-step reference is needed for many steps."""
    curve = Curve(np.full(9000, 1e-3), ())
    found = history_at(curve, np.array([1, 2048, 2049, 5000, 9000]))
    closed = [-1e-3 * (1 - 0.999**n) / (1 - 0.999) for n in (1, 2048, 2049, 5000, 9000)]
    assert found.anneal_area == pytest.approx(closed, rel=1e-10)


def test_a_few_drops_are_kept_one_by_one() -> None:
    rates = [0.5, 1.0, 1.0, 0.6, 0.1]
    found = history_at(Curve(np.array(rates)), np.array([5]))
    assert found.drop_sizes[0] == pytest.approx([-0.5, -0.5, 0.4, 0.5])
    assert found.drop_rates[0] == pytest.approx([0.5, 1.0, 0.6, 0.1])
    assert found.drop_areas[0] == pytest.approx([3.2, 2.7, 0.7, 0.1])


@pytest.mark.parametrize("most", [40, MOST_DROPS])
def test_many_drops_are_added_up_and_their_sum_is_exact(most: int) -> None:
    curve = wavy(40_000)
    steps = np.array([0, 3, 20, 25, 999, 20_000, 40_000])
    found = history_at(curve, steps, most)
    assert found.drop_sizes.shape[1] <= most
    now = np.concatenate([[0.0], curve.rates])[steps]
    assert found.drop_sizes.sum(axis=1) == pytest.approx(-now, abs=1e-12)
    # The last steps before a point are single ones: a drop so young is worth little yet.
    last = np.flatnonzero(found.drop_sizes[-1])[-FINEST:]
    assert found.drop_sizes[-1, last] == pytest.approx(-np.diff(curve.rates)[-FINEST:])


def test_a_warmup_and_a_jump_down_are_never_one_drop() -> None:
    found = history_at(wavy(5000), np.array([5000]))
    rates = wavy(5000).rates
    jump = np.flatnonzero(np.isclose(found.drop_sizes[0], rates[19] - rates[20], atol=1e-12))
    assert len(jump) == 1
    assert found.drop_rates[0, jump[0]] == pytest.approx(rates[20])


# ------------------------------------------------------------------------------- a run's own record
BATCH, PEAK = 512, 7e-4


def identity(warmup: int, decay: Decay | None = None) -> Identity:
    text = ChannelIdentity(name="a", side="general", weight=1, train_sha256="", valid_sha256="")
    return Identity(
        kind="trunk" if decay is None else "branch",
        base="weights:0",
        tokenizer_sha256="",
        channels=(text,),
        ratio=0.0,
        learning_rate=PEAK,
        warmup_tokens=warmup,
        decay=decay,
        batch_sequences=4,
        sequence_tokens=BATCH // 4,
        validation_tokens=1,
        seed=0,
    )


def own_row(tokens: int, warmup: int, branch: float = math.nan) -> dict[str, Any]:
    return {
        "run": "a",
        "n_tokens": tokens,
        "learning_rate": PEAK,
        "batch_tokens": BATCH,
        "warmup_tokens": warmup,
        "branch_n_tokens": branch,
        "phase": "constant" if math.isnan(branch) else "annealed",
    }


@pytest.mark.parametrize("warmup", [0, 300, 512, 1200, 5120, 7000, 52_000])
def test_the_history_of_a_run_is_what_was_trained(warmup: int) -> None:
    start, length = 100 * BATCH, 10 * BATCH
    trunk = identity(warmup)
    branch = identity(warmup, Decay(start_tokens=start, n_tokens=length))
    frame = pd.DataFrame(
        [own_row(n * BATCH, warmup) for n in (1, 3, 14, 100)]
        + [own_row(start + length, warmup, start)]
    )
    found = read_history(frame)
    for row, (run, steps) in enumerate(
        [(trunk, 1), (trunk, 3), (trunk, 14), (trunk, 100), (branch, 110)]
    ):
        rates = [learning_rate_at(run, step) for step in range(steps)]
        s1, s2 = slow_areas(rates)
        assert found["lr_area"][row] == pytest.approx(s1, rel=1e-12)
        assert found["anneal_area"][row] == pytest.approx(s2, rel=1e-9)
        assert found["drop_sizes"][row].sum() == pytest.approx(-rates[-1], rel=1e-9)
    on_trunk = read_history(pd.DataFrame([own_row(110 * BATCH, warmup)]))
    assert found["anneal_area"][-1] > on_trunk["anneal_area"][0]


def test_runs_of_one_shape_differ_by_their_peak_alone() -> None:
    frame = pd.DataFrame([own_row(50 * BATCH, 5 * BATCH)] * 2)
    frame["learning_rate"] = [PEAK, 3 * PEAK]
    found = read_history(frame)
    for name in ("lr_area", "anneal_area", "drop_sizes", "drop_rates", "drop_areas"):
        assert found[name][1] == pytest.approx(3 * found[name][0])


@pytest.mark.parametrize("lacking", ["learning_rate", "batch_tokens", "warmup_tokens"])
def test_what_cannot_be_known_is_absent(lacking: str) -> None:
    assert read_history(pd.DataFrame([own_row(5120, 512)]).drop(columns=lacking)) == {}


def test_an_annealed_row_without_its_branch_is_unknown_unless_a_decay_is_assumed() -> None:
    frame = pd.DataFrame([own_row(110 * BATCH, BATCH, 100 * BATCH)] * 2)
    frame.loc[1, "branch_n_tokens"] = math.nan
    found = read_history(frame)
    assert np.isnan(found["lr_area"]).tolist() == [False, True]
    assert np.isnan(found["drop_sizes"]).any(axis=1).tolist() == [False, True]
    assumed = read_history(frame, decay=0.1)
    for values in assumed.values():
        assert values[1] == pytest.approx(values[0])


def test_areas_in_the_table_are_kept() -> None:
    frame = pd.DataFrame([own_row(50 * BATCH, 5 * BATCH)] * 3)
    computed = read_history(frame)
    frame["lr_area"] = [math.nan, 1.01 * computed["lr_area"][1], 2 * computed["lr_area"][2]]
    frame["anneal_area"] = [math.nan, -0.5, math.nan]
    found = read_history(frame)
    assert found["lr_area"][1:].tolist() == frame["lr_area"][1:].tolist()
    assert found["lr_area"][0] == computed["lr_area"][0]
    assert found["anneal_area"][:2].tolist() == [computed["anneal_area"][0], -0.5]
    # Twice the area is another schedule than the columns say: its drops are not known.
    assert np.isnan(found["anneal_area"][2])
    assert np.isnan(found["drop_sizes"]).all(axis=1).tolist() == [False, False, True]


def test_own_areas_need_no_other_columns() -> None:
    found = read_history(pd.DataFrame({"n_tokens": [10, 20], "lr_area": [0.1, 0.2]}))
    assert list(found) == ["lr_area"]


def test_a_history_of_very_many_steps_is_unknown() -> None:
    """A batch given in sequences, or a very large target, has too many steps for a history."""
    frame = pd.DataFrame([own_row(10**13, 0), own_row(51_200, 0)])
    known = np.isfinite(read_history(frame)["lr_area"])
    assert known.tolist() == [False, True]
    assert read_history(frame.iloc[:1]) == {}


def test_a_batch_of_0_is_refused_at_the_door() -> None:
    row = {**own_row(5120, 512), "batch_tokens": 0, "loss_general": 3.0}
    with pytest.raises(InputError, match="column batch_tokens: 0 is no batch"):
        check_runs(pd.DataFrame([row]), "runs.csv")


# ------------------------------------------------------------------------------- named schedules
@pytest.fixture
def schedules(tmp_path: Path) -> dict[str, Schedule]:
    path = tmp_path / "schedules.yaml"
    path.write_text(FILE)
    return load_schedules(path)


def named(*rows: tuple[str | None, int], batch: int = 100) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"run": "a", "schedule": name, "n_tokens": step * batch, "batch_tokens": batch}
            for name, step in rows
        ]
    )


def test_a_file_of_schedules_is_read_step_by_step(schedules: dict[str, Schedule]) -> None:
    rates = schedules["cosine"].curve().rates
    assert rates[:10] == pytest.approx(np.arange(1, 11) * 3e-5)
    assert rates[29] == pytest.approx((3e-4 + 3e-5) / 2)
    assert rates[-1] == pytest.approx(3e-5)
    two = schedules["two steps"].curve()
    assert two.rates[7] == 2e-4
    assert two.rates[8] == 5e-5
    assert two.rates[109] == pytest.approx(5e-5 * 10**-0.5)
    assert two.ends == (1, 8, 9, 20, 200)
    assert schedules["two steps"].peak == 2e-4


def test_json_is_read_like_yaml(tmp_path: Path, schedules: dict[str, Schedule]) -> None:
    path = tmp_path / "schedules.json"
    records = {name: schedule.model_dump() for name, schedule in schedules.items()}
    path.write_text(json.dumps(records, indent="\t"))
    assert load_schedules(path) == schedules


def test_named_rows_have_the_history_of_their_schedule(schedules: dict[str, Schedule]) -> None:
    frame = named(("cosine", 50), ("two steps", 12), ("cosine", 0), (None, 5))
    frame["learning_rate"] = [math.nan, 2e-4, math.nan, 1e-3]
    frame["warmup_tokens"] = 200
    found = read_history(frame, schedules)
    for row, (name, step) in enumerate([("cosine", 50), ("two steps", 12)]):
        s1, s2 = slow_areas(schedules[name].curve().rates[:step].tolist())
        assert found["lr_area"][row] == pytest.approx(s1, rel=1e-12)
        assert found["anneal_area"][row] == pytest.approx(s2, rel=1e-9)
    assert found["lr_area"][2:] == pytest.approx([0.0, 1e-3 * (0.5 + 4)])
    assert found["learning_rate"] == pytest.approx([3e-4, 2e-4, 3e-4, 1e-3])
    last = found["drop_sizes"][1][np.flatnonzero(found["drop_sizes"][1])[-1]]
    assert last == pytest.approx(1.5e-4)


def test_without_schedules_named_rows_are_unknown() -> None:
    frame = named(("cosine", 50), (None, 50)).assign(learning_rate=3e-4, warmup_tokens=0)
    assert np.isnan(read_history(frame)["lr_area"]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"schedule": "cosin"},
            "row 3 .2 more like it.*'cosin' is not among.*cosine, two steps",
        ),
        ({"batch_tokens": math.nan}, "row 3 .*'cosine' counts steps.*give batch_tokens"),
        ({"batch_tokens": 10}, "row 3 .*beyond the end of 'cosine', step 50"),
        ({"learning_rate": 3e-3}, "row 3 .*'cosine' goes up to 0.0003 and learning_rate"),
    ],
)
def test_rows_that_misname_a_schedule(
    schedules: dict[str, Schedule], change: dict[str, Any], words: str
) -> None:
    frame = named((None, 5), *[("cosine", 50)] * 3).assign(learning_rate=3e-4)
    for column, value in change.items():
        frame[column] = [frame[column][0], *[value] * 3]
    with pytest.raises(InputError, match=words):
        read_history(frame, schedules)
    excluded = frame.assign(excluded=[None, *["another trainer"] * 3])
    assert "lr_area" not in read_history(excluded, schedules)


def test_schedules_for_a_table_that_names_none(schedules: dict[str, Schedule]) -> None:
    with pytest.raises(InputError, match="no column schedule; add it"):
        read_history(pd.DataFrame([own_row(512, 0)]), schedules)


FIRST = "{shape: linear, to_step: 10, lr_from: 0, lr_to: 3e-4}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a: [{shape: cosin, to_step: 9, lr_from: 0, lr_to: 1e-3}]",
            "a, segment 1, shape: 'cosin'",
        ),
        (f"a: [{FIRST}, {FIRST}]", "segment 2 goes to step 10 .*to_step must rise"),
        ("a: [{shape: linear, to_step: 9, lr_from: 0}]", "segment 1: lr_to is missing"),
        ("a: [{shape: linear, lr_from: 0, lr_to: 1e-3}]", "segment 1, to_step: missing"),
        (f"a: [{FIRST[:-1]}, lr: 3}}]", "lr: unknown key; valid here: shape, to_step, lr_from"),
        ("a: [{shape: constant, to_step: 9, lr_from: 1e-3, lr_to: 0}]", "differs from lr_from"),
        ("a: [{shape: geometric, to_step: 9, lr_from: 1e-3, lr_to: 0}]", "start or end at 0"),
        ("a: [{shape: constant, to_step: 9, lr_from: 3}]", "lr_from: 3 .*less than or equal to 1"),
        ("a: [{shape: constant, to_step: 0, lr_from: 1e-3}]", "to_step: 0 .*greater than 0"),
        (f"a: [{{shape: constant, to_step: {MOST_STEPS + 1}, lr_from: 1e-3}}]", "less than or"),
        ("a: []", "a: a schedule of 0 segments; give between 1 and 30"),
        ("a: 3", "a: 3 is not a list"),
        (f"a: [{FIRST}]\na: [{FIRST}]", "'a' occurs twice"),
        ("- a", "holds no schedules"),
        ("a: [", "line 1: is not valid YAML"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "schedules.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_schedules(path)


def test_all_problems_of_a_file_are_raised_together(tmp_path: Path) -> None:
    path = tmp_path / "schedules.json"
    path.write_text(json.dumps({"a": [{"shape": "step", "to_step": "x", "lr_from": 1}], "b": []}))
    with pytest.raises(InputError) as caught:
        load_schedules(path)
    assert len(caught.value.problems) == 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_schedules(tmp_path / "none.yaml")
