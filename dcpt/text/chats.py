"""Chats as text, by the chat template of the tokenizer.

The template writes special tokens around the messages. A message may spell out such a token as
well; there it is text, as in any other document, so it is written with guards until it is encoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dcpt.atomic_files import read_json
from dcpt.errors import InputError
from dcpt.text.record_text import Chat, Fault
from dcpt.text.tokenizer import Vocabulary

_GUARD = "\ufdd0"  # no character of Unicode, so no text has it
_GUARDED = re.compile(f"{_GUARD}(\\d+){_GUARD}")


def guard(text: str, tokens: Sequence[str]) -> str:
    """Replace the special tokens that a text spells out by their numbers between guards.

    Raises:
        ValueError: If the text has guards.
    """
    if _GUARD in text:
        raise ValueError("it holds U+FDD0, which is no character")
    spelled = [token for token in tokens if token in text]
    if not spelled:
        return text
    numbers = {token: tokens.index(token) for token in spelled}
    pattern = re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))))
    return pattern.sub(lambda found: f"{_GUARD}{numbers[found.group()]}{_GUARD}", text)


def unguard(text: str, tokens: Sequence[str]) -> str:
    """Write the special tokens between guards out again."""
    if _GUARD not in text:
        return text
    return _GUARDED.sub(lambda found: tokens[int(found.group(1))], text)


def has_guards(text: str) -> bool:
    """Whether messages spell out special tokens."""
    return _GUARD in text


def find_guarded(text: str, tokens: Sequence[str]) -> list[str]:
    """The special tokens that messages spell out."""
    return [tokens[int(number)] for number in _GUARDED.findall(text)]


def read_template(folder: Path) -> str:
    """What the files of a tokenizer say of its chat template; empty if they say nothing."""
    file = folder / "chat_template.jinja"
    config = read_json(folder / "tokenizer_config.json", "restore the original file") or {}
    in_config = config.get("chat_template") if isinstance(config, dict) else None
    in_file = file.read_text(encoding="utf-8") if file.is_file() else None
    return "" if in_config is None and in_file is None else json.dumps([in_config, in_file])


def load_renderer(vocabulary: Vocabulary, place: str) -> Callable[[Chat], str | Fault]:
    """Load the chat template of a tokenizer.

    Args:
        vocabulary: The tokenizer.
        place: Whose chats they are, for the error.

    Returns:
        Writes a chat as text, with guards, or says what is wrong with it.

    Raises:
        InputError: If the tokenizer has no chat template.
    """
    folder = vocabulary.path.parent
    if not read_template(folder):
        raise InputError(
            f"{place}: chat_field is set, but the tokenizer has no chat template; add "
            "chat_template.jinja to its folder, or write the chats as texts"
        )
    from transformers import PreTrainedTokenizerFast  # takes seconds to import

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    eos = tokenizer.convert_ids_to_tokens(vocabulary.eos_id)
    bos = None if vocabulary.bos_id is None else tokenizer.convert_ids_to_tokens(vocabulary.bos_id)

    def render(chat: Chat) -> str | Fault:
        for message in chat:
            if not isinstance(message.get("role"), str) or "content" not in message:
                fields = ", ".join(map(repr, message)) or "none"
                return Fault(
                    "message",
                    f"a message has the fields {fields}; write role and content",
                )
        try:
            guarded = _guard_all(chat, vocabulary.special_tokens)
            text = tokenizer.apply_chat_template(guarded, tokenize=False)
        except Exception as error:  # a template raises whatever it likes
            return Fault(
                "template",
                f"the tokenizer's chat template refuses the chat ({error!s:.200}); correct the "
                "chat, or the template",
            )
        assert isinstance(text, str)
        return _without_marks(text, bos, eos)

    return render


def _guard_all(value: Any, tokens: Sequence[str]) -> Any:
    if isinstance(value, str):
        return guard(value, tokens)
    if isinstance(value, Mapping):
        return {name: _guard_all(inner, tokens) for name, inner in value.items()}
    return [_guard_all(inner, tokens) for inner in value] if isinstance(value, list) else value


def _without_marks(text: str, bos: str | None, eos: str) -> str | Fault:
    """The text without the BOS and EOS tokens around it, which every document of a shard has."""
    if bos is not None:
        text = text.removeprefix(bos)
    if text.rstrip().endswith(eos):
        text = text.rstrip().removesuffix(eos)
    if eos in text:
        return Fault(
            "end of sequence",
            f"the chat template writes {eos} between messages, and this token ends documents; set "
            "eos_token to another token in a copy of the tokenizer's folder",
        )
    return text
