"""Does any input that a user can give to dcpt end in a traceback or in a wrong number?

Hypothesis: with each fault in the input, the output is the same as without it, or an error names
the place in one sentence. Files of the user keep their hashes.

Each case is seeded by its number and runs in a forked process with its own folder. Five parts:

- ``tables``: mutated runs tables through the check, as CSV, parquet and frames;
- ``fits``: mutated tables that pass the check through ``fit`` (20 draws) and the commands after it;
- ``studies``: mutated study files through ``status``, which reads, checks and plans them;
- ``arguments``: mutated argument vectors in the folder of a small trained study;
- ``files``: one file of every kind of that study, damaged in five ways, under every command; also
  of a copy whose training was killed half-way. Workers of the engine are forks, not new processes.

Outcomes: ``equal`` (as without the fault, or the input is valid after all), ``named`` (one sentence
with the place), ``healed`` (trained or prepared again, with equal losses). Faults: ``silent`` (the
output differs and the place is not named), ``unnamed`` (refused without the place), ``unescaped``
(control characters in the terminal, script in the page), ``user file changed``, ``traceback``,
``hang``.

Command, about 40 minutes on two cores (``TMPDIR=/dev/shm`` avoids the disk)::

    TMPDIR=/dev/shm python experiments/fuzz.py --out fuzzed --column after
    python experiments/fuzz.py --replay files:17

Cases in ``fuzzed/results.jsonl`` are not run again. Result: ``fuzz.md`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["COLUMNS"] = "200"

from fuzz_arguments import check_arguments
from fuzz_cases import FAULTS, KINDS, Body, load_modules, run_cases
from fuzz_files import FilesPart, find_study
from fuzz_fits import fit_table
from fuzz_studies import check_study
from fuzz_tables import check_table
from pages import markdown

HERE = Path(__file__).parent
COUNTS = {"tables": 5000, "fits": 300, "studies": 2000, "arguments": 1000, "files": 10_000}
LIMITS_S = {"tables": 20, "fits": 300, "studies": 10, "arguments": 120, "files": 60}
Records = list[dict[str, Any]]


def run_part(part: str, count: int, args: argparse.Namespace, done: Records) -> Records:
    """Run the remaining cases of a part, and write each outcome when the case ends."""
    body, most = choose_body(part, args, count)
    numbers = [args.number] if args.number is not None else range(min(count, most))
    known = {record["case"] for record in done}
    left = [number for number in numbers if f"{part}:{number}" not in known]
    records, keep = [], args.out / "replayed" if args.number is not None else None
    limit = args.limit or LIMITS_S[part]
    with (args.out / "results.jsonl").open("a", encoding="utf-8") as out:
        for number, outcome, seconds in run_cases(left, body, limit, args.workers, keep):
            record = {"case": f"{part}:{number}", **vars(outcome), "seconds": round(seconds, 2)}
            out.write(json.dumps(record) + "\n")
            out.flush()
            records.append(record)
            if len(records) % 500 == 0:
                print(f"{part}: {len(records)} of {len(left)}", flush=True)
    return records


def choose_body(part: str, args: argparse.Namespace, count: int) -> tuple[Body, int]:
    """Return the function that runs a case of a part, and the number of cases."""
    seed = args.seed
    simple = {"tables": check_table, "fits": fit_table}
    if part in simple:
        return partial(simple[part], seed=seed), COUNTS[part]
    studies = args.out / "studies"
    studies.mkdir(exist_ok=True)
    in_study = {"studies": check_study, "arguments": check_arguments}
    if part in in_study:
        trained = find_study("trained", studies)
        return partial(in_study[part], seed=seed, study=trained), COUNTS[part]
    files = FilesPart(studies, seed)
    numbers = [args.number] if args.number is not None else range(len(files.cases))[:count]
    files.learn(list(numbers))
    return partial(files.check, seed=seed), len(files.cases)


# --------------------------------------------------------------------------------- outcomes
def count_outcomes(records: Records) -> dict[tuple[str, str], int]:
    """Count cases by part and kind of outcome."""
    return Counter((record["case"].split(":")[0], record["kind"]) for record in records)


def write_counts(records: Records, path: Path) -> None:
    """Write a table of outcomes by part."""
    counts, rows = count_outcomes(records), []
    for part in COUNTS:
        cells = [counts.get((part, kind), 0) for kind in KINDS]
        rows.append([part, *map(str, [sum(cells), *cells])])
    text = markdown(["part", "cases", *KINDS], rows)
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def fill_column(records: Records, column: str, path: Path) -> None:
    """Write the counts into a column of the table in ``fuzz.md``."""
    counts, lines = count_outcomes(records), path.read_text(encoding="utf-8").splitlines()
    head = next(line for line in lines if line.startswith("| part | outcome |"))
    at = [cell.strip() for cell in head.split("|")].index(column)
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > at and cells[1] in COUNTS and cells[2] in (*KINDS, "cases"):
            matching = [n for (part, kind), n in counts.items()
                     if part == cells[1] and cells[2] in ("cases", kind)]  # fmt: skip
            cells[at] = str(sum(matching))
            lines[number] = " | ".join(cells).strip()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options; ``number`` is that of a replayed case or None."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(COUNTS), help="tables, studies=150 ...")
    parser.add_argument("--count", type=int, help="cases of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for results.jsonl and counts.md")
    parser.add_argument("--limit", type=float, help="time limit of a case, s")
    parser.add_argument("--workers", type=int, default=2, help="cases at the same time")
    parser.add_argument("--column", help="column of fuzz.md to fill: before or after")
    parser.add_argument("--replay", help="run a single case, such as files:17, and keep its folder")
    args = parser.parse_args(words)
    args.out = (args.out or Path(tempfile.mkdtemp(prefix="fuzzed-"))).resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    args.number = None
    if args.replay:
        part, _, number = args.replay.partition(":")
        args.only, args.number = [part], int(number)
        shutil.rmtree(args.out / "replayed", ignore_errors=True)
        (args.out / "replayed").mkdir()
    return args


def main() -> None:
    """Run the remaining cases, then write the counts."""
    args = read_arguments()
    load_modules()
    path = args.out / "results.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    records: Records = [] if args.replay else list(done)
    for chosen in args.only:
        part, _, count = chosen.partition("=")
        wanted = int(count) if count else args.count or COUNTS[part]
        records += run_part(part, wanted, args, [] if args.replay else done)
    if args.replay:
        print(records[0]["case"], records[0]["kind"], records[0]["about"], sep="\n")
        print(f"{records[0]['words']}\nin {args.out / 'replayed' / 'case'}")
        return
    write_counts(records, args.out / "counts.md")
    print((args.out / "counts.md").read_text(), end="")
    if args.column:
        fill_column(records, args.column, HERE / "fuzz.md")
    faults = sum(record["kind"] in FAULTS for record in records)
    print(f"{len(records)} cases, {faults} faults; {path}")


if __name__ == "__main__":
    main()
