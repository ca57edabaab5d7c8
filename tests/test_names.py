"""The rule for channel names, at every place that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dcpt.cli.options import read_base_losses, read_channels
from dcpt.errors import InputError
from dcpt.names import escape_controls, read_channel_name, same_but_case, shorten
from dcpt.table import channels, check_runs, load_runs

HOSTILE = [
    'a"><script>alert(1)</script>',
    "x[/b]",
    "[red]x",
    "a b",
    "a/b",
    "..",
    ".hidden",
    "-x",
    "_x",
    "a\x1b[31m",
    "a\rb",
    "a\nb",
    "a\u202eb",
    "=cmd",
    "a|b",
    "a:b",
    "a'b",
    "a\0",
    "",
    "x" * 41,
]
GOOD = ["general", "en_1", "v1.2", "code-py", "\u4e2d\u6587", "\u0414\u0430", "2024", "x" * 40]


@pytest.mark.parametrize("name", HOSTILE)
def test_other_names_are_refused_everywhere(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name of a channel; write letters"):
        read_channel_name(name)
    with pytest.raises(InputError, match=r"--channel: .*is not a name of a channel"):
        read_channels([name])
    if name:
        with pytest.raises(InputError, match=r"--base-loss: .*is not a name of a channel"):
            read_base_losses([f"{name.replace('=', '~')}=2.5"])


@pytest.mark.parametrize("name", GOOD)
def test_letters_of_any_script_stay(name: str) -> None:
    assert read_channel_name(name) == name
    assert read_channels([name]) == [name]
    assert read_base_losses([f"{name}=2.5"]) == {name: 2.5}
    assert channels(check_runs(table(f"loss_{name}"), "t")) == [name]


def table(*names: str, **more: Any) -> pd.DataFrame:
    return pd.DataFrame({"run": ["a"], "n_tokens": [0], **{n: [3.0] for n in names}, **more})


@pytest.mark.parametrize("name", [name for name in HOSTILE if name])
def test_a_column_outside_the_alphabet_is_named_with_a_remedy(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_runs(table(f"loss_{name}"), "runs.csv")
    (problem,) = caught.value.problems
    assert problem.startswith(f"runs.csv, column {shorten(f'loss_{name}')}: ")
    assert "is not a name of a channel" in problem
    assert "--column loss_NAME=" in problem
    renamed = load_runs(table(f"loss_{name}"), {"loss_good": f"loss_{name}"})
    assert channels(renamed) == ["good"]


def test_a_column_option_cannot_bring_one_in() -> None:
    with pytest.raises(InputError, match=r"--column se_a b=x: 'a b' is not a name of a channel"):
        load_runs(table("loss_general", "x"), {"se_a b": "x"})


def test_names_that_differ_in_case_alone_are_refused() -> None:
    assert same_but_case(["En", "zh", "en", "EN", "en"]) == [("En", "en"), ("En", "EN")]
    with pytest.raises(InputError, match=r"column loss_Code: the channel differs from code in"):
        check_runs(table("loss_code", "loss_Code"), "runs.csv")


def test_a_name_has_one_spelling() -> None:
    apart, composed = "loss_e\u0301", "loss_\xe9"
    assert channels(check_runs(table(apart), "t")) == ["\xe9"]
    with pytest.raises(InputError, match=f"the column {composed} is there twice"):
        check_runs(table(apart, composed), "t")
    renamed = load_runs(table("loss_x", "o\u0308"), {"se_x": "\xf6"})
    assert "se_x" in renamed
    assert read_channels(["e\u0301"]) == ["\xe9"]


def test_columns_of_a_persons_own_keep_their_names(tmp_path: Path) -> None:
    names = ["<b>", "x[/b]", "e\u0301", "weight_decay [1/s]"]
    frame = check_runs(table("loss_general", *names), "t")
    assert set(names) <= set(frame.columns)


def test_messages_show_text_as_it_is() -> None:
    assert escape_controls("a\x1b[31m\rb\u202e\nc \xe9") == "a\\x1b[31m\\rb\\u202e\nc \xe9"
    assert shorten("a" * 100) == repr("a" * 60 + "...")
    assert shorten([1] * 100) == repr([1] * 100)[:60] + "..."
