from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_report import make_recommendation
from made_study import CODE, MOVED, leave_points, ordinary_losses, write_made_study

from dcpt.decide import write_recommendation
from dcpt.grid.planned import Trunk
from dcpt.pipeline.answer import collect_runs, fit_runs, report_on
from dcpt.pipeline.workspace import Workspace
from dcpt.report.own_decays import own_decay_record, own_decays_section, own_decays_table
from dcpt.report.parts import Text
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig
from dcpt.table.study_rows import OwnDecay

pytestmark = pytest.mark.long

TITLE = "Decays with mixtures of their own"
LABEL = "Measured after each decay, nats per token, and the difference from the ordinary decay"


def report(file: Path, place: Path | None = None) -> tuple[str, str, dict]:
    """Fit the study's table and write its page, or that of its fit folder."""
    study = Workspace(file)
    fitted = fit_runs(collect_runs(study), file.parent / "fit", n_draws=5)
    answer = replace(make_recommendation(), fit_sha256=fitted.sha256)
    write_recommendation(answer, file.parent / "fit")
    page, markdown, record = (
        path.read_text(encoding="utf-8") for path in report_on(place or study)
    )
    return page, markdown, json.loads(record)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_study(tmp_path_factory.mktemp("own"), mixtures=True)


@pytest.fixture(scope="module")
def written(study: Path) -> tuple[str, str, dict]:
    return report(study)


@pytest.fixture(scope="module")
def ends(study: Path) -> list[RunConfig]:
    """The ordinary branches of the grid."""
    planned = [run.config for run in Workspace(study).planned]
    return [c for c in planned if c.identity.kind == "branch" and not c.recorded.mixture_name]


def nats(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("-", "−")


def table_under(markdown: str, label: str) -> list[list[str]]:
    """The cells of the Markdown table that follows a label, its head first."""
    lines = markdown.split(f"\n{label}\n", 1)[1].strip("\n").split("\n")
    table = list(itertools.takewhile(lambda line: not line or line.startswith("|"), lines))
    rows = [line for line in table if line and not line.startswith("| :")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in rows]


def test_every_trunk_s_decays_stand_beside_the_ordinary_one(written, ends) -> None:
    page, markdown, _ = written
    head, *rows = table_under(markdown, LABEL)
    assert head[:6] == ["size", "domain share", "learning rate", "tokens", "channel", "ordinary"]
    assert head[6:] == ["best", "best − ordinary", "calm", "calm − ordinary"]
    assert len(rows) == len(ends) * 3
    for config in ends:
        end, share = config.recorded.n_tokens, f"{100 * config.identity.ratio:g} %"
        trunk = [{"a": "1.8M", "b": "6.6M"}[config.recorded.size], share, "3e-3"]
        mine = {row[4]: row[5:] for row in rows if row[:3] == trunk}
        for name, loss in ordinary_losses(config, end).items():
            moved = [MOVED[mixture][name] for mixture in ("best", "calm")]
            cells = [nats(loss)]
            for by in moved:
                cells += [nats(loss + by), nats(by, "+")]
            assert mine[{"en": "general", "law": "domain"}[name]] == cells
            assert all(f">{cell}</td>" in page for cell in cells)
        assert mine["code"] == ["not measured", nats(CODE), "", "not measured", ""]


def test_the_page_says_in_words_what_they_are(written) -> None:
    for page in written[:2]:
        text = page.replace("\N{NO-BREAK SPACE}", " ")
        assert "All losses in this section are measured. They are in no fit" in text
        assert "best: 50 % domain, 20 % code, 30 % general" in text
        assert "calm: 100 % general" in text
    assert '<a href="#own-mixtures">' in written[0]


def test_json_holds_losses_and_differences(written, ends) -> None:
    found = written[2]["own_decays"]
    assert len(found) == 2 * len(ends)
    for decay in found:
        moved = {"general": MOVED[decay["mixture"]]["en"], "domain": MOVED[decay["mixture"]]["law"]}
        assert decay["differences"] == pytest.approx(moved, abs=1e-9)
        assert decay["losses"].keys() - decay["ordinary"].keys() <= {"code"}
        assert decay["n_tokens"] > decay["branch_n_tokens"]


def test_the_table_of_all_runs_keeps_the_ordinary_decay(written, ends) -> None:
    head, *rows = table_under(written[1], "All 6 runs")
    for channel, name in (("general", "en"), ("domain", "law")):
        column = head.index(f"{channel}, annealed")
        measured = [nats(ordinary_losses(c, c.recorded.n_tokens)[name]) for c in ends]
        assert sorted(row[column] for row in rows) == sorted(measured)


def test_no_law_sees_them(study: Path) -> None:
    runs = collect_runs(Workspace(study))
    own = runs["excluded"].notna()
    assert set(runs.loc[own, "excluded"]) == {
        "decay with a mixture of its own: best",
        "decay with a mixture of its own: calm",
    }
    without = fit_runs(runs[~own].reset_index(drop=True), None, n_draws=1)
    fitted = fit_runs(runs, None, n_draws=1)
    parameters = [[record["parameters"] for record in fit.records()] for fit in (fitted, without)]
    assert parameters[0] == parameters[1]


def test_a_study_without_any_has_no_section(tmp_path: Path, study: Path) -> None:
    page, markdown, record = report(write_made_study(tmp_path, mixtures=False))
    assert "own-mixtures" not in page
    assert TITLE not in markdown
    assert record["own_decays"] == []
    # Nor has the folder of a fit: its table says nothing of a study.
    page, markdown, record = report(study, study.parent / "fit")
    assert "own-mixtures" not in page
    assert TITLE not in markdown
    assert record["own_decays"] == []


def test_a_verification_trains_no_decays_with_other_mixtures(tmp_path: Path) -> None:
    file = write_made_study(tmp_path, mixtures=True)
    runs, trunk = file.parent / "runs", Trunk("big", 0.4, 3e-3, 0, 5120)
    planned = Workspace(file).plan_trunks([trunk], "verify")
    assert [run.config.recorded.mixture_name for run in planned] == [None] * len(planned)
    leave_points(file, planned)
    assert not [own for own in Workspace(file).rows.own_decays if own.n_params == 29_100_000]
    table = collect_runs(Workspace(file))
    name = next(
        RunFolder.of(run.config, runs).path.name
        for run in planned
        if run.config.identity.kind == "trunk"
    )
    ends = table[(table["run"] == name) & (table["phase"] == "annealed")]
    assert ends["excluded"].tolist() == ["verification run"]


def test_a_mixture_that_the_study_no_longer_has_is_not_its_own(tmp_path: Path) -> None:
    file = write_made_study(tmp_path, mixtures=True)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("code: 0.2, en: 0.3", "code: 0.3, en: 0.2"), encoding="utf-8")
    assert {own.mixture for own in Workspace(file).rows.own_decays} == {"calm"}
    assert len(Workspace(file).rows.left_out) == 6


