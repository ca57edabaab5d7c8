"""Imports go one way: read from the import statements of the package itself.

``sys.modules`` would tell less: transformers imports scipy on its own.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dcpt

PACKAGE = Path(dcpt.__file__).parent
ROOMS = sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")})

EVIDENCE = {"dcpt.laws", "dcpt.decide", "dcpt.report"}
TRAINING = {"dcpt.training", "dcpt.text", "dcpt.grid"}
TORCH = {"torch", "transformers", "tokenizers", "safetensors", "datasets"}
FITTING = {"scipy", "matplotlib"}
BOTH_HALVES = {"__init__.py", "cli.py", "stations.py", "display.py", "display_grid.py", "demo.py"}
"""The command line (what it calls, what it shows, the demo) and the public names."""

FORBIDDEN = {
    "laws": TORCH | TRAINING | {"dcpt.decide", "dcpt.report"},
    "decide": TORCH | TRAINING | {"dcpt.report"},
    "report": TORCH | TRAINING,
    "text": FITTING | EVIDENCE | {"dcpt.training", "dcpt.grid"},
    "training": FITTING | EVIDENCE | {"dcpt.grid"},
    "grid": FITTING | EVIDENCE,
    "cli_laws.py": TORCH | TRAINING,
    "cli_runs.py": TORCH | TRAINING,
    "display_diagnosis.py": TORCH | TRAINING,
    "display_laws.py": TORCH | TRAINING,
    "targets.py": TORCH | FITTING | EVIDENCE | {"dcpt.training"},
}
"""What a room never imports; any room that is not listed stands between the halves."""
BETWEEN = TORCH | FITTING | EVIDENCE | TRAINING


def imports(path: Path, root: Path) -> set[str]:
    """The modules named by the import statements of a file, wherever they stand in it."""
    found = set()
    package = ["dcpt", *path.relative_to(root).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def crossings(path: Path, forbidden: set[str], root: Path = PACKAGE) -> set[str]:
    return {
        name
        for name in imports(path, root)
        if any(name == other or name.startswith(f"{other}.") for other in forbidden)
    }


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in BOTH_HALVES])
def test_a_room_imports_only_what_it_may(room: str) -> None:
    place = PACKAGE / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    crossed = {
        str(path.relative_to(PACKAGE)): crossings(path, FORBIDDEN.get(room, BETWEEN))
        for path in files
    }
    assert {name: sorted(found) for name, found in crossed.items() if found} == {}


def test_the_rooms_are_there() -> None:
    assert set(FORBIDDEN) <= set(ROOMS)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("def f():\n    from dcpt.training import loop", {"dcpt.training.loop"}),
        ("from dcpt import grid", {"dcpt.grid"}),
        ("from ..text import corpora", {"dcpt.text.corpora"}),
        ("import torchmetrics, dcpt.table", set()),
    ],
)
def test_every_form_of_import_is_seen(tmp_path: Path, statement: str, found: set[str]) -> None:
    path = tmp_path / "laws" / "x.py"
    path.parent.mkdir()
    path.write_text(statement)
    assert crossings(path, FORBIDDEN["laws"], tmp_path) == found
