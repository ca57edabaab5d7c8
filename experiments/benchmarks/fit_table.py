"""How much CPU time do a fit and 1000 bootstrap draws of a large table take?

The table is synthetic and seeded: 6 sizes, 36 shares and 11 token counts at one learning rate,
2,376 rows, with a general and a domain channel of the form of D-CPT with noise. All laws are fitted
to both channels, held out, weighted and drawn 1000 times. The bundled tables are measured as well,
with the default 200 draws.

    python experiments/benchmarks/fit_table.py

Result in CPU s of one thread, on 2 cores of a shared machine with Python 3.11. Before, every law
was drawn and every fold was searched from random starts:

                                  before     now
    large table, 1000 draws         93.6    15.8
    zh_annealed, 200 draws           8.3     3.8
    code, 200 draws                  4.0     1.1
    code_lr, 200 draws               3.5     1.0

A quarter of the time of zh_annealed goes into the rolling-origin tests, 84 % of it into the solver.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

import dcpt
from dcpt.laws import LAWS, References
from dcpt.laws.synthetic import Truth, simulate_runs

SIZES = np.geomspace(30e6, 3e9, 6)
TOKENS = np.geomspace(0.3e9, 10e9, 11)
SHARES = np.linspace(0.02, 0.97, 36)
REFERENCES = References(n_params=3e8, n_tokens=1.7e9, learning_rate=None)
GENERAL = {"E": 1.7, "A": 0.4, "alpha": 0.3, "B": 0.3, "beta": 0.35, "eta": 1.1}
GENERAL |= {"C": 0.2, "eps": 0.08, "gamma": 0.6}
DOMAIN = {**GENERAL, "E": 1.3, "B": 0.2, "C": 0.15, "gamma": 0.5}


def make_table() -> pd.DataFrame:
    """Make the synthetic table, the same every time."""
    rows = [
        {"run": f"{size:.4g}-{share:.3f}", "n_params": round(size), "ratio": round(share, 4)}
        | {"n_tokens": round(tokens), "learning_rate": 3e-4, "phase": "constant"}
        for size in SIZES
        for share in SHARES
        for tokens in TOKENS
    ]
    frame = pd.DataFrame(rows)
    base = frame["n_params"].map(lambda n: 1.9 + 0.5 * (n / 3e8) ** -0.3)
    frame = frame.assign(base_loss_general=base, base_loss_domain=base + 0.4)
    truths = {
        "general": Truth(LAWS["d-cpt"], GENERAL, REFERENCES),
        "domain": Truth(LAWS["d-cpt"], DOMAIN, REFERENCES),
    }
    return simulate_runs(frame, truths, run_noise=0.005, point_noise=0.002, seed=0)


def cpu_s(runs: pd.DataFrame, n_draws: int) -> float:
    """CPU time of a fit, in seconds."""
    started = time.process_time()
    dcpt.fit(runs, n_draws=n_draws)
    return time.process_time() - started


def main() -> None:
    """Measure the large table and the bundled ones."""
    print(f"{'large table, 1000 draws':32}{cpu_s(make_table(), 1000):8.1f}")
    for name in ("zh_annealed", "code", "code_lr"):
        print(f"{name + ', 200 draws':32}{cpu_s(dcpt.bundled_runs(name), 200):8.1f}")


if __name__ == "__main__":
    main()
