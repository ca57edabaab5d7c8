"""Documents out of files: JSON Lines, parquet, text files, Hugging Face datasets.

A *source* is what a person writes in a study: a file, a folder, a pattern such as ``law/*.jsonl``,
a dataset folder saved by ``datasets``, or ``hf:owner/name[:config][@revision][#split]``.
"""

from __future__ import annotations

import glob
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from dcpt.errors import InputError
from dcpt.text.documents import Document
from dcpt.text.json_files import Found, as_found, read_json, read_json_lines, without_faults
from dcpt.text.record_text import Chat, Fault, Field
from dcpt.text.text_files import read_text_file
from dcpt.text.token_files import companions, is_companion, read_token_file
from dcpt.text.tokenizer import Vocabulary

_KINDS = {
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json",
    ".txt": "text",
    ".parquet": "parquet",
    ".bin": "tokens",
    ".ds": "tokens",
}
_COMPRESSED = (".gz", ".xz", ".zst")
_READABLE = (
    ".jsonl and .ndjson (one object a line), .json (one object a line, or one array of objects), "
    ".txt (all four also .gz, .xz, .zst), .parquet, .bin with its .idx (Megatron), .ds with its "
    ".ds.index (datatrove)"
)
_HUB = re.compile(r"hf:([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?(?:@([\w./-]+))?(?:#([\w.-]+))?")


@dataclass(frozen=True)
class Source:
    """A source that was found.

    Attributes:
        written: As a person wrote it.
        kind: ``files``, ``dataset`` (a folder saved by ``datasets``) or ``hub``.
        files: The files in reading order; none for the hub.
        left_out: Files of a folder that hold no text that can be read here.
    """

    written: str
    kind: str
    files: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all its files; 0 for the hub, where it is not known."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def token_files(self) -> list[Path]:
        """Files of token ids, which need the tokenizer that wrote them."""
        return [path for path in self.files if self.kind == "files" and _kind(path) == "tokens"]


