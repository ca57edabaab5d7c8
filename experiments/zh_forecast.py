"""What does ``zh_annealed`` predict for two larger bases, before their runs are looked at?

Hypotheses:

- The 90 % intervals of the stack contain nine tenths of the annealed losses of a 29.1M and a 91.2M
  base.
- At 3e-4 and 9e-4, ``saturating-general`` and ``plateau-domain`` alone predict the losses of 29.1M
  within 0.03 (r <= 0.75) and 0.05 nats.
- The pairs (r, learning rate) that the stack chooses exceed a limit by at most 0.5 % of the base's
  loss.

The fit uses all 50 runs (1.8M and 6.6M, 1e-4 to 4e-3). The forecast is for the end of the decay at
44M tokens: both losses for r = 0.25, 0.5, 0.75, 0.9 at 1e-4, 3e-4, 9e-4, 2e-3, and the best pair
under limits of +1, 2, 3, 5 % on the general loss.

Command, about 15 CPU seconds::

    python experiments/zh_forecast.py

Results: ``zh_forecast.json`` and, as a page, ``zh_forecast.md`` in this folder. Neither contains
measured losses of the larger bases.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from held_out_errors import losses_by_law
from measured_pairs import LIMITS, target_of
from pages import markdown
from pilot import AT_44M, MIDDLE

import dcpt
from dcpt.decide import format_rate
from dcpt.decide.records import Choice, Interval
from dcpt.laws import Fit

Base = dict[str, float]

LEVEL = 0.9
SHARES = (0.25, 0.5, 0.75, 0.9)
RATES = (1e-4, 3e-4, 9e-4, 2e-3)
TRUSTED = {"general": "saturating-general", "domain": "plateau-domain"}

BASES: dict[str, Base] = {
    "29.1M": {
        "n_params": 29_106_688,
        "base_loss_general": 2.775,
        "base_peak_learning_rate": 1e-3,
    },
    "91.2M": {"n_params": 91.2e6, "base_loss_general": 2.672, "base_peak_learning_rate": 8e-4},
}
SHARED: Base = {"base_n_tokens": 119_996_416, "warmup_tokens": 409_600, "batch_tokens": 16_384}

ASSUMED = [
    "n_params of the 91.2M base is 91,200,000; that of the 29.1M base is as in the pilot",
    "44M tokens are 43,991,040, as in the pilot: a trunk of 40M and a linear decay to zero over 4M",
    "pre-training on 120M tokens, warmup of 409,600 tokens, batches of 16,384, as in the pilot",
    "the domain loss of the bases is unknown; none of these laws uses it",
]

ABOUT = """# Forecast for two larger bases, from the 50 runs of zh_annealed

Written by `python experiments/zh_forecast.py`. `zh_forecast.json` has all numbers, and those of
each single law. Nats per token after the decay, at 44M tokens; the 90 % interval in brackets. No
run of either base was looked at.

"""
HEAD = [
    *("rate", "share", "general rise: stack", "saturating-general", "all laws"),
    *("domain: stack", "plateau-domain", "all laws"),
]
SAFE = 0.9
"""Share of the draws in which the safe pair keeps the limit."""

PAIR_HEAD = ["limit", "share", "learning rate", "domain loss", "chance of the limit", "safe pair"]

TRUST = """## Which predictions we trust

The held-out errors behind these judgements are in `pilot.md`.

- **General loss: `saturating-general`**, +-0.03 nats at 29.1M up to r = 0.75 and 9e-4, twice that
  beyond, and twice that again at 91.2M. The law has no exponent of N to extrapolate: size enters
  through the base's loss and through the learning rate in units of the base's peak. From 1.8M to
  6.6M, after the decay, it is the best of the laws for both phases. `sized-general` rises most at
  r = 0.9. Its exponents of N are fitted to two sizes, so it is the upper end.
- **Domain loss: `plateau-domain`**, +-0.05 nats at 29.1M at 3e-4 and 9e-4, +-0.1 elsewhere and at
  91.2M. Only its terms in size predicted 6.6M from 1.8M (with w fixed). On code at 29.1M it was
  0.04 too low, and here it is the lowest law almost everywhere, so the measured loss is more likely
  to be higher than lower. `annealed-domain-lam`, which has most of the stack's weight, was fitted
  to 45 ends, and no size was held out for it. All of these laws are linear in the base's general
  loss, of which the runs have two values. At 29.1M the laws differ most at 1e-4, where
  `plateau-domain` is already too low at the 6.6M ends that it was fitted to:
  {ends}.
- **The pair.** The share hardly changes with N if the learning rate is free: the rate falls by a
  third or more from 6.6M to 29.1M. From 1.8M the general loss at the stack's pairs for 6.6M
  exceeded each limit a little, and more at +5 %. By construction, a central answer meets its limit
  with a chance of 50 %. Where the limit is firm, take the safe pair. No answer is near 2e-3, which
  is 2 and 2.5 times the peaks of the bases.
