"""``import dcpt`` is light, and its names are loaded on first use."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dcpt


def fresh(code: str) -> Any:
    """Run code in a new interpreter and return its last line, parsed as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_import_dcpt_is_light() -> None:
    loaded = fresh("import dcpt, sys, json; print(json.dumps(sorted(sys.modules)))")
    heavy = {"torch", "transformers", "pandas", "scipy", "numpy", "matplotlib", "pydantic"}
    assert heavy.isdisjoint(loaded)


def test_import_dcpt_takes_well_under_50_ms() -> None:
    code = (
        "import time, json; start = time.process_time(); import dcpt; "
        "print(json.dumps(time.process_time() - start))"
    )
    assert min(fresh(code) for _ in range(3)) < 0.05


def test_loading_runs_needs_no_torch() -> None:
    loaded = fresh(
        "import dcpt, sys, json; dcpt.bundled_runs('code'); print(json.dumps(sorted(sys.modules)))"
    )
    assert {"torch", "transformers", "scipy", "matplotlib"}.isdisjoint(loaded)


@pytest.mark.parametrize("name", dcpt.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(dcpt, name) is not None
    assert name in dir(dcpt)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = dcpt.fitt  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(dcpt.__file__).read_text(encoding="utf-8"))
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name: node.module
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*seen, "__version__"} == set(dcpt.__all__)
    for name, home in seen.items():
        assert home is not None
        assert getattr(importlib.import_module(home), name) is getattr(dcpt, name)


def test_a_frame_that_no_door_has_seen_is_checked_by_fit() -> None:
    runs = dcpt.bundled_runs("code")
    with pytest.raises(dcpt.InputError, match="ratio"):
        dcpt.fit(runs.assign(ratio=runs["ratio"] * 100))


def test_a_target_takes_its_limit_as_people_write_it() -> None:
    target = dcpt.Target(1e9, 1e10, "+3%", {"general": 2.0})
    assert target.limit == dcpt.Limit.parse("+3%")
