"""Trainers read what is exported for them, sample its shares, and resume into its second stage.

``experiments/exporters/check.py FOLDER`` makes an environment for each; ``DCPT_TRAINERS=FOLDER``
lets these tests use them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPORTERS = Path(__file__).parents[2] / "experiments" / "exporters"
TRAINERS = sorted(file.stem for file in EXPORTERS.glob("requirements/*.txt"))
STAGED = sorted(
    file.stem.removeprefix("stages_").replace("_", "-") for file in EXPORTERS.glob("stages_*.py")
)


def run_script(name: str, trainer: str) -> subprocess.CompletedProcess[str]:
    folder = Path(os.environ.get("DCPT_TRAINERS", "no folder given"))
    if not (folder / trainer / "environment" / "complete").exists():
        pytest.skip(f"no environment of {trainer} in {folder}: set DCPT_TRAINERS, see check.py")
    return subprocess.run(
        [sys.executable, EXPORTERS / name, folder, "--only", trainer],
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_samples_the_exported_shares(trainer: str) -> None:
    """Within 0.5 percentage points over 1,000 steps, five seeds."""
    done = run_script("check.py", trainer)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", STAGED)
def test_two_stages_are_one_schedule(trainer: str) -> None:
    done = run_script("stages.py", trainer)
    assert done.returncode == 0, done.stderr[-2000:]
