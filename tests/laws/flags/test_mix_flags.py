"""Shares of single channels that no law reads are named."""

from __future__ import annotations

import pandas as pd
import pytest

from dcpt.laws.flags.mix_flags import flag_mix, tied_sources


def table(en: list[float], **columns: object) -> pd.DataFrame:
    """A run for each share of en in the general text, with half of domain text."""
    frame = pd.DataFrame({"run": [f"r{i}" for i in range(len(en))], "n_tokens": 1e6, "ratio": 0.5})
    frame["share_en"] = 0.5 * pd.Series(en)
    frame["share_zh"] = 0.5 - frame["share_en"]
    frame["share_domain"] = 0.5
    return frame.assign(**columns)


def test_runs_of_several_mixes_are_named() -> None:
    (flag,) = flag_mix(table([0.2, 0.5, 0.8]))
    assert flag.kind == "mix_differs"
    assert "(en and zh)" in flag.sentence


@pytest.mark.parametrize(
    "runs",
    [
        table([0.5, 0.5, 0.52]),
        table([0.2, 0.5], excluded=["another mix", None]),
        table([0.2, 0.5]).drop(columns=["share_en", "share_zh"]),
        table([0.5, 0.5], ratio=[0.2, 0.8], share_domain=[0.2, 0.8]),
    ],
    ids=["same", "excluded", "unknown", "the ratio alone"],
)
def test_runs_of_a_single_mix_are_not(runs: pd.DataFrame) -> None:
    assert flag_mix(runs) == []


def test_a_decay_with_its_own_mixture_does_not_count() -> None:
    runs = pd.concat(
        [table([0.5, 0.5], phase="constant"), table([0.9, 0.5], phase="annealed", n_tokens=2e6)]
    )
    assert flag_mix(runs) == []


def test_a_table_without_ratio_names_the_column() -> None:
    (flag,) = flag_mix(table([0.2, 0.5]).drop(columns="ratio"))
    assert flag.kind == "mixtures_without_ratio"
    assert "share_domain in every row" in flag.sentence


def shares(**columns: list[float]) -> pd.DataFrame:
    """A run for each mixture; the domain has what the others leave."""
    frame = pd.DataFrame({f"share_{name}": values for name, values in columns.items()})
    domain = 1 - frame.sum(axis=1)
    runs = [f"r{i}" for i in range(len(frame))]
    return frame.assign(run=runs, n_tokens=1e6, ratio=domain, share_domain=domain)


def test_sources_that_change_together_are_tied() -> None:
    en, zh = [0.1, 0.4, 0.2, 0.3], [0.3, 0.1, 0.1, 0.4]
    assert tied_sources(shares(en=en, zh=zh)) == ()
    assert tied_sources(shares(en=[0.3] * 4, zh=zh)) == ("en",)
    half = [part / 2 for part in zh]
    assert tied_sources(shares(en=en, zh=zh, fr=half)) == ("zh", "fr")
    nearly = [0.30, 0.31, 0.29, 0.30]  # measured shares of runs scatter
    assert tied_sources(shares(en=nearly, zh=zh)) == ("en",)


def test_a_single_varied_share_ties_the_others() -> None:
    assert tied_sources(table([0.2, 0.5, 0.8])) == ("en", "zh")
    assert tied_sources(table([0.2, 0.5]).drop(columns="ratio")) == ()
