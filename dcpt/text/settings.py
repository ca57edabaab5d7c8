"""The settings of a text as a study writes them, recorded with the text that was made by them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelSettings(_Settings):
    """What decides the text of one channel, with paths as they are written.

    Attributes:
        train: Training text, or all of it; None where the channel is measured only.
        valid: Validation text; None holds it out of ``train``.
        valid_fraction: Share of documents held out; None where ``valid`` is given.
        text_field: Field of the text; None where ``chat_field`` is given.
        chat_field: Field of the chats; None for other text.
        max_tokens: Cap on training tokens; None without.
        text_separator: What parts the documents of a ``.txt`` file; None takes a file as one.
    """

    train: str | None
    valid: str | None
    valid_fraction: float | None
    text_field: str | None
    chat_field: str | None
    max_tokens: int | None
    text_separator: str | None


class TextSettings(_Settings):
    """What decides the prepared text of a study.

    Attributes:
        channels: The settings of each channel.
        tokenizer: A folder or hub id, or the size of a vocabulary to train.
        add_bos: Whether documents start with the beginning-of-sequence token; None leaves it to the
            tokenizer.
        near_duplicates: Similarity of near-copies, or False; None takes the default.
    """

    channels: dict[str, ChannelSettings]
    tokenizer: str | int
    add_bos: bool | None
    near_duplicates: float | Literal[False] | None
