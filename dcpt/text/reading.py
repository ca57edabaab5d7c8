"""Read documents from files: JSON Lines, parquet, text files, Hugging Face datasets.

A *source* is written in a study as a file, a folder, a pattern such as ``law/*.jsonl``,
a dataset folder saved by ``datasets``, or ``hf:owner/name[:config][@revision][#split]``.
"""

from __future__ import annotations

import glob
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict

from dcpt.errors import InputError
from dcpt.file_hashes import hash_file

MOST_PROBLEMS = 20
"""Invalid lines of a file that an error lists; the others are counted."""

_KINDS = {
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json lines",
    ".txt": "text",
    ".parquet": "parquet",
}
_COMPRESSED = (".gz", ".xz", ".zst")
_READABLE = (
    ".jsonl, .ndjson, .json (one object per line), .txt (all three also .gz, .xz, .zst), .parquet"
)
_HUB = re.compile(r"hf:([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?(?:@([\w./-]+))?(?:#([\w.-]+))?")


class Document(NamedTuple):
    """A text and the position of its reader.

    Attributes:
        text: The document.
        position: Bytes of the source's files read so far, for progress.
    """

    text: str
    position: int


class InputFile(BaseModel):
    """State of a file when it was read; the modification time only avoids hashing it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """The files of a source.

    Attributes:
        written: The source as written in the study.
        kind: ``files``, ``dataset`` (a folder saved by ``datasets``) or ``hub``.
        files: The files in reading order; empty for the hub.
        left_out: Files of a folder that are not in a readable format.
    """

    written: str
    kind: str
    files: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files; 0 for the hub, where it is unknown."""
        return sum(path.stat().st_size for path in self.files)


def find_source(written: str, place: str) -> Source:
    """Find the files of a source.

    Args:
        written: The source as written in the study.
        place: The channel, for errors.

    Raises:
        InputError: If no file exists, or none that can be read.
    """
    if written.startswith("hf:"):
        if _HUB.fullmatch(written) is None:
            raise InputError(
                f"{place}: {written!r} is not a hub dataset; write "
                "hf:owner/name, or hf:owner/name:config@revision#split"
            )
        return Source(written, "hub", ())
    path = Path(written).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            return Source(written, "dataset", tuple(found))
        files = tuple(p for p in found if _kind(p))
        left_out = tuple(p for p in found if not _kind(p))
    elif path.is_file():
        files, left_out = (path,), ()
    else:
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        files, left_out = tuple(p for p in matches if p.is_file()), ()
        if not files:
            raise InputError(f"{place}: no file at {written}; check the path")
    unreadable = [str(p) for p in files if not _kind(p)]
    if unreadable or not files:
        what = f"{', '.join(unreadable[:3])} cannot be read" if unreadable else "no text inside"
        raise InputError(f"{place}: {written}: {what}; readable are {_READABLE}")
    return Source(written, "files", files, left_out)


def check_is_text(source: Source, ours: Sequence[Path], place: str) -> None:
    """Refuse a source that contains files or folders of dcpt's output; links are followed.

    Args:
        source: The source.
        ours: Files and folders that dcpt writes; they need not exist.
        place: The channel, for errors.

    Raises:
        InputError: If one of them is in the source, or a file of the source is in one of them.
    """
    if source.kind == "hub":
        return
    real_ours = [(own, own.resolve()) for own in ours]
    written = Path(source.written).expanduser()
    whole = written.resolve() if written.is_dir() else None
    folders: dict[Path, Path] = {}  # cached, since resolving a path is slow
    for path in source.files:
        if path.parent not in folders:
            folders[path.parent] = path.parent.resolve()
        folder = folders[path.parent]
        real = path.resolve() if path.is_symlink() else folder / path.name
        for own, real_own in real_ours:
            if real.is_relative_to(real_own):
                raise InputError(
                    f"{place}: {source.written}: {path} lies in {own}, which dcpt writes to; keep "
                    "the text in another folder"
                )
    for own, real_own in real_ours:
        if whole is not None and real_own.is_relative_to(whole):
            raise InputError(
                f"{place}: {source.written}: this folder contains {own}, which dcpt writes to; "
                "keep the text in a folder of its own"
            )


def identify(path: Path, known: InputFile | None = None) -> InputFile:
    """Hash a file, unless its size and modification time equal those of ``known``."""
    stat = path.stat()
    if known and (stat.st_size, stat.st_mtime_ns) == (known.size, known.mtime_ns):
        return known
    return InputFile(
        path=str(path), size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=hash_file(path)
    )


def read_documents(source: Source, text_field: str) -> Iterator[Document]:
    """Read the documents of a source in a fixed order.

    Args:
        source: The source.
        text_field: Field or column of the text; not used for ``.txt`` files, each of which is a
            single document.

    Raises:
        InputError: If a file is damaged, not UTF-8, or lacks the field; names file and line.
    """
    if source.kind == "hub":
        yield from _read_hub(source.written, text_field)
    elif source.kind == "dataset":
        yield from _read_dataset(source, text_field)
    else:
        start = 0
        for path in source.files:
            for document in _read_file(path, text_field):
                yield Document(document.text, start + document.position)
            start += path.stat().st_size


def _kind(path: Path) -> str | None:
    compressed = path.suffix in _COMPRESSED
    kind = _KINDS.get(Path(path.stem).suffix if compressed else path.suffix)
    return None if compressed and kind == "parquet" else kind


