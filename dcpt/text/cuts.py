"""Where a long text can be cut so that its parts have the ids of the whole text.

A tokenizer splits added tokens off, normalizes, pre-tokenizes, and applies its model to each
pre-token. Two kinds of places are considered: before a space between two letters, and after a line
break before a letter. A kind is used if each of these holds:

1. All components of the tokenizer are of kinds whose result at a place depends on the text near it.
2. No token reaches across such a place: the pre-tokenizer splits there in 2,000 random texts of
   letters, digits, marks, quotes and white space; or the model is a BPE without a token that holds
   such a place. Merges on the two sides of it are then independent of each other.
3. The two parts of these random texts have the ids of the whole ones.

At each place that is used, the 2,000 characters around it must have the same ids in one part and
in two. A text with no such place in 8 million characters is refused.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, decoders

from dcpt.errors import InputError

LONGEST_PART = 8_000_000
"""Characters that are encoded at once, at most, where no place to cut is found: 1.5 GB."""

_AROUND = 1000
_TRIES = 50
_RANDOM_TEXTS = 2000
_KINDS = {
    # A place of this kind, and what a token that reaches across it holds.
    "before a space between letters": (r"(?<=[^\W\d_])(?= [^\W\d_])", r"\S "),
    "after a line break before a letter": (r"(?<=\n)(?=[^\W\d_])", r"\n\S"),
}
_LOCAL = {
    "normalizer": {
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Replace",
        "Strip",
        "StripAccents",
    },
    "pre_tokenizer": {
        "BertPreTokenizer",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "Metaspace",
        "Punctuation",
        "Split",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
    },
    "model": {"BPE", "Unigram", "WordLevel", "WordPiece"},
}
_ALPHABET = "abcdexyzABCSTÄößéжД你好かア한अع0123456789.,;:!?'’\"“”()[]{}<>-_/\\#*=+&%$@`~|。、…🙂"
_SPACES = (" ", " ", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "\u00a0", "\u3000")


class Cutter:
    """Finds places to cut for a tokenizer.

    Args:
        tokenizer: As it encodes the text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.kinds = _find_kinds(tokenizer)

    def find(self, text: str, start: int, end: int) -> int | None:
        """The last place between two positions of a text at which it can be cut, or None."""
        tries = 0
        for place in _places_from_behind(text, start, end, self.kinds):
            if self._holds(text[max(place - _AROUND, 0) : place], text[place : place + _AROUND]):
                return place
            tries += 1
            if tries == _TRIES:
                return None
        return None

    def check(self, text: str, place: str) -> None:
        """Refuse a text that became too long to be encoded at once.

        Args:
            text: What was read since the last cut.
            place: Where it is, for the error.

        Raises:
            InputError: If it is longer than ``LONGEST_PART``.
        """
        if len(text) <= LONGEST_PART:
            return
        where = " or ".join(self.kinds) or "at no place"
        raise InputError(
            f"{place}: a document with {LONGEST_PART:,} characters in which it cannot be cut (with "
            f"this tokenizer it can be cut {where}); write it as several documents"
        )

    def _holds(self, left: str, right: str) -> bool:
        return _ids(self._tokenizer, left + right) == [
            *_ids(self._tokenizer, left),
            *_ids(self._tokenizer, right),
        ]


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _places_from_behind(text: str, start: int, end: int, kinds: list[str]) -> Iterator[int]:
    """Places of these kinds, the last first; searched in windows, since most texts have many."""
    if not kinds:
        return
    pattern = re.compile("|".join(_KINDS[kind][0] for kind in kinds))
    window = 4 * _AROUND
    while end > start:
        low = max(start, end - window)
        places = [found.start() for found in pattern.finditer(text, low, end + 2)]
        yield from (place for place in reversed(places) if low < place <= end)
        end = low


def _find_kinds(tokenizer: Tokenizer) -> list[str]:
    """The kinds of places at which a tokenizer's texts can be cut."""
    about = json.loads(tokenizer.to_str())
    for part, local in _LOCAL.items():
        if any(name not in local for name in _component_names(about[part])):
            return []
    if about["model"].get("dropout"):
        return []
    return [kind for kind in _KINDS if _is_safe(tokenizer, about, kind)]


def _component_names(component: dict[str, Any] | None) -> Iterator[str]:
    if component is None:
        return
    inner = component.get("normalizers") or component.get("pretokenizers")
    if component["type"] == "Sequence":
        for part in inner or []:
            yield from _component_names(part)
    else:
        yield component["type"]


def _is_safe(tokenizer: Tokenizer, about: dict[str, Any], kind: str) -> bool:
    place, crossing = _KINDS[kind]
    texts = list(_random_texts(kind))
    independent = about["model"]["type"] == "BPE" and not any(
        re.search(crossing, token) for token in _readable_tokens(tokenizer, about)
    )
    for left, right in texts:
        assert re.search(place, left[-1] + right[:2])
        if not (independent or _splits(tokenizer, left, right)):
            return False
        if _ids(tokenizer, left + right) != _ids(tokenizer, left) + _ids(tokenizer, right):
            return False
    return True


def _splits(tokenizer: Tokenizer, left: str, right: str) -> bool:
    """Whether the pre-tokens of two parts are those of the whole."""

    def pre_tokens(text: str) -> list[str]:
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        if tokenizer.pre_tokenizer is None:
            return [text]
        return [token for token, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    return pre_tokens(left + right) == pre_tokens(left) + pre_tokens(right)


def _readable_tokens(tokenizer: Tokenizer, about: dict[str, Any]) -> Iterator[str]:
    """The tokens of the vocabulary as they stand in texts."""
    names = {*_component_names(about["pre_tokenizer"]), *_component_names(about["normalizer"])}
    if "ByteLevel" in names:
        decoder = decoders.ByteLevel()
        yield from (decoder.decode([token]) for token in tokenizer.get_vocab())
    else:
        yield from (token.replace("▁", " ") for token in tokenizer.get_vocab())


def _random_texts(kind: str) -> Iterator[tuple[str, str]]:
    """Random texts, cut at a place of a kind."""
    rng = random.Random(0)
    letters = [char for char in _ALPHABET if char.isalpha()]

    def words(n_words: int) -> str:
        return "".join(
            "".join(rng.choices(_ALPHABET if rng.random() < 0.3 else letters, k=rng.randint(1, 6)))
            + rng.choice(_SPACES)
            for _ in range(n_words)
        )

    for _ in range(_RANDOM_TEXTS):
        left, right = words(rng.randint(0, 6)), words(rng.randint(0, 6))
        if kind == "after a line break before a letter":
            yield left + rng.choice((*letters, ".", "。", "", " ", "\n")) + "\n", (
                rng.choice(letters) + right
            )
        else:
            yield left + rng.choice(letters), " " + rng.choice(letters) + right
