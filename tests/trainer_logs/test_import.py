"""Logs of every format become the same runs table; what the logs do not tell is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import write_logs
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.table import load_runs
from dcpt.table.schedules import load_schedules
from dcpt.trainer_logs import import_runs, read_logs, read_mapping

COMPLETED = {
    "per_step: ???": "per_step: 4096",
    "n_params: ???": "n_params: 2M",
    "phase: ???": "phase: constant",
    "learning_rate: ???": "learning_rate: 3e-4",
    "n_tokens: ???": "n_tokens: 1_638_400",
    "loss_unit: ???": "loss_unit: nats",
    "ratio: ???": "ratio: [code, math]",
}
"""What a person writes into the drafts."""

LOSSES = {
    "factory": "  domain: eval_loss",
    "torchtitan": "  domain: validation_metrics/loss",
    "megatron": "  general: lm loss validation-0\n  domain: lm loss validation-1",
    "olmix": "  general: general\n  domain: domain",
}
"""The section losses where the names of metrics do not tell the channels."""


def complete(mapping: Path, kind: str = "") -> None:
    text = mapping.read_text()
    for left, right in COMPLETED.items():
        text = text.replace(left, right)
    if kind in LOSSES:
        before, _, after = text.partition("losses:\n")
        rest = after[after.index("# The unit") :]
        text = f"{before}losses:\n{LOSSES[kind]}\n{rest}"
    mapping.write_text(text)


def dcpt_import(*words: object) -> str:
    result = CliRunner().invoke(app, ["import", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refuse(*words: object) -> list[str]:
    with pytest.raises(InputError) as raised:
        CliRunner().invoke(app, ["import", *map(str, words)], catch_exceptions=False)
    return raised.value.problems


@pytest.fixture(autouse=True)
def in_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of ``--out`` is a file in the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    """A completed mapping of ``hf/``, which holds the logs of two runs."""
    write_logs.WRITERS["hf"](tmp_path / "hf")
    path = tmp_path / "mapping.yaml"
    dcpt_import(tmp_path / "hf", "--mapping", path)
    complete(path)
    return path


def add(path: Path, text: str) -> Path:
    path.write_text(path.read_text().replace("runs: {}\n", "") + text)
    return path


def table(folder: Path, mapping: Path) -> tuple[pd.DataFrame, list[str]]:
    logs, notes = read_logs([folder])
    frame, more = import_runs(logs, read_mapping(mapping), mapping.name)
    return frame, [*notes, *more]


# ------------------------------------------------------------------------------------ the formats
@pytest.mark.parametrize("kind", write_logs.WRITERS)
def test_two_commands_make_a_table_of_the_logs(tmp_path: Path, kind: str) -> None:
    write_logs.WRITERS[kind](tmp_path / "logs")
    mapping, out = tmp_path / "mapping.yaml", tmp_path / "runs.csv"
    drafted = dcpt_import(tmp_path / "logs", "--mapping", mapping, "--out", out)
    assert "a draft for 2 runs" in drafted
    assert not out.exists()
    complete(mapping, kind)
    dcpt_import(tmp_path / "logs", "--mapping", mapping, "--out", out)
    frame = load_runs(out)
    assert sorted(frame["run"].unique()) == list(write_logs.RUNS)
    assert frame["n_params"].eq(2_000_000).all()
    for run, ratio in write_logs.RUNS.items():
        rows = frame[frame["run"] == run]
        np.testing.assert_allclose(rows["ratio"], ratio)
        steps = rows["n_tokens"].to_numpy() // 4096
        wanted = {"olmix": [400], "olmo": [100, 200, 300, 400]}
        assert steps.tolist() == wanted.get(kind, list(write_logs.STEPS))
        for channel in ("general", "domain"):
            if f"loss_{channel}" in rows:
                losses = [write_logs.losses_at(step, ratio)[channel] for step in steps]
                np.testing.assert_allclose(rows[f"loss_{channel}"], losses, rtol=1e-6)
        assert "loss_domain" in rows


def test_the_log_gives_the_peak_of_the_learning_rate(tmp_path: Path, mapping: Path) -> None:
    frame, _ = table(tmp_path / "hf", mapping)
    assert frame["learning_rate"].eq(3e-4).all()
    assert frame["phase"].tolist()[:2] == ["base", "constant"]
    assert frame["batch_tokens"].eq(4096).all()


def test_the_draft_is_never_overwritten_and_asks_for_what_is_open(
    tmp_path: Path, mapping: Path
) -> None:
    text = mapping.read_text().replace("per_step: 4096", "per_step: ???")
    mapping.write_text(text + "  # mine\n")
    (problem,) = refuse(tmp_path / "hf", "--mapping", mapping)
    assert problem == f"{mapping}: tokens.per_step is still ???; write the value"
    assert mapping.read_text() == text + "  # mine\n"


def test_the_draft_says_that_the_domain_is_one_of_the_channels(tmp_path: Path) -> None:
    records = [{"step": s, "eval_law_loss": 3.0, "eval_web_loss": 2.0} for s in (0, 100)]
    folder = tmp_path / "hf" / "r0.3"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": records}))
    path = tmp_path / "mapping.yaml"
    dcpt_import(tmp_path / "hf", "--mapping", path)
    text = path.read_text()
    assert "  domain: ???   # the metric of one of the channels below; remove it there\n" in text
    path.write_text(text.replace("domain: ???", "domain: eval_law_loss").replace("???", "1000"))
    (problem,) = refuse(tmp_path / "hf", "--mapping", path)
    assert "losses: eval_law_loss is the metric of domain and of law; remove one" in problem


def test_a_file_that_is_no_mapping_is_not_touched(tmp_path: Path, mapping: Path) -> None:
    other = tmp_path / "study.yaml"
    other.write_text("name: x\n")
    (problem,) = refuse(tmp_path / "hf", "--mapping", other)
    assert "is not a mapping file" in problem
    assert other.read_text() == "name: x\n"


def test_the_table_is_replaced_only_if_it_is_said(tmp_path: Path, mapping: Path) -> None:
    out = tmp_path / "runs.csv"
    out.write_text("my notes\n")
    words = (tmp_path / "hf", "--mapping", mapping, "--out", out)
    assert "exists" in refuse(*words)[0]
    assert "is not a runs table" in refuse(*words, "--replace")[0]
    assert out.read_text() == "my notes\n"


# -------------------------------------------------------------------------------------- bad input
def test_a_ratio_that_is_nowhere_is_asked_for_by_the_names_of_the_runs(tmp_path: Path) -> None:
    for name in ("alpha", "beta"):
        write_logs.trainer_state(tmp_path / "hf" / name / "trainer_state.json", 0.3)
    path = tmp_path / "mapping.yaml"
    dcpt_import(tmp_path / "hf", "--mapping", path)
    problems = refuse(tmp_path / "hf", "--mapping", path)
    assert any(
        "runs.ratio (share of domain tokens) of 2 runs (alpha, beta) is still ???" in problem
        for problem in problems
    )
    text = path.read_text().replace("per_step: ???", "per_step: 4096").replace("n_params: ???", "")
    path.write_text(text.split("\nruns:")[0] + "\nruns:\n  alpha: {ratio: 0.3}\n")
    (problem,) = refuse(tmp_path / "hf", "--mapping", path)
    assert (
        "the ratio of run beta is nowhere in the log; write the share of domain tokens" in problem
    )


def test_steps_that_go_back_are_said_once_and_the_last_values_count(tmp_path: Path) -> None:
    first = [{"step": s, "eval_domain_loss": 3.0, "loss": 1.0} for s in (0, 100, 200, 300)]
    second = [{"step": s, "eval_domain_loss": 2.0, "loss": 1.0} for s in (200, 250)]
    folder = tmp_path / "hf" / "r0.3"
    folder.mkdir(parents=True)
    state = {"log_history": [*first, *second]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    path = tmp_path / "mapping.yaml"
    path.write_text(
        "losses: {domain: eval_domain_loss}\ntokens: {per_step: 4096}\nrun_names: 'r{ratio}'\n"
    )
    frame, notes = table(tmp_path / "hf", path)
    assert (frame["n_tokens"] // 4096).tolist() == [0, 100, 200, 250]  # 300 is of lost weights
    assert frame["loss_domain"].tolist() == [3.0, 3.0, 2.0, 2.0]
    (note,) = notes
    assert "from 300 to 200, as after a resume" in note
    assert "4 earlier ones are left out" in note


def test_a_metric_that_was_renamed_halfway_is_named(tmp_path: Path) -> None:
    log = [{"step": s, "eval_domain_loss": 3.0 - s / 1e3} for s in (0, 100, 200)]
    log += [{"step": s, "eval_law_loss": 3.0 - s / 1e3} for s in (300, 400, 500)]
    folder = tmp_path / "hf" / "r0.3"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    path = tmp_path / "mapping.yaml"
    text = "losses: {domain: NAMES}\ntokens: {per_step: 4096}\nrun_names: 'r{ratio}'\n"
    path.write_text(text.replace("NAMES", "eval_domain_loss"))
    (problem,) = refuse(tmp_path / "hf", "--mapping", path)
    assert "eval_domain_loss ends at step 200 and eval_law_loss begins at step 300" in problem
    assert "write domain: [eval_domain_loss, eval_law_loss]" in problem
    path.write_text(text.replace("NAMES", "[eval_domain_loss, eval_law_loss]"))
    frame, _ = table(tmp_path / "hf", path)
    assert len(frame) == 6


def test_a_log_of_another_trainer_is_refused(tmp_path: Path, mapping: Path) -> None:
    other = tmp_path / "train.json"
    other.write_text('{"iter": 1, "loss": 2.0}\n')
    (problem,) = refuse(other, "--mapping", mapping)
    assert "train.json is not a log that dcpt import reads: trainer_state.json" in problem
    write_logs.megatron(tmp_path / "megatron" / "r0.3.log", 0.3)
    problems = refuse(tmp_path / "megatron" / "r0.3.log", "--mapping", mapping)
    assert any(
        "losses, domain: the log of run r0.3 (Megatron-LM, " in problem
        and "has no metric eval_domain_loss; " in problem
        and "its metrics are: lm loss, lm loss validation-0" in problem
        for problem in problems
    )


def test_a_loss_that_is_not_finite_excludes_its_row(tmp_path: Path, mapping: Path) -> None:
    path = tmp_path / "hf" / "r0.1" / "trainer_state.json"
    state = json.loads(path.read_text())
    state["log_history"][-1]["eval_domain_loss"] = float("nan")
    path.write_text(json.dumps(state))
    frame, _ = table(tmp_path / "hf", mapping)
    reasons = frame["excluded"].dropna()
    assert reasons.tolist() == ["loss_domain in the log is not finite"]


def test_a_learning_rate_that_falls_needs_a_schedule(tmp_path: Path, mapping: Path) -> None:
    for run in write_logs.RUNS:
        path = tmp_path / "hf" / run / "trainer_state.json"
        state = json.loads(path.read_text())
        for record in state["log_history"]:
            if "learning_rate" in record:
                record["learning_rate"] = 3e-4 * min(1, 2 - record["step"] / 200)
        path.write_text(json.dumps(state))
    mapping.write_text(mapping.read_text().replace("  phase: constant\n", ""))
    (problem,) = refuse(tmp_path / "hf", "--mapping", mapping)
    assert "the learning rate of 2 runs (r0.1, r0.5) falls while losses are measured" in problem
    drafted = tmp_path / "new.yaml"
    dcpt_import(tmp_path / "hf", "--mapping", drafted)
    complete(drafted)
    frame, _ = table(tmp_path / "hf", drafted)
    (name,) = frame["schedule"].unique()
    parts = load_schedules(tmp_path / "new_schedules.yaml")[name].root
    found = [(part.shape, part.to_step, part.lr_from, part.end) for part in parts]
    assert found == [("constant", 200, 3e-4, 3e-4), ("linear", 400, 3e-4, 0.0)]
    assert (
        "exists, and dcpt import writes a draft there"
        in refuse(tmp_path / "hf", "--mapping", tmp_path / "new.yml")[0]
    )


def test_a_name_that_contradicts_the_log_is_refused(tmp_path: Path) -> None:
    for rate in ("1e-3", "1e-4"):
        path = tmp_path / "hf" / f"r0.3-lr{rate}" / "trainer_state.json"
        write_logs.trainer_state(path, 0.3)
    path = tmp_path / "mapping.yaml"
    dcpt_import(tmp_path / "hf", "--mapping", path)
    complete(path)
    (problem,) = refuse(tmp_path / "hf", "--mapping", path)
    assert "is 1e-3 by its name or settings, and the highest in the log is 0.0003" in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runs: {nobody: {ratio: 0.3}}\n", "there is no log of nobody; the logs are of r0.1, r0.5"),
        ("runs: {r0.1: {ratoi: 0.3}}\n", "ratoi is not a column of the runs table; did you mean"),
        ("runs: {r0.1: {n_tokens: 5}}\n", "n_tokens of run r0.1 follows from the steps of the log"),
        ("runs: {r0.1: {ratio: 30}}\n", "column ratio: 30 lies outside 0..1"),
        ("runs: {r0.1: {n_tokens_before: x}}\n", "'x' is not a count"),
        ("nonsense: 1\n", "unknown key; valid here: losses"),
        ("train_losses: {domain: []}\n", "is not a name of the log; write the name, or several"),
        ("train_losses: {domain: 3}\n", "train_losses, domain: 3 is not a name of the log"),
        (
            "train_losses: {domain: loss, general: loss}\n",
            "losses: loss is the metric of domain and of general; remove one of them",
        ),
        ("config: {seed: nothing}\n", "the log of 2 runs (r0.1, r0.5) has no setting nothing"),
        ("step: nothing\n", "step: the log of 2 runs (r0.1, r0.5) has no metric nothing"),
    ],
)
def test_mistakes_in_the_mapping_are_named(
    tmp_path: Path, mapping: Path, text: str, words: str
) -> None:
    add(mapping, text)
    assert any(words in problem for problem in refuse(tmp_path / "hf", "--mapping", mapping))


# -------------------------------------------------------------------------- what a person may say
def test_the_decay_of_a_run_gives_its_last_point(tmp_path: Path, mapping: Path) -> None:
    decay = tmp_path / "hf" / "decay" / "trainer_state.json"
    write_logs.trainer_state(decay, 0.1, range(10, 50, 10))
    entry = "{run: r0.1, ratio: 0.1, phase: annealed, branch_n_tokens: 1638400, "
    add(mapping, f"runs:\n  decay: {entry}n_tokens_before: 1638400}}\n")
    frame, notes = table(tmp_path / "hf", mapping)
    (row,) = frame[frame["phase"] == "annealed"].to_dict("records")
    assert row["run"] == "r0.1"
    assert row["n_tokens"] == (400 + 40) * 4096
    assert "decay: the last of 4 points is taken" in notes[0]


def test_a_log_continues_another(tmp_path: Path, mapping: Path) -> None:
    later = tmp_path / "hf" / "r0.1-resumed" / "trainer_state.json"
    write_logs.trainer_state(later, 0.1, (300, 400, 500))
    add(mapping, "runs:\n  r0.1-resumed: {run: r0.1, ratio: 0.1}\n")
    frame, notes = table(tmp_path / "hf", mapping)
    steps = frame[frame["run"] == "r0.1"]["n_tokens"] // 4096
    assert steps.tolist() == [0, 100, 200, 300, 400, 500]
    assert "from 400 to 300, as after a resume" in notes[0]


@pytest.mark.parametrize(
    ("unit", "more", "factor"),
    [
        ("bits", "", np.log(2)),
        ("bits_per_byte", "bytes_per_token: {general: 4, domain: 4}\n", 4 * np.log(2)),
    ],
)
def test_losses_of_other_units_become_nats(
    tmp_path: Path, mapping: Path, unit: str, more: str, factor: float
) -> None:
    nats, _ = table(tmp_path / "hf", mapping)
    mapping.write_text(mapping.read_text().replace("loss_unit: nats", f"loss_unit: {unit}") + more)
    frame, _ = table(tmp_path / "hf", mapping)
    np.testing.assert_allclose(frame["loss_domain"], nats["loss_domain"] * factor)


def test_a_metric_may_count_the_steps(tmp_path: Path) -> None:
    rows = [f"{row},{10 * row},{3 - row / 10}" for row in range(1, 6)]
    path = tmp_path / "r0.3.csv"
    path.write_text("_step,train/global_step,eval/domain_loss\n" + "\n".join(rows) + "\n")
    mapping = tmp_path / "mapping.yaml"
    dcpt_import(path, "--mapping", mapping)
    assert "step: train/global_step" in mapping.read_text()
    mapping.write_text(mapping.read_text().replace("  general: ???\n", ""))
    complete(mapping)
    mapping.write_text(mapping.read_text().replace("ratio: [code, math]", "ratio: 0.3"))
    logs, _ = read_logs([path])
    frame, _ = import_runs(logs, read_mapping(mapping), mapping.name)
    assert (frame["n_tokens"] // 4096).tolist() == [10, 20, 30, 40, 50]


def test_tokens_of_steps_of_which_the_log_does_not_count_them(tmp_path: Path) -> None:
    def write(counts: dict[int, int]) -> Path:
        log: list[dict[str, Any]] = [{"step": s, "tokens": n} for s, n in counts.items()]
        log += [{"step": s, "eval_domain_loss": 3.0} for s in (150, 250)]
        folder = tmp_path / "hf" / "r0.3"
        folder.mkdir(parents=True, exist_ok=True)
        log.sort(key=lambda record: record["step"])
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
        return tmp_path / "hf"

    path = tmp_path / "mapping.yaml"
    path.write_text(
        "losses: {domain: eval_domain_loss}\ntokens: {metric: tokens}\nrun_names: 'r{ratio}'\n"
    )
    frame, _ = table(write({100: 100_000, 200: 200_000, 300: 300_000}), path)
    assert frame["n_tokens"].tolist() == [150_000, 250_000]
    (problem,) = refuse(write({100: 100_000, 200: 250_000, 300: 400_000}), "--mapping", path)
    assert "measured losses at 2 steps, such as 150, at which tokens was not logged" in problem


# ------------------------------------------------------------------------------------ odd folders
def test_of_checkpoints_the_last_log_is_read(tmp_path: Path, mapping: Path) -> None:
    for step in (100, 200):
        path = tmp_path / "hf" / "r0.1" / f"checkpoint-{step}" / "trainer_state.json"
        write_logs.trainer_state(path, 0.9, range(0, step + 1, 100))
    frame, notes = table(tmp_path / "hf", mapping)
    assert (frame["run"] == "r0.1").sum() == 5
    assert "Logs of earlier checkpoints are not read (2)" in notes[0]


def test_logs_of_a_second_format_in_a_folder_are_said(tmp_path: Path, mapping: Path) -> None:
    write_logs.tensorboard(tmp_path / "hf" / "r0.1" / "runs" / "events.out.tfevents.1", 0.1)
    _, notes = table(tmp_path / "hf", mapping)
    assert "There are others, which are not: 1 of TensorBoard." in notes[0]


def test_a_torn_last_line_is_forgiven_and_one_before_is_not(tmp_path: Path) -> None:
    path = write_logs.swift(tmp_path / "r0.1" / "logging.jsonl", 0.1)
    whole = path.read_text()
    path.write_text(whole + '{"loss": 3.')
    assert read_logs([path])[0][0].last_step == 400
    path.write_text('{"loss": 3.\n'.join([*whole.splitlines(keepends=True)[:3], whole]))
    with pytest.raises(InputError, match="line 2: not a JSON object"):
        read_logs([path])


@pytest.mark.parametrize("keep", [9, 100, 40_000, 100_000])
def test_torn_binary_logs_give_what_is_whole(tmp_path: Path, keep: int) -> None:
    path = write_logs.wandb_offline(tmp_path / "a.wandb", "a", 0.1)
    path.write_bytes(path.read_bytes()[:keep])
    if keep < 50_000:
        with pytest.raises(InputError, match="the logs hold no numbers yet"):
            read_logs([path])
    else:
        assert read_logs([path])[0][0].last_step >= 0


@pytest.mark.parametrize("left", range(12))
def test_records_of_wandb_may_end_anywhere_in_a_block(tmp_path: Path, left: int) -> None:
    history = []
    for step, loss in enumerate((2.5, "NaN", "Infinity")):
        items = {"_step": step, "eval/loss": loss}
        pairs = [(2, name) for name in items], [(16, json.dumps(value)) for value in items.values()]
        fields = [(1, write_logs.message(list(pair))) for pair in zip(*pairs, strict=True)]
        history.append(write_logs.message([(2, write_logs.message(fields))]))
    filler = write_logs.message([(4, b"x" * (32768 - 7 - 7 - 4 - left))])  # ends before the block
    path = tmp_path / "a.wandb"
    path.write_bytes(write_logs.as_leveldb([filler, *history]))
    (log,), _ = read_logs([path])
    np.testing.assert_equal(log.metrics["eval/loss"].values, [2.5, np.nan, np.inf])


def test_a_runs_table_and_the_page_of_runs_are_told_apart(tmp_path: Path, mapping: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("run,n_tokens,loss_domain\na,5,3.0\n")
    assert "is a runs table already" in refuse(path, "--mapping", mapping)[0]
    path = tmp_path / "page.csv"
    path.write_text("Name,State,Runtime,eval_domain_loss,eval_general_loss\nr0.1,finished,9,3,2\n")
    problems = refuse(path, "--mapping", mapping)
    assert any("the log of run r0.1 has no steps; write the tokens seen" in x for x in problems)
