"""Does each finding of ``dcpt diagnose`` occur on a run with its fault, and on no other run?

Hypothesis: every case below has exactly the findings of the fault that was put into it, and no
healthy run has an alarm.

The texts are synthetic: two languages of invented words. Each word has few successors, so a base of
0.1M parameters learns a language well in a few hundred steps. One base is pre-trained at two sizes.
Every case continues from it, with one fault in the text or in the settings.

Command, about 10 minutes on one core (finished runs are only read)::

    OMP_NUM_THREADS=1 python experiments/diagnose.py --out made

Results: ``diagnose.md`` in this folder, written by hand from what the command prints, and the runs
as ``tests/diagnosis/data/diagnose_runs.csv``, which the tests read. ``--read`` trains nothing: it
reads that table and the bundled tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.torch import save_file

from dcpt.bundled import bundled_runs
from dcpt.diagnosis import Diagnosis, diagnose
from dcpt.grid.slots import choose_slots
from dcpt.pipeline.answer import collect_runs, diagnose_runs
from dcpt.pipeline.train import prepare_study, train_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.study.folder import StudyFolder
from dcpt.table import load_runs, write_runs
from dcpt.training.loop import train

HERE = Path(__file__).parent
TABLE = HERE.parent / "tests" / "diagnosis" / "data" / "diagnose_runs.csv"
RATE, TRUNK, BATCH = 1e-3, 122_880, 1024
SPIKED, BROKEN = 7, 8  # Seeds of the runs whose weights are damaged half-way.

Documents = Iterable[list[str]]


# --------------------------------------------------------------------------------- the texts
def make_words(count: int) -> list[str]:
    """Make distinct invented words of two to three syllables."""
    rng, words = np.random.default_rng(11), dict[str, None]()
    while len(words) < count:
        letters = [rng.choice(list(s)) for s in ("bdfgklmnprstvz", "aeiou") * 2]
        words["".join(letters) + rng.choice(["", "n", "s", "ra", "to"])] = None
    return list(words)


WORDS = make_words(450)
SUCCESSORS = 10
CHANCES = 1 / np.arange(1, SUCCESSORS + 1)
CHANCES /= CHANCES.sum()


class Language:
    """A language in which each word has few successors.

    Args:
        words: Indices into ``WORDS``.
        seed: Draws the successors.
        like: A language whose successors a word keeps with probability ``kept``.
        kept: Probability that a word keeps the successors of ``like``.
    """

    def __init__(
        self, words: range, seed: int, like: Language | None = None, kept: float = 0.0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.next = {w: rng.choice(words, SUCCESSORS, replace=False) for w in words}
        for word in words:
            if like is not None and word in like.next and rng.random() < kept:
                self.next[word] = like.next[word]
        self.words = words

    def documents(self, count: int, seed: int) -> Iterator[list[str]]:
        """Generate documents of 100 words."""
        rng = np.random.default_rng(seed)
        for _ in range(count):
            drawn = [int(rng.choice(self.words))]
            for pick in rng.choice(SUCCESSORS, size=99, p=CHANCES):
                drawn.append(int(self.next[drawn[-1]][pick]))
            yield [WORDS[word] for word in drawn]


GENERAL = Language(range(300), seed=1)
DOMAIN = Language(range(300), seed=2, like=GENERAL, kept=0.85)
OTHER = Language(range(300), seed=3, like=GENERAL, kept=0.7)
NEW = Language(range(200, 450), seed=8)


def notices(count: int, seed: int) -> Iterator[list[str]]:
    """Generate boilerplate: fixed notices, each followed by a random word."""
    fixed = list(Language(range(300), seed=4).documents(3, seed=5))
    rng = np.random.default_rng(seed)
    for _ in range(count):
        document: list[str] = []
        for number in rng.integers(3, size=4):
            document += [*fixed[number][:24], WORDS[rng.integers(300)]]
        yield document


def general_text(count: int, seed: int, language: Language = GENERAL) -> Iterator[list[str]]:
    """Generate text of a language; one document in twelve is boilerplate, as on the web."""
    boilerplate = notices(count, seed + 1)
    for number, document in enumerate(language.documents(count, seed)):
        yield next(boilerplate) if number % 12 == 0 else document


def random_words(documents: Documents) -> Iterator[list[str]]:
    """Put the words of each document in random order."""
    rng = np.random.default_rng(6)
    for document in documents:
        yield list(rng.permutation(document))


def shuffled_bytes(documents: Documents) -> Iterator[list[str]]:
    """Put the bytes of each document in random order."""
    rng = np.random.default_rng(7)
    for document in documents:
        yield ["".join(rng.permutation(list(" ".join(document))))]


def write_text(path: Path, documents: Documents) -> None:
    with path.open("w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps({"text": " ".join(document)}) + "\n")


# --------------------------------------------------------------------------------- the studies
STUDY = """
name: {name}
channels:
  - {{name: general, side: general, train: general.jsonl, valid: general_valid.jsonl}}
  - {{name: domain, side: domain, train: domain.jsonl, valid: domain_valid.jsonl}}
