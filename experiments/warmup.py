"""Does the length of the warmup, or its mixture, matter at the end of a run?

Hypothesis: a base without optimizer state wants a warmup, or its general loss leaps up in the first
steps. But the leap is gone long before the end: at the end of the decay runs whose warmup was 0 to
5 % long lie within the spread between seeds, except at the largest learning rate; and a warmup on
general text alone changes nothing there either.

Runs: ``warmup.yaml`` (domain share .5, 20M tokens, a decay of 10 % more), once for each warmup in
``WARMUPS``. Runs with one seed read the same text in the same order, so the effect of a warmup is a
difference within a seed.

Commands (the first from a folder that holds ``warmup.yaml`` and ``corpora``, prepared by ``dcpt
prepare warmup.yaml``; 530 GPU seconds on two H100s, bases apart)::

    python warmup.py run warmup.yaml --csv warmup.csv
    python experiments/warmup.py page

Results: ``warmup.csv``, ``warmup.md`` and ``warmup.svg`` in this folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from dcpt.grid.local import LocalEngine
from dcpt.grid.plan import Planner
from dcpt.grid.planned import PlannedRun
from dcpt.grid.slots import choose_slots
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder

HERE = Path(__file__).parent
FOUND = """## What it says

- **Length.** From 0 to 5 % of the trunk, losses at the end move by .005 nats at most. They move as
  fewer tokens at the full rate would move them: from 0 to 5 % the general loss falls by 0 to .002,
  the domain loss rises by .001 to .006. Between seeds (s.d.) the general loss differs by .001 to
  .004, the domain loss by .001 to .002.
- **No warmup at all** throws the general loss up by .23 (1.8M) and .31 nats (6.6M) at 2.7e-3, which
  is .9 and 1.35 times the base's own peak; 1 % gives .20 and .27. After 4M tokens they differ by
  less than .01 nats. No run failed. At a rate far beyond the peak nobody tried.
- **Mixture.** A warmup on general text alone buys no general loss that stands out of the spread,
  and costs the domain what its tokens cost: .007 to .013 nats at 5 %. One on domain text alone
  throws the general loss up further (.10 to .42 nats) and changes nothing at the end.
- So the hypothesis holds, also at the largest rate: take 1 %, and spend no runs on it.
- Not asked: other shares than .5, models beyond 6.6M, runs of billions of tokens, in which 1 % is
  many more steps than the 12 here, and bases that were not decayed.

"""
MIXTURES = {"own": None, "general": 0.0, "domain": 1.0}
WARMUPS = [
    *((share, "own") for share in (0.0, 0.005, 0.01, 0.02, 0.05)),
    *((share, "general") for share in (0.01, 0.05)),
    (0.05, "domain"),
]
"""Share of the trunk's tokens, and the mixture read meanwhile."""
CHANNELS = {"general": "general", "code": "domain"}


# ------------------------------------------------------------------------------------ runs
def plan(file: Path) -> Iterator[tuple[float, str, PlannedRun]]:
    """All runs, each with its warmup."""
    workspace = Workspace(file)
    study, folder, stored = workspace.study, workspace.folder, workspace.stored
    batch = study.training.batch_sequences * study.training.sequence_tokens
    for share, mixture in WARMUPS:
        tokens = round(share * study.tokens / batch) * batch
        fields = {"warmup_tokens": tokens, "warmup_ratio": MIXTURES[mixture]}
        training = study.training.model_copy(update=fields)
        changed = study.model_copy(update={"training": training})
        for run in Planner(changed, folder, stored).plan():
            yield share, mixture, run


def train(file: Path, csv: Path) -> None:
    """Train what is missing, and write every point of every run as one row."""
    folder = Workspace(file).folder
    planned = list(plan(file))
    every = {run.config.identity.hash: run for _, _, run in planned}
    outcome = LocalEngine(folder, choose_slots()).run(list(every.values()))
    for name, words in outcome.failed.items():
        print(f"{name} failed: {words}")
    rows = []
    for share, mixture, run in planned:
        identity = run.config.identity
        if identity.kind == "pretrain":
            continue
        about = {
            "size": run.config.recorded.size,
            "learning_rate": identity.learning_rate,
            "seed": identity.seed,
            "warmup": share,
            "mixture": mixture,
            "phase": "annealed" if identity.kind == "branch" else "constant",
        }
        for point in RunFolder.of(run.config, folder.runs).points():
            losses = {f"loss_{side}": point["loss"][name] for name, side in CHANNELS.items()}
            rows.append({**about, "n_tokens": point["n_tokens"], **losses})
    pd.DataFrame(rows).round(5).to_csv(csv, index=False)


