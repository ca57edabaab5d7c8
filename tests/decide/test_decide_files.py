from __future__ import annotations

import json

import pytest

from dcpt.decide.files import from_json, to_json
from dcpt.decide.recommend import recommend
from dcpt.decide.records import Interval, Recommendation, Verification, Verified
from dcpt.errors import InputError


def test_recommendation_reads_back_equal(known_fit, target, tmp_path):
    for fit in (known_fit(), known_fit(rewarm=0.5), known_fit(rates=(), need=frozenset({"share"}))):
        answer = recommend(fit, target())
        path = to_json(answer, tmp_path / "recommendation.json")
        assert from_json(path, Recommendation) == answer
        assert json.loads(path.read_text()) == json.loads(json.dumps(answer.as_dict()))
    assert [one.name for one in tmp_path.iterdir()] == ["recommendation.json"]


def test_verification_reads_back_equal(tmp_path):
    one = Verified("recommendation", "a", 0.5, 1e-3, {"en": Interval(1, 0, 2)}, {"en": 1}, {})
    record = Verification(0.9, [one], True, False, None, ["words"])
    assert from_json(to_json(record, tmp_path / "v.json"), Verification) == record


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "recommendation.json"
    with pytest.raises(InputError, match="does not exist: no recommendation"):
        from_json(path, Recommendation)
    path.write_text("{}")
    with pytest.raises(InputError, match="is not a recommendation as dcpt writes it: target"):
        from_json(path, Recommendation)
    path.write_text("no json")
    with pytest.raises(InputError, match="is not a recommendation"):
        from_json(path, Recommendation)
