"""Find a model's tokenizer in a folder or on the hub, and copy its files."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcpt.atomic_files import read_json, write_bytes, write_json
from dcpt.errors import InputError
from dcpt.text.tokenizer import SAMPLE_BYTES, SMALLEST_VOCABULARY, find_difference, load_tokenizer

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""The files of a tokenizer folder."""

FOLDER = "a folder"
"""A tokenizer of which only the hash of its files is recorded."""

_CONFIGS = ("config.json", "generation_config.json")
"""These give the id of the end-of-sequence token if no file of the tokenizer names the token."""


def name_tokenizer(spec: str | int) -> str:
    """Describe the requested tokenizer, so that a change is noticed.

    Args:
        spec: A vocabulary size, a folder or a hub id.

    Returns:
        Text that identifies the tokenizer: for a folder it contains a hash of the files.

    Raises:
        InputError: If the vocabulary is too small or the folder is missing.
    """
    if isinstance(spec, int):
        if spec < SMALLEST_VOCABULARY:
            raise InputError(
                f"a vocabulary of {spec} is too small; a byte-level tokenizer needs at least "
                f"{SMALLEST_VOCABULARY}"
            )
        return f"bpe {spec} {SAMPLE_BYTES}"
    folder = Path(spec).expanduser()
    if folder.is_dir():
        digest = hashlib.sha256()
        for path in sorted(folder.glob("*token*")) + sorted(folder.glob("vocab*")):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        if _named_eos(folder) is None:  # then a model configuration gives it
            ids = [_read_object(folder / name).get("eos_token_id") for name in _CONFIGS]
            digest.update(b"" if ids == [None, None] else json.dumps(ids).encode())
        return f"folder {digest.hexdigest()}"
    if folder.exists():
        raise InputError(f"tokenizer {spec}: this is a file; name the folder that holds it")
    # A hub id is a name, or owner/name if there is no folder of the owner's name.
    is_path = spec.startswith(("/", ".", "~")) or spec.count("/") > 1
    if is_path or ("/" in spec and folder.parent.is_dir()):
        raise InputError(
            f"tokenizer {spec}: no such folder; check the path, or give a vocabulary size such as "
            "1024 to train a tokenizer"
        )
    return f"hub {spec}"


def read_tokenizer_name(name: str) -> str | int:
    """The tokenizer that was requested, of its description by :func:`name_tokenizer`.

    Returns:
        A vocabulary size, a hub id, or ``FOLDER``: the description has no path.
    """
    kind, about = name.split(maxsplit=1)
    if kind == "bpe":
        return int(about.split()[0])
    return about if kind == "hub" else FOLDER


def find_tokenizer(spec: str, *, download: bool = True) -> Path | None:
    """Find the folder of a tokenizer.

    Args:
        spec: A tokenizer or model folder, or a hub id.
        download: Whether a hub id that is not in the hub's cache is downloaded.

    Returns:
        The folder; None if it is not on this machine and must not be downloaded.

    Raises:
        InputError: If it cannot be downloaded from the hub.
    """
    folder = Path(spec).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        # Unlike AutoTokenizer, this does not retry for 46 s if there is no network.
        return Path(
            snapshot_download(
                spec,
                allow_patterns=[*TOKENIZER_FILES, *_CONFIGS],
                local_files_only=not download,
            )
        )
    except (OSError, ValueError, RuntimeError) as error:
        if not download:
            return None
        raise InputError(
            f"tokenizer {spec}: no such folder, and it cannot be downloaded from the hub "
            f"({' '.join(str(error).split()):.200}); check the name and the network, or give a "
            "vocabulary size such as 1024 to train a tokenizer"
        ) from error
    except Exception as error:  # the hub's network library raises its own errors
        if not download:
            return None
        raise InputError(
            f"tokenizer {spec}: the hub cannot be reached ({' '.join(str(error).split()):.200}); "
            "check the network, or give a tokenizer folder"
        ) from error


