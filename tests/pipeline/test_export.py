"""From a recommendation to the files of a trainer, and what is refused on the way."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.decide import read_recommendation, write_recommendation
from dcpt.decide.records import Recommendation
from dcpt.errors import InputError
from dcpt.laws import Fit, load_fit
from dcpt.own_folders import MARKER
from dcpt.pipeline.answer import fit_runs, read_target, recommend_for
from dcpt.pipeline.export import export_config
from dcpt.pipeline.export_options import ExportOptions
from dcpt.pipeline.export_recipe import make_recipe
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.trainer_configs import DocumentLengths

pytestmark = pytest.mark.long

OPTIONS = ExportOptions(batch_sequences=64, sequence_tokens=512)
LENGTHS = {"general": DocumentLengths(2400, 1800), "domain": DocumentLengths(40, 30)}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Recommendation]:
    """A fit of 97 runs by one law, and a recommendation."""
    folder = tmp_path_factory.mktemp("fit")
    laws = ["annealed-general-l0", "annealed-domain-lam"]
    fit_runs(bundled_runs("zh_annealed"), folder, law=laws, n_draws=20)
    target = read_target(
        folder,
        n_params=29.1e6,
        n_tokens=44e6,
        limit="+3%",
        base_losses={"general": 2.775},
        base_peak_learning_rate=1e-3,
    )
    answer = recommend_for(folder, target)
    return load_fit(folder), answer


@pytest.fixture
def folder(fitted: tuple[Fit, Recommendation], tmp_path: Path) -> Path:
    """A folder with that fit and recommendation."""
    fit, answer = fitted
    place = tmp_path / "fit"
    from dcpt.laws import write_fit
    from dcpt.table import write_runs

    place.mkdir()
    write_fit(fit, place)
    write_runs(bundled_runs("zh_annealed"), place / "runs.csv")
    write_recommendation(answer, place)
    return place


def test_the_files_hold_the_recommended_pair(folder: Path) -> None:
    answer = read_recommendation(folder)
    (file,), notes = export_config(folder, "yaml", OPTIONS)
    assert file == folder / "export" / "yaml" / "mixture.yaml"
    found = yaml.safe_load(file.read_text())
    assert answer.best is not None
    (stage,) = found["stages"]
    assert stage["token_shares"]["domain"] == pytest.approx(answer.best.ratio)
    assert found["learning_rate"]["peak"] == answer.best.learning_rate
    assert found["steps"] == -(-44_000_000 // (64 * 512))
    # The runs decay over a tenth of the tokens before: an eleventh of the whole.
    assert found["learning_rate"]["decay_steps"] == round(found["steps"] / 11)
    text = file.read_text()
    assert "90 % interval" in text
    assert f"Evidence: {answer.evidence.level}." in text
    assert "replace PATH-OF-general, PATH-OF-domain by the paths" in notes[0]


def test_a_second_export_replaces_its_own_files_alone(folder: Path) -> None:
    (file,), _ = export_config(folder, "megatron", OPTIONS)
    export_config(folder, "megatron", replace(OPTIONS, batch_sequences=32))
    assert "--global-batch-size 32" in file.read_text()
    file.write_text("mine")
    with pytest.raises(InputError, match="was changed after dcpt wrote it"):
        export_config(folder, "megatron", OPTIONS)
    assert file.read_text() == "mine"


def test_a_file_of_a_person_stays(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "configs"
    mine.mkdir()
    (mine / "megatron.sh").write_text("mine")
    with pytest.raises(InputError, match="did not write this one; choose another folder"):
        export_config(folder, "megatron", OPTIONS, out=mine)
    assert (mine / "megatron.sh").read_text() == "mine"
    assert not (mine / MARKER).exists()


def test_a_recommendation_older_than_its_fit_is_refused(folder: Path) -> None:
    write_recommendation(replace(read_recommendation(folder), fit_sha256="0" * 64), folder)
    with pytest.raises(InputError, match=r"made from another fit.*run `dcpt recommend .*` again"):
        export_config(folder, "yaml", OPTIONS)


def test_without_a_feasible_share_nothing_is_written(folder: Path) -> None:
    write_recommendation(replace(read_recommendation(folder), best=None), folder)
    with pytest.raises(InputError, match="no share meets the limit"):
        export_config(folder, "yaml", OPTIONS)
    assert not (folder / "export").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(), "give --batch-sequences 512 and --sequence-tokens 4096"),
        (replace(OPTIONS, batch_sequences=40_000), "too few for a warmup"),
        (replace(OPTIONS, paths={"genral": "x"}), "--path genral: there is no such channel"),
        (replace(OPTIONS, decay_mixture={"domain": 0.8}), "the shares sum to 0.8"),
        (replace(OPTIONS, decay_mixture_name="best"), "has no such mixture"),
        (replace(OPTIONS, learning_rate=1e-5), "--learning-rate 1e-05: the share is recommended"),
        (replace(OPTIONS, warmup_tokens=1e6), "--warmup-tokens 1e[+]06: the share is recommended"),
    ],
)
def test_bad_options_are_refused(folder: Path, options: ExportOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_config(folder, "yaml", options)
    assert not (folder / "export").exists()


def test_missing_lengths_are_asked_for_where_documents_are_drawn(folder: Path) -> None:
    with pytest.raises(InputError, match="--tokens-per-document general=812"):
        export_config(folder, "ms-swift", OPTIONS)
    files, _ = export_config(folder, "ms-swift", replace(OPTIONS, lengths=LENGTHS))
    assert [file.name for file in files] == ["ms-swift.yaml"]


def test_what_the_recommendation_lacks_is_asked_for(
    fitted: tuple[Fit, Recommendation], folder: Path
) -> None:
    fit, answer = fitted
    assert answer.best is not None
    rateless = replace(answer, best=replace(answer.best, learning_rate=None))
    with pytest.raises(InputError, match="give --learning-rate"):
        make_recipe(folder, rateless, fit, OPTIONS)
    given = replace(OPTIONS, learning_rate=2e-4)
    assert make_recipe(folder, rateless, fit, given).learning_rate == 2e-4
    unknown = replace(answer, target=replace(answer.target, warmup_tokens=None))
    with pytest.raises(InputError, match="give --warmup-tokens"):
        make_recipe(folder, unknown, fit, OPTIONS)


def test_losses_before_a_decay_give_a_run_without_one(
    fitted: tuple[Fit, Recommendation], folder: Path
) -> None:
    fit, answer = fitted
    constant = replace(answer, phase="constant")
    assert make_recipe(folder, constant, fit, OPTIONS).decay_steps == 0
    with pytest.raises(InputError, match="--decay-mixture: the run has no decay"):
        make_recipe(folder, constant, fit, replace(OPTIONS, decay_mixture={"domain": 1.0}))


def test_decays_of_several_lengths_are_asked_for(
    fitted: tuple[Fit, Recommendation], folder: Path
) -> None:
    runs = bundled_runs("zh_annealed").drop(columns="branch_n_tokens")
    runs.to_csv(folder / "runs.csv", index=False)
    with pytest.raises(InputError, match="give --decay 10%"):
        make_recipe(folder, fitted[1], fitted[0], OPTIONS)
    found = make_recipe(folder, fitted[1], fitted[0], replace(OPTIONS, decay=0.25))
    assert found.decay_steps == round(found.n_steps / 5)


def test_a_study_gives_lengths_batch_and_mixtures(
    tiny_study: Path, fitted: tuple[Fit, Recommendation]
) -> None:
    text = re.sub(
        "branches: {.*}",
        "branches: {decay: 25%, mixtures: {best: {law: 0.8, en: 0.2}}}",
        tiny_study.read_text(),
    )
    tiny_study.write_text(text.replace("warmup: 5%", "warmup: 5%, warmup_ratio: 10%"))
    workspace = Workspace(tiny_study)
    prepared = prepare_study(workspace, workers=1)
    recipe = make_recipe(workspace, fitted[1], fitted[0], ExportOptions(decay_mixture_name="best"))
    law, counts = recipe.sources["law"], prepared.channels["law"].train
    assert law.lengths is not None
    assert law.lengths.mean == pytest.approx(counts.tokens / counts.documents)
    assert law.unique_tokens == prepared.unique_tokens("law")
    assert (recipe.batch_sequences, recipe.sequence_tokens) == (8, 32)
    assert [stage.name for stage in recipe.stages] == ["warmup", "main", "decay"]
    assert [stage.shares["law"] for stage in recipe.stages] == pytest.approx(
        [0.1, fitted[1].best.ratio, 0.8]  # type: ignore[union-attr]
    )
    assert recipe.stages[0].n_steps == recipe.warmup_steps
    assert recipe.stages[2].n_steps == recipe.decay_steps == round(recipe.n_steps / 5)


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, words)], catch_exceptions=True)


def test_the_command_reads_its_options(folder: Path) -> None:
    batch = ("--batch-sequences", 64, "--sequence-tokens", 512, "--json")
    done = run(
        *(folder, "--to", "llama-factory", *batch, "--path", "domain=/data/d.jsonl"),
        *("--tokens-per-document", "general=2400:1800", "--tokens-per-document", "domain=40"),
        *("--unique-tokens", "domain=3M", "--decay-mixture", "domain=80%"),
        *("--decay-mixture", "general=20%"),
    )
    assert done.exit_code == 0, done.output
    main, decay, declared = (Path(file) for file in json.loads(done.stdout)["files"])
    assert "epochs of 3M unique tokens" in " ".join(main.read_text().split())
    assert "because the spread of the lengths is not known" in decay.read_text().replace("\n#", "")
    assert json.loads(declared.read_text())["domain"]["file_name"] == "/data/d.jsonl"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "megatron-lm"), "--to megatron-lm: no such trainer"),
        (("--to", "yaml", "--tokens-per-document", "law=many"), "'many' is not a number above 0"),
        (("--to", "yaml", "--tokens-per-document", "law=0"), "'0' is not a number above 0"),
        (("--to", "yaml", "--decay", "110%"), "a share lies between 0 and 1"),
        (
            ("--to", "yaml", "--decay-mixture", "best", "--decay-mixture", "law=1"),
            "give one name of a mixture, or shares",
        ),
    ],
)
def test_bad_words_are_refused(folder: Path, words: tuple[str, ...], message: str) -> None:
    done = run(folder, *words)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
