"""How the settings of a study's text differ from those that its text was prepared with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcpt.atomic_files import read_json, write_text
from dcpt.text.manifest import RECORD_FILE, REMEDY, Manifest, Prepared
from dcpt.text.near_duplicates.records import DEFAULT_THRESHOLD
from dcpt.text.settings import ChannelSettings, TextSettings
from dcpt.text.sources import ChannelSource, describe_split
from dcpt.text.tokenizer_files import FOLDER, read_tokenizer_name


def list_changes(prepared: Prepared, asked: TextSettings) -> list[str]:
    """What was changed in the settings since the text was prepared.

    Of text that an earlier version prepared without a record of its settings, those that its
    manifests hold are compared: all but ``text_separator``.

    Args:
        prepared: The text that is there.
        asked: The settings of the study.

    Returns:
        One for each setting, such as ``tokenizer: 300 -> 400``.
    """
    changes = list(_compare_settings(prepared, asked))
    known = prepared.channels if prepared.settings is None else prepared.settings.channels
    for name, channel in asked.channels.items():
        if name not in known:
            changes.append(f"channel {name}: not prepared")
        elif prepared.settings is not None:
            before = prepared.settings.channels[name].model_dump()
            changes += _compare(f"channel {name}: ", before, channel.model_dump())
        else:
            changes += _compare_manifest(prepared.channels[name], channel)
    changes += [f"channel {name}: removed" for name in known if name not in asked.channels]
    return changes


def keep_settings(prepared: Prepared, settings: TextSettings) -> Prepared:
    """Record settings that give the text that is there, such as another path to the same files."""
    path = prepared.folder / RECORD_FILE
    content = {**read_json(path, REMEDY), "settings": settings.model_dump(mode="json")}
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return prepared.model_copy(update={"settings": settings})


def _compare_settings(prepared: Prepared, asked: TextSettings) -> Iterator[str]:
    """Compare the settings that hold for all channels."""
    known, screened = prepared.settings, prepared.near_duplicates
    if known is not None:
        names = {"tokenizer", "add_bos"}
        yield from _compare("", known.model_dump(include=names), asked.model_dump(include=names))
    else:
        before = read_tokenizer_name(prepared.tokenizer_name)
        may_be_same = before == FOLDER and isinstance(asked.tokenizer, str)
        if before != asked.tokenizer and not may_be_same:
            yield _change("tokenizer", before, asked.tokenizer)
        add_bos = any(manifest.bos_id is not None for manifest in prepared.channels.values())
        if asked.add_bos not in (None, add_bos):  # None: the tokenizer decided, then as now
            yield _change("add_bos", add_bos, asked.add_bos)
    wanted = DEFAULT_THRESHOLD if asked.near_duplicates is None else asked.near_duplicates
    if screened is None:  # an earlier version did not screen, and the default leaves it so
        if asked.near_duplicates is not None:
            yield _change("near_duplicates", None, wanted)
    elif (screened.threshold or False) != wanted:
        yield _change("near_duplicates", screened.threshold or False, wanted)


def _compare_manifest(manifest: Manifest, asked: ChannelSettings) -> Iterator[str]:
    """Compare what the manifest of an earlier version tells of a channel's settings."""
    place = f"channel {manifest.channel}: "
    for key, source, written in (
        ("train", manifest.source if manifest.is_trained else None, asked.train),
        ("valid", manifest.valid_source, asked.valid),
    ):
        if not _is_same_source(source, written):
            yield place + _change(key, source, written)
    split = describe_split(
        ChannelSource(
            manifest.channel, asked.train, asked.valid, valid_fraction=asked.valid_fraction or 0.0
        )
    )
    if asked.valid is None and manifest.valid_source is None and manifest.split_rule != split:
        yield place + _change("valid_fraction", manifest.split_rule, split)
    known = {"field": manifest.text_field, "max_tokens": manifest.max_tokens}
    field = asked.chat_field or asked.text_field
    yield from _compare(place, known, {"field": field, "max_tokens": asked.max_tokens})


def _is_same_source(source: str | None, written: str | None) -> bool:
    """Whether a path is the written one, wherever the study's folder lay."""
    if source is None or written is None or written.startswith("hf:"):
        return source == written
    parts = Path(written).expanduser().parts
    return Path(source).parts[-len(parts) :] == parts


def _compare(place: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key, value in after.items():
        if before[key] != value:
            yield place + _change(key, before[key], value)


def _change(key: str, before: Any, after: Any) -> str:
    return f"{key}: {_show(before)} -> {_show(after)}"


def _show(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)
