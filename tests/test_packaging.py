"""Build and installation: the files of the wheel, and the package below a clone called dcpt."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import dcpt

PACKAGE = Path(dcpt.__file__).parent
ROOT = PACKAGE.parent


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    files = {path for path in PACKAGE.rglob("*") if path.is_file()}
    wanted = {
        path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(built) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted
    for name in (
        "py.typed",
        "study_template.yaml",
        "bundled/code.csv",
        "report/templates/style.css",
    ):
        assert f"dcpt/{name}" in held


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_built_installs_and_runs_outside_the_checkout(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    built = build(kind, tmp_path)
    site = tmp_path / "site"
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", *install, str(built)], check=True)
    code = "import dcpt; print(dcpt.__file__); print(len(dcpt.bundled_runs('zh_annealed')))"
    printed = run_python(["-P", "-c", code], site, tmp_path)
    assert printed.split() == [str(site / "dcpt" / "__init__.py"), "800"]


def run_python(arguments: list[str], path: Path, folder: Path) -> str:
    """What Python prints with a folder on its path, run in another folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def build(kind: str, folder: Path) -> Path:
    """Build the package. `pip install` builds a wheel from a source distribution."""
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(ROOT)) if kind == "wheel" else SdistBuilder(str(ROOT))
    return Path(next(iter(builder.build(directory=str(folder), versions=["standard"]))))


def test_an_editable_install_is_the_root_on_the_path() -> None:
    """The finder of setuptools would lose to a clone called dcpt next to a script."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["build-system"]["build-backend"] == "hatchling.build"
    assert project["tool"]["hatch"]["build"]["dev-mode-dirs"] == ["."]


def test_a_script_next_to_a_clone_called_dcpt_imports_the_package(tmp_path: Path) -> None:
    clone = tmp_path / "dcpt"
    clone.symlink_to(ROOT)
    script = tmp_path / "script.py"
    script.write_text("import dcpt\nprint(dcpt.__file__, dcpt.InputError.__name__)\n")
    printed = run_python([str(script)], clone, tmp_path)
    assert printed.split() == [str(clone / "dcpt" / "__init__.py"), "InputError"]
