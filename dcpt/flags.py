"""The record of a warning, and the order of importance of all kinds of warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN_IN_FULL = 3
"""Warnings shown in full; the others are folded away."""

PARAMETER_KINDS = ("at_bound", "ill_conditioned")
"""Flags about the values of a law's parameters; they do not affect its predictions."""

RANK = (
    "base_loss_contradicts_runs",
    "loss_unit",
    "larger_base_is_worse",
    "one_run_off",
    "no_share_meets_limit",
    "limit_not_kept_at_odds",
    "outside_own_interval",
    "may_be_out_of_reach",
    "extrapolates",
    "domain_extrapolated",
    "rate_not_seen_near_size",
    "laws_dropped",
    "unique_tokens_of_runs",
    "mix_hardly_read",
    "mix_at_edge",
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
    "phase_by_schedule",
    "mixtures_without_ratio",
    "mix_differs",
    "confounded",
    "learning_rate_at_edge",
    "learning_rate_by_rule",
    "learning_rate_held",
)
"""Kinds of flags, the most important for the decision first; all other kinds follow."""

LAST = (
    "schedule_of_runs",
    "runs_at_target",
    "verification_runs",
    "two_level_left_out",
    "limit_on_each",
    "limit_does_not_bind",
    "parameters_not_determined",
)
"""Kinds that explain rather than warn; they come last."""


@dataclass(frozen=True)
class Flag:
    """A warning about runs, a fit or a decision, or a finding of a diagnosis.

    Args:
        kind: Stable name, for programs.
        sentence: The problem and its remedy, for people.
        subject: What it is about, by ``channel``, ``law``, ``run`` or ``axis``; empty if it is
            about the whole table or the whole decision.
        values: The numbers and names behind the sentence; losses in nats per token.
    """

    kind: str
    sentence: str
    subject: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Kind and subject, such as ``at_bound (general, d-cpt)``."""
        subject = ", ".join(self.subject.values())
        return f"{self.kind} ({subject})" if subject else self.kind

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self)


def rank_flags(flags: Iterable[Flag]) -> list[Flag]:
    """Sort flags by importance for the decision, those about laws merged by kind.

    Args:
        flags: Flags of a fit, of a decision, or of both.

    Returns:
        The most important first; all flags about the values of law parameters are one flag.
    """
    found = list(flags)
    about_laws = [flag for flag in found if "law" in flag.subject]
    others = [flag for flag in found if "law" not in flag.subject]
    return sorted([*others, *_merge_laws(about_laws)], key=_rank)


def _rank(flag: Flag) -> int:
    if flag.kind in RANK:
        return RANK.index(flag.kind)
    return len(RANK) + (1 + LAST.index(flag.kind) if flag.kind in LAST else 0)


def _merge_laws(flags: Sequence[Flag]) -> list[Flag]:
    """Merge flags about laws that say the same, and all those about parameter values."""
    same: dict[tuple[str, str], list[Flag]] = {}
    for flag in flags:
        if flag.kind not in PARAMETER_KINDS:
            same.setdefault((flag.kind, flag.sentence), []).append(flag)
    merged = [
        Flag(
            kind,
            f"{sentence.removesuffix('.')} ({', '.join(_name_law(flag) for flag in group)}).",
            values={"laws": [dict(flag.subject) for flag in group], **group[0].values},
        )
        for (kind, sentence), group in same.items()
    ]
    return [*merged, *_merge_parameters([f for f in flags if f.kind in PARAMETER_KINDS])]


def _merge_parameters(flags: Sequence[Flag]) -> list[Flag]:
    if not flags:
        return []
    laws = {tuple(flag.subject.items()) for flag in flags}
    on_bounds = sum(len(flag.values.get("parameters", ())) for flag in flags)
    what = f"{on_bounds} parameters of {len(laws)} laws" if on_bounds else "Law parameters"
    return [
        Flag(
            "parameters_not_determined",
            f"{what} are not well determined; predictions are not affected.",
            values={"parameters": on_bounds, "laws": [dict(law) for law in sorted(laws)]},
        )
    ]


def _name_law(flag: Flag) -> str:
    return f"{flag.subject['law']}, {flag.subject['channel']}"


def show_flags(flags: Sequence[Flag]) -> list[str]:
    """The lines that a terminal shows: the first flags in full, the others in one line.

    Args:
        flags: Ranked flags.
    """
    lines = [f"Warning: {flag.sentence}" for flag in flags[:SHOWN_IN_FULL]]
    folded = flags[SHOWN_IN_FULL:]
    if folded:
        kinds = ", ".join(dict.fromkeys(flag.kind.replace("_", " ") for flag in folded))
        noun = "warning" if len(folded) == 1 else "warnings"
        lines.append(f"{len(folded)} more {noun}: {kinds}.")
    return lines
