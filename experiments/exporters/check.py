"""Do the trainers read what ``dcpt export`` writes, and sample the shares that it names?

Hypothesis: the share of domain tokens that each trainer's own sampler gives over 1,000 steps is
within 0.5 percentage points of the exported one, with five seeds, on corpora of 100,000 documents
whose lengths differ 60-fold.

    python experiments/exporters/check.py FOLDER --page [--only megatron]

It makes an environment for each trainer in ``FOLDER/<trainer>/environment``, with the packages of
this one behind its own (torch among them) and without dependencies that its reader and its sampler
do not need. It writes ``exporters.md`` next to this file, of all results in FOLDER. On 2 cores of a
crowded machine it takes up to ten minutes per trainer, and 25 to 50 for LLaMA-Factory and ms-swift,
which encode and pack 2.7 million documents for each seed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from corpora import BATCH_SEQUENCES, SEQUENCE_TOKENS, SHARE, STEPS, write_corpora
from environments import describe_corpora, make_environment, read_arguments, run_export

from dcpt.trainer_configs import Recipe, Stage

HERE = Path(__file__).parent
TOLERANCE = 0.005

SUFFIXES = {"megatron": "", "olmo-core": ".npy"}
"""Ends of the paths of a source, where a trainer does not read JSON Lines."""

SHORT = {"torchtitan": 16}
"""Tokens of a sequence where sequences are drawn and read slowly: only their number matters."""

TRAINERS = sorted(file.stem for file in (HERE / "requirements").glob("*.txt"))
"""Those whose package installs; ``requirements/<trainer>.txt`` pins what it needs."""


def make_recipe(trainer: str, folder: Path) -> Recipe:
    """The recipe whose configuration is checked: 30 % domain text, no decay of its own."""
    return Recipe(
        sources=describe_corpora(folder, SUFFIXES.get(trainer, ".jsonl")),
        stages=(Stage("main", 0, STEPS, {"web": 1 - SHARE, "law": SHARE}),),
        learning_rate=3e-4,
        warmup_steps=50,
        decay_steps=100,
        batch_sequences=BATCH_SEQUENCES,
        sequence_tokens=SHORT.get(trainer, SEQUENCE_TOKENS),
        about=("Written by experiments/exporters/check.py.",),
    )


def check(trainer: str, folder: Path) -> dict[str, Any]:
    """Export for a trainer, and let its environment read and sample; returns what it says."""
    python, work = make_environment(trainer, folder), folder / trainer
    write_corpora(work)
    return run_export(trainer, make_recipe(trainer, work), python, work, "check")


def write_page(folder: Path) -> str:
    """The results that a folder holds as Markdown."""
    lines = [
        "# Achieved shares of the exported configurations",
        "",
        f"Share of domain tokens over {STEPS:,} steps of {BATCH_SEQUENCES} sequences; "
        f"{100 * SHARE:.0f} % was exported. Two corpora of 100,000 documents with means of 600 and "
        "10 tokens.",
        "The trainer's own reader read the file, and its own sampler sampled, with five seeds. The "
        "command is in `check.py`.",
        "",
        "| trainer | package | lowest | highest |",
        "|---|---|---|---|",
    ]
    for trainer in TRAINERS:
        file = folder / trainer / "result.json"
        if not file.exists():
            lines.append(f"| {trainer} | not checked | | |")
            continue
        of = json.loads(file.read_text(encoding="utf-8"))
        low, high = min(of["shares"]), max(of["shares"])
        package = f"{of['package']} {of['version']}"
        lines.append(f"| {trainer} | {package} | {100 * low:.2f} % | {100 * high:.2f} % |")
    return "\n".join(lines) + "\n\n" + NOT_CHECKED


NOT_CHECKED = """\
Tokens of ms-swift and LLaMA-Factory are counted in packed sequences, in the order of
their samplers. Their readers and packing are their own; each distinct document is encoded once. Of
axolotl, documents are counted as it merges and shuffles them, before its packing, which keeps
documents whole or in parts. Tokens of Hugging Face datasets are those of its documents.

LLaMA-Factory drops the end of each batch of documents that does not fill a sequence. With its
default of 1,000 documents the shares were 29.62 to 29.95 %; the file now sets a larger batch.

Not run:

- NeMo: Megatron Bridge 0.3.1 was read, and has all the fields of the file. Its configuration
  imports Transformer Engine, which needs CUDA. Its blend is that of Megatron Core.
- nanotron: 0.4, the release on PyPI, has neither `data_stages` nor Nanosets. The file follows its
  repository.
"""


def main() -> None:
    asked = read_arguments(str(__doc__), TRAINERS, "exporters.md")
    folder = asked.folder.resolve()
    wrong = []
    for trainer in asked.only or TRAINERS:
        found = check(trainer, folder)
        print(trainer, json.dumps(found), flush=True)
        (folder / trainer / "result.json").write_text(json.dumps(found), encoding="utf-8")
        if max(abs(share - SHARE) for share in found["shares"]) > TOLERANCE:
            wrong.append(trainer)
    if asked.page:
        (HERE / "exporters.md").write_text(write_page(folder), encoding="utf-8")
    sys.exit(f"not within {TOLERANCE}: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
