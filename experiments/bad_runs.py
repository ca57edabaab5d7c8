"""Is a run with wrong losses named, and is no run of a healthy table named?

Hypothesis: a run whose losses are all off by 5 % is named in nine of ten tables, one that is off by
3 % in two of three, and no healthy table has a run named. The refit without the run takes less than
a third of the time of the fit.

Healthy tables: the bundled runs, the tables of ``experiments/`` and of ``tests/published/``, and
synthetic tables of the four truths of ``calibration.py``. Faults are planted: every point of one
run is raised or lowered by a part of its loss, in one channel or in both. They are planted in runs
of the bundled tables and of synthetic tables, each table with one fault.

Command, more than 11 CPU minutes on one core of a shared machine; it writes ``bad_runs.md`` in this
folder at its end::

    OMP_NUM_THREADS=1 python experiments/bad_runs.py --tables 15
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from calibration import POINT_NOISE, RUN_NOISE, TRUTHS
from pages import markdown

import dcpt
from dcpt.bundled import bundled_runs
from dcpt.laws.synthetic import simulate_runs

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "tests" / "published" / "data"
BUNDLED = ("code", "code_lr", "zh_annealed")
OWN = ("code_annealed", "smollm2", "ladders/math", "ladders/music")
FAULTS = (0.01, 0.02, 0.03, 0.05, 0.1)
RUNS_PER_TABLE = 8
CHANNELS = (("general",), ("domain",), ("general", "domain"))
ABOUT = """# bad_runs: one run with wrong losses

Written by `OMP_NUM_THREADS=1 python experiments/bad_runs.py --tables TABLES`; its docstring states
the question. A fault is a part of the loss, added to every trained point of one run.

"""


def named_run(runs: pd.DataFrame) -> str | None:
    """The run that a fit names as off."""
    flags = [flag for flag in dcpt.fit(runs, n_draws=1).flags if flag.kind == "one_run_off"]
    return flags[0].subject["run"] if flags else None


def synthetic(count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Healthy tables of every truth, with the noise of the calibration."""
    for name, draw in TRUTHS.items():
        for seed in range(count):
            design, truths, _ = draw(np.random.default_rng(seed))
            noise = {"run_noise": RUN_NOISE, "point_noise": POINT_NOISE}
            yield f"synthetic, {name}", simulate_runs(design, truths, seed=seed, **noise)


def real() -> Iterator[tuple[str, pd.DataFrame]]:
    """Healthy tables of ours and of others that name shares."""
    for name in BUNDLED:
        yield name, bundled_runs(name)
    for name in OWN:
        yield name, dcpt.load_runs(HERE / f"{name}.csv")
    yield "delphi", dcpt.load_runs(PUBLISHED / "delphi" / "runs.csv")
    curves = pd.read_csv(PUBLISHED / "datablations" / "c4_python_curves_4b2.csv")
    for corpus in ("c4", "python"):
        of = curves[(curves["val_domain"] == corpus) & (curves["tokens"] > 6e9)]
        share = of[f"w_{corpus}"]
        frame = of[["n_params"]].assign(
            run="r" + share.astype(str),
            n_tokens=of["tokens"],
            ratio=share.round(6),
            loss_domain=of["loss"],
        )
        yield f"c4 and python, {corpus}", dcpt.load_runs(frame)


def with_fault(
    runs: pd.DataFrame, run: str, channels: tuple[str, ...], fault: float
) -> pd.DataFrame:
    """The table with every trained point of a run off by a part of its loss."""
    bad = runs.copy()
    rows = (bad["run"] == run) & (bad["n_tokens"] > 0)
    for channel in channels:
        bad.loc[rows, f"loss_{channel}"] *= 1 + fault
    return bad


def candidates(runs: pd.DataFrame, rng: np.random.Generator) -> list[str]:
    """Some runs of a table, those at its corners among them; not those without a general loss."""
    shares = runs.groupby("run")["ratio"].first()
    able = shares.index[(shares > 0) & (shares < 1)]
    return list(rng.choice(able, min(RUNS_PER_TABLE, len(able)), replace=False))


def measure_power(tables: list[tuple[str, pd.DataFrame]]) -> list[list[str]]:
    """Table rows: how many planted faults of each size are named, by table."""
    rng = np.random.default_rng(0)
    found: dict[tuple[str, float], list[str]] = {}
    for name, runs in tables:
        for number, run in enumerate(candidates(runs, rng)):
            channels = CHANNELS[number % len(CHANNELS)]
            for fault in FAULTS:
                sign = 1 if rng.random() < 0.5 else -1
                named = named_run(with_fault(runs, run, channels, sign * fault))
                what = "right" if named == run else "none" if named is None else "wrong"
                found.setdefault((name, fault), []).append(what)
    rows = []
    for name in dict.fromkeys(name for name, _ in found):
        row = [name, str(len(found[name, FAULTS[0]]))]
        for fault in FAULTS:
            outcomes = found[name, fault]
            wrong = f", {outcomes.count('wrong')} wrong" if "wrong" in outcomes else ""
            row.append(f"{outcomes.count('right') / len(outcomes):.0%}{wrong}")
        rows.append(row)
    return rows


def measure_cost() -> str:
    """CPU time of the fit of a table with a fault, and how much of it is the refit without it."""
    runs = bundled_runs("zh_annealed")
    bad = with_fault(runs, str(runs["run"].iloc[-1]), ("general", "domain"), 0.1)
    seconds = []
    for table in (runs, bad):
        dcpt.fit(table, n_draws=1)
        start = time.process_time()
        dcpt.fit(table)
        seconds.append(time.process_time() - start)
    return (
        f"The fit of `zh_annealed` with 200 draws took {seconds[0]:.1f} CPU s without a fault and "
        f"{seconds[1]:.1f} CPU s with one, which includes the refit without the run.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=15, help="synthetic tables per truth")
    count = parser.parse_args().tables
    healthy = [*real(), *synthetic(count)]
    alarms: dict[str, list[str]] = {}
    for name, runs in healthy:
        named = named_run(runs)
        alarms.setdefault(name, []).extend([] if named is None else [named])
    counts = pd.Series([name for name, _ in healthy]).value_counts(sort=False)
    rows = [[name, str(counts[name]), str(len(alarms[name]))] for name in counts.index]
    page = ABOUT.replace("TABLES", str(count)) + "## False alarms\n\n"
    page += markdown(("table", "tables", "runs named"), rows)
    page += "## Named faults, by the size of the fault\n\n"
    planted = [(n, bundled_runs(n)) for n in BUNDLED] + list(synthetic(1))
    head = ("table", "faults of each size", *(f"{fault:.0%}" for fault in FAULTS))
    page += markdown(head, measure_power(planted)) + measure_cost()
    (HERE / "bad_runs.md").write_text(page)


if __name__ == "__main__":
    main()
