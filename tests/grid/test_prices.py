"""The cost of runs on GPUs that are not there, and of sizes that this machine cannot train."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.cli.console import as_json
from dcpt.cli.show_cost import cost_record, cost_words
from dcpt.errors import InputError
from dcpt.grid.estimate import Estimate, wall_seconds
from dcpt.grid.machines import Machine, parse_machine
from dcpt.grid.planned import PlannedRun
from dcpt.grid.slots import Slot
from dcpt.grid.speeds import SPEEDS
from dcpt.pipeline.cost import GridCost, estimate_study
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.identity import RunConfig
from dcpt.training.bases import shape_of
from dcpt.training.memory import memory_of
from dcpt.training.passes import is_held_whole, sequences_per_pass

LARGE = """    sizes:
      91M: {width: 768, layers: 12, heads: 12}
      1.5B: {width: 2048, layers: 28, heads: 16}
      7B: {width: 4096, layers: 36, heads: 32}
"""


@pytest.fixture
def large(tiny_study: Path) -> Path:
    """A prepared study of bases of 91M and 1.5B parameters with a target of 7B."""
    text = re.sub(r"    sizes:.*?(?=grid:)", LARGE, tiny_study.read_text(), flags=re.DOTALL)
    for old, new in (
        ("bases: [a, b], ratios: [0.25, 0.5, 0.75]", "bases: [91M, 1.5B], ratios: [0.5]"),
        ("base: big, tokens: 6144", "base: 7B, tokens: 20B"),
        ("tokens: 5120", "tokens: 500M"),
        ("tokens: 8192", "tokens: 1B"),
        ("batch_sequences: 8, sequence_tokens: 32", "batch_sequences: 64, sequence_tokens: 512"),
        ("tokens: 1024, points", "tokens: 2048, points"),
        ("warmup: 5%", "warmup: 5%, dtype: bfloat16"),
    ):
        assert old in text
        text = text.replace(old, new)
    tiny_study.write_text(text)
    prepare_study(Workspace(tiny_study), workers=1)
    return tiny_study


def price(study: Path, machine: str) -> GridCost:
    return estimate_study(Workspace(study), [], parse_machine(machine))


def test_a_plan_is_priced_on_gpus_that_are_not_there(large: Path) -> None:
    cost = price(large, "h100:8")
    runs = {run.name.rpartition("-")[0]: run for run in cost.runs}
    small, middle, target = (runs[f"pretrain-{size}"] for size in ("91M", "1.5B", "7B"))
    assert (small.n_gpus, middle.n_gpus, target.n_gpus) == (1, 1, 2)
    assert all(run.memory_bytes <= 79 * 2**30 for run in cost.runs)
    assert small.micro_batch_sequences > target.micro_batch_sequences
    assert (small.source, target.source) == ("measured", "extrapolated")
    # A GPU-second trains as many tokens as the table has.
    speed = Machine("h100", 8).tokens_per_s(small.n_params)
    assert small.seconds == pytest.approx(1e9 / speed, rel=1e-3)
    assert target.device_seconds == pytest.approx(2 * target.seconds)
    assert cost.target_flops == pytest.approx(6 * target.n_params * 20e9)
    assert cost.target_share == pytest.approx(
        sum(run.flops for run in cost.runs) / cost.target_flops
    )


def test_another_gpu_is_as_fast_as_its_flops_allow(large: Path) -> None:
    h100, a100, h200 = (price(large, name) for name in ("h100:8", "a100:8", "h200:8"))
    ratio = sum(r.device_seconds for r in a100.runs) / sum(r.device_seconds for r in h100.runs)
    assert ratio == pytest.approx(989 / 312, rel=0.02)
    assert {run.source for run in a100.runs} == {"extrapolated"}
    assert {run.n_gpus for run in h200.runs} == {1}


def test_the_words_name_what_was_not_measured(large: Path) -> None:
    words = "\n".join(cost_words(price(large, "h100:8")))
    assert re.search(r"GPU-hours, about [0-9.]+ h with 8 H100s", words)
    assert "of the target run's FLOPs" in words
    assert "~ not measured on this GPU: 1.41B, 7.25B" in words


@pytest.mark.parametrize(
    ("machine", "setting", "message"),
    [
        ("h100:1", "", r"size 7B: a run needs about \d+ GiB on 1 GPU, which has 79 GiB; use more"),
        ("h100:8", "gpus_per_run: 1, ", r"size 7B: .* raise training\.gpus_per_run"),
        ("h100:8", "gpus_per_run: 16, ", r"gpus_per_run is 16, and there are 8 GPUs"),
    ],
)
def test_what_fits_on_no_layout_is_refused(
    large: Path, machine: str, setting: str, message: str
) -> None:
    large.write_text(large.read_text().replace("training: {", "training: {" + setting))
    with pytest.raises(InputError, match=message):
        price(large, machine)


def test_a_size_that_this_machine_cannot_hold_is_refused_before_any_is_timed(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_steps(*_: object, **__: object) -> None:
        pytest.fail("a size was timed")

    monkeypatch.setattr("dcpt.training.timing.time_steps", time_steps)
    monkeypatch.setattr("dcpt.grid.prices.memory_bytes", lambda: 24 * 2**30)
    with pytest.raises(InputError, match=r"size 7B: .* take 108 GiB.*24 GiB; .*--on h100:8"):
        estimate_study(Workspace(large), [Slot()])
    # What fits and takes minutes for a step is not timed either.
    monkeypatch.setattr("dcpt.grid.prices.memory_bytes", lambda: 240 * 2**30)
    cost = estimate_study(Workspace(large), [Slot()])
    assert {run.source for run in cost.runs} == {"extrapolated"}
    assert cost.runs[0].n_gpus == 0


def test_a_micro_batch_above_a_gpu_s_part_of_the_batch_is_that_part(large: Path) -> None:
    """Training lays a run out as the dry run does: 64 sequences are 16 on each of four GPUs."""
    setting = "gpus_per_run: 4, micro_batch_sequences: 64, activation_checkpointing: true, "
    large.write_text(large.read_text().replace("training: {", "training: {" + setting))
    workspace, machine = Workspace(large), parse_machine("h100:8")
    runs = {run.name: run for run in estimate_study(workspace, [], machine).runs}
    for planned in workspace.planned:
        config, priced = planned.config, runs[planned.name]
        shape = shape_of(next_base(workspace, config.recorded.size), large.parent)
        assert priced.micro_batch_sequences == sequences_per_pass(config, 4) == 16
        whole = memory_of(config, shape, 16, checkpointing=True).n_bytes
        is_whole = is_held_whole(config, shape, machine.gpu.n_bytes, 4)
        assert (priced.memory_bytes == whole) == is_whole


def next_base(workspace: Workspace, size: str) -> RunConfig:
    """The run that pre-trains a base, which has its shape."""
    runs = (run.config for run in workspace.planned)
    return next(r for r in runs if r.identity.kind == "pretrain" and r.recorded.size == size)


def test_processes_of_a_cpu_are_not_priced(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcpt.training.timing.time_steps", lambda *_, **__: pytest.fail("timed"))
    large.write_text(large.read_text().replace("training: {", "training: {gpus_per_run: 2, "))
    with pytest.raises(InputError, match=r"gpus_per_run is 2, and this machine has no GPU.*--on"):
        estimate_study(Workspace(large), [Slot(), Slot()])


def test_programs_read_the_total(large: Path) -> None:
    cost = price(large, "h100:8")
    total = cost_record(cost)["total"]
    assert (total["n_runs"], total["n_done"]) == (len(cost.runs), 0)
    assert total["left_gpu_hours"] == pytest.approx(
        sum(run.device_seconds for run in cost.runs) / 3600
    )
    assert total["flops"] / total["target_flops"] == pytest.approx(total["target_share"])
    assert json.loads(as_json(cost_record(cost)))["runs"][0]["name"] == cost.runs[0].name


def test_a_base_is_timed_and_larger_ones_follow_its_speed(tiny_study: Path) -> None:
    prepare_study(Workspace(tiny_study), workers=1)
    cost = estimate_study(Workspace(tiny_study), [Slot()])
    assert {run.source for run in cost.runs} == {"timed"}
    assert all(run.seconds > 0 and run.memory_bytes is None for run in cost.runs)
    assert cost.wall_s >= max(run.seconds for run in cost.runs)


@pytest.mark.parametrize("text", ["b200", "h100:0", "h100:-1", "h100:", "h100:two", "h100:1.5", ""])
def test_unknown_gpus_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"^--on {re.escape(text)}: "):
        parse_machine(text)


@pytest.mark.parametrize("text", ["h100", "H100:1", " h100:1 "])
def test_a_gpu_without_a_number_is_one(text: str) -> None:
    assert parse_machine(text) == Machine("h100", 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--on", "h100:8"], "add --dry-run"), (["--dry-run", "--on", "h1:8"], "no known GPU")],
)
def test_options_that_do_not_go_together_end_with_code_2(
    tmp_path: Path, options: list[str], words: str
) -> None:
    result = CliRunner().invoke(app, ["run-grid", str(tmp_path / "study.yaml"), *options])
    assert isinstance(result.exception, InputError) or result.exit_code == 2
    assert words in f"{result.exception}{result.output}"


def test_speeds_between_and_beyond_the_measured_sizes() -> None:
    for name, speeds in SPEEDS.items():
        machine = Machine(name, 1)
        for n_params, speed in speeds.items():
            assert machine.tokens_per_s(n_params) == pytest.approx(speed)
            assert machine.is_measured(n_params)
        assert not machine.is_measured(2 * max(speeds))
    largest = max(n_params for speeds in SPEEDS.values() for n_params in speeds)
    machine = Machine("h100", 1)
    assert machine.utilization(100 * largest) == pytest.approx(machine.utilization(largest))


def run(name: str, needs: tuple[str, ...] = ()) -> PlannedRun:
    planned = PlannedRun.__new__(PlannedRun)
    planned.__dict__.update(identity_hash=name, needs=needs)
    return planned


def test_the_longest_chain_bounds_the_time_of_a_grid() -> None:
    planned = [run("base"), run("trunk", ("base",)), run("other")]
    costs = [Estimate(p.identity_hash, 1, 1, 1.0, 1, 10.0, done=False, n_gpus=1) for p in planned]
    assert wall_seconds(planned, costs, n_devices=1) == 30
    assert wall_seconds(planned, costs, n_devices=2) == 20  # base, then trunk
    shared = [Estimate("wide", 1, 1, 1.0, 1, 10.0, done=False, n_gpus=4)]
    assert wall_seconds([run("wide")], shared, n_devices=4) == 10
