"""``--limit`` as people write it, and the exit code where there is no answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.cli.options import read_limits, read_mix, read_share
from dcpt.errors import InputError
from dcpt.limit import Limit
from dcpt.pipeline.answer import fit_runs


@pytest.fixture(scope="module")
def fit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    laws = ["saturating-general", "plateau-domain"]
    fit_runs(bundled_runs("zh_annealed"), folder, law=laws, n_draws=20)
    return folder


def recommend(folder: Path, *words: str) -> Result:
    target = ["--n-params", "29.1M", "--n-tokens", "44M", "--base-loss", "general=2.775"]
    target += ["--base-peak-learning-rate", "1e-3"]
    return CliRunner().invoke(
        app, ["recommend", str(folder), *target, *words], catch_exceptions=False
    )


def test_without_a_limit_the_largest_share_is_recommended(fit_folder: Path) -> None:
    result = recommend(fit_folder, "--limit", "none", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["target"]["limit"] is None
    assert answer["best"]["ratio"] == 0.97  # runs at a share of 1 exist; no law holds above 0.97
    assert "no_limit" in {flag["kind"] for flag in answer["flags"]}


def test_no_answer_has_an_exit_code_of_its_own(fit_folder: Path) -> None:
    result = recommend(fit_folder, "--limit=-90%")
    assert result.exit_code == 2
    assert "No share of domain text" in result.stdout.replace("\n", " ")
    assert recommend(fit_folder, "--limit", "+90%").exit_code == 0


def test_losses_over_the_tokens_at_each_share(fit_folder: Path) -> None:
    words = ["predict", str(fit_folder), "--n-params", "6.6M", "--learning-rate", "9e-4"]
    words += ["--base-loss", "general=2.98", "--base-peak-learning-rate", "2e-3", "--json"]
    words += ["--n-tokens", "11M", "--n-tokens", "44M", "--ratio", "0.3", "--ratio", "0.6"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    rows = json.loads(result.stdout)["predictions"]
    found = {(row["channel"], row["n_tokens"], row["ratio"]): row["loss"] for row in rows}
    assert len(found) == 8
    for ratio in (0.3, 0.6):
        assert found["domain", 44e6, ratio] < found["domain", 11e6, ratio]


def test_limits_are_read_by_channel() -> None:
    assert read_limits(None) == {}
    assert read_limits(["+3%"]) == {"limit": "+3%", "channel_limits": {}}
    found = read_limits(["web=3%", "code=+0.01"])
    assert found["limit"] == "none"
    assert found["channel_limits"] == {"web": Limit(3, "percent"), "code": Limit(0.01, "nats")}
    assert read_limits(["+3%", "code=1%"])["limit"] == "+3%"


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["+3%", "+2%"], r"\+3% and \+2%: give one limit for all channels"),
        (["none", "web=3%"], "none contradicts the limits on web"),
        (["web=3%", "web=2%"], "names web twice"),
        (["web=some"], "limit 'some' is not understood"),
    ],
)
def test_limits_that_contradict_each_other(texts: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_limits(texts)


def test_a_part_of_the_mix_may_be_zero() -> None:
    assert read_mix(["web=100%", "code=0%"]) == {"web": 1.0, "code": 0.0}
    with pytest.raises(InputError, match="--mix code -5%: a share lies between 0 and 1"):
        read_mix(["code=-5%"])
    with pytest.raises(InputError, match="--confidence 0: a share lies between 0 and 1"):
        read_share("--confidence", "0")
