"""Part ``arguments`` of ``fuzz.py``: mutated argument vectors in the folder of a trained study."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz_cases import (
    LONE_SURROGATE,
    ODD_NAMES,
    ODD_NUMBERS,
    Outcome,
    call_dcpt,
    find_fault,
    has_control,
    note_about,
    random_of,
)
from fuzz_files import QUESTION
from fuzz_fits import find_no_number
from fuzz_study import BASE, LAWS, find_lost_file, fork_workers, hash_own_files

TARGET = [
    "--n-params",
    "40k",
    "--n-tokens",
    "6144",
    "--limit",
    "+20%",
    "--base-loss",
    "general=1.7",
]
PEAK = ["--base-loss", "domain=8.5", "--base-peak-learning-rate", "1e-2", "--base-n-tokens", "8192"]
SOUND: tuple[list[str], ...] = (
    ["init", "new.yaml"],
    ["prepare", "study.yaml", "--workers", "1"],
    ["evaluate", f"{BASE}/model", "--study", "study.yaml", "--label", "a"],
    ["run-grid", "study.yaml", "--dry-run"],
    ["run-grid", "study.yaml", "--workers", "1", "--json"],
    ["status", "study.yaml"],
    ["status", "study.yaml", "--json"],
    ["runs", "study.yaml", "--out", "new.csv", "--replace"],
    ["runs", "table.csv", "--column", "n_params=n_params", "--json"],
    ["laws"],
    ["laws", "d-cpt", "--json"],
    ["laws", "table.csv", "--channel", "domain", "--law", "auto"],
    ["compare", "table.csv", "--law", "joint-general", "--channel", "general", "--seed", "1"],
    ["fit", "table.csv", *LAWS, "--out", "made"],
    ["fit", "table.csv", *LAWS, "--fixed", "nu=0.1", "--bounds", "h=0.1:2", "--delta", "1e-3"],
    ["fit", "study.yaml", *LAWS, "--seed", "3", "--channel", "domain"],
    ["predict", "fit", *QUESTION, "--phase", "annealed", "--warmup-tokens", "256"],
    ["predict", "study.yaml", *QUESTION, "--batch-tokens", "256", "--json"],
    ["recommend", "fit", *TARGET, *PEAK, "--learning-rate", "3e-3", "--level", "0.9"],
    ["recommend", "study.yaml", "--limit", "+5%", "--warmup-tokens", "256", "--json"],
    ["report", "study.yaml", "--out", "page", "--title", "Our runs"],
    ["report", "fit"],
    ["diagnose", "study.yaml"],
    ["diagnose", "table.csv", "--json"],
    ["verify", "study.yaml", "--workers", "1"],
    ["demo", "--bundled", "--out", "shown"],
)
ODD_PATHS = (
    "absent",
    "absent.csv",
    "absent.yaml",
    "absent/deep/x.csv",
    ".",
    "..",
    "runs",
    "fit",
    "general.jsonl",
    "study.yaml",
    "table.csv",
    "fit/fit.json",
    "fit/draws.npz",
    "folder.csv",
    "folder.yaml",
    "loop.csv",
    "dangling.yaml",
    "empty.csv",
    "empty.yaml",
    "noise.parquet",
    "noise.csv",
    "/proc/1/nothing/x.csv",
    "notes.txt/x.csv",
    "study.yaml/",
    "~",
    "a" * 300 + ".csv",
    "x/" * 2100 + "x.csv",
    LONE_SURROGATE + ".csv",
    "hf:owner/absent",
    "file:table.csv",
)
ODD_WORDS = (
    *("--frobnicate", "--json=1", "--", "-", "-j", "--help", "--law", "--law=", "--out", "--seed"),
    *("--workers=0", "--workers=-1", "--workers=99999999999", "--seed=-1", "--draws=19"),
    *("--draws=nan", "--level=2", "--level=nan", "--delta=nan", "--delta=0", "--delta=-1"),
    *("--law=os:system", "--law=os", "--law=:", "--law=a:b:c", "--law=json:loads", "--law=auto"),
    *("--column==", "--column=n_params=n_params=", "--fixed=nu=nan", "--fixed=zz=1", "--limit=nan"),
    *("--bounds=h=2:1", "--bounds=h=1:1", "--bounds=h=:", "--bounds=h=-inf:inf", "--limit="),
    *("--limit=+1e999%", "--limit=-100%", "--limit=+3% each", "--base-loss=general=-1"),
    *("--base-loss=general=1e999", "--base-loss=x[/b]=1", "--schedules=table.csv"),
    *("--schedules=study.yaml", "--schedule=x", "--channel=x[/b]", "--channel=", "--phase=base"),
    *("--title=<script>alert(1)</script>", "--ratio=2", "--ratio=nan", "--learning-rate=nan"),
)


def _replace(words: list[str], rng: Random) -> str:
    at = rng.randrange(len(words))
    old, words[at] = words[at], rng.choice([*ODD_NUMBERS, *ODD_NAMES, *ODD_PATHS])
    return f"{old} is {words[at]!r:.60}"


def _replace_part(words: list[str], rng: Random) -> str:
    """Put an odd value after the ``=`` of a word, or in the place of an option's value."""
    pairs = [at for at, word in enumerate(words) if "=" in word or words[at - 1].startswith("--")]
    if not pairs:
        return _replace(words, rng)
    at = rng.choice(pairs)
    name, sign, _ = words[at].partition("=")
    odd = rng.choice([*ODD_NUMBERS, *ODD_NUMBERS, *ODD_NAMES])
    old, words[at] = words[at], f"{name}={odd}" if sign else odd
    return f"{old} is {words[at]!r:.60}"


