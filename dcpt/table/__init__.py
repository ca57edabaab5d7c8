"""The runs table, which laws are fitted to: read, check, describe and write it.

One row per point, in wide format; the key is (run, phase, n_tokens, branch_n_tokens).
"""

from __future__ import annotations

from dcpt.table.channels import DOMAIN, GENERAL_TOTAL, channels, describe, general_channels
from dcpt.table.checks import check_runs
from dcpt.table.columns import COLUMNS, PHASES, Column, known_column
from dcpt.table.files import load_runs, write_runs

__all__ = [
    "COLUMNS",
    "DOMAIN",
    "GENERAL_TOTAL",
    "PHASES",
    "Column",
    "channels",
    "check_runs",
    "describe",
    "general_channels",
    "known_column",
    "load_runs",
    "write_runs",
]
