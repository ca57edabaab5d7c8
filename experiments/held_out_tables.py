"""How well do fits of real tables predict sizes and tokens that they never saw?

Every case fits all laws to a part of a table and predicts the rest: the largest size, or the last
tokens of every run. Per channel and phase it measures RMSE and bias, and of the 90 % interval the
coverage, the mean width, the interval score and the CRPS (Gneiting and Raftery 2007). Where the
runs of the largest size form a grid, it also asks for the pair under limits of +2, +3 and +5 %, and
measures how much of the limit the pair uses and whether the share's interval holds the measured
best share at that rate.

    python experiments/held_out_tables.py --pilot PILOT --published PUBLISHED --out after.jsonl
    python experiments/held_out_tables.py --show before.jsonl after.jsonl

``PILOT`` holds the pilot's tables (those of ``dcpt.bundled`` and ``zh_large.csv``), ``PUBLISHED``
the public ones. The cases take about 1 CPU minute. With ``--leave-out`` the prior of the two-level
model is learnt without the domain of the case, which takes 2 CPU minutes more. Results:
``held_out_tables.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from measured_pairs import Measured, base_of, target_of
from numpy.typing import NDArray
from two_level_priors import SIDES, learn, public_ladders

import dcpt
from dcpt.decide.axes import ratio_grid
from dcpt.laws import Fit
from dcpt.laws.points.channel_data import points_from_table
from dcpt.laws.two_level.priors import shipped_prior

HERE = Path(__file__).parent
LEVEL = 0.9
LIMITS = (2, 3, 5)
Array = NDArray[np.float64]
Record = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A table divided into fitted and held-out rows.

    Args:
        name: Table and what is held out.
        kind: ``size`` or ``tokens``.
        runs: The whole table.
        held: Rows that are predicted, shape (rows,).
        fitted: Rows that are fitted, shape (rows,).
        decides: Whether the held-out runs are a grid on which pairs can be measured.
    """

    name: str
    kind: str
    runs: pd.DataFrame
    held: NDArray[np.bool_]
    fitted: NDArray[np.bool_]
    decides: bool = False

    @property
    def domain(self) -> str:
        """The domain of its text, which begins its name."""
        return re.split(r"[^a-z]", self.name)[0]


def size_case(name: str, runs: pd.DataFrame, largest: float, held: float, decides: bool) -> Case:
    """Fit the sizes up to ``largest`` and predict the size ``held`` (each within 10 %)."""
    sizes = runs["n_params"].to_numpy(dtype=float)
    near = np.abs(sizes / held - 1) < 0.1
    return Case(name, "size", runs, near, sizes < largest * 1.1, decides)


def token_case(name: str, runs: pd.DataFrame, cut: float) -> Case:
    """Fit the points up to ``cut`` tokens and predict the later ones."""
    runs = runs.reset_index(drop=True)
    late = runs["n_tokens"].to_numpy(dtype=float) > cut
    return Case(name, "tokens", runs, late, ~late)


def list_cases(pilot: Path, published: Path) -> Iterator[Case]:
    """The cases of all tables."""
    zh = pd.concat([dcpt.load_runs(pilot / f"zh_{n}.csv") for n in ("annealed", "large")])
    zh = zh.reset_index(drop=True)
    code, code_lr = (dcpt.load_runs(pilot / f"{n}.csv") for n in ("code", "code_lr"))
    pinned = code[code["learning_rate"] < 1.5e-3].reset_index(drop=True)
    decayed = dcpt.load_runs(HERE / "code_annealed.csv")
    yield size_case("zh 6.6M -> 29M", zh, 6.6e6, 29.1e6, decides=True)
    yield size_case("zh 6.6M -> 91M", zh, 6.6e6, 91.2e6, decides=False)
    yield size_case("zh 29M -> 91M", zh, 29.1e6, 91.2e6, decides=False)
    yield size_case("code_annealed 6.8M -> 29M", decayed, 6.84e6, 29.5e6, decides=True)
    yield size_case("code 6.6M -> 29M", pinned, 6.6e6, 29.1e6, decides=False)
    yield size_case("code_lr 6.6M -> 29M", code_lr, 6.6e6, 29.1e6, decides=False)
    small = zh[zh["n_params"] < 1e7]
    for name, runs, cut in (
        *(("zh", small, 15e6), ("zh, 4 sizes", zh, 15e6), ("code", pinned, 11e6)),
        *(("code_lr", code_lr, 11e6), ("code_annealed", decayed, 12e6)),
    ):
        yield token_case(f"{name} <= {cut / 1e6:g}M tokens", runs, cut)
    for name in ("math", "music"):
        ladder = dcpt.load_runs(HERE / "ladders" / f"{name}.csv")
        yield size_case(f"{name} 6.8M -> 29M", ladder, 6.84e6, 29.5e6, decides=True)
        yield token_case(f"{name} <= 5M tokens", ladder[ladder["n_params"] < 5e7], 5e6)
        if name == "math":
            yield size_case(f"{name} 29M -> 91M", ladder, 29.5e6, 91e6, decides=False)
    delphi = dcpt.load_runs(published / "delphi" / "runs.csv")
    for largest in (1.4e9, 2.5e9):
        yield size_case(f"delphi {largest / 1e9:g}B -> 3.4B", delphi, largest, 3.4e9, decides=False)


