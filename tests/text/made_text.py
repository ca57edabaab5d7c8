"""Made-up text, prepared in no time, and hashes of all files of a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from dcpt.own_folders import MARKER

TEXTS = {
    "general": [f"My fellow citizens, this is speech number {i * i}. 大小 🙂" for i in range(200)],
    "domain": [f"A{i:02} Disease of the {i * 7} kind\nExcludes: B{i}" for i in range(200)],
}


def write_json_lines(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder but leases, with the SHA-256 of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lease")
    }


def make_old(folder: Path) -> None:
    """Make a prepared folder look as an older version left it: no markers, no hashes of files."""
    for marker in folder.rglob(MARKER):
        marker.unlink()
    record = json.loads((folder / "prepared.json").read_text())
    del record["tokenizer_files"], record["near_duplicates"], record["settings"]
    if (folder / "_clean").exists():
        shutil.rmtree(folder / "_clean")
    (folder / "prepared.json").write_text(json.dumps(record))
