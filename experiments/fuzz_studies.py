"""Part ``studies`` of ``fuzz.py``: mutated study files through ``dcpt status``."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml
from fuzz_cases import (
    ODD_NAMES,
    ODD_NUMBERS,
    Outcome,
    Printed,
    call_dcpt,
    damage_bytes,
    find_fault,
    note_about,
    random_of,
)
from fuzz_study import find_lost_file, hash_own_files

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    0.1,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    {"a": {"b": {}}},
    [None],
    {"": ""},
    {1: 2},
    b"\xff\x00",
    *ODD_NUMBERS,
    *ODD_NAMES,
)
ODD_YAML = (
    "3e-4-sweep",
    "[a, b]: 1",
    "{a: b}: 1",
    "? [x, y]\n: 1",
    "!!python/object/apply:os.system ['touch owned']",
    "!!binary '====='",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!int abc",
    "!!float abc",
    "!!timestamp 2024-13-45",
    "2024-13-45",
    "2024-02-30 25:61:61",
    "1:99:99",
    "0o9",
    "0b2",
    "0x",
    ".inf",
    ".nan",
    "1e999999999",
    "1" * 5000,
    "=",
    "<<: 1",
    "<<: [1, 2]",
    "*unknown",
    "&a [*a]",
    "&a {b: *a}",
    "%TAG ! x",
    "!<tag:x> y",
    "|+9\n a",
    "'open",
    '"\\xZZ"',
    '"\\ud800"',
    "\tx",
    "@x",
    "`x`",
    "[" * 3000,
    "[" * 300 + "]" * 300,
    "{a: " * 2000,
    "- " * 2000,
    "---\n---",
    "--- a\n--- b",
    "...",
)
SECTIONS = [
    "channels",
    "tokenizer",
    "bases",
    "grid",
    "tokens",
    "branches",
    "training",
    "evaluation",
    "target",
]
Place = tuple[Any, ...]


def sound_study(folder: Path, rng: Random) -> str:
    """Return the study of the folder, or the one of ``dcpt init`` with or without optional keys."""
    if rng.random() < 0.5:
        return (folder / "study.yaml").read_text(encoding="utf-8")
    call_dcpt(["init", "sound.yaml"], folder)
    text = (folder / "sound.yaml").read_text(encoding="utf-8")
    if rng.random() < 0.3:
        text = re.sub(
            r"^( *)# (at|optimizer|warmup_ratio|packing|start|text_field): ",
            r"\1\2: ",
            text,
            flags=re.MULTILINE,
        )
    return text


# --------------------------------------------------------------------------------- mutations
def _places(value: Any, here: Place = ()) -> list[Place]:
    """List the places of all values in a tree, without its root."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, below in inner:
        found.append((*here, key))
        if isinstance(below, dict | list):
            found += _places(below, (*here, key))
    return found


def _holder(tree: Any, place: Place) -> Any:
    for key in place[:-1]:
        tree = tree[key]
    return tree


def _change_tree(text: str, rng: Random) -> tuple[str, str]:
    """Delete, replace, rename, wrap, double or move values of the parsed study."""
    tree = yaml.safe_load(text)
    changes = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.choice(_places(tree))
        holder, key = _holder(tree, place), place[-1]
        name, how = ".".join(map(str, place)), rng.randrange(6)
        if how == 0:
            del holder[key]
            changes.append(f"{name} deleted")
        elif how == 1 and isinstance(holder, dict):
            new = rng.choice([*ODD_NAMES, *ODD_NUMBERS, 1, None, 0.5, True, f"{key}s"])
            holder[new] = holder.pop(key)
            changes.append(f"{name} renamed to {new!r:.60}")
        elif how == 2:
            holder[key] = rng.choice([[holder[key]], {"x": holder[key]}, [holder[key]] * 3])
            changes.append(f"{name} wrapped: {holder[key]!r:.60}")
        elif how == 3:
            other = rng.choice(_places(tree))
            holder[key] = copy.deepcopy(_holder(tree, other)[other[-1]])
            changes.append(f"{name} takes the value of {'.'.join(map(str, other))}")
        else:
            holder[key] = rng.choice(ODD_VALUES)
            changes.append(f"{name} is {holder[key]!r:.60}")
        if not tree or not _places(tree):
            break
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), "; ".join(changes)


