"""Our pilot runs: predictions of the laws at held-out sizes, ratios and learning rates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dcpt.bundled import bundled_runs
from dcpt.laws import LAWS, fit
from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.laws.solver.search import LawFit, fit_law
from dcpt.laws.suitable import data_for


def rmse(fitted: LawFit, data: ChannelData) -> float:
    gaps = fitted.predict(data.points) - data.losses
    return float(np.sqrt(np.mean(gaps**2)))


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
    """Predict annealed general losses at 6.6M from runs at 1.8M alone."""
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
    for channel, limit in (("general", 0.025), ("domain", 0.06)):
        spread = found.by_channel[channel].comparisons["annealed"].spread
        assert max(spread["ratios"], spread["learning_rate"]) < limit
