"""Packages import only packages of lower layers, and light modules import no heavy package.

The tests read the import statements of the package and follow them from module to module.
``sys.modules`` would show less: transformers imports scipy itself, and an import inside a function
appears only after a call.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import dcpt

PACKAGE = Path(dcpt.__file__).parent

LAYERS = (
    {"runs", "text"},
    {"study", "table", "training"},
    {"laws", "grid", "bundled", "trainer_logs"},
    {"decide", "diagnosis", "engines"},
    {"report", "trainer_configs"},
    {"pipeline"},
    {"cli"},
)
"""From low to high. Modules outside the packages are below all layers and import no package."""

TORCH = {"torch", "transformers", "tokenizers", "safetensors", "datasets", "tensorboard"}
FITTING = {"scipy", "matplotlib"}
TRAINING_HALF = {"dcpt.text", "dcpt.training", "dcpt.grid", "dcpt.engines"}
FITTING_HALF = {"dcpt.laws", "dcpt.decide", "dcpt.diagnosis", "dcpt.report"}

NEVER_REACHED = {
    "runs": TORCH | FITTING | {"pandas"},
    "study": TORCH | FITTING | {"pandas"},
    "text": FITTING,
    "training": FITTING,
    "grid": FITTING | FITTING_HALF,
    "engines": FITTING | FITTING_HALF,
    "table": TORCH | FITTING | TRAINING_HALF,
    "bundled": TORCH | FITTING | TRAINING_HALF,
    "trainer_logs": TORCH | FITTING | TRAINING_HALF | {"wandb", "google"},
    "laws": TORCH | TRAINING_HALF,
    "diagnosis": TORCH | TRAINING_HALF,
    "decide": TORCH | TRAINING_HALF,
    "report": TORCH | TRAINING_HALF,
    "trainer_configs": TORCH | FITTING | TRAINING_HALF | {"pandas"},
    "cli.console": TORCH | TRAINING_HALF | FITTING_HALF,
    "cli.options": TORCH | TRAINING_HALF | FITTING_HALF,
    "cli.show_fit": TORCH | TRAINING_HALF,
    "cli.show_laws": TORCH | TRAINING_HALF,
    "cli.show_diagnosis": TORCH | TRAINING_HALF,
}
"""What a package or module may not import, directly or indirectly, inside functions or not."""

HEAVY = TORCH | FITTING | {"numpy", "pandas", "pyarrow"}

NEVER_LOADED = {
    "cli.entry": HEAVY | {"pydantic", "yaml", "dcpt.pipeline"},
    "grid": TORCH,
    "engines": TORCH | {"submitit", "ray"},
    "pipeline": TORCH | FITTING | {"pandas"},
}
"""What importing a package may not load; functions in it may import it."""


@dataclass(frozen=True)
class Import:
    """One import of a module.

    Attributes:
        name: The imported module, or the imported name in a module.
        kind: ``eager``, ``lazy`` (inside a function) or ``typing`` (for type checkers alone).
    """

    name: str
    kind: str


class Graph:
    """The modules of a package named ``dcpt``, and what each imports."""

    def __init__(self, root: Path) -> None:
        paths = {_module(path, root): path for path in sorted(root.rglob("*.py"))}
        self.imports = {
            name: set(_imports(ast.parse(path.read_text(encoding="utf-8")), path, root))
            for name, path in paths.items()
        }

    def module(self, name: str) -> str:
        """Return the module of dcpt that ``name`` is or is in, or else the name itself."""
        parts = name.split(".")
        found = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
        return next((module for module in found if module in self.imports), name)

    def inside(self, place: str) -> set[str]:
        """Return the modules of a package, or a single module."""
        return {name for name in self.imports if _is_in(name, {f"dcpt.{place}"})}

    def reached(self, starts: set[str], kinds: set[str]) -> set[str]:
        """Return all modules that some modules import, directly or indirectly.

        Importing a module also loads its package, but calls no function of the package.
        """
        seen = self._closure(starts, kinds)
        while (
            around := {parent for name in seen for parent in _parents(name)}
            & self.imports.keys() - seen
        ):
            seen |= self._closure(around, {"eager"})
        return seen

    def _closure(self, starts: set[str], kinds: set[str]) -> set[str]:
        seen, left = set(starts), sorted(starts)
        while left:
            found = self.imports.get(left.pop(), set())
            new = {
                self.module(imported.name) for imported in found if imported.kind in kinds
            } - seen
            seen |= new
            left += new
        return seen

    def circles(self) -> list[list[str]]:
        """Return modules that import themselves indirectly, not counting type-checker imports."""
        edges = {
            name: {self.module(imported.name) for imported in found if imported.kind != "typing"}
            - {name}
            for name, found in self.imports.items()
        }
        while leaves := [name for name, to in edges.items() if not to & edges.keys()]:
            for name in leaves:
                del edges[name]
        return [[name, *sorted(to & edges.keys())] for name, to in edges.items()]


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(["dcpt", *(part for part in parts if part != "__init__")])


def _parents(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:size]) for size in range(1, len(parts))}


def _is_in(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _imports(node: ast.AST, path: Path, root: Path, kind: str = "eager") -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, kind)
        elif isinstance(child, ast.ImportFrom):
            package = ["dcpt", *path.relative_to(root).parts[:-1]]
            above = package[: len(package) - child.level + 1] if child.level else []
            module = ".".join([*above, *([child.module] if child.module else [])])
            for alias in child.names:
                yield Import(f"{module}.{alias.name}", kind)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, path, root, "lazy" if kind == "eager" else kind)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _imports(child, path, root, "typing")
        else:
            yield from _imports(child, path, root, kind)


GRAPH = Graph(PACKAGE)
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def package_of(module: str) -> str | None:
    """Return ``laws`` for ``dcpt.laws.fits.draws``; None for a module outside the packages."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "dcpt" and parts[1] in PACKAGES else None


