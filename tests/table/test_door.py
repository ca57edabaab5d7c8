"""Each rule of the runs table: what it refuses, what it says, and what it lets through."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dcpt.errors import InputError
from dcpt.table import check_runs, load_runs

GOOD: dict[str, list[str]] = {
    "run": ["a", "a", "a", "b", "b"],
    "n_params": ["1803392"] * 5,
    "n_tokens": ["0", "4000000", "4400000", "0", "4000000"],
    "branch_n_tokens": ["", "", "4000000", "", ""],
    "ratio": ["0.5", "0.5", "0.5", "0.9", "0.9"],
    "learning_rate": ["0.0003"] * 5,
    "phase": ["base", "constant", "annealed", "base", "constant"],
    "loss_general": ["3.45", "3.55", "3.5", "3.45", "3.75"],
    "loss_domain": ["4.97", "4.3", "4.2", "4.97", "4.1"],
    "warmup_tokens": ["", "", "", "", ""],
    "note": ["kept", "", "NA", "1", "x"],
}


def table(**changes: Any) -> pd.DataFrame:
    """The good table with other columns (None removes one) or, as (row, cell), another cell."""
    cells = {name: list(values) for name, values in GOOD.items()}
    for name, change in changes.items():
        if change is None:
            del cells[name]
        elif isinstance(change, tuple):
            row, cell = change
            cells.setdefault(name, [""] * 5)[row] = cell
        else:
            cells[name] = change
    return pd.DataFrame(cells, dtype=object)


@pytest.fixture
def problems(tmp_path: Path) -> Any:
    """Write a table as CSV, load it, and return what the door says against it."""

    def of(frame: pd.DataFrame) -> list[str]:
        path = tmp_path / "runs.csv"
        frame.to_csv(path, index=False)
        with pytest.raises(InputError) as raised:
            load_runs(path)
        return raised.value.problems

    return of


def test_a_good_table_passes_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    table().to_csv(path, index=False)
    frame = load_runs(path)
    assert frame["n_tokens"].dtype == np.int64
    assert frame["n_params"].dtype == np.int64
    assert frame["branch_n_tokens"].isna().tolist() == [True, True, False, True, True]
    assert frame["branch_n_tokens"][2] == 4_000_000
    assert frame["warmup_tokens"].isna().all()
    assert frame["loss_general"].tolist() == [3.45, 3.55, 3.5, 3.45, 3.75]
    assert frame["note"].tolist() == GOOD["note"]
    assert list(frame) == list(GOOD)


def test_checking_twice_changes_nothing() -> None:
    once = check_runs(table(), "t")
    pd.testing.assert_frame_equal(check_runs(once, "t"), once)


BAD_CELLS = [
    # column, row of the frame, cell, words of the message
    ("loss_general", 1, "NA", "'NA' is not a number"),
    ("loss_general", 1, "n/a", "'n/a' is not a number"),
    ("loss_general", 1, "3,55", "'3,55' is not a number"),
    ("loss_general", 1, "nan", "'nan' is not a number; leave the cell empty where nothing was"),
    ("loss_general", 1, "inf", "not a finite number"),
    ("loss_general", 1, "0", "0 is not a loss > 0"),
    ("loss_general", 1, "5e-324", "5e-324 is below 0.000001, which no model reaches"),
    ("loss_domain", 1, "-4.3", "-4.3 is not a loss > 0; nats per token are expected"),
    ("loss_domain", 1, "33.1", "33.1 is above 20 where nats per token are expected; is it a perpl"),
    ("n_params", 1, "7", "in millions or billions? 7 looks like 7B, which is written 7000000000"),
    ("n_params", 1, "350", "350 looks like 350M, which is written 350000000"),
    ("n_params", 1, "7Q", "'7Q' is not a number; write count in digits"),
    ("n_params", 1, "1803392.5", "not a whole count"),
    ("n_params", 1, "", "every point with n_tokens > 0 needs one"),
    ("ratio", 1, "50", "50 lies outside 0..1"),
    ("ratio", 1, "50", "is it in percent? 50 % is written 0.5"),
    ("ratio", 1, "-0.1", "-0.1 lies outside 0..1"),
    ("ratio", 1, "half", "'half' is not a number"),
    ("ratio", 1, "", "every point with n_tokens > 0 needs one"),
    ("learning_rate", 1, "0", "0 is not a learning rate in (0, 1]"),
    ("learning_rate", 1, "1.5", "1.5 is not a learning rate in (0, 1]"),
    ("n_tokens", 1, "-5", "-5 is not a whole count"),
    ("n_tokens", 1, "4000000.5", "not a whole count"),
    ("n_tokens", 1, "", "the cell is empty; every row needs one"),
    ("n_tokens", 1, "1e300", "not a whole count"),
    ("run", 1, " ", "the cell is empty; every row needs one"),
    ("run", 1, "a\nb", "holds a line break"),
    (
        "phase",
        1,
        "anneal",
        "'anneal' is not a phase; write base (D = 0), constant or annealed; did",
    ),
    ("phase", 1, "", "the cell is empty; every point needs one"),
    ("excluded", 1, "False", "'False' is not a reason"),
    ("excluded", 1, "0", "0 is not a reason"),
    ("seed", 1, "x", "'x' is not a number"),
    ("se_general", 1, "-1", "-1 is negative"),
    ("share_domain", 1, "1.5", "1.5 lies outside 0..1"),
    ("train_loss_domain", 1, "0", "0 is not a loss > 0"),
    ("base_loss_domain", 1, "40", "40 is above 20"),
    ("unique_tokens_domain", 1, "1e6x", "'1e6x' is not a number"),
]


@pytest.mark.parametrize(("column", "row", "cell", "words"), BAD_CELLS)
def test_a_bad_cell_is_named(problems: Any, column: str, row: int, cell: str, words: str) -> None:
    found = problems(table(**{column: (row, cell)}))
    assert len(found) == 1, found
    assert found[0].startswith(f"runs.csv, row {row + 2}, column {column}: "), found
    assert words in found[0]


BAD_ROWS = [
    ({"n_tokens": (0, "1000")}, "row 2, column n_tokens: 1000 in a row of phase base"),
    ({"phase": (3, "constant")}, "row 5, column phase: 'constant' at n_tokens 0"),
    ({"branch_n_tokens": (2, "5000000")}, "row 4, column branch_n_tokens: 5000000 is not below n_"),
    ({"branch_n_tokens": (1, "100")}, "row 3, column branch_n_tokens: 100 in a row of phase const"),
    (
        {"phase": None},
        "row 4, column branch_n_tokens: 4000000 belongs to a branch, and the table h",
    ),
    ({"n_params": (1, "1803393")}, "row 3, column n_params: 1803393 differs from 1803392 in row 2"),
    (
        {"ratio": (4, "0.8")},
        "row 6, column ratio: 0.8 differs from 0.9 in row 5; one run ('b') has",
    ),
    (
        {"learning_rate": (2, "0.0009")},
        "row 4, column learning_rate: 0.0009 differs from 0.0003 in",
    ),
    ({"seed": ["0", "0", "1", "0", "0"]}, "row 4, column seed: 1 differs from 0 in row 2"),
    (
        {"n_tokens": (4, "0"), "phase": (4, "base")},
        "row 6, column n_tokens: 0 of run 'b' repeats row 5; a point (run, n_tokens, phase,",
    ),
    (
        {"n_tokens": (2, "4000000"), "phase": None, "branch_n_tokens": None},
        "row 4, column n_tokens: 4000000 of run 'a' repeats row 3; the table has no column phase;",
    ),
    (
        {"weight_general": ["1", "1", "1", "2", "1"]},
        "row 5, column weight_general: 2 differs from 1",
    ),
]


@pytest.mark.parametrize(("changes", "words"), BAD_ROWS)
def test_rows_that_contradict_each_other_are_named(
    problems: Any, changes: dict[str, Any], words: str
) -> None:
    found = problems(table(**changes))
    assert len(found) == 1, found
    assert f"runs.csv, {words}" in found[0]


def test_missing_columns_list_those_found_and_offer_a_mapping(problems: Any) -> None:
    found = problems(table(run=None, loss_general=None, loss_domain=None))
    assert len(found) == 2
    assert "no column run; the columns found are: n_params, n_tokens," in found[0]
    assert "--column run=NAME" in found[0]
    assert "no column loss_<channel>" in found[1]


def test_all_problems_come_together_in_the_order_of_the_rows(problems: Any) -> None:
    frame = table(ratio=(4, "90"), loss_general=(1, "NA"), n_params=(3, "7"))
    found = problems(frame)
    assert [line.split(":")[0] for line in found] == [
        "runs.csv, row 3, column loss_general",
        "runs.csv, row 5, column n_params",
        "runs.csv, row 6, column ratio",
    ]


def test_many_problems_are_counted_and_none_hides_another(problems: Any) -> None:
    frame = pd.DataFrame(
        {
            "run": "a",
            "n_tokens": [str(1000 * i) for i in range(100)],
            "ratio": "50",
            "loss_general": ["3.5"] * 99 + ["NA"],
        }
    )
    found = problems(frame)
    assert len(found) == 2
    assert found[0].endswith("(and 99 more rows: 3, 4, 5, 6, 7, ...)")
    assert found[1].startswith("runs.csv, row 101, column loss_general: 'NA'")


def test_excluded_rows_stay_but_need_no_loss() -> None:
    frame = check_runs(
        table(excluded=(4, "diverged"), loss_general=(4, ""), loss_domain=(4, "77")), "t"
    )
    assert frame["excluded"].dropna().tolist() == ["diverged"]
    assert np.isnan(frame["loss_general"][4])
    assert frame["loss_domain"][4] == 77


def test_an_excluded_row_may_repeat_a_point_and_hold_anything() -> None:
    frame = table(excluded=(2, "evaluated on other text"), n_tokens=(2, "4000000"))
    frame.loc[2, ["phase", "branch_n_tokens"]] = ["constant", ""]
    assert len(check_runs(frame, "t")) == 5
    for cell in ("NaN", "inf", "nan", "None", "-", "N/A", "x"):
        read = check_runs(frame.assign(loss_general=["3.5", "3.5", cell, "3.5", "3.5"]), "t")
        assert np.isnan(read["loss_general"][2])
    with pytest.raises(InputError, match="row 3, column loss_general: 'x' is not a number"):
        check_runs(frame.assign(loss_general=["3.5", "3.5", "3.5", "x", "3.5"]), "t")


def test_a_channel_may_be_measured_at_fewer_points(problems: Any) -> None:
    frame = check_runs(table(loss_domain=["4.97", "", "4.2", "4.97", ""]), "t")
    assert frame["loss_domain"].isna().tolist() == [False, True, False, False, True]
    (problem,) = problems(table(loss_domain=(1, ""), loss_general=(1, "")))
    assert problem.startswith("runs.csv, row 3, column loss_general: the cell is empty, as are")


def test_a_base_row_may_leave_open_what_training_decides() -> None:
    frame = table(ratio=(0, ""), learning_rate=(0, ""), n_params=(0, ""))
    loaded = check_runs(frame, "t")
    assert np.isnan(loaded["ratio"][0])
    assert np.isnan(loaded["n_params"][0])


def test_a_column_of_a_persons_own_is_not_read() -> None:
    frame = check_runs(table(weight_decay=["x"] * 5, loss_="3"), "t")
    assert frame["weight_decay"].tolist() == ["x"] * 5


def test_frames_from_pandas_are_read_like_files() -> None:
    frame = table(note=None, warmup_tokens=None).replace("", None)
    numbers = ["n_params", "n_tokens", "branch_n_tokens", "ratio", "learning_rate"]
    frame = frame.astype(dict.fromkeys([*numbers, "loss_general", "loss_domain"], float))
    pd.testing.assert_frame_equal(
        load_runs(frame.set_index(pd.Index(list("vwxyz")))),
        load_runs(table(note=None, warmup_tokens=None)),
    )
    with pytest.raises(InputError, match="the frame, row y, column ratio: 50 lies outside"):
        load_runs(frame.assign(ratio=[0.5, 0.5, 0.5, 50, 0.9]).set_axis(list("vwxyz")))


@pytest.mark.parametrize("cell", [True, 1j, [3], b"3", pd.Timestamp(0), {"a": 1}, 10**400])
def test_odd_objects_are_no_numbers(cell: Any) -> None:
    frame = table()
    frame.at[1, "loss_general"] = cell
    with pytest.raises(InputError, match="row 1, column loss_general: "):
        check_runs(frame, "t")


def test_whole_column_of_booleans_is_refused() -> None:
    with pytest.raises(InputError, match="'True' is not a number"):
        check_runs(table(ratio=[True] * 5), "t")


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="holds no rows"):
        check_runs(table().iloc[:0], "t")


def test_a_column_twice_is_refused() -> None:
    frame = table()
    with pytest.raises(InputError, match="the column ratio is there twice"):
        check_runs(pd.concat([frame, frame[["ratio"]]], axis="columns"), "t")


def test_a_hundred_thousand_rows_take_about_a_second() -> None:
    n = 100_000
    run = np.repeat(np.arange(n // 20), 20)
    frame = pd.DataFrame(
        {
            "run": run.astype(str),
            "n_params": 10**7,
            "n_tokens": np.tile(np.arange(1, 21) * 10**6, n // 20),
            "ratio": (run % 10) / 10,
            "learning_rate": 3e-4,
            "phase": "constant",
            "loss_general": np.linspace(3, 4, n),
            "loss_domain": np.linspace(5, 4, n),
        }
    )
    start = time.process_time()
    check_runs(frame, "t")
    assert time.process_time() - start < 3  # .3 s on an idle core