def find_source(written: str, place: str) -> Source:
    """Find the files of a source.

    Args:
        written: The source as a person wrote it.
        place: Whose it is, for the error.

    Raises:
        InputError: If nothing is there, or nothing that can be read.
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
        files = tuple(p for p in found if _is_readable(p))
        left_out = tuple(p for p in found if not _is_readable(p))
    elif path.is_file():
        files, left_out = (path, *companions(path)), ()
    elif (ids := path.with_name(f"{path.name}.bin")).is_file():  # Megatron's options name it so
        files, left_out = (ids, *companions(ids)), ()
    else:
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        named = [p for p in matches if p.is_file()]
        files, left_out = tuple(sorted({*named, *chain(*map(companions, named))})), ()
        if not files:
            raise InputError(f"{place}: no file at {written}; check the path")
    for name in map(str, files):
        if not name.isprintable() or name.encode(errors="replace").decode() != name:
            raise InputError(
                f"{place}: {written}: the name of the file {name!r} is not plain UTF-8 text; "
                "rename it"
            )
    unreadable = [str(p) for p in files if not _kind(p)]
    if unreadable or not files:
        what = f"{', '.join(unreadable[:3])} cannot be read" if unreadable else "no text inside"
        raise InputError(f"{place}: {written}: {what}; readable are {_READABLE}")
    return Source(written, "files", files, left_out)


def check_is_text(source: Source, ours: Sequence[Path], place: str) -> None:
    """Refuse a source that takes in files or folders that dcpt writes; links are followed.

    Args:
        source: What ``find_source`` found.
        ours: These files and folders; they need not exist.
        place: Whose source it is, for the error.

    Raises:
        InputError: If one of them is in the source, or a file of the source is in one of them.
    """
    if source.kind == "hub":
        return
    real_ours = [(own, own.resolve()) for own in ours]
    written = Path(source.written).expanduser()
    whole = written.resolve() if written.is_dir() else None
    folders: dict[Path, Path] = {}  # resolving a folder takes longer than a look-up
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
                f"{place}: {source.written}: this folder holds {own}, which dcpt writes to; keep "
                "the text in a folder of its own"
            )


def read_documents(
    source: Source,
    text_field: str,
    text_separator: str | None = None,
    render: Callable[[Chat], str | Fault] | None = None,
    vocabulary: Vocabulary | None = None,
) -> Iterator[Document]:
    """Read the documents of a source in a fixed order, long ones in pieces.

    Args:
        source: What ``find_source`` found.
        text_field: Field or column that holds the text, or a path such as ``doc.text``; not used
            for ``.txt`` files.
        text_separator: What parts the documents of a ``.txt`` file; None takes a file as one
            document.
        render: Writes the chats in ``text_field`` as texts; None if it holds texts.
        vocabulary: The tokenizer that wrote files of token ids; None if there are none.

    Raises:
        InputError: If files are broken, not UTF-8, or lack the field; a line per file and kind of
            problem, with the first place and the count.
    """
    field = Field(text_field, render)
    if source.kind == "hub":
        yield from _read_hub(source.written, field)
        return
    if source.kind == "dataset":
        yield from _read_dataset(source, field)
        return
    start, problems = 0, list[str]()
    for path in source.files:
        try:
            for document in _read_file(path, field, text_separator, vocabulary):
                if not problems:
                    yield document._replace(position=start + document.position)
        except InputError as error:
            problems += error.problems
        start += path.stat().st_size
    if problems:
        raise InputError(problems)


def _is_readable(path: Path) -> bool:
    """Whether a file of a folder is read: other tools also write .bin files without an index."""
    return _kind(path) is not None and (path.suffix != ".bin" or bool(companions(path)))


def _kind(path: Path) -> str | None:
    if is_companion(path):
        return "companion"
    compressed = path.suffix in _COMPRESSED
    kind = _KINDS.get(Path(path.stem).suffix if compressed else path.suffix)
    return None if compressed and kind in ("parquet", "tokens") else kind


def _read_file(
    path: Path, field: Field, text_separator: str | None, vocabulary: Vocabulary | None
) -> Iterator[Document]:
    kind = _kind(path)
    try:
        if kind == "companion":  # read with the file that it belongs to
            return
        if kind == "parquet":
            yield from _read_parquet(path, field)
        elif kind == "tokens":
            assert vocabulary is not None  # check_tokenizer_needs lets no others pass
            yield from read_token_file(path, vocabulary)
        else:
            with path.open("rb") as raw, _decompress(raw, path.suffix) as stream:
                if kind == "text":
                    yield from read_text_file(path, raw, stream, text_separator)
                elif kind == "json":
                    yield from read_json(path, raw, stream, field)
                else:
                    yield from read_json_lines(path, raw, stream, field)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: broken or cut off ({error}); fetch the file again") from error
    except OSError as error:
        # A file that cannot be opened has an errno; a broken .zst is an OSError without one.
        if error.errno is not None:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        raise InputError(f"{path}: broken or cut off ({error}); fetch the file again") from error


def _decompress(raw: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".zst":
        # pyarrow's reader says when a file is cut off; zstandard's ends without a word.
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))
    return raw


def _read_parquet(path: Path, field: Field) -> Iterator[Document]:
    import pyarrow
    from pyarrow import parquet

    row = 0

    def read_rows() -> Iterator[Found]:
        nonlocal row
        for batch in table.iter_batches(batch_size=1024, columns=[column]):
            for value in batch.column(0).to_pylist():
                row += 1
                text = field.text_of({column: value})
                yield as_found(f"{path}: row {row}", text, size * row // rows)

    try:
        table = parquet.ParquetFile(path)
        names = table.schema_arrow.names
        column = field.name if field.name in names else field.name.split(".")[0]
        if column not in names:
            missing = field.text_of(dict.fromkeys(names))
            assert isinstance(missing, Fault)
            raise InputError(f"{path}: {missing.words}")
        size, rows = path.stat().st_size, table.metadata.num_rows
        yield from without_faults(read_rows(), "row")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a text behind row {row} is not UTF-8; convert it") from error
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a parquet file, or cut off ({error})") from error


def _read_dataset(source: Source, field: Field) -> Iterator[Document]:
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
    size, rows = source.size, max(len(loaded), 1)
    column = field.name.split(".")[0]
    if field.name not in loaded.column_names and column in loaded.column_names:
        loaded = loaded.select_columns([column])
    elif field.name in loaded.column_names:
        loaded = loaded.select_columns([field.name])
    yield from _texts_of_rows(loaded, field, str(folder), size / rows)


def _read_hub(written: str, field: Field) -> Iterator[Document]:
    import datasets

    match = _HUB.fullmatch(written)
    assert match is not None  # find_source let it pass
    name, config, revision, split = match.groups()
    try:
        # Streamed: a channel that is capped in tokens fetches no more of a large set than it reads.
        rows = datasets.load_dataset(
            name, config, split=split or "train", revision=revision, streaming=True
        )
        yield from _texts_of_rows(rows, field, written, 0.0)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{written}: cannot be loaded from the hub ({str(error).splitlines()[0]:.200}); check "
            "name and network, or name a local folder"
        ) from error


def _texts_of_rows(
    rows: Iterable[dict[str, Any]], field: Field, place: str, bytes_per_row: float
) -> Iterator[Document]:
    def read_rows() -> Iterator[Found]:
        for number, row in enumerate(rows, 1):
            text = field.text_of(row)
            yield as_found(f"{place}: row {number}", text, int(number * bytes_per_row))
            if isinstance(text, Fault) and text.kind == "field":
                return  # a set of a billion rows is not read to count them

    yield from without_faults(read_rows(), "row")
