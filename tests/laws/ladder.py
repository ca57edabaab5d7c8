"""Synthetic tables like those of a small demo: three tiny base models and a larger target."""

from __future__ import annotations

import numpy as np
import pandas as pd

SIZES = {56e3: (3.63, 6e-3), 132e3: (3.42, 5e-3), 385e3: (3.2, 4e-3), 1105e3: (3.04, 3e-3)}
EVALUATED = (32e3, 43e3, 57e3, 76e3, 102e3, 143e3, 174e3, 205e3)
WARMUP = 12e3


def general_loss(
    base: float, ratio: float, tokens: float, rate: float, relative: float, end: bool
) -> float:
    """A rise that saturates in the rate and is steep near ratio 1, and a gain from general text."""
    d = tokens / 1e5
    forgetting = 0.05 * base * np.log1p(2.0 * (rate / 1e-3) * d**0.4)
    rise = forgetting * ratio / (1 - ratio + 0.05) ** 0.5
    noise = 0.12 * relative * ((1 - np.exp(-tokens / (2 * WARMUP))) - (0.7 if end else 0.0))
    return float(base - 0.03 * (1 - ratio) * d**0.2 + rise + noise)


def domain_loss(
    base: float, size: float, ratio: float, tokens: float, rate: float, relative: float, end: bool
) -> float:
    """Falls with tokens weighted by rate and size, and with the log of the share."""
    weighted_tokens = (tokens / 1e5) * ((rate / 1e-3) * (size / 2e5) ** 0.4) ** 0.75
    noise = 0.15 * relative * (0.4 if end else 1.0)
    return float(0.5 + 0.8 * base + 1.1 * weighted_tokens**-0.25 - 0.35 * np.log(ratio) + noise)


def make_ladder(
    sizes: tuple[float, ...] = tuple(SIZES)[:3], noise: float = 0.005, seed: int = 0
) -> pd.DataFrame:
    """Five ratios x three rates at the smallest and the target size, 3 x 2 at other sizes."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in sizes:
        base, peak = SIZES[size]
        full = size in (56e3, 1105e3)
        for ratio in (0.1, 0.25, 0.5, 0.75, 0.9) if full else (0.25, 0.5, 0.75):
            for part in (0.1, 0.3, 1.0) if full else (0.1, 1.0):
                rate, run = part * peak, f"{size:g}-r{ratio}-x{part}"
                shift = rng.normal(0, noise, 2)
                ends = [(t, False) for t in EVALUATED] + [(225e3, True)]
                rows.append(_row(run, size, ratio, rate, peak, 0.0, "base", base, 6.0))
                for tokens, end in ends:
                    lg = general_loss(base, ratio, tokens, rate, part, end) + shift[0]
                    ld = domain_loss(base, size, ratio, tokens, rate, part, end) + shift[1]
                    lg, ld = np.array([lg, ld]) + rng.normal(0, noise / 3, 2)
                    phase = "annealed" if end else "constant"
                    rows.append(_row(run, size, ratio, rate, peak, tokens, phase, lg, ld))
    return pd.DataFrame(rows)


def _row(
    run: str,
    size: float,
    ratio: float,
    rate: float,
    peak: float,
    tokens: float,
    phase: str,
    general: float,
    domain: float,
) -> dict[str, object]:
    return {
        "run": run,
        "n_params": size,
        "n_tokens": tokens,
        "ratio": ratio,
        "learning_rate": rate,
        "phase": phase,
        "loss_general": general,
        "loss_domain": domain,
        "base_peak_learning_rate": peak,
        "base_n_tokens": 2e6,
        "warmup_tokens": WARMUP,
    }
