from __future__ import annotations

import json

import pytest

from dcpt.decide.files import (
    read_recommendation,
    read_verification,
    write_recommendation,
    write_verification,
)
from dcpt.decide.recommend import recommend
from dcpt.decide.records import Interval, Verification, Verified
from dcpt.errors import InputError


def test_recommendation_reads_back_equal(known_fit, target, tmp_path):
    for fit in (known_fit(), known_fit(rewarm=0.5), known_fit(rates=(), need=frozenset({"share"}))):
        answer = recommend(fit, target())
        path = write_recommendation(answer, tmp_path)
        assert read_recommendation(tmp_path) == answer
        written = json.loads(path.read_text())
        assert len(written.pop("sha256")) == 64
        assert written == json.loads(json.dumps(answer.as_dict()))
    assert [path.name for path in tmp_path.iterdir()] == ["recommendation.json"]


def test_verification_reads_back_equal(tmp_path):
    assert read_verification(tmp_path) is None
    run = Verified("recommendation", "a", 0.5, 1e-3, {"en": Interval(1, 0, 2)}, {"en": 1}, {})
    record = Verification(0.9, [run], True, False, None, ["words"])
    write_verification(record, tmp_path)
    assert read_verification(tmp_path) == record


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"recommendation\.json does not exist: run"):
        read_recommendation(tmp_path)
    path = tmp_path / "recommendation.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="is not a recommendation as dcpt writes it: target"):
        read_recommendation(tmp_path)
    (tmp_path / "verification.json").write_text('{"level": 0.9}')
    with pytest.raises(InputError, match="is not a verification as dcpt writes it: runs"):
        read_verification(tmp_path)


@pytest.mark.parametrize("way", ["emptied", "halved", "changed", "a list", "a folder"])
def test_a_torn_file_is_named_and_written_again(tmp_path, way):
    run = Verified("recommendation", "a", 0.5, 1e-3, {"en": Interval(1, 0, 2)}, {"en": 1}, {})
    record = Verification(0.9, [run], True, False, None, ["words"])
    path = write_verification(record, tmp_path)
    content = path.read_text()
    torn = {
        "emptied": "",
        "halved": content[: len(content) // 2],
        "changed": content.replace("0.5", "0.6"),
        "a list": "[]",
    }
    if way == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_text(torn[way])
    with pytest.raises(
        InputError, match=r"verification\.json: the file is damaged .*`dcpt verify`"
    ):
        read_verification(tmp_path)
    write_verification(record, tmp_path)
    assert read_verification(tmp_path) == record
