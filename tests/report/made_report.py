"""A small table of runs, a law that made it, and decisions from it: all known by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dcpt.decide.records import (
    HABITS,
    Choice,
    Evidence,
    Flag,
    Frontier,
    Interval,
    Reason,
    Recommendation,
    Target,
    Verification,
    Verified,
)
from dcpt.laws.points.record import Points
from dcpt.limit import Limit

LEVEL = 0.9


def law(channel: str, points: Points) -> np.ndarray:
    """General loss rises with share and rate, domain loss falls; a decay takes back a third."""
    d, r = points.get("n_tokens") / 1e7, points.get("ratio")
    rate, n = points.get("learning_rate") / 6e-4, points.get("n_params") / 1e7
    annealed = points.get("annealed")
    if channel == "general":
        rise = 0.1 * np.log1p(2 * rate * d**0.4) * r / (1.02 - r) ** 0.4
        return points.get("base_loss") + rise + 0.04 * rate * (1 - 0.7 * annealed)
    return 4.4 * n**-0.05 * (d * rate) ** -0.05 - 0.3 * np.log(r) - 0.08 * annealed


def make_runs(sizes: tuple[float, ...] = (1.8e6, 6.6e6), seed: int = 0) -> pd.DataFrame:
    """Runs on a grid of shares and rates, with noise of .004 nats."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for n in sizes:
        for rate in (3e-4, 9e-4):
            for ratio in (0.1, 0.5, 0.9):
                base = 3.35 if n == sizes[0] else 3.0
                same = {
                    "run": f"{n:g}-{ratio}-{rate}",
                    "n_params": n,
                    "ratio": ratio,
                    "learning_rate": rate,
                    "base_peak_learning_rate": 2e-3,
                    "base_n_tokens": 120_000_000,
                    "warmup_tokens": 400_000,
                }
                rows.append(
                    {
                        **same,
                        "phase": "base",
                        "n_tokens": 0,
                        "loss_general": base,
                        "loss_domain": 9.0,
                    }
                )
                places = [(d, "constant") for d in np.geomspace(1.2e6, 4e7, 6).round()]
                for d, phase in [*places, (44e6, "annealed")]:
                    point = Points(
                        **{
                            name: np.array([value])
                            for name, value in (
                                ("n_params", n),
                                ("n_tokens", d),
                                ("ratio", ratio),
                                ("learning_rate", rate),
                                ("annealed", float(phase == "annealed")),
                                ("base_loss", base),
                            )
                        }
                    )
                    losses = {
                        f"loss_{c}": float(law(c, point)[0] + rng.normal(0, 0.004))
                        for c in ("general", "domain")
                    }
                    rows.append({**same, "phase": phase, "n_tokens": int(d), **losses})
    frame = pd.DataFrame(rows)
    frame["branch_n_tokens"] = np.where(frame["phase"] == "annealed", 4e7, np.nan)
    return frame


def _losses(ratio: np.ndarray, rate: float) -> dict[str, np.ndarray]:
    shape = np.full(len(ratio), 1.0)
    points = Points(
        n_params=29.1e6 * shape,
        n_tokens=44e6 * shape,
        ratio=ratio,
        learning_rate=rate * shape,
        annealed=shape,
        base_loss=2.775 * shape,
    )
    return {channel: law(channel, points) for channel in ("general", "domain")}


def _around(value: float, half: float) -> Interval:
    return Interval(float(value), float(value - half), float(value + half))


def make_choice(ratio: float, rate: float, best_domain: float, label: str = "habit") -> Choice:
    losses = {name: float(v[0]) for name, v in _losses(np.array([ratio]), rate).items()}
    rise = losses["general"] - 2.775
    within = rise <= 0.03 * 2.775
    return Choice(
        ratio=ratio,
        learning_rate=rate,
        losses={name: _around(value, 0.021) for name, value in losses.items()},
        general_rise=_around(rise, 0.021),
        probability=0.62 if within else 0.04,
        regret=_around(losses["domain"] - best_domain, 0.01),
        within_limit=within,
        label=label,
    )


