"""Files of the user at a path where dcpt writes are refused and not changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.own_folders import MARKER, claim_files, mark_folder, record_files
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
    assert "runs.csv: dcpt writes a file of this name and did not write this one" in str(
        result.exception
    )
    assert Path("runs.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]
    for _ in range(2):  # A folder that dcpt wrote is written again.
        assert CliRunner().invoke(app, [*words, "new"], catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("content", ["{}", '{"recommendation": 1, "made": {}}', "my notes"])
def test_a_file_of_a_person_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    mark_folder(tmp_path)  # the folder is dcpt's, this file is not
    with pytest.raises(InputError, match=r"report\.json: dcpt writes a file of this name"):
        claim_files(tmp_path, ("report.html", "report.json"))
    assert (tmp_path / "report.json").read_text() == content


def test_a_file_that_a_person_changed_is_refused(tmp_path: Path) -> None:
    claim_files(tmp_path, ["report.md"])
    (tmp_path / "report.md").write_text("as dcpt wrote it")
    record_files(tmp_path, ["report.md"])
    claim_files(tmp_path, ["report.md"])
    (tmp_path / "report.md").write_text("with notes")  # an interrupted write leaves other text too
    claim_files(tmp_path, ["report.md"])
    record_files(tmp_path, ["report.md"])
    (tmp_path / "report.md").write_text("edited later")
    with pytest.raises(InputError, match=r"report\.md: this file was changed after dcpt wrote it"):
        claim_files(tmp_path, ["report.md"])


def test_folders_of_earlier_versions_are_written_again(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("dcpt made this folder and replaces what it wrote here.\n")
    (tmp_path / "fit.json").write_text("{}")
    claim_files(tmp_path, ["fit.json"])
    assert "fit.json" in (tmp_path / MARKER).read_text()
    assert (tmp_path / "fit.json").read_text() == "{}"


def test_a_table_is_not_written_over_what_is_none(tmp_path: Path) -> None:
    table, notes, out = tmp_path / "a.csv", tmp_path / "notes.csv", tmp_path / "out.csv"
    write_runs(bundled_runs("code"), table)
    notes.write_text("what I did today\n")
    for path, reason in (
        (table, "is read from this file"),
        (notes, "exists; choose another name with --out, or add --replace"),
    ):
        before = path.read_bytes()
        result = CliRunner().invoke(app, ["runs", str(table), "--out", str(path)])
        assert isinstance(result.exception, InputError)
        assert reason in str(result.exception)
        assert path.read_bytes() == before
    words = ["runs", str(table), "--out", str(out)]
    for more in ([], ["--replace"]):
        result = CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
        assert result.exit_code == 0
    result = CliRunner().invoke(app, ["runs", str(table), "--out", str(notes), "--replace"])
    assert "notes.csv: exists and is not a runs table" in str(result.exception)
