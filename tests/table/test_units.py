"""Units that are judged between rows: losses that are not nats per token, bases that contradict."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dcpt.bundled import bundled_runs
from dcpt.diagnosis import diagnose
from dcpt.table import load_runs
from dcpt.table.units import bases_of, flag_base_loss, flag_units


def table(losses: dict[float, float]) -> pd.DataFrame:
    """Bases of some sizes, each with a run of one point."""
    rows = [
        {"run": f"{size:g}", "n_params": size, "n_tokens": d, "ratio": 0.5}
        | {"loss_general": loss - d / 1e9, "loss_domain": loss + 1 - d / 1e8}
        for size, loss in losses.items()
        for d in (0, 1e6)
    ]
    return load_runs(pd.DataFrame(rows))


LADDER = {7e7: 3.2, 3e8: 2.8, 1e9: 2.5}


def test_losses_in_nats_raise_no_question() -> None:
    assert flag_units(table(LADDER)) == []
    for name in ("code", "code_lr", "zh_annealed"):
        assert flag_units(bundled_runs(name)) == []


def test_perplexities_below_twenty_are_questioned() -> None:
    runs = table({size: np.exp(loss - 0.4) for size, loss in LADDER.items()})
    (flag,) = flag_units(runs)
    assert (flag.kind, flag.subject) == ("loss_unit", {"channel": "general"})
    assert "If it is a perplexity, take its natural logarithm" in flag.sentence
    assert "loss_unit" in {finding.kind for finding in diagnose(runs).with_verdict("look")}


def test_a_larger_base_with_a_higher_loss_is_questioned() -> None:
    (flag,) = flag_units(table({**LADDER, 1e9: 2.9}))
    assert flag.kind == "larger_base_is_worse"
    assert flag.values == {"n_params": [3e8, 1e9], "losses": [2.8, 2.9]}
    assert flag_units(table({**LADDER, 1e9: 2.82})) == []  # within 2 %


@pytest.mark.parametrize(
    ("n_params", "loss", "said"),
    [
        (1e9, 2.5, None),
        (1e9, 2.6, None),
        (7e9, 2.2, None),
        (7e9, 2.0, None),
        (1e9, 2.5 / np.log(2), "(it looks like bits per token)"),
        (1e9, np.exp(2.5), "(it looks like a perplexity)"),
        (1e9, 2.1, "lead to expect 2.500 at 1B parameters. Measure"),
        (7e9, 2.2 / np.log(2), "(it looks like bits per token)"),
    ],
)
def test_the_loss_of_the_target_s_base(n_params: float, loss: float, said: str | None) -> None:
    flags = flag_base_loss("general", n_params, loss, bases_of(table(LADDER), "general"))
    assert bool(flags) == (said is not None)
    assert said is None or said in flags[0].sentence


def test_every_base_of_the_bundled_runs_is_expected_by_the_others() -> None:
    for name in ("code", "code_lr", "zh_annealed"):
        for channel in ("general", "domain"):
            bases = bases_of(bundled_runs(name), channel)
            for i, (size, loss) in enumerate(bases):
                others = (*bases[:i], *bases[i + 1 :])
                assert flag_base_loss(channel, size, loss, others) == []
