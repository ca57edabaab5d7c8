from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpt.errors import InputError
from dcpt.grid.evaluations import evaluation_points
from dcpt.grid.planned import PlannedRun, Trunk, advise_on_sizes
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import hash_record
from dcpt.study.files import load_study


def plan(study: Path, old: str = "", new: str = "") -> list[PlannedRun]:
    text = study.read_text(encoding="utf-8")
    assert old in text
    study.write_text(text.replace(old, new), encoding="utf-8")
    return Workspace(study).planned


@pytest.fixture
def prepared(tiny_study: Path) -> Path:
    prepare_study(Workspace(tiny_study), workers=1)
    return tiny_study


def begin(study: Path, run: PlannedRun) -> None:
    """Make it look as if the training of a run had started."""
    RunFolder.of(run.config, study.parent / "runs").write_config(run.config)


def names(runs: list[PlannedRun], kind: str) -> list[str]:
    return [run.config.name for run in runs if run.config.identity.kind == kind]


def test_the_plan_holds_bases_trunks_and_branches_in_an_order_that_can_be_trained(
    prepared: Path,
) -> None:
    runs = plan(prepared)
    assert [len(names(runs, kind)) for kind in ("pretrain", "trunk", "branch")] == [3, 6, 6]
    seen: set[str] = set()
    for run in runs:
        assert set(run.needs) <= seen
        seen.add(run.config.identity.hash)


def test_parts_that_overlap_are_trained_once(prepared: Path) -> None:
    part = "grid:\n  - {bases: [a], ratios: [0.5, 0.9], learning_rates: [0.003]}\n"
    runs = plan(prepared, "grid:\n", part)
    assert len(names(runs, "trunk")) == len(set(names(runs, "trunk"))) == 7


def test_a_plan_with_two_sizes_asks_for_short_runs_at_a_third(prepared: Path) -> None:
    (words,) = advise_on_sizes(plan(prepared))
    assert words.startswith("the planned runs have 2 sizes (a, b), so the error at another size")
    listed = "runs:\n  - {base: big, ratio: 0.4, learning_rate: 3e-3, tokens: 2048}\ngrid:\n"
    assert advise_on_sizes(plan(prepared, "grid:\n", listed)) == []
    assert advise_on_sizes([]) == []


LISTED = "runs:\n  - {base: big, ratio: 0.4, learning_rate: 3e-3, tokens: 2048}\n"


def test_a_listed_run_has_its_own_length_and_one_ordinary_decay(prepared: Path) -> None:
    before = plan(prepared, "branches: {", "branches: {at: [2560], ")
    study = prepared.read_text(encoding="utf-8")
    prepared.write_text(study + LISTED, encoding="utf-8")
    after = plan(prepared)
    trunk, branch = (run.config for run in after[len(before) :])
    assert (trunk.recorded.n_tokens, trunk.recorded.purpose) == (2048, "grid")
    assert branch.identity.decay.start_tokens == 2048
    assert (branch.recorded.size, branch.identity.ratio) == ("big", 0.4)


def test_runs_that_differ_in_length_alone_are_a_trunk_with_several_decays(prepared: Path) -> None:
    part = "runs:\n  - {base: a, ratio: 0.25, learning_rate: 3e-3, tokens: 2048}\n"
    part += "  - {base: a, ratio: 0.25, learning_rate: 3e-3, tokens: 10240}\n"
    before, study = plan(prepared), prepared.read_text(encoding="utf-8")
    prepared.write_text(study + part, encoding="utf-8")
    after = plan(prepared)
    assert names(after, "trunk") == names(before, "trunk")
    added = [run.config for run in after if run.name not in {run.name for run in before}]
    assert [run.identity.decay.start_tokens for run in added] == [2048, 10240]
    trunk = next(run.config for run in after if run.name == before[3].name)
    assert trunk.recorded.keep_state_at == (2048, 5120, 10240)


