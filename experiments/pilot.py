"""What does each law, and the stack of all, say of runs of the pilot that it did not see?

Hypotheses: with its base loss given, the stack meets a size beyond those fitted within .02 nats of
general loss (``code``, 29.1M from 1.8M and 6.6M), and so a learning rate beyond those fitted; from
1.8M alone, with laws of both phases, it chooses pairs (r, learning rate) for 6.6M that pass a limit
by half a per cent of the base's loss at most and give away less than .03 nats of domain loss.

1. ``code``, its 24 runs at .3 x the base's peak rate: 29.1M from the two smaller sizes and its own
   base loss; the share that +1, 2, 3, 5 % allow at 29.1M and 40M tokens.
2. The same runs and the 3e-4 runs of ``code_lr``: its 9e-4 runs at 6.6M and 29.1M.
3. ``zh_annealed``: 6.6M from 1.8M and its base loss, in both phases (for the domain one size tells
   no term in N: they are given); all 9e-4 runs; the pair for each limit at 6.6M, after the decay.

Every table is ``dcpt.fit(runs)`` with all laws that the runs carry. Command, about 20 CPU seconds::

    python experiments/pilot.py --out experiments/pilot.md

Result: ``pilot.md`` in this folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

import dcpt
from dcpt.decide.question import ratio_grid
from dcpt.decide.trade_off import best_share, largest_share
from dcpt.laws import LAWS, Fit, Points, offer_laws
from dcpt.laws.law import evaluate
from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.laws.suitable import say_refusals
from dcpt.quantities import format_rate

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Pair = tuple[float, float]
Rows = list[list[str]]

LIMITS = (1, 2, 3, 5)
"""Limits on the rise of the general loss, per cent of the base's own."""

SMALL, MIDDLE, LARGE = 1_803_392, 6_622_464, 29_106_688
AT_40M, AT_44M = 39_993_344, 43_991_040
HELD = {"w": 0.8, "nu": 0.06, "b": 0.5}
"""Terms in size of the domain laws, as they come out on all runs of ``code`` and ``code_lr``."""

LEVEL, TAILS = 0.9, (0.05, 0.95)
ABOUT = """# The pilot: laws at sizes, rates and phases that they did not see

Nats per token; bias is predicted minus measured. As the package does, points below 2.5 warmups,
r = 1 for the general loss and r = 0 for the domain's are left out. Written by
`python experiments/pilot.py`.

## In short: RMSE of the stack, of the best law alone, and of the base's own loss

"""
ABOUT_PAIRS = """### The pair at 6.6M, after the decay (44M tokens)

Share @ learning rate, among those run at 6.6M (`dcpt.recommend`: any between). In brackets what was
measured there, monotone cubic between the runs: the rise of the general loss, and the domain loss
beyond that of the best measured pair with the same rise. A general law goes with the domain's stack
and the other way round; from 1.8M the domain has its terms in size by hand. `all runs` has seen
what it is scored on.

"""
STACK, BASE = "**stack**", "no change from the base"


def losses_by_law(fit: Fit, channel: str, points: Points) -> dict[str, Array]:
    """Loss of each law that may be asked, alone, shape (M,), nats; NaN where it may not."""
    annealed, result = points.get("annealed") > 0, {}
    for name, member in fit.by_channel[channel].members.items():
        constant_too, annealed_too = (p in member.law.phases for p in ("constant", "annealed"))
        may = member.accepts(points) & np.where(annealed, annealed_too, constant_too)
        if may.any():
            result[name] = np.full(len(points), np.nan)
            result[name][may] = evaluate(
                member.law, points.take(may), member.values, member.references
            )
    return result


def with_stack(fit: Fit, channel: str, points: Points) -> dict[str, Array]:
    """Losses by law, and of the stack of all, shape (M,), nats."""
    return {**losses_by_law(fit, channel, points), STACK: fit.central(channel, points)}


def fit_one_size(runs: pd.DataFrame) -> Fit:
    """Laws of one size; the domain's get their terms in size by hand and may be asked at others."""
    carried = [law for law, reason in offer_laws(runs, "domain").items() if reason is None]
    laws = [law for law in carried if "w" in LAWS[law].names]
    held = {k: v for k, v in HELD.items() if any(k in LAWS[law].names for law in laws)}
    domain = dcpt.fit(runs, laws, channels=["domain"], fixed=held)
    general = dcpt.fit(runs, channels=["general"])
    return replace(
        general,
        by_channel={**general.by_channel, **domain.by_channel},
        domain_channel="domain",
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) + "\n"


