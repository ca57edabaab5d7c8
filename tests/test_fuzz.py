"""A small part of ``experiments/fuzz.py``: the first cases of its parts, with their seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="cases are forked processes")

FUZZ = Path(__file__).parents[1] / "experiments" / "fuzz.py"
COUNTS = {"tables": 150, "studies": 150, "arguments": 60, "files": 40}
FAULTS = {
    "silent",
    "unnamed",
    "unescaped",
    "user file changed",
    "traceback",
    "hang",
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The outcome of every case. A new process forks the cases: this process has threads."""
    out = tmp_path_factory.mktemp("fuzzed")
    words = ["--only", *(f"{part}={count}" for part, count in COUNTS.items())]
    command = [sys.executable, str(FUZZ), *words, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=os.environ)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("part", COUNTS)
def test_no_case_ends_in_a_fault(part: str, records: list[dict[str, Any]]) -> None:
    cases = [record for record in records if record["case"].startswith(f"{part}:")]
    assert len(cases) == COUNTS[part]
    faults = [
        f"{case['case']} {case['kind']}: {case['about']}\n    {case['words'][-300:]}"
        for case in cases
        if case["kind"] in FAULTS
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("part", COUNTS)
def test_the_cases_are_of_more_than_one_kind(part: str, records: list[dict[str, Any]]) -> None:
    """Mutations that never, or always, make the input invalid would test nothing."""
    kinds = {record["kind"] for record in records if record["case"].startswith(f"{part}:")}
    assert {"equal", "named"} <= kinds
