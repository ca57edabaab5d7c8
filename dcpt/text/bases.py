"""Check that the tokenizers of a study's bases agree, before any text is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dcpt.errors import InputError
from dcpt.text.sources import Channel, read_all
from dcpt.text.tokenizer import check_same_tokenizer

SAMPLE_DOCUMENTS = 4
SAMPLE_CHARACTERS = 20_000
"""Number of documents of each channel, and of characters of each, to compare tokenizers on."""


@dataclass(frozen=True)
class StudyBase:
    """A model that will be trained on the text, so it must have the text's tokenizer.

    Attributes:
        place: Its place in the study for errors, such as ``bases.checkpoints.small``.
        folder: The model's folder.
        written: Its path as written in the study.
    """

    place: str
    folder: Path
    written: str


def check_bases(bases: Sequence[StudyBase], tokenizer: Path, texts: Iterable[str] = ()) -> None:
    """Refuse bases whose tokenizers give other ids than the prepared text has.

    Args:
        bases: The bases; one without a ``tokenizer.json`` passes.
        tokenizer: Folder of the tokenizer that the text is prepared with.
        texts: Texts on which the tokenizers must agree.

    Raises:
        InputError: Names every such base.
    """
    problems, texts = [], list(texts)
    for base in bases:
        try:
            check_same_tokenizer(base.folder, tokenizer, base.place, base.written, texts)
        except InputError as error:
            problems += error.problems
    if problems and sum((base.folder / "tokenizer.json").is_file() for base in bases) > 1:
        problems.append(
            "bases.checkpoints: all bases of a study need one tokenizer; move bases with another "
            "tokenizer to a study of their own"
        )
    if problems:
        raise InputError(problems)


def sample_documents(channels: Sequence[Channel]) -> list[str]:
    """The beginnings of the first documents of each channel of texts that is not on the hub."""
    return [
        document.text[:SAMPLE_CHARACTERS]
        for channel in channels
        for source, _ in channel.parts[:1]
        if source.kind != "hub" and channel.asked.chat_field is None and not source.token_files
        for document in islice(read_all(channel.asked, source), SAMPLE_DOCUMENTS)
    ]
