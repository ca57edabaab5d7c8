"""The sliders of the page: their answers are those of recommend, in Python and in a browser."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dcpt.decide.recommend import recommend
from dcpt.decide.records import Recommendation, Target
from dcpt.decide.settings import Answer, Settings, answer_settings
from dcpt.decide.stops import base_losses_at, find_stops
from dcpt.laws.fits.result import Fit
from dcpt.limit import Limit
from dcpt.quantities import format_chance
from dcpt.report.page import write_report
from dcpt.report.sliders import settings_section

SHARE, LOSS = 0.005, 0.001
"""How far the page may be from Python: share, and nats per token."""

LARGEST_PAGE = 5_000_000

ASK = """
<script>
const said = [];
for (const position of POSITIONS) {
  for (const [name, value] of Object.entries(position)) {
    const input = document.getElementById("slider-" + name);
    input.value = value;
    input.dispatchEvent(new Event("input"));
  }
  const answer = document.querySelector("#what-if-answer .verdict");
  const curves = document.querySelectorAll("#what-if-curves svg").length;
  const tiles = {};
  for (const tile of document.querySelectorAll("#what-if-answer .tiles > div")) {
    tiles[tile.querySelector("dt").textContent] = tile.querySelector("dd").textContent;
  }
  said.push({ ...answer.dataset, curves, tiles, text: answer.textContent });
}
const box = document.createElement("pre");
box.id = "said";
box.textContent = JSON.stringify(said);
document.body.append(box);
</script>
"""


@pytest.fixture(scope="module")
def asked(fit: Fit) -> Recommendation:
    bases = {"general": dict(fit.bases["general"])[1.8e6] - 0.3}
    known = {"base_losses": bases, "base_peak_learning_rate": 2e-3, "base_n_tokens": 120e6}
    return recommend(fit, Target(8e6, 6e6, "+3%", confidence=0.75, **known))


@pytest.fixture(scope="module")
def settings(fit: Fit, asked: Recommendation) -> Settings:
    return answer_settings(fit, asked)


@pytest.fixture(scope="module")
def at_all_chances(settings: Settings) -> Settings:
    """The settings with chances near 0, 1 and halves of a percent, which 10 draws do not give."""
    chances = itertools.cycle([0.99, 0.993, 0.996, 1.0, 0.505, 0.015, 0.01, 0.006, 0.004, 0.0])

    def change(answer: Answer) -> Answer:
        return answer if answer.choice is None else replace(answer, probability=next(chances))

    cells = [
        replace(cell, answers=tuple(tuple(map(change, row)) for row in cell.answers))
        for cell in settings.cells
    ]
    return replace(settings, cells=tuple(cells))


@pytest.fixture(scope="module")
def page(
    fit: Fit,
    runs: pd.DataFrame,
    asked: Recommendation,
    at_all_chances: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("sliders")
    known = {"runs": runs, "fit": fit, "recommendation": asked, "settings": at_all_chances}
    return write_report(folder, title="Verse", **known)[0]


def positions(settings: Settings, count: int) -> Iterator[tuple[dict[str, int], Target, Answer]]:
    """Random positions of the sliders, the target there, and the answer of the page's data."""
    rng, stops = np.random.default_rng(0), settings.stops
    for _ in range(count):
        cell, limit, odds = (
            int(rng.integers(len(of))) for of in (settings.cells, stops.limits, stops.confidences)
        )
        size, tokens = divmod(cell, len(stops.n_tokens))
        place = {"n_params": size, "n_tokens": tokens, "limit": limit, "confidence": odds}
        target = replace(
            settings.cells[cell].target,
            limit=stops.limits[limit],
            confidence=stops.confidences[odds],
        )
        yield place, target, settings.cells[cell].answers[limit][odds]


def ask_page(page: Path, browse: Callable[[Path], str], places: list[dict[str, int]]) -> list:
    """What the page says at positions of its sliders."""
    script = ASK.replace("POSITIONS", json.dumps(places))
    copy = page.with_name("asked.html")
    copy.write_text(page.read_text("utf-8").replace("</body>", script + "</body>"), "utf-8")
    found = re.search(r'<pre id="said">(.*?)</pre>', browse(copy), re.DOTALL)
    assert found is not None
    return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


def test_answers_are_those_of_recommend(fit: Fit, settings: Settings) -> None:
    for _, target, answer in positions(settings, 4):
        expected = recommend(fit, target)
        assert answer.evidence.level == expected.evidence.level
        if expected.best is None:
            assert answer.choice is None
            continue
        assert answer.choice.pair == expected.best.pair
        assert answer.interval.low == expected.ratio_interval.low
        assert answer.interval.high == expected.ratio_interval.high
        for channel, interval in expected.best.losses.items():
            assert answer.choice.losses[channel].value == pytest.approx(interval.value, abs=1e-6)
            assert answer.choice.losses[channel].low == pytest.approx(interval.low, abs=LOSS)


