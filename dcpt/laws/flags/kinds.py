"""Every kind of warning about a table and the laws fitted to it, with its sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dcpt.flags import Flag

SENTENCES = {
    "at_bound": "{parameters} ended on a bound, so the value is not an estimate. Use predictions.",
    "starts_disagree": (
        "Only one start found the best fit, so the search may have missed a better one. Fit again "
        "with another seed and compare the objectives."
    ),
    "several_minima": (
        "Other starts fit these points equally well and predict other losses at some of them or at "
        "the largest size and longest D. Fix a parameter or add runs that separate the fits, and "
        "do not interpret single parameters."
    ),
    "minima_disagree": (
        "Starts that fit these points equally well allow different values of {axis} under one "
        "limit at the largest size and longest D. Add runs near the recommendation."
    ),
    "ill_conditioned": "Parameters compensate each other. Use predictions, not parameter values.",
    "few_sizes": (
        "The runs have two sizes, so the error at another size is not measured. Add two "
        "or three short runs at a third size."
    ),
    "one_size": (
        "The runs have one size, so terms in N were dropped. Laws that need such terms are refused "
        "at other sizes, and the error of the other laws there is not measured. Add runs at a "
        "second size."
    ),
    "one_length": (
        "All points were measured at one number of tokens, so terms in D were dropped. Laws that "
        "need such terms are refused at other token counts. Add evaluations earlier in the runs."
    ),
    "no_sizes": (
        "The table names no sizes, so the fit is valid only at the size of its runs. Add the "
        "column n_params."
    ),
    "no_learning_rates": (
        "The table names no learning rates, so the fit is valid only at the rates of its runs. Add "
        "the column learning_rate."
    ),
    "phase_not_named": (
        "The table has neither a column phase nor a column schedule, so every row is taken as "
        "measured at a constant learning rate. If the runs decay the rate (cosine, for example), "
        "name each run's schedule in the column schedule and give --schedules FILE (schedules=), "
        "or add the column phase."
    ),
    "schedules_not_given": (
        "The column schedule names schedules and no file defines them, so every point was taken as "
        "measured at a constant rate. Fit again with --schedules FILE (schedules=)."
    ),
    "phase_by_schedule": (
        "The table has no column phase, so the phase was read from the schedules: {annealed} rows "
        "where the rate has fallen to a tenth of its peak or less are annealed. Of {falling} rows "
        "before that the rate is below its peak: only laws of the schedule use them. Add the "
        "column phase to set phases yourself."
    ),
    "not_asked": (
        "A law does not hold at all of these points, so the other laws predict there. "
        "`dcpt laws` lists the range of each law."
    ),
    "no_domain": (
        "No channel is named domain, so {channels} were all fitted as general text and no share "
        "can be recommended. Name the domain's losses loss_domain, or read them so with --column "
        "loss_domain=NAME."
    ),
    "undeclared_decay": (
        "At least half of the runs end below their own curve of the {channel} loss, as they do "
        "after a decay of the learning rate, and no phase is given. Write annealed in the column "
        "phase of such points, or give their schedule."
    ),
    "one_learning_rate": (
        "All runs have one learning rate, so the effect of another rate is unknown and not "
        "predicted. Add a few small runs at a third of it and at three times it."
    ),
    "confounded": (
        "{axes} changed together across the runs, so their effects cannot be separated. Add runs "
        "in which only one of them differs."
    ),
    "mix_differs": (
        "The mix of the general channels ({channels}) differs between runs, and laws know the "
        "share of domain text; only many-sources reads share_<channel>. What other laws say is for "
        "the average mix of the runs, and the two-level model is left out. To fit a "
        "single mix, add a reason in the column excluded to the runs of other mixes."
    ),
    "mixtures_without_ratio": (
        "The shares of {channels} differ between runs and the table has no share of domain text, "
        "so only the law many-sources knows them and no mixture can be recommended. Name the "
        "domain's share share_domain in every row, or read it so with --column share_domain=NAME."
    ),
    "epochs_follow_ratio": (
        "The {channel} text was repeated (more than two epochs) and its size is the same at every "
        "ratio, so the effects of repetition and ratio cannot be separated. Retrain one ratio with "
        "less of that text."
    ),
    "several_evaluations": (
        "The losses were measured on several sets of tokens (eval_id) and no base was measured on "
        "all of them, so they may not be comparable. Evaluate one base on each set, or fit one set "
        "alone."
    ),
    "not_fitted": (
        "No parameters give losses above 0 at every point, so the law was left out. Add points, or "
        "use the other laws."
    ),
    "few_runs": (
        "There are fewer than five runs, so the intervals cover the variation between points but "
        "hardly that between runs. Add runs, or repeat a run with another seed."
    ),
    "drawn_from_part": (
        "The {channel} channel has many points. All were fitted, and a random 5,000 were used for "
        "the held-out errors, the bootstrap draws and the residuals. Thin the curves and fit again "
        "to choose these points yourself."
    ),
    "not_held_out": (
        "No {phase} points of the {channel} channel could be held out, so the law was chosen by "
        "its error on the fitted points and its prediction error is not measured. Add sizes, "
        "ratios or token counts."
    ),
    "two_level_left_out": (
        "The two-level model does not predict the {channel} loss, so the laws do so alone. It "
        "{reason}. Add them to use it."
    ),
    "verification_runs": (
        "The two-level model uses the verification runs {runs}; no law is fitted to them. Write "
        "another reason in the column excluded to leave a run out."
    ),
    "extrapolates": (
        "{axis} lies outside the range of the runs. Verify the prediction with a run nearer to it."
    ),
}


def make_flag(kind: str, subject: Mapping[str, str] | None = None, **values: Any) -> Flag:
    """A flag of a kind; its sentence is filled in from the subject and the values.

    Args:
        kind: One of ``SENTENCES``.
        subject: The channel, law or axis.
        values: What the sentence names; a list is joined by "and".
    """
    subject = subject or {}
    words = {name: _join(value) for name, value in {**subject, **values}.items()}
    return Flag(kind, SENTENCES[kind].format(**words), subject, values)


def _join(value: Any) -> str:
    return value if isinstance(value, str) else " and ".join(value)


def distinct_flags(flags: Sequence[Flag]) -> tuple[Flag, ...]:
    """Flags without repeats, in their order."""
    return tuple(flag for i, flag in enumerate(flags) if flag not in flags[:i])
