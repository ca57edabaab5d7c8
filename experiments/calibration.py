"""Do nominal 90 % intervals contain the truth in 90 % of synthetic tables?

Hypothesis: the intervals of predicted losses and of the share r* contain the known truth in 85 to
95 % of tables, inside the grid and at twice its largest N or D. This holds whichever of the
package's laws is true, and also if none is.

Every table has new random parameters of one of four truths: ``d-cpt`` (the published form, four
sizes, one learning rate), ``anchored`` (three sizes, one rate), ``annealed`` (three sizes, three
rates, trunks and decayed ends) and ``outside`` (the same design, with a form that the package does
not have). Each table is processed as a user would: ``dcpt.fit(runs)`` with all laws, predictions,
and ``dcpt.recommend``. Intervals are compared with what a new run would measure, including its own
noise (``measured``), and with the law's value (``true``). They are scored by CRPS and interval
score (Gneiting and Raftery 2007), and their width is compared with that of an oracle.

    python experiments/calibration.py --tables 200 --processes 16 --out calibration.jsonl
    python experiments/calibration.py --show calibration.jsonl

A table takes about 6 CPU seconds, 800 tables 6 minutes on 16 cores. Result of such a run:
``calibration.md`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from held_out_tables import crps, interval_score
from numpy.typing import NDArray
from scipy.stats import norm

import dcpt
from dcpt.laws import LAWS, References
from dcpt.laws.points.record import Points
from dcpt.laws.synthetic import Truth, simulate_runs

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
PREDICTED = (0.25, 0.5, 0.75)
RUN_NOISE, POINT_NOISE = 0.005, 0.002
NEW_RUN = float(np.hypot(RUN_NOISE, POINT_NOISE))
"""Standard deviation of the measured loss of a new run."""

PEAKS = {1.8e6: 3e-3, 6.6e6: 2e-3, 29.1e6: 1e-3, 58.2e6: 8e-4, 14e6: 1.4e-3}
WARMUP, BATCH, D_PT = 409_600, 16_384, 120e6
SIZE, RATE = 6.6e6, 6e-4
REFERENCES = References(n_params=SIZE, n_tokens=10e6, learning_rate=RATE)

Array = NDArray[np.float64]
Record = dict[str, object]
"""An answer and the truth: a line of the file."""

Synthetic = tuple[pd.DataFrame, dict[str, Truth], dict[str, tuple[float, float]]]
"""Points, the truth of each channel, and the places to predict: sizes and token counts by name."""


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number uniformly on a log scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def design(
    sizes: tuple[float, ...], rates: tuple[float, ...], tokens: tuple[float, ...], decays: bool
) -> pd.DataFrame:
    """List the points of a full grid; with decays, also annealed ends at 11M and 44M tokens."""
    rows = []
    for size in sizes:
        for rate in rates:
            for share in SHARES:
                run = {
                    "run": f"{size:g}-{rate:g}-{share:g}",
                    "n_params": round(size),
                    "learning_rate": rate,
                    "ratio": share,
                }
                rows += [{**run, "n_tokens": round(d), "phase": "constant"} for d in tokens]
                if decays:
                    rows += [{**run, "n_tokens": d, "phase": "annealed"} for d in (11e6, 44e6)]
    return pd.DataFrame(rows)


def with_base(frame: pd.DataFrame, bases: dict[float, float]) -> pd.DataFrame:
    """Add the properties of each base that the anchored laws need."""
    size = frame["n_params"].astype(float)
    return frame.assign(
        base_loss_general=size.map(bases),
        base_loss_domain=size.map({n: loss - 0.9 for n, loss in bases.items()}),
        base_peak_learning_rate=size.map(PEAKS),
        base_n_tokens=round(D_PT),
        warmup_tokens=WARMUP,
        batch_tokens=BATCH,
    )


def draw_bases(rng: np.random.Generator) -> dict[float, float]:
    """Draw the general loss of each base: a power law of its size, with noise."""
    return {n: 2.3 + 1.25 * (n / 1e6) ** -0.22 + rng.normal(0, 0.01) for n in PEAKS}


def d_cpt(rng: np.random.Generator) -> Synthetic:
    """Draw the published form: four sizes, seven token counts, one learning rate."""
    sizes = (30e6, 100e6, 300e6, 1e9)
    tokens = tuple(np.geomspace(0.3e9, 10e9, 7))
    ref = References(n_params=1.7e8, n_tokens=1.7e9, learning_rate=None)

    def channel() -> Truth:
        values = {"E": rng.uniform(1.2, 2.0), "A": rng.uniform(0.2, 0.6)}
        values |= {"alpha": rng.uniform(0.2, 0.5), "B": rng.uniform(0.1, 0.4)}
        values |= {"beta": rng.uniform(0.2, 0.5), "eta": rng.uniform(0.8, 1.6)}
        values |= {"C": rng.uniform(0.1, 0.3), "eps": between(rng, 0.02, 0.2)}
        values |= {"gamma": rng.uniform(0.3, 0.9)}
        return Truth(LAWS["d-cpt"], values, ref)

    frame = design(sizes, (RATE,), tokens, decays=False)
    places = {"inside": (2e8, 10e9), "2N": (2e9, 10e9), "2D": (1e9, 20e9)}
    return frame, {"general": channel(), "domain": channel()}, places


def anchored(rng: np.random.Generator) -> Synthetic:
    """Draw laws with the base's loss: three sizes at one learning rate, no decay."""
    tokens = tuple(np.geomspace(1.2e6, 40e6, 9))
    general = {"H": rng.uniform(0.0, 0.05), "F": rng.uniform(0.02, 0.3)}
    general |= {"C": rng.uniform(0.06, 0.18), "nu": rng.uniform(-0.1, 0.3)}
    general |= {"g": rng.uniform(0.4, 0.8), "eps": between(rng, 0.01, 0.1)}
    general |= {"h": rng.uniform(0.1, 0.4), "m": rng.uniform(-0.1, 0.1)}
    domain = {"E": rng.uniform(-0.2, 0.6), "w": rng.uniform(0.5, 0.9), "B": rng.uniform(0.2, 0.6)}
    domain |= {"beta": rng.uniform(0.15, 0.5), "C": rng.uniform(0.08, 0.25)}
    domain |= {"nu": rng.uniform(-0.1, 0.2)}
    frame = with_base(design(tuple(PEAKS)[:3], (RATE,), tokens, decays=False), draw_bases(rng))
    truths = {
        "general": Truth(LAWS["anchored-general"], general, REFERENCES),
        "domain": Truth(LAWS["anchored-domain"], domain, REFERENCES),
    }
    return frame, truths, {"inside": (14e6, 40e6), "2N": (58.2e6, 40e6), "2D": (29.1e6, 80e6)}


