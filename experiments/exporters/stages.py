"""Does a decay with its own mixture go on where the first stage ended, in the trainers themselves?

Hypothesis: the two files that ``dcpt export --decay-mixture`` writes are one schedule: the second
stage resumes from the checkpoint of the first, starts at the peak rate, and ends at 0.

    python experiments/exporters/stages.py FOLDER --page [--only llama-factory]

Trainers of Hugging Face train a Llama of 1,000 parameters for 40 steps, the last 10 on the other
mixture. Of Megatron Core, torchtitan and OLMo-core the schedulers alone are stepped. It uses the
environments of ``check.py``, and takes one to five minutes per trainer on 2 crowded cores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from corpora import write_corpora
from environments import describe_corpora, make_environment, read_arguments, run_export

from dcpt.trainer_configs import Recipe, Stage

HERE = Path(__file__).parent
TRAINERS = ("hf-datasets", "llama-factory", "ms-swift", "megatron", "torchtitan", "olmo-core")
PEAK, WARMUP, DECAY, STEPS = 1e-2, 5, 10, 40


def make_recipe(folder: Path) -> Recipe:
    """30 steps with 30 % domain text, and a decay of 10 steps with 80 %."""
    return Recipe(
        sources=describe_corpora(folder, ".jsonl"),
        stages=(
            Stage("main", 0, STEPS - DECAY, {"web": 0.7, "law": 0.3}),
            Stage("decay", STEPS - DECAY, DECAY, {"web": 0.2, "law": 0.8}),
        ),
        learning_rate=PEAK,
        warmup_steps=WARMUP,
        decay_steps=DECAY,
        batch_sequences=8,
        sequence_tokens=64,
        about=("Written by experiments/exporters/stages.py.",),
    )


def train(trainer: str, folder: Path) -> dict[str, Any]:
    """Export both stages, and let the trainer run them; returns its rates and losses by step."""
    python, work = make_environment(trainer, folder), folder / trainer / "stages"
    work.mkdir(exist_ok=True)
    write_corpora(work, documents=200)
    return run_export(trainer, make_recipe(work), python, work, "stages")


def find_problems(rates: list[float]) -> list[str]:
    """What is wrong with the rates of the 40 steps, in the order of the steps."""
    problems = []
    # Trainers count steps from 0 or from 1, so a rate may be that of the step before or after.
    for step, rate in enumerate(rates):
        near = [min(s / WARMUP, (STEPS - s) / DECAY, 1.0) for s in (step, step + 1)]
        if not PEAK * (min(near) - 1e-6) <= rate <= PEAK * (max(near) + 1e-6):
            problems.append(f"step {step + 1}: rate {rate:g}")
    if len(rates) != STEPS:
        problems.append(f"{len(rates)} steps")
    return problems


def describe(found: dict[str, Any]) -> str:
    """A row of the page."""
    rates, losses = found["rates"], found.get("losses")
    before = STEPS - DECAY
    words = [f"{rate:.3g}" for rate in (rates[before - 1], rates[before], rates[-1])]
    words += [f"{losses[step]:.2f}" for step in (0, before - 1, before)] if losses else ["", "", ""]
    return f"{found['package']} {found['version']} | " + " | ".join(words)


def write_page(folder: Path) -> str:
    """The results that a folder holds as Markdown."""
    lines = [
        "# Rates and losses over two exported stages",
        "",
        f"{STEPS} steps with a peak rate of {PEAK:g}; the last {DECAY} are the decay, on another "
        "mixture. The second stage resumed from the checkpoint of the first. Losses are of a Llama "
        "of 1,000 parameters; without them, the trainer's scheduler alone was stepped. ms-swift "
        "logs the rate after the step, and was run without packing, which needs a GPU. The command "
        "is in `stages.py`.",
        "",
        "| trainer | package | rate of step 30 | step 31 | step 40 | loss of step 1 | 30 | 31 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for trainer in TRAINERS:
        file = folder / trainer / "stages.json"
        row = "not run | | | | | | "
        if file.exists():
            row = describe(json.loads(file.read_text(encoding="utf-8")))
        lines.append(f"| {trainer} | {row} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    asked = read_arguments(str(__doc__), TRAINERS, "stages.md")
    folder, wrong = asked.folder.resolve(), []
    for trainer in asked.only or TRAINERS:
        found = train(trainer, folder)
        print(trainer, json.dumps(found), flush=True)
        (folder / trainer / "stages.json").write_text(json.dumps(found), encoding="utf-8")
        wrong += [f"{trainer}: {problem}" for problem in find_problems(found["rates"])]
    if asked.page:
        (HERE / "stages.md").write_text(write_page(folder), encoding="utf-8")
    sys.exit("; ".join(wrong) or 0)


if __name__ == "__main__":
    main()
