"""Do laws fitted to 1.8M and 6.6M parameters predict the best share and learning rate of 29M?

Hypothesis: fitted to the two small sizes, the stack predicts the annealed general losses of 29M
within 0.02 nats and its domain losses within 0.05 (RMSE). The pair (r, learning rate) that
``dcpt recommend`` gives exceeds a limit on the general loss by at most 0.5 % of the base's loss.

Runs: ``code_annealed.csv``, made with ``code_annealed.yaml`` (28 trunks, each decayed to zero at
10M and 40M tokens). The fit uses the 20 trunks of 1.8M and 6.6M; the 8 trunks of 29M are held out.

Command, about 20 CPU seconds::

    python experiments/code_annealed.py

Result: ``code_annealed.md`` in this folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from held_out_errors import held_out
from measured_pairs import (
    LIMITS,
    Measured,
    Pair,
    base_of,
    cells,
    excesses,
    recommended_pairs,
)
from pages import markdown

import dcpt
from dcpt.decide import format_rate
from dcpt.decide.trade_off import best_share
from dcpt.laws import Fit

HERE = Path(__file__).parent
ABOUT = """# code_annealed: 29M from 1.8M and 6.6M, after the decay

Written by `python experiments/code_annealed.py`; its docstring states the question, and
`code_annealed.yaml` describes the runs. All 87 runs (bases, trunks, decays; 1.5 billion tokens)
took 378 s on two H100 GPUs, which are 756 GPU seconds. About 450 of these are training at the
speeds of `benchmarks/train.md`. Most of the rest is compilation in two workers and waiting for the
bases.

"""
ABOUT_PAIRS = """
## The pair for each limit, at 29M and the end of the decay

The brackets hold what was measured at the pair, interpolated between the runs of 29M by a monotone
cubic: the rise of the general loss in % of the base's loss, and how much domain loss the best pair
with the same rise would save.

"""


def compare_pairs(runs: pd.DataFrame, fit: Fit, size: int, n_tokens: int) -> str:
    """Compare the recommendations for the large size, at any rate and each rate, with its runs."""
    measured, base = Measured(runs, size), base_of(runs, size)
    loss = base["base_loss_general"]
    chosen: dict[str, list[Pair | None]] = {"measured": measured.frontiers(loss)}
    small = int(runs.loc[runs["n_params"] < size, "n_params"].max())
    small_loss = base_of(runs, small)["base_loss_general"]
    chosen["measured at 6.6M, copied"] = Measured(runs, small).frontiers(small_loss)
    for rate in (None, *measured.shares):
        name = "any rate" if rate is None else f"{format_rate(rate)} fixed"
        pairs = recommended_pairs(fit, base, n_tokens, rate)
        chosen[f"`dcpt recommend`, {name}"] = pairs
    for rate, ratio in measured.shares.items():
        rise, domain = (measured.at(what, rate, ratio) for what in ("rise", "loss_domain"))
        shares = [best_share(ratio, rise, domain, loss * limit / 100) for limit in LIMITS]
        chosen[f"measured at {format_rate(rate)}"] = [
            (float(share), rate) if np.isfinite(share) else None for share, _ in shares
        ]
    head = ["", *(f"+{limit} %" for limit in LIMITS)]
    rows = [[who, *cells(measured, pairs, loss)] for who, pairs in chosen.items()]
    over = excesses(measured, chosen["`dcpt recommend`, any rate"], loss)
    verdict = "At any rate, the general loss minus its limit is "
    verdict += f"{', '.join(f'{excess:+.1f}' for excess in over)} % of the base's loss.\n"
    return ABOUT_PAIRS + markdown(head, rows) + verdict


def main() -> None:
    """Fit the small sizes, predict the large size, and write the comparison with its runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, default=HERE / "code_annealed.csv")
    parser.add_argument("--out", type=Path, default=HERE / "code_annealed.md")
    args = parser.parse_args()
    runs = dcpt.load_runs(args.runs)
    size = int(runs["n_params"].max())
    large = np.asarray(runs["n_params"] == size)
    ends = large & np.asarray(runs["phase"] == "annealed")
    fit = dcpt.fit(runs[~large])
    n_tokens = int(runs["n_tokens"].max())
    parts = {
        "all points": large,
        "annealed": ends,
        "annealed, 44M": ends & np.asarray(runs["n_tokens"] == n_tokens),
    }
    text = ABOUT + held_out("29M", fit, runs, large, parts, [])
    text += compare_pairs(runs, fit, size, n_tokens)
    args.out.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
