"""How strong a recommendation is said to be: each level, each threshold, each reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_truth import COST

from dcpt.decide.evidence import Facts, judge
from dcpt.decide.files import read_recommendation, write_recommendation
from dcpt.decide.recommend import recommend
from dcpt.decide.records import Recommendation
from dcpt.decide.sentences import headline, summarise
from dcpt.laws.flags.kinds import make_flag

SOUND = Facts(
    extrapolation={"n_params": 1.0, "n_tokens": 1.0, "learning_rate": 1.0},
    target={"n_params": 8e6, "n_tokens": 44e6, "learning_rate": 9e-4},
    nearest={"n_params": 8e6, "n_tokens": 44e6, "learning_rate": 9e-4},
    n_runs=30,
    n_sizes=3,
    shares=(0.1, 0.5, 0.9),
    share=0.5,
    interval=(0.45, 0.55),
    at_bounds={"general": 0.0, "domain": 0.17},
    not_held_out=(),
    decayed=True,
)


def beyond(axis: str, factor: float, **fields: object) -> Facts:
    """Sound facts but for a target that lies a factor beyond the runs on one axis."""
    extrapolation = SOUND.extrapolation | {axis: factor}
    target = SOUND.target | {axis: SOUND.nearest[axis] * factor}
    return replace(SOUND, extrapolation=extrapolation, target=target, **fields)


@pytest.mark.parametrize(
    ("facts", "level", "kinds"),
    [
        (SOUND, "recommended", []),
        (beyond("n_params", 2.0), "recommended", []),
        (beyond("n_params", 2.1), "tentative", ["extrapolates (n_params)"]),
        (beyond("n_params", 16.0), "tentative", ["extrapolates (n_params)"]),
        (beyond("n_params", 17.0), "not enough evidence", ["extrapolates (n_params)"]),
        (beyond("n_params", 1.5, n_sizes=2), "tentative", ["extrapolates (n_params)"]),
        (beyond("n_params", 4.0, n_sizes=1), "tentative", ["extrapolates (n_params)"]),
        (beyond("n_params", 5.0, n_sizes=1), "not enough evidence", ["extrapolates (n_params)"]),
        (beyond("n_tokens", 2.0), "recommended", []),
        (beyond("n_tokens", 4.0), "tentative", ["extrapolates (n_tokens)"]),
        (beyond("n_tokens", 4.2), "not enough evidence", ["extrapolates (n_tokens)"]),
        (beyond("learning_rate", 3.0), "tentative", ["extrapolates (learning_rate)"]),
        (beyond("learning_rate", 3.2), "not enough evidence", ["extrapolates (learning_rate)"]),
        (replace(SOUND, n_runs=11), "tentative", ["few_runs"]),
        (replace(SOUND, n_runs=4), "not enough evidence", ["few_runs"]),
        (replace(SOUND, shares=(0.25, 0.75)), "not enough evidence", ["few_shares"]),
        (replace(SOUND, share=0.95), "tentative", ["extrapolates (ratio)"]),
        (replace(SOUND, share=0.97, shares=(0.1, 0.5, 0.8)), "not enough evidence", None),
        (replace(SOUND, interval=(0.4, 0.66)), "tentative", ["wide_interval"]),
        (replace(SOUND, interval=(0.27, 0.89)), "not enough evidence", ["wide_interval"]),
        (replace(SOUND, at_bounds={"domain": 0.5}), "tentative", ["at_bounds"]),
        (replace(SOUND, not_held_out=("domain",)), "not enough evidence", ["not_held_out"]),
        (replace(SOUND, decayed=False), "tentative", ["constant_rate_losses"]),
    ],
)
def test_every_threshold(facts: Facts, level: str, kinds: list[str] | None) -> None:
    found = judge(facts)
    assert found.level == level
    if kinds is not None:
        assert [reason.label for reason in found.reasons] == kinds
    for reason in found.reasons:
        assert reason.sentence.endswith(".")
        assert not reason.needed.endswith(".")


def test_the_weakest_reason_decides_and_comes_first() -> None:
    found = judge(replace(beyond("n_tokens", 400.0), interval=(0.3, 0.6), n_runs=6))
    assert found.level == "not enough evidence"
    assert [reason.level for reason in found.reasons] == [
        "not enough evidence",
        "tentative",
        "tentative",
    ]
    tokens = found.reasons[0]
    assert tokens.values["factor"] == 400
    assert tokens.needed == "train runs with at least 4.4B tokens"  # 400 x 44M / 4


def test_three_runs_of_one_size_recommend_nothing(known_fit, target) -> None:
    fit = known_fit(sizes=(2e6,), n_runs=3)
    answer = recommend(fit, target(n_params=454e6, n_tokens=20e9))
    assert answer.evidence.level == "not enough evidence"
    first, second, *_ = summarise(answer)
    assert first.startswith("Not enough evidence to recommend a share of domain text: first train")
    assert "114M parameters" in first  # 454M / 4
    assert "5B tokens" in first  # 20B / 4
    assert "at least 12 runs" in first
    assert second.startswith("Estimate, not a recommendation: ")
    assert " %" in second
    assert "Train with" not in " ".join(summarise(answer))


def test_the_levels_in_the_headline(known_fit, target) -> None:
    assert headline(recommend(known_fit(), target())).startswith("Train with 49.2 % domain text")
    tentative = recommend(known_fit(), target(n_params=30e6))
    assert headline(tentative).startswith("Tentative: train with 49.2 % domain text")
    assert any(
        line.startswith("Why tentative: The target has 30M") for line in summarise(tentative)
    )
    wide = recommend(known_fit(costs=COST * np.exp(np.linspace(-2, 2, 200))), target())
    assert headline(wide).startswith("Not enough evidence")


def test_evidence_goes_into_json_and_back(known_fit, target, tmp_path) -> None:
    answer = recommend(known_fit(), target(n_params=30e6))
    write_recommendation(answer, tmp_path)
    read = read_recommendation(tmp_path)
    assert read.evidence == answer.evidence
    record = answer.as_dict()["evidence"]
    assert record["level"] == "tentative"
    assert record["reasons"][0]["values"]["factor"] == pytest.approx(3.75)


def test_a_recommendation_of_an_older_version_asks_to_be_made_again(known_fit, target) -> None:
    new = recommend(known_fit(), target()).as_dict()
    fields = {name: value for name, value in new.items() if name != "evidence"}
    from pydantic import TypeAdapter

    old = TypeAdapter(Recommendation).validate_python(fields)
    assert old.evidence.level == "not enough evidence"
    assert "run `dcpt recommend` again" in headline(old)


def test_parameters_on_bounds_count_by_the_weight_of_their_law(known_fit, target) -> None:
    def kinds(*on_bounds: str) -> list[str]:
        flags = (make_flag("at_bound", parameters=on_bounds),)
        answer = recommend(known_fit(law_flags=flags), target())
        return [reason.kind for reason in answer.evidence.reasons]

    assert kinds("a", "b", "c") == ["at_bounds"]
    assert kinds("a") == []
