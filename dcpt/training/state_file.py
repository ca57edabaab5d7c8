"""A saved state on disk: a safetensors file that is written tensor by tensor."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dcpt.atomic_files import PARTIAL, DamagedFileError
from dcpt.file_hashes import remembered_digest

REMEDY = "`dcpt run-grid` sets it aside and resumes from the state before it"
"""End of the message about a damaged state."""

ALIGNMENT = 8
"""The content of a safetensors file begins at a multiple of so many bytes."""

_PARTIAL_STATE = re.compile(r".+\.safetensors" + PARTIAL.pattern)
"""Name of a state that is being written."""

DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of dtypes in a safetensors file."""


def write_state_file(
    path: Path,
    about: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    fetch: Callable[[Tensor], Tensor],
) -> None:
    """Write a state with the hash of its content.

    The tensors are fetched and written in turn, so that the host holds a single tensor at a time;
    the library's ``save_file`` needs all of them.

    Args:
        path: The file.
        about: Its metadata: step, identity and seconds.
        tensors: Tensors by name, anywhere.
        fetch: Brings a tensor to the CPU, whole and contiguous.
    """
    header, begins = _header({**about, "sha256": "0" * 64}, tensors)
    digest = _start_digest(about)
    with path.open("wb") as file:
        file.write(header)
        for name in sorted(tensors):
            content = _add_tensor(digest, name, fetch(tensors[name]))
            file.seek(begins[name])
            file.write(content)
        file.seek(0)
        file.write(_header({**about, "sha256": digest.hexdigest()}, tensors)[0])


def delete_partial_states(folder: Path) -> None:
    """Delete what killed processes wrote of a state; the caller holds the run's lock.

    A state of a 7B model takes 90 GB, and every killed save would leave as much.
    """
    for path in folder.iterdir():
        if _PARTIAL_STATE.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _header(
    metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> tuple[bytes, dict[str, int]]:
    """The header of a safetensors file, and where each tensor begins in the file.

    Wider dtypes come first, so that every tensor is aligned.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offsets, end = {}, 0
    for name in names:
        tensor, begin = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        offsets[name] = begin
        entries[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    described = json.dumps(entries, separators=(",", ":")).encode()
    described += b" " * (-len(described) % ALIGNMENT)
    header = len(described).to_bytes(8, "little") + described
    return header, {name: len(header) + begin for name, begin in offsets.items()}


@contextmanager
def open_state(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a state and its metadata.

    Raises:
        DamagedFileError: If it is not a complete safetensors file with the metadata of a state.
    """
    if path.is_dir():
        raise DamagedFileError(path, "it is a folder", REMEDY)
    try:
        opened = safe_open(path, framework="pt")
    except (SafetensorError, ValueError, PermissionError) as error:
        raise DamagedFileError(path, " ".join(str(error).split())[:200], REMEDY) from None
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        raise DamagedFileError(path, "it is a link that leads to no file", REMEDY) from None
    with opened as file:
        about = file.metadata() or {}
        try:
            int(about["step"]), float(about["wall_s"]), about["identity"]
        except (KeyError, ValueError):
            raise DamagedFileError(path, "it has no metadata of a state", REMEDY) from None
        yield file, about


def check_content(path: Path, file: Any, about: Mapping[str, str]) -> None:
    """Compare a state's content with its stored hash, once per machine for an unchanged file.

    Hashing reads 0.5 GB in 0.4 s. States of earlier versions have no hash.

    Raises:
        DamagedFileError: If they differ.
    """
    if "sha256" not in about:
        return

    def compute() -> str:
        digest = _start_digest(about)
        for name in sorted(file.keys()):
            _add_tensor(digest, name, file.get_tensor(name))
        return str(digest.hexdigest())

    if remembered_digest("state", [path], compute) != about["sha256"]:
        raise DamagedFileError(path, "its content is not what was written", REMEDY)


def _start_digest(about: Mapping[str, str]) -> Any:
    """SHA-256 over a state's metadata; the tensors follow in the order of their names."""
    digest = hashlib.sha256()
    for key in ("step", "identity", "wall_s"):
        digest.update(f"{key}\0{about[key]}\0".encode())
    return digest


def _add_tensor(digest: Any, name: str, tensor: Tensor) -> memoryview:
    """Add name, type, shape and bytes of a tensor to a digest; returns the bytes."""
    digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    content = tensor.reshape(-1).view(torch.uint8).numpy().data
    digest.update(content)
    return content
