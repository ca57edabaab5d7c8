"""Every command of the documentation runs, page by page, in a new folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from doc_pages import REPOSITORY, blocks, commands
from tiny_study import write_tiny_study
from typer.main import get_command
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.table import write_runs

PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
SLOW = {"docs/how-to/study.md"}
"""Pages that train. Their commands are nearly those of the README, which are tested too."""


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fit that the pages with a question ask."""
    place = tmp_path_factory.mktemp("fitted")
    write_runs(bundled_runs("zh_annealed"), place / "runs.csv")
    words = ["fit", str(place / "runs.csv"), "--out", str(place / "fit")]
    assert CliRunner().invoke(app, words).exit_code == 0
    return place / "fit"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the tables that the pages use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_runs(bundled_runs("zh_annealed"), Path("runs.csv"))
    one_size = bundled_runs("code").query("size == '6.6M' and learning_rate == 0.0006")
    write_runs(one_size, Path("one_size.csv"))
    return tmp_path


RUN = [
    pytest.param(page, marks=[pytest.mark.slow] if name_of(page) in SLOW else [], id=name_of(page))
    for page in PAGES
    if commands(page)
]


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(
    page: Path, folder: Path, request: pytest.FixtureRequest
) -> None:
    if all(words[0] != "fit" for words in commands(page)) and any(
        "fit" in words for words in commands(page)
    ):
        shutil.copytree(request.getfixturevalue("fitted"), folder / "fit")
    for code in blocks(page, "python"):
        (folder / "my_laws.py").write_text(code, encoding="utf-8")
    for words in commands(page):
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, f"dcpt {' '.join(words)}: {result.output}"
        if words[0] == "init":
            write_tiny_study(folder)
    sys.modules.pop("my_laws", None)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_other_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    group = get_command(app)
    for words in commands(page, "console"):
        command = group.get_command(None, words[0])  # type: ignore[attr-defined,arg-type]
        assert command is not None, words
        command.make_context(words[0], words[1:])


def test_the_pages_name_every_command() -> None:
    named = {
        words[0] for page in PAGES for kind in ("bash", "console") for words in commands(page, kind)
    }
    assert named >= set(get_command(app).commands)  # type: ignore[attr-defined]
