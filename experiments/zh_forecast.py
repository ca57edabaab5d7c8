"""What does ``zh_annealed`` say of two larger bases, before anyone looks at their runs?

Hypothesis: 90 % intervals of the stack hold nine tenths of the annealed losses of a 29.1M and a
91.2M base; at 3e-4 and 9e-4 ``saturating-general`` and ``plateau-domain`` alone meet those of 29.1M
within .03 (r <= .75) and .05 nats; the pairs (r, learning rate) that the stack chooses pass a limit
by half a per cent of the base's loss at most.

Fitted: all 50 runs (1.8M and 6.6M, 1e-4 to 4e-3). Asked, after the decay at 44M tokens: both losses
for r = .25 .5 .75 .9 at 1e-4 3e-4 9e-4 2e-3, and the best pair under +1, 2, 3, 5 % of general loss.

Command, about 15 CPU seconds::

    python experiments/zh_forecast.py

Result: ``zh_forecast.json``, and ``zh_forecast.md`` for people, in this folder. Measured losses
of these runs did not go into either.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from pilot import AT_44M, LIMITS, MIDDLE, losses_by_law, markdown

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
ALIKE: Base = {"base_n_tokens": 119_996_416, "warmup_tokens": 409_600, "batch_tokens": 16_384}

ASSUMED = [
    "n_params of the 91.2M base is taken as 91,200,000; that of the 29.1M base is the pilot's",
    "44M tokens are the pilot's 43,991,040: a trunk of 40M and a linear decay to zero over 4M more",
    "pre-training on 120M tokens, warmup of 409,600 tokens and batches of 16,384 as in the pilot",
    "the bases' own domain loss is left unknown: none of these laws reads it",
]

ABOUT = """# Forecast for two larger bases, from the 50 runs of zh_annealed

Written by `python experiments/zh_forecast.py`; `zh_forecast.json` holds all of it and each law
alone. Nats per token after the decay, at 44M tokens; in brackets the 90 % interval. No run of
either base was looked at.

"""
HEAD = [
    *("rate", "share", "general rise: stack", "saturating-general", "all laws"),
    *("domain: stack", "plateau-domain", "all laws"),
]
PAIR_HEAD = ["limit", "share", "learning rate", "domain loss", "odds of the limit", "safe pair"]

TRUST = """## What we would trust

Held-out errors behind this are in `pilot.md`.

- **General loss: `saturating-general`**, +-.03 nats at 29.1M up to r = .75 and 9e-4, twice that
  beyond, and twice that again at 91.2M. It has no exponent of N to extrapolate: size enters through
  the base's own loss and through the rate in units of the base's peak. It is the best law of both
  phases from 1.8M to 6.6M after the decay. `sized-general` rises highest at r = .9: its exponents
  of N rest on two sizes, so it marks the upper end.
- **Domain loss: `plateau-domain`**, +-.05 nats at 29.1M at 3e-4 and 9e-4, +-.1 elsewhere and at
  91.2M. Its terms in size alone survived 6.6M from 1.8M (with w given); on code at 29.1M it was
  .04 too low, and here it is the lowest law nearly everywhere, so a miss is more likely upwards.
  `annealed-domain-lam`, most of the stack, saw 45 ends, and no size was held out for it. All of
  these laws are linear in the base's general loss, of which two values were seen.
  At 29.1M the laws are furthest apart at 1e-4, where `plateau-domain` is already low on the 6.6M
  ends that it was fitted to: {ends}.
- **The pair.** The share hardly moves with N once the rate does: it falls by a third or more from
  6.6M to 29.1M. From 1.8M the stack's pairs at 6.6M passed each limit a little, more at +5 %, and
  a central answer meets its limit with even odds by construction: where the limit is firm, take the
  safe pair. No answer is near 2e-3, which is 2 and 2.5 times the bases' own peaks.
"""


def forecast() -> dict[str, Any]:
    """The whole record: what was fitted, and per base the losses and the pairs."""
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
                **ALIKE,
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
    """By rate, predicted minus measured of the trusted domain law at the 6.6M ends it saw."""
    left = fit.residuals()
    left = left[(left["law"] == TRUSTED["domain"]) & (left["phase"] == "annealed")]
    rows = runs.iloc[left["row"] - 2].assign(miss=-left["residual"].to_numpy())
    means = rows[rows["n_params"] == MIDDLE].groupby("learning_rate")["miss"].mean()
    return {format_rate(float(str(rate))): round(float(miss), 4) for rate, miss in means.items()}


def cells_of(base: Base) -> pd.DataFrame:
    """The question at every cell, shares within rates."""
    cells = [{"ratio": share, "learning_rate": rate} for rate in RATES for share in SHARES]
    return pd.DataFrame(cells).assign(**base, **ALIKE, n_tokens=AT_44M, phase="annealed")


def beyond(fit: Fit, base: Base) -> dict[str, str]:
    """Where the cells lie outside what the runs saw, rates in units of the base's peak too."""
    asked = cells_of(base)
    found = fit.flags_at("general", fit.points("general", asked))
    flags = {flag.label: flag.sentence for flag in found}
    runs = dcpt.bundled_runs("zh_annealed")
    seen = (runs["learning_rate"] / runs["base_peak_learning_rate"]).max()
    most = (asked["learning_rate"] / asked["base_peak_learning_rate"]).max()
    lowest = runs.loc[runs["n_tokens"] == 0, "loss_general"].min()
    if most > seen * 1.02:
        flags["extrapolates (learning_rate/base_peak_learning_rate)"] = (
            f"{format_rate(RATES[-1])} is {most:.2g} times the base's peak, the runs saw {seen:.2g}"
        )
    if base["base_loss_general"] < lowest:
        flags["extrapolates (base_loss_general)"] = (
            f"the base's general loss {base['base_loss_general']:.3f} lies below the {lowest:.3f} "
            "of the best base seen, and every law of the domain is linear in it"
        )
    return flags


