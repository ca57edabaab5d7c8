"""The built-in laws: slopes, values, explained symbols, and the check of formulas."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from dcpt.errors import InputError
from dcpt.laws.bounds import box, references_of
from dcpt.laws.formulas import LAWS, NOTATION
from dcpt.laws.formulas.coordinates import rewarmed
from dcpt.laws.law import References, evaluate
from dcpt.laws.menu import check_formula
from dcpt.laws.points.record import Points
from dcpt.laws.solver.autodiff import Dual
from dcpt.laws.solver.minimise import Problem, evaluate_with_slopes


def some_points(size: int = 40, seed: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    ratio = rng.uniform(0.05, 0.95, size)
    return Points(
        n_params=rng.choice([1e6, 4e6, 16e6], size),
        n_tokens=rng.uniform(1e6, 4e7, size),
        share=ratio,
        ratio=ratio,
        learning_rate=rng.choice([1e-4, 3e-4, 9e-4], size),
        annealed=rng.integers(0, 2, size).astype(float),
        base_loss=rng.uniform(2.7, 3.4, size),
        base_loss_general=rng.uniform(2.7, 3.4, size),
        base_peak_learning_rate=np.full(size, 2e-3),
        base_n_tokens=np.full(size, 1e8),
        warmup_tokens=np.full(size, 4e5),
        unique_tokens=np.full(size, 5e6),
        lr_area=rng.uniform(0.2, 3.0, size),
        anneal_area=rng.uniform(-0.3, 0.3, size),
        drop_sizes=rng.uniform(-1e-4, 3e-4, (size, 3)),
        drop_rates=rng.uniform(0.0, 3e-4, (size, 3)),
        drop_areas=rng.uniform(0.0, 0.3, (size, 3)),
    )


@pytest.mark.parametrize("name", LAWS)
def test_slopes_are_those_of_finite_differences(name: str) -> None:
    law, points = LAWS[name], some_points()
    lower, upper = box(law, points)
    losses = np.full(len(points), 3.0)
    problem = Problem(law, points, losses, references_of(points), lower, upper)
    low, high = problem.to_theta(lower), problem.to_theta(upper)
    low, high = np.maximum(low, -2.0), np.minimum(high, 2.0)
    theta = low + (high - low) * np.random.default_rng(1).uniform(0.3, 0.7, (3, len(low)))
    loss, slopes = evaluate_with_slopes(problem, theta)
    assert np.allclose(loss, evaluate(law, points, problem.to_values(theta), problem.references))
    for column, i in enumerate(np.flatnonzero(problem.free)):
        step = np.zeros(len(low))
        step[i] = 1e-6
        ends = [evaluate_with_slopes(problem, theta + sign * step)[0] for sign in (1, -1)]
        numeric = (ends[0] - ends[1]) / 2e-6
        scale = np.abs(numeric).max() + 1e-3
        assert np.abs(slopes[:, column] - numeric).max() < 1e-5 * scale, law.names[i]


@pytest.mark.parametrize("name", LAWS)
def test_every_symbol_of_a_formula_is_explained(name: str) -> None:
    """Each symbol is in the notation, defined in the formula, or a parameter of the law."""
    law = LAWS[name]
    parts = [part.strip() for part in law.formula.split(";")]
    given = {part.split(" = ")[0].split(", ")[-1] for part in parts if " = " in part}
    given |= {side.split(" = ")[0] for side in law.formula.split(", ") if " = " in side}
    symbols = set(re.findall(r"[A-Za-z][A-Za-z_0-9]*", law.formula))
    functions = {"ln", "min", "max", "sum_k", "on", "points"}
    explained = set(NOTATION) | set(law.names) | given | functions
    assert symbols <= explained, symbols - explained
    assert not set(law.names) & set(NOTATION)


@pytest.mark.parametrize("name", LAWS)
def test_the_loss_is_linear_in_its_amplitudes(name: str) -> None:
    check_formula(LAWS[name], some_points())


@pytest.mark.parametrize("name", [name for name, law in LAWS.items() if law.side == "general"])
def test_general_laws_are_finite_without_domain_text(name: str) -> None:
    points = some_points()
    points = replace(points, ratio=np.zeros(40), share=np.ones(40))
    law = LAWS[name]
    lower, upper = box(law, points)
    problem = Problem(law, points, np.full(40, 3.0), references_of(points), lower, upper)
    middle = problem.to_theta(np.clip(np.ones(len(lower)), lower, upper))[None]
    loss, slopes = evaluate_with_slopes(problem, middle)
    assert np.isfinite(loss).all()
    assert np.isfinite(slopes).all()


def test_d_cpt_is_the_formula_of_the_paper() -> None:
    points = Points(n_params=np.array([2e9]), n_tokens=np.array([4e9]), share=np.array([0.25]))
    p = {"E": 1.0, "A": 0.5, "alpha": 0.3, "B": 0.7, "beta": 0.4, "eta": 0.2, "C": 0.1}
    p |= {"eps": 0.05, "gamma": 0.6}
    law = LAWS["d-cpt"]
    ref = references_of(Points(n_params=np.array([1e9]), n_tokens=np.array([1e9])))
    found = evaluate(law, points, np.array([p[n] for n in law.names]), ref)
    by_hand = 1 + 0.5 / 2**0.3 + 0.7 * 0.25**0.2 / 4**0.4 + 0.1 / (0.25 + 0.05) ** 0.6
    assert found == pytest.approx(by_hand, rel=1e-12)


# One point as plain numbers, from which the expected value of each law is computed.
N, D, R, LR = 4e6, 2e7, 0.25, 6e-4
N_REF, D_REF, LR_REF = 1e6, 1e7, 3e-4
L0, LG0, PEAK, D_PT, WARMUP, UNIQUE = 3.0, 2.8, 2e-3, 1e8, 4e5, 1e6
n, d, lam, s = N / N_REF, D / D_REF, LR / LR_REF, 1 - R
RATE = lam * n**0.4
u = d * RATE**0.75
RP = LR / PEAK
WARM = 1 - math.exp(-D / (2 * WARMUP))
RHO = R / (s + 0.1 * u**-0.5)
END_RISE = math.log(1 + 0.6 * lam) * R / (s + 0.1) ** 0.7
Q = R + 0.3 * s
FX2 = 0.1 * Q**-0.6 * d**-0.2 * n**-0.05
EPOCHS = R * D / UNIQUE
SEEN = UNIQUE / D_REF
N_BEST = (0.5 / 0.7) ** (1 / 0.3) * SEEN
N_USED = N_BEST * (1 + 5 * (1 - math.exp(-(n / N_BEST - 1) / 5)))
S1, S2, S_REF = 1.5, 0.3, 0.6
S, SHIFT = S1 / S_REF, 1 - (1 + 3 * S1 / S_REF) ** -0.5
DROPS = ((-4e-4, 4e-4, 1.5), (1e-4, 3e-4, 0.2))
GAIN = sum(
    size / LR_REF * (1 - (1 + 9 * (rate / LR_REF) ** -0.6 * area / S_REF) ** -0.5)
    for size, rate, area in DROPS
)
D_USED = SEEN * (1 + 15 * (1 - math.exp(-(EPOCHS - 1) / 15)))
D_W = 2 * WARMUP
TRAINED = (D - D_W * WARM) / D_REF
V = TRAINED * RP / (1 + 0.5 * RP)
UNLEARNT = 1 / (1 + 3 * V**0.4)
PACED = 1 / (1 + 3 * (TRAINED * lam**0.9 * n**0.3) ** 0.4)
BY_HAND = {
    "chinchilla": ([2.0, 0.5, 0.3, 0.7, 0.4], 2 + 0.5 * n**-0.3 + 0.7 * d**-0.4),
    "d-cpt": (
        [2.0, 0.5, 0.3, 0.7, 0.4, 0.2, 0.1, 0.05, 0.6],
        2 + 0.5 * n**-0.3 + 0.7 * R**0.2 * d**-0.4 + 0.1 * (R + 0.05) ** -0.6,
    ),
    "d-cpt-d0": (
        [2.0, 0.5, 0.3, 0.7, 0.4, 0.2, 0.1, 0.05, 0.6, 0.5],
        2 + 0.5 * n**-0.3 + 0.7 * R**0.2 * (d + 0.5) ** -0.4 + 0.1 * (R + 0.05) ** -0.6,
    ),
    "data-mixing": (
        [2.0, 0.5, 0.3, 0.7, 0.4, 0.1, 3.0, 0.2, 0.05],
        2 + 0.5 * n**-0.3 + 0.7 * d**-0.4 + 0.1 * math.exp(-3 * R) * d**-0.2 * n**-0.05,
    ),
    "bimix": (
        [2.0, 0.5, 0.3, 0.7, 0.4, 0.1],
        R**-0.1 * (2 + 0.5 * n**-0.3 + 0.7 * d**-0.4),
    ),
    "fx2-mon": (
        [2.0, 0.5, 0.3, 0.7, 0.4, 0.1, 0.6, 0.3, 0.2, 0.05],
        2 + 0.5 * n**-0.3 + 0.7 * d**-0.4 + FX2,
    ),
    "u10": (
        [2.0, 0.5, 0.3, 0.7, 0.4, 0.1, 0.6, 0.3, 0.2, 1.5],
        2 + 0.5 * n**-0.3 + 0.7 * Q**1.5 * d**-0.4 + 0.1 * Q**-0.6 * d**-0.2,
    ),
    "repetition-penalty": (
        [2.0, 0.5, 0.3, 0.7, 0.4, 0.1, 0.6, 0.3, 0.2, 0.05, 0.02, 1.3, 1.1, 0.7],
        2
        + 0.5 * n**-0.3
        + 0.7 * d**-0.4
        + FX2
        + 0.02 * (EPOCHS - 1) ** 1.3 * n**1.1 * (UNIQUE / D_REF) ** -0.7,
    ),
    "muennighoff": (
        [2.0, 0.5, 0.7, 0.3, 15.0, 5.0],
        2 + 0.5 * N_USED**-0.3 + 0.7 * D_USED**-0.3,
    ),
    "anchored-general": (
        [0.05, 0.04, 0.1, 0.4, 0.7, 0.1, 0.3, 0.05],
        L0
        + 0.05 * WARM
        - 0.04 * math.log(1 + s * D / D_PT)
        + 0.1 * n**-0.4 * ((R / (s + 0.1 * d**-0.5)) ** 0.7 * d**0.3) ** (n**0.05),
    ),
    "anchored-domain": (
        [0.3, 0.8, 0.6, 0.4, 0.3, 0.05],
        0.3 + 0.8 * L0 + 0.6 * d**-0.4 - 0.3 * n**-0.05 * math.log(R),
    ),
    "joint-general": (
        [0.03, 0.2, 0.6, 0.4, 0.1, 0.7, 0.2, 0.65],
        L0
        - 0.03 * s * d**0.2
        + 0.2 * math.log(1 + 0.6 * lam * d**0.4) * R / (s + 0.1 * d**-0.5) ** 0.7
        + 0.2 * RP * (WARM - 0.65),
    ),
    "saturating-general": (
        [0.2, 0.02, 0.03, 0.1, 0.65, 0.6, 0.1, 0.7],
        L0
        + 0.2 * RP * (WARM - 0.65)
        - 0.02 * WARM
        - 0.03 * s * d**0.5
        + 0.1 * L0 * (1 - math.exp(-0.6 * lam * d**0.5)) * (R / (s + 0.1 * d**-0.5)) ** 0.7,
    ),
    "sized-general": (
        [0.2, 0.03, 0.1, 0.65, 0.6, 0.3, 0.1, 0.7, 0.05],
        L0
        + 0.2 * RP * (WARM - 0.65)
        - 0.03 * s * u**0.2
        + 0.1
        * L0**2
        * math.log(1 + 0.6 * lam * n**-0.3 * d**0.5)
        * (R / (s + 0.1 * d**-0.5) ** 0.7) ** (n**0.05),
    ),
    "plateau-domain": (
        [0.3, 0.8, 6.0, 0.4, 3.0, 0.1, 0.2, 0.65, 0.5],
        6.0 * UNLEARNT
        + (1 - UNLEARNT) * (0.3 + 0.8 * LG0 - 0.1 * LG0 * math.log(R))
        + 0.2 * RP * (WARM - 0.65),
    ),
    "paced-domain": (
        [0.3, 0.8, 6.0, 0.4, 3.0, 0.1, 0.2, 0.65, 0.9, 0.3],
        6.0 * PACED
        + (1 - PACED) * (0.3 + 0.8 * LG0 - 0.1 * LG0 * math.log(R))
        + 0.2 * RP * (WARM - 0.65),
    ),
    "trained-domain": (
        [0.3, 0.8, 0.6, 0.4, 0.75, 0.1, 0.2, 0.65],
        0.3
        + 0.8 * LG0
        + 0.6 * (TRAINED * RATE**0.75) ** -0.4
        - 0.1 * LG0 * math.log(R)
        + 0.2 * RP * (WARM - 0.65),
    ),
    "anchored-general-lr": (
        [0.05, 0.04, 0.1, 0.4, 0.7, 0.1, 0.3, 0.05],
        L0
        + 0.05 * RATE**1.5 * WARM
        - 0.04 * math.log(1 + s * u * D_REF / D_PT)
        + 0.1 * (lam / n) ** 0.4 * (RHO**0.7 * u**0.3) ** ((n / lam) ** 0.05),
    ),
    "anchored-domain-lr": (
        [0.3, 0.8, 0.6, 0.4, 0.3, 0.05, 0.04],
        0.3 + 0.8 * LG0 + 0.6 * u**-0.4 - 0.3 * n**-0.05 * math.log(R) + 0.04 * RATE**1.5 * WARM,
    ),
    "annealed-domain": (
        [0.3, 0.8, 0.6, 0.4, 0.3, 0.05, 0.04, 0.06, 0.5],
        0.3
        + 0.8 * LG0
        + 0.6 * u**-0.4
        - 0.3 * n**-0.05 * math.log(R)
        + 0.04 * RATE**1.5 * WARM
        - 0.06 * RP**0.5,
    ),
    "annealed-general": (
        [0.03, 0.2, 0.6, 0.1, 0.7, 0.2],
        L0 - 0.03 * s + 0.2 * RP + 0.2 * END_RISE,
    ),
    "annealed-general-l0": (
        [0.03, 0.2, 0.6, 0.1, 0.7, 0.2],
        L0 - 0.03 * s + 0.2 * RP + 0.2 * L0 * END_RISE,
    ),
    "sailor-general": (
        [0.1, -0.05, 0.02],
        L0 + 0.1 - 0.05 * math.log(s / lam) + 0.02 * math.log(s / lam) ** 2,
    ),
    "annealed-domain-lam": (
        [0.3, 0.8, 0.6, 0.4, 0.3, 0.1],
        0.3 + 0.8 * LG0 + 0.6 * (d * lam**0.75) ** -0.4 - 0.3 * math.log(R) + 0.1 * RP,
    ),
    "lr-annealing": ([2.0, 0.5, 0.3, 0.7], 2 + 0.5 * S**-0.3 - 0.7 * S2 / S_REF),
    "multi-power": ([2.0, 0.5, 0.3, 0.7, 9.0, 0.5, 0.6], 2 + 0.5 * S**-0.3 - 0.7 * GAIN),
    "after-2505.07796": (
        [2.0, 0.5, 0.3, 0.2, 0.7, -0.4, 3.0, 0.5],
        2 + 0.5 * (0.2 + S) ** -0.3 - 0.7 * S2 / S_REF - 0.4 * SHIFT,
    ),
    "after-2505.07796-replay": (
        [2.0, 0.5, 0.3, 0.2, 0.7, -0.4, 3.0, 0.5, 0.8, 4.0],
        2
        + 0.5 * (0.2 + S) ** -0.3
        - 0.7 * math.exp(-0.8 * R) * S2 / S_REF
        - 0.4 * (1 - math.exp(-4 * R)) * SHIFT,
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_every_law_gives_the_value_computed_by_hand(name: str) -> None:
    law = LAWS[name]
    values, expected = BY_HAND[name]
    values_by_field = {
        "n_params": N,
        "n_tokens": D,
        "share": s if law.side == "general" else R,
        "ratio": R,
        "learning_rate": LR,
        "annealed": 1.0,
        "base_loss": L0,
        "base_loss_general": LG0,
        "base_peak_learning_rate": PEAK,
        "base_n_tokens": D_PT,
        "warmup_tokens": WARMUP,
        "unique_tokens": UNIQUE,
        "lr_area": S1,
        "anneal_area": S2,
    }
    fields = {field: np.array([value]) for field, value in values_by_field.items()}
    drops = zip(("drop_sizes", "drop_rates", "drop_areas"), np.array(DROPS).T, strict=True)
    points = Points(**fields, **{field: each[None] for field, each in drops})
    found = evaluate(law, points, np.array(values), References(N_REF, D_REF, LR_REF, S_REF))
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_domain_text_nothing_is_forgotten() -> None:
    law = LAWS["anchored-general-lr"]
    points = replace(some_points(), ratio=np.zeros(40), share=np.ones(40))
    values = np.array([0.0, 0.0, 5.0, 0.4, 0.02, 0.1, 0.3, 0.05])
    assert np.array_equal(evaluate(law, points, values, references_of(points)), points.base_loss)


def test_without_warmup_the_rewarming_is_complete_from_the_start() -> None:
    points = replace(some_points(), warmup_tokens=np.zeros(40))
    assert np.array_equal(rewarmed(points), np.ones(40))


def test_a_dual_refuses_a_function_without_a_known_slope() -> None:
    with pytest.raises(InputError, match=r"numpy\.sin .*whose slope is not known"):
        np.sin(Dual(np.ones(2), {"a": 1.0}))
