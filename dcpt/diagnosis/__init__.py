"""Diagnosis of the text, the training and the plan from the channel losses of runs."""

from __future__ import annotations

from dcpt.diagnosis.findings import diagnose
from dcpt.diagnosis.journals import Journal, read_journals
from dcpt.diagnosis.records import KINDS, VERDICTS, Diagnosis, DomainStart, Finding

__all__ = [
    "KINDS",
    "VERDICTS",
    "Diagnosis",
    "DomainStart",
    "Finding",
    "Journal",
    "diagnose",
    "read_journals",
]
