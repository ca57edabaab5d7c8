"""What one output says in two places has to agree."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from known_truth import BASE_GENERAL, KnownFit, spread_costs

from dcpt.cli.show_fit import cost_notes, cost_table
from dcpt.decide.recommend import recommend
from dcpt.decide.sentences import limit_binds, summarise
from dcpt.flags import Flag, rank_flags
from dcpt.laws.flags.kinds import make_flag
from dcpt.limit import Limit
from dcpt.report.cells import percent
from dcpt.report.decision_sections import trade_off_section
from dcpt.report.decision_tables import choices_table, losses_table, rates_table
from dcpt.report.decision_tiles import answer_tiles


def cells(table) -> dict[str, dict[str, str]]:
    """Rows of a table of choices, by label."""
    return {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}


class Cliff(KnownFit):
    """A known fit whose general loss rises by 4,000 nats a unit of share above one half."""

    def _losses(self, channel, points, cost):
        losses = super()._losses(channel, points, cost)
        if channel == self.domain_channel:
            return losses
        return losses + 4000 * np.maximum(points.ratio - 0.5, 0)


@pytest.fixture
def on_a_cliff(target):
    """A recommendation at the edge of a cliff; a thousandth of share is worth 4 nats there."""
    return recommend(Cliff(costs=spread_costs(), rates=(3e-4,)), target())


def test_a_limit_that_is_met_on_a_cliff_binds(on_a_cliff) -> None:
    best = on_a_cliff.best
    assert best.ratio == 0.5
    # The law is far below the limit there, and the next share that can be trained far above it.
    assert best.general_rise.value < 0.03 * BASE_GENERAL - 1e-3
    assert limit_binds(on_a_cliff)
    assert "limit_does_not_bind" not in {flag.kind for flag in on_a_cliff.flags}
    assert cells(choices_table(on_a_cliff))["recommended"]["within limit"] == "yes"
    assert "keeps the general loss below" in trade_off_section(on_a_cliff, {}).parts[2].caption


def test_a_limit_that_does_not_bind_is_said_everywhere(known_fit, target) -> None:
    answer = recommend(known_fit(rates=(1e-4, 3e-4)), target(limit=Limit(0.9, "nats")))
    assert not limit_binds(answer)
    assert cells(choices_table(answer))["recommended"]["within limit"] == "yes"
    assert answer.best.pair == answer.central.pair
    assert not any("By the central predictions" in line for line in summarise(answer))


def test_losses_that_cannot_be_are_no_numbers(on_a_cliff) -> None:
    highest = next(habit for habit in on_a_cliff.habits if habit.ratio == 0.95)
    assert highest.beyond_laws == ["general"]
    assert highest.losses["general"].value is None
    assert highest.general_rise.value is None
    assert highest.general_rise.high is None
    assert not highest.within_limit
    row = cells(choices_table(on_a_cliff))["5 % general text"]
    assert row["general rise"] == "beyond the laws"
    assert [note for note in cost_notes(on_a_cliff) if note.startswith("Beyond the laws: ")]
    text = json.dumps(on_a_cliff.as_dict(), allow_nan=False)
    assert max(abs(n) for n in numbers_in(json.loads(text)["habits"])) <= 20
    frontier = on_a_cliff.frontiers[0]
    assert frontier.general[-1] is None
    assert max(loss for loss in frontier.general if loss is not None) <= 20


def numbers_in(value) -> list[float]:
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_in(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value] if isinstance(value, int | float) else []


def test_shares_outside_the_runs_carry_a_mark(known_fit, target) -> None:
    answer = recommend(known_fit(shares=(0.2, 0.5, 0.9)), target())
    rows = cells(choices_table(answer))
    assert rows["5 % general text"]["domain share"] == "95 % *"
    assert rows["10 % general text"]["domain share"] == "90 %"
    assert cost_notes(answer) == ["* This share is outside those of the runs."]
    inside = recommend(known_fit(), target())
    assert cost_notes(inside) == []


def test_a_channel_that_no_model_has_is_shown_nowhere(known_fit, target) -> None:
    fit = known_fit(general_channels=("en", "zh", "general_total"))
    losses = {"en": 3.1, "zh": 3.2, "general_total": 3.1}
    limit = Limit(3, "percent", each=True)
    answer = recommend(fit, target(limit=limit, base_losses=losses))
    assert answer.general_channel == "general_worst"
    tiles = {tile.name: tile for tile in answer_tiles(answer)}
    assert "General loss, predicted" not in tiles
    # The known fit gives both channels one loss, so that of the lower base rises most.
    assert tiles["Loss of en, predicted (nearest to its limit)"].more.endswith("base 3.100")
    assert [row[0] for row in losses_table(answer, {}).rows] == [
        "en",
        "zh",
        "general (weighted)",
        "domain",
    ]


def test_one_number_reads_alike_in_every_place(known_fit, target) -> None:
    answer = recommend(known_fit(), target())
    low, high = answer.ratio_interval.low, answer.ratio_interval.high
    said = f"{100 * low:.0f} to {100 * high:.0f} %"
    assert any(f"share {said}" in line for line in summarise(answer))
    tiles = {tile.name: tile for tile in answer_tiles(answer)}
    assert tiles["Share of domain text"].more == f"90 % interval of the best share {said}"
    share = f"{100 * answer.best.ratio:.1f} %"
    assert tiles["Share of domain text"].value == share
    assert share in summarise(answer)[0]
    central = percent(answer.ratio_interval.value)
    rows = [[row[1], *row[3:]] for row in rates_table(answer).rows]
    assert [share, central, said] in rows
    assert share in cells(choices_table(answer))["recommended"]["domain share"]


def test_the_chance_is_explained_and_the_central_pair_is_in_the_table(known_fit, target) -> None:
    answer = recommend(known_fit(), target())
    assert "80 % was asked for" in summarise(answer)[2]
    assert summarise(answer)[2].endswith("nats lower: the price of certainty.")
    titles = [str(column.header) for column in cost_table(answer).columns]
    assert "chance of staying within the limit" in titles
    labels = [row[0] for row in choices_table(answer).rows]
    assert sum(label.startswith("central, at ") for label in labels) == 1


def test_warnings_about_parameters_are_one_line() -> None:
    laws = [
        make_flag("at_bound", {"channel": "general", "law": f"law{i}"}, parameters=["E"])
        for i in range(14)
    ]
    laws.append(make_flag("ill_conditioned", {"channel": "domain", "law": "d-cpt"}))
    flags = rank_flags([make_flag("few_sizes"), *laws, Flag("near_cliff", "A.")])
    assert [flag.kind for flag in flags] == [
        "near_cliff",
        "few_sizes",
        "parameters_not_determined",
    ]
    assert flags[-1].sentence == (
        "14 parameters of 15 laws are not well determined; predictions are not affected."
    )


def test_three_warnings_in_full_the_others_folded(known_fit, target) -> None:
    answer = recommend(known_fit(), target())
    many = [Flag(f"kind_{i}", f"Sentence {i}.") for i in range(6)]
    answer = replace(answer, flags=many)
    lines = [line for line in summarise(answer) if line.startswith("Warning: ")]
    assert lines == [f"Warning: Sentence {i}." for i in range(3)]
    assert summarise(answer)[-1] == "3 more warnings: kind 3, kind 4, kind 5."


def test_what_the_evidence_says_is_no_warning_again(known_fit, target) -> None:
    answer = recommend(known_fit(), target(n_params=30e6))
    assert "extrapolates (n_params)" in {flag.label for flag in answer.flags}
    assert not any("30M" in line for line in summarise(answer) if line.startswith("Warning: "))
