"""The text of the target's run: channels, document lengths, unique tokens, paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The channels of the study or the fit, with what is known of their text.

    Raises:
        InputError: If an option names no channel, or weights are missing or not those of the mix
            that the share is recommended for.
    """
    from dcpt.trainer_configs import Source

    if isinstance(place, Workspace):
        sources = {
            channel.name: Source(channel.name, channel.side, channel.weight)
            for channel in place.study.channels
            if channel.side != "validation"
        }
        own = {name: source.weight for name, source in sources.items()}
        sources = _with_prepared(place, sources)
    else:
        sources, own = _of_table(target, fitted), {}
    general = [name for name, source in sources.items() if source.side == "general"]
    _check_names(list(sources), general, options)
    weights = _general_weights(general, own, target, options)
    _check_weights(place, weights, target, options)
    return {
        name: replace(
            source,
            path=options.paths.get(name, source.path),
            lengths=options.lengths.get(name, source.lengths),
            unique_tokens=options.unique_tokens.get(name, source.unique_tokens),
            weight=weights.get(name, source.weight),
        )
        for name, source in sources.items()
    }


def _of_table(target: Target, fitted: Fit) -> dict[str, Source]:
    """The sources of a fitted table, the general ones first.

    A source of the target's mix whose loss was not measured is one of them.
    """
    from dcpt.table.channels import GENERAL_TOTAL
    from dcpt.trainer_configs import Source

    assert fitted.domain_channel is not None  # a recommendation has one
    general = [name for name in fitted.general_channels if name != GENERAL_TOTAL]
    sources = {name: Source(name, "general") for name in [*general, *target.mix]}
    sources[fitted.domain_channel] = Source(fitted.domain_channel, "domain")
    return {
        name: replace(source, unique_tokens=target.unique_tokens.get(name))
        for name, source in sources.items()
    }


def _general_weights(
    general: Sequence[str], own: Mapping[str, float], target: Target, options: ExportOptions
) -> dict[str, float]:
    """Weights of the general channels: those given, else the target's mix, else the study's.

    A channel that the target's mix does not name is measured only, and has weight 0.
    """
    trained = [name for name in general if target.mix.get(name, 0 if target.mix else 1) > 0]
    known = options.weights or target.mix or own
    missing = [name for name in trained if name not in known]
    if len(trained) > 1 and missing:
        raise InputError(
            f"there are {len(trained)} general channels, and how they share the general text is "
            f"not known: give {' '.join(f'--weight {name}=1' for name in missing)} with your "
            "weights"
        )
    return {name: known.get(name, 1.0 if name in trained else 0.0) for name in general}


def _check_weights(
    place: Place, weights: Mapping[str, float], target: Target, options: ExportOptions
) -> None:
    """Refuse weights of another mix than that of the recommendation."""
    from dcpt.decide.general_mix import ROUNDING, say_mix

    if not (options.weights and target.mix):
        return
    whole = sum(weights.values())
    given = {name: weight / whole for name, weight in weights.items()}
    if max(abs(part - target.mix.get(name, 0.0)) for name, part in given.items()) <= ROUNDING:
        return
    asked = " ".join(f"--mix {name}={100 * part:.0f}%" for name, part in given.items())
    raise InputError(
        f"--weight: the weights give the mix {say_mix(given)}, and the share is recommended for "
        f"{say_mix(target.mix)}; leave --weight out, or run `dcpt recommend {place}` with {asked} "
        "first"
    )


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


def _check_names(names: Sequence[str], general: Sequence[str], options: ExportOptions) -> None:
    """Refuse options for channels that do not exist, and weights of other channels than general."""
    every = {
        "--path": options.paths,
        "--tokens-per-document": options.lengths,
        "--unique-tokens": options.unique_tokens,
        "--decay-mixture": options.decay_mixture,
    }
    asked = [(option, name, names, "") for option, given in every.items() for name in given]
    asked += [("--weight", name, general, "general ") for name in options.weights]
    problems = [
        f"{option} {name}: there is no such {kind}channel; the {kind}channels are "
        f"{', '.join(known)}" + did_you_mean(name, known)
        for option, name, known, kind in asked
        if name not in known
    ]
    if problems:
        raise InputError(problems)
