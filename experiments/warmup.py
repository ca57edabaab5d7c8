"""Does the length of the warmup, or its mixture, matter at the end of a run?

Hypothesis: without a warmup, the general loss of a base without optimizer state rises sharply in
the first steps. The rise is gone long before the end. At the end of the decay, runs with a warmup
of 0 to 5 % lie within the spread between seeds, except at the largest learning rate. A warmup on
general text alone changes nothing there either.

Runs: ``warmup.yaml`` (domain share 0.5, 20M tokens, then a decay of 10 %), once for each warmup in
``WARMUPS``. Runs with the same seed read the same text in the same order, so the effect of a warmup
is measured as a difference within a seed.

Commands. The first needs a folder with ``warmup.yaml`` and ``corpora``, prepared by ``dcpt prepare
warmup.yaml``; it takes 530 GPU seconds on two H100s, without the bases::

    python experiments/warmup.py run STUDY/warmup.yaml --csv experiments/warmup.csv
    python experiments/warmup.py page

Results: ``warmup.csv``, ``warmup.md`` and ``warmup.svg`` in this folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from pages import markdown, save_figure

from dcpt.grid.local import LocalEngine
from dcpt.grid.plan import Planner
from dcpt.grid.planned import PlannedRun
from dcpt.grid.slots import choose_slots
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder

HERE = Path(__file__).parent
FINDINGS = """## Findings

- **Length.** Warmups of 0 to 5 % of the trunk change the losses at the end by at most 0.005 nats.
  The changes have the sign that fewer tokens at the full rate would give: from 0 to 5 % the general
  loss falls by 0 to 0.002, and the domain loss rises by 0.001 to 0.006. The standard deviation
  between seeds is 0.001 to 0.004 for the general loss and 0.001 to 0.002 for the domain loss.
- **No warmup.** The general loss first rises by 0.23 (1.8M) and 0.31 nats (6.6M) at 2.7e-3, which
  is 0.9 and 1.35 times the base's peak. With a warmup of 1 % it rises by 0.20 and 0.27. After 4M
  tokens the runs differ by less than 0.01 nats. No run failed. Rates far beyond the peak were not
  tried.
- **Mixture.** A warmup on general text alone does not lower the general loss by more than the
  spread between seeds, and costs domain loss, because it reads less domain text: 0.007 to 0.013
  nats at 5 %. With a warmup on domain text alone the general loss first rises further (by 0.10 to
  0.42 nats), and nothing changes at the end.
- The hypothesis holds, also at the largest rate. Use 1 %; no runs are needed to tune it.
- Not tested: other shares than 0.5, models beyond 6.6M, runs of billions of tokens (in which 1 % is
  many more steps than the 12 here), and bases that were not decayed.

"""
MIXTURES = {"own": None, "general": 0.0, "domain": 1.0}
WARMUPS = [
    *((share, "own") for share in (0.0, 0.005, 0.01, 0.02, 0.05)),
    *((share, "general") for share in (0.01, 0.05)),
    (0.05, "domain"),
]
"""Length as a share of the trunk's tokens, and the mixture that is read during the warmup."""
CHANNELS = {"general": "general", "code": "domain"}


# ------------------------------------------------------------------------------------ runs
def plan(file: Path) -> Iterator[tuple[float, str, PlannedRun]]:
    """Plan the study once for each warmup; yields length, mixture and run."""
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
    """Train the missing runs, and write every point of every run as one row."""
    folder = Workspace(file).folder
    planned = list(plan(file))
    by_hash = {run.config.identity.hash: run for _, _, run in planned}
    outcome = LocalEngine(folder, choose_slots()).run(list(by_hash.values()))
    for name, message in outcome.failed.items():
        print(f"{name} failed: {message}")
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
    """Compute the difference in loss from the run of the same seed with the default warmup.

    The default is 1 % of the trunk on the run's own mixture.

    Returns:
        Mean, least and largest difference over seeds, by size, rate, warmup and mixture.
    """
    keys = ["size", "learning_rate", "seed", "phase", "n_tokens"]
    default = runs[(runs["warmup"] == 0.01) & (runs["mixture"] == "own")].set_index(keys)[loss]
    change = runs.set_index(keys)[loss] - default.reindex(runs.set_index(keys).index)
    by = ["size", "learning_rate", "warmup", "mixture"]
    return runs.assign(change=change.to_numpy()).groupby(by)["change"].agg(["mean", "min", "max"])


def spread(runs: pd.DataFrame, loss: str) -> pd.Series[float]:
    """Compute the standard deviation between seeds, averaged over warmups."""
    by = ["size", "learning_rate", "warmup", "mixture"]
    return runs.groupby(by)[loss].std().groupby(["size", "learning_rate"]).mean()


