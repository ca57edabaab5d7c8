"""The demo: every step of the pipeline, on real text or on the bundled runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from dcpt.atomic_files import write_text
from dcpt.cli.console import print_line
from dcpt.cli.show_fit import law_table, show_answer
from dcpt.cli.show_grid import watch_grid
from dcpt.cli.show_text import prepared_table, watch_progress
from dcpt.decide.budget import Budget
from dcpt.errors import InputError
from dcpt.own_folders import is_marked, mark_folder
from dcpt.pipeline.answer import collect_runs, fit_runs, read_target, recommend_for, report_on
from dcpt.pipeline.refine import refine_study
from dcpt.pipeline.rounds import Goal, Refined
from dcpt.pipeline.train import prepare_study, train_study
from dcpt.pipeline.workspace import Place, Workspace
from dcpt.quantities import format_seconds

if TYPE_CHECKING:
    from rich.console import Console

    from dcpt.decide.records import Recommendation
    from dcpt.grid.queue import Outcome
    from dcpt.grid.slots import Slot
    from dcpt.text.demo_texts import CorpusName

BUNDLED = "bundled"
"""Subfolder of the demo without training."""

BUDGET = "50%"
"""Of the cost of the target's run: two short runs."""

DOMAINS: dict[CorpusName, str] = {
    "icd": "the ICD-10-CM medical code book",
    "pronunciations": "English words with their sounds",
}


class _Steps:
    """Prints each step with the time elapsed."""

    def __init__(self, console: Console) -> None:
        self.console, self.started = console, time.monotonic()

    def say(self, words: str) -> None:
        elapsed = format_seconds(time.monotonic() - self.started)
        print_line(self.console, f"[{elapsed}] {words}")


def run(
    out: Path, domain: str, seed: int, workers: int | None, console: Console
) -> tuple[Recommendation, Outcome]:
    """Train a ladder on real text, fit, recommend, refine, verify and report.

    Args:
        out: Folder for all files; a second call resumes the first.
        domain: A key of ``DOMAINS``.
        seed: Seed of the bases and of all runs.
        workers: Number of parallel processes; None takes one per core (or GPU).
        console: The console to print progress to.

    Returns:
        The recommendation, and the outcome of training: failed runs do not stop the rest.

    Raises:
        InputError: If the texts cannot be fetched, or no law suits the remaining runs.
    """
    from dcpt.grid.slots import choose_slots

    corpus = next((name for name in DOMAINS if name == domain), None)
    if corpus is None:
        raise InputError(f"--domain {domain}: choose one of {', '.join(DOMAINS)}")
    steps = _Steps(console)
    study = Workspace(write_study(out, corpus, seed))
    steps.say(f"texts: State of the Union speeches (general) and {DOMAINS[corpus]} (domain)")
    with watch_progress(console) as progress:
        prepared = prepare_study(study, workers=1, progress=progress)
    console.print(prepared_table(prepared))
    steps.say("training: four bases, then 27 runs from three of them, each with a final decay")
    slots = choose_slots(workers)
    outcome = _train(study, slots, console)
    steps.say("fitting laws to the loss of every channel")
    fitted = fit_runs(collect_runs(study), study.fit_folder)
    console.print(law_table(fitted))  # the answer repeats the warnings about the fit
    answer = recommend_for(study, read_target(study))
    show_answer(console, answer)
    steps.say("refining: two short runs of the target, then a fit with them and a verification")
    refined = _refine(study, slots, console)
    outcome.failed |= refined.outcome.failed
    _report(study, steps)
    return refined.answer or answer, outcome


def write_study(out: Path, domain: CorpusName, seed: int) -> Path:
    """Download the texts and write the demo's study file, unless it exists."""
    from dcpt.text.demo_texts import demo_corpus

    study = out / "study.yaml"
    if not study.exists():
        _check_out(out, {BUNDLED})
    template = resources.files("dcpt").joinpath("demo_study.yaml").read_text(encoding="utf-8")
    text = template.format(general=demo_corpus("general"), domain=demo_corpus(domain), seed=seed)
    if not study.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_text(study, text)
    elif study.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{study} holds another study (another seed or domain, or changed by hand); choose "
            f"another folder with --out, or continue it with `dcpt run-grid {study}`"
        )
    return study


def _check_out(out: Path, known: AbstractSet[str] = frozenset()) -> None:
    """Refuse a folder with files that the demo did not write.

    Args:
        out: The folder; it need not exist.
        known: Names in it that are the demo's.
    """
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in there if name not in known]
    if foreign:
        raise InputError(
            f"{out}: holds {', '.join(foreign[:3])}, but the demo writes only to a new folder or "
            "to its own; choose another folder with --out"
        )


def _train(study: Workspace, slots: Sequence[Slot], console: Console) -> Outcome:
    with watch_grid(console, slots, "grid") as view:
        return train_study(study, slots, on_tick=view.tick)


def _refine(study: Workspace, slots: Sequence[Slot], console: Console) -> Refined:
    budget = Budget.parse(BUDGET)
    refined = refine_study(
        study,
        slots,
        Goal(budget, width=0.0),
        watch=lambda title: watch_grid(console, slots, title),
        on_round=lambda done: print_line(console, done.say(budget)),
    )
    for line in refined.words:
        print_line(console, line)
    return refined


def run_bundled(out: Path, console: Console) -> Recommendation:
    """Fit, recommend and report on the bundled runs: Chinese verse into small English Llamas.

    The target is a base of 29.1M parameters, four times larger than any in the table.
    """
    from dcpt.bundled import bundled_runs
    from dcpt.decide.records import Target
    from dcpt.limit import Limit

    steps, folder = _Steps(console), out / BUNDLED
    if not is_marked(folder):
        _check_out(folder)
        folder.mkdir(parents=True, exist_ok=True)
        mark_folder(folder)
    steps.say("fitting laws to 50 bundled runs (classical Chinese verse, 1.8M and 6.6M parameters)")
    fitted = fit_runs(bundled_runs("zh_annealed"), folder)
    console.print(law_table(fitted))  # the answer repeats the warnings about the fit
    target = Target(
        n_params=29_100_000,
        n_tokens=44_000_000,
        limit=Limit.parse("+3%"),
        base_losses={"general": 2.775},
        base_peak_learning_rate=1e-3,
    )
    answer = recommend_for(folder, target)
    show_answer(console, answer)
    _report(folder, steps, "Bundled runs: classical Chinese verse")
    return answer


def _report(place: Place, steps: _Steps, title: str | None = None) -> None:
    pages = report_on(place, title=title)
    steps.say("report: " + ", ".join(str(page) for page in pages))
