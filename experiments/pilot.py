"""How well do the laws, and the stack of all laws, predict runs of the pilot that were held out?

Hypotheses:

- Given its base loss, the stack predicts the general loss of a size beyond the fitted sizes within
  0.02 nats (``code``, 29.1M from 1.8M and 6.6M). The same holds for a learning rate beyond the
  fitted rates.
- From 1.8M alone, with laws of both phases, the stack chooses pairs (r, learning rate) for 6.6M
  that exceed a limit by at most 0.5 % of the base's loss and cost less than 0.03 nats of domain
  loss.

Held out:

1. ``code``, the 24 runs at 0.3 times the base's peak rate: 29.1M, from the two smaller sizes and
   its own base loss. Also the share that +1, 2, 3, 5 % allow at 29.1M and 40M tokens.
2. The same runs and the 3e-4 runs of ``code_lr``: the 9e-4 runs of ``code_lr`` at 6.6M and 29.1M.
3. ``zh_annealed``: 6.6M, from 1.8M and its base loss, in both phases. One size does not determine
   the domain laws' terms in N, so these are fixed. Also all 9e-4 runs, and the pair for each limit
   at 6.6M, after the decay.

Every table is ``dcpt.fit(runs)`` with all laws that the runs can support. Command, about 20 CPU
seconds::

    python experiments/pilot.py

Result: ``pilot.md`` in this folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from held_out_errors import STACK, Array, Rows, held_out, with_stack
from measured_pairs import (
    LIMITS,
    Measured,
    Pair,
    base_of,
    cells,
    ends_of,
    excesses,
    recommended_pairs,
    target_of,
)
from pages import markdown
from scipy.interpolate import PchipInterpolator

import dcpt
from dcpt.decide.axes import ratio_grid
from dcpt.decide.trade_off import largest_share
from dcpt.laws import LAWS, Fit, offer_laws

SMALL, MIDDLE, LARGE = 1_803_392, 6_622_464, 29_106_688
AT_40M, AT_44M = 39_993_344, 43_991_040
FIXED = {"w": 0.8, "nu": 0.06, "b": 0.5}
"""Parameters of the domain laws' terms in N, as fitted to all runs of ``code`` and ``code_lr``."""

LEVEL = 0.9
ABOUT = """# The pilot: laws at held-out sizes, learning rates and phases

Nats per token. Bias is predicted minus measured. As in the package, these points are left out:
those before 2.5 times the warmup, r = 1 for the general loss, and r = 0 for the domain loss.
Written by `python experiments/pilot.py`.

## Summary: RMSE of the stack, of the best single law, and of the base's loss

"""
ABOUT_PAIRS = """### The pair at 6.6M, after the decay (44M tokens)

Each cell is share @ learning rate. The learning rate is one of those trained at 6.6M;
`dcpt.recommend` may choose any rate between them. The brackets hold what was measured at the pair,
interpolated between the runs by a monotone cubic: the rise of the general loss, and how much the
domain loss exceeds that of the best measured pair with the same rise. A general law is combined
with the stack of the domain, and a domain law with the stack of the general channel. From 1.8M the
domain laws' terms in N are fixed by hand. The fit to `all runs` includes the runs that it is
compared with.

"""


def fit_one_size(runs: pd.DataFrame) -> Fit:
    """Fit runs of one size; fixed terms in N let the domain laws predict other sizes."""
    supported = [law for law, reason in offer_laws(runs, "domain").items() if reason is None]
    laws = [law for law in supported if "w" in LAWS[law].names]
    fixed = {k: v for k, v in FIXED.items() if any(k in LAWS[law].names for law in laws)}
    domain = dcpt.fit(runs, laws, channels=["domain"], fixed=fixed)
    general = dcpt.fit(runs, channels=["general"])
    return replace(
        general,
        by_channel={**general.by_channel, **domain.by_channel},
        domain_channel="domain",
    )


def ladder() -> pd.DataFrame:
    """Return the 24 runs of ``code`` whose learning rate is 0.3 times the base's peak."""
    code = dcpt.bundled_runs("code")
    relative = code["learning_rate"] / code["base_peak_learning_rate"]
    return code[np.isclose(relative, 0.3)].reset_index(drop=True)


def larger_size(short: Rows) -> str:
    """Answer question 1: a size beyond the fitted sizes."""
    runs = ladder()
    large = np.asarray(runs["n_params"] == LARGE)
    fit = dcpt.fit(runs[~large])
    parts = {"29.1M": large, "at 40M tokens": large & np.asarray(runs["n_tokens"] == AT_40M)}
    text = "## 1. code: 29.1M from 1.8M and 6.6M\n\n"
    text += held_out("1. code, size", fit, runs, large, parts, short)
    base, rate = base_of(runs, LARGE), 3e-4
    frame = pd.DataFrame({"ratio": ratio_grid(), "learning_rate": rate, **base})
    frame = frame.assign(n_tokens=AT_40M, phase="constant")
    losses = with_stack(fit, "general", fit.points("general", frame))
    ends = ends_of(runs, LARGE, "constant")
    curve = base["base_loss_general"] + PchipInterpolator(ends["ratio"], ends["rise"])(ratio_grid())
    cells = {}
    for name, loss in {"measured": curve, **losses}.items():
        limits = [base["base_loss_general"] * (1 + limit / 100) for limit in LIMITS]
        shares = [float(largest_share(ratio_grid(), loss, allowed)) for allowed in limits]
        cells[name] = [f"{share:.2f}" if np.isfinite(share) else "none" for share in shares]
    for i, limit in enumerate(LIMITS):
        answer = dcpt.recommend(fit, target_of(base, AT_40M, f"+{limit}%", rate), LEVEL)
        frontier = next(line for line in answer.frontiers if line.learning_rate == rate)
        top = frontier.largest_ratio
        cells[STACK][i] += f" ({top.low:.2f} to {top.high:.2f})"
    text += "Largest share within a limit at 29.1M, 40M tokens, 3e-4. Measured: a monotone cubic "
    text += "through the trained shares. In brackets: the 90 % interval.\n\n"
    head = ["law", *(f"+{limit} %" for limit in LIMITS)]
    return text + markdown(head, ([name, *row] for name, row in cells.items()))