# ------------------------------------------------------------------------------------ page
def effects(runs: pd.DataFrame, loss: str) -> pd.DataFrame:
    """Loss less that of the run of the same seed with 1 % of its own mixture.

    Returns:
        Mean and largest distance from it over seeds, by size, rate, warmup and mixture.
    """
    keys = ["size", "learning_rate", "seed", "phase", "n_tokens"]
    usual = runs[(runs["warmup"] == 0.01) & (runs["mixture"] == "own")].set_index(keys)[loss]
    less = runs.set_index(keys)[loss] - usual.reindex(runs.set_index(keys).index)
    by = ["size", "learning_rate", "warmup", "mixture"]
    return runs.assign(less=less.to_numpy()).groupby(by)["less"].agg(["mean", "min", "max"])


def spread(runs: pd.DataFrame, loss: str) -> pd.Series[float]:
    """Standard deviation between seeds of one warmup, averaged over warmups."""
    by = ["size", "learning_rate", "warmup", "mixture"]
    return runs.groupby(by)[loss].std().groupby(["size", "learning_rate"]).mean()


def table_of_ends(runs: pd.DataFrame) -> str:
    """Differences at the end of the decay, in thousandths of a nat."""
    ends = runs[runs["phase"] == "annealed"]
    columns = columns_of(ends)
    head = " | ".join(f"{size}, {rate:g}" for size, rate in columns)
    lines = [f"| warmup | channel | {head} |", "|---" * (len(columns) + 2) + "|"]
    for share, mixture in WARMUPS:
        for side in CHANNELS.values():
            found = effects(ends, f"loss_{side}")
            cells = []
            for size, rate in columns:
                gap = found.loc[(size, rate, share, mixture), :] * 1e3
                cells.append(f"{gap['mean']:+.1f} ({gap['min']:+.1f} to {gap['max']:+.1f})")
            lines.append(f"| {name_of(share, mixture)} | {side} | " + " | ".join(cells) + " |")
    for side in CHANNELS.values():
        between = spread(ends, f"loss_{side}") * 1e3
        cells = [f"{between[column]:.1f}" for column in columns]
        lines.append(f"| spread between seeds (s.d.) | {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table_of_leaps(runs: pd.DataFrame) -> str:
    """How far general loss rises above the base's within the first tenth of the run."""
    early = runs[(runs["phase"] == "constant") & (runs["n_tokens"] <= 2e6)]
    columns = columns_of(early)
    head = " | ".join(f"{size}, {rate:g}" for size, rate in columns)
    lines = [f"| warmup | {head} |", "|---" * (len(columns) + 1) + "|"]
    for share, mixture in WARMUPS:
        cells = []
        for size, rate in columns:
            some = select(early, size=size, learning_rate=rate, warmup=share, mixture=mixture)
            mean = some.groupby("n_tokens")["loss_general"].mean()
            leap, at = mean.max() - mean.loc[0], mean.index[int(mean.argmax())]
            cells.append(f"{leap:+.3f} at {at / 1e6:.2g}M")
        lines.append(f"| {name_of(share, mixture)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def columns_of(runs: pd.DataFrame) -> list[tuple[str, float]]:
    """Sizes and learning rates that were run, in order."""
    there = runs[["size", "learning_rate"]].drop_duplicates().sort_values(["size", "learning_rate"])
    return [(str(size), float(rate)) for size, rate in there.to_numpy()]


def select(runs: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Rows whose columns have these values."""
    for column, value in wanted.items():
        runs = runs[runs[column] == value]
    return runs


def name_of(share: float, mixture: str) -> str:
    """A warmup in words."""
    words = {"own": "", "general": ", general text only", "domain": ", domain text only"}
    return f"{share:.1%}{words[mixture]}".replace(".0%", "%")


def draw(runs: pd.DataFrame, file: Path) -> None:
    """Above: general loss along the run. Below: difference at the end by length of the warmup."""
    columns = columns_of(runs)
    figure, axes = plt.subplots(2, len(columns), figsize=(3.0 * len(columns), 5.6), sharey="row")
    for (size, rate), above, below in zip(columns, axes[0], axes[1], strict=True):
        part = select(runs, size=size, learning_rate=rate)
        draw_course(part, above)
        above.set_title(f"{size}, learning rate {rate:g}", fontsize=9)
        draw_ends(part[part["phase"] == "annealed"], below)
    axes[0, 0].set_ylabel("general loss, nats")
    axes[1, 0].set_ylabel("end of decay less that at 1 %,\nthousandths of a nat")
    axes[0, -1].legend(fontsize=7, title="warmup", title_fontsize=7)
    axes[1, -1].legend(fontsize=7)
    figure.tight_layout()
    with mpl.rc_context({"svg.hashsalt": "warmup"}):
        figure.savefig(file, metadata={"Date": None})


def draw_course(runs: pd.DataFrame, ax: Axes) -> None:
    """General loss of the constant phase over tokens, mean over seeds."""
    colours = plt.get_cmap("viridis")
    lengths = [share for share, mixture in WARMUPS if mixture == "own"]
    for i, share in enumerate(lengths):
        some = select(runs, phase="constant", mixture="own", warmup=share)
        mean = some.groupby("n_tokens")["loss_general"].mean()
        name, colour = name_of(share, "own"), colours(i / len(lengths))
        ax.plot(mean.index[1:], mean.iloc[1:], color=colour, lw=1.2, label=name)
    ax.axhline(mean.iloc[0], color="0.6", lw=0.8, ls=":")
    ax.set_xscale("log")
    ax.set_xlabel("tokens")


def draw_ends(ends: pd.DataFrame, ax: Axes) -> None:
    """Both losses at the end of the decay against the length of the warmup, seed by seed."""
    for side, colour in (("general", "C0"), ("domain", "C1")):
        found = effects(ends, f"loss_{side}").droplevel(["size", "learning_rate"]) * 1e3
        own = found.xs("own", level="mixture")
        places = range(len(own))
        ax.plot(places, own["mean"], color=colour, marker="o", ms=3, lw=1, label=side)
        ax.fill_between(places, own["min"], own["max"], color=colour, alpha=0.2, lw=0)
    ax.set_xticks(list(places), [name_of(share, "own") for share in own.index])
    ax.axhline(0, color="0.6", lw=0.8, ls=":")
    ax.set_xlabel("warmup, share of the trunk")


def page(csv: Path) -> None:
    """Write the page and its figure from the table."""
    runs = pd.read_csv(csv)
    draw(runs, HERE / "warmup.svg")
    text = (
        "# What a warmup does, and what is left of it at the end\n\n"
        "Written by `python experiments/warmup.py page` from `warmup.csv`; its head says what was "
        "asked and\nwhat ran. Differences are within a seed, from the run with a warmup of 1 % on "
        "its own mixture.\n\n![General loss along the runs, and both losses at their end]"
        f"(warmup.svg)\n\n{FOUND}"
        "## At the end of the decay\n\nThousandths of a nat: mean over seeds (least to largest)."
        f"\n\n{table_of_ends(runs)}\n\n"
        "## In the first tenth of the run\n\nLargest general loss less the base's, nats (mean over "
        f"seeds), and where.\n\n{table_of_leaps(runs)}\n"
    )
    (HERE / "warmup.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Train the runs, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what is missing, write the table")
    run.add_argument("study", type=Path)
    run.add_argument("--csv", type=Path, required=True)
    commands.add_parser("page", help="write the page").add_argument(
        "--csv", type=Path, default=HERE / "warmup.csv"
    )
    asked = parser.parse_args()
    if asked.command == "run":
        train(asked.study, asked.csv)
    else:
        page(asked.csv)


if __name__ == "__main__":
    main()
