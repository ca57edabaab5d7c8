"""Do the runs that ``dcpt next-runs`` chooses narrow a decision more than other choices?

Hypothesis: two short runs of the target that ``dcpt.next_runs`` chooses bring the recommended pair
closer to the limit, and its interval of the share is narrower at the same coverage, than two short
runs chosen at random, two at the middle of the grid, or a full-length run at the recommended pair
(which costs twice as much).

Tables are synthetic, as in ``calibration.py``: three sizes, three rates, five shares, decays. The
truth is a law of the package (``annealed``) or a form that it does not have (``outside``); the
target is twice the largest size. Each choice is simulated, fitted with the table, and asked again.

    python experiments/next_runs.py --tables 4 --processes 2 --out next_runs.jsonl
    python experiments/next_runs.py --show next_runs.jsonl

A table takes about 15 CPU seconds. Result: ``next_runs.md`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from calibration import (
    D_PT,
    PEAKS,
    POINT_NOISE,
    RATE,
    RUN_NOISE,
    TRUTHS,
    WARMUP,
    frame_at,
    with_base,
)
from pages import markdown

import dcpt
from dcpt.decide.next_runs import SHORT
from dcpt.laws.synthetic import Truth, simulate_runs

HERE = Path(__file__).parent
SIZE, TOKENS = 58.2e6, 44e6
RATES = (2e-4, 6e-4, 1.5e-3)
SHARES = tuple(np.round(np.arange(0.05, 0.96, 0.05), 2))
CHOICES = ("none", "next-runs", "random", "middle", "full length")

Record = dict[str, object]
Pair = tuple[float, float]


def run_points(number: int, pair: Pair, length: float, base: float) -> pd.DataFrame:
    """The points of a run of the target: its trunk, and the end of its decay."""
    end = length * TOKENS
    tokens = [*(end / 1.1 * part for part in (0.25, 0.5, 1.0)), end]
    phases = ["constant"] * 3 + ["annealed"]
    frame = pd.DataFrame({"n_tokens": np.round(tokens).astype(int), "phase": phases})
    frame = frame.assign(run=f"target-{number}", n_params=round(SIZE))
    frame = frame.assign(ratio=pair[0], learning_rate=pair[1])
    return with_base(frame, {round(SIZE): base}).assign(base_peak_learning_rate=PEAKS[SIZE])


def choose(
    choice: str, fit: dcpt.laws.Fit, target: dcpt.Target, rng: np.random.Generator
) -> list[tuple[Pair, float]]:
    """Pairs and lengths of the runs of a choice."""
    if choice == "next-runs":
        chosen = dcpt.next_runs(fit, target, "50%").runs
        return [((run.ratio, run.learning_rate or RATE), SHORT) for run in chosen]
    if choice == "random":
        return [((float(rng.choice(SHARES)), float(rng.choice(RATES))), SHORT) for _ in range(2)]
    if choice == "middle":
        return [((0.5, RATES[1]), SHORT), ((0.5, RATES[0]), SHORT)]
    if choice == "full length":
        pair = dcpt.recommend(fit, target).central
        return [] if pair is None else [((pair.ratio, pair.learning_rate or RATE), 1.0)]
    return []


def true_general(truth: Truth, frame: pd.DataFrame, pairs: list[Pair]) -> np.ndarray:
    """True general losses of the target at pairs of share and rate."""
    asked = pd.concat([frame_at(frame, SIZE, TOKENS).iloc[:1]] * len(pairs), ignore_index=True)
    asked["ratio"], asked["learning_rate"] = zip(*pairs, strict=True)
    return truth.losses(asked, "general")


def judge(
    fit: dcpt.laws.Fit, target: dcpt.Target, allowed: float, truth: Truth, frame: pd.DataFrame
) -> Record | None:
    """How the central pair does by the true losses; None if there is none."""
    answer = dcpt.recommend(fit, target)
    if answer.central is None:
        return None
    rate = answer.habits[0].learning_rate or RATE  # that of the interval
    grid = np.linspace(0.02, 0.97, 96)
    true = true_general(truth, frame, [(float(share), rate) for share in grid])
    base, central = target.base_losses["general"], answer.central
    pair = (central.ratio, central.learning_rate or RATE)
    at_pair = float(true_general(truth, frame, [pair])[0])
    crossing = float(grid[true <= allowed].max()) if (true <= allowed).any() else 0.0
    low, high = answer.ratio_interval.low, answer.ratio_interval.high
    assert low is not None
    assert high is not None
    return {
        "limit_used": (at_pair - base) / (allowed - base),
        "share_error": abs((answer.ratio_interval.value or np.nan) - crossing),
        "width": high - low,
        "holds": low - 0.005 <= crossing <= high + 0.005,
    }


def evaluate_table(task: tuple[str, int, int]) -> list[Record]:
    """Make a table, fit it, and refit it with the runs of each choice."""
    name, seed, n_draws = task
    rng = np.random.default_rng([list(TRUTHS).index(name), seed, 17])
    frame, truths, _ = TRUTHS[name](np.random.default_rng([list(TRUTHS).index(name), seed]))
    noise = {"run_noise": RUN_NOISE, "point_noise": POINT_NOISE}
    runs = simulate_runs(frame, truths, **noise, seed=seed)
    first = dcpt.fit(runs, n_draws=n_draws, seed=seed)
    base = float(frame_at(frame, SIZE, TOKENS)["base_loss_general"].iloc[0])
    truth = truths["general"]
    share = rng.uniform(0.3, 0.85)
    allowed = float(true_general(truth, frame, [(share, RATE)])[0])
    if allowed <= base + 0.02:
        return []  # there is no limit on a rise
    target = dcpt.Target(
        n_params=SIZE,
        n_tokens=TOKENS,
        limit=dcpt.Limit(allowed - base, "nats"),
        base_losses={"general": base, "domain": base - 0.9},
        base_peak_learning_rate=PEAKS[SIZE],
        base_n_tokens=D_PT,
        warmup_tokens=WARMUP,
    )
    records: list[Record] = []
    for choice in CHOICES:
        added = [
            run_points(number, pair, length, base)
            for number, (pair, length) in enumerate(choose(choice, first, target, rng))
        ]
        fit = first
        if added:
            more = simulate_runs(pd.concat(added), truths, **noise, seed=1000 + seed)
            fit = dcpt.fit(pd.concat([runs, more], ignore_index=True), n_draws=n_draws, seed=seed)
        found = judge(fit, target, allowed, truth, frame)
        records.append({"truth": name, "seed": seed, "choice": choice, **(found or {})})
    return records


def run_all(tables: int, n_draws: int, processes: int) -> Iterator[list[Record]]:
    """Evaluate the tables of both truths; yields their records in order."""
    tasks = [(name, seed, n_draws) for seed in range(tables) for name in ("annealed", "outside")]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(evaluate_table, tasks, chunksize=1)


def summarise(records: pd.DataFrame) -> pd.DataFrame:
    """A row per truth and choice."""
    frame = records.dropna(subset=["width"]).astype({"holds": float})
    frame = frame.assign(miss=(frame["limit_used"] - 1).abs(), over=frame["limit_used"] > 1.15)
    groups = frame.groupby(["truth", "choice"], sort=False)
    return groups.agg(
        tables=("seed", "nunique"),
        miss=("miss", "mean"),
        over=("over", "mean"),
        share_error=("share_error", "mean"),
        width=("width", "mean"),
        holds=("holds", "mean"),
    ).reset_index()


def page(found: pd.DataFrame) -> str:
    """The result as a page."""
    head = ["truth", "runs at the target", "tables", "mean miss of the limit", "over 115 %"]
    head += ["mean error of the share", "share interval", "holds the true share"]
    rows = [
        [
            *(str(row["truth"]), str(row["choice"]), str(row["tables"])),
            *(f"{row['miss']:.1%}", f"{row['over']:.0%}", f"{row['share_error']:.3f}"),
            *(f"{row['width']:.2f}", f"{row['holds']:.0%}"),
        ]
        for row in found.to_dict("records")
    ]
    return (
        "# Which further runs narrow a decision\n\n"
        "Two short runs of the target (a quarter of its tokens each, 50 % of the cost of its run), "
        "chosen in\nthree ways, and a full-length run at the recommended pair (100 %). The miss is "
        "that of the true general\nloss at the recommended pair, in percent of the limit. See "
        "`next_runs.py` for the tables.\n\n" + markdown(head, rows).rstrip("\n") + "\n"
    )


def main() -> None:
    """Run the tables, or show those of a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tables", type=int, default=4)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("next_runs.jsonl"))
    parser.add_argument("--show", type=Path, default=None)
    options = parser.parse_args()
    if options.show is None:
        with options.out.open("w") as file:
            for records in run_all(options.tables, options.draws, options.processes):
                file.writelines(json.dumps(record) + "\n" for record in records)
                file.flush()
    found = summarise(pd.read_json(options.show or options.out, lines=True))
    print(found.to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    (HERE / "next_runs.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
