"""Trainers read what is exported for them, and sample its shares, each in its own environment.

``experiments/exporters/check.py FOLDER`` makes the environments; ``DCPT_TRAINERS=FOLDER`` lets
these tests use them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "experiments" / "exporters" / "check.py"
TRAINERS = sorted(file.stem for file in CHECK.parent.glob("requirements/*.txt"))


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_samples_the_exported_shares(trainer: str) -> None:
    """Within 0.5 percentage points over 1,000 steps, five seeds."""
    folder = Path(os.environ.get("DCPT_TRAINERS", "no folder given"))
    if not (folder / trainer / "environment" / "complete").exists():
        pytest.skip(f"no environment of {trainer} in {folder}: set DCPT_TRAINERS, see {CHECK.name}")
    done = subprocess.run(
        [sys.executable, CHECK, folder, "--only", trainer], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