"""


def forecast() -> dict[str, Any]:
    """Compute the record: what was fitted, and per base the losses and the pairs."""
    runs = dcpt.bundled_runs("zh_annealed")
    fit = dcpt.fit(runs)
    trusted = dcpt.fit(runs, law=list(TRUSTED.values()))
    return {
        "software": {name: version(name) for name in ("dcpt", "numpy", "scipy", "pandas")},
        "table": {"name": "zh_annealed", "sha256": fit.table_sha256, "runs": runs["run"].nunique()},
        "fit": {"n_draws": fit.n_draws, "seed": fit.seed, "delta": fit.delta},
        "level": LEVEL,
        "phase": fit.phase_for_decisions,
        "n_tokens": AT_44M,
        "weights": {channel: above_zero(fit.weights(channel)) for channel in fit.channels},
        "trusted": TRUSTED,
        "assumed": ASSUMED,
        "flags": {flag.label: flag.sentence for flag in fit.flags},
        "trusted_at_ends_seen": at_ends(fit, runs),
        "bases": {
            label: {
                **base,
                **SHARED,
                "flags": beyond(fit, base),
                "losses": losses(fit, base),
                "pairs": {
                    "stack": [decide(fit, base, limit) for limit in LIMITS],
                    "trusted": [decide(trusted, base, limit) for limit in LIMITS],
                },
            }
            for label, base in BASES.items()
        },
    }


def at_ends(fit: Fit, runs: pd.DataFrame) -> dict[str, float]:
    """By rate, mean error (predicted minus measured) of the trusted domain law at 6.6M ends."""
    left = fit.residuals()
    left = left[(left["law"] == TRUSTED["domain"]) & (left["phase"] == "annealed")]
    rows = runs.iloc[left["row"] - 2].assign(miss=-left["residual"].to_numpy())
    means = rows[rows["n_params"] == MIDDLE].groupby("learning_rate")["miss"].mean()
    return {format_rate(float(str(rate))): round(float(miss), 4) for rate, miss in means.items()}


def cells_of(base: Base) -> pd.DataFrame:
    """Return every cell to predict, ordered by rate and then by share."""
    cells = [{"ratio": share, "learning_rate": rate} for rate in RATES for share in SHARES]
    return pd.DataFrame(cells).assign(**base, **SHARED, n_tokens=AT_44M, phase="annealed")


def beyond(fit: Fit, base: Base) -> dict[str, str]:
    """Describe where the cells lie outside the runs, also for rates in units of the base's peak."""
    asked = cells_of(base)
    found = fit.flags_at("general", fit.points("general", asked))
    flags = {flag.label: flag.sentence for flag in found}
    runs = dcpt.bundled_runs("zh_annealed")
    trained = (runs["learning_rate"] / runs["base_peak_learning_rate"]).max()
    most = (asked["learning_rate"] / asked["base_peak_learning_rate"]).max()
    lowest = runs.loc[runs["n_tokens"] == 0, "loss_general"].min()
    if most > trained * 1.02:
        flags["extrapolates (learning_rate/base_peak_learning_rate)"] = (
            f"{format_rate(RATES[-1])} is {most:.2g} times the base's peak, the runs go up to "
            f"{trained:.2g}"
        )
    if base["base_loss_general"] < lowest:
        flags["extrapolates (base_loss_general)"] = (
            f"the base's general loss {base['base_loss_general']:.3f} is below the {lowest:.3f} "
            "of the best base in the runs, and every domain law is linear in it"
        )
    return flags


def losses(fit: Fit, base: Base) -> list[dict[str, Any]]:
    """Predict both losses at every cell: by the stack, with intervals, and by each law."""
    asked = cells_of(base)
    found = fit.predict(asked, LEVEL)
    pairs = zip(asked["ratio"].tolist(), asked["learning_rate"].tolist(), strict=True)
    cells: list[dict[str, Any]] = [{"ratio": r, "learning_rate": rate} for r, rate in pairs]
    for channel in fit.channels:
        here = found[found["channel"] == channel]
        alone = losses_by_law(fit, channel, fit.points(channel, asked))
        for i, cell in enumerate(cells):
            cell[channel] = {name: nats(here[name].iloc[i]) for name in ("loss", "low", "high")}
            cell[channel]["by_law"] = {law: nats(loss[i]) for law, loss in alone.items()}
    return cells


