from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app, main
from dcpt.errors import InputError
from dcpt.processes import STOP_SIGNALS
from dcpt.table import write_runs

COMMANDS = [
    "cancel",
    "compare",
    "demo",
    "diagnose",
    "evaluate",
    "export",
    "fit",
    "import",
    "init",
    "laws",
    "logs",
    "next-runs",
    "predict",
    "prepare",
    "push",
    "recommend",
    "refine",
    "report",
    "run-grid",
    "runs",
    "size",
    "status",
    "train-run",
    "verify",
    "watch",
]


def dcpt(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from dcpt.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def test_the_commands_are_these() -> None:
    assert sorted(info.name or info.callback.__name__ for info in app.registered_commands) == (
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: dcpt {command}" in result.stdout
    assert CliRunner().invoke(app, [command, "-h"]).stdout == result.stdout


def test_every_command_prints_json() -> None:
    without = [name for name in COMMANDS if "--json" not in _help(name)]
    assert without == []


def test_the_list_of_commands_cuts_no_summary() -> None:
    output = _help()
    assert "..." not in output.partition("Commands:")[2]
    assert "--install-completion" in output


def _help(*command: str) -> str:
    return CliRunner().invoke(app, [*command, "-h"]).stdout


def test_the_version_is_shown() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"dcpt {version('dcpt')}\n"


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (("prepare", "absent.yaml"), "dcpt init absent.yaml"),
        (("fit", "absent.csv"), "absent.csv does not exist"),
        (("runs", "absent.csv", "--column", "n_params"), "write it as n_params=N"),
        (
            ("recommend", "nothing", "--n-params", "7 apples"),
            "--n-params: '7 apples' is not a count",
        ),
        (("recommend", "nothing", "--base-loss", "general"), "write it as general=2.775"),
        (("recommend", "nothing"), "give --n-params"),
        (("recommend", "nothing", "--confidence", "90"), "--confidence 90: a share lies between 0"),
        (("laws", "d-ctp"), "did you mean 'd-cpt'?"),
        (("compare", "absent.csv"), "absent.csv does not exist"),
        (("predict", "nothing", "--law", "mine"), "law mine is not known"),
        (("demo", "--domain", "poetry"), "choose one of icd, pronunciations"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_code_2(
    tmp_path: Path, words: tuple[str, ...], output: str
) -> None:
    result = dcpt(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert output in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_init_writes_a_study_once(tmp_path: Path) -> None:
    assert json.loads(dcpt("init", "mine.yaml", "--json", cwd=tmp_path).stdout) == {
        "file": "mine.yaml"
    }
    assert "dcpt prepare mine.yaml" in (tmp_path / "mine.yaml").read_text()
    again = dcpt("init", "mine.yaml", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_fit_of_one_law_prints_the_contract(tmp_path: Path) -> None:
    runs = bundled_runs("code").query("size == '6.6M' and learning_rate == 0.0006")
    write_runs(runs, tmp_path / "runs.csv")
    words = ("fit", tmp_path / "runs.csv", "--law", "d-cpt", "--channel", "domain", "--json")
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    (fit,) = json.loads(result.stdout)["fits"]
    assert {"channel", "law", "objective", "parameters", "flags", "n_points", "held_out"} <= (
        fit.keys()
    )
    assert (fit["channel"], fit["law"]) == ("domain", "d-cpt")
    assert fit["objective"] > 0


def test_a_bundled_demo_recommends_without_training(tmp_path: Path) -> None:
    result = dcpt("demo", "--bundled", "--json", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["target"]["n_params"] == 29_100_000
    assert 0.4 < answer["best"]["ratio"] < 0.7
    assert 3e-4 < answer["best"]["learning_rate"] < 2e-3
    assert (tmp_path / "bundled" / "report" / "report.html").exists()


def test_fitting_never_imports_torch(tmp_path: Path) -> None:
    write_runs(bundled_runs("code"), tmp_path / "runs.csv")
    code = (
        "import sys\nfrom dcpt.cli import app\n"
        "app(['fit', 'runs.csv', '--draws', '20'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert result.returncode == 0, result.stderr


def test_a_recommendation_of_another_fit_is_not_reported(tmp_path: Path) -> None:
    for name in ("zh_annealed", "code"):
        write_runs(bundled_runs(name), tmp_path / f"{name}.csv")
    target = ("--n-params", "29.1M", "--n-tokens", "44M", "--limit", "+3%")
    base = ("--base-loss", "general=2.775", "--base-peak-learning-rate", "1e-3")
    runner = CliRunner()
    for words in (
        ("fit", tmp_path / "zh_annealed.csv", "--out", tmp_path / "fit", "--draws", "20"),
        ("recommend", tmp_path / "fit", *target, *base),
        ("report", tmp_path / "fit", "--json"),
        ("fit", tmp_path / "code.csv", "--out", tmp_path / "fit", "--draws", "20"),
    ):
        result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        if "report" in words:
            assert all(Path(file).is_file() for file in json.loads(result.stdout)["files"])
    with pytest.raises(InputError, match="made from another fit"):
        runner.invoke(app, ["report", str(tmp_path / "fit")], catch_exceptions=False)


def test_predict_takes_the_base_s_own_loss(tmp_path: Path) -> None:
    write_runs(bundled_runs("zh_annealed"), tmp_path / "runs.csv")
    words = ("fit", tmp_path / "runs.csv", "--out", tmp_path / "fit", "--draws", "20")
    CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    words = ("predict", tmp_path / "fit", "--n-params", "6.6M", "--n-tokens", "44M", "--ratio")
    words += ("0.5", "--learning-rate", "9e-4", "--base-peak-learning-rate", "2e-3", "--json")
    losses = {}
    for own in (3.0, 3.1):
        call = [*map(str, words), "--base-loss", f"general={own}"]
        found = json.loads(CliRunner().invoke(app, call, catch_exceptions=False).stdout)
        losses[own] = {row["channel"]: row["loss"] for row in found["predictions"]}
    rise = losses[3.0]["general"] - 3.0
    assert 0.02 < rise < 0.12  # measured at 6.6M in the table: .061
    assert losses[3.1]["general"] - losses[3.0]["general"] == pytest.approx(0.1, abs=0.02)


def test_the_handlers_of_signals_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    monkeypatch.setattr(sys, "argv", ["dcpt", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
