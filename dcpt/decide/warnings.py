"""The warnings of a recommendation and of its fit in one list: grouped, ranked, a few in full."""

from __future__ import annotations

from collections.abc import Sequence

from dcpt.decide.records import Flag, Recommendation
from dcpt.laws.flags.explain import explain_flag, together

SHOWN_IN_FULL = 3
"""Warnings shown in full; the others are folded away."""

PARAMETER_KINDS = ("at_bound", "ill_conditioned")
"""Flags about the values of a law's parameters; they do not affect its predictions."""

RANK = (
    "no_share_meets_limit",
    "outside_own_interval",
    "may_be_out_of_reach",
    "extrapolates",
    "domain_extrapolated",
    "rate_not_seen_near_size",
    "laws_dropped",
    "not_held_out",
    "undeclared_decay",
    "near_cliff",
    "general_falls",
    "limit_within_noise",
    "limit_near_rewarm_rise",
    "wide_interval",
    "laws_disagree",
    "minima_disagree",
    "constant_rate_losses",
    "phase_not_named",
    "confounded",
    "learning_rate_at_edge",
    "learning_rate_by_rule",
    "learning_rate_held",
)
"""Kinds of flags, the most important for the decision first; all other kinds follow."""

LAST = ("limit_on_each", "limit_does_not_bind", "parameters_not_determined")
"""Kinds that explain rather than warn; they come last."""


def rank_flags(decision: Sequence[Flag], fit_flags: Sequence[str]) -> list[Flag]:
    """Combine the flags of a decision and of its fit, the most important first.

    Args:
        decision: Flags of the decision.
        fit_flags: Names of the fit's flags; those of single laws are ``<channel>/<law>/<name>``.

    Returns:
        All flags; those about laws are merged by kind, and those about parameters that are not
        well determined into one.
    """
    design = [name for name in fit_flags if name.count("/") < 2]
    flags = [*decision, *(Flag(name, explain_flag(name)) for name in together(design))]
    flags += _about_laws([name for name in fit_flags if name.count("/") >= 2])
    return sorted(flags, key=_rank)


def _rank(flag: Flag) -> int:
    kind = flag.name.partition(":")[0]
    if kind in RANK:
        return RANK.index(kind)
    return len(RANK) + (1 + LAST.index(kind) if kind in LAST else 0)


def _about_laws(names: Sequence[str]) -> list[Flag]:
    """Merge flags about laws by kind, and all flags about parameter values into one."""
    places: dict[str, list[str]] = {}
    on_bounds, laws = 0, set()
    for name in names:
        channel, law, flag = name.split("/", 2)
        if flag.partition(":")[0] in PARAMETER_KINDS:
            on_bounds += flag.startswith("at_bound")
            laws.add((channel, law))
        else:
            places.setdefault(flag, []).append(f"{law} ({channel})")
    flags = [
        Flag(flag, f"{explain_flag(flag)} [{', '.join(where)}]") for flag, where in places.items()
    ]
    if laws:
        number = f"{on_bounds} parameters of {len(laws)} laws" if on_bounds else "law parameters"
        words = f"{number} are not well determined; predictions are not affected"
        flags.append(Flag("parameters_not_determined", words))
    return flags


def split_warnings(recommendation: Recommendation) -> tuple[list[Flag], list[Flag]]:
    """Split the warnings into those to show in full and those to fold, most important first.

    Warnings that repeat a reason of the evidence are left out.
    """
    said = {reason.kind for reason in recommendation.evidence.reasons}
    flags = [flag for flag in recommendation.flags if flag.name not in said]
    return flags[:SHOWN_IN_FULL], flags[SHOWN_IN_FULL:]


def fold_warnings(folded: Sequence[Flag]) -> str:
    """Summarise the folded warnings in one sentence, by the beginning of each."""
    starts = [flag.words.partition(":")[0].partition(";")[0] for flag in folded]
    noun = "warning" if len(folded) == 1 else "warnings"
    return f"{len(folded)} more {noun}: {'; '.join(starts)}."


def warning_line(words: str) -> str:
    """A flag's words as a line of the terminal."""
    return f"Warning: {words}" if words.endswith((".", "!", "?")) else f"Warning: {words}."


def as_sentence(words: str) -> str:
    """A flag's words with a capital and a full stop."""
    text = words[:1].upper() + words[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