def _drop(words: list[str], rng: Random) -> str:
    return f"without {words.pop(rng.randrange(len(words)))!r:.60}"


def _double(words: list[str], rng: Random) -> str:
    at = rng.randrange(len(words))
    words.insert(at, words[at])
    return f"{words[at]!r:.60} twice"


def _swap(words: list[str], rng: Random) -> str:
    at, other = rng.randrange(len(words)), rng.randrange(len(words))
    words[at], words[other] = words[other], words[at]
    return f"{words[at]!r:.60} and {words[other]!r:.60} swapped"


def _insert(words: list[str], rng: Random) -> str:
    odd = rng.choice([*ODD_WORDS, *ODD_WORDS, *ODD_PATHS, *ODD_NUMBERS])
    words.insert(rng.randrange(1, len(words) + 1), odd)
    return f"with {odd!r:.60}"


def _known_option(words: list[str], rng: Random) -> str:
    """Add an option of the command with an odd value."""
    known = [word for other in SOUND if other[0] == words[0] for word in other]
    options = [word for word in known if word.startswith("--")]
    if not options:
        return _replace(words, rng)
    option, odd = rng.choice(options), rng.choice([*ODD_NUMBERS, *ODD_NAMES, *ODD_PATHS])
    words += [option, rng.choice([odd, f"general={odd}", f"h={odd}"])]
    return f"with {option} {odd!r:.60}"


def _other_command(words: list[str], rng: Random) -> str:
    words[0] = rng.choice(SOUND)[0]
    return f"with the command {words[0]}"


def _other_options(words: list[str], rng: Random) -> str:
    other = rng.choice(SOUND)
    words += other[1:]
    return f"with the arguments of {other[0]}"


Mutation = Callable[[list[str], Random], str]
MUTATIONS: tuple[Mutation, ...] = (
    _replace,
    _replace,
    _replace_part,
    _replace_part,
    _replace_part,
    _known_option,
    _known_option,
    _drop,
    _double,
    _swap,
    _insert,
    _insert,
    _other_command,
    _other_options,
)


def check_arguments(number: int, folder: Path, seed: int, study: Path) -> Outcome:
    """Run a mutated argument vector in a copy of the trained study."""
    rng = random_of(seed, "arguments", number)
    words = list(rng.choice(SOUND))
    count = rng.choice([1, 1, 1, 2, 3])
    changes = [rng.choice(MUTATIONS)(words, rng) for _ in range(count) if words]
    if words[:1] == ["demo"] and "--bundled" not in words:
        words.append("--bundled")  # Otherwise the demo downloads texts and trains for minutes.
    about = f"dcpt {' '.join(map(repr, words))[:300]}"
    note_about(folder.parent, about)
    shutil.copytree(study, folder, dirs_exist_ok=True)
    _write_oddities(folder)
    own = hash_own_files(folder)
    fork_workers()
    arguments = [str(next(folder.glob(word), word)) if word.startswith(BASE) else word
                 for word in words]  # fmt: skip
    printed = call_dcpt(arguments, folder)
    kind, shown = find_fault(printed), printed.err[-1500:] or printed.out[-300:]
    if kind == "unescaped" and any(map(has_control, words)):
        kind = None  # Arguments that the user typed may be printed to the same terminal.
    lost = find_lost_file(folder, own)
    named = [Path(word.rpartition("=")[2]).name for word in words]
    if lost is not None and Path(lost).name not in named:
        return Outcome("user file changed", about, f"{lost}: {'; '.join(changes)}\n{shown}")
    if kind is None and printed.code == 0 and (line := find_no_number(printed.out)) is not None:
        kind, shown = "silent", line
    if kind is None and printed.code == 1 and "failed: " not in printed.words:
        kind = "unnamed"
    return Outcome(kind or ("named" if printed.code else "equal"), about, shown)


def _write_oddities(folder: Path) -> None:
    """Write folders, links and damaged files with the suffixes of tables and studies."""
    for name in ("folder.csv", "folder.yaml"):
        (folder / name).mkdir()
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "dangling.yaml").symlink_to("nowhere.yaml")
    for name in ("empty.csv", "empty.yaml"):
        (folder / name).touch()
    for name in ("noise.csv", "noise.parquet"):
        (folder / name).write_bytes(bytes(range(256)) * 4)