def test_answers_with_weights_are_those_of_recommend(
    fit: Fit, asked: Recommendation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcpt.decide.stops.FACTORS", (0.5, 1.0))
    light = {"domain": 1.0, "general": 4.0}
    weighted = recommend(fit, replace(asked.target, weights=light))
    assert weighted.best.ratio < asked.best.ratio
    found = answer_settings(fit, weighted)
    for _, target, answer in positions(found, 4):
        expected = recommend(fit, target)
        assert answer.choice.pair == expected.best.pair
        assert answer.interval.low == expected.ratio_interval.low
        assert answer.interval.high == expected.ratio_interval.high
    (text, _) = settings_section(found).parts
    assert "each has the lowest mean loss (domain 1, general 4)" in text.text


def test_the_mix_that_the_answers_keep_is_said(settings: Settings) -> None:
    mixed = replace(settings, target=replace(settings.target, mix={"en": 0.3, "zh": 0.7}))
    (text, _) = settings_section(mixed).parts
    assert "The mix of the general text stays en 30 %, zh 70 %." in text.text


def test_the_sliders_start_at_the_recommendation(settings: Settings, asked: Recommendation) -> None:
    stops, target = settings.stops, asked.target
    size, tokens = stops.n_params.index(8e6), stops.n_tokens.index(6e6)
    cell = settings.cells[size * len(stops.n_tokens) + tokens]
    answer = cell.answers[stops.limits.index(target.limit)][stops.confidences.index(0.75)]
    assert answer.choice == asked.best
    assert answer.evidence == asked.evidence


def test_a_base_of_another_size_lies_on_the_line_through_the_known_ones(
    fit: Fit, asked: Recommendation
) -> None:
    target, known = asked.target, dict(fit.bases["general"])
    smallest = min(known)
    assert base_losses_at(fit, target, smallest)["general"] == pytest.approx(known[smallest])
    assert base_losses_at(fit, target, 8e6)["general"] == target.base_losses["general"]
    sizes = sorted({*known, 8e6})
    further = base_losses_at(fit, target, 16e6)["general"]
    losses = [*(known[size] for size in sizes[:-1]), target.base_losses["general"]]
    slope = np.log(losses[-1] / losses[-2]) / np.log(sizes[-1] / sizes[-2])
    assert further == pytest.approx(losses[-1] * 2**slope)


def test_own_values_are_among_the_stops(fit: Fit, asked: Recommendation) -> None:
    odd = replace(asked.target, limit=Limit(2.7, "percent"), n_tokens=6_123_456.0)
    stops = find_stops(fit, replace(asked, target=odd))
    assert odd.limit in stops.limits
    assert odd.n_tokens in stops.n_tokens
    for values in (stops.n_params, stops.n_tokens, stops.confidences):
        assert list(values) == sorted(values)


def test_a_refused_target_says_why(
    fit: Fit, asked: Recommendation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcpt.decide.stops.FACTORS", (0.25, 1.0))
    tiny = replace(asked, target=replace(asked.target, n_params=3000.0))
    refused = [cell for cell in answer_settings(fit, tiny).cells if cell.refusal]
    assert refused
    assert all("below 1,000" in cell.refusal for cell in refused)


@pytest.fixture(scope="module")
def unlimited(fit: Fit, asked: Recommendation) -> Recommendation:
    return recommend(fit, replace(asked.target, limit=None))


def test_without_a_limit_there_are_neither_limits_nor_odds_to_choose(
    fit: Fit,
    runs: pd.DataFrame,
    unlimited: Recommendation,
    browse: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("dcpt.decide.stops.FACTORS", (0.5, 1.0))
    settings = answer_settings(fit, unlimited)
    known = {"runs": runs, "fit": fit, "recommendation": unlimited, "settings": settings}
    page = write_report(tmp_path, title="Verse", **known)[0]
    text = page.read_text("utf-8")
    assert 'id="slider-n_tokens"' in text
    assert 'id="slider-limit"' not in text
    assert 'id="slider-confidence"' not in text
    chosen = list(positions(settings, 5))
    places = [{"n_params": p["n_params"], "n_tokens": p["n_tokens"]} for p, _, _ in chosen]
    for said, (_, target, answer) in zip(ask_page(page, browse, places), chosen, strict=True):
        assert answer.probability is None
        assert answer.choice.pair == recommend(fit, target).best.pair
        assert float(said["share"]) == pytest.approx(answer.choice.ratio, abs=SHARE)
        assert "NaN" not in said["text"]


def test_the_page_is_small_and_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    assert page.stat().st_size < LARGEST_PAGE
    # The name of SVG elements is the only address; nothing is loaded from it.
    assert set(re.findall(r"https?://[^\"' ]*", text)) <= {"http://www.w3.org/2000/svg"}
    for word in ("src=", "@import", "fetch(", "XMLHttpRequest", "import("):
        assert word not in text


def test_the_page_says_what_python_says(
    page: Path, at_all_chances: Settings, browse: Callable[[Path], str]
) -> None:
    chosen = list(positions(at_all_chances, 200))
    found = ask_page(page, browse, [place for place, _, _ in chosen])
    for said, (_, target, answer) in zip(found, chosen, strict=True):
        choice = answer.choice
        if choice is None:
            assert said["text"] == "No share of domain text keeps the limit at these odds."
            assert said["curves"] == 0
            continue
        assert said["curves"] == 2
        assert answer.probability is not None
        chance = said["tiles"]["Chance of staying within the limit"]
        assert chance == format_chance(answer.probability), target
        assert float(said["share"]) == pytest.approx(choice.ratio, abs=SHARE)
        assert float(said["share_low"]) == pytest.approx(answer.interval.low, abs=SHARE)
        for side in ("general", "domain"):
            interval = choice.losses[side]
            for end, value in (("", interval.value), ("_low", interval.low)):
                assert float(said[side + end]) == pytest.approx(value, abs=LOSS), target
