"""An environment for each trainer, in which it reads what is exported for it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path
from sysconfig import get_paths
from typing import Any

from corpora import MEANS, draw_lengths

from dcpt.trainer_configs import DocumentLengths, Recipe, Source, find_trainer

HERE = Path(__file__).parent


def read_arguments(about: str, trainers: Sequence[str], page: str) -> argparse.Namespace:
    """The arguments of a script: its folder, the trainers to run, and whether to write its page."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", choices=trainers)
    parser.add_argument("--page", action="store_true", help=f"Write {page}.")
    return parser.parse_args()


def describe_corpora(folder: Path, suffix: str) -> dict[str, Source]:
    """The two corpora as sources of a recipe, of files with this suffix in a folder."""
    sources = {}
    for name in MEANS:
        lengths = draw_lengths(name)
        sources[name] = Source(
            name,
            "domain" if name == "law" else "general",
            path=str(folder / f"{name}{suffix}"),
            lengths=DocumentLengths(float(lengths.mean()), float(lengths.std()), len(lengths)),
            unique_tokens=float(lengths.sum()),
        )
    return sources


def make_environment(trainer: str, folder: Path) -> Path:
    """Make a trainer's environment if it is not there; returns its Python."""
    place = folder / trainer / "environment"
    python, pinned = place / "bin" / "python", HERE / "requirements" / f"{trainer}.txt"
    if not (place / "complete").exists():
        venv.create(place, with_pip=True, clear=True)
        own = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
        )
        # Behind its own packages, so that its versions win.
        Path(own.strip(), "shared.pth").write_text(get_paths()["purelib"] + "\n")
        subprocess.check_call(
            [python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", pinned]
        )
        (place / "complete").touch()
    return python


def run_export(
    trainer: str, recipe: Recipe, python: Path, work: Path, question: str
) -> dict[str, Any]:
    """Export a recipe for a trainer, and run the script that asks it a question.

    Args:
        trainer: Its name.
        recipe: What is exported.
        python: The Python of its environment.
        work: Folder of the files that are exported, in which the script runs.
        question: ``check`` or ``stages``, the start of the script's name.

    Returns:
        The JSON in the last line that the script prints.

    Raises:
        SystemExit: If the script fails.
    """
    for name, text in find_trainer(trainer).write(recipe).items():
        (work / name).write_text(text, encoding="utf-8")
    script = HERE / f"{question}_{trainer.replace('-', '_')}.py"
    own = {"HF_HOME": str(work / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE)}
    own |= {"MODELSCOPE_CACHE": str(work / "hub"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [python, "-P", script], cwd=work, env=os.environ | own, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{trainer}: {script.name} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
