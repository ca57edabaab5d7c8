"""Records of a decision's question and answer, written to JSON without changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dcpt.flags import Flag
from dcpt.limit import NO_LIMIT, Limit

HABITS = (0.95, 0.9, 0.8, 0.75, 0.67, 0.5)
"""Shares people choose without evidence: 5 to 50 % general text. Source: practice."""

LEAST_CONFIDENCE, MOST_CONFIDENCE = 0.5, 0.99
"""Odds that a limit is kept at: nobody asks to exceed it more often than not, and the 200 draws of
a fit do not resolve more than 1 in 100."""

LARGEST_RATIO = 0.97
"""Largest share that is recommended: no law predicts the general loss above it (the cliff)."""


@dataclass(frozen=True)
class Target:
    """The large run that a decision is for.

    Args:
        n_params: Parameters in all.
        n_tokens: CPT tokens of the whole run, its final decay included.
        limit: How much the general loss may rise; None if it has no limit.
        base_losses: Loss of the base on each channel, nats per token.
        confidence: Share of the bootstrap draws in which the recommended pair keeps the limit, 0.5
            to 0.99. At held-out sizes of public domains the pair at even odds used 84 to 110 % of
            its limit (``experiments/two_level.md``).
        base_peak_learning_rate: Peak learning rate of the base's pre-training, if known.
        base_n_tokens: Tokens that the base was pre-trained on, if known.
        warmup_tokens: Warmup of the run; None takes that of the runs.
        learning_rate: Fix the learning rate at this value; None lets the decision choose.
        schedule: The schedule of the runs that the target follows, stretched to its length; None
            takes one that decays as the runs do.
        base: Label of the base, if any.
        unique_tokens: Unique tokens of a channel's text, where known; laws of repeated text need
            them to compute epochs.
        section_sha256: Hash of the study's target section that it was completed from, if any.
        channel_limits: How much the losses of single channels may rise. All limits must be kept.
        mix: Part of each channel in the general text; the parts sum to 1. Empty takes that of the
            runs; where these differ and laws read them, the best mix is searched.
        weights: Weights of the channels in the mean loss that is minimized, within the limit if
            there is one; empty minimizes the domain loss.

    Examples:
        >>> dcpt.Target(7e9, 2e10, "+3%", base_losses={"general": 1.9}).limit
        Limit(amount=3.0, unit='percent', each=False)
    """

    n_params: float
    n_tokens: float
    limit: Limit | None
    base_losses: dict[str, float]
    confidence: float = 0.8
    base_peak_learning_rate: float | None = None
    base_n_tokens: float | None = None
    warmup_tokens: float | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    base: str | None = None
    unique_tokens: dict[str, float] = field(default_factory=dict)
    section_sha256: str | None = None
    channel_limits: dict[str, Limit] = field(default_factory=dict)
    mix: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Parse limits given as text, such as ``+3%``."""
        if not isinstance(self.limit, Limit | dict | None):
            object.__setattr__(self, "limit", Limit.read(self.limit))
        limits = {
            name: limit if isinstance(limit, Limit | dict) else Limit.parse(limit)
            for name, limit in self.channel_limits.items()
        }
        object.__setattr__(self, "channel_limits", limits)

    @property
    def minimized_in_words(self) -> str:
        """The loss that is minimized: ``domain loss``, ``mean loss (domain 1, general 2)``."""
        if not self.weights:
            return "domain loss"
        weights = ", ".join(f"{name} {weight:.3g}" for name, weight in self.weights.items())
        return f"mean loss ({weights})"

    @property
    def limits_in_words(self) -> str:
        """The limits as one text: ``+3%``, ``web +3%, code +1%``, ``none``."""
        of_channels = [f"{name} {limit}" for name, limit in self.channel_limits.items()]
        whole = [] if self.limit is None else [str(self.limit)]
        return ", ".join([*whole, *of_channels]) or NO_LIMIT