def annealed(rng: np.random.Generator) -> Synthetic:
    """Draw laws with learning rate and phase: three sizes, three rates, two decays per run."""
    tokens = tuple(np.geomspace(1.2e6, 40e6, 8))
    general = {"F": rng.uniform(0.0, 0.06), "C": between(rng, 0.03, 0.1), "k": between(rng, 1, 10)}
    general |= {"h": rng.uniform(0.2, 0.6), "eps": between(rng, 0.02, 0.1)}
    general |= {"g": rng.uniform(0.3, 0.7), "H": rng.uniform(0.1, 0.3)}
    general |= {"kappa": rng.uniform(0.4, 0.9)}
    domain = {"E": rng.uniform(0.2, 0.6), "w": rng.uniform(0.4, 0.9), "B": rng.uniform(0.5, 1.2)}
    domain |= {"beta": rng.uniform(0.15, 0.4), "C": rng.uniform(0.1, 0.35)}
    domain |= {"nu": rng.uniform(-0.1, 0.2), "H": rng.uniform(0.02, 0.08)}
    domain |= {"c": rng.uniform(0.05, 0.2), "a": rng.uniform(0.3, 0.9)}
    frame = design(tuple(PEAKS)[:3], (2e-4, 6e-4, 1.5e-3), tokens, decays=True)
    truths = {
        "general": Truth(LAWS["joint-general"], general, REFERENCES),
        "domain": Truth(LAWS["annealed-domain"], domain, REFERENCES),
    }
    places = {"inside": (14e6, 44e6), "2N": (58.2e6, 44e6), "2D": (29.1e6, 88e6)}
    return with_base(frame, draw_bases(rng)), truths, places


