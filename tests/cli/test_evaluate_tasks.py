"""lm-eval's tasks on a model: with a stand-in, and with lm-eval where it is installed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from in_this_process import InThisProcess
from tiny_study import write_tiny_study
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.runs.identity import Architecture
from dcpt.training.models import build_llama
from dcpt.training.task_metrics import TaskMetric, load_tasks, measure_tasks

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {documents}}}
test_split: train
fewshot_split: train
num_fewshot: {shots}
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""

QUESTIONS = [
    {"question": "the house of the", "choices": ["people", "fever"], "answer": 0},
    {"question": "bone and tooth and", "choices": ["state", "lung"], "answer": 1},
    {"question": "the year of", "choices": ["peace", "acute"], "answer": 1},
    {"question": "left or", "choices": ["right", "union"], "answer": 0},
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that nobody trained, with a tokenizer whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: index for index, token in enumerate(["<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(ids, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = tmp_path / "model"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    fast.save_pretrained(folder)
    shape = Architecture(width=16, layers=1, heads=1, vocab_size=260, max_sequence_tokens=256)
    llama: Any = build_llama(shape)
    llama.save_pretrained(folder)
    return folder


class Manager:
    """lm-eval's ``TaskManager``, which knows two tasks."""

    all_tasks = ("arc_easy", "arc_hard")

    def match_tasks(self, patterns: list[str]) -> list[str]:
        return [name for name in self.all_tasks if name in patterns]

    def load(self, names: list[str]) -> dict[str, Any]:
        if names == ["arc_hard"]:
            raise ConnectionError("the hub\ndoes not answer")
        return {"tasks": {name: Task(name) for name in names}}


class Task:
    """A task, which notes the seeds of its examples."""

    def __init__(self, name: str) -> None:
        self.name, self.seeds = name, []

    def set_fewshot_seed(self, seed: int) -> None:
        self.seeds.append(seed)


class LmEval(ModuleType):
    """lm-eval, which finds the same of every model."""

    def __init__(self) -> None:
        super().__init__("lm_eval")
        self.models: list[str] = []

    def load(self, pretrained: str, **_: Any) -> str:
        self.models.append(pretrained)
        return pretrained

    def evaluate(self, model: str, tasks: dict[str, Any], **_: Any) -> dict[str, Any]:
        values = {
            "alias": "arc",
            "sample_len": 1200,
            "acc,none": 0.25,
            "acc_stderr,none": 0.0125,
            "f1,first_word": math.nan,
            "f1_stderr,first_word": "N/A",
        }
        return {"results": dict.fromkeys(tasks["tasks"], values)}


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch) -> LmEval:
    package = LmEval()
    parts = {"tasks": {"TaskManager": Manager}, "models": {}, "models.huggingface": {}}
    parts["models.huggingface"] = {"HFLM": package.load}
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    for name, contents in parts.items():
        part = ModuleType(f"lm_eval.{name}")
        vars(part).update(contents)
        monkeypatch.setitem(sys.modules, part.__name__, part)
    return package


def evaluate(*words: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def test_metrics_have_a_standard_error_and_the_number_of_documents(
    lm_eval: LmEval, model: Path
) -> None:
    assert measure_tasks(model, load_tasks(["arc_easy"]), "cpu") == [
        TaskMetric("arc_easy", "acc", "none", 0.25, 0.0125, 1200),
        TaskMetric("arc_easy", "f1", "first_word", None, None, 1200),
    ]


def test_every_model_gets_the_same_examples(lm_eval: LmEval, model: Path) -> None:
    tasks = load_tasks(["arc_easy"])
    measure_tasks(model, tasks, "cpu")
    measure_tasks(model, tasks, "cpu")
    first, second = tasks["tasks"]["arc_easy"].seeds
    assert first == second


def test_the_command_prints_a_table_or_json(lm_eval: LmEval, model: Path) -> None:
    shown = evaluate(model, "--tasks", "arc_easy")
    title, head, *rows = shown.stdout.splitlines()
    assert title == str(model)
    assert head.split("  ")[0] == "task"
    assert [row.split() for row in rows] == [
        ["arc_easy", "acc", "0.2500", "0.0125", "1,200"],
        ["arc_easy", "f1,", "first_word", "1,200"],
    ]
    found = json.loads(evaluate(model, "--tasks", "arc_easy", "--json").output)
    assert found[str(model)][0] == {
        "task": "arc_easy",
        "metric": "acc",
        "filter": "none",
        "value": 0.25,
        "se": 0.0125,
        "n_documents": 1200,
    }


def test_all_saved_models_of_a_study_are_evaluated(
    lm_eval: LmEval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcpt.pipeline.train import prepare_study
    from dcpt.pipeline.workspace import Workspace

    study = write_tiny_study(tmp_path)
    workspace = Workspace(study)
    prepare_study(workspace, workers=1)
    refused = evaluate("--study", study, "--tasks", "arc_easy")
    assert "save_models: true" in str(refused.exception)
    bases = [run for run in workspace.planned if run.config.identity.kind == "pretrain"][:2]
    monkeypatch.setattr(InThisProcess, "trained", [])
    InThisProcess(workspace.folder, [], None).run(bases)
    found = json.loads(evaluate("--study", study, "--tasks", "arc_easy", "--json").stdout)
    assert sorted(found) == sorted(run.name for run in bases)
    assert lm_eval.models == [str(tmp_path / "runs" / name / "model") for name in found]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["m", "--tasks", "arc_eazy"], "no such task; did you mean 'arc_easy'?"),
        (["m", "--tasks", "arc_easy,no.yaml"], "--tasks no.yaml: no such file"),
        (["m", "--tasks", "arc_hard"], "(ConnectionError: the hub does not answer)"),
        (["m", "--tasks", " ,"], "--tasks is empty"),
        (["m", "--tasks", "arc_easy", "--label", "a"], "--label"),
        (["--tasks", "arc_easy"], "give a model, or with --study"),
        (["--study", "study.yaml"], "give a model"),
        (["m"], "give --study"),
    ],
)
def test_bad_questions_are_refused(lm_eval: LmEval, words: list[str], part: str) -> None:
    error = evaluate(*words).exception
    assert isinstance(error, InputError)
    assert part in str(error)
    assert len(error.problems) == 1


def test_without_lm_eval_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "lm_eval.tasks", raising=False)
    with pytest.raises(InputError, match=r"pip install 'dcpt\[tasks\]'"):
        load_tasks(["arc_easy"])


def write_task(folder: Path, name: str, shots: int = 0) -> Path:
    documents = folder / "questions.jsonl"
    documents.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    file = folder / f"{name}.yaml"
    file.write_text(TASK.format(name=name, documents=documents, shots=shots))
    return file


def test_tasks_of_a_file_are_measured_as_lm_eval_measures_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    files = [str(write_task(tmp_path, "plain")), str(write_task(tmp_path, "shots", shots=2))]
    found = measure_tasks(model, load_tasks(files), "cpu")
    assert [(metric.task, metric.n_documents) for metric in found] == [("plain", 4), ("shots", 4)]
    expected = real.simple_evaluate(
        "hf", {"pretrained": str(model)}, tasks=files, device="cpu", batch_size=8
    )["results"]
    for metric in found:
        assert metric.value == expected[metric.task]["acc,none"]
        assert metric.se == expected[metric.task]["acc_stderr,none"]


def test_a_task_without_its_documents_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    file = write_task(tmp_path, "plain")
    (tmp_path / "questions.jsonl").unlink()
    with pytest.raises(InputError, match=r"questions\.jsonl"):
        load_tasks([str(file)])