def decide(fit: Fit, base: Base, limit: int) -> dict[str, Any]:
    """Return the recommendation under a limit, for the record."""
    target = replace(target_of({**base, **SHARED}, AT_44M, f"+{limit}%"), confidence=SAFE)
    found = dcpt.recommend(fit, target, LEVEL)
    assert found.allowed_general_loss is not None  # there is a limit
    return {
        "limit": f"+{limit} %",
        "allowed_general_loss": nats(found.allowed_general_loss),
        "best": choice(found.central),
        "ratio_interval": interval(found.ratio_interval),
        "learning_rate_interval": interval(found.learning_rate_interval),
        "largest_ratio_by_law": {law: nats(share) for law, share in found.ratio_by_law.items()},
        "alternatives": {
            **{name: choice(pair) for name, pair in found.alternatives.items()},
            "safe": choice(found.best),
        },
        "extrapolation": {axis: nats(factor) for axis, factor in found.extrapolation.items()},
        "flags": {flag.label: flag.sentence for flag in found.flags},
        "weights": {channel: above_zero(laws) for channel, laws in found.laws.items()},
    }


def choice(chosen: Choice | None) -> dict[str, Any] | None:
    """Return a pair, its losses, and the share of bootstrap draws within the limit."""
    if chosen is None:
        return None
    pair = {"ratio": chosen.ratio, "learning_rate": chosen.learning_rate}
    losses = {channel: interval(loss) for channel, loss in chosen.losses.items()}
    return pair | losses | {"probability_within_limit": chosen.probability}


def interval(found: Interval | None) -> dict[str, float | None] | None:
    """Return value and limits, rounded."""
    if found is None:
        return None
    limits = {"value": found.value, "low": found.low, "high": found.high}
    return {name: None if value is None else nats(value) for name, value in limits.items()}


def above_zero(laws: Mapping[str, float]) -> dict[str, float]:
    """Return the weights that are not zero, rounded."""
    return {law: round(weight, 4) for law, weight in laws.items() if weight > 0}


def nats(value: float) -> float:
    """Round to 1e-6, which keeps two digits of the learning rates."""
    return round(float(value), 6)


def write_page(record: dict[str, Any]) -> str:
    """Format the record as a page."""
    text = ABOUT
    for channel, laws in record["weights"].items():
        named = ", ".join(f"{law} {weight:.2f}" for law, weight in laws.items())
        text += f"- Stack, {channel}: {named}.\n"
    text += "".join(f"- Assumed: {assumption}.\n" for assumption in record["assumed"])
    for label, base in record["bases"].items():
        text += f"\n## {label}: base {base['base_loss_general']:g}, peak "
        text += f"{format_rate(base['base_peak_learning_rate'])}\n\n"
        text += markdown(HEAD, [row_of(cell, base) for cell in base["losses"]])
        for laws, answers in base["pairs"].items():
            names = laws if laws == "stack" else " and ".join(TRUSTED.values())
            text += f"Best pair, {names}:\n\n" + markdown(PAIR_HEAD, map(pair_row, answers))
        flags = dict(base["flags"])
        for answer in base["pairs"]["stack"]:
            new = {name: words for name, words in answer["flags"].items() if name not in flags}
            flags |= {f"{name}, {answer['limit']}": words for name, words in new.items()}
        text += "".join(f"- `{name}`: {words}.\n" for name, words in flags.items())
    ends = [f"{miss:+.3f} at {rate}" for rate, miss in record["trusted_at_ends_seen"].items()]
    return text + "\n" + TRUST.format(ends=", ".join(ends))


def row_of(cell: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """Format a cell: rise of general loss and domain loss, by stack, trusted law and all laws."""
    row = [format_rate(cell["learning_rate"]), f"{cell['ratio']:g}"]
    for channel, start, form in (
        ("general", base["base_loss_general"], "+.3f"),
        ("domain", 0, ".3f"),
    ):
        found = cell[channel]
        by_law = found["by_law"].values()
        shown = [found["loss"], found["low"], found["high"], found["by_law"][TRUSTED[channel]]]
        shown += [min(by_law), max(by_law)]
        loss, low, high, trusted, least, most = (format(value - start, form) for value in shown)
        row += [f"{loss} ({low} to {high})", trusted, f"{least} to {most}"]
    return row


def pair_row(answer: dict[str, Any]) -> list[str]:
    """Format the answer under a limit: the pair, its intervals, and the losses there."""
    best, safe = answer["best"], answer["alternatives"].get("safe")
    if best is None:
        return [answer["limit"], *["none"] * 5]
    share, rate = answer["ratio_interval"], answer["learning_rate_interval"]
    domain = best["domain"]
    return [
        answer["limit"],
        f"{best['ratio']:.2f} ({share['low']:.2f} to {share['high']:.2f})",
        f"{format_rate(best['learning_rate'])} ({format_rate(rate['low'])} to "
        f"{format_rate(rate['high'])})",
        f"{domain['value']:.3f} ({domain['low']:.3f} to {domain['high']:.3f})",
        f"{best['probability_within_limit']:.0%}",
        "none" if safe is None else f"{safe['ratio']:.2f} @ {format_rate(safe['learning_rate'])}",
    ]


def main() -> None:
    """Write the record and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_suffix(".json"), help="record"
    )
    out = parser.parse_args().out
    record = forecast()
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(write_page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