def layer_of(package: str | None) -> int:
    return -1 if package is None else next(i for i, layer in enumerate(LAYERS) if package in layer)


def test_every_package_has_a_layer() -> None:
    assert sorted(name for layer in LAYERS for name in layer) == PACKAGES


def test_imports_go_from_higher_layers_to_lower_ones() -> None:
    wrong = {
        f"{module} imports {target}"
        for module, found in GRAPH.imports.items()
        if module not in ("dcpt", "dcpt.__main__")
        for target in (GRAPH.module(imported.name) for imported in found)
        if (package_of(target) is not None and package_of(target) != package_of(module))
        and layer_of(package_of(target)) >= layer_of(package_of(module))
    }
    assert wrong == set()


def test_no_module_imports_itself_in_the_end() -> None:
    assert GRAPH.circles() == []


@pytest.mark.parametrize("place", NEVER_REACHED)
def test_a_package_reaches_only_what_it_may(place: str) -> None:
    assert f"dcpt.{place}" in GRAPH.imports
    reached = GRAPH.reached(GRAPH.inside(place), {"eager", "lazy"})
    assert sorted(name for name in reached if _is_in(name, NEVER_REACHED[place])) == []


@pytest.mark.parametrize("place", NEVER_LOADED)
def test_a_package_loads_only_what_it_may(place: str) -> None:
    assert f"dcpt.{place}" in GRAPH.imports
    loaded = GRAPH.reached(GRAPH.inside(place), {"eager"})
    assert sorted(name for name in loaded if _is_in(name, NEVER_LOADED[place])) == []


def test_import_dcpt_loads_nothing_but_the_standard_library() -> None:
    loaded = {name.partition(".")[0] for name in GRAPH.reached({"dcpt"}, {"eager"})}
    assert loaded - {"dcpt"} <= sys.stdlib_module_names
    assert GRAPH.reached({"dcpt"}, {"eager"}) & GRAPH.imports.keys() == {"dcpt"}


def test_no_module_needs_what_windows_lacks() -> None:
    lacking = {"fcntl", "grp", "pwd", "resource", "termios"}
    found = {
        module
        for module, imports in GRAPH.imports.items()
        if any(imported.kind == "eager" and _is_in(imported.name, lacking) for imported in imports)
    }
    assert found == set()


def test_the_formula_of_a_law_is_shown_without_the_training_half() -> None:
    code = (
        "import sys, json\n"
        "from dcpt.cli import app\n"
        "app(['laws', 'd-cpt'], standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in loaded if _is_in(name, TRAINING_HALF | {"torch"})] == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import torch.nn as nn", Import("torch.nn", "eager")),
        ("def f():\n    from dcpt.training import loop", Import("dcpt.training.loop", "lazy")),
        ("from dcpt import grid", Import("dcpt.grid", "eager")),
        ("from ..text import prepare", Import("dcpt.text.prepare", "eager")),
        ("if TYPE_CHECKING:\n    import torch", Import("torch", "typing")),
        ("try:\n    import fcntl\nexcept ImportError:\n    pass", Import("fcntl", "eager")),
        ("class A:\n    def f(self):\n        import torch", Import("torch", "lazy")),
    ],
)
def test_every_form_of_import_is_seen(tmp_path: Path, statement: str, found: Import) -> None:
    (tmp_path / "laws").mkdir()
    (tmp_path / "laws" / "x.py").write_text(statement)
    assert Graph(tmp_path).imports["dcpt.laws.x"] == {found}


def test_imports_are_followed_from_module_to_module(tmp_path: Path) -> None:
    for name, text in {
        "__init__": "",
        "a": "from dcpt.b import name",
        "b": "def f():\n    from dcpt.p.c import name",
        "p/__init__": "import yaml",
        "p/c": "if TYPE_CHECKING:\n    import torch\nimport dcpt.a, scipy.optimize",
    }.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    graph = Graph(tmp_path)
    ours = {"dcpt", "dcpt.a", "dcpt.b", "dcpt.p", "dcpt.p.c"}
    assert graph.reached({"dcpt.a"}, {"eager", "lazy"}) == ours | {"scipy.optimize", "yaml"}
    assert graph.reached({"dcpt.a"}, {"eager"}) == {"dcpt", "dcpt.a", "dcpt.b"}
    assert graph.circles() == [
        ["dcpt.a", "dcpt.b"],
        ["dcpt.b", "dcpt.p.c"],
        ["dcpt.p.c", "dcpt.a"],
    ]
