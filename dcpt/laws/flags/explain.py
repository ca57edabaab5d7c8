"""What the warnings of a fit say: one sentence for each kind."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = {
    "at_bound": "{} ended on a bound: read predictions, not its value",
    "starts_disagree": (
        "only one start found the best fit: the search may have missed a better one, so fit again "
        "with another seed and compare the objectives"
    ),
    "several_minima": (
        "other starts ended with as good a fit of these points and with other losses at some of "
        "them or at the largest size and longest D: hold a parameter or add runs that tell them "
        "apart, and trust no single parameter"
    ),
    "minima_disagree": (
        "starts that fit these points equally well allow different values of {} under one limit "
        "at the largest size and longest D: add runs near the recommendation"
    ),
    "ill_conditioned": "parameters trade against each other: read predictions, not values",
    "few_sizes": (
        "fewer than three sizes: the error at another size is not measured, add a third one"
    ),
    "one_size": (
        "one size: the terms in N drop out; laws that have such terms are refused at other sizes, "
        "and nothing measures how far the others miss there: add runs at a second size"
    ),
    "no_sizes": (
        "the table names no sizes: the fit holds at the size of its runs only, add the column "
        "n_params"
    ),
    "few_tokens": (
        "no run saw as many as 1,000 tokens: n_tokens counts tokens, so write 7000000000 for 7 "
        "billion"
    ),
    "no_learning_rates": (
        "the table names no learning rates: the fit holds at its runs' only, add the column "
        "learning_rate"
    ),
    "phase_not_named": (
        "the table has neither a column phase nor a column schedule, so every row is taken as "
        "measured at a constant learning rate: if the runs decay the rate (cosine, for example), "
        "name each run's schedule in the column schedule and give --schedules FILE (schedules=), "
        "or add the column phase"
    ),
    "schedules_not_given": (
        "the column schedule names schedules and no file says what they are, so every law took the "
        "points as at constant rate: fit again with --schedules FILE (schedules=)"
    ),
    "not_asked": (
        "does not hold at all points asked, so the others answer there: read its range with "
        "`dcpt laws`"
    ),
    "undeclared_decay": (
        "at least half of the runs end below their own curve of the {} loss, as they do after a "
        "decay of the learning rate, and no phase says so: write annealed in the column phase of "
        "such points, or give their schedule"
    ),
    "one_learning_rate": (
        "one learning rate: what another one would do is not known, nor answered; a few small runs "
        "at a third and at three times of it tell"
    ),
    "confounded": (
        "{} moved together over the runs: their effects cannot be told apart, add runs in which "
        "only one of them differs"
    ),
    "epochs_follow_ratio": (
        "{} text was seen more than twice and its amount is the same wherever the ratio is: what "
        "repetition costs cannot be told from what the ratio does, train a ratio again with less "
        "of the text"
    ),
    "several_evaluations": (
        "the losses were measured on several sets of tokens (eval_id) and no base was measured on "
        "all of them: they may not be comparable, so measure one base on each or fit one set alone"
    ),
    "not_fitted": (
        "no parameters give losses above 0 at every point, so it was left out; add points, or read "
        "what the others say"
    ),
    "few_runs": (
        "fewer than five runs: the intervals hold what differs between points, hardly what differs "
        "between runs; add runs, or repeat one with another seed"
    ),
    "drawn_from_part": (
        "the {} channel has very many points: all of them were fitted, and a random 5,000 made the "
        "held-out errors, the draws and the residuals; fit again with thinned curves to choose them"
    ),
    "not_held_out": (
        "no {} points could be held out: the law was chosen by how well it fits the points that it "
        "saw, and nothing measures how well it predicts; add sizes, ratios or token counts"
    ),
    "extrapolates": "{} lies outside what the runs saw: verify with a run nearer to it",
}


def explain_flag(name: str) -> str:
    """The sentence of a flag such as ``general/d-cpt/at_bound:gamma``, with its place."""
    *place, flag = name.split("/")
    kind, _, what = flag.partition(":")
    words = WORDS[kind].format(what.replace(",", " and "))
    where = " on ".join(f"`{one}`" for one in reversed(place))
    return f"{where}: {words}" if where else words


def together(names: Sequence[str]) -> list[str]:
    """Flags of one kind in one place as one: ``a/at_bound:E``, ``a/at_bound:H`` as ``...:E,H``."""
    merged: dict[str, list[str]] = {}
    for name in names:
        kind, _, what = name.partition(":")
        merged.setdefault(kind, []).extend([what] if what else [])
    return [f"{kind}:{','.join(whats)}" if whats else kind for kind, whats in merged.items()]