def gaps_by_law(fit: Fit, data: ChannelData, held: Mask) -> dict[str, Array]:
    """Predicted minus measured of every law, the stack and the base itself at held-out points."""
    points, measured = data.points.take(held), data.losses[held]
    losses = with_stack(fit, data.channel, points)
    if data.side == "general":
        losses[BASE] = points.get("base_loss")
    gaps = {name: loss - measured for name, loss in losses.items()}
    return {name: gap[np.isfinite(gap)] for name, gap in gaps.items()}


def rmse(gap: Array) -> float:
    return float(np.sqrt(np.mean(gap**2)))


def in_short(title: str, channel: str, gaps: Mapping[str, Array]) -> list[str]:
    """A row of the summary: the stack, the best law alone (chosen in hindsight), no change."""
    alone = {name: rmse(gap) for name, gap in gaps.items() if name not in (STACK, BASE)}
    best = min(alone, key=lambda name: alone[name])
    base = f"{rmse(gaps[BASE]):.3f}" if BASE in gaps else "-"
    return [title, channel, f"{rmse(gaps[STACK]):.3f}", f"{best} {alone[best]:.3f}", base]


def about_the_stack(fit: Fit, data: ChannelData, parts: Mapping[str, Mask]) -> str:
    """What the stack was made of and how many points lie in its intervals, a line."""
    said = []
    for part, mask in parts.items():
        points, measured = data.points.take(mask), data.losses[mask]
        weights = {n: w for n, w in fit.weights_at(data.channel, points).items() if w > 5e-3}
        low, high = np.quantile(fit.sample(data.channel, points), TAILS, axis=0)
        inside, width = ((low <= measured) & (measured <= high)).mean(), (high - low).mean()
        named = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        said.append(
            f"{part}: {named}; {inside:.0%} of {len(measured)} points in the 90 % interval, "
            f"{width:.3f} wide"
        )
    return f"- Stack, {data.channel}. " + ". ".join(said) + ".\n"


def refusals(runs: pd.DataFrame, data: ChannelData) -> str:
    """Laws of a channel's side that the fitted runs do not carry, a line."""
    reasons = {
        name: reason
        for name, reason in offer_laws(runs, data.channel).items()
        if reason is not None and LAWS[name].side in ("any", data.side)
    }
    words = "; ".join(say_refusals(reasons, LAWS, points_from_table(runs, data.channel)))
    return f"- Refused, {data.channel}: {words}.\n"


def held_out(
    title: str, fit: Fit, runs: pd.DataFrame, held: Mask, parts: Mapping[str, Mask], short: Rows
) -> str:
    """The table of errors at parts of the held-out rows, and what it is made of.

    The fit is to the other rows of ``runs``; rows of the summary are added to ``short``.
    """
    rows, notes = [], ""
    for channel in ("general", "domain"):
        data = points_from_table(runs, channel)
        masks = {part: np.asarray(mask)[data.rows - 2] for part, mask in parts.items()}
        columns = {part: gaps_by_law(fit, data, mask) for part, mask in masks.items()}
        for law in dict.fromkeys(law for gaps in columns.values() for law in gaps):
            rows.append([channel, law])
            for gaps in columns.values():
                there = law in gaps
                rows[-1].append(f"{rmse(gaps[law]):.4f}" if there else "-")
                rows[-1].append(f"{gaps[law].mean():+.4f}" if there else "-")
        short += [in_short(f"{title}, {part}", channel, gaps) for part, gaps in columns.items()]
        notes += about_the_stack(fit, data, masks) + refusals(runs[~held], data)
    head = ["channel", "law", *(f"{part}: {what}" for part in parts for what in ("RMSE", "bias"))]
    return markdown(head, rows) + notes + "\n"


def base_of(runs: pd.DataFrame, size: int) -> dict[str, float]:
    """What is known of the first base of a size, as columns of a question."""
    first = runs[(runs["n_params"] == size) & (runs["n_tokens"] == 0)].iloc[0]
    kept = ("n_params", "base_peak_learning_rate", "base_n_tokens", "warmup_tokens", "batch_tokens")
    losses = {f"base_{name}": float(first[name]) for name in ("loss_general", "loss_domain")}
    return losses | {name: float(first[name]) for name in kept}


def target_of(
    base: Mapping[str, float], n_tokens: int, limit: int, rate: float | None = None
) -> dcpt.Target:
    """The question of the best share for a base."""
    return dcpt.Target(
        n_params=base["n_params"],
        n_tokens=n_tokens,
        limit=dcpt.Limit(limit, "percent"),
        base_losses={"general": base["base_loss_general"], "domain": base["base_loss_domain"]},
        base_peak_learning_rate=base["base_peak_learning_rate"],
        base_n_tokens=base["base_n_tokens"],
        warmup_tokens=base["warmup_tokens"],
        learning_rate=rate,
    )


