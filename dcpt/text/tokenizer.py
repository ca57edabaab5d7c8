"""Tokenizers: trained on the study's text or taken from a model; a folder in the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from dcpt.errors import InputError

END_OF_TEXT = "<|endoftext|>"
"""Joins documents; the end-of-sequence token of tokenizers trained here."""

SMALLEST_VOCABULARY = 257
"""All bytes and the end of text."""

PROBE = "The court held, in 1987, that\n\tf(x) = x² + 3;  naïve 中文 — 12,345 tokens don't\n\n"
"""Text on which two tokenizers of equal vocabularies must agree as well: merges may differ."""

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
    """

    path: Path
    sha256: str
    eos_id: int
    size: int

    def load(self) -> Tokenizer:
        """Load it for encoding plain text: no truncation, no padding, no special tokens.

        A text that spells out a special token, such as ``<|endoftext|>``, is encoded as the
        characters that it is.
        """
        tokenizer = Tokenizer.from_file(str(self.path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        return tokenizer


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
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def copy_tokenizer(name: str, folder: Path) -> None:
    """Copy a model's fast tokenizer into a folder.

    Args:
        name: A tokenizer or model folder, or a hub id.
        folder: Existing folder to write into.

    Raises:
        InputError: If it cannot be loaded, is not a fast one, or has no end-of-sequence token.
    """
    from transformers import AutoTokenizer  # seconds to import, and needed for this only

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"tokenizer {name}: cannot be loaded ({str(error).splitlines()[0]:.200}); give a "
            "tokenizer folder, a hub id, or a vocabulary size such as 1024 to train one"
        ) from error
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {name}: has no tokenizer.json (it is not a 'fast' one); convert it, or "
            "choose another"
        )
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"tokenizer {name}: has no end-of-sequence token to join documents with; set eos_token "
            "in its tokenizer_config.json"
        )
    tokenizer.save_pretrained(folder)


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read what the shards need to know out of a tokenizer folder.

    Raises:
        InputError: If the folder holds no tokenizer, or its end-of-sequence token has no id.
    """
    path = folder / "tokenizer.json"
    try:
        data = path.read_bytes()
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: holds no readable tokenizer ({error}); prepare again"
        ) from error
    ids = Tokenizer.from_str(data.decode()).get_vocab(with_added_tokens=True)
    eos = config.get("eos_token")
    eos = eos.get("content") if isinstance(eos, dict) else eos
    if eos not in ids:
        raise InputError(f"{folder}: the end-of-sequence token {eos!r} has no id in {path.name}")
    return Vocabulary(path, hashlib.sha256(data).hexdigest(), ids[eos], max(ids.values()) + 1)


def check_same_tokenizer(model: Path, prepared: Path, place: str) -> None:
    """Refuse a model whose own tokenizer gives text other ids than the prepared text has.

    A model that knows more ids passes, and so does one that comes without a ``tokenizer.json``:
    nothing can be told of it.

    Args:
        model: The model's folder.
        prepared: Folder of the tokenizer that the text was prepared with.
        place: Begins the message.

    Raises:
        InputError: If a token has another id, or the two split a probe differently.
    """
    if not (model / "tokenizer.json").is_file():
        return
    own, ours = (
        Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (model, prepared)
    )
    known = own.get_vocab(with_added_tokens=True)
    remedy = "prepare the text with the model's own tokenizer (tokenizer: in the study)"
    for token, number in ours.get_vocab(with_added_tokens=True).items():
        if known.get(token) != number:
            raise InputError(
                f"{place}: its tokenizer gives the token {token!r} the id {known.get(token)}, and "
                f"the prepared text has {number} for it; {remedy}"
            )
    if (
        own.encode(PROBE, add_special_tokens=False).ids
        != ours.encode(PROBE, add_special_tokens=False).ids
    ):
        raise InputError(
            f"{place}: its tokenizer has the ids of the prepared text but splits words "
            f"differently; {remedy}"
        )


def name_tokenizer(spec: str | int) -> str:
    """Say which tokenizer is asked for, so that a change is noticed.

    Args:
        spec: A vocabulary size, a folder or a hub id.

    Returns:
        Text that changes when the request does: for a folder it holds a hash of the files.

    Raises:
        InputError: If the vocabulary is too small or the folder is missing.
    """
    if isinstance(spec, int):
        if spec < SMALLEST_VOCABULARY:
            raise InputError(
                f"a vocabulary of {spec} is too small; a byte-level tokenizer needs at least "
                f"{SMALLEST_VOCABULARY}"
            )
        return f"bpe {spec} {SAMPLE_BYTES}"
    folder = Path(spec).expanduser()
    if folder.is_dir():
        digest = hashlib.sha256()
        for path in sorted(folder.glob("*token*")) + sorted(folder.glob("vocab*")):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return f"folder {digest.hexdigest()}"
    if spec.startswith(("/", ".", "~")):
        raise InputError(
            f"tokenizer {spec}: no such folder; check the path, or give a vocabulary size such as "
            "1024 to train one"
        )
    return f"hub {spec}"