def losses(fit: Fit, base: Base) -> list[dict[str, Any]]:
    """Every cell: both losses with their intervals, and what each law alone says."""
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
    """The best pair under a limit, as the package says it."""
    target = dcpt.Target(
        n_params=base["n_params"],
        n_tokens=AT_44M,
        limit=dcpt.Limit(limit, "percent"),
        base_losses={"general": base["base_loss_general"]},
        base_peak_learning_rate=base["base_peak_learning_rate"],
        base_n_tokens=ALIKE["base_n_tokens"],
        warmup_tokens=ALIKE["warmup_tokens"],
    )
    found = dcpt.recommend(fit, target, LEVEL)
    return {
        "limit": f"+{limit} %",
        "allowed_general_loss": nats(found.allowed_general_loss),
        "best": choice(found.best),
        "ratio_interval": interval(found.ratio_interval),
        "learning_rate_interval": interval(found.learning_rate_interval),
        "largest_ratio_by_law": {law: nats(share) for law, share in found.ratio_by_law.items()},
        "alternatives": {name: choice(pair) for name, pair in found.alternatives.items()},
        "extrapolation": {axis: nats(factor) for axis, factor in found.extrapolation.items()},
        "flags": {flag.label: flag.sentence for flag in found.flags},
        "weights": {channel: above_zero(laws) for channel, laws in found.laws.items()},
    }


def choice(pair: Choice | None) -> dict[str, Any] | None:
    """A pair, its losses, and the share of draws within the limit."""
    if pair is None:
        return None
    record = {"ratio": pair.ratio, "learning_rate": pair.learning_rate}
    losses = {channel: interval(loss) for channel, loss in pair.losses.items()}
    return record | losses | {"probability_within_limit": pair.probability}


def interval(span: Interval | None) -> dict[str, float | None] | None:
    """Value and limits, rounded."""
    if span is None:
        return None
    output = {"value": span.value, "low": span.low, "high": span.high}
    return {name: None if value is None else nats(value) for name, value in output.items()}


def above_zero(laws: Mapping[str, float]) -> dict[str, float]:
    """Weights that count."""
    return {law: round(weight, 4) for law, weight in laws.items() if weight > 0}


def nats(value: float) -> float:
    """Rounded to less than any comparison can tell; learning rates keep two digits."""
    return round(float(value), 6)


def tell(record: dict[str, Any]) -> str:
    """The record for people."""
    text = ABOUT
    for channel, laws in record["weights"].items():
        named = ", ".join(f"{law} {weight:.2f}" for law, weight in laws.items())
        text += f"- Stack, {channel}: {named}.\n"
    text += "".join(f"- Taken as known: {assumption}.\n" for assumption in record["assumed"])
    for label, base in record["bases"].items():
        text += f"\n## {label}: base {base['base_loss_general']:g}, peak "
        text += f"{format_rate(base['base_peak_learning_rate'])}\n\n"
        text += markdown(HEAD, [row_of(cell, base) for cell in base["losses"]])
        for who, answers in base["pairs"].items():
            laws = who if who == "stack" else " and ".join(TRUSTED.values())
            text += f"Best pair, {laws}:\n\n" + markdown(PAIR_HEAD, map(pair_row, answers))
        flags = dict(base["flags"])
        for choice in base["pairs"]["stack"]:
            new = {
                name: words for name, words in choice["flags"].items() if name not in base["flags"]
            }
            flags |= {f"{name}, {choice['limit']}": words for name, words in new.items()}
        text += "".join(f"- `{name}`: {words}.\n" for name, words in flags.items())
    ends = [f"{miss:+.3f} at {rate}" for rate, miss in record["trusted_at_ends_seen"].items()]
    return text + "\n" + TRUST.format(ends=", ".join(ends))


def row_of(cell: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """One cell: rise of the general loss, and domain loss; stack, trusted law, spread of laws."""
    row = [format_rate(cell["learning_rate"]), f"{cell['ratio']:g}"]
    for channel, start, form in (
        ("general", base["base_loss_general"], "+.3f"),
        ("domain", 0, ".3f"),
    ):
        output = cell[channel]
        alone = output["by_law"].values()
        shown = [output["loss"], output["low"], output["high"], output["by_law"][TRUSTED[channel]]]
        shown += [min(alone), max(alone)]
        loss, low, high, trusted, least, most = (format(bound - start, form) for bound in shown)
        row += [f"{loss} ({low} to {high})", trusted, f"{least} to {most}"]
    return row


def pair_row(answer: dict[str, Any]) -> list[str]:
    """One limit: the pair, its intervals, and the losses there."""
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
    """Write the record, and its tables for people."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out = parser.parse_args().out
    record = forecast()
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(tell(record), encoding="utf-8")


if __name__ == "__main__":
    main()
