"""Part ``files`` of ``fuzz.py``: every file of a trained study damaged, under every command."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

from fuzz_cases import Outcome, Printed, find_fault, note_about, random_of, run_cases
from fuzz_study import (
    BASE,
    LAWS,
    call_in_study,
    find_lost_file,
    fork_workers,
    hash_own_files,
    interrupt_study,
    is_of_user,
    make_study,
)

DAMAGES = ("emptied", "halved", "flipped", "replaced", "folder")
QUESTION = [
    "--n-params",
    "40k",
    "--n-tokens",
    "6144",
    "--ratio",
    "0.5",
    "--learning-rate",
    "3e-3",
    "--base-loss",
    "general=1.7",
    "--base-loss",
    "domain=8.5",
    "--base-peak-learning-rate",
    "1e-2",
    "--base-n-tokens",
    "8192",
]
COMMANDS = {
    "status": ["status", "study.yaml"],
    "runs": ["runs", "study.yaml", "--out", "out.csv", "--replace"],
    "fit": ["fit", "study.yaml", *LAWS, "--json"],
    "recommend": ["recommend", "study.yaml", "--json"],
    "predict": ["predict", "study.yaml", *QUESTION, "--json"],
    "diagnose": ["diagnose", "study.yaml", "--json"],
    "report": ["report", "study.yaml"],
    "verify": ["verify", "study.yaml", "--workers", "1", "--json"],
    "run-grid --dry-run": ["run-grid", "study.yaml", "--dry-run", "--json"],
    "run-grid": ["run-grid", "study.yaml", "--workers", "1", "--json"],
    "prepare": ["prepare", "study.yaml", "--workers", "1", "--json"],
    "evaluate": ["evaluate", f"{BASE}/model", "--study", "study.yaml", "--json"],
}
REPAIRING = ("run-grid", "prepare")
OTHER_CONTENT = ("{}", "[]", "null", '"text"', "1", '{"n_tokens": "many"}', '{"loss": [1]}')
_TIMES = re.compile(
    r'"(?:seconds|tokens_per_s|first_step_s|wall_s|gpu_hours)": [\d.e+-]+|'
    r"\d+ s gone.*|\d[\d,]* +(?=en )|"
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?"
)


@dataclass(frozen=True)
class Damage:
    """A case: which file of which study is damaged how, and the command that runs then."""

    study: str
    file: str
    how: str
    command: str


@dataclass(frozen=True)
class Result:
    """Result of a command: exit code, output and written files, without times."""

    code: int | None
    out: str
    left: dict[str, str]


def find_study(name: str, studies: Path) -> Path:
    """Return the ``trained`` or ``interrupted`` study; make it if it does not exist."""
    path = studies / name

    def make(number: int, empty: Path) -> Outcome:
        if name == "trained":
            make_study(empty)
        else:
            shutil.copytree(studies / "trained", empty, dirs_exist_ok=True)
            interrupt_study(empty)
        shutil.copytree(empty, path)
        return Outcome("equal", "")

    if not path.exists():
        (_, outcome, _), *_ = list(run_cases([0], make, 300, 1))
        if outcome.kind != "equal":
            raise RuntimeError(outcome.words)
    return path


class FilesPart:
    """The trained studies, and the result of every command on undamaged copies.

    Args:
        folder: Folder of the studies.
        seed: Seed of the order of the cases.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        for name in ("trained", "interrupted"):
            find_study(name, folder)
        self.cases = list(self._all_cases())
        Random(seed).shuffle(self.cases)
        self.undamaged: dict[tuple[str, str], Result] = {}

    def _all_cases(self) -> Iterator[Damage]:
        for file in find_kinds(self.folder / "trained").values():
            for how, command in product(DAMAGES, COMMANDS):
                yield Damage("trained", file, how, command)
        for file in find_kinds(self.folder / "interrupted").values():
            new = "checkpoint" in file or "error.json" in file
            if not new and file.startswith(("fit", "bases")):
                continue
            for how in DAMAGES:
                for command in COMMANDS if new else ("run-grid", "status", "diagnose"):
                    yield Damage("interrupted", file, how, command)

    def learn(self, numbers: list[int]) -> None:
        """Run the commands of these cases on undamaged copies."""
        wanted = sorted({(self.cases[n].study, self.cases[n].command) for n in numbers})

        def run(number: int, empty: Path) -> Outcome:
            study, command = wanted[number]
            shutil.copytree(self.folder / study, empty, dirs_exist_ok=True)
            result, _ = self._run(command, empty)
            return Outcome("equal", "", json.dumps(vars(result)))

        for number, outcome, _ in run_cases(range(len(wanted)), run, 120, 2):
            if outcome.kind != "equal":
                raise RuntimeError(f"{wanted[number]}: {outcome.words}")
            self.undamaged[wanted[number]] = Result(**json.loads(outcome.words))

    def _run(self, command: str, folder: Path) -> tuple[Result, Printed]:
        fork_workers()
        printed = call_in_study(COMMANDS[command], folder)
        text = printed.out.replace(f"{folder}/", "")
        left = self._find_left(command, folder)
        return Result(printed.code, _TIMES.sub("", text), left), printed

    def _find_left(self, command: str, folder: Path) -> dict[str, str]:
        """Collect what a command wrote and other commands read."""
        left = {}
        if command == "runs":
            left["table"] = _read(folder / "out.csv")
        if command == "report":
            left["page"] = _TIMES.sub("", _read(folder / "fit" / "report" / "report.md"))
        if command == "prepare":
            for path in sorted(folder.glob("*/*/*.bin")):
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                left[path.name + path.parent.name] = digest
        if command == "run-grid":
            after = call_in_study(["runs", "study.yaml", "--out", "after.csv", "--replace"], folder)
            left["table"] = _read(folder / "after.csv")
            left["refusal"] = after.err if after.code else ""
        return left

    def check(self, number: int, folder: Path, seed: int) -> Outcome:
        """Run a command with a damaged file."""
        damage = self.cases[number]
        shutil.copytree(self.folder / damage.study, folder, dirs_exist_ok=True)
        about = f"{damage.study} study, {damage.file} {damage.how}"
        rng = random_of(seed, "files", number)
        about += damage_file(folder / damage.file, damage.how, rng)
        about += f"; {damage.command}"
        note_about(folder.parent, about)
        own = hash_own_files(folder)
        found, printed = self._run(damage.command, folder)
        lost = find_lost_file(folder, own)
        if lost is not None:
            return Outcome("user file changed", about, f"{lost}: {printed.words[-600:]}")
        whole = self.undamaged[damage.study, damage.command]
        kind = find_fault(printed) or judge(damage, found, whole, printed)
        return Outcome(kind, about, _difference(printed, found, whole))