def table_of_ends(runs: pd.DataFrame) -> str:
    """Format the differences at the end of the decay, in thousandths of a nat."""
    ends = runs[runs["phase"] == "annealed"]
    columns = columns_of(ends)
    rows = []
    for share, mixture in WARMUPS:
        for side in CHANNELS.values():
            changes = effects(ends, f"loss_{side}") * 1e3
            row = [name_of(share, mixture), side]
            for size, rate in columns:
                change = changes.loc[(size, rate, share, mixture), :]
                row.append(f"{change['mean']:+.1f} ({change['min']:+.1f} to {change['max']:+.1f})")
            rows.append(row)
    for side in CHANNELS.values():
        between = spread(ends, f"loss_{side}") * 1e3
        cells = [f"{between[column]:.1f}" for column in columns]
        rows.append(["spread between seeds (s.d.)", side, *cells])
    return markdown(["warmup", "channel", *map(title_of, columns)], rows)


def table_of_rises(runs: pd.DataFrame) -> str:
    """Format the rise of general loss above the base's within the first tenth of the run."""
    early = runs[(runs["phase"] == "constant") & (runs["n_tokens"] <= 2e6)]
    columns = columns_of(early)
    rows = []
    for share, mixture in WARMUPS:
        row = [name_of(share, mixture)]
        for size, rate in columns:
            seeds = select(early, size=size, learning_rate=rate, warmup=share, mixture=mixture)
            mean = seeds.groupby("n_tokens")["loss_general"].mean()
            rise, at = mean.max() - mean.loc[0], mean.index[int(mean.argmax())]
            row.append(f"{rise:+.3f} at {at / 1e6:.2g}M")
        rows.append(row)
    return markdown(["warmup", *map(title_of, columns)], rows)


def columns_of(runs: pd.DataFrame) -> list[tuple[str, float]]:
    """List the trained pairs of size and learning rate, in order."""
    keys = ["size", "learning_rate"]
    trained = runs[keys].drop_duplicates().sort_values(keys)
    return [(str(size), float(rate)) for size, rate in trained.to_numpy()]


def title_of(column: tuple[str, float]) -> str:
    """Format a size and a learning rate."""
    size, rate = column
    return f"{size}, {rate:g}"


def select(runs: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Select the rows whose columns have these values."""
    for column, value in wanted.items():
        runs = runs[runs[column] == value]
    return runs


def name_of(share: float, mixture: str) -> str:
    """Describe a warmup."""
    words = {"own": "", "general": ", general text only", "domain": ", domain text only"}
    return f"{share:.1%}{words[mixture]}".replace(".0%", "%")


def draw(runs: pd.DataFrame, file: Path) -> None:
    """Draw general loss along the run (top) and changes at the end by warmup length (bottom)."""
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
    save_figure(figure, file)


def draw_course(runs: pd.DataFrame, ax: Axes) -> None:
    """Draw the general loss of the constant phase over tokens, averaged over seeds."""
    colours = plt.get_cmap("viridis")
    lengths = [share for share, mixture in WARMUPS if mixture == "own"]
    for i, share in enumerate(lengths):
        seeds = select(runs, phase="constant", mixture="own", warmup=share)
        mean = seeds.groupby("n_tokens")["loss_general"].mean()
        name, colour = name_of(share, "own"), colours(i / len(lengths))
        ax.plot(mean.index[1:], mean.iloc[1:], color=colour, lw=1.2, label=name)
    ax.axhline(mean.iloc[0], color="0.6", lw=0.8, ls=":")
    ax.set_xscale("log")
    ax.set_xlabel("tokens")


def draw_ends(ends: pd.DataFrame, ax: Axes) -> None:
    """Draw the changes of both losses at the end of the decay over the length of the warmup."""
    for side, colour in (("general", "C0"), ("domain", "C1")):
        changes = effects(ends, f"loss_{side}").droplevel(["size", "learning_rate"]) * 1e3
        own = changes.xs("own", level="mixture")
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
        "# The effect of a warmup, and what remains of it at the end\n\n"
        "Written by `python experiments/warmup.py page` from `warmup.csv`. The script's docstring "
        "states the\nquestion and the runs. Differences are within a seed, from the run with a "
        "warmup of 1 % on its own\nmixture.\n\n![General loss along the runs, and both losses at "
        f"their end](warmup.svg)\n\n{FINDINGS}"
        "## At the end of the decay\n\nThousandths of a nat: mean over seeds (least to largest)."
        f"\n\n{table_of_ends(runs)}"
        "## In the first tenth of the run\n\nLargest general loss minus the base's, nats (mean "
        f"over seeds), and after how many tokens.\n\n{table_of_rises(runs)}"
    )
    (HERE / "warmup.md").write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def main() -> None:
    """Train the runs, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train the missing runs, write the table")
    run.add_argument("study", type=Path)
    run.add_argument("--csv", type=Path, required=True)
    commands.add_parser("page", help="write the page").add_argument(
        "--csv", type=Path, default=HERE / "warmup.csv"
    )
    args = parser.parse_args()
    if args.command == "run":
        train(args.study, args.csv)
    else:
        page(args.csv)


if __name__ == "__main__":
    main()
