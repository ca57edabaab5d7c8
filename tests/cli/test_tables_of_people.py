"""Tables in the forms in which people have them: read, refused once, or questioned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.errors import InputError

SIZES, SHARES, TOKENS = (70e6, 300e6, 1e9), (0.1, 0.3, 0.5, 0.7, 0.9), (0, 1e9, 2e9, 4e9, 8e9)
LAW = ("--law", "data-mixing", "--draws", 20)


def make_runs(sizes: tuple[float, ...] = SIZES, shares: tuple[float, ...] = SHARES) -> pd.DataFrame:
    """Runs of some sizes and shares at one rate, with losses that follow a known form."""
    rng = np.random.default_rng(0)
    rows = []
    for size in sizes:
        base = 1.5 + (size / 1e8) ** -0.2
        for share in shares:
            for tokens in TOKENS:
                learnt = np.log1p(tokens / 1e9)
                rows.append(
                    {
                        "run": f"{size:g}-{share}",
                        "n_params": int(size),
                        "ratio": share,
                        "learning_rate": 3e-4,
                        "phase": "base" if tokens == 0 else "constant",
                        "n_tokens": int(tokens),
                        "loss_general": base + 0.03 * share**1.5 * learnt,
                        "loss_domain": base + 1 - 0.2 * share**0.4 * learnt,
                    }
                )
    runs = pd.DataFrame(rows)
    noise = rng.normal(0, 0.002, (len(runs), 2)) * (runs[["n_tokens"]].to_numpy() > 0)
    runs[["loss_general", "loss_domain"]] += noise
    return runs


def call(*words: object, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.stdout


def call_json(*words: object, exit_code: int = 0) -> Any:
    return json.loads(call(*words, "--json", exit_code=exit_code))


def kinds(record: Any) -> set[str]:
    return {flag["kind"] for flag in record["flags"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.csv"


def test_an_export_with_a_column_per_run_is_refused_as_wide(file: Path) -> None:
    wide = make_runs(SIZES[:1]).pivot(index="n_tokens", columns="run", values="loss_domain")
    wide.add_suffix(" - eval/loss").reset_index().to_csv(file, index=False)
    with pytest.raises(InputError, match="the table is wide, a column per run") as caught:
        call("runs", file, "--column", "loss_domain=7e+07-0.1 - eval/loss")
    assert "make it long" in str(caught.value)


def test_names_with_slashes_and_blanks_are_mapped(file: Path) -> None:
    names = {"run": "Run Name", "loss_domain": "eval/domain loss"}
    make_runs().rename(columns=names).to_csv(file, index=False)
    mapped = [f"--column={name}={source}" for name, source in names.items()]
    assert call_json("runs", file, *mapped)["channels"] == ["general", "domain"]


def test_a_channel_measured_half_as_often_is_fitted_on_its_own_points(file: Path) -> None:
    runs = make_runs()
    runs.loc[runs["n_tokens"].isin([1e9, 4e9]), "loss_domain"] = np.nan
    runs.to_csv(file, index=False)
    fitted = call_json("fit", file, *LAW, "--out", file.parent / "fit")["fits"]
    assert {law["channel"]: law["n_points"] for law in fitted} == {"general": 60, "domain": 30}


def test_perplexities_below_twenty_are_questioned_by_runs_and_by_fit(file: Path) -> None:
    runs = make_runs()
    runs["loss_general"] = np.exp(runs["loss_general"])
    runs.to_csv(file, index=False)
    assert "If it is a perplexity, take its natural logarithm" in call("runs", file)
    assert "loss_unit" in kinds(call_json("fit", file, *LAW, "--out", file.parent / "fit"))


@pytest.mark.parametrize(
    ("scale", "batch", "words"),
    [
        (1e-9, None, "if it is in millions or billions"),
        (1 / 524_288, 524_288, "if it counts steps, multiply it by batch_tokens"),
    ],
)
def test_tokens_in_another_unit_are_refused(
    file: Path, scale: float, batch: int | None, words: str
) -> None:
    runs = make_runs()
    runs["n_tokens"] = (runs["n_tokens"] * scale).astype(int)
    runs = runs if batch is None else runs.assign(batch_tokens=batch)
    runs.to_csv(file, index=False)
    with pytest.raises(InputError, match=words):
        call("runs", file)


@pytest.mark.parametrize(
    "how",
    [
        {"sep": ";", "decimal": ","},
        {"sep": "\t"},
        {"encoding": "utf-8-sig", "lineterminator": "\r\n"},
        {"float_format": "%.17E"},
    ],
)
def test_csv_files_of_other_countries_and_programs_are_read_alike(
    file: Path, how: dict[str, str]
) -> None:
    runs = make_runs(SIZES[:1], SHARES[:2])
    runs.to_csv(file, index=False)
    plain = call_json("runs", file)
    runs.to_csv(file, index=False, **how)
    assert call_json("runs", file) == plain


@pytest.mark.parametrize("written", ["NaN", "inf", "None", "-", "N/A"])
def test_a_diverged_run_that_is_excluded_may_hold_anything(file: Path, written: str) -> None:
    runs = make_runs().astype({"loss_general": object, "loss_domain": object}).assign(excluded="")
    rows = (runs["run"] == "3e+08-0.5") & (runs["n_tokens"] >= 4e9)
    runs.loc[rows, ["loss_general", "loss_domain", "excluded"]] = [written, written, "diverged"]
    runs.to_csv(file, index=False)
    assert call_json("runs", file)["excluded_for"] == {"diverged": 2}


def test_a_table_with_non_embedding_parameters_alone_has_sizes(file: Path) -> None:
    runs = make_runs().rename(columns={"n_params": "n_params_non_embedding"})
    runs.to_csv(file, index=False)
    found = call_json("fit", file, *LAW, "--out", file.parent / "fit")
    assert found["size_column"] == "n_params_non_embedding"
    assert "no_sizes" not in kinds(found)


def test_a_run_with_wrong_losses_is_named_with_the_answer_without_it(file: Path) -> None:
    runs = make_runs()
    rows = (runs["run"] == "3e+08-0.5") & (runs["n_tokens"] > 0)
    runs.loc[rows, ["loss_general", "loss_domain"]] += [0.25, 0.4]
    runs.to_csv(file, index=False)
    words = ("--n-params", "1B", "--n-tokens", "8B", "--limit", "+1%")
    call("fit", file, *LAW, "--out", file.parent / "fit")
    answer = call_json("recommend", file.parent / "fit", *words, "--base-loss", "general=2.131")
    (flag,) = (flag for flag in answer["flags"] if flag["kind"] == "one_run_off")
    assert flag["subject"] == {"run": "3e+08-0.5"}
    assert "Without it the answer would be a share of" in flag["sentence"]


def test_a_swarm_of_mixtures_at_one_size_and_length_carries_laws_of_the_share(file: Path) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 40)[:, 0]
    losses = 3.5 - 0.8 * np.log1p(5 * shares)
    runs = {"run": range(40), "n_tokens": 10**9, "ratio": shares, "loss_domain": losses}
    pd.DataFrame(runs).to_csv(file, index=False)
    able = call_json("laws", file)["channels"]["domain"]
    assert {name for name, reason in able.items() if reason is None} >= {"data-mixing", "d-cpt"}
    found = call_json("fit", file, *LAW, "--out", file.parent / "fit")
    assert {"no_sizes", "one_length"} <= kinds(found)


def test_channels_none_of_which_is_the_domain_are_named(file: Path) -> None:
    names = {"loss_general": "loss_en", "loss_domain": "loss_med"}
    runs = make_runs().rename(columns=names)
    runs["run"] = "实验 " + runs["run"].str.replace("-", ", ")
    runs.to_csv(file, index=False)
    found = call_json("fit", file, *LAW, "--out", file.parent / "fit")
    (flag,) = (flag for flag in found["flags"] if flag["kind"] == "no_domain")
    assert flag["sentence"].startswith("No channel is named domain, so en and med were all fitted")
    mapped = ("--column", "loss_general=loss_en", "--column", "loss_domain=loss_med")
    again = call_json("fit", file, *LAW, *mapped, "--out", file.parent / "fit2")
    assert "no_domain" not in kinds(again)


def test_logs_of_trainers_are_refused_with_what_a_table_needs(tmp_path: Path) -> None:
    for name in ("trainer_state.json", "trainer_log.jsonl"):
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"a row per evaluation \(run, n_tokens"):
            call("runs", tmp_path / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of healthy runs."""
    place = tmp_path_factory.mktemp("healthy")
    make_runs().to_csv(place / "runs.csv", index=False)
    call("fit", place / "runs.csv", *LAW, "--out", place / "fit")
    return place / "fit"


