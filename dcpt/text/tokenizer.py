"""Tokenizers: trained on the study's text, read from their folder, compared with each other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from dcpt.atomic_files import write_text
from dcpt.errors import InputError
from dcpt.file_hashes import hash_file

END_OF_TEXT = "<|endoftext|>"
"""Joins documents; the end-of-sequence token of tokenizers trained here."""

SMALLEST_VOCABULARY = 257
"""All bytes and the end of text."""

PROBES = (
    "The court held, in 1987, that\n\tf(x) = x² + 3;  naïve 中文 — 12,345 tokens don't\n\n",
    "I'll say they've won; she'd SAY IT'S WE'RE ’tis l’été",
    "1 12 123 1234 12345678 3.14159e-10 0x1F ١٢٣ Ⅷ ½",
    "def f(a: int) -> str:\n    if a != 0:\n\t\treturn f'{a:>8}'  # note\n\n\n\r\n}",
    " " * 2 + "a" + " " * 17 + "b" + "\t" * 5 + "c \n \n  d" + " " * 64 + "\n",
    "漢字かなカナ한국어。、「」 ไทย हिन्दी العربية עברית",
    "e\u0301 o\u0308\u0323 ﬁ Å Å a\u200db \u00a0 \u3000 \ufeff",
    "🙂👩‍👩‍👧‍👦🇩🇪👍🏽 ∑∀∂ ←→ ™",
)
"""Texts on which two tokenizers of equal vocabularies must agree as well, since their merges and
the way they split words may differ: contractions, digits, code, runs of white space, scripts,
combining characters, emoji."""

SAMPLE_BYTES = 16_000_000
"""Text of each channel that a tokenizer is trained on, at most; alike for all channels, so that a
small domain is not drowned by a large general channel."""


@dataclass(frozen=True)
class Vocabulary:
    """What the shards need to know of a tokenizer.

    Attributes:
        path: Its ``tokenizer.json``.
        sha256: Hash of that file.
        eos_id: Id that ends each document.
        size: Largest id + 1.
        bos_id: Id that starts each document; None if none does.
        special_tokens: Texts of the special tokens, which the text may spell out.
        reads_special_tokens: Whether a special token in a text is read as the token (in chats), not
            as the characters that it is.
    """

    path: Path
    sha256: str
    eos_id: int
    size: int
    bos_id: int | None = None
    special_tokens: tuple[str, ...] = ()
    reads_special_tokens: bool = False

    def load(self) -> Tokenizer:
        """Load it for encoding."""
        tokenizer = load_tokenizer(self.path)
        tokenizer.encode_special_tokens = not self.reads_special_tokens
        return tokenizer


@lru_cache(maxsize=2)
def load_once(vocabulary: Vocabulary) -> Tokenizer:
    """Load a vocabulary's tokenizer; a process that works on many batches loads it once."""
    return vocabulary.load()


