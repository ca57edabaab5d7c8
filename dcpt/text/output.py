"""The folder of prepared text: which files in it are dcpt's, how they are put there and removed.

The user's files and folders are never written to, replaced or removed. A folder is dcpt's if it has
the marker, or the manifest of an older version without marker, and holds only files with names that
``prepare`` writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dcpt.atomic_files import PARTIAL, sync_folder, write_text
from dcpt.errors import InputError
from dcpt.own_folders import MARKER, is_marked
from dcpt.text.manifest import (
    CLEAN_FOLDER,
    RECORD_FILE,
    SPLITS,
    TOKENIZER_FOLDER,
    Prepared,
    check_tokenizer,
    read_manifest,
    read_record,
)
from dcpt.text.shard_files import is_whole
from dcpt.text.tokenizer_files import TOKENIZER_FILES

UNFINISHED = ".unfinished"
"""The folder inside the output to which everything is written first."""

_OWN_NAMES = {MARKER, "manifest.json", "documents.npz", *TOKENIZER_FILES}
_OWN_NAMES |= {f"{split}.bin" for split in SPLITS}


def check_output(folder: Path, names: Iterable[str]) -> None:
    """Refuse an output folder with files in the way that ``prepare`` did not write.

    Args:
        folder: The folder for prepared text; it need not exist.
        names: Names of the channels.

    Raises:
        InputError: Names every such place.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise InputError(
            f"{folder}: this is not a folder, but prepared text goes to a folder of this name; "
            "move it away or rename it"
        )
    if not is_marked(folder) and read_record(folder) is None:
        there = sorted(path.name for path in folder.iterdir())
        if there:
            raise InputError(
                f"{folder}: holds {', '.join(there[:3])}, which `dcpt prepare` did not write, but "
                "prepared text needs a folder of its own; move your files to another folder"
            )
        return
    problems = [
        f"{foreign}: `dcpt prepare` did not write this, but prepared text goes to "
        f"{folder / name}; move it to another folder"
        for name in [*names, TOKENIZER_FOLDER, CLEAN_FOLDER, UNFINISHED]
        if (foreign := _find_foreign(folder, name)) is not None
    ]
    record = folder / "prepared.json"
    if problems and os.path.lexists(record) and read_record(folder) is None:
        problems.append(
            f"{record}: the file is damaged; `dcpt prepare` writes it again once the files above "
            "are moved"
        )
    if problems:
        raise InputError(problems)


def own_places(folder: Path, names: Iterable[str]) -> list[Path]:
    """Folders that must not contain the text of a channel: the output folder.

    Older versions without markers allowed texts next to the folders of the channels. In a folder
    prepared by such a version, only the folders of the channels are returned.
    """
    record = None if is_marked(folder) else read_record(folder)
    if record is None:
        return [folder]
    ours = {*names, *record.channels, TOKENIZER_FOLDER, CLEAN_FOLDER, UNFINISHED, "prepared.json"}
    return [folder / name for name in sorted(ours)]


def remove_folder(folder: Path) -> None:
    """Remove dcpt's files in a folder, and the folder if it is then empty."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            if _is_own_name(name):
                (Path(place) / name).unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            Path(place).rmdir()


def put_in_place(prepared: Prepared, places: Mapping[str, Path]) -> None:
    """Move what was made into the folder; the record, written last, makes it valid.

    Args:
        prepared: The record.
        places: Where each of the folder's parts was made.
    """
    folder, unfinished = prepared.folder, prepared.folder / UNFINISHED
    check_output(folder, prepared.channels)  # encoding takes hours, and files may have come in
    old = unfinished / ".old"
    remove_folder(old)
    old.mkdir()
    for name, source in places.items():
        target = folder / name
        if source == target:  # already there, whatever a killed call left unfinished
            continue
        if os.path.lexists(target):
            os.replace(target, old / name)
        os.replace(source, target)
    sync_folder(folder)
    write_text(folder / RECORD_FILE, prepared.model_dump_json(indent=2) + "\n")
    remove_folder(unfinished)
    # Hashed while they are in memory, and remembered, so that training starts at once.
    check_tokenizer(prepared)
    for name, manifest in prepared.channels.items():
        if not is_whole(folder / name, manifest):
            raise InputError(
                f"{folder / name}: these files are not what was written a moment ago; "
                "check the disk and prepare again"
            )


def _find_foreign(folder: Path, name: str) -> Path | None:
    """What is in the way at ``folder / name``: that path, the first file inside, or None."""
    place = folder / name
    if not os.path.lexists(place):
        return None
    if place.is_symlink() or not place.is_dir():
        return place
    files = list(_files(place))
    for path in files:
        if not _is_own_name(path.name):
            return path
    if not files or is_marked(place) or read_manifest(place) is not None:
        return None
    # Folders of versions without markers are identified by the record that names them.
    record = None if is_marked(folder) else read_record(folder)
    ours = {*record.channels, TOKENIZER_FOLDER, UNFINISHED} if record is not None else set()
    return None if name in ours else place


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        for name in sorted(files):
            yield Path(place) / name
        for name in folders:
            if (Path(place) / name).is_symlink():
                yield Path(place) / name


def _is_own_name(name: str) -> bool:
    return PARTIAL.sub("", name) in _OWN_NAMES