MADE = OwnDecay(
    mixture="best",
    shares={"domain": 0.625, "en": 0.375},
    run="one",
    n_params=1_800_000,
    ratio=0.5,
    learning_rate=9e-4,
    seed=0,
    branch_n_tokens=40_000_000,
    n_tokens=44_000_000,
    losses={"en": 3.0, "zh": 4.0, "domain": 2.5, "general_total": 3.25},
    ordinary={"en": 3.1, "zh": 3.9, "domain": 2.75, "general_total": 3.3},
)


def test_a_decay_that_has_not_ended_is_not_measured() -> None:
    table = own_decays_table(
        [replace(MADE, ordinary={}), replace(MADE, run="two", ratio=0.9, mixture="calm")]
    )
    by_channel = {(row[1], row[4]): row[5:] for row in table.rows}
    assert by_channel["50 %", "domain"] == ["not measured", "2.500", "", "not measured", ""]
    assert by_channel["90 %", "domain"] == ["2.750", "not measured", "", "2.500", "−0.250"]
    assert by_channel["90 %", "general (weighted)"][-1] == "−0.050"
    assert own_decay_record(replace(MADE, ordinary={}))["differences"] == {}


def test_not_measured_is_explained_where_it_stands() -> None:
    words = "Not measured: the decay has not ended"
    output = {
        bool(ordinary): [p.text for p in section.parts if isinstance(p, Text)]
        for ordinary in (MADE.ordinary, {})
        for section in [own_decays_section([replace(MADE, ordinary=ordinary)])]
    }
    assert not any(words in text for text in output[True])
    assert any(words in text for text in output[False])


def test_seeds_are_told_apart_where_there_are_several() -> None:
    assert "seed" not in own_decays_table([MADE]).head
    table = own_decays_table([replace(MADE, run="two", seed=7), MADE])
    assert [row[table.head.index("seed")] for row in table.rows] == ["0"] * 4 + ["7"] * 4
    assert all(len(row) == len(table.head) for row in table.rows)


def test_shares_are_not_rounded_away() -> None:
    said = own_decays_section([MADE]).parts[1]
    assert said.items == ["best: 62.5 % domain, 37.5 % en"]