def outside(rng: np.random.Generator) -> Synthetic:
    """Draw the design of ``annealed`` under forms that no law of the package has."""
    frame, truths, places = annealed(rng)

    def general_loss(points: Points, p: Mapping[str, Array], ref: References) -> Array:
        r, d = points.get("ratio"), points.get("n_tokens") / ref.n_tokens
        lam, n = points.get("learning_rate") / RATE, points.get("n_params") / SIZE
        warm = points.get("learning_rate") / points.get("base_peak_learning_rate")
        forgotten: Array = r**1.4 * d**0.3 * lam**0.6 * n**0.08 / np.sqrt(1.0 - r + 0.04)
        fall: Array = (1 - r) * (1 - np.exp(-d * lam**0.5 / 3))
        settled = p["H"] * warm**1.2 * (1 - p["kappa"] * points.get("annealed"))
        return points.get("base_loss") + p["C"] * forgotten - p["F"] * fall + settled

    def domain_loss(points: Points, p: Mapping[str, Array], ref: References) -> Array:
        r, d = points.get("ratio"), points.get("n_tokens") / ref.n_tokens
        lam = points.get("learning_rate") / RATE
        clock = d * lam**0.6 * (points.get("n_params") / SIZE) ** 0.25
        noise = p["H"] * lam * (1.0 - 0.8 * points.get("annealed"))
        learned = p["B"] * (clock + 0.3) ** -p["beta"] * (1 + 0.3 * (1 - r) ** 2)
        return (
            p["E"]
            + p["w"] * points.get("base_loss_general")
            + learned
            + p["C"] * (r**-0.35 - 1.0)
            + noise
        )

    forms = {"general": general_loss, "domain": domain_loss}
    changed = {
        name: replace(truth, law=replace(truth.law, name=f"outside-{name}", loss=forms[name]))
        for name, truth in truths.items()
    }
    return frame, changed, places


TRUTHS: dict[str, Callable[[np.random.Generator], Synthetic]] = {
    "d-cpt": d_cpt,
    "anchored": anchored,
    "annealed": annealed,
    "outside": outside,
}


def evaluate_table(task: tuple[str, int, int]) -> list[Record]:
    """Make a synthetic table, fit it as a user would, and predict the three places."""
    name, seed, n_draws = task
    rng = np.random.default_rng([list(TRUTHS).index(name), seed])
    frame, truths, places = TRUTHS[name](rng)
    runs = simulate_runs(frame, truths, run_noise=RUN_NOISE, point_noise=POINT_NOISE, seed=seed)
    fitted = dcpt.fit(runs, n_draws=n_draws, seed=seed)
    records = []
    for place, (size, tokens) in places.items():
        asked = frame_at(frame, size, tokens)
        predicted = fitted.predict(asked)
        for channel, truth in truths.items():
            part = predicted[predicted["channel"] == channel]
            true = truth.losses(asked, channel)
            measured = true + [new_run_noise(rng) for _ in true]
            draws = fitted.sample(channel, fitted.points(channel, asked))
            low, high = part["low"], part["high"]
            answers = zip(PREDICTED, true, measured, part["loss"], low, high, strict=True)
            scores = crps(draws, measured)
            records += [
                {"truth": name, "seed": seed, "place": place, "what": channel, "share": share}
                | {"true": t, "measured": new, "crps": float(score)}
                | {"found": loss, "low": lower, "high": upper}
                for (share, t, new, loss, lower, upper), score in zip(answers, scores, strict=True)
            ]
        records += share_records(fitted, truths, frame, name, seed, place, size, tokens, rng)
    return records


def new_run_noise(rng: np.random.Generator) -> float:
    """Draw the noise of a measured loss of a new run."""
    return float(rng.normal(0.0, NEW_RUN))


def frame_at(frame: pd.DataFrame, size: float, tokens: float) -> pd.DataFrame:
    """Return the points to predict at one size and token count, all at the middle rate."""
    phase = "annealed" if (frame["phase"] == "annealed").any() else "constant"
    asked = pd.DataFrame({"n_params": size, "n_tokens": tokens, "ratio": PREDICTED})
    asked = asked.assign(learning_rate=RATE, phase=phase)
    if "base_loss_general" not in frame:
        return asked
    first = frame.drop_duplicates("n_params")
    known = dict(zip(first["n_params"], first["base_loss_general"], strict=True))
    bases = known if size in known else {**known, size: 2.3 + 1.25 * (size / 1e6) ** -0.22}
    return with_base(asked, bases)