FAR = Reason(
    "extrapolates",
    "The target has 29.1M parameters, a factor of 4.41 from the runs' nearest size (6.6M).",
    {"axis": "n_params"},
    {"factor": 4.41},
    level="tentative",
    needed="train runs with at least 14.6M parameters",
)


def make_recommendation(ratio: float | None = 0.312) -> Recommendation:
    """A tentative recommendation of a share; None for one in which no share meets the limit."""
    grid = np.round(np.arange(0.01, 0.9701, 0.01), 4)
    limit = Limit(3.0, "percent")
    frontiers = []
    for rate in (3e-4, 6.4e-4, 9e-4):
        losses = _losses(grid, rate)
        band = 0.015 + 0.05 * grid
        within = grid[losses["general"] <= 2.775 * 1.03]
        frontiers.append(
            Frontier(
                rate,
                grid.tolist(),
                losses["general"].tolist(),
                (losses["general"] - band).tolist(),
                (losses["general"] + band).tolist(),
                losses["domain"].tolist(),
                (losses["domain"] - 0.03).tolist(),
                (losses["domain"] + 0.03).tolist(),
                _around(float(within[-1]), 0.07) if len(within) else Interval(None, 0.0, 0.1),
                float(within[-1]) if len(within) else None,
            )
        )
    rate = 6.4e-4
    best = None
    if ratio is not None:
        best_domain = float(_losses(np.array([ratio]), rate)["domain"][0])
        best = make_choice(ratio, rate, best_domain, "recommended")
    return Recommendation(
        target=Target(29.1e6, 44e6, limit, {"general": 2.775, "domain": 10.12}),
        phase="annealed",
        level=LEVEL,
        best=best,
        central=None if best is None else make_choice(0.35, 6.6e-4, 4.25, "central"),
        ratio_interval=Interval(ratio, 0.241, 0.393),
        learning_rate_interval=Interval(rate, 5.1e-4, 8.7e-4),
        allowed_general_loss=2.775 * 1.03,
        habits=[make_choice(habit, rate, 4.3) for habit in HABITS],
        frontiers=frontiers,
        extrapolation={"n_params": 4.41, "n_tokens": 1.0},
        flags=[
            Flag("extrapolates", "The target has 29.1M parameters.", {"axis": "n_params"}),
            Flag("wide_interval", "The interval is <wide> & decides little."),
        ],
        laws={"general": {"joint-general": 1.0}, "domain": {"annealed-domain": 1.0}},
        general_channel="general",
        limits={"general": Limit.parse("+3%")},
        domain_channel="domain",
        runs_sha256="0" * 64,
        fit_sha256="1" * 64,
        alternatives={"learning rate 3e-4 held": make_choice(0.45, 3e-4, 4.5)},
        evidence=Evidence("tentative", [FAR]),
    )


def make_verification(missed: bool) -> Verification:
    """Three runs near the made recommendation; a missed one is .05 nats beyond its interval."""
    runs = []
    for label, ratio in (("recommendation", 0.312), ("less", 0.21), ("more", 0.41)):
        predicted = make_choice(ratio, 6.4e-4, 4.3).losses
        measured = {
            name: float(interval.value or 0) + 0.004 for name, interval in predicted.items()
        }
        if missed and label == "recommendation":
            measured["general"] = float(predicted["general"].high or 0) + 0.05
        inside = {
            name: (interval.low or 0) <= measured[name] <= (interval.high or 0)
            for name, interval in predicted.items()
        }
        runs.append(Verified(label, f"run-{label}", ratio, 6.4e-4, predicted, measured, inside))
    return Verification(
        level=LEVEL,
        runs=runs,
        recommendation_held=not missed,
        limit_held=not missed,
        best_measured=None if missed else "recommendation",
        words=["The limit held." if not missed else "The limit did NOT hold."],
        limit_margin=2.775 * 1.03 - runs[0].measured["general"],
    )
