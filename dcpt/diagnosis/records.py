"""What a diagnosis says: findings with their numbers, and the two numbers of a domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["alarm", "look", "fact", "cannot be judged"]
"""A problem; worth checking; neutral; not enough data, such as a missing column."""

VERDICTS: tuple[Verdict, ...] = ("alarm", "look", "cannot be judged", "fact")

KINDS = {
    "not_finite": "NaN, or a loss above 20",
    "unfinished": "runs that have not ended",
    "oscillating": "oscillating: learning rate too high for this size",
    "spike": "spike",
    "rate_buys_nothing": "learning rate too high: every channel worse than at a lower one",
    "not_learning": "not learning",
    "repeated_overfitting": "repeated data overfitting",
    "share_off_plan": "share of tokens off plan",
    "confounded": "size and learning rate confounded",
    "known_or_templated": "already known or templated (low start)",
    "new_or_dirty": "new or dirty (high start)",
    "general_unlike_base": "general data unlike the base's own mix",
    "repeated": "repeated text",
    "learning": "learning",
    "forgetting": "forgetting",
}
"""Every finding that there is, in the order in which they are told."""


@dataclass(frozen=True)
class Finding:
    """One thing that the losses say.

    Args:
        kind: One of ``KINDS``.
        verdict: Whether it is a problem, worth checking, or neither.
        words: A sentence, the numbers in it.
        run: None where it is about the whole table, or about all runs alike.
        channel: None where it is about no single channel.
        numbers: What it rests on; losses in nats per token.
        lacks: What would have to be there to judge, where it cannot be judged.
    """

    kind: str
    verdict: Verdict
    words: str
    run: str | None = None
    channel: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    lacks: str | None = None


@dataclass(frozen=True)
class DomainStart:
    """The two numbers of a domain that the cross-domain D-CPT law (arXiv 2406.01375) takes.

    The paper's K is w1 / k1 + w2 k2. Over which tokens it measures k2 is not known to us: here
    from D = 0 to the first point beyond the warmup.

    Args:
        run: The run.
        initial_loss: k1, the domain loss before CPT, nats per token.
        early_slope: k2, how fast it falls at first, nats per million tokens; None where no point
            of the run tells.
        until_tokens: D of the point that it was measured to.
    """

    run: str
    initial_loss: float
    early_slope: float | None
    until_tokens: int | None


@dataclass(frozen=True)
class Diagnosis:
    """What the channel losses of some runs say.

    Args:
        findings: In the order of ``KINDS``, then of the runs.
        starts: The two numbers of the domain, a run each.
        n_runs: Runs that were looked at.
    """

    findings: tuple[Finding, ...]
    starts: tuple[DomainStart, ...]
    n_runs: int

    def of(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind that could be judged."""
        return tuple(
            one for one in self.findings if one.kind == kind and one.verdict != "cannot be judged"
        )

    def with_verdict(self, *verdicts: Verdict) -> tuple[Finding, ...]:
        """The findings of these verdicts."""
        return tuple(one for one in self.findings if one.verdict in verdicts)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that are problems."""
        return self.with_verdict("alarm")

    def counts(self) -> list[tuple[Verdict, str, str | None, int]]:
        """How often each (verdict, kind, channel) was found, alarms first."""
        found = Counter((one.verdict, one.kind, one.channel) for one in self.findings)
        order = list(KINDS)
        keys = sorted(found, key=lambda key: (VERDICTS.index(key[0]), order.index(key[1])))
        return [(*key, found[key]) for key in keys]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is unknown is None."""
        return {
            "n_runs": self.n_runs,
            "findings": [asdict(one) for one in self.findings],
            "starts": [asdict(one) for one in self.starts],
        }


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings in the order of ``KINDS``; those of one kind stay as they are."""
    order = list(KINDS)
    return tuple(sorted(findings, key=lambda one: order.index(one.kind)))