def _read_file(path: Path, text_field: str) -> Iterator[Document]:
    kind = _kind(path)
    try:
        if kind == "parquet":
            yield from _read_parquet(path, text_field)
        else:
            with path.open("rb") as raw, _decompress(raw, path.suffix) as stream:
                if kind == "text":
                    yield Document(_decode(stream.read(), str(path)), raw.tell())
                else:
                    yield from _read_json_lines(path, raw, stream, text_field)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: broken or cut off ({error}); fetch the file again") from error
    except OSError as error:
        # A file that cannot be opened has an errno; a damaged .zst is an OSError without errno.
        if error.errno is not None:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        raise InputError(f"{path}: broken or cut off ({error}); fetch the file again") from error


def _decompress(raw: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".zst":
        # pyarrow's reader raises an error if a file is cut off; zstandard's does not.
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))
    return raw


def _decode(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{place}: line {line}, byte {error.start}: not UTF-8 "
            f"(0x{data[error.start]:02x}); convert the file to UTF-8"
        ) from error


def _read_json_lines(
    path: Path, raw: IO[bytes], stream: IO[bytes], text_field: str
) -> Iterator[Document]:
    problems: list[str] = []
    for number, line in enumerate(stream, 1):
        if line.isspace():
            continue
        text, problem = _text_of_line(line, text_field)
        if problem:
            problems.append(f"{path}: line {number}: {problem}")
        if problem is None and not problems:
            yield Document(text, raw.tell())
    if problems:
        more = len(problems) - MOST_PROBLEMS
        rest = [f"{path}: {more} more lines like these"] if more > 0 else []
        raise InputError(problems[:MOST_PROBLEMS] + rest)


def _text_of_line(line: bytes, text_field: str) -> tuple[str, str | None]:
    """The text in a line of JSON, or the problem of the line."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return "", (
            f"not UTF-8 at byte {error.start} of the line (0x{line[error.start]:02x}); "
            "convert the file to UTF-8"
        )
    except json.JSONDecodeError as error:
        return "", f"not JSON ({error.msg} at character {error.pos}); write one object per line"
    if not isinstance(record, dict):
        return "", f"a {type(record).__name__}, not an object; write one object per line"
    if text_field not in record:
        return "", _no_field(text_field, record)
    text = record[text_field]
    if not isinstance(text, str):
        return "", f"{text_field!r} holds {text!r:.40}, not text; give it text or drop the line"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "", f"{text_field!r} holds half of a surrogate pair; write the whole character"
    return text, None


def _no_field(text_field: str, fields: Iterable[Any]) -> str:
    there = ", ".join(repr(str(field)) for field in fields) or "none"
    return f"no field {text_field!r} (fields there: {there}); set text_field to one of these"


def _read_parquet(path: Path, text_field: str) -> Iterator[Document]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        if text_field not in table.schema_arrow.names:
            raise InputError(f"{path}: {_no_field(text_field, table.schema_arrow.names)}")
        size, rows, row = path.stat().st_size, table.metadata.num_rows, 0
        for batch in table.iter_batches(batch_size=1024, columns=[text_field]):
            for text in batch.column(0).to_pylist():
                row += 1
                if not isinstance(text, str):
                    raise InputError(
                        f"{path}: row {row}: {text_field!r} holds {text!r:.40}, not text; "
                        "give it text or drop the row"
                    )
                yield Document(text, size * row // rows)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: a text after row {row} is not UTF-8; convert the file to UTF-8"
        ) from error
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a parquet file, or cut off ({error})") from error


def _read_dataset(source: Source, text_field: str) -> Iterator[Document]:
    import datasets

    folder = Path(source.written).expanduser()
    loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, datasets.DatasetDict):
        if "train" not in loaded:
            raise InputError(
                f"{folder}: no split 'train' (splits there: {', '.join(loaded)}); "
                "name the folder of one split"
            )
        loaded = loaded["train"]
    if text_field not in loaded.column_names:
        raise InputError(f"{folder}: {_no_field(text_field, loaded.column_names)}")
    size, rows = source.size, max(len(loaded), 1)
    texts = loaded.select_columns([text_field])
    yield from _texts_of_rows(texts, text_field, str(folder), size / rows)


def _read_hub(written: str, text_field: str) -> Iterator[Document]:
    import datasets

    match = _HUB.fullmatch(written)
    assert match is not None  # find_source checked it
    name, config, revision, split = match.groups()
    try:
        # Streamed: a channel with max_tokens downloads only the part of a dataset that it reads.
        rows = datasets.load_dataset(
            name, config, split=split or "train", revision=revision, streaming=True
        )
        yield from _texts_of_rows(rows, text_field, written, 0.0)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{written}: cannot be loaded from the hub ({str(error).splitlines()[0]:.200}); check "
            "name and network, or give a local folder"
        ) from error


def _texts_of_rows(
    rows: Iterable[dict[str, Any]], text_field: str, place: str, bytes_per_row: float
) -> Iterator[Document]:
    for number, row in enumerate(rows, 1):
        if text_field not in row:
            raise InputError(f"{place}: row {number}: {_no_field(text_field, row)}")
        if not isinstance(row[text_field], str):
            raise InputError(
                f"{place}: row {number}: {text_field!r} holds {row[text_field]!r:.40}, not text; "
                "give it text or drop the row"
            )
        yield Document(row[text_field], int(number * bytes_per_row))
