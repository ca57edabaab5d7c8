"""Logs of other trainers, read into the runs table with a mapping that a person completes."""

from __future__ import annotations

from dcpt.trainer_logs.draft import draft_mapping
from dcpt.trainer_logs.find import read_logs
from dcpt.trainer_logs.mapping import Mapping, read_mapping
from dcpt.trainer_logs.rows import import_runs

__all__ = ["Mapping", "draft_mapping", "import_runs", "read_logs", "read_mapping"]
