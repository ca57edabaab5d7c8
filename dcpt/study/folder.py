"""The folders of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcpt.atomic_files import DamagedFileError, read_json
from dcpt.own_folders import is_marked


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study: its file, ``prepared`` and ``runs``."""

    file: Path

    @property
    def path(self) -> Path:
        """The folder of the study file; paths inside the study are relative to it."""
        return self.file.parent

    @property
    def prepared(self) -> Path:
        """Prepared text: ``prepared``, or ``data`` if an older version of dcpt wrote it there."""
        new, old = self.path / "prepared", self.path / "data"
        return new if is_marked(new) or _is_prepared(new) or not _is_prepared(old) else old

    @property
    def runs(self) -> Path:
        """Run folders."""
        return self.path / "runs"


def _is_prepared(folder: Path) -> bool:
    """Whether a folder holds ``prepared.json``, which ``dcpt prepare`` writes last."""
    try:
        record = read_json(folder / "prepared.json")
    except (DamagedFileError, OSError):
        return False
    return isinstance(record, dict) and record.keys() >= {"channels", "tokenizer_name"}