@dataclass(frozen=True)
class Interval:
    """A central value with the interval of its bootstrap draws.

    Args:
        value: Central prediction; None where there is none.
        low: Lower end; None where the draws give none.
        high: Upper end; None where the draws give none.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Choice:
    """A pair of share and learning rate at the target, with its predicted losses.

    A loss above 20 nats per token is beyond what the laws can predict: it, and every difference
    that contains it, is None.

    Args:
        ratio: Share of domain text, 0 to 1.
        learning_rate: Peak learning rate; None where the runs have none.
        losses: Predicted loss of each channel (and ``general_total`` where weighted).
        general_rise: General loss minus the base's own; its values are None where one is unknown.
        probability: Share of the bootstrap draws in which every limit is kept; None without one.
        regret: Domain loss (or the weighted mean of losses that is minimized) minus that at the
            recommendation, nats per token; negative means a lower loss. Its values are None where
            there is no recommendation.
        within_limit: Whether the central predictions are within every limit; None without one.
        label: ``recommended``, ``habit`` or the name of an alternative.
        outside_runs: Whether no run had a share as low or as high as this one.
        beyond_laws: Channels whose predicted loss is beyond what the laws can predict.
    """

    ratio: float
    learning_rate: float | None
    losses: dict[str, Interval]
    general_rise: Interval
    probability: float | None
    regret: Interval
    within_limit: bool | None
    label: str = ""
    outside_runs: bool = False
    beyond_laws: list[str] = field(default_factory=list)

    @property
    def pair(self) -> tuple[float, float | None]:
        """Share and learning rate."""
        return self.ratio, self.learning_rate


@dataclass(frozen=True)
class Frontier:
    """Losses over the shares at a fixed learning rate: the trade-off that a figure shows.

    All lists have an entry for each share. Losses are in nats per token, and None where they are
    beyond what the laws can predict.

    Args:
        learning_rate: The learning rate; None where the runs have none.
        ratio: Shares of domain text, ascending.
        general: Central general losses; None also where the table has no general channel.
        general_low: Lower ends of their intervals.
        general_high: Upper ends of their intervals.
        domain: Central domain losses.
        domain_low: Lower ends of their intervals.
        domain_high: Upper ends of their intervals.
        largest_ratio: Largest share within the limit by the central prediction, whatever the domain
            loss; without a limit the largest share compared. Its value is None if no share meets
            the limit; a draw without such a share counts as 0.
        kept_ratio: Largest share that keeps the limit in the asked share of the draws (the target's
            ``confidence``); None if no share does.
    """

    learning_rate: float | None
    ratio: list[float]
    general: list[float | None]
    general_low: list[float | None]
    general_high: list[float | None]
    domain: list[float | None]
    domain_low: list[float | None]
    domain_high: list[float | None]
    largest_ratio: Interval
    kept_ratio: float | None


@dataclass(frozen=True)
class Equivalent:
    """What the recommended share is worth in tokens and in model size.

    Args:
        share: Another share of domain text, at the same learning rate.
        tokens: How many times the tokens it needs for the domain loss of the recommended pair, at
            the target's size; None where that is not known.
        parameters: How many times the parameters it needs for that loss, with the target's tokens;
            None where that is not known.
        unknown: Why ``tokens`` or ``parameters`` is None.
    """

    share: float
    tokens: Interval | None
    parameters: Interval | None = None
    unknown: dict[str, str] = field(default_factory=dict)


Level = Literal["recommended", "tentative", "not enough evidence"]
"""How strong the evidence for a recommendation is, strongest first."""


@dataclass(frozen=True, kw_only=True)
class Reason(Flag):
    """Why the evidence for a recommendation is not stronger.

    It has the kind and the subject of the warning about the same problem, if there is one.

    Args:
        level: The best level that this reason allows.
        needed: The remedy, as an instruction without a full stop.
    """

    level: Level
    needed: str


@dataclass(frozen=True)
class Evidence:
    """How strong the evidence is, and why it is not stronger.

    Args:
        level: The weakest level that any reason allows; ``recommended`` without reasons.
        reasons: The reasons, the most serious first.
    """

    level: Level
    reasons: list[Reason]


def _not_judged() -> Evidence:
    """The evidence of a file that was written before evidence was judged."""
    reason = Reason(
        "not_judged",
        "This recommendation was written by a version of dcpt that did not judge its evidence.",
        level="not enough evidence",
        needed="run `dcpt recommend` again",
    )
    return Evidence("not enough evidence", [reason])


@dataclass(frozen=True)
class Recommendation:
    """The answer: the best pair of share and learning rate for a target.

    Shares are rounded down to three decimals, so that training can realise them exactly.

    Args:
        target: The large run, checked; its base losses are named after the fit's channels. Its mix
            is the best one where it was searched.
        phase: Phase whose losses are compared: ``annealed`` or ``constant``.
        level: Interval probability.
        best: The recommended pair: the lowest domain loss among the pairs that keep the limit in
            the asked share of the draws (the target's ``confidence``); None if no pair does.
        central: The pair with the lowest domain loss by the central predictions alone. It keeps the
            limit with about even odds where the limit decides the share. Its ``regret`` is the
            price of certainty with the sign changed. None if no share meets the limit.
        ratio_interval: The best share at the recommended learning rate, by the central predictions
            and optimized again in each bootstrap draw (with mix and rate, where the mix was
            searched). A draw in which no share meets the limit
            counts as 0, a draw in which the largest share is best as 0.97.
        learning_rate_interval: Interval of the learning rate when share and rate are both optimized
            again in each bootstrap draw that has a feasible share; None if the rate was fixed or
            the runs have a single rate.
        allowed_general_loss: Largest loss of ``general_channel`` within the limit, nats per token;
            None without a limit.
        habits: Common shares at the recommended learning rate.
        frontiers: Losses over the shares, for each learning rate.
        extrapolation: Factor by which the target lies outside the runs, for each axis that they
            have; 1 is inside.
        flags: Warnings, the most important first.
        laws: Weights of the laws that predict the target, by channel; laws that do not apply there
            have no weight.
        general_channel: Channel that the limit is on; ``general_worst`` if limits are on several;
            without a limit the general channel, None if the table has none.
        limits: Limits by channel; empty without a limit.
        domain_channel: Channel whose loss is minimized.
        runs_sha256: Hash of the runs table.
        fit_sha256: Hash of the fit.
        alternatives: Other pairs, by name.
        ratio_by_law: Largest share that each general law allows alone at that rate.
        evidence: How strong the evidence is.
        twice_the_text: What twice as much domain text would give: the recommended pair and its
            losses; ``regret`` is the difference of the domain losses. None where no law of the
            domain loss depends on the amount of text, or no text is repeated.
        equivalent: How many times the tokens, or the parameters, the nearest common share would
            need for the same domain loss; None where no share is recommended.
        horizon: What rolling-origin tests say about predictions this far beyond the runs, in
            sentences; empty if nothing could be tested.
        shares: The share of every source in training, where the mix of the general text was
            searched: at the recommended pair (None without one), with the interval of the best
            share when all shares are optimized again in each bootstrap draw. Empty where the mix
            was given or is that of the runs. Draws in which no mixture meets the limit count as 0
            for the domain, and not at all for the others.
    """

    target: Target
    phase: str
    level: float
    best: Choice | None
    central: Choice | None
    ratio_interval: Interval
    learning_rate_interval: Interval | None
    allowed_general_loss: float | None
    habits: list[Choice]
    frontiers: list[Frontier]
    extrapolation: dict[str, float]
    flags: list[Flag]
    laws: dict[str, dict[str, float]]
    general_channel: str | None
    limits: dict[str, Limit]
    domain_channel: str
    runs_sha256: str
    fit_sha256: str
    alternatives: dict[str, Choice] = field(default_factory=dict)
    ratio_by_law: dict[str, float] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=_not_judged)
    horizon: list[str] = field(default_factory=list)
    twice_the_text: Choice | None = None
    equivalent: Equivalent | None = None
    shares: dict[str, Interval] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values (``recommendation.json``)."""
        return asdict(self)


@dataclass(frozen=True)
class Verified:
    """A run trained to check the recommendation: predicted and measured losses by channel.

    Args:
        label: ``recommendation`` or the name of a neighbour.
        run: Its name in the runs table.
        ratio: Share of domain text that it was trained with.
        learning_rate: Its peak learning rate; None where the table has none.
        predicted: Predicted losses, nats per token.
        measured: Measured losses, nats per token.
        inside: Whether the measured loss lies in the predicted interval.
        standard_errors: Standard errors of the measured losses, nats per token, where known.
    """

    label: str
    run: str
    ratio: float
    learning_rate: float | None
    predicted: dict[str, Interval]
    measured: dict[str, float]
    inside: dict[str, bool]
    standard_errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """Predicted and measured losses at the recommendation and its neighbours.

    Args:
        level: Probability of the predicted intervals.
        runs: The trained runs, the recommendation first.
        recommendation_held: Whether all losses measured at the recommendation are in their
            intervals.
        limit_held: Whether the measured general loss at the recommendation is within the limit;
            None without one.
        best_measured: Label of the run with the lowest domain loss within the limit, if any is.
        words: The result in sentences.
        measured_ratio: The share at which the measured general losses cross the limit, interpolated
            between the runs; None where they do not cross it.
        ratio_held: Whether that share lies in the recommendation's interval.
        limit_margin: Allowed minus measured general loss at the recommendation, nats per token;
            None without a limit.
        limit_within_noise: Whether that margin is at most two standard errors of the measured
            loss; None where the standard error is not known.
        one_sided: Mean of measured minus predicted loss, nats per token, of each channel that all
            runs miss in the same direction.
        fitted: Runs that the fit contains, so that they do not test it.
    """

    level: float
    runs: list[Verified]
    recommendation_held: bool
    limit_held: bool | None
    best_measured: str | None
    words: list[str]
    measured_ratio: float | None = None
    ratio_held: bool | None = None
    limit_margin: float | None = None
    limit_within_noise: bool | None = None
    one_sided: dict[str, float] = field(default_factory=dict)
    fitted: list[str] = field(default_factory=list)

    @property
    def main(self) -> Verified:
        """The run at the recommended pair."""
        return next(run for run in self.runs if run.label == "recommendation")

    @property
    def best(self) -> Verified | None:
        """The run with the lowest domain loss within the limit; None if no run is within it."""
        return next((run for run in self.runs if run.label == self.best_measured), None)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values (``verification.json``)."""
        return asdict(self)