@pytest.mark.parametrize(
    ("size", "tokens", "limit", "loss", "words"),
    [
        ("1000M", "8B", "3", "2.131", "limit"),
        ("30", "8B", "+3%", "2.131", "30"),
        ("1B", "8B", "1.03", "2.131", "limit"),
        ("1B", "8B", "+3%", "23.4", "23.4"),
    ],
)
def test_a_target_in_the_wrong_unit_is_refused(
    folder: Path, size: str, tokens: str, limit: str, loss: str, words: str
) -> None:
    asked = ("--n-params", size, "--n-tokens", tokens, "--limit", limit)
    with pytest.raises(InputError, match=words):
        call("recommend", folder, *asked, "--base-loss", f"general={loss}")


@pytest.mark.parametrize(
    ("loss", "guess"),
    [(2.131, None), (2.131 / np.log(2), "bits per token"), (np.exp(2.131), "a perplexity")],
)
def test_a_base_loss_that_contradicts_the_runs_is_questioned(
    folder: Path, loss: float, guess: str | None
) -> None:
    asked = ("--n-params", "1B", "--n-tokens", "8B", "--limit", "+3%")
    answer = call_json("recommend", folder, *asked, "--base-loss", f"general={loss:.4f}")
    found = [f for f in answer["flags"] if f["kind"] == "base_loss_contradicts_runs"]
    assert bool(found) == (guess is not None)
    if guess is not None:
        assert f"it looks like {guess}" in found[0]["sentence"]
        assert answer["evidence"]["level"] == "not enough evidence"


def test_a_target_of_a_few_tokens_has_not_enough_evidence(folder: Path) -> None:
    asked = ("--n-params", "1B", "--n-tokens", "32", "--limit", "+3%")
    answer = call_json("recommend", folder, *asked, "--base-loss", "general=2.131", exit_code=2)
    reasons = answer["evidence"]["reasons"]
    assert answer["evidence"]["level"] == "not enough evidence"
    assert any(reason["subject"] == {"axis": "n_tokens"} for reason in reasons)
