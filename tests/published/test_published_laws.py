"""Other people's tables, and our own pilot: the numbers that were published or measured before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dcpt.bundled import bundled_runs
from dcpt.laws import LAWS, fit
from dcpt.laws.carry import data_for
from dcpt.laws.fitter import huber
from dcpt.laws.law import evaluate
from dcpt.laws.points import ChannelData, points_from_table
from dcpt.laws.search import LawFit, fit_law

SHARED = Path(__file__).resolve().parents[3] / "shared"
published = pytest.mark.skipif(
    not SHARED.exists(), reason="the published tables are not beside this checkout"
)

GEMSTONES = {
    "hot": (0.2928687, 0.7128722, 5.3613398, 15.4159945, 0.7622637, 0.0019816129),
    "cool_end": (0.3002728, 0.5802411, 5.4197160, 12.5138999, 0.7297863, 0.0019640865),
}


def rmse(fitted: LawFit, data: ChannelData) -> float:
    gaps = fitted.predict(data.points) - data.losses
    return float(np.sqrt(np.mean(gaps**2)))


@published
@pytest.mark.parametrize("name", GEMSTONES)
def test_gemstones_chinchilla(name: str) -> None:
    """Source: gemstones/SOURCE.md, arXiv 2502.06857."""
    table = pd.read_csv(SHARED / "published" / "gemstones" / f"{name}.csv")
    runs = pd.DataFrame(
        {
            "run": table["run_name"],
            "n_params": table["params_active_precise"],
            "n_tokens": table["tokens"],
            "loss_general": table["final_loss"],
        }
    )
    alpha, beta, log_a, log_b, log_e, objective = GEMSTONES[name]
    found = fit_law(LAWS["chinchilla"], points_from_table(runs, "general"))
    ref = found.references
    assert ref.n_params is not None
    published = np.array(
        [
            np.exp(log_e),
            np.exp(log_a) * ref.n_params**-alpha,
            alpha,
            np.exp(log_b) * ref.n_tokens**-beta,
            beta,
        ]
    )
    losses = evaluate(found.law, found.data.points, published, ref)
    there = huber(np.log(losses) - np.log(found.data.losses), 1e-3).sum()
    assert there == pytest.approx(objective, abs=1e-10)
    assert objective - 1e-9 < found.objective <= there
    assert found.parameters["alpha"] == pytest.approx(alpha, abs=3e-4)
    assert found.parameters["beta"] == pytest.approx(beta, abs=3e-4)


def curves(channel: str) -> pd.DataFrame:
    table = pd.read_csv(SHARED / "published" / "datablations" / "c4_python_curves_4b2.csv")
    part = table[(table["val_domain"] == channel) & (table["tokens"] >= 20e9)]
    share = part["w_c4"] if channel == "c4" else part["w_python"]
    return pd.DataFrame(
        {
            "run": "r" + share.astype(str),
            "n_params": part["n_params"],
            "n_tokens": part["tokens"],
            "ratio": share.round(6),
            "loss_domain": part["loss"],
        }
    )


@published
@pytest.mark.parametrize(("split", "limit"), [("longest_d", 0.0137), ("shares", 0.0059)])
def test_datablations_d_cpt(split: str, limit: float) -> None:
    """Held-out error, mean of corpora, at D >= 20B: .0150, .0068 here; .0137, .0059 before."""
    errors = []
    for channel in ("c4", "python"):
        data = points_from_table(curves(channel), "domain")
        points = data.points
        if split == "longest_d":
            tokens = np.unique(points.get("n_tokens"))
            held = points.get("n_tokens") > tokens[2 * len(tokens) // 3 - 1]
        else:
            held = np.isin(points.get("ratio"), (0.3, 0.7))
        found = fit_law(LAWS["d-cpt"], data.take(~held))
        errors.append(rmse(found, data.take(held)))
    assert np.mean(errors) < 1.2 * limit


def pilot(*names: str) -> pd.DataFrame:
    return pd.concat([bundled_runs(name) for name in names], ignore_index=True)


def test_code_general_law_at_held_out_ratios_and_size() -> None:
    data = data_for(
        LAWS["anchored-general-lr"], points_from_table(pilot("code", "code_lr"), "general")
    )
    size, ratio = data.points.get("n_params"), data.points.get("ratio")
    for held, limit in ((size > 1e7, 0.025), (np.isin(ratio, (0.5, 0.9)), 0.015)):
        found = fit_law(LAWS["anchored-general-lr"], data.take(~held))
        assert rmse(found, data.take(held)) < limit


def test_code_domain_law_at_held_out_ratios_and_size() -> None:
    data = data_for(
        LAWS["anchored-domain-lr"], points_from_table(pilot("code", "code_lr"), "domain")
    )
    size, ratio = data.points.get("n_params"), data.points.get("ratio")
    for held, limit in ((size > 1e7, 0.025), (np.isin(ratio, (0.5, 0.9)), 0.02)):
        found = fit_law(LAWS["anchored-domain-lr"], data.take(~held))
        assert rmse(found, data.take(held)) < limit


def test_zh_general_law_reaches_the_larger_size_from_the_smaller() -> None:
    """Annealed general losses at 6.6M from runs at 1.8M alone."""
    data = points_from_table(pilot("zh_annealed"), "general")
    for name, limit in (("joint-general", 0.045), ("annealed-general-l0", 0.022)):
        used = data_for(LAWS[name], data)
        small = used.points.get("n_params") < 2e6
        ends = used.points.get("annealed") > 0
        found = fit_law(LAWS[name], used.take(small))
        unchanged = used.points.get("base_loss")[~small & ends] - used.losses[~small & ends]
        error = rmse(found, used.take(~small & ends))
        assert error < limit
        assert error < 0.5 * np.sqrt(np.mean(unchanged**2))


def test_zh_whole_table_is_decided_on_annealed_losses() -> None:
    found = fit(pilot("zh_annealed"), n_draws=50)
    assert found.phase_for_decisions == "annealed"
    for channel, limit in (("general", 0.02), ("domain", 0.06)):
        spread = found.by_channel[channel].comparisons["annealed"].spread
        assert max(spread["ratios"], spread["learning_rate"]) < limit
