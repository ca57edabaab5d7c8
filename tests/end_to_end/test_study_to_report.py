"""The whole path through the command line, as a person would go it, on a tiny study."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from dcpt.cli import app


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_text_to_a_verified_recommendation(tiny_study: Path) -> None:
    folder = tiny_study.parent
    call("prepare", tiny_study, "--workers", "1")
    call("run-grid", tiny_study, "--workers", "2")
    call("fit", tiny_study, "--draws", "40")
    answer = json.loads(call("recommend", tiny_study, "--json"))
    assert answer["phase"] == "annealed"
    assert 0 < answer["best"]["ratio"] <= 0.97
    low, high = (answer["ratio_interval"][end] for end in ("low", "high"))
    assert 0 <= low <= high <= 0.97

    checked = json.loads(call("verify", tiny_study, "--workers", "2", "--json"))
    assert len(checked["runs"]) == 3
    for run in checked["runs"]:
        assert run["measured"].keys() == {"general", "domain"}

    call("report", tiny_study)
    page = (folder / "fit" / "report" / "report.html").read_text(encoding="utf-8")
    assert "Verification" in page or "verification" in page

    statuses = json.loads(call("status", tiny_study, "--json"))
    assert {status["state"] for status in statuses} == {"done"}

    call("runs", tiny_study, "--out", folder / "runs.csv")
    table = pd.read_csv(folder / "runs.csv")
    verifying = table[table["excluded"].notna()]
    assert set(verifying["size"]) == {"big"}  # what verifies is in the table and in no fit
    fits = json.loads(call("fit", folder / "runs.csv", "--draws", "40", "--json"))["fits"]
    assert {one["channel"] for one in fits} == {"general", "domain"}

    row = json.loads(
        call(
            "evaluate",
            next(folder.glob("runs/pretrain-big-*")) / "model",
            "--study",
            tiny_study,
            "--label",
            "big",
            "--json",
        )
    )
    bases = [r for r in table.itertuples() if r.size == "big" and r.phase == "base"]
    assert row["loss"]["en"] == pytest.approx(bases[0].loss_general, rel=1e-6)