def shard_dtype(vocabulary_size: int) -> np.dtype[np.unsignedinteger]:
    """Choose the smallest unsigned type of a shard: uint16 where all ids fit, else uint32.

    Raises:
        InputError: If ids do not fit uint32.
    """
    for dtype in (np.uint16, np.uint32):
        if vocabulary_size - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise InputError(
        f"the tokenizer's largest id is {vocabulary_size - 1}; shards hold ids up to "
        f"{np.iinfo(np.uint32).max}; choose a tokenizer with smaller ids"
    )


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, folder: Path) -> None:
    """Train a byte-level BPE and save it as a folder that ``AutoTokenizer`` loads.

    The same texts in the same order give the same file. A short text may yield fewer tokens than
    asked for.

    Args:
        texts: What to learn from.
        vocabulary_size: Tokens in all, bytes and the end of text included.
        folder: Existing folder to write ``tokenizer.json`` and ``tokenizer_config.json`` into.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")


def read_vocabulary(folder: Path, add_bos: bool | None = None) -> Vocabulary:
    """Read what the shards need to know out of a tokenizer folder.

    Args:
        folder: The folder.
        add_bos: Whether documents start with the beginning-of-sequence token; None does what the
            tokenizer does by itself.

    Raises:
        InputError: If the folder holds no tokenizer, its end-of-sequence token has no id, or there
            is no beginning-of-sequence token to add.
    """
    path = folder / "tokenizer.json"
    try:
        digest = hash_file(path)
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: holds no readable tokenizer ({error}); prepare again"
        ) from error
    tokenizer = load_tokenizer(path)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    eos = _content(config.get("eos_token"))
    if eos not in ids:
        raise InputError(f"{folder}: the end-of-sequence token {eos!r} has no id in {path.name}")
    added = tokenizer.get_added_tokens_decoder().values()
    special = tuple(sorted(token.content for token in added if token.special))
    bos_id = _find_bos(tokenizer, config, ids, add_bos, folder)
    return Vocabulary(path, digest, ids[eos], max(ids.values()) + 1, bos_id, special)


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _find_bos(
    tokenizer: Tokenizer,
    config: dict[str, Any],
    ids: dict[str, int],
    add_bos: bool | None,
    folder: Path,
) -> int | None:
    """The id that the tokenizer puts before a text, or that it is asked to put there."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    first = whole[0] if whole[:1] != plain[:1] else None
    own = config.get("add_bos_token")
    if not (add_bos if add_bos is not None else own if own is not None else first is not None):
        return None
    named = ids.get(_content(config.get("bos_token")))
    if first is None and named is None:
        raise InputError(
            f"{folder}: the tokenizer names no bos_token, so none can be added; remove add_bos"
        )
    return named if first is None else first


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a ``tokenizer.json`` for plain text: no truncation, no padding, no special tokens.

    A text that spells out a special token, such as ``<|endoftext|>``, is encoded as the
    characters that it is.

    Raises:
        InputError: If the file holds no tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise InputError(
            f"{path}: no tokenizer can be read from it ({error!s:.200}); put the original file back"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def find_difference(first: Path, second: Path, texts: Iterable[str] = ()) -> str | None:
    """Compare what two ``tokenizer.json`` files encode.

    Args:
        first: A tokenizer; it may know more ids than the other.
        second: The other.
        texts: Texts on which they have to agree, besides ``PROBES``.

    Returns:
        What the first does and the second, that of the prepared text, does not, as the end of a
        sentence; None if they agree.

    Raises:
        InputError: If a file holds no tokenizer.
    """
    if first.read_bytes() == second.read_bytes():
        return None
    tokenizer, other = load_tokenizer(first), load_tokenizer(second)
    known = tokenizer.get_vocab(with_added_tokens=True)
    for token, number in other.get_vocab(with_added_tokens=True).items():
        if known.get(token) != number:
            return (
                f"gives the token {token!r} the id {known.get(token)}, and the prepared text has "
                f"{number} for it"
            )
    for text in (*PROBES, *texts):
        if _encode(tokenizer, text) != _encode(other, text):
            return f"splits words differently from that of the prepared text, as in {text[:40]!r}"
    return None


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def check_same_tokenizer(
    model: Path, prepared: Path, place: str, written: str, texts: Iterable[str] = ()
) -> None:
    """Refuse a model whose own tokenizer gives text other ids than the prepared text has.

    A model that knows more ids passes, and so does a model without a ``tokenizer.json``: nothing
    is known of its tokenizer.

    Args:
        model: The model's folder.
        prepared: Folder of the tokenizer that the text is prepared with.
        place: Begins the message.
        written: The model's path as a person writes it in the study.
        texts: Texts on which the two have to agree, besides ``PROBES``.

    Raises:
        InputError: If a token has another id, or the two split a text differently.
    """
    if not (model / "tokenizer.json").is_file():
        return
    difference = find_difference(model / "tokenizer.json", prepared / "tokenizer.json", texts)
    if difference is not None:
        raise InputError(
            f"{place}: its tokenizer {difference}; write `tokenizer: {written}` in the study and "
            "run `dcpt prepare`"
        )