def share_records(
    fitted: dcpt.laws.Fit,
    truths: dict[str, Truth],
    frame: pd.DataFrame,
    name: str,
    seed: int,
    place: str,
    size: float,
    tokens: float,
    rng: np.random.Generator,
) -> list[Record]:
    """Compare the share r* under a limit for which the true share is between 0.3 and 0.85."""
    asked = frame_at(frame, size, tokens)
    grid = pd.concat([asked.iloc[:1]] * 96, ignore_index=True)
    grid["ratio"] = np.linspace(0.02, 0.97, 96)
    true = truths["general"].losses(grid, "general")
    share = rng.uniform(0.3, 0.85)
    allowed = float(np.interp(share, grid["ratio"], true))
    rising = grid["ratio"] > 0.28
    if not (np.diff(true[rising]) > 0).all():
        return []  # The true loss does not rise with the share, so there is no single crossing.
    domain = truths["domain"].losses(grid, "domain")
    best = float(grid["ratio"][np.argmin(domain)])  # More is worse for the domain itself.
    measured = np.interp(allowed - new_run_noise(rng), true[rising], grid["ratio"][rising])
    base = float(asked["base_loss_general"].iloc[0]) if "base_loss_general" in asked else None
    if base is None:
        base = allowed - 0.08
    if allowed <= base:
        return []  # The true loss is below the base's, so there is no limit on a rise.
    target = dcpt.Target(
        n_params=size,
        n_tokens=tokens,
        limit=dcpt.Limit(allowed - base, "nats"),
        base_losses={"general": base, "domain": base - 0.9},
        base_peak_learning_rate=PEAKS.get(size),
        base_n_tokens=D_PT,
        warmup_tokens=WARMUP,
        learning_rate=RATE,
    )
    interval = dcpt.recommend(fitted, target).ratio_interval
    return [
        {"truth": name, "seed": seed, "place": place, "what": "r*", "share": None}
        | {"true": min(share, best), "measured": min(float(measured), best)}
        | {"found": interval.value, "low": interval.low, "high": interval.high}
    ]


def coverage(records: pd.DataFrame) -> pd.DataFrame:
    """Score the intervals by truth, place and quantity.

    The oracle knows how far the values measured for this truth, place and share lie from the
    predictions of all tables. Its interval around a prediction holds 90 % of them. ``expected`` is
    the chance that an interval holds the loss of a new run, over that run's noise: unlike the part
    of measured losses inside, it does not depend on 72 draws of noise.
    """
    low, high = records["low"].astype(float), records["high"].astype(float)
    measured, found = records["measured"], records["found"].astype(float)
    frame = records.assign(
        measured_in=measured.between(low, high),
        true_in=records["true"].between(low, high),
        chance=norm.cdf((high - records["true"]) / NEW_RUN)
        - norm.cdf((low - records["true"]) / NEW_RUN),
        error=(found - records["true"]).abs(),
        width=high - low,
        score=interval_score(*(np.asarray(x, dtype=np.float64) for x in (low, high, measured))),
        missed=measured - found,
    )
    cells = frame.groupby(["truth", "place", "what", "share"], sort=False, dropna=False)["missed"]
    frame["oracle"] = cells.transform(lambda missed: 2 * missed.abs().quantile(0.9))
    groups = frame.groupby(["truth", "place", "what"], sort=False)
    result = groups.agg(
        tables=("seed", "nunique"),
        measured_covered=("measured_in", "mean"),
        expected=("chance", "mean"),
        true_covered=("true_in", "mean"),
        median_error=("error", "median"),
        median_width=("width", "median"),
        oracle_width=("oracle", "mean"),
        crps=("crps", "mean"),
        interval_score=("score", "mean"),
    )
    result.loc[(slice(None), slice(None), "r*"), "expected"] = np.nan
    return result.assign(sharpness=result["median_width"] / result["oracle_width"]).reset_index()


def run_all(tables: int, n_draws: int, processes: int, names: list[str]) -> Iterator[list[Record]]:
    """Evaluate the tables of all truths; yields their records in order."""
    tasks = [(name, seed, n_draws) for seed in range(tables) for name in names]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(evaluate_table, tasks, chunksize=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--truths", nargs="*", default=list(TRUTHS))
    parser.add_argument("--out", type=Path, default=Path("calibration.jsonl"))
    parser.add_argument("--show", type=Path, default=None)
    options = parser.parse_args()
    if options.show is None:
        with options.out.open("w") as file:
            for records in run_all(
                options.tables, options.draws, options.processes, options.truths
            ):
                file.writelines(json.dumps(record) + "\n" for record in records)
                file.flush()
    shown = pd.read_json(options.show or options.out, lines=True)
    print(coverage(shown).to_string(index=False, float_format=lambda x: f"{x:.3f}"))


if __name__ == "__main__":
    main()
