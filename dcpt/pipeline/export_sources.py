"""The text of the target's run: channels, document lengths, unique tokens, paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from dcpt.errors import InputError, did_you_mean
from dcpt.pipeline.export_options import ExportOptions
from dcpt.pipeline.workspace import Place, Workspace

if TYPE_CHECKING:
    from dcpt.decide.records import Target
    from dcpt.laws.fits.result import Fit
    from dcpt.trainer_configs.records import Source


def find_sources(
    place: Place, target: Target, fitted: Fit, options: ExportOptions
) -> dict[str, Source]:
    """The channels of the study or the fit, with what is known of their text."""
    from dcpt.table.channels import GENERAL_TOTAL
    from dcpt.trainer_configs import Source

    if isinstance(place, Workspace):
        sources = {
            channel.name: Source(channel.name, channel.side, channel.weight)
            for channel in place.study.channels
            if channel.side != "validation"
        }
        sources = _with_prepared(place, sources)
    else:
        general = [name for name in fitted.general_channels if name != GENERAL_TOTAL]
        weights = _general_weights(general, target, options)
        sources = {name: Source(name, "general", weights[name]) for name in general}
        assert fitted.domain_channel is not None  # a recommendation has one
        sources[fitted.domain_channel] = Source(fitted.domain_channel, "domain")
        sources = {
            name: replace(source, unique_tokens=target.unique_tokens.get(name))
            for name, source in sources.items()
        }
    return _with_options(sources, options)


def _general_weights(
    general: Sequence[str], target: Target, options: ExportOptions
) -> dict[str, float]:
    """Weights of the general channels of a table: those given, else the target's mix."""
    known = {**target.mix, **options.weights}
    missing = [name for name in general if name not in known]
    if len(general) > 1 and missing:
        raise InputError(
            f"the table has {len(general)} general channels, and how they share the general text "
            f"is not known: give {' '.join(f'--weight {name}=1' for name in missing)} with your "
            "weights"
        )
    return {name: known.get(name, 1.0) for name in general}


def _with_prepared(workspace: Workspace, sources: dict[str, Source]) -> dict[str, Source]:
    """The sources with the lengths and the unique tokens of the study's prepared text."""
    from dcpt.text.document_lengths import measure_lengths
    from dcpt.text.manifest import load_prepared
    from dcpt.trainer_configs import DocumentLengths

    prepared = load_prepared(workspace.folder.prepared)
    found = {}
    for name, source in sources.items():
        measured = measure_lengths(prepared, name)
        found[name] = replace(
            source,
            lengths=None if measured is None else DocumentLengths(**asdict(measured)),
            unique_tokens=float(prepared.unique_tokens(name)),
        )
    return found


def _with_options(sources: dict[str, Source], options: ExportOptions) -> dict[str, Source]:
    """The sources with what the options say of them."""
    named = {
        "--path": options.paths,
        "--tokens-per-document": options.lengths,
        "--unique-tokens": options.unique_tokens,
        "--weight": options.weights,
        "--decay-mixture": options.decay_mixture,
    }
    problems = [
        f"{option} {name}: there is no such channel; the channels are {', '.join(sources)}"
        + did_you_mean(name, sources)
        for option, given in named.items()
        for name in given
        if name not in sources
    ]
    if problems:
        raise InputError(problems)
    return {
        name: replace(
            source,
            path=options.paths.get(name, source.path),
            lengths=options.lengths.get(name, source.lengths),
            unique_tokens=options.unique_tokens.get(name, source.unique_tokens),
            weight=options.weights.get(name, source.weight),
        )
        for name, source in sources.items()
    }
