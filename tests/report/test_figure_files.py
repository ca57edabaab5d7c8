"""The figures of a report as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from made_report import make_verification

from dcpt.decide.records import Recommendation
from dcpt.errors import InputError
from dcpt.laws.fits.result import Fit
from dcpt.report.figure_files import write_figures

FIGURES = [
    "trade_off",
    "frontier",
    "verification",
    "losses_general",
    "losses_domain",
    "residuals",
]


@pytest.fixture(scope="module")
def known(runs: pd.DataFrame, fit: Fit, recommendation: Recommendation) -> dict:
    return {
        "runs": runs,
        "fit": fit,
        "recommendation": recommendation,
        "verification": make_verification(missed=False),
    }


def test_every_figure_is_written_as_svg_and_png(known: dict, tmp_path: Path) -> None:
    paths = write_figures(tmp_path / "figures", **known)
    expected = [f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")]
    assert [path.name for path in paths] == expected
    for path in paths:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            words = "".join(ElementTree.parse(path).getroot().itertext())
            assert "loss" in words  # text is text, not outlines


def test_the_same_runs_give_the_same_svg(known: dict, tmp_path: Path) -> None:
    first, second = (write_figures(tmp_path / name, **known) for name in ("a", "b"))
    for path, other in zip(first, second, strict=True):
        if path.suffix == ".svg":
            assert path.read_bytes() == other.read_bytes()


def test_without_a_base_general_loss_the_domain_loss_is_drawn_alone(
    known: dict, tmp_path: Path
) -> None:
    asked = known["recommendation"]
    target = replace(asked.target, base_losses={"domain": 10.12})
    unlimited = replace(
        asked, target=target, general_channel=None, allowed_general_loss=None, limits={}
    )
    given = {**known, "recommendation": unlimited, "verification": None}
    names = [path.name for path in write_figures(tmp_path, **given)]
    assert "trade_off.svg" in names
    assert "frontier.svg" not in names


def test_a_file_of_a_person_is_not_replaced(known: dict, tmp_path: Path) -> None:
    mine = tmp_path / "trade_off.svg"
    mine.write_text("mine")
    with pytest.raises(InputError, match=r"trade_off\.svg"):
        write_figures(tmp_path, **known)
    assert mine.read_text() == "mine"
