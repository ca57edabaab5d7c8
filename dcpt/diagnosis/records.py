"""Records of a diagnosis: findings with their numbers, and the two numbers of a domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dcpt.flags import Flag

Verdict = Literal["alarm", "look", "fact", "cannot be judged"]
"""A problem; worth checking; OK; not enough data, such as a missing column."""

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
    "loss_unit": "losses in another unit",
    "larger_base_is_worse": "larger base with a higher loss",
    "confounded": "size and learning rate confounded",
    "known_or_templated": "already known or templated (low start)",
    "new_or_dirty": "new or dirty (high start)",
    "general_unlike_base": "general data unlike the base's own mix",
    "near_copies": "near-copies of training text",
    "repeated": "repeated text",
    "learning": "learning",
    "forgetting": "forgetting",
}
"""Every kind of finding with its name for people, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class Finding(Flag):
    """A conclusion from the losses. Its kind is one of ``KINDS``.

    Args:
        verdict: Whether it is a problem, worth checking, or neither.
        lacks: The missing data, where the finding cannot be judged.
    """

    verdict: Verdict
    lacks: str | None = None

    @property
    def run(self) -> str | None:
        """The run; None if the finding is about several runs or the whole table."""
        return self.subject.get("run")

    @property
    def channel(self) -> str | None:
        """The channel; None if the finding is about several channels or none."""
        return self.subject.get("channel")


def lacking(kind: str, lacks: str, subject: Mapping[str, str] | None = None) -> Finding:
    """A finding that cannot be judged.

    Args:
        kind: One of ``KINDS``.
        lacks: The missing data.
        subject: The run and the channel, if it is about one.
    """
    words = f"Cannot be judged without {lacks}."
    return Finding(kind, words, subject or {}, verdict="cannot be judged", lacks=lacks)


@dataclass(frozen=True)
class DomainStart:
    """The two numbers of a domain that the cross-domain D-CPT law (arXiv 2406.01375) needs.

    The paper's K is w1 / k1 + w2 k2. The paper does not say over which tokens it measures k2; here
    it is measured from D = 0 to the first point beyond the warmup.

    Args:
        run: The run.
        initial_loss: k1, the domain loss before CPT, nats per token.
        early_slope: k2, how fast it falls at first, nats per million tokens; None where the run
            has no such point.
        until_tokens: D of the point that k2 is measured to; None without ``early_slope``.
    """

    run: str
    initial_loss: float
    early_slope: float | None
    until_tokens: int | None


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of some runs.

    Args:
        findings: In the order of ``KINDS``, then of the runs.
        starts: The two numbers of the domain, for each run.
        n_runs: Runs that were diagnosed.
    """

    findings: tuple[Finding, ...]
    starts: tuple[DomainStart, ...]
    n_runs: int

    def of(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind that could be judged."""
        return tuple(
            finding
            for finding in self.findings
            if finding.kind == kind and finding.verdict != "cannot be judged"
        )

    def with_verdict(self, *verdicts: Verdict) -> tuple[Finding, ...]:
        """The findings of these verdicts."""
        return tuple(finding for finding in self.findings if finding.verdict in verdicts)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that are problems."""
        return self.with_verdict("alarm")

    def counts(self) -> list[tuple[Verdict, str, str | None, int]]:
        """Count the findings of each (verdict, kind, channel), problems first."""
        number = Counter(
            (finding.verdict, finding.kind, finding.channel) for finding in self.findings
        )
        order = list(KINDS)
        keys = sorted(number, key=lambda key: (VERDICTS.index(key[0]), order.index(key[1])))
        return [(*key, number[key]) for key in keys]

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as plain JSON values; what is unknown is None."""
        return {
            "n_runs": self.n_runs,
            "findings": [finding.as_dict() for finding in self.findings],
            "starts": [asdict(start) for start in self.starts],
        }


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Sort findings by ``KINDS``; those of the same kind keep their order."""
    order = list(KINDS)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.kind)))