def higher_rate(short: Rows) -> str:
    """Answer question 2: a learning rate beyond the fitted rates."""
    runs = pd.concat([ladder(), dcpt.bundled_runs("code_lr")], ignore_index=True)
    of_sweep = runs["run"].str.startswith("code-lr-").to_numpy(dtype=bool)
    held = of_sweep & np.isclose(runs["learning_rate"], 9e-4)
    sizes = {"6.6M": MIDDLE, "29.1M": LARGE}
    parts = {name: held & np.asarray(runs["n_params"] == size) for name, size in sizes.items()}
    text = "## 2. code: 9e-4 from 0.3 times the base's peak and 3e-4\n\n"
    return text + held_out("2. code, rate", dcpt.fit(runs[~held]), runs, held, parts, short)


def two_phases(short: Rows) -> str:
    """Answer question 3: both phases, and the pair for each limit."""
    runs = dcpt.bundled_runs("zh_annealed")
    middle = np.asarray(runs["n_params"] == MIDDLE)
    nine = np.isclose(runs["learning_rate"], 9e-4)
    phases = {name: np.asarray(runs["phase"] == name) for name in ("constant", "annealed")}
    of_middle, of_nine = ({name: m & p for name, p in phases.items()} for m in (middle, nine))
    from_small = fit_one_size(runs[~middle])
    text = "## 3. zh_annealed\n\n### 6.6M from 1.8M\n\n"
    given = ", ".join(f"{name} = {value:g}" for name, value in FIXED.items())
    text += "The domain laws need two sizes. Here the parameters of their terms in N are fixed at "
    text += f"the values fitted to code ({given}).\n\n"
    text += held_out("3. zh, size", from_small, runs, middle, of_middle, short)
    text += "### 9e-4 held out\n\n"
    text += held_out("3. zh, rate", dcpt.fit(runs[~nine]), runs, nine, of_nine, short)
    return text + pairs(runs, from_small, dcpt.fit(runs))


def pairs(runs: pd.DataFrame, from_small: Fit, from_all: Fit) -> str:
    """Format the pair (r, learning rate) for each limit at 6.6M, and what was measured there."""
    measured, small = Measured(runs, MIDDLE), Measured(runs, SMALL)
    base = base_of(runs, MIDDLE)
    loss, small_loss = base["base_loss_general"], base_of(runs, SMALL)["base_loss_general"]
    chosen: dict[tuple[str, str], list[Pair | None]] = {
        ("6.6M", "measured"): measured.frontiers(loss),
        ("1.8M", "measured, copied"): small.frontiers(small_loss),
    }
    for seen, fit in (("1.8M", from_small), ("all runs", from_all)):
        general, domain = (surface(fit, name, measured, base) for name in ("general", "domain"))
        both = {name: (losses, domain[STACK]) for name, losses in general.items()}
        both |= {name: (general[STACK], losses) for name, losses in domain.items() if name != STACK}
        for name, curves in both.items():
            chosen[seen, name] = [measured.best(*curves, loss * p / 100) for p in LIMITS]
        chosen[seen, "`dcpt.recommend`, any rate"] = recommended_pairs(fit, base, AT_44M)
    head = ["fitted to", "law", *(f"+{limit} %" for limit in LIMITS)]
    rows = [[*who, *cells(measured, pairs, loss)] for who, pairs in chosen.items()]
    over = excesses(measured, chosen["1.8M", STACK], loss)
    verdict = "From 1.8M the general loss at the stack's pairs exceeds the limits by "
    verdict += f"{min(over):.1f} to {max(over):.1f} % of the base's loss.\n\n"
    return ABOUT_PAIRS + markdown(head, rows) + verdict


def surface(
    fit: Fit, channel: str, measured: Measured, base: Mapping[str, float]
) -> dict[str, dict[float, Array]]:
    """Predict annealed losses (general: the rise) by law and rate, at the trained shares."""
    result: dict[str, dict[float, Array]] = {}
    for rate, ratio in measured.shares.items():
        frame = pd.DataFrame({"ratio": ratio, "learning_rate": rate, **base})
        frame = frame.assign(n_tokens=AT_44M, phase="annealed")
        from_base = base["base_loss_general"] if channel == "general" else 0.0
        for law, loss in with_stack(fit, channel, fit.points(channel, frame)).items():
            result.setdefault(law, {})[rate] = loss - from_base
    return result


def main() -> None:
    """Answer the three questions and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    short: Rows = []
    body = larger_size(short) + higher_rate(short) + two_phases(short)
    summary = markdown(["held out", "channel", "stack", "best law, afterwards", "base"], short)
    text = ABOUT + summary + body
    options.out.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
