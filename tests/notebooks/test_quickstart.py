"""The quickstart notebook runs from top to bottom and shows its results."""

from __future__ import annotations

import ast
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

SOURCE = Path(__file__).parents[2] / "notebooks" / "quickstart.py"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[nbformat.NotebookNode]:
    """The code cells after a run in a new kernel."""
    notebook = jupytext.read(SOURCE)
    folder = tmp_path_factory.mktemp("quickstart")
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    assert list(folder.iterdir()) == []  # It shows the page and leaves no files.
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    return [
        output["data"][kind]
        for output in cell.outputs
        if output.output_type in ("display_data", "execute_result") and kind in output["data"]
    ]


def test_every_cell_shows_something_and_nothing_warns(
    cells: list[nbformat.NotebookNode],
) -> None:
    for cell in cells:
        assert cell.outputs, cell.source
        assert not [out for out in cell.outputs if out.get("name") == "stderr"], cell.outputs


def test_the_figures_are_drawn(cells: list[nbformat.NotebookNode]) -> None:
    drawn = [cell.source for cell in cells if outputs(cell, "image/png")]
    assert drawn == [
        'dcpt.plot(fit, runs, kind="losses", channel="general")',
        "dcpt.plot(fit, runs)",
        "dcpt.plot(recommendation)",
        'dcpt.plot(recommendation, kind="frontier")',
    ]


def test_the_recommendation_is_given_in_words(cells: list[nbformat.NotebookNode]) -> None:
    (said,) = [cell.outputs[0].text for cell in cells if "dcpt.recommend(" in cell.source]
    assert "domain text" in said
    assert "90 % interval" in said
    assert "29.1M parameters" in said


def test_the_notebook_imports_dcpt_alone() -> None:
    tree = ast.parse(SOURCE.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import dcpt"]


def test_the_notebook_holds_no_logic() -> None:
    logic = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Try, ast.Lambda)
    found = [node for node in ast.walk(ast.parse(SOURCE.read_text())) if isinstance(node, logic)]
    assert found == []
