"""Files of a person that stand where dcpt writes are refused and stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.own_folders import check_folder, mark_folder
from dcpt.table import write_runs


def test_a_fit_next_to_its_own_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one_size = bundled_runs("code").query("size == '6.6M' and learning_rate == 0.0006")
    write_runs(one_size, "runs.csv")
    before = Path("runs.csv").read_bytes()
    words = ["fit", "runs.csv", "--channel", "domain", "--law", "d-cpt", "--draws", "20", "--out"]
    result = CliRunner().invoke(app, [*words, "."])
    assert isinstance(result.exception, InputError)
    assert "runs.csv: dcpt writes a file of this name, but this file is not from dcpt" in str(
        result.exception
    )
    assert Path("runs.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]
    for _ in range(2):  # a folder of ours is written again
        assert CliRunner().invoke(app, [*words, "new"], catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("content", ["{}", "[1]", "a person's notes"])
def test_a_file_of_a_person_is_in_the_way(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    names, keys = ("report.html", "report.json"), {"recommendation", "made"}
    with pytest.raises(InputError, match=r"report\.json: dcpt writes a file of this name"):
        check_folder(tmp_path, names, "report.json", keys)
    mark_folder(tmp_path)
    check_folder(tmp_path, names, "report.json", keys)


def test_a_folder_of_an_older_version_is_known_by_its_record(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"recommendation": 1, "made": {}, "title": ""}')
    check_folder(tmp_path, ("report.json",), "report.json", {"recommendation", "made"})
    check_folder(tmp_path / "absent", ("report.json",), "report.json", {"made"})


def test_a_table_is_not_written_over_what_is_none(tmp_path: Path) -> None:
    table, notes, out = tmp_path / "a.csv", tmp_path / "notes.csv", tmp_path / "out.csv"
    write_runs(bundled_runs("code"), table)
    notes.write_text("what I did today\n")
    for path, reason in ((table, "is read from this file"), (notes, "is not a runs table")):
        before = path.read_bytes()
        result = CliRunner().invoke(app, ["runs", str(table), "--out", str(path)])
        assert isinstance(result.exception, InputError)
        assert reason in str(result.exception)
        assert path.read_bytes() == before
    for _ in range(2):
        words = ["runs", str(table), "--out", str(out)]
        assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