def crps(draws: Array, measured: Array) -> Array:
    """Continuous ranked probability score of draws, shape (n_draws, M), nats; lower is better."""
    ordered, n = np.sort(draws, axis=0), len(draws)
    spread = ((2 * np.arange(n) - n + 1)[:, None] * ordered).sum(axis=0) / (n * (n - 1))
    return np.asarray(np.abs(draws - measured).mean(axis=0) - spread, dtype=np.float64)


def interval_score(low: Array, high: Array, measured: Array) -> Array:
    """Width of an interval, plus 2 / (1 - level) times the distance of a point outside."""
    outside = np.maximum(np.maximum(low - measured, measured - high), 0.0)
    return np.asarray(high - low + 2 / (1 - LEVEL) * outside, dtype=np.float64)


def score_losses(fit: Fit, case: Case) -> Iterator[Record]:
    """Score the predicted losses of the held-out rows by channel and phase."""
    for channel in fit.channels:
        data = points_from_table(case.runs, channel)
        held = case.held[data.rows - 2]
        for phase, annealed in (("constant", False), ("annealed", True)):
            mask = held & ((data.points.get("annealed") > 0) == annealed)
            if phase not in fit.by_channel[channel].comparisons or not mask.any():
                continue
            points, measured = data.points.take(mask), data.losses[mask]
            gap, draws = fit.central(channel, points) - measured, fit.sample(channel, points)
            low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
            yield {
                "channel": channel,
                "phase": phase,
                "n": len(gap),
                "rmse": float(np.sqrt(np.mean(gap**2))),
                "bias": float(gap.mean()),
                "covered": float(((low <= measured) & (measured <= high)).mean()),
                "width": float((high - low).mean()),
                "crps": float(crps(draws, measured).mean()),
                "score": float(interval_score(low, high, measured).mean()),
            }


def score_pairs(fit: Fit, case: Case) -> Iterator[Record]:
    """Measure the recommended pairs: part of the limit used, and the interval of the share."""
    size = int(case.runs.loc[case.held, "n_params"].iloc[0])
    seeds = case.runs.get("seed", pd.Series(0, case.runs.index))
    measured = Measured(case.runs[seeds.fillna(0) == 0], size)
    base = base_of(case.runs, size)
    n_tokens = int(case.runs.loc[case.held, "n_tokens"].max())
    for limit in LIMITS:
        answer = dcpt.recommend(fit, target_of(base, n_tokens, f"+{limit}%"))
        interval, allowed = answer.ratio_interval, base["base_loss_general"] * limit / 100
        central, rate = answer.central, answer.habits[0].learning_rate  # of the interval, too
        if central is None or central.learning_rate is None or rate is None:
            continue
        pair = (central.ratio, central.learning_rate)
        shares = ratio_grid()
        rises = np.array([measured.between("rise", (r, rate)) for r in shares])
        within = np.isfinite(rises) & (rises <= allowed)
        best = float(shares[within].max()) if within.any() else np.nan
        low, high = interval.low, interval.high
        assert low is not None
        assert high is not None
        yield {
            "limit": limit,
            "ratio": pair[0],
            "learning_rate": pair[1],
            "used": float(measured.between("rise", pair) / allowed),
            "best": best,
            "low": low,
            "high": high,
            "width": high - low,
            "holds": bool(low <= best <= high) if np.isfinite(best) else None,
        }