def ends_of(runs: pd.DataFrame, size: int, phase: str) -> pd.DataFrame:
    """Last point of every run of a size: ratio, learning_rate, rise of general loss, domain."""
    there = runs[(runs["n_params"] == size) & runs["phase"].isin([phase, "base"])]
    base = there[there["n_tokens"] == 0].set_index("run")["loss_general"]
    last = there.sort_values("n_tokens").groupby("run").last()
    return last.assign(rise=last["loss_general"] - base).sort_values(["learning_rate", "ratio"])


def ladder() -> pd.DataFrame:
    """The 24 runs of ``code`` whose learning rate is .3 x the base's peak."""
    code = dcpt.bundled_runs("code")
    relative = code["learning_rate"] / code["base_peak_learning_rate"]
    return code[np.isclose(relative, 0.3)].reset_index(drop=True)


def larger_size(short: Rows) -> str:
    """Question 1."""
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
        allowed = [base["base_loss_general"] * (1 + limit / 100) for limit in LIMITS]
        shares = [float(largest_share(ratio_grid(), loss, limit)) for limit in allowed]
        cells[name] = [f"{share:.2f}" if np.isfinite(share) else "none" for share in shares]
    for i, limit in enumerate(LIMITS):
        found = dcpt.recommend(fit, target_of(base, AT_40M, limit, rate), LEVEL)
        top = next(
            frontier for frontier in found.frontiers if frontier.learning_rate == rate
        ).largest_ratio
        cells[STACK][i] += f" ({top.low:.2f} to {top.high:.2f})"
    text += "Largest share within a limit at 29.1M, 40M tokens, 3e-4 (measured: monotone cubic "
    text += "through the shares run; in brackets the 90 % interval):\n\n"
    head = ["law", *(f"+{limit} %" for limit in LIMITS)]
    return text + markdown(head, ([name, *row] for name, row in cells.items()))


def higher_rate(short: Rows) -> str:
    """Question 2."""
    runs = pd.concat([ladder(), dcpt.bundled_runs("code_lr")], ignore_index=True)
    of_sweep = runs["run"].str.startswith("code-lr-").to_numpy(dtype=bool)
    held = of_sweep & np.isclose(runs["learning_rate"], 9e-4)
    sizes = {"6.6M": MIDDLE, "29.1M": LARGE}
    parts = {name: held & np.asarray(runs["n_params"] == size) for name, size in sizes.items()}
    text = "## 2. code: 9e-4 from .3 x the base's peak and 3e-4\n\n"
    return text + held_out("2. code, rate", dcpt.fit(runs[~held]), runs, held, parts, short)


def two_phases(short: Rows) -> str:
    """Question 3."""
    runs = dcpt.bundled_runs("zh_annealed")
    middle = np.asarray(runs["n_params"] == MIDDLE)
    nine = np.isclose(runs["learning_rate"], 9e-4)
    phases = {name: np.asarray(runs["phase"] == name) for name in ("constant", "annealed")}
    of_middle, of_nine = ({name: m & p for name, p in phases.items()} for m in (middle, nine))
    from_small = fit_one_size(runs[~middle])
    text = "## 3. zh_annealed\n\n### 6.6M from 1.8M\n\n"
    given = ", ".join(f"{name} = {value:g}" for name, value in HELD.items())
    text += "The domain needs two sizes; here its laws had their terms in size by "
    text += f"hand, as found on code ({given}).\n\n"
    text += held_out("3. zh, size", from_small, runs, middle, of_middle, short)
    text += "### 9e-4 held out\n\n"
    text += held_out("3. zh, rate", dcpt.fit(runs[~nine]), runs, nine, of_nine, short)
    return text + pairs(runs, from_small, dcpt.fit(runs))


class Measured:
    """Annealed losses measured at one size, between the shares and rates that were run."""

    def __init__(self, runs: pd.DataFrame, size: int) -> None:
        ends = ends_of(runs, size, "annealed")
        ends = ends[ends["ratio"] > 0]
        rates = ends.groupby("learning_rate").filter(lambda ends: len(ends) > 1)["learning_rate"]
        self.by_rate = {rate: ends[ends["learning_rate"] == rate] for rate in set(rates.tolist())}
        grid = ratio_grid()
        self.shares = {
            rate: grid[(grid >= curve["ratio"].min()) & (grid <= curve["ratio"].max())]
            for rate, curve in sorted(self.by_rate.items())
        }

    def at(self, what: str, rate: float, ratio: Array) -> Array:
        """``rise`` or ``loss_domain`` along the shares of a rate that was run."""
        curve = self.by_rate[rate]
        return np.asarray(PchipInterpolator(curve["ratio"], curve[what])(ratio))

    def between(self, what: str, pair: Pair) -> float:
        """The same at any pair inside the grid, monotone cubic in the log of the rate."""
        ratio, rate = pair
        there = [r for r, shares in self.shares.items() if shares[0] <= ratio <= shares[-1] + 5e-3]
        values = [float(self.at(what, r, np.array([ratio]))[0]) for r in there]
        if rate in there or len(there) < 2 or not there[0] <= rate <= there[-1]:
            return values[there.index(rate)] if rate in there else np.nan
        return float(PchipInterpolator(np.log(there), values)(np.log(rate)))

    def best(
        self, rises: Mapping[float, Array], domain: Mapping[float, Array], allowed: float
    ) -> Pair | None:
        """The pair with the lowest domain loss among shares and rates that were run."""
        best, lowest = None, np.inf
        for rate, ratio in self.shares.items():
            share, loss = best_share(ratio, rises[rate], domain[rate], allowed)
            if float(loss) < lowest:
                best, lowest = (float(share), rate), float(loss)
        return best

    def frontier(self, allowed: float) -> Pair | None:
        """The best pair by what was measured."""
        rises = {rate: self.at("rise", rate, ratio) for rate, ratio in self.shares.items()}
        domain = {rate: self.at("loss_domain", rate, r) for rate, r in self.shares.items()}
        return self.best(rises, domain, allowed)


