"""YAML and JSON files that could cause a traceback, wrong values or memory exhaustion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcpt.errors import InputError
from dcpt.yaml_files import DEEPEST, LARGEST_FILE, read_yaml


def read(tmp_path: Path, content: str | bytes, name: str = "a.yaml") -> Any:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_yaml(file, "write it")


LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: 1\n[1, 2]: 3", "line 2: a list is a key; write a name"),
        ("{a: 1}: 3", "line 1: a mapping is a key; write a name"),
        ("a: 1\n\nb: 2\na: 3", "line 4: the key 'a' occurs twice; remove"),
        ("\xe9: 1\ne\u0301: 2", "line 2: the key .* occurs twice"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "the key '<<' occurs twice"),
        ("a: {<<: 3}", "<< merges a mapping"),
        ("x:\n  y: " + "[" * 200, f"line 2: lists and mappings are nested more than {DEEPEST}"),
        ("- " * 2000 + "a", "nested more than"),
        ("a: &a [*a]", "nested more than"),
        ("a: &a\n  <<: *a", "nested more than"),
        (LAUGHS, "more than 100,000 values after expanding its aliases"),
        ("a: *b", "line 1: is not valid YAML: found undefined alias 'b'"),
        ("a:\n\tb: 1", "line 2: is not valid YAML: .*indent with spaces"),
        ("a: [1", "line 1: is not valid YAML: .*correct it there"),
        ("a: 1\n---\nb: 1", "line 2: is not valid YAML: .*another document"),
        ("a: 1\0", r"line 1: YAML does not allow the character U\+0000"),
        ('a: "b\\0c"', r"the text 'b\\x00c' contains the character U\+0000; remove it"),
        ('a: "\\ud800"', r"contains the character U\+D800"),
        ('a: "\\U99999999"', "is not valid YAML"),
        (f"%YAML {'9' * 5000}.1\n--- a", "is not valid YAML"),
        (f"a: {'9' * 5000}", "line 1: the number 9999999999... has 5,000 digits"),
        ("a: !!binary aGk=", "line 1: the type '!!binary' is not supported"),
        ("a: !!python/object/apply:os.system [ls]", "is not supported"),
        ("a: !mine {b: 1}", "the type '!mine' is not supported"),
        ("a: !!int x", "'x' is not of the type int"),
        ("a: !!bool maybe", "'maybe' is not of the type bool"),
        ("a: .nan", "line 1: '.nan' is not a finite number"),
        ("a: -.inf", "'-.inf' is not a finite number"),
        ("a: 1e400", "'1e400' is not a finite number"),
        (b"a: \xff", "line 1: byte 0xff is not UTF-8 text; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "is not UTF-8 text"),
        ("a: 1".encode("utf-16-le"), r"YAML does not allow the character U\+0000.*UTF-8"),
        (b"a" * (LARGEST_FILE + 1), "larger than 1,000,000 bytes"),
    ],
)
def test_one_sentence_names_the_place_and_the_remedy(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, content)
    (problem,) = caught.value.problems
    assert problem.startswith(str(tmp_path / "a.yaml"))
    assert "\n" not in problem
    assert len(problem) < 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1,\n "a": 2}', "the key 'a' occurs twice"),
        ('{"a": 1,\n "b" 2}', r"line 2: is not valid JSON: expecting ':' delimiter \(column 6\)"),
        ('{"a": NaN}', "'NaN' is not a finite number"),
        ('{"a": 1e400}', "'1e400' is not a finite number"),
        (f'{{"a": {"9" * 5000}}}', "has 5,000 digits"),
        ("[" * 100_000, "nested more than"),
        ("[" * 40 + "]" * 40, "nested more than"),
        ('{"a": "\\u0000"}', r"contains the character U\+0000"),
    ],
)
def test_json_has_the_same_bounds(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, content, "a.json")


def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = """\ufeff
    numbers: [1, -2, +3, 1_000, 010, 1e-3, 3e-4, .5, 2., -1.5E+3]
    words: [3e-4-sweep, on, No, 2024-01-01, 1:30, 0x1F, 1.2.3, "1", "", -, ._]
    other: [true, False, null, ~, ]
    1: int
    1e-3: float
    null: none
    """
    assert read(tmp_path, text) == {
        "numbers": [1, -2, 3, 1000, 10, 1e-3, 3e-4, 0.5, 2.0, -1500.0],
        "words": [
            "3e-4-sweep",
            "on",
            "No",
            "2024-01-01",
            "1:30",
            "0x1F",
            "1.2.3",
            "1",
            "",
            "-",
            "._",
        ],
        "other": [True, False, None, None],
        "1": "int",
        "1e-3": "float",
        "null": "none",
    }


def test_aliases_and_merged_keys(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\nd: {<<: *b}\ne: *a\n"
    found = read(tmp_path, text)
    assert found["c"] == {"x": 5, "y": 2, "z": 4}
    assert found["d"] == found["b"]
    assert found["e"] == found["a"] == {"x": 1, "y": 2}


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") is None
    assert read(tmp_path, "# only this\n") is None


def test_a_folder_is_no_file_and_an_absent_file_has_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; give the path of the file"):
        read_yaml(tmp_path, "write it")
    with pytest.raises(InputError, match="does not exist; write it"):
        read_yaml(tmp_path / "none.yaml", "write it")
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(Path("a\0b"), "write it")
