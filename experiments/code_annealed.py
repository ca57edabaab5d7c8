"""Do laws of 1.8M and 6.6M parameters say which share and learning rate 29M wants, after the decay?

Hypothesis: fitted to the two small sizes, the stack meets the annealed general losses of 29M within
.02 nats and its domain losses within .05 (root mean square), and the pair (r, learning rate) that
``dcpt recommend`` gives passes a limit on general loss by at most half a per cent of the base's.

Runs: ``code_annealed.csv``, made by ``code_annealed.yaml`` (28 trunks, each decayed to zero at 10M
and 40M tokens). Fitted: the 20 of 1.8M and 6.6M. Asked: the 8 of 29M.

Command, some 20 CPU seconds::

    python experiments/code_annealed.py

Result: ``code_annealed.md`` in this folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from pilot import (
    LIMITS,
    Measured,
    Pair,
    base_of,
    cell,
    held_out,
    markdown,
    target_of,
)

import dcpt
from dcpt.decide import format_rate
from dcpt.decide.trade_off import best_share
from dcpt.laws import Fit

HERE = Path(__file__).parent
ABOUT = """# code_annealed: 29M from 1.8M and 6.6M, after the decay

Written by `python experiments/code_annealed.py`: see its head for the question, and
`code_annealed.yaml` for the runs. All 87 (bases, trunks, decays; 1.5 billion tokens) took 378 s on
two H100 GPUs, 756 GPU seconds, of which some 450 are training at the speeds of
`benchmarks/train.md`; compilation in two workers, and waiting for the bases, are most of the rest.

"""
ABOUT_PAIRS = """
## The pair for each limit, at 29M and the end of the decay

In brackets what the runs of 29M measured at the pair (monotone cubic between them): the rise of
general loss, in % of the base's, and the domain loss that the best pair of equal rise would save.

"""


def pairs(runs: pd.DataFrame, fit: Fit, size: int, n_tokens: int) -> str:
    """What is recommended for the large size, free and at each rate, and what it measured."""
    measured, base = Measured(runs, size), base_of(runs, size)
    loss = base["base_loss_general"]
    chosen: dict[str, list[Pair | None]] = {
        "measured": [measured.frontier(loss * limit / 100) for limit in LIMITS]
    }
    small = int(runs.loc[runs["n_params"] < size, "n_params"].max())
    small_loss = base_of(runs, small)["base_loss_general"]
    copied = Measured(runs, small)
    chosen["measured at 6.6M, copied"] = [
        copied.frontier(small_loss * limit / 100) for limit in LIMITS
    ]
    for rate in (None, *measured.shares):
        answers = [dcpt.recommend(fit, target_of(base, n_tokens, p, rate)).best for p in LIMITS]
        name = "any rate" if rate is None else f"{format_rate(rate)} held"
        chosen[f"`dcpt recommend`, {name}"] = [
            choice if choice is None else (choice.ratio, choice.learning_rate or np.nan)
            for choice in answers
        ]
    for rate, ratio in measured.shares.items():
        rise, domain = (measured.at(what, rate, ratio) for what in ("rise", "loss_domain"))
        shares = [best_share(ratio, rise, domain, loss * limit / 100) for limit in LIMITS]
        chosen[f"measured at {format_rate(rate)}"] = [
            (float(share), rate) if np.isfinite(share) else None for share, _ in shares
        ]
    head = ["", *(f"+{limit} %" for limit in LIMITS)]
    rows = [[who, *(cell(measured, pair, loss) for pair in many)] for who, many in chosen.items()]
    free = zip(chosen["`dcpt recommend`, any rate"], LIMITS, strict=True)
    over = [f"{measured.between('rise', pair) / loss * 100 - p:+.1f}" for pair, p in free if pair]
    output = ", ".join(over)
    return (
        f"{ABOUT_PAIRS}{markdown(head, rows)}Beyond the limits, free: {output} % of the base's.\n"
    )


def main() -> None:
    """Fit the small sizes, ask for the large one, and write both with its measured losses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, default=HERE / "code_annealed.csv")
    parser.add_argument("--out", type=Path, default=HERE / "code_annealed.md")
    asked = parser.parse_args()
    runs = dcpt.load_runs(asked.runs)
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
    text += pairs(runs, fit, size, n_tokens)
    asked.out.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
