"""Random tables with random bad cells: a clean table comes back, or each bad cell is named."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpt.errors import InputError
from dcpt.table import check_runs, load_runs, write_runs

COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "loss_general": st.floats(0.01, 20),
    "loss_domain": st.floats(0.01, 20),
    "ratio": st.floats(0, 1),
    "learning_rate": st.floats(1e-7, 1),
    "n_params": st.integers(1000, 10**12),
    "se_general": st.floats(0, 5) | st.none(),
    "unique_tokens_domain": st.integers(0, 10**12) | st.none(),
    "seed": st.integers(0, 2**31) | st.none(),
    "size": st.text("abé 1.", max_size=4) | st.none(),
}
TOKENS = st.just(0) | st.integers(1000, 10**12)
PER_RUN = ("ratio", "learning_rate", "n_params", "seed")
ODD = st.sampled_from(
    ["NA", "n/a", "nan", "inf", "-inf", "1..5", "three", "10Q", "--", "-1", "1e999"]
)
ODD_OBJECTS = ODD | st.sampled_from([True, 1j, b"1", [1], (), -1, float("inf"), 10**400, object])
NUMBERS = [name for name in COLUMNS if name != "size"]


@st.composite
def tables(
    draw: st.DrawFn, odd: st.SearchStrategy[Any]
) -> tuple[pd.DataFrame, set[tuple[int, str]]]:
    """A sound table of a few runs, and the (row, column) of the cells then made bad."""
    rows: list[dict[str, Any]] = []
    for run in range(draw(st.integers(1, 3))):
        one_value = {name: draw(COLUMNS[name]) for name in PER_RUN}
        for n_tokens in draw(st.lists(TOKENS, min_size=1, max_size=4, unique=True)):
            other = {name: draw(COLUMNS[name]) for name in COLUMNS if name not in PER_RUN}
            rows.append({"run": f"run {run}", "n_tokens": n_tokens, **one_value, **other})
    frame = pd.DataFrame(rows, dtype=object)
    cells = st.tuples(st.integers(0, len(rows) - 1), st.sampled_from([*NUMBERS, "n_tokens"]))
    bad = draw(st.sets(cells, max_size=6))
    for row, name in sorted(bad):
        frame.at[row, name] = draw(odd)
    return frame, bad


def load(
    source: Callable[[], pd.DataFrame], first_row: int
) -> tuple[pd.DataFrame | None, set[tuple[int, str]]]:
    """The clean table, or the (row, column) of each cell that the error names."""
    try:
        return source(), set()
    except InputError as error:
        problems = error.problems
    named = set()
    for line in problems:
        _, row, column = line.split(":")[0].split(", ")
        others = re.search(r"\(and \d+ more rows?: ([\d, ]+)\)$", line)
        rows = [row.removeprefix("row "), *(others[1].split(", ") if others else [])]
        named |= {(int(number) - first_row, column.removeprefix("column ")) for number in rows}
    return None, named


@settings(max_examples=150, deadline=None)
@given(tables(ODD_OBJECTS))
def test_frames(drawn: tuple[pd.DataFrame, set[tuple[int, str]]]) -> None:
    frame, bad = drawn
    clean, named = load(lambda: check_runs(frame, "t"), 0)
    assert named == bad
    if clean is None:
        return
    assert len(clean) == len(frame)
    for name in NUMBERS:
        wanted = np.array([np.nan if cell is None else float(cell) for cell in frame[name]])
        np.testing.assert_array_equal(clean[name].to_numpy(float), wanted)
    pd.testing.assert_frame_equal(check_runs(clean, "t"), clean)


@settings(max_examples=100, deadline=None)
@given(tables(ODD))
def test_files(drawn: tuple[pd.DataFrame, set[tuple[int, str]]]) -> None:
    frame, bad = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.csv"
        write_runs(frame, path)
        clean, named = load(lambda: load_runs(path), 2)
        assert named == bad
        if clean is None:
            return
        write_runs(clean, path)
        pd.testing.assert_frame_equal(load_runs(path), clean, check_exact=True)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-16")))
def test_any_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for content_of_file in (content, b"run,n_tokens,loss_general\na,0,3\n" + content):
            path = Path(folder) / "runs.csv"
            path.write_bytes(content_of_file)
            try:
                rows, words = len(load_runs(path)), ""
            except InputError as refused:
                rows, words = 0, str(refused)
            assert rows > 0 or "runs.csv" in words


ROWS = st.fixed_dictionaries(
    {
        "run": st.sampled_from(["a", "b"]),
        "phase": st.sampled_from(["base", "constant", "annealed"]),
        "n_tokens": st.sampled_from([0, 1000, 2000]),
        "branch_n_tokens": st.sampled_from([None, 500, 1000]),
        "n_params": st.sampled_from([1000, 1000, 2000]),
        "loss_general": st.just(3.0),
    }
)


def contradictions(rows: list[dict[str, Any]]) -> set[tuple[int, str]]:
    """The (row, column) that the rules between cells refuse, one row after another."""
    found, points, sizes = set(), set(), {}
    for row, cells in enumerate(rows):
        phase, tokens, left_at = cells["phase"], cells["n_tokens"], cells["branch_n_tokens"]
        point = (cells["run"], tokens, phase, left_at)
        if (phase == "base" and tokens > 0) or point in points:
            found.add((row, "n_tokens"))
        if phase != "base" and tokens == 0:
            found.add((row, "phase"))
        if left_at is not None and (phase != "annealed" or left_at >= tokens):
            found.add((row, "branch_n_tokens"))
        if sizes.setdefault(cells["run"], cells["n_params"]) != cells["n_params"]:
            found.add((row, "n_params"))
        points.add(point)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_rows_that_contradict_each_other(rows: list[dict[str, Any]]) -> None:
    clean, named = load(lambda: check_runs(pd.DataFrame(rows, dtype=object), "t"), 0)
    assert named == contradictions(rows)
    assert clean is None or len(clean) == len(rows)