def judge(damage: Damage, found: Result, whole: Result, printed: Printed) -> str:
    """Compare a case without a traceback with the same command on undamaged files."""
    if found == whole:
        return "equal"
    refusal = found.left.get("refusal", "")
    if damage.command in REPAIRING and found.code == 0 and not refusal:
        return "healed" if found.left == whole.left else "silent"
    named = names_file(damage.file, printed.words + refusal, whole.out)
    if found.code == 0:
        return "named" if named else "silent"
    return "named" if named else "unnamed"


def names_file(file: str, words: str, known: str) -> bool:
    """Whether new output names a file, or its run or channel."""
    new = "\n".join(line for line in words.splitlines() if line not in known.splitlines())
    path = Path(file)
    top, parent = path.parts[0], path.parent.name
    names = [path.name, str(path.parent) if "/" in str(path.parent) else f"{parent}:"]
    if top == "runs":
        names.append(path.parts[1])
    elif len(path.parts) > 2:
        names += [f"channel {parent}", f"{parent}/"]
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", new) for name in names)


def _difference(printed: Printed, found: Result, whole: Result) -> str:
    """Return the first lines that differ, and the errors."""
    known = whole.out.splitlines()
    new = [line for line in found.out.splitlines() if line not in known][:3]
    left = [f"{key} differs" for key in whole.left if found.left.get(key) != whole.left[key]]
    return "\n".join([f"exit code {printed.code}", *new, *left, printed.err[-1200:]])[:2000]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


# --------------------------------------------------------------------------------- damage
def damage_file(path: Path, how: str, rng: Random) -> str:
    """Damage a file in one of five ways; returns further details for the description."""
    content = path.read_bytes()
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "halved":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        return _flip(path, content, rng)
    elif how == "replaced":
        return _replace(path, content, rng)
    else:
        path.unlink()
        path.mkdir()
        (path / "theirs.txt").write_text("a person's own\n", encoding="utf-8")
    return ""


def _flip(path: Path, content: bytes, rng: Random) -> str:
    """Flip bits of three bytes; in text the highest bits, so that it is no longer UTF-8."""
    damaged = bytearray(content)
    text = path.suffix in (".json", ".jsonl", ".csv", ".md", ".html")
    places = sorted({rng.randrange(len(content)) for _ in range(3)} if content else ())
    for place in places:
        damaged[place] ^= 0x80 if text else 1 << rng.randrange(8)
    path.write_bytes(bytes(damaged))
    return f" in bytes {places}"


def _replace(path: Path, content: bytes, rng: Random) -> str:
    if path.suffix == ".bin":
        path.write_bytes(bytes(len(content)))
        return " by zeros"
    other = rng.choice(OTHER_CONTENT)
    path.write_text(other + "\n", encoding="utf-8")
    return f" by {other}"


def find_kinds(study: Path) -> dict[str, str]:
    """Choose a file of each kind: the first with its name in each kind of run."""
    found: dict[str, str] = {}
    for path in sorted(study.rglob("*"), key=lambda path: ("-branch" in str(path), path)):
        if path.is_file() and not is_of_user(path) and path.suffix != ".partial":
            file = path.relative_to(study)
            found.setdefault(_kind_of(file), str(file))
    return found


def _kind_of(file: Path) -> str:
    if file.parts[0] != "runs" or len(file.parts) < 3:
        return str(file)
    run, name = file.parts[1], file.parts[-1]
    if name == "lock" or name.startswith("events.out"):
        return name[:10]
    kind = "branch" if "branch" in run else "base" if run.startswith("pretrain") else "trunk"
    return "/".join([kind, *file.parts[2:-1], re.sub(r"\d+", "", name)])
