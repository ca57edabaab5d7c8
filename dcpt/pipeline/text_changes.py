"""Whether a study's prepared text is that of its settings, and its runs those of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcpt.errors import InputError
from dcpt.flags import Flag
from dcpt.pipeline.workspace import Place, Workspace
from dcpt.runs.identity import RunConfig
from dcpt.study.schema import Channel, Study
from dcpt.text.settings import ChannelSettings, TextSettings

if TYPE_CHECKING:
    from dcpt.text.manifest import Prepared

_SHOWN = 4
"""Changes that a sentence names; the others are counted."""


def text_settings(study: Study) -> TextSettings:
    """The settings of the study that decide its prepared text."""
    return TextSettings(
        channels={channel.name: _channel_settings(channel) for channel in study.channels},
        tokenizer=study.tokenizer,
        add_bos=study.add_bos,
        near_duplicates=study.near_duplicates,
    )


def _channel_settings(channel: Channel) -> ChannelSettings:
    return ChannelSettings(
        train=channel.train,
        valid=channel.valid,
        valid_fraction=None if channel.valid else channel.valid_fraction,
        text_field=None if channel.chat_field else channel.text_field,
        chat_field=channel.chat_field,
        max_tokens=channel.max_tokens,
        text_separator=channel.text_separator,
    )


def flag_changed_text(place: Place) -> list[Flag]:
    """A warning if settings of a study's text were changed after ``dcpt prepare``.

    Raises:
        InputError: If no text is prepared.
    """
    from dcpt.text.changed_settings import list_changes
    from dcpt.text.manifest import load_prepared

    if not isinstance(place, Workspace):
        return []
    prepared = load_prepared(place.folder.prepared)
    changes = list_changes(prepared, text_settings(place.study))
    if not changes:
        return []
    more = f"; {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return [
        Flag(
            "text_settings_changed",
            f"{place}: settings were changed after the text was prepared "
            f"({'; '.join(changes[:_SHOWN])}{more}); run `dcpt prepare {place}`, or undo the "
            "change",
            values={"changes": changes},
        )
    ]


def check_text(workspace: Workspace) -> None:
    """Refuse to plan training on text of other settings than the study's.

    Raises:
        InputError: Names what was changed, or says that no text is prepared.
    """
    for flag in flag_changed_text(workspace):
        raise InputError(flag.sentence)


def flag_runs_of_other_text(workspace: Workspace, prepared: Prepared) -> list[Flag]:
    """A warning with the number of finished runs whose text is not the prepared one."""
    n_runs = sum(
        folder.result() is not None and _is_of_other_text(run, prepared)
        for folder, run in workspace.stored.sound
    )
    if not n_runs:
        return []
    runs, they = (
        ("1 finished run is", "it is")
        if n_runs == 1
        else (f"{n_runs} finished runs are", "they are")
    )
    return [
        Flag(
            "runs_of_other_text",
            f"{runs} of other text than the prepared one, so no fit takes them; {they} kept in "
            f"{workspace.folder.runs}",
            values={"runs": n_runs},
        )
    ]


def _is_of_other_text(run: RunConfig, prepared: Prepared) -> bool:
    is_base = run.identity.kind == "pretrain"
    for channel in run.identity.channels:
        if is_base and channel.side != "general":  # earlier versions named all channels of a base
            continue
        manifest = prepared.channels.get(channel.name)
        if manifest is None or (manifest.train.sha256, manifest.tokenizer_sha256) != (
            channel.train_sha256,
            run.identity.tokenizer_sha256,
        ):
            return True
        if not is_base and prepared.evaluated(channel.name).sha256 != channel.valid_sha256:
            return True
    return False
