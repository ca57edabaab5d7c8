"""Where a long text can be cut so that its parts have the ids of the whole text.

A tokenizer splits added tokens off, normalizes, pre-tokenizes, and applies its model to each
pre-token. Three kinds of places are considered: before a space between two letters, at such a space
(it is left out, for tokenizers that put a space before every text), and after a single line break
before a letter. A kind is used if each of these holds:

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
from itertools import islice
from typing import Any, NamedTuple

from tokenizers import Tokenizer, decoders

from dcpt.errors import InputError

LONGEST_PART = 8_000_000
"""Characters that are encoded at once, at most, where no place to cut is found: 1.5 GB."""

_AROUND = 1000
_TRIES = 50
_RANDOM_TEXTS = 2000


class _Kind(NamedTuple):
    """A kind of place.

    Attributes:
        name: For messages.
        place: A pattern that matches nothing at the place.
        crossing: What a token that reaches across such a place holds.
        left_out: Characters behind the place that the tokenizer adds by itself.
    """

    name: str
    place: str
    crossing: str
    left_out: int = 0


_BETWEEN_LETTERS = r"(?<=[^\W\d_])(?= [^\W\d_])"
_KINDS = (
    _Kind("before a space between letters", _BETWEEN_LETTERS, r"\S "),
    _Kind("at a space between letters", _BETWEEN_LETTERS, r"\S ", 1),
    _Kind("after a line break before a letter", r"(?<=\S\n)(?=[^\W\d_])", r"\n\S"),
)
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


class Cut(NamedTuple):
    """A place to cut a text.

    Attributes:
        place: The first part ends there.
        next: The second part starts there.
    """

    place: int
    next: int


class Cutter:
    """Finds places to cut for a tokenizer.

    Args:
        tokenizer: As it encodes the text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._kinds = _find_kinds(tokenizer)

    def find(self, text: str, start: int, end: int) -> Cut | None:
        """The last place between two positions of a text at which it can be cut, or None."""
        for kind in self._kinds:
            for place in islice(_places_from_behind(text, start, end, kind.place), _TRIES):
                around = text[max(place - _AROUND, 0) : place], text[place : place + _AROUND]
                if _holds(self._tokenizer, *around, kind):
                    return Cut(place, place + kind.left_out)
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
        where = " or ".join(kind.name for kind in self._kinds) or "nowhere"
        raise InputError(
            f"{place}: {LONGEST_PART:,} characters of a document have no place to cut it (this "
            f"tokenizer's: {where}), and more are not encoded at once; write several documents"
        )


def _holds(tokenizer: Tokenizer, left: str, right: str, kind: _Kind) -> bool:
    """Whether two parts have the ids of the whole."""
    parts = [*_ids(tokenizer, left), *_ids(tokenizer, right[kind.left_out :])]
    return _ids(tokenizer, left + right) == parts


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _places_from_behind(text: str, start: int, end: int, place: str) -> Iterator[int]:
    """Places, the last first; searched in windows, since most texts have many."""
    while end > start:
        low = max(start, end - 4 * _AROUND)
        first = max(low - 2, 0)  # a pattern looks behind
        found = [first + match.start() for match in re.finditer(place, text[first : end + 2])]
        yield from (at for at in reversed(found) if low < at <= end)
        end = low


def _find_kinds(tokenizer: Tokenizer) -> list[_Kind]:
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


def _is_safe(tokenizer: Tokenizer, about: dict[str, Any], kind: _Kind) -> bool:
    independent = about["model"]["type"] == "BPE" and not any(
        re.search(kind.crossing, token) for token in _readable_tokens(tokenizer, about)
    )
    return all(
        (independent or _splits(tokenizer, left, right, kind))
        and _holds(tokenizer, left, right, kind)
        for left, right in _random_texts(kind)
    )


def _splits(tokenizer: Tokenizer, left: str, right: str, kind: _Kind) -> bool:
    """Whether the pre-tokens of two parts are those of the whole."""

    def pre_tokens(text: str) -> list[str]:
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        if tokenizer.pre_tokenizer is None:
            return [text]
        return [token for token, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    parts = pre_tokens(left) + pre_tokens(right[kind.left_out :])
    return pre_tokens(left + right) == parts


def _readable_tokens(tokenizer: Tokenizer, about: dict[str, Any]) -> Iterator[str]:
    """The tokens of the vocabulary as they stand in texts."""
    names = {*_component_names(about["pre_tokenizer"]), *_component_names(about["normalizer"])}
    if "ByteLevel" in names:
        decoder = decoders.ByteLevel()
        yield from (decoder.decode([token]) for token in tokenizer.get_vocab())
    else:
        yield from (token.replace("▁", " ") for token in tokenizer.get_vocab())


def _random_texts(kind: _Kind) -> Iterator[tuple[str, str]]:
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
        left, right = words(rng.randint(0, 6)), rng.choice(letters) + words(rng.randint(0, 6))
        if kind.place == _BETWEEN_LETTERS:
            yield left + rng.choice(letters), " " + right
        else:
            yield left + rng.choice((*letters, *".。)7")) + "\n", right
