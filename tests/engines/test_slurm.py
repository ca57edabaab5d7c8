"""The Slurm engine on a real Slurm (``../shared/slurm`` starts one on a single machine)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conformance import EngineConformance

from dcpt.engines.choose import open_engine
from dcpt.engines.engine import Engine, Tick
from dcpt.engines.slurm import engine as slurm_engine
from dcpt.study.engine import EngineSection
from dcpt.study.folder import StudyFolder


def has_slurm() -> bool:
    """Whether a Slurm answers here."""
    asked = ["sinfo", "--noheader"]
    return bool(shutil.which("sbatch")) and subprocess.run(asked, check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_slurm(), reason="no Slurm answers on this machine"),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_engine, "_POLL_S", 1.0)
    # A job finds dcpt and the tests as this process does.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), str(Path.cwd() / "tests")]))


def open_slurm(study: Path, on_tick: Tick | None = None, **settings: object) -> Engine:
    section = EngineSection.model_validate({"kind": "slurm", "slurm": settings})
    return open_engine(section, StudyFolder(study), [], on_tick)


class TestSlurm(EngineConformance):
    def open(self, study: Path, on_tick: Tick | None = None) -> Engine:
        return open_slurm(study, on_tick)
