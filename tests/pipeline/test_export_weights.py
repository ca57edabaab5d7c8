"""How the general channels share the general text in an exported configuration."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from dcpt.decide.records import Target
from dcpt.errors import InputError
from dcpt.laws import Fit
from dcpt.pipeline.export_options import ExportOptions
from dcpt.pipeline.export_sources import find_sources
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace

TABLE = cast(
    Fit, SimpleNamespace(general_channels=("web", "code", "tasks"), domain_channel="domain")
)


def weights_of(mix: dict[str, float], **given: float) -> dict[str, float]:
    """Weights of the general channels of a table, for a target with a mix."""
    target = Target(1e9, 1e9, "+3%", {}, mix=mix)
    sources = find_sources(Path("fit"), target, TABLE, ExportOptions(weights=given))
    return {name: source.weight for name, source in sources.items() if source.side == "general"}


def test_the_mix_of_the_target_is_taken() -> None:
    # `tasks` is measured only: no share of it is in the table.
    assert weights_of({"web": 0.7, "code": 0.3}) == {"web": 0.7, "code": 0.3, "tasks": 0.0}


def test_a_source_whose_loss_was_not_measured_keeps_its_part() -> None:
    mix = {"web": 0.5, "code": 0.3, "books": 0.2}
    assert weights_of(mix) == {**mix, "tasks": 0.0}


def test_weights_in_place_of_the_mix_must_be_those_of_all_channels() -> None:
    mix = {"web": 2 / 3, "code": 1 / 3}
    assert weights_of(mix, web=2, code=1) == {"web": 2, "code": 1, "tasks": 0}
    with pytest.raises(InputError, match="give --weight code=1 with your weights"):
        weights_of(mix, web=2)
    with pytest.raises(InputError, match="give --weight web=1 --weight code=1 --weight tasks=1"):
        weights_of({})


def test_weights_of_another_mix_are_refused() -> None:
    says = (
        "give the mix web 50 %, code 50 %, .* recommended for web 67 %, code 33 %.* --mix web=50%"
    )
    with pytest.raises(InputError, match=says):
        weights_of({"web": 2 / 3, "code": 1 / 3}, web=1, code=1)
    with pytest.raises(InputError, match="--weight domain: there is no such general channel"):
        weights_of({"web": 2 / 3, "code": 1 / 3}, domain=1)


@pytest.mark.long
def test_a_study_takes_the_mix_that_the_share_is_recommended_for(tiny_study: Path) -> None:
    second = "  - {name: code, side: general, weight: 3, train: general.jsonl}\n"
    text = tiny_study.read_text().replace("  - {name: law", second + "  - {name: law")
    tiny_study.write_text(text.replace("train: general.jsonl}", "train: domain.jsonl}"))
    workspace = Workspace(tiny_study)
    prepare_study(workspace, workers=1)
    target = Target(1e9, 1e9, "+3%", {}, mix={"en": 0.6, "code": 0.4})
    sources = find_sources(workspace, target, TABLE, ExportOptions())
    assert (sources["en"].weight, sources["code"].weight) == (0.6, 0.4)
    sources = find_sources(workspace, Target(1e9, 1e9, "+3%", {}), TABLE, ExportOptions())
    assert (sources["en"].weight, sources["code"].weight) == (1, 3)
    with pytest.raises(InputError, match="give --weight code=1"):
        find_sources(workspace, target, TABLE, ExportOptions(weights={"en": 1}))
