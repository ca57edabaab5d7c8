from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from tiny_study import STUDY

from dcpt.errors import InputError
from dcpt.limit import Limit
from dcpt.runs.identity import Optimizer
from dcpt.study.files import load_study, study_template
from dcpt.study.schema import Study


def load(tmp_path: Path, text: str) -> object:
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return load_study(file)


def test_the_template_is_a_valid_study(tmp_path: Path) -> None:
    study = load(tmp_path, study_template("study.yaml"))
    assert study.tokens == 40_000_000
    assert study.bases.ladder.sizes["29M"].learning_rate == 1e-3
    assert study.grid[0].learning_rates == [3e-4, 9e-4, 2.7e-3]
    assert study.branches.decay == 0.1


OPTIONAL_KEY = re.compile(r"^( *)# ( *[A-Za-z0-9_]+:(?: |$))", flags=re.MULTILINE)


def whole_template() -> Any:
    """The template with all its optional keys set."""
    return yaml.safe_load(OPTIONAL_KEY.sub(r"\1\2", study_template("study.yaml")))


def keys_of(model: type[BaseModel], place: str = "") -> set[str]:
    """Every key that a section and the sections in it can have, with its place."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(f"{place}{name}")
        for section in sections_in(field.annotation):
            found |= keys_of(section, f"{place}{name}.")
    return found


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]


def keys_in(model: type[BaseModel], content: Any, place: str = "") -> set[str]:
    """The keys that a study sets, with their places as ``keys_of`` names them."""
    found = set()
    for name, value in content.items():
        found.add(f"{place}{name}")
        for section in sections_in(model.model_fields[name].annotation):
            known = set(section.model_fields)
            parts = value if isinstance(value, list) else [value]
            if isinstance(value, dict) and not known & set(value):
                parts = list(value.values())  # sections by label
            for part in parts:
                found |= keys_in(section, part, f"{place}{name}.")
    return found


def test_the_template_names_every_key_of_the_schema() -> None:
    keys = keys_of(Study)
    assert {"training.optimizer.beta1", "bases.ladder.sizes.learning_rate"} <= keys
    assert keys - keys_in(Study, whole_template()) == set()


def test_every_optional_key_of_the_template_is_valid() -> None:
    content = whole_template()
    # Of two keys that exclude each other the template sets one.
    del content["grid"][0]["learning_rates"], content["training"]["warmup"]
    del content["channels"][0]["chat_field"], content["bases"]["study"]
    for name in ("best_domain", "instructions"):
        content["channels"].append({"name": name, "side": "extra", "train": "x"})
    study = Study.model_validate(content)
    assert study.training.optimizer == Optimizer()  # the values shown are the defaults
    assert study.target.base_losses == {"general": 1.9, "domain": 2.4}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tokens: 5120", "token: 5120", "token: unknown key.*did you mean 'tokens'"),
        (
            "ratios: [0.25,",
            "ratios: [1.25,",
            r"grid\.0\.ratios\.0: 1\.25 .*less than or equal to 1",
        ),
        ("ratios: [0.25,", "ratios: [-10%,", r"grid\.0\.ratios\.0: .*greater than or equal to 0"),
        ("name: law", "name: en", "two channels are called 'en'"),
        ("name: law", "name: general", "may not be called 'general'"),
        ("name: en", "name: domain", "may not be called 'domain'"),
        ("target: {base: big, ", "target: {", "name a base of the study, or give n_params"),
        ("tokens: 5120", "tokens: 5120\ntokens: 6000", "line 18: the key 'tokens' occurs twice"),
        ("limit: +20%", "limit: banana", r"target\.limit: 'banana'"),
        ("  - {name: law, side: domain", "  - {name: zh, side: general", "one channel of side"),
        ("tokens: 8192", "tokens: 0", r"bases\.ladder\.tokens: 0 is under four steps"),
        ("tokens: 6144", "tokens: 7", r"target\.tokens: 7 is under four steps"),
        ("name: law", "name: 'l w'", r"channels\.1\.name: 'l w'"),
        ("side: domain", "side: general", "one channel of side domain"),
        ("bases: [a, b]", "bases: [a, bg]", "base 'bg' is not among.*did you mean 'big'"),
        ("learning_rates: [3e-3]", "learning_rates: [3]", "less than or equal to 1"),
        ("tokens: 5120", "tokens: ten", "tokens: .*'ten' is not a count; write a number such as"),
        ("tokens: 5120", "tokens: 512", "under four steps of 256 tokens"),
        ("width: 16", "width: 17", "not a multiple of twice the heads"),
        ("learning_rates: [3e-3]", "seeds: [1]", "learning_rates .absolute. or"),
        ("name: tiny", "name: tiny\n  x: 1", "line 3: is not valid YAML"),
        ("name: law", "name: 'a\"><script>'", r"channels\.1\.name: .*is not a name of a channel"),
        ("name: law", "name: ..", r"channels\.1\.name: '\.\.' is not a name of a channel"),
        ("name: law", "name: EN", "channels 'en' and 'EN' differ in case alone"),
        ("name: law", f"name: {'l' * 41}", "at most 40 characters"),
        ("name: en", "name: Domain", "may not be called 'Domain'"),
        ("name: tiny", "name: 12", r"name: 12 input should be a valid string; put it in quotes"),
        ("name: tiny", "name: true", "name: True input should be a valid string; put it in"),
        ("tokens: 5120", "tokens: .inf", "line 17: '.inf' is not a finite number"),
        ("valid_fraction: 10%", "weight: inf", "weight: 'inf' input should be a finite number"),
        ("warmup: 5%", "optimizer: {eps: inf}", r"training\.optimizer\.eps: .*finite number"),
        ("learning_rates: [3e-3]", f"seeds: [{2**40}]", r"grid\.0\.seeds\.0: .*less than"),
        ("valid_fraction: 10%", "valid_fraction: 1e9999999%", "is not a share; write 0.02"),
        ("warmup: 5%", "warmup: 5%, warmup_tokens: 10", "not both"),
        (
            "decay: 20%}",
            "decay: 20%, mixtures: {best: {en: 0.5, lw: 0.5}}}",
            "branches.mixtures: 'lw' is not among the channels; name one of .*did you mean 'law'",
        ),
        (
            "decay: 20%}",
            "decay: 20%, mixtures: {best: {en: 0.1, law: 0.2}}}",
            r"branches: mixtures\.best: its shares sum to 0\.3; make them sum to 1",
        ),
        (
            "tokenizer: 300",
            "  - {name: more, side: extra, train: more.jsonl}\ntokenizer: 300",
            "channel 'more' of side extra is in no mixture",
        ),
        (
            "tokens: 8192",
            "tokens: 8192\n    decay: 0\n    start: before_decay",
            "needs bases with a decay",
        ),
    ],
)
def test_bad_studies_are_refused_in_one_sentence(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in STUDY
    with pytest.raises(InputError, match=words):
        load(tmp_path, STUDY.replace(old, new, 1))


@pytest.mark.parametrize("name", ["3e-4-sweep", "on", "no", "2024-01-01", "1e", "0x1F", "n.1"])
def test_names_that_look_like_other_types_are_text(tmp_path: Path, name: str) -> None:
    study = load(tmp_path, STUDY.replace("name: tiny", f"name: {name}"))
    assert study.name == name


def test_labels_of_digits_are_text(tmp_path: Path) -> None:
    text = STUDY.replace("a: {width", "010: {width").replace("bases: [a, b]", "bases: ['010', b]")
    assert load(tmp_path, text).bases.names == ["010", "b", "big"]


def test_channels_have_letters_of_any_script_in_one_normal_form(tmp_path: Path) -> None:
    study = load(tmp_path, STUDY.replace("name: law", "name: re\u0301sume\u0301-v1.2"))
    assert study.domain.name == "r\xe9sum\xe9-v1.2"
    twice = STUDY.replace("name: en", "name: \xe9").replace("name: law", "name: e\u0301")
    with pytest.raises(InputError, match="two channels are called '\xe9'"):
        load(tmp_path, twice)


def test_all_problems_are_raised_together(tmp_path: Path) -> None:
    text = STUDY.replace("0.25", "1.25").replace("name: tiny", "name: tiny\nextra: 1")
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert len(caught.value.problems) == 2


def test_a_missing_study_offers_init(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dcpt init"):
        load_study(tmp_path / "absent.yaml")


def test_a_study_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_study(tmp_path / "study.yaml")


def test_shares_in_per_cent_are_exact(tmp_path: Path) -> None:
    study = load(tmp_path, STUDY.replace("ratios: [0.25, 0.5,", "ratios: [2.2%, 33.3%,"))
    assert study.grid[0].ratios == [0.022, 0.333, 0.75]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("+3%", "+3%"), ("-5%", "-5%"), ("+0.05", "+0.05 nats"), ("-0.1", "-0.1 nats")],
)
def test_limits_as_people_write_them(tmp_path: Path, written: str, meant: str) -> None:
    study = load(tmp_path, STUDY.replace("limit: +20%", f"limit: {written}"))
    assert str(Limit.parse(study.target.limit)) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [("none", "none"), ("{web: 3%, code: 0.05}", {"web": "3%", "code": "0.05"})],
)
def test_no_limit_and_limits_by_channel(tmp_path: Path, written: str, meant: object) -> None:
    study = load(tmp_path, STUDY.replace("limit: +20%", f"limit: {written}"))
    assert study.target.limit == meant


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{web: 3% each}", r"target\.limit.*each is for the limit on all channels"),
        ("{web: none}", r"target\.limit.*'none' is not understood"),
        ("-200%", r"target\.limit: .*-200% is not above minus 100 percent"),
        ("5", r"target\.limit: .*\+5 nats is above 1 nats.* such as \+3%"),
    ],
)
def test_limits_that_cannot_be_meant(tmp_path: Path, written: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load(tmp_path, STUDY.replace("limit: +20%", f"limit: {written}"))


CHANNELS = "channels:\n"


@pytest.mark.parametrize(
    ("channel", "says"),
    [
        (
            "{name: x, side: validation, train: a}",
            "valid is missing; name the text that is measured",
        ),
        ("{name: x, side: validation, valid: a, train: b}", "train: no run is trained on"),
        ("{name: x, side: validation, valid: a, weight: 2}", "weight: no run is trained on"),
        ("{name: x, side: extra, valid: a}", "train is missing"),
        ("{name: domain, side: validation, valid: a}", "may not be called 'domain'"),
    ],
)
def test_channels_of_side_validation(tmp_path: Path, channel: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load(tmp_path, STUDY.replace(CHANNELS, f"{CHANNELS}  - {channel}\n"))
    sound = f"{CHANNELS}  - {{name: tasks, side: validation, valid: tasks.jsonl}}\n"
    study = load(tmp_path, STUDY.replace(CHANNELS, sound))
    assert study.channels[0].train is None


def test_a_decay_cannot_read_a_validation_channel(tmp_path: Path) -> None:
    channel = "  - {name: tasks, side: validation, valid: tasks.jsonl}\n"
    text = STUDY.replace(CHANNELS, CHANNELS + channel)
    mixtures = "mixtures: {heal: {law: 50%, tasks: 50%}}"
    text = text.replace("branches: {", f"branches: {{{mixtures}, ")
    assert mixtures in text
    with pytest.raises(InputError, match=r"mixtures: 'tasks' has side .* name one of en, law$"):
        load(tmp_path, text)


def test_a_study_without_a_domain_says_so_whatever_its_channels_are_called(tmp_path: Path) -> None:
    text = STUDY.replace("side: domain", "side: general")
    with pytest.raises(InputError, match="one channel of side domain and at least one of side"):
        load(tmp_path, text)


def test_weights_leave_out_the_limit_unless_it_is_given(tmp_path: Path) -> None:
    text, target = STUDY.partition("target:")[0], "target: {base: big, tokens: 6144%s}\n"
    weights = ", weights: {law: 1, en: 2}"
    assert load(tmp_path, text + target % "").target.limit == "+3%"
    free = load(tmp_path, text + target % weights).target
    assert (free.limit, free.weights) == ("none", {"law": 1.0, "en": 2.0})
    kept = load(tmp_path, text + target % f"{weights}, limit: +5%").target
    assert (kept.limit, kept.weights) == ("+5%", {"law": 1.0, "en": 2.0})
    for wrong, says in (("law: 0", "weights: all are 0"), ("law: -1", "weights.law")):
        with pytest.raises(InputError, match=says):
            load(tmp_path, text + target % f", weights: {{{wrong}}}")


def test_a_tracker_is_named_once(tmp_path: Path) -> None:
    twice = STUDY + "logging: {trackers: [wandb, wandb]}\n"
    with pytest.raises(InputError, match=r"logging.*trackers names wandb twice; write it once"):
        load(tmp_path, twice)