def copy_tokenizer(spec: str, folder: Path) -> None:
    """Copy a model's tokenizer to a folder, byte for byte if it has a ``tokenizer.json``.

    ``AutoTokenizer`` is used only if there is none: for some model types, such as qwen2, it builds
    a tokenizer that differs from ``tokenizer.json``.

    Args:
        spec: A tokenizer or model folder, or a hub id.
        folder: Existing folder to write into.

    Raises:
        InputError: If it cannot be loaded or converted, or has no end-of-sequence token.
    """
    source = find_tokenizer(spec)
    assert source is not None
    if (source / "tokenizer.json").is_file():
        _copy_files(source, folder, spec)
        return
    with tempfile.TemporaryDirectory() as scratch:
        _convert(source, Path(scratch), spec)
        _copy_files(Path(scratch), folder, spec)


def encodes_as_files(copied: Path, spec: str) -> bool:
    """Whether a copied tokenizer encodes like the current files of the original.

    Older versions of dcpt copied through ``AutoTokenizer``, so a copy may have other bytes, or
    encode differently. If the original is not on this machine, the copy is kept.
    """
    original = find_tokenizer(spec, download=False)
    if original is None or not (original / "tokenizer.json").is_file():
        return True
    return find_difference(original / "tokenizer.json", copied / "tokenizer.json") is None


def _copy_files(source: Path, folder: Path, spec: str) -> None:
    tokenizer = load_tokenizer(source / "tokenizer.json")
    eos = _find_eos(source, tokenizer.get_vocab(with_added_tokens=True), spec)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            write_bytes(folder / name, (source / name).read_bytes())
    config = _read_object(source / "tokenizer_config.json")
    if config.get("eos_token") is None:  # another file names it, and the copy must name it, too
        write_json(folder / "tokenizer_config.json", {**config, "eos_token": eos})


def _find_eos(folder: Path, vocabulary: Mapping[str, int], spec: str) -> str:
    """The end-of-sequence token from the tokenizer's files, or else the model's configuration."""
    eos = _named_eos(folder)
    tokens = {number: token for token, number in vocabulary.items()}
    for name in _CONFIGS if eos is None else ():
        number = _read_object(folder / name).get("eos_token_id")
        if isinstance(number, list) and len(number) == 1:
            number = number[0]
        if isinstance(number, list):
            raise InputError(
                f"tokenizer {spec}: {name} names {len(number)} end-of-sequence tokens, but "
                "documents end with a single token; set eos_token in its tokenizer_config.json"
            )
        if isinstance(number, int) and number in tokens:
            return tokens[number]
    if eos is None:
        raise InputError(
            f"tokenizer {spec}: has no end-of-sequence token to join documents with; set eos_token "
            "in its tokenizer_config.json"
        )
    if eos not in vocabulary:
        raise InputError(
            f"tokenizer {spec}: the end-of-sequence token {eos!r} has no id in tokenizer.json; "
            "correct eos_token in its tokenizer_config.json"
        )
    return eos


def _named_eos(folder: Path) -> str | None:
    """The end-of-sequence token in the tokenizer's own files."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        eos = _read_object(folder / name).get("eos_token")
        eos = eos.get("content") if isinstance(eos, dict) else eos
        if eos is not None:
            return str(eos)
    return None


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file."""
    content = read_json(path, "restore the original file")
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; restore the original file")
    return content or {}


def _convert(source: Path, folder: Path, spec: str) -> None:
    """Convert a tokenizer that has no ``tokenizer.json``."""
    from transformers import AutoTokenizer  # takes seconds to import

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # each kind of damage raises another error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"tokenizer {spec}: cannot be loaded ({reason:.200}); give a "
            "tokenizer folder, a hub id, or a vocabulary size such as 1024 to train a tokenizer"
        ) from error
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {spec}: has no tokenizer.json and cannot be converted to one; choose "
            "another tokenizer"
        )
    tokenizer.save_pretrained(folder)
    for name in _CONFIGS:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
