"""Every notebook runs from top to bottom, shows results and holds no logic."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "quickstart")

SHOWN = {
    "anatomy_of_a_law": ("outer_ratios", "saturating-general"),
    "channel_losses": ("annealed", "forgetting"),
    "choosing_the_next_runs": ("of the large run's FLOPs", "train runs with at least 14.6M"),
    "to_a_trainer": ("--data-path", "interleave_probs"),
    "your_own_table": ("sizes: 1,803,392, 6,622,464", "report/report.html"),
}
"""What the results of each contain."""

LOGIC = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Try, ast.Lambda)


def test_every_notebook_is_here() -> None:
    assert sorted(SHOWN) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_every_cell_shows_something(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its shell commands find the dcpt of this environment.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = jupytext.read(FOLDER / f"{name}.py")
    nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        assert cell.outputs, cell.source
        assert not [out for out in cell.outputs if out.get("name") == "stderr"], cell.outputs
    words = "\n".join(_text(output) for cell in cells for output in cell.outputs)
    for shown in SHOWN[name]:
        assert shown in words


def _text(output: nbformat.NotebookNode) -> str:
    return output.get("text") or output.get("data", {}).get("text/plain", "")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_holds_no_logic(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))
    assert [node for node in ast.walk(tree) if isinstance(node, LOGIC)] == []
    imports = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)}
    assert imports <= {"import dcpt", "import pandas as pd"}