tokenizer: {tokenizer}
bases:
{bases}
grid:
{grid}
tokens: {trunk}
branches: {{decay: 10%}}
training: {{batch_sequences: 16, sequence_tokens: 64, warmup_tokens: 5120}}
evaluation: {{tokens: 16384, points_per_doubling: 2, first_tokens: 4096}}
"""
LADDER = """
  ladder:
    tokens: 1M
    learning_rate: 6e-3
    warmup: 10%
    sizes:
      a: {width: 64, layers: 2, heads: 2}
      b: {width: 96, layers: 3, heads: 3, learning_rate: 4e-3}
"""
HEALTHY = """
  - {{bases: [a], ratios: [0, 0.25, 0.5, 0.75], learning_rates: [{low}, {rate}], seeds: [0]}}
  - {{bases: [a], ratios: [0.5], learning_rates: [{rate}], seeds: [1, 2, 3, {spiked}, {broken}]}}
  - {{bases: [b], ratios: [0.25, 0.5, 0.75], learning_rates: [{low}, {rate}], seeds: [0]}}
  - {{bases: [a, b], ratios: [0.5], learning_rates: [{high}, {none}], seeds: [0]}}
"""
SINGLE = "  - {{bases: [a], ratios: [{ratio}], learning_rates: [{rate}]}}\n"


def write_study(
    out: Path,
    name: str,
    domain: Callable[[int, int], Documents],
    *,
    base: Path | None = None,
    general: Callable[[int, int], Documents] = general_text,
    domain_documents: int = 1500,
    grid: str = "",
) -> Path:
    """Write a study and its texts; every text has its own validation text.

    Args:
        out: Folder of all studies.
        name: Name of the case.
        domain: Generates documents of the domain from a count and a seed.
        base: Folder of the base study, whose smaller base and tokenizer are used; None pre-trains
            the bases in this study.
        general: Generates documents of the general channel.
        domain_documents: Number of domain documents to train on.
        grid: Lines of the grid.
    """
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "general.jsonl", general(6000, 100))
    write_text(folder / "general_valid.jsonl", general(200, 200))
    write_text(folder / "domain.jsonl", domain(domain_documents, 300))
    write_text(folder / "domain_valid.jsonl", domain(200, 400))
    bases, tokenizer = LADDER, "512"
    if base is not None:
        (model,) = base.glob("runs/pretrain-a-*/model")
        bases = (
            f"  checkpoints:\n    a: {{model: {model.resolve()}, peak_learning_rate: 6e-3, "
            "n_tokens: 999424}"
        )
        tokenizer = str(model.resolve())
    file = folder / "study.yaml"
    text = STUDY.format(name=name, tokenizer=tokenizer, bases=bases, grid=grid, trunk=TRUNK)
    file.write_text(text, encoding="utf-8")
    return file


def train_all(file: Path) -> None:
    """Prepare the text and train every run of a study in one process."""
    study = Workspace(file)
    prepare_study(study, workers=1)
    outcome = train_study(study, choose_slots(1))
    print(f"{file.parent.name}: {len(outcome.finished)} finished, {outcome.failed}", flush=True)


def damage(file: Path, seed: int, factor: float) -> None:
    """Train a run to half its length and multiply a matrix by a factor, as a bad update would.

    The next step ends at an evaluation point.
    """
    configs = (run.config for run in Workspace(file).planned)
    config = next(c for c in configs if c.identity.kind == "trunk" and c.identity.seed == seed)
    folder = RunFolder.of(config, StudyFolder(file).runs)
    if folder.result() is not None or folder.error() is not None:
        return
    points = config.recorded.evaluation_at
    step = min(points, key=lambda n: abs(n - config.recorded.n_tokens / 2)) // BATCH - 1
    train(config, file.parent, stop_at_step=step)
    with safe_open(folder.checkpoint, "pt") as state:
        tensors = {name: state.get_tensor(name) for name in state.keys()}  # noqa: SIM118
        about = state.metadata()
    name = next(n for n in sorted(tensors) if n.startswith("model.") and "down_proj" in n)
    tensors[name] *= factor
    save_file(tensors, folder.checkpoint, about)


# --------------------------------------------------------------------------------- the cases
def make_runs(out: Path) -> pd.DataFrame:
    """Train all cases and collect their points in a table with a column ``case``."""
    grid = HEALTHY.format(
        low=RATE / 3, rate=RATE, high=RATE * 30, none=RATE / 1e5, spiked=SPIKED, broken=BROKEN
    )
    healthy = write_study(out, "healthy", DOMAIN.documents, grid=grid)
    prepare_study(Workspace(healthy), workers=1)
    if not list(healthy.parent.glob("runs/pretrain-a-*/model")):
        for run in Workspace(healthy).planned:
            if run.config.identity.kind == "pretrain":
                train(run.config, healthy.parent)
    damage(healthy, SPIKED, factor=8.0)
    damage(healthy, BROKEN, factor=float("inf"))
    train_all(healthy)
    base, plain = healthy.parent, SINGLE.format(ratio=0.5, rate=RATE)
    texts: dict[str, dict[str, Any]] = {
        "templated": {"domain": notices},
        "known": {"domain": GENERAL.documents},
        "new": {"domain": NEW.documents},
        "random_words": {"domain": lambda n, seed: random_words(DOMAIN.documents(n, seed))},
        "shuffled_bytes": {"domain": lambda n, seed: shuffled_bytes(DOMAIN.documents(n, seed))},
        "other_general": {
            "domain": DOMAIN.documents,
            "general": lambda n, seed: general_text(n, seed, OTHER),
        },
        "tiny_pool": {
            "domain": DOMAIN.documents,
            "domain_documents": 40,
            "grid": SINGLE.format(ratio=0.75, rate=3 * RATE),
        },
    }
    tables = {"healthy": collect_runs(Workspace(healthy))}
    for name, how in texts.items():
        file = write_study(out, name, **{"base": base, "grid": plain, **how})
        train_all(file)
        tables[name] = collect_runs(Workspace(file))
    return slim(pd.concat(split_cases(tables), ignore_index=True))


def slim(runs: pd.DataFrame) -> pd.DataFrame:
    """Drop the columns that no finding reads, and round the losses to 5 digits."""
    runs = runs.drop(columns=["n_params_non_embedding", "eval_id", "size", "base"])
    measured = ("loss_", "train_loss_", "se_", "bytes_")
    kept = [name for name in runs.columns if name.startswith(measured)]
    return runs.assign(**{name: runs[name].round(5) for name in kept})


def split_cases(tables: dict[str, pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Split the tables of the studies into cases, which become part of the run names."""

    def case(name: str, runs: pd.DataFrame) -> pd.DataFrame:
        return runs.assign(case=name, run=name + "/" + runs["run"])

    runs = tables["healthy"]
    rate, seed, size = runs["learning_rate"], runs["seed"], runs["size"]
    damaged = seed.isin([SPIKED, BROKEN])
    healthy = runs[(rate <= RATE * 1.01) & (rate >= RATE / 4) & ~damaged]
    yield case("healthy", healthy)
    yield case("rate_x30", runs[rate > RATE * 2])
    yield case("rate_tiny", runs[rate < RATE / 100])
    yield case("spike", runs[seed == SPIKED])
    yield case("not_finite", runs[seed == BROKEN])
    by_size = {"a": RATE, "b": RATE / 3}
    rule = (size.map(by_size) - rate).abs() < RATE / 100
    by_rule = runs[rule & ~damaged & (seed == 0) & (runs["ratio"] > 0)]
    yield case("confounded", by_rule)
    planned = runs[seed == 1]
    share = planned["share_domain"] * 0.9  # As if a tenth of the domain text had been lost.
    yield case("wrong_mix", planned.assign(share_domain=share, share_general=1 - share))
    for name, table in tables.items():
        if name != "healthy":
            yield case(name, table)


def main() -> None:
    """Train the runs, write the table, and print the findings of each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for the studies")
    parser.add_argument("--read", action="store_true", help="train nothing, read the table")
    args = parser.parse_args()
    if not args.read:
        runs = make_runs(args.out)
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        write_runs(runs, TABLE)
    print_all(load_runs(TABLE), args.out)


def print_all(cases: pd.DataFrame, out: Path | None) -> None:
    """Print the findings of the cases, of the healthy study's folder, and of bundled tables."""
    for name, runs in cases.groupby("case", sort=False):
        print_findings(str(name), diagnose(runs))
    if out is not None:
        print_findings("healthy, folders", diagnose_runs(out / "healthy/study.yaml"))
    for name in ("code", "code_lr", "zh_annealed"):
        print_findings(name, diagnose(bundled_runs(name)))


def print_findings(name: str, found: Diagnosis) -> None:
    print(f"\n## {name}: {found.n_runs} runs")
    for verdict, kind, channel, count in found.counts():
        print(f"- {verdict}: {kind} ({channel or 'all'}), {count}")


if __name__ == "__main__":
    main()
