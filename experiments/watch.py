"""How well does ``dcpt watch`` forecast the end of a run that it has seen a part of?

Every public ladder with decays gives targets of 29M parameters and more, predicted from the smaller
sizes. The prior of the two-level model is learnt without the ladder's domain. Each run at the
target is watched when it has seen a part of its tokens, and its end is forecast:

- ``constant``: the end at constant rate, from points at constant rate (a fit without decays);
- ``early decay``: the end after the decay, from the end of a decay at a quarter of the run;
- ``carried over``: the end after the decay, from points at constant rate.

``dcpt watch`` carries nothing over, and shifts nothing before half of the run; the rows show why.

    python experiments/watch.py PILOT

PILOT is the folder of the pilot's tables. About 5 CPU minutes; the page is ``watch.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measured_pairs import base_of, target_of
from pages import markdown
from two_level import Case, cases, fit_with
from two_level_priors import SIDES, learn, public_ladders

from dcpt.decide.large_run import LATEST_PART, watch_run
from dcpt.decide.watched import WatchedChannel
from dcpt.errors import InputError
from dcpt.laws import Fit
from dcpt.laws.two_level.kernel import Prior

PARTS = (0.25, 0.5, 0.65, 0.8)
LIMIT = 3
Record = dict[str, Any]


def records_of(case: Case, priors: Mapping[str, Prior]) -> Iterator[Record]:
    """A record per run at the target, way of forecasting, part seen and channel."""
    table, at = case.table([]), case.at_target
    annealed = fit_with(priors, table)
    constant = fit_with(priors, table[table["phase"] != "annealed"])
    for end in case.ends().to_dict("records"):
        own = at[at["run"] == end["run"]]
        steady = own[own["phase"] != "annealed"].sort_values("n_tokens")
        last: dict[Any, Any] = {
            **end,
            **steady.iloc[-1][["n_tokens", "loss_general", "loss_domain"]].to_dict(),
        }
        for part in PARTS:
            seen = steady[steady["n_tokens"] <= part * end["n_tokens"]]
            yield from forecasts(case, constant, "constant", part, seen, last)
            yield from forecasts(case, annealed, "carried over", part, seen, end)
        early = own[(own["phase"] == "annealed") & (own["n_tokens"] < 0.9 * end["n_tokens"])]
        if len(early):
            stop = early["n_tokens"].max()
            seen = own[own["n_tokens"] <= stop]
            part = round(float(stop / end["n_tokens"]), 2)
            yield from forecasts(case, annealed, "early decay", part, seen, end)


def forecasts(
    case: Case, fit: Fit, how: str, part: float, seen: pd.DataFrame, end: Mapping[Any, Any]
) -> Iterator[Record]:
    """A record per channel of one run."""
    rate, base = float(end["learning_rate"]), base_of(case.ladder.runs, case.size)
    target = target_of(base, int(end["n_tokens"]), f"+{LIMIT}%", rate)
    try:
        found = watch_run(fit, target, seen, ratio=float(end["ratio"]), learning_rate=rate)
    except InputError:
        return  # too early, or no law holds at that rate
    for channel in found.channels:
        measured = float(end[f"loss_{channel.channel}"])
        low, high = channel.forecast.low or np.nan, channel.forecast.high or np.nan
        shift = 0.0 if channel.is_shifted else carried(channel, how)
        yield {
            "case": case.name,
            "how": how,
            "part": part,
            "channel": channel.channel,
            "before": (channel.predicted.value or np.nan) - measured,
            "now": (channel.forecast.value or np.nan) + shift - measured,
            "inside": low + shift <= measured <= high + shift,
            "warned": channel.breaks_limit,
            "broke": channel.allowed is not None and measured > channel.allowed,
            "limited": channel.allowed is not None,
        }


def carried(channel: WatchedChannel, how: str) -> float:
    """Mean miss of the last third of the points, of an early decay that of its end, nats."""
    n_last = 1 if how == "early decay" else max(1, round(LATEST_PART * len(channel.points)))
    last = channel.points[-n_last:]
    return float(np.mean([point.measured - (point.predicted.value or np.nan) for point in last]))


def table_of_errors(found: pd.DataFrame) -> str:
    """RMSE before the run and of the forecast, by way, target, part seen and channel."""
    rows = []
    for (how, name, part, channel), of in found.groupby(
        ["how", "case", "part", "channel"], sort=False
    ):
        before, now = (float(np.sqrt(np.mean(of[key] ** 2))) for key in ("before", "now"))
        cells = [f"{before:.3f}", f"{now:.3f}", f"{of['now'].mean():+.3f}"]
        about = [str(how), str(name), f"{part:.0%}", str(channel), str(len(of))]
        rows.append([*about, *cells, f"{of['inside'].mean():.0%}"])
    head = ["from", "target", "seen", "channel", "runs", "RMSE before", "RMSE now", "bias now"]
    return markdown([*head, "inside 90 %"], rows)


def table_of_means(found: pd.DataFrame) -> str:
    """The same over all targets."""
    rows = []
    for (how, part, channel), of in found.groupby(["how", "part", "channel"]):
        if len(of) >= 8:
            errors = (f"{np.sqrt(np.mean(of[key] ** 2)):.3f}" for key in ("before", "now"))
            inside = f"{of['inside'].mean():.0%}"
            rows.append([str(how), f"{part:.0%}", str(channel), str(len(of)), *errors, inside])
    return markdown(
        ["from", "seen", "channel", "runs", "RMSE before", "RMSE now", "inside 90 %"], rows
    )


def table_of_warnings(found: pd.DataFrame) -> str:
    """How often a break of the limit was forecast, and how often it came."""
    rows = []
    for how, of in found[found["limited"] & (found["how"] != "carried over")].groupby("how"):
        warned, broke = of["warned"], of["broke"]
        counts = [(warned & broke).sum(), (warned & ~broke).sum(), (~warned & broke).sum()]
        rows.append([str(how), str(len(of)), *map(str, counts)])
    return markdown(["from", "forecasts", "warned, broke", "warned, held", "missed"], rows)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pilot", type=Path)
    ladders = public_ladders(parser.parse_args().pilot)
    records: list[Record] = []
    for case in cases(ladders):
        if case.phase == "annealed":
            others = [ladder for ladder in ladders if ladder.domain != case.ladder.domain]
            records += records_of(case, {side: learn(others, side) for side in SIDES})
            print(case.name, len(records), flush=True)
    found = pd.DataFrame(records)
    text = f"# The end of a run, forecast from a part of it\n\n{__doc__}\n## Means\n\n"
    text += table_of_means(found) + f"\n## Breaks of a limit of +{LIMIT} %\n\n"
    text += table_of_warnings(found) + "\n## Each target\n\n" + table_of_errors(found)
    Path(__file__).with_suffix(".md").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