def pairs(runs: pd.DataFrame, from_small: Fit, from_all: Fit) -> str:
    """The pair (r, learning rate) for each limit at 6.6M, and what was measured there."""
    measured, small = Measured(runs, MIDDLE), Measured(runs, SMALL)
    base = base_of(runs, MIDDLE)
    loss, small_loss = base["base_loss_general"], base_of(runs, SMALL)["base_loss_general"]
    chosen: dict[tuple[str, str], list[Pair | None]] = {
        ("6.6M", "measured"): [measured.frontier(loss * p / 100) for p in LIMITS],
        ("1.8M", "measured, copied"): [small.frontier(small_loss * p / 100) for p in LIMITS],
    }
    for seen, fit in (("1.8M", from_small), ("all runs", from_all)):
        general, domain = (surface(fit, name, measured, base) for name in ("general", "domain"))
        both = {name: (member, domain[STACK]) for name, member in general.items()}
        both |= {name: (general[STACK], member) for name, member in domain.items() if name != STACK}
        for name, curves in both.items():
            chosen[seen, name] = [measured.best(*curves, loss * p / 100) for p in LIMITS]
        answers = [dcpt.recommend(fit, target_of(base, AT_44M, p)).best for p in LIMITS]
        chosen[seen, "`dcpt.recommend`, any rate"] = [
            choice if choice is None else (choice.ratio, choice.learning_rate or np.nan)
            for choice in answers
        ]
    head = ["seen", "law", *(f"+{limit} %" for limit in LIMITS)]
    rows = [[*who, *(cell(measured, pair, loss) for pair in many)] for who, many in chosen.items()]
    stack = zip(chosen["1.8M", STACK], LIMITS, strict=True)
    over = [
        measured.between("rise", pair) / loss * 100 - p for pair, p in stack if pair is not None
    ]
    verdict = f"From 1.8M the stack's pairs pass the limits by {min(over):.1f} to {max(over):.1f} %"
    return ABOUT_PAIRS + markdown(head, rows) + f"{verdict} of the base's loss.\n\n"


def surface(
    fit: Fit, channel: str, measured: Measured, base: Mapping[str, float]
) -> dict[str, dict[float, Array]]:
    """Annealed losses (general: rise) by law and rate, along the shares run at that rate."""
    result: dict[str, dict[float, Array]] = {}
    for rate, ratio in measured.shares.items():
        frame = pd.DataFrame({"ratio": ratio, "learning_rate": rate, **base})
        frame = frame.assign(n_tokens=AT_44M, phase="annealed")
        from_base = base["base_loss_general"] if channel == "general" else 0.0
        for law, loss in with_stack(fit, channel, fit.points(channel, frame)).items():
            result.setdefault(law, {})[rate] = loss - from_base
    return result


def cell(measured: Measured, pair: Pair | None, base_loss: float) -> str:
    """A pair, the rise measured at it, and the domain loss that another of this rise would save."""
    if pair is None:
        return "none"
    rise = measured.between("rise", pair)
    if np.isnan(rise):
        return f"{pair[0]:.2f} @ {format_rate(pair[1])} (not run)"
    best = measured.frontier(rise) or pair
    # Adding 0 to what was rounded leaves no -.000.
    lost = round(measured.between("loss_domain", pair) - measured.between("loss_domain", best), 3)
    return f"{pair[0]:.2f} @ {format_rate(pair[1])} ({rise / base_loss:+.1%}, {lost + 0.0:+.3f})"


def main() -> None:
    """Write the three questions and their tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    short: Rows = []
    body = larger_size(short) + higher_rate(short) + two_phases(short)
    summary = markdown(["held out", "channel", "stack", "best law, in hindsight", "base"], short)
    text = ABOUT + summary + body
    options.out.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
