"""The tokenizers of a study's bases: one that differs is refused before any text is encoded."""

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
"""Documents of each channel, and characters of each, on which tokenizers are compared."""


@dataclass(frozen=True)
class StudyBase:
    """A model that is going to be trained on the text, and so has to share its tokenizer.

    Attributes:
        place: Names it in an error, such as ``bases.checkpoints.small``.
        folder: The model's folder.
        written: Its path as the study names it.
    """

    place: str
    folder: Path
    written: str


def check_bases(bases: Sequence[StudyBase], tokenizer: Path, texts: Iterable[str] = ()) -> None:
    """Refuse bases whose own tokenizers give other ids than the text has.

    Args:
        bases: The bases; one without a ``tokenizer.json`` passes.
        tokenizer: Folder of the tokenizer that the text is prepared with.
        texts: Texts on which they have to agree.

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
            "bases.checkpoints: all bases of a study need one tokenizer; move those with another "
            "into a study of their own"
        )
    if problems:
        raise InputError(problems)


def sample_documents(channels: Sequence[Channel]) -> list[str]:
    """The beginnings of the first documents of each channel; the hub's are not fetched for it."""
    return [
        document.text[:SAMPLE_CHARACTERS]
        for channel in channels
        if channel.train.kind != "hub"
        for document in islice(read_all(channel.asked, channel.train), SAMPLE_DOCUMENTS)
    ]
