"""The runs table as a file: what is read, what is written, what is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from dcpt.errors import InputError
from dcpt.table import load_runs, write_runs

TEXT = "run,N,n_tokens,loss_general\na,1000000,0,3.456789012345678\na,1000000,4096,3.5\n"


@pytest.fixture
def runs() -> pd.DataFrame:
    return load_runs(
        pd.DataFrame(
            {
                "run": ['a, "b" é', "007"],
                "n_tokens": [0, 2**52 + 1],
                "branch_n_tokens": [None, 5],
                "phase": ["base", "annealed"],
                "loss_general": [0.1 + 0.2, 1 / 3],
                "excluded": [None, "twice"],
            }
        )
    )


@pytest.mark.parametrize("name", ["runs.csv", "runs.parquet", "new/folder/RUNS.CSV"])
def test_what_is_written_is_read_back_exactly(
    tmp_path: Path, runs: pd.DataFrame, name: str
) -> None:
    path = tmp_path / name
    write_runs(runs, path)
    pd.testing.assert_frame_equal(load_runs(path), runs, check_exact=True)
    assert os.listdir(path.parent) == [path.name]


def test_names_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(TEXT)
    assert load_runs(path, {"n_params": "N"})["n_params"].tolist() == [1_000_000] * 2
    assert "N" not in load_runs(path, {"n_params": "N"})
    assert load_runs(path)["N"].tolist() == [1_000_000] * 2


def test_two_names_can_be_swapped_and_one_column_read_twice() -> None:
    frame = pd.DataFrame({"run": "a", "loss_x": [4.0], "loss_y": [3.0], "n_tokens": [1]})
    swapped = load_runs(frame, {"loss_y": "loss_x", "loss_x": "loss_y"})
    assert (swapped["loss_x"][0], swapped["loss_y"][0]) == (3, 4)
    twice = load_runs(frame, {"run": "run", "base": "run"})
    assert twice["base"][0] == twice["run"][0] == "a"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"n_params": "M"}, "runs.csv has no column M; the columns found are: run, N, n_tokens"),
        ({"n_parms": "N"}, "dcpt reads no column n_parms; did you mean n_params?"),
        ({"n_tokens": "N"}, "has a column n_tokens too"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, columns: dict[str, str], words: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(TEXT)
    with pytest.raises(InputError) as raised:
        load_runs(path, columns)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; its first row names the columns"),
        (b"run,n_tokens,loss_general\n", "holds no rows"),
        (TEXT.encode() + b"b,1000000,4", "row 4: 3 cells where the header has 4; is the row cut"),
        (TEXT.encode() + b"\n\nb,1,2,3,4,5\n", "row 6: 6 cells where the header has 4"),
        (TEXT.encode() + "b,1000000,0,3.5é\n".encode("latin-1"), "not UTF-8 text (byte 0xe9"),
        (TEXT.encode() + b'"b,1000000,0,3.5\n', "not a CSV after row 3"),
        (b"run,run,n_tokens,loss_general\na,a,0,3\n", "the column run is there twice"),
    ],
)
def test_a_broken_csv_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        load_runs(path)
    assert words in str(raised.value)
    assert str(tmp_path) not in "".join(raised.value.problems)


def test_rows_are_counted_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\na", "\n\r\na", 1).encode() + b"a,,8192,x\n")
    with pytest.raises(
        InputError, match=r"^runs.csv, row 5, column loss_general: 'x' is not a num"
    ):
        load_runs(path)


def test_missing_and_unknown_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_runs(tmp_path / "runs.csv")
    with pytest.raises(InputError, match=r"a runs table is a .csv, .tsv or .parquet file"):
        load_runs(tmp_path / "runs.xlsx")
    with pytest.raises(InputError, match=r"\.parquet file; name the file in it"):
        load_runs(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load_runs(tmp_path / "folder.csv")
    (tmp_path / "runs.parquet").write_text(TEXT)
    with pytest.raises(InputError, match="is not a parquet file"):
        load_runs(tmp_path / "runs.parquet")


def test_a_failed_write_leaves_the_older_file(
    tmp_path: Path, runs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.csv"
    write_runs(runs, path)
    before = path.read_bytes()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"cannot be written .No space left"):
        write_runs(runs.iloc[:1], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["runs.csv"]


def test_a_full_disk_is_one_sentence(tmp_path: Path, runs: pd.DataFrame) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        write_runs(runs, tmp_path / "runs.csv")
        many = pd.concat([runs] * 5000)
        for name in ("runs.csv", "runs.parquet"):
            with pytest.raises(InputError, match=r"cannot be written .*space"):
                write_runs(many.assign(note=[str(i**5) for i in range(10000)]), tmp_path / name)
        pd.testing.assert_frame_equal(load_runs(tmp_path / "runs.csv"), runs)
        assert os.listdir(tmp_path) == ["runs.csv"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_read_only_disk_is_one_sentence(tmp_path: Path, runs: pd.DataFrame) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a read-only disk can only be mounted by root")
    try:
        with pytest.raises(InputError, match=r"cannot be written .Read-only file system"):
            write_runs(runs, tmp_path / "runs.csv")
        with pytest.raises(InputError, match=r"cannot be written .Read-only file system"):
            write_runs(runs, tmp_path / "folder" / "runs.parquet")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


SOUND = "run;n_params;n_tokens;loss_general;note\na;2000000;0;4,59921;x\na;2000000;1000000;4,5;y\n"


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        SOUND.replace(",", "."),
        SOUND.replace(",", ".").replace(";", "\t"),
        SOUND.replace(",", ".").replace(";", ","),
        SOUND.replace(",", ".").replace("2000000", "2M").replace("1000000", "1.000e+06"),
        SOUND.replace(",", ".").replace("2000000", "2,000,000").replace("1000000", "1,000,000"),
    ],
)
def test_tables_as_people_write_them_are_read_alike(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    frame = load_runs(path)
    assert frame["n_params"].tolist() == [2_000_000] * 2
    assert frame["n_tokens"].tolist() == [0, 1_000_000]
    assert frame["loss_general"].tolist() == [4.59921, 4.5]
    assert frame["note"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "run;n_tokens;loss_general\na;0;4\na;1,234;3\n",
            "row 3, column n_tokens: '1,234' may mean 1234 or 1.234; write numbers without commas",
        ),
        (
            "run;n_tokens;loss_general\na;0;4,5\na;1,234,567;3,5\n",
            "row 2, column loss_general: '4,5' has a decimal comma and row 3, column n_tokens: "
            "'1,234,567' has commas between thousands",
        ),
    ],
)
def test_numbers_that_may_mean_two_things_are_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_runs(path)
    assert words in str(raised.value)


def test_a_wide_export_and_a_trainers_log_are_named(tmp_path: Path) -> None:
    wide = tmp_path / "wide.csv"
    wide.write_text("Step,a - eval/loss,a - eval/loss__MIN\n0,4.5,4.5\n")
    with pytest.raises(InputError) as raised:
        load_runs(wide)
    (problem,) = raised.value.problems
    assert problem.startswith("wide.csv: the table is wide, a column per run (such as 'a - eval")
    assert "with: dcpt import FILE.csv" in problem
    with pytest.raises(InputError, match="the log of a trainer, make a table of it with: dcpt imp"):
        load_runs(tmp_path / "trainer_log.jsonl")


def test_a_tsv_is_written_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "runs.tsv"
    frame = load_runs(pd.DataFrame({"run": ["a"], "n_tokens": [5], "loss_x": [3.0]}))
    write_runs(frame, path)
    assert path.read_text() == "run\tn_tokens\tloss_x\na\t5\t3.0\n"
    pd.testing.assert_frame_equal(load_runs(path), frame)