def test_a_study_includes_the_runs_of_another_file(prepared: Path) -> None:
    (prepared.parent / "more.yaml").write_text(LISTED, encoding="utf-8")
    study = prepared.read_text(encoding="utf-8")
    prepared.write_text(f"include: more.yaml\n{study}", encoding="utf-8")
    assert [run.ratio for run in Workspace(prepared).study.runs] == [0.4]
    (prepared.parent / "more.yaml").write_text(LISTED.replace("big", "bigg"), encoding="utf-8")
    with pytest.raises(InputError, match=r"base 'bigg' is not among the study's bases.*'big'"):
        load_study(prepared)
    (prepared.parent / "more.yaml").write_text("run: []\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"more.yaml: run: unknown key; valid here: runs"):
        load_study(prepared)
    (prepared.parent / "more.yaml").unlink()
    with pytest.raises(
        InputError, match=r"more.yaml does not exist; write it with `dcpt next-runs"
    ):
        load_study(prepared)


def test_a_longer_trunk_is_the_same_run(prepared: Path) -> None:
    before = plan(prepared)
    begin(prepared, before[3])
    after = plan(prepared, "tokens: 5120", "tokens: 10240")
    assert names(after, "trunk") == names(before, "trunk")
    assert not set(names(after, "branch")) & set(names(before, "branch"))
    first, longer = before[3].config.recorded, after[3].config.recorded
    assert longer.n_tokens == 10240
    assert set(first.evaluation_at) - {5120} <= set(longer.evaluation_at)


def test_the_old_end_can_be_branched_again_when_named(prepared: Path) -> None:
    before = plan(prepared)
    begin(prepared, before[3])
    after = plan(prepared, "tokens: 5120\nbranches: {", "tokens: 10240\nbranches: {at: [5120], ")
    assert set(names(before, "branch")) < set(names(after, "branch"))


def test_a_new_batch_size_or_text_is_another_run(prepared: Path) -> None:
    before = plan(prepared)
    after = plan(prepared, "batch_sequences: 8", "batch_sequences: 4")
    assert not {r.config.identity.hash for r in before} & {r.config.identity.hash for r in after}


def test_another_micro_batch_is_the_same_run(prepared: Path) -> None:
    before = plan(prepared)
    after = plan(prepared, "batch_sequences: 8", "batch_sequences: 8, micro_batch_sequences: 2")
    assert [r.name for r in before] == [r.name for r in after]
    assert {r.config.micro_batch_sequences for r in before} == {8}
    assert {r.config.micro_batch_sequences for r in after} == {2}


def test_trunks_that_verify_are_planned_alone_with_their_base(prepared: Path) -> None:
    before = plan(prepared)
    runs = Workspace(prepared).plan_trunks([Trunk("a", 0.5, 3e-3, n_tokens=10240)], "verify")
    assert [run.config.identity.kind for run in runs] == ["pretrain", "trunk", "branch"]
    assert runs[1].config.name in names(
        before, "trunk"
    )  # A different length does not make a different run.
    assert runs[1].config.recorded.n_tokens == 10240
    assert runs[1].config.recorded.purpose == "verify"


def test_the_costliest_size_is_known(prepared: Path) -> None:
    runs = plan(prepared)
    costs = {run.config.recorded.size: run.about_n_params for run in runs}
    assert costs["a"] < costs["b"] < costs["big"]
    trunk, branch = runs[3], runs[4]
    assert branch.trained_tokens == branch.config.identity.decay.n_tokens < trunk.trained_tokens


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("branches: {", "branches: {at: [256], ", "within the warmup of 256"),
        ("tokens: 1024,", "tokens: 90k,", "evaluation.tokens: 90000 are asked of channel en"),
        ("ratios: [0.25,", "ratios: [0.123456789,", "ratio 0.123456789: .*round the ratio"),
    ],
)
def test_what_no_run_could_do_is_refused_before_any_is_trained(
    prepared: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        plan(prepared, old, new)


def test_the_warmup_is_fixed_by_the_first_trunk_not_by_a_look(prepared: Path) -> None:
    assert plan(prepared)[3].config.identity.warmup_tokens == 256
    longer = plan(prepared, "tokens: 5120", "tokens: 51200")
    assert longer[3].config.identity.warmup_tokens == 2560
    begin(prepared, longer[3])
    assert plan(prepared, "51200", "102400")[3].config.identity.warmup_tokens == 2560


def test_multiples_follow_each_bases_own_peak(prepared: Path) -> None:
    plan(prepared, "a: {width: 16,", "a: {learning_rate: 2e-2, width: 16,")
    runs = plan(prepared, "learning_rates: [3e-3]", "learning_rate_multiples: [0.3]")
    rates = {r.config.recorded.size: r.config.identity.learning_rate for r in runs[3:]}
    assert rates == {"a": 0.006, "b": 0.003}


def test_a_branch_beyond_the_end_is_refused(prepared: Path) -> None:
    with pytest.raises(InputError, match="beyond the trunk's end at 5120"):
        plan(prepared, "branches: {", "branches: {at: [9999], ")


def test_a_study_that_is_not_prepared_says_so(tiny_study: Path) -> None:
    with pytest.raises(InputError, match="dcpt prepare"):
        Workspace(tiny_study).planner.plan()


@given(
    n_steps=st.integers(4, 5000),
    more=st.integers(0, 5000),
    first=st.integers(1, 40),
    per_doubling=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
def test_evaluation_points_do_not_depend_on_the_end(
    n_steps: int, more: int, first: int, per_doubling: float
) -> None:
    step = 256
    short = evaluation_points(n_steps * step, first * step, per_doubling, step)
    long = evaluation_points((n_steps + more) * step, first * step, per_doubling, step)
    assert short[-1] == n_steps * step
    assert [p for p in long if p < short[-1]] == short[:-1]
    assert all(point % step == 0 for point in short)


def test_hashes_refuse_what_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        hash_record({"loss": float("nan")})


def test_decays_on_mixtures_of_their_own_leave_the_trunks_as_they_are(prepared: Path) -> None:
    before = Workspace(prepared).planned
    text = prepared.read_text(encoding="utf-8")
    extra = "  - {name: best, side: extra, train: domain.jsonl, valid_fraction: 10%}\n"
    own = "decay: 20%, mixtures: {better: {best: 70%, en: 30%}, plain: {law: 1}}"
    text = text.replace("tokenizer:", extra + "tokenizer:").replace("decay: 20%", own)
    prepared.write_text(text, encoding="utf-8")
    prepare_study(Workspace(prepared), workers=1)
    after = Workspace(prepared).planned
    assert names(after, "trunk") == names(before, "trunk")
    branches = [run.config for run in after if run.config.identity.kind == "branch"]
    assert {run.config.name for run in before} <= {run.config.name for run in after}
    assert len(branches) == 18
    better = [branch for branch in branches if branch.recorded.mixture_name == "better"]
    assert [channel.name for channel in better[0].identity.channels] == ["en", "law", "best"]
    assert better[0].identity.decay.mixture == {"best": 0.7, "en": 0.3}
    assert better[0].name.split("-branch5120-")[1].startswith("better-")
    plain = [branch for branch in branches if branch.recorded.mixture_name == "plain"]
    assert [channel.name for channel in plain[0].identity.channels] == ["en", "law"]


def test_runs_may_go_on_with_the_moments_of_their_bases(prepared: Path) -> None:
    before = plan(prepared)
    text = prepared.read_text(encoding="utf-8").replace(", warmup: 5%}", "}")
    text = text.replace("tokens: 8192", "tokens: 8192\n    start: before_decay")
    prepared.write_text(text, encoding="utf-8")
    after = Workspace(prepared).planned
    assert names(after, "pretrain") == names(before, "pretrain")
    base, trunk = (
        next(run.config for run in after if run.config.identity.kind == kind)
        for kind in ("pretrain", "trunk")
    )
    assert base.recorded.keep_state_at == (6400,)
    assert trunk.identity.base_state_tokens == 6400
    assert trunk.identity.warmup_tokens == 0
    assert trunk.recorded.base_n_tokens == 6400


def test_a_warmup_of_its_own_mixture_is_another_run(prepared: Path) -> None:
    before = plan(prepared)
    after = plan(prepared, "warmup: 5%", "warmup: 5%, warmup_ratio: 0")
    assert not set(names(before, "trunk")) & set(names(after, "trunk"))
    assert names(before, "pretrain") == names(after, "pretrain")