def _change_text(text: str, rng: Random) -> tuple[str, str]:
    """Put odd YAML in the place of a value, or on its own line."""
    lines = [
        line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    at, odd = rng.randrange(len(lines)), rng.choice(ODD_YAML)
    key, colon, _ = lines[at].partition(": ")
    if colon and rng.random() < 0.7:
        lines[at] = f"{key}: {odd}"
        return "\n".join(lines) + "\n", f"{key.strip()}: {odd:.60}"
    lines.insert(at, odd)
    return "\n".join(lines) + "\n", f"line {at}: {odd:.60}"


def _shake_lines(text: str, rng: Random) -> tuple[str, str]:
    """Drop, double, swap or shift lines."""
    lines = [
        line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.choice(["dropped", "doubled", "swapped", "shifted", "tabbed"])
    if how == "dropped":
        del lines[at]
    elif how == "doubled":
        lines.insert(other, lines[at])
    elif how == "swapped":
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = ("  " if how == "shifted" else "\t") + lines[at]
    return "\n".join(lines) + "\n", f"line {at} {how}"


def _bomb(text: str, rng: Random) -> tuple[str, str]:
    """Add aliases that expand without bound, at the top or in a place that is read."""
    depth = rng.choice([5, 9, 30])
    lines = ["b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, depth)]
    key = rng.choice(["name", "tokens", "channels", "grid", "training", "bases", "target", "extra"])
    kept = re.sub(rf"^{key}:.*\n(?:[ #].*\n)*", "", text, flags=re.MULTILINE)
    return "\n".join(lines) + f"\n{kept}\n{key}: *b{depth - 1}\n", f"{key}: aliases {depth} deep"


Mutation = Callable[[str, Random], tuple[str, str]]
MUTATIONS: tuple[Mutation, ...] = (_change_tree,) * 10 + (_change_text,) * 6
MUTATIONS += (_shake_lines, _shake_lines, _bomb)


def check_study(number: int, folder: Path, seed: int, study: Path) -> Outcome:
    """Run ``dcpt status``, which reads, checks and plans a study, on a mutated study."""
    rng = random_of(seed, "studies", number)
    unread = shutil.ignore_patterns("runs", "fit", "bases")
    shutil.copytree(study, folder, dirs_exist_ok=True, ignore=unread)
    path, sound = folder / "study.yaml", sound_study(folder, rng)
    text, about = rng.choice(MUTATIONS)(sound, rng)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.15:
        content, how = damage_bytes(content, rng)
        about += f"; {how}"
    note_about(folder.parent, about)
    path.write_bytes(content)
    own = hash_own_files(folder)
    printed = call_dcpt(["status", "study.yaml"], folder)
    kind = find_fault(printed)
    if (folder / "owned").exists() or find_lost_file(folder, own) is not None:
        kind = "user file changed"
    if (
        kind is None
        and printed.code == 2
        and re.fullmatch(r"(note: .*\n)?dcpt: .*`dcpt prepare.*\n", printed.err)
    ):
        kind = "equal"  # The study is valid after all; its text is not prepared.
    if kind is None and printed.code:
        kind = "named" if _names_place(printed) else "unnamed"
    return Outcome(kind or "equal", about, printed.err[-1500:])


def _names_place(printed: Printed) -> bool:
    """Whether each problem names the file or one of its sections."""
    problems = [line for line in printed.err.splitlines() if line.startswith("dcpt: ")]
    named = all(any(name in line for name in ("study.yaml", *SECTIONS)) for line in problems)
    return bool(problems) and named and printed.code == 2
