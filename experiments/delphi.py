"""Is the domain loss of 3.4B predicted from smaller sizes where only the domain was measured?

Hypothesis: laws fitted to the runs of up to 2.5B parameters predict the math loss of 3.4B within
1 %, and laws fitted to those of up to 1.4B within 2 % (mean absolute error), and the 90 % intervals
hold at least 10 of the 12 runs. The fit warns that D grows with N.

Runs: other people's (``tests/published/data/delphi``), 88 runs of 447M to 3.4B parameters after
their decay, with 3 shares and 4 rates. The table names no general channel, so the channel's own
base loss takes the place of the general one. The control runs, which have the same D at every size,
are added in a second fit.

Command, about 12 CPU seconds on one core of a shared machine::

    python experiments/delphi.py

Result: ``delphi.md`` in this folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from held_out_errors import STACK, with_stack
from numpy.typing import NDArray
from pages import markdown

import dcpt

HERE = Path(__file__).parent
DATA = HERE.parent / "tests" / "published" / "data" / "delphi"
TARGET = 3_383_110_656
LARGEST = {"2.5B": 2_544_614_912, "1.4B": 1_384_584_448}
HEAD = ("fitted to", "law", "weight", "mean error", "bias", "largest", "inside", "width")
ABOUT = """# delphi: 3.4B from smaller sizes, with a domain channel alone

Written by `python experiments/delphi.py`; its docstring states the question. Errors are absolute
errors of the math loss at 3.4B, 12 runs, in % of the loss (0.79 to 0.89 nats). The width is that of
the 90 % interval, in nats.

"""
NOTE = """
The largest errors are those of the share. From 447M to 1.9B the loss at a share of 0.33 exceeds
that at 0.67 by less and less (0.10 to 0.08 nats), and at 3.4B by 0.09 again, which no smaller size
shows. The control runs separate N from D and do not improve the prediction.
"""


def with_controls(runs: pd.DataFrame) -> pd.DataFrame:
    """Add the control runs of equal D, with the bases and the warmup of the runs of their size."""
    controls = pd.read_csv(DATA / "controls.csv")
    controls = controls[controls["series"].str.startswith("iso")]
    of_size = runs.groupby("n_params")[["base_loss_domain", "batch_tokens"]].first()
    controls = controls.join(of_size, on="n_params")
    controls["warmup_tokens"] = (0.1 * controls["n_tokens"]).round()
    return pd.concat([runs, controls[[name for name in runs if name in controls]]])


def fit_small(runs: pd.DataFrame, largest: int) -> dcpt.Fit:
    """Fit the runs of up to a size."""
    return dcpt.fit(dcpt.load_runs(runs[runs["n_params"] <= largest]))


def errors_at(fit: dcpt.Fit, held: pd.DataFrame, title: str) -> Iterator[list[str]]:
    """Table rows: each law, and the stack with its interval, at the held-out runs."""
    asked = held.drop(columns=["run", "loss_domain"])
    measured = held["loss_domain"].to_numpy()
    points = fit.points("domain", asked)
    weights = fit.weights("domain", "annealed")
    for name, losses in with_stack(fit, "domain", points).items():
        error = 100 * (losses / measured - 1)
        row = [title, name, f"{weights[name]:.2f}" if name in weights else ""]
        row += [f"{np.abs(error).mean():.2f} %", f"{error.mean():+.2f} %"]
        row += [f"{np.abs(error).max():.2f} %"]
        yield [*row, *(interval(fit, asked, measured) if name == STACK else ["", ""])]


def interval(fit: dcpt.Fit, asked: pd.DataFrame, measured: NDArray[np.float64]) -> list[str]:
    """How many measured losses the 90 % interval holds, and its mean width."""
    predicted = fit.predict(asked)
    inside = (predicted["low"] <= measured) & (measured <= predicted["high"])
    width = (predicted["high"] - predicted["low"]).mean()
    return [f"{inside.sum()} of {len(inside)}", f"{width:.3f}"]


def main() -> None:
    runs = pd.read_csv(DATA / "runs.csv")
    held = runs[runs["n_params"] == TARGET]
    rows, warnings = [], []
    for also, table in (("", runs), (" and controls", with_controls(runs))):
        for size, largest in LARGEST.items():
            fit = fit_small(table, largest)
            rows += list(errors_at(fit, held, f"up to {size}{also}"))
            pairs = [" with ".join(f.values["axes"]) for f in fit.flags if f.kind == "confounded"]
            warnings.append(f"- up to {size}{also}: {', '.join(pairs)}\n")
    page = ABOUT + markdown(HEAD, rows) + "Warned that they change together:\n\n"
    (HERE / "delphi.md").write_text(page + "".join(warnings) + NOTE)


if __name__ == "__main__":
    main()
