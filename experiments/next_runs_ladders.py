"""Do the runs that ``dcpt next-runs`` chooses help more than others on real ladders?

Hypothesis: as in ``next_runs.py``, on the ladders of mathematics and music, whose losses at 29M
parameters are measured at 7 shares x 3 rates, after a quarter of the tokens and after all of them.

The table of the two smaller sizes is fitted for limits of +2, +3 and +5 %. Each choice adds
measured runs at 29M, those nearest to the chosen pairs, and everything is fitted again. The
recommended pair is judged by the measured surface, interpolated between its runs.

    python experiments/next_runs_ladders.py

A few minutes on 2 cores of a shared machine. Result: ``next_runs_ladders.md`` in this folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from measured_pairs import Measured, base_of, target_of
from pages import markdown

import dcpt
from dcpt.decide.axes import ratio_grid
from dcpt.decide.trade_off import largest_share

HERE = Path(__file__).parent
DOMAINS = ("math", "music")
LIMITS = (2, 3, 5)
N_RANDOM = 8

Cell = tuple[float, float]
"""A measured pair of share and learning rate at the target."""


class Ladder:
    """A ladder, its table of small sizes, and the measured runs at its target.

    Args:
        name: Name of the table.
        n_draws: Bootstrap draws of a fit.
    """

    def __init__(self, name: str, n_draws: int) -> None:
        runs = dcpt.load_runs(HERE / "ladders" / f"{name}.csv")
        decayed = runs[runs["phase"] == "annealed"]
        self.name, self.n_draws = name, n_draws
        self.size = int(decayed["n_params"].max())
        self.small = runs[runs["n_params"] < self.size]
        at_target = runs[(runs["n_params"] == self.size) & (runs["seed"] == runs["seed"].min())]
        self.at_target, self.base = at_target, base_of(runs, self.size)
        ends = at_target[at_target["phase"] == "annealed"]
        self.cells: list[Cell] = sorted(
            {(row.ratio, row.learning_rate) for row in ends.itertuples()}
        )
        self.short, self.full = sorted(int(tokens) for tokens in ends["n_tokens"].unique())
        self.measured = Measured(at_target, self.size)
        self.fit = cache(self._fit)

    def target(self, limit: int) -> dcpt.Target:
        """The target under a limit in percent."""
        return target_of(self.base, self.full, f"+{limit}%")

    def _fit(self, cells: tuple[Cell, ...], n_tokens: int) -> dcpt.laws.Fit:
        """Fit the small sizes with the runs of some cells, up to their decay at ``n_tokens``."""
        rows = [self.small]
        for ratio, rate in cells:
            run = self.at_target
            run = run[(run["ratio"] == ratio) & (run["learning_rate"] == rate)]
            ends = (run["phase"] == "annealed") & (run["n_tokens"] != n_tokens)
            rows.append(run[(run["n_tokens"] <= n_tokens) & ~ends])
        return dcpt.fit(pd.concat(rows, ignore_index=True), n_draws=self.n_draws)

    def nearest(self, pair: Cell, taken: list[Cell]) -> Cell:
        """The measured cell nearest to a pair, in the coordinates of the laws."""

        def distance(cell: Cell) -> float:
            shares = [-np.log(1.03 - share) for share in (cell[0], pair[0])]
            return float(np.hypot(shares[0] - shares[1], np.log(cell[1] / pair[1])))

        return min((cell for cell in self.cells if cell not in taken), key=distance)

    def choices(self, limit: int) -> Iterator[tuple[str, tuple[Cell, ...], int]]:
        """Each choice: its name, its cells, and the tokens of its runs."""
        first, target = self.fit((), self.short), self.target(limit)
        yield "none", (), self.short
        chosen: list[Cell] = []
        for run in dcpt.next_runs(first, target, "50%").runs:
            assert run.learning_rate is not None
            chosen.append(self.nearest((run.ratio, run.learning_rate), chosen))
        yield "next-runs", tuple(chosen), self.short
        rng = np.random.default_rng(0)
        for _ in range(N_RANDOM):
            pair = rng.choice(len(self.cells), 2, replace=False)
            yield "random", tuple(self.cells[index] for index in sorted(pair)), self.short
        yield "middle", ((0.6, 3e-4), (0.6, 9e-4)), self.short
        best = dcpt.recommend(first, target).central
        if best is not None and best.learning_rate is not None:
            cell = self.nearest((best.ratio, best.learning_rate), [])
            yield "full length", (cell,), self.full

    def judge(self, fit: dcpt.laws.Fit, limit: int) -> dict[str, object]:
        """Compare the central pair with the measured surface; empty outside its runs."""
        answer = dcpt.recommend(fit, self.target(limit))
        best, interval = answer.central, answer.ratio_interval
        if best is None or best.learning_rate is None or interval.low is None:
            return {}
        assert interval.high is not None
        allowed = self.base["base_loss_general"] * limit / 100
        grid = ratio_grid()
        rate = answer.habits[0].learning_rate or best.learning_rate  # that of the interval
        rises = np.array([self.measured.between("rise", (float(r), rate)) for r in grid])
        known = np.isfinite(rises)
        rise = self.measured.between("rise", (best.ratio, best.learning_rate))
        if not np.isfinite(rise):
            return {}
        share = float(largest_share(grid[known], rises[known], allowed))
        return {
            "limit_used": rise / allowed,
            "share_error": abs((interval.value or np.nan) - share),
            "width": interval.high - interval.low,
            "holds": float(interval.low <= share <= interval.high),
        }


def records(ladder: Ladder) -> Iterator[dict[str, object]]:
    """A record per limit and choice."""
    for limit in LIMITS:
        for choice, cells, n_tokens in ladder.choices(limit):
            found = ladder.judge(ladder.fit(cells, n_tokens), limit)
            about = {"domain": ladder.name, "limit": limit, "choice": choice, "cells": cells}
            print(about, found, flush=True)
            yield {**about, **found}


def summarise(found: pd.DataFrame) -> list[list[str]]:
    """A row per choice, random pairs counting as one choice."""
    judged = found.dropna(subset=["width"])
    judged = judged.assign(
        miss=(judged["limit_used"] - 1).abs(), over=(judged["limit_used"] > 1.15).astype(float)
    )
    rows = []
    for choice, group in judged.groupby("choice", sort=False):
        mean = group[["miss", "over", "share_error", "width", "holds"]].mean()
        rows.append(
            [
                *(str(choice), f"{len(group)} of {(found['choice'] == choice).sum()}"),
                *(f"{mean['miss']:.1%}", f"{mean['over']:.0%}", f"{mean['share_error']:.3f}"),
                *(f"{mean['width']:.2f}", f"{mean['holds']:.0%}"),
            ]
        )
    return rows


def main() -> None:
    """Judge every choice on both ladders, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    found = pd.DataFrame([row for name in DOMAINS for row in records(Ladder(name, draws))])
    head = ["runs at 29M", "judged", "mean miss of the limit", "over 115 %"]
    head += ["mean error of the share", "share interval", "holds the measured share"]
    text = (
        "# Which further runs help on real ladders\n\n"
        "Mathematics and music, fitted at 1.8M and 6.6M parameters, limits +2, +3 and +5 %. Two "
        "short runs\n(a quarter of the tokens) cost half as much as the full-length run at the "
        "recommended pair. Random: 8 pairs\neach. A recommendation at a rate outside the measured "
        "ones is not judged. The prior of the two-level\nmodel is learnt from public ladders that "
        "include these two. See `next_runs_ladders.py`.\n\n"
    )
    text += markdown(head, summarise(found)).rstrip("\n") + "\n"
    (HERE / "next_runs_ladders.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
