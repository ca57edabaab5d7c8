"""Checkpoint folders: their place, their files and their hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from dcpt.errors import InputError
from dcpt.file_hashes import remembered_digest


def locate_checkpoint(path: str | Path, study: Path = Path()) -> str:
    """Turn a recorded path into the argument of ``load_model``.

    Args:
        path: A folder, relative to the study or not, or a hub id.
        study: The study's folder.

    Returns:
        The folder if it exists, else the unchanged path, which is a hub id.

    Raises:
        InputError: If it is neither a folder nor a hub id.
    """
    local = study / path
    if local.is_dir():
        return str(local)
    name = str(path)
    if not Path(name).is_dir():
        _check_hub_id(name, [study, Path()])
    return name


def _check_hub_id(name: str, places: Sequence[Path]) -> None:
    """Refuse names that cannot be hub ids, and paths of missing folders.

    Args:
        name: A name that is not a folder.
        places: Folders that the name may be relative to.

    Raises:
        InputError: If the name is not a hub id.
    """
    near = [place / name for place in places]
    if any(path.exists() for path in near):
        raise InputError(f"checkpoint {name}: is a file; give the folder of a checkpoint")
    is_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name)
    if not is_id or ("/" in name and any(path.parent.is_dir() for path in near)):
        raise InputError(f"checkpoint {name}: no such folder; check the path")


def checkpoint_files(path: str | Path) -> list[Path]:
    """List the files of a checkpoint: its safetensors, then its ``config.json``.

    Args:
        path: A checkpoint folder or a hub id (which is downloaded unless it is in the hub's cache).

    Raises:
        InputError: If it does not exist, or has no safetensors.
    """
    folder = Path(locate_checkpoint(path))
    if not folder.is_dir():
        folder = _download(str(path))
    weights, config = sorted(folder.glob("*.safetensors")), folder / "config.json"
    if not weights:
        raise InputError(
            f"checkpoint {path}: has no .safetensors file, and other formats may run code when "
            "they are read; convert it (load it once and save_pretrained), or choose another"
        )
    if not config.is_file():
        raise InputError(f"checkpoint {path}: has no config.json; give a whole model folder")
    return [*weights, config]


def checkpoint_sha256(path: str | Path) -> str:
    """SHA-256 over the files of a checkpoint: weights and configuration, by name and content."""
    files = checkpoint_files(path)

    def compute() -> str:
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as handle:
                while block := handle.read(1 << 24):
                    digest.update(block)
        return digest.hexdigest()

    names = " ".join(file.name for file in files)
    return remembered_digest(f"checkpoint {names}", files, compute)


def check_finite(path: str | Path, place: str) -> None:
    """Refuse a checkpoint with weights that are NaN or infinite; read once per state of its files.

    Args:
        path: A checkpoint folder or a hub id.
        place: Start of the message.

    Raises:
        InputError: Names the first such tensor, or a file that cannot be read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    def is_finite(tensor: torch.Tensor) -> bool:
        # A sum takes a quarter of the time: 1.1 instead of 4.2 CPU s per GB of bfloat16.
        if tensor.element_size() > 1 and torch.isfinite(tensor.sum(dtype=torch.float32)):
            return True
        return bool(torch.isfinite(tensor.float()).all())

    def find_broken() -> str:
        for file in files:
            try:
                with safe_open(file, framework="pt") as tensors:
                    for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                        tensor = tensors.get_tensor(name)
                        if tensor.is_floating_point() and not is_finite(tensor):
                            return f"{name} in {file.name}"
            except SafetensorError as error:
                raise InputError(
                    f"{place}: {file.name} is not a safetensors file, or is cut off ({error}); get "
                    "the checkpoint again"
                ) from error
        return ""

    *files, _ = checkpoint_files(path)
    names = " ".join(file.name for file in files)
    broken = remembered_digest(f"finite {names}", files, find_broken)
    if broken:
        raise InputError(
            f"{place}: the tensor {broken} has values that are NaN or infinite, so the model gives "
            "no loss; get the checkpoint again, or choose another"
        )


def embedded_ids(path: str | Path) -> int | None:
    """Number of ids that a checkpoint's embedding knows, None if its config.json does not say."""
    config = json.loads(checkpoint_files(path)[-1].read_text(encoding="utf-8"))
    size = {**config, **config.get("text_config", {})}.get("vocab_size")
    return size if isinstance(size, int) else None


def check_ids(largest: int, known: int, place: str) -> None:
    """Refuse text with ids that a model has no embedding for.

    Args:
        largest: The largest id of the text.
        known: Number of ids that the model knows.
        place: Start of the message.

    Raises:
        InputError: If an id is not known.
    """
    if largest >= known:
        raise InputError(
            f"{place}: the prepared text has the id {largest}, and the model knows ids below "
            f"{known}; prepare the text with the model's own tokenizer"
        )


def _download(name: str) -> Path:
    """The folder of a checkpoint in the hub's cache; what is not there whole is downloaded.

    The hub is not asked about a checkpoint that is there: a node behind a firewall waits for more
    than 200 s for an answer, and a grid must not change its base when the hub does.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    fetch = partial(snapshot_download, name, allow_patterns=["*.safetensors", "*.json"])
    try:
        with suppress(LocalEntryNotFoundError):
            folder = Path(fetch(local_files_only=True))
            if _is_whole(folder):
                return folder
        return Path(fetch())
    except Exception as error:  # errors of the hub, of the connection or of the cache
        raise InputError(
            f"checkpoint {name}: no such folder, and the hub cannot provide it "
            f"({' '.join(str(error).split())[:200]}); check the name, or call `hf download {name}` "
            "where there is a network, with HF_HOME in a folder that this machine sees"
        ) from error


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot has its configuration and all of its weights."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        names = set(index["weight_map"].values())
    except FileNotFoundError:
        names = {"model.safetensors"}
    return all((folder / name).exists() for name in ("config.json", *names))