def score_case(case: Case, n_draws: int) -> list[Record]:
    """Fit a case and score its predictions."""
    started = time.process_time()
    fit = dcpt.fit(case.runs[case.fitted].reset_index(drop=True), n_draws=n_draws)
    cpu_s = time.process_time() - started
    about = {"case": case.name, "kind": case.kind, "cpu_s": cpu_s}
    records = [{**about, **record} for record in score_losses(fit, case)]
    if case.decides:
        records += [{**about, **record} for record in score_pairs(fit, case)]
    return records


def score_all(cases: Sequence[Case], options: argparse.Namespace) -> Iterator[Record]:
    """Score the cases, each with its domain left out of the prior where that is asked for."""
    ladders = public_ladders(options.pilot) if options.leave_out else []
    for domain, of_domain in groupby(sorted(cases, key=lambda c: c.domain), lambda c: c.domain):
        others = [ladder for ladder in ladders if ladder.domain != domain]
        priors = {side: learn(others, side) if others else shipped_prior(side) for side in SIDES}
        with patch("dcpt.laws.fits.two_level_member.shipped_prior", priors.__getitem__):
            for case in of_domain:
                try:
                    yield from score_case(case, options.draws)
                except dcpt.InputError as error:
                    print(f"{case.name}: refused: {str(error)[:200]}")


def mean_of(frame: pd.DataFrame, column: str, how: Callable[[Array], float]) -> str:
    return f"{how(frame[column].to_numpy(dtype=float)):.4f}"


def summarise(path: Path) -> str:
    """Summarise a file: means over cases by kind, channel and phase, and over the pairs."""
    records = pd.read_json(path, lines=True)
    losses, pairs = records[records["channel"].notna()], records[records["channel"].isna()]
    means = losses.groupby(["kind", "channel", "phase"]).agg(
        cases=("case", "nunique"),
        rmse=("rmse", "mean"),
        covered=("covered", "mean"),
        width=("width", "mean"),
        crps=("crps", "mean"),
        score=("score", "mean"),
    )
    text = f"{path.name}\n{means.to_string(float_format=lambda x: f'{x:.4f}')}\n"
    cpu = f"CPU s of all fits: {records.groupby('case')['cpu_s'].first().sum():.1f}\n"
    if pairs.empty:
        return text + cpu
    miss = (pairs["used"] - 1).abs()
    text += f"pairs: {len(pairs)}, not run {pairs['used'].isna().sum()}, mean miss of the limit "
    text += f"{miss.mean():.3f}, over 115 % {(pairs['used'] > 1.15).mean():.2f}, within 90 to "
    text += f"110 % {(miss <= 0.1).mean():.2f}, most {pairs['used'].max():.2f}; share interval "
    holds = pairs["holds"].dropna().astype(float)
    text += f"{pairs['width'].mean():.3f}, holds {int(holds.sum())} of {len(holds)}\n"
    return text + cpu


def compare(paths: Sequence[Path]) -> str:
    """Put the RMSE, coverage and width of several files side by side, case by case."""
    parts = []
    for path in paths:
        frame = pd.read_json(path, lines=True)
        frame = frame[frame["channel"].notna()].set_index(["case", "channel", "phase"])
        parts.append(frame[["rmse", "covered", "width", "crps"]].add_suffix(f" {path.stem}"))
    table = pd.concat(parts, axis=1)
    names = ("rmse", "covered", "width", "crps")
    table = table[[c for name in names for c in map(str, table.columns) if c.startswith(name)]]
    return table.to_string(float_format=lambda x: f"{x:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pilot", type=Path, default=Path("shared/pilot"))
    parser.add_argument("--published", type=Path, default=Path("shared/published"))
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--leave-out", action="store_true", help="learn priors without the domain")
    parser.add_argument("--out", type=Path, default=Path("held_out_tables.jsonl"))
    parser.add_argument("--show", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    if not options.show:
        cases = list_cases(options.pilot, options.published)
        named = [case for case in cases if options.only in case.name]
        with options.out.open("w", encoding="utf-8") as file:
            for record in score_all(named, options):
                file.write(json.dumps(record) + "\n")
    for path in options.show or [options.out]:
        print(summarise(path))
    print(compare(options.show or [options.out]))


if __name__ == "__main__":
    main()
