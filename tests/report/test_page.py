from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import PackageNotFoundError

import pytest
from made_report import make_recommendation, make_verification
from pydantic import TypeAdapter

from dcpt.decide.records import Evidence, Flag, Interval, Recommendation, Verification
from dcpt.errors import InputError
from dcpt.laws.fits.fit_runs import fit as fit_laws
from dcpt.report.page import how_made, write_report


class Page(HTMLParser):
    """The parts of a page that a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source, self.words, self.ids, self.links = text, "", [], []
        self.labels, self.tags = [], []
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self._silent = tag == "style"
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src", "srcset", "data") if name in found]
        if tag == "svg":
            self.labels.append(found.get("aria-label"))

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.words += data.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def write(tmp_path_factory, runs, fit):
    def make(recommendation, verification=None, runs=runs, fit=fit, **more):
        paths = write_report(
            tmp_path_factory.mktemp("report"),
            runs=runs,
            fit=fit,
            recommendation=recommendation,
            verification=verification,
            title="Verse",
            **more,
        )
        assert [path.name for path in paths] == ["report.html", "report.md", "report.json"]
        page, markdown, record = (path.read_text(encoding="utf-8") for path in paths)
        return Page(page), markdown, json.loads(record)

    return make


@pytest.fixture(scope="module")
def predicted(write, recommendation):
    """A report before anything was verified."""
    return write(recommendation, notes=["Trained at home."])


@pytest.fixture(scope="module")
def held(write, recommendation):
    """A report of a verification that held."""
    return write(recommendation, make_verification(missed=False))


@pytest.fixture(scope="module")
def missed(write, recommendation):
    """A report of a verification that missed."""
    return write(recommendation, make_verification(missed=True))


def test_page_needs_nothing_from_elsewhere(held):
    page, _, _ = held
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    for word in ("http:", "https:", "@import", "src="):
        assert word not in page.source
    assert page.source.count("url(") == page.source.count("url(#")


def test_page_follows_light_and_dark_and_prints(predicted):
    page, _, _ = predicted
    for words in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert words in page.source
    assert "_VARIABLES" not in page.source


def test_every_figure_has_a_description(held):
    page, _, _ = held
    # Trade-off 2, frontier 1, verification 2, curves 4 a channel, residuals 2.
    assert len(page.labels) == 15
    assert all(page.labels)
    assert len(set(page.labels)) == 15
    assert page.words.count("What to see: ") == 6


def test_no_line_begins_with_a_per_cent_sign(predicted):
    page, _, _ = predicted
    assert "31.2\N{NO-BREAK SPACE}% domain text" in page.source
    assert "train with 31.2 %" not in page.source


def test_answer_comes_first(predicted):
    page, markdown, record = predicted
    answer = "Tentative: train with 31.2 % domain text at a peak learning rate of 6.4e-4."
    assert record["answer"] == answer
    body = page.words[page.words.index("Verse ·") :]
    assert body.split("\n")[1] == answer
    assert markdown.startswith(f"# Verse\n\n**{answer}**")


def numbers_of(recommendation: Recommendation) -> list[str]:
    """Every number a person is owed, as she reads it."""

    def nats(value: float, sign: str = "") -> str:
        return f"{value:{sign}.3f}".replace("-", "−")

    best = recommendation.best
    owed = ["31.2 %", "24 to 39 %", "6.4e-4", "5.1e-4 to 8.7e-4", "2.775", "62 %"]
    owed.append(nats(2.775 * 1.03))
    for interval in best.losses.values():
        owed += [nats(interval.value), f"{nats(interval.low)} to {nats(interval.high)}"]
    owed.append(nats(best.general_rise.value, "+"))
    for habit in recommendation.habits:
        owed += [f"{100 * habit.ratio:.0f} %", nats(habit.general_rise.value, "+")]
        owed += [nats(habit.losses["domain"].value), nats(habit.regret.value, "+")]
    for frontier in recommendation.frontiers:
        top = frontier.largest_ratio
        owed.append(f"{100 * top.low:.0f} to {100 * top.high:.0f} %")
    return [*owed, "4.41x", *(flag.label for flag in recommendation.flags)]


def test_all_numbers_of_the_recommendation_appear(predicted, recommendation):
    page, markdown, _ = predicted
    for number in numbers_of(recommendation):
        assert number in page.words, number
        assert number in markdown, number
    assert "The interval is <wide> & decides little." in page.words
    assert "The interval is &lt;wide> & decides little." in markdown


def test_a_missed_verification_is_said_in_words(missed):
    for text in missed[:2]:
        words = text if isinstance(text, str) else text.words
        assert "lies OUTSIDE its predicted interval (a miss)" in words
        assert "MISS: 0.050 above the interval" in words
        assert "The limit did NOT hold: at 31.2 % domain text the general loss rose" in words


def test_a_verification_that_held_is_said_in_words(held):
    for text in held[:2]:
        words = text if isinstance(text, str) else text.words
        assert "lie inside the predicted intervals" in words
        assert "The limit held: at 31.2 % domain text" in words
        assert "MISS" not in words
        assert "OUTSIDE" not in words


def test_a_report_without_verification_says_so(predicted):
    page, markdown, record = predicted
    assert "has not been trained at the recommendation yet" in page.words
    assert "has not been trained at the recommendation yet" in markdown
    assert record["verification"] is None


def test_json_holds_the_records(missed, predicted, fit, recommendation):
    _, _, record = missed
    read = TypeAdapter(Recommendation).validate_python(record["recommendation"])
    assert read == recommendation
    assert record["recommendation"] == json.loads(json.dumps(recommendation.as_dict()))
    assert TypeAdapter(Verification).validate_python(record["verification"]) == make_verification(
        missed=True
    )
    assert predicted[2]["notes"] == ["Trained at home."]
    assert "Trained at home." in predicted[0].words
    assert record["laws"] == json.loads(json.dumps(fit.records()))
    assert fit.table_sha256 in record["made"]["runs table"]


def test_no_share_within_the_limit_is_said_plainly(write):
    page, markdown, record = write(make_recommendation(ratio=None))
    answer = "Tentative: no share of domain text keeps the general loss within +3% of the base's."
    assert record["answer"] == answer
    for words in (page.words, markdown):
        assert answer in words
        assert "at any learning rate in the grid" in words


def test_bits_per_byte_appear_where_the_bytes_are_known(write, predicted, runs, recommendation):
    assert "bits per byte" not in predicted[0].words
    known = runs.assign(bytes_per_token_general=3.9)
    page, markdown, _ = write(recommendation, runs=known)
    bits = f"{recommendation.best.losses['general'].value / math.log(2) / 3.9:.3f}"
    for words in (page.words, markdown):
        assert "bits per byte" in words
        assert bits in words


def test_laws_weights_and_left_out_rows_appear(predicted, fit):
    page, markdown, _ = predicted
    for record in fit.records():
        for words in (page.words, markdown):
            assert record["law"] in words
            assert record["formula"] in words
        for value in record["parameters"].values():
            assert f"{value:.4g}" in page.words
    assert "D below 2.5 x warmup tokens" not in page.words
    late = {reason for channel in fit.by_channel.values() for _, reason in channel.left_out}
    assert all(reason in page.words for reason in late)


def test_a_table_without_rates_and_phases_is_reported(write, runs):
    keep = (runs["n_params"] == 1.8e6) & (runs["learning_rate"] == 3e-4)
    keep &= runs["phase"] != "annealed"
    plain = runs[keep].drop(columns=["learning_rate", "phase", "branch_n_tokens"])
    fitted = fit_laws(plain, law="d-cpt", n_draws=5)
    made = make_recommendation()
    unknown = replace(
        made,
        phase="constant",
        best=replace(made.best, learning_rate=None),
        learning_rate_interval=None,
        frontiers=[replace(made.frontiers[0], learning_rate=None)],
        habits=[replace(habit, learning_rate=None) for habit in made.habits],
        alternatives={},
        ratio_interval=Interval(0.3127, None, None),
    )
    page, markdown, record = write(unknown, runs=plain, fit=fitted)
    assert record["answer"] == "Tentative: train with 31.2 % domain text."
    for words in (page.words, markdown):
        assert "as in the runs" in words
        assert "no interval" in words


def test_a_folder_that_cannot_be_written_is_named(tmp_path, runs, fit, recommendation):
    place = tmp_path / "taken"
    place.write_text("a file")
    with pytest.raises(InputError, match=r"taken.*another folder"):
        write_report(place, runs=runs, fit=fit, recommendation=recommendation, title="Verse")
    assert place.read_text() == "a file"


def test_sources_that_are_not_installed_have_no_version(fit, monkeypatch):
    def version(name: str) -> str:
        if name == "dcpt":
            raise PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr("dcpt.laws.fits.files.version", version)
    made = how_made(fit)
    assert made["dcpt"] == "not installed"
    assert made["scipy"] == "9.9"


def test_a_verified_page_leads_with_what_was_measured(held, missed):
    for (page, markdown, record), verdict in (
        (held, "keeps the limit of +3% and is the best of the trained pairs."),
        (missed, "exceeds the limit of +3% by 0.057 nats. None of the trained pairs is within"),
    ):
        answer = record["answer"]
        assert answer.startswith("Measured: 31.2 % domain text at a peak learning rate of 6.4e-4 ")
        assert verdict in answer
        assert markdown.startswith(f"# Verse\n\n**{answer}**")
        body = page.words[page.words.index("Verse ·") :]
        assert body.split("\n")[1] == answer
        # The prediction follows.
        assert body.index("The prediction was: Tentative: train with 31.2 %") > body.index(answer)


def test_markdown_shows_the_verification_once(missed):
    _, markdown, _ = missed
    assert markdown.count("MISS: 0.050 above the interval") == 1
    assert "The same in sentences" not in markdown
    assert markdown.count("| recommendation, 31.2 % at 6.4e-4 | general |") == 1


def test_not_enough_evidence_is_the_first_line_and_numbers_are_estimates(write, recommendation):
    reason = replace(recommendation.evidence.reasons[0], level="not enough evidence")
    weak = replace(recommendation, evidence=Evidence("not enough evidence", [reason]))
    page, markdown, record = write(weak)
    first = (
        "Not enough evidence to recommend a share of domain text: first train runs with at least "
        "14.6M parameters."
    )
    assert record["answer"] == first
    assert record["recommendation"]["evidence"]["level"] == "not enough evidence"
    for words in (page.words, markdown):
        assert first in words
        assert "Estimate, not a recommendation: 31.2 % domain text" in words
        assert "Share of domain text, estimate" in words
        assert "Train with" not in words


def test_more_than_three_warnings_are_folded(write, recommendation):
    flags = [Flag(f"kind{i}", f"Sentence {i}.") for i in range(5)]
    page, markdown, _ = write(replace(recommendation, flags=flags))
    assert page.source.count('<p class="flag">') == 3  # a reason of the evidence, and two
    assert "3 more warnings" in page.words
    for words in (page.words, markdown):
        assert "Sentence 4. (kind4)" in words
