"""Learn the priors of the two-level model from public ladders.

The level's prior comes from the marginal likelihood of each size of each table by itself: standard
deviations, lengths, and the mean change of the decay. The prior of the growth with size comes from
steps in size: the points of a size are predicted from smaller sizes of the same table, with and
without two short runs at that size, and their mean log density is maximised, each domain counting
the same. ``learn`` takes any ladders, so that ``two_level.py`` can leave a domain out.

    python experiments/two_level_priors.py PILOT

PILOT is the folder of the pilot's tables. It writes ``dcpt/laws/two_level/priors.json``, in about
30 s on 2 cores of a shared machine.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

import dcpt
from dcpt.laws.points.channel_data import ChannelData, points_from_table
from dcpt.laws.points.record import distinct
from dcpt.laws.two_level.kernel import Prior, Surface
from dcpt.laws.two_level.priors import prior_as_record
from dcpt.laws.two_level.process import TwoLevel, condition, thin

Array = NDArray[np.float64]

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "dcpt" / "laws" / "two_level" / "priors.json"
SIDES = ("general", "domain")

RATE_POWER = 0.75
KNEE = 0.1
"""Chosen among 0.5, 0.75, 1 and among 0.05, 0.1, 0.2 nats with the held-out errors of code and zh
in view; with 0.75 the errors of the two domains are closest to each other."""

LEVEL_LINEAR = {
    "general": (0.1, 0.1, 0.05, 0.03, 0.03, 0.03, 0.03, 0.03, 0.02, 0.02, 0.01, 0.01),
    "domain": (1.0, 0.1, 0.1, 0.1, 0.03, 0.03, 0.03, 0.03, 0.02, 0.02, 0.01, 0.01),
}
LEVEL_REST = (0.03, 0.01, 0.002, 1.5, 1.5, 1.5)
"""Where the search for the level begins: linear terms; smooth rest, decay, noise of points, three
lengths."""

N_TERMS = len(LEVEL_LINEAR["general"])
PHASE_TERMS = slice(7, N_TERMS)
"""The linear terms of the decay. Only they have a learnt mean: a table has few decays, and every
domain shows the same change, a lower loss after the decay, by more at higher rates and after more
tokens. With a mean of 0, annealed general losses at four times the longest decay were all missed to
the same side (``held_out_tables.md``)."""

N_LOGS = N_TERMS + len(LEVEL_REST)
N_LEVEL = N_LOGS + len(range(N_TERMS)[PHASE_TERMS])
"""Numbers of a level: the logs of its standard deviations and lengths, and the means."""

CENTRE_SPREAD = 0.03
"""Standard deviation of a learnt mean around 0. The search has means in units of it."""

GROWTH = {
    "general": (0.02, 0.2, 0.01, 0.005, 0.2, 0.2),
    "domain": (0.1, 0.2, 0.01, 0.005, 0.2, 0.2),
}
"""Where the search for drift and walk begins: the constant; a multiple of the level's terms in
share and rate; the coefficients of tokens and of phase; multiples of its smooth rest and of its
decay."""

SPREAD, LENGTH_SPREAD = 1.0, 0.4
"""Standard deviation of the log of a learnt number around the beginning of its search."""

GROWTH_LENGTHS = 2.0
"""Lengths of the growth in share and rate, in units of those of the level."""

DOMAIN_POINTS = 48.0
"""The steps of a domain count as this many independent points together, as the errors of the points
of a step go together."""

SHORT, LATE = 0.27, 0.5
"""Parts of the longest run: what short runs at a step's size show of it, and what is predicted."""


@dataclass(frozen=True)
class Ladder:
    """A public table.

    Args:
        name: Its name.
        domain: The domain of its text; the tables of a domain are left out together.
        runs: The table.
    """

    name: str
    domain: str
    runs: pd.DataFrame


def public_ladders(pilot: Path) -> list[Ladder]:
    """The tables of the pilot and the ladders in this folder."""
    zh = [dcpt.load_runs(pilot / name) for name in ("zh_annealed.csv", "zh_large.csv")]
    ladders = [
        Ladder("zh", "zh", pd.concat(zh, ignore_index=True)),
        Ladder("code_lr", "code", dcpt.load_runs(pilot / "code_lr.csv")),
        Ladder("code", "code", dcpt.load_runs(pilot / "code.csv")),
        Ladder("code_annealed", "code", dcpt.load_runs(HERE / "code_annealed.csv")),
    ]
    more = sorted((HERE / "ladders").glob("*.csv"))
    return [*ladders, *(Ladder(f.stem, f.stem, dcpt.load_runs(f)) for f in more)]


def sizes_of(data: ChannelData) -> Array:
    return distinct(data.points, "n_params")


def at_size(data: ChannelData, size: float) -> ChannelData:
    return data.take(np.isclose(data.points.get("n_params"), size, rtol=0.02))


def below_size(data: ChannelData, size: float) -> ChannelData:
    return data.take(data.points.get("n_params") < 0.98 * size)


def learn(ladders: Sequence[Ladder], side: str) -> Prior:
    """The prior of a side from all steps of some ladders."""
    data = [thin(points_from_table(ladder.runs, side)) for ladder in ladders]
    level = learn_level(data, side, seed_noise(data))
    pairs = zip(data, ladders, strict=True)
    steps = [step for of, ladder in pairs for step in steps_of(of, ladder)]
    return learn_growth(steps, side, level)


def seed_noise(data: Sequence[ChannelData]) -> float:
    """Standard deviation of late points between runs that differ in their seed alone.

    On the scale of the model. The marginal likelihood would say less, as smooth curves follow the
    noise of sparse runs.
    """
    gaps: list[float] = []
    for of in data:
        points, tokens = of.points, of.points.get("n_tokens")
        frame = pd.DataFrame(
            {
                "n_params": points.n_params,
                "ratio": points.ratio,
                "learning_rate": points.learning_rate,
                "annealed": points.annealed,
                "n_tokens": tokens,
                "loss": condition(of, level_prior(np.zeros(N_LEVEL), 0.0)).values,
            }
        )[tokens > LATE * tokens.max()]
        cells = frame.groupby(list(frame.columns[:-1]))["loss"]
        gaps += [float(pair.max() - pair.min()) for _, pair in cells if len(pair) == 2]
    assert gaps, "at least one ladder has two seeds"
    return float(np.sqrt(np.mean(np.square(gaps)) / 2))


def learn_level(data: Sequence[ChannelData], side: str, run_noise: float) -> Prior:
    """The prior of the level: maximum a posteriori, each size of each table by itself."""
    start, spread = np.zeros(N_LEVEL), np.ones(N_LEVEL)
    start[:N_LOGS] = np.log([*LEVEL_LINEAR[side], *LEVEL_REST])
    spread[:N_LOGS] = [SPREAD] * (N_LOGS - 3) + [LENGTH_SPREAD] * 3
    first = level_prior(start, run_noise)
    singles = [condition(at_size(of, size), first) for of in data for size in sizes_of(of)]

    def loss(numbers: Array) -> float:
        prior = level_prior(numbers, run_noise)
        fits = [replace(single, prior=prior).negative_log_evidence for single in singles]
        return sum(fits) + 0.5 * float((((numbers - start) / spread) ** 2).sum())

    return level_prior(search(loss, start), run_noise)


def level_prior(numbers: Array, run_noise: float) -> Prior:
    """A prior without growth, from the numbers of a level."""
    linear = np.exp(numbers[:N_TERMS])
    rest = [float(value) for value in np.exp(numbers[N_TERMS:N_LOGS])]
    centre = np.zeros(N_TERMS)
    centre[PHASE_TERMS] = CENTRE_SPREAD * numbers[N_LOGS:]
    none = Surface(np.zeros(N_TERMS), 0.0, 0.0)
    return Prior(
        rate_power=RATE_POWER,
        knee=KNEE,
        lengths=(rest[3], rest[4], rest[5]),
        growth_lengths=(rest[3], rest[4], rest[5]),
        centre=centre,
        level=Surface(linear, rest[0], rest[1]),
        drift=none,
        walk=none,
        run_noise=run_noise,
        point_noise=rest[2],
    )


@dataclass(frozen=True)
class Step:
    """A size to predict from smaller sizes, and perhaps from short runs of its own.

    Args:
        domain: The ladder's domain.
        shown: The points that are conditioned on.
        hidden: The points that are predicted.
    """

    domain: str
    shown: ChannelData
    hidden: ChannelData


def steps_of(data: ChannelData, ladder: Ladder) -> list[Step]:
    """Every size of a ladder from all smaller ones and from the two smallest.

    Each is predicted with no run at its size, and with the first quarter of two random runs there.
    """
    sizes, steps = sizes_of(data), []
    for number, size in enumerate(sizes[1:], start=1):
        at = at_size(data, size)
        tokens = at.points.get("n_tokens")
        rng = np.random.default_rng([number, len(data.losses)])
        pair = rng.choice(np.unique(at.runs), 2, replace=False)
        short = np.isin(at.runs, pair) & (tokens <= SHORT * tokens.max())
        late = tokens > LATE * tokens.max()
        for largest in {sizes[number - 1], sizes[min(number - 1, 1)]}:
            small = data.points.get("n_params") <= 1.02 * largest
            steps.append(Step(ladder.domain, data.take(small), at))
            both = small | np.isin(data.rows, at.rows[short])
            steps.append(Step(ladder.domain, data.take(both), at.take(late)))
    return steps


def learn_growth(steps: Sequence[Step], side: str, level: Prior) -> Prior:
    """Add drift and walk: maximum a posteriori of the density of every step in size."""
    start = np.array([*np.log(GROWTH[side]), *np.log(GROWTH[side]), 0.0])
    models = [condition(step.shown, level) for step in steps]
    count = Counter(step.domain for step in steps)

    def loss(logs: Array) -> float:
        prior, total = with_growth(level, logs), 0.0
        for model, step in zip(models, steps, strict=True):
            part = DOMAIN_POINTS / count[step.domain]
            total -= part * step_density(replace(model, prior=prior), step.hidden)
        return total + 0.5 * float((((logs - start) / SPREAD) ** 2).sum())

    return with_growth(level, search(loss, start))


def with_growth(level: Prior, logs: Array) -> Prior:
    """A level's prior with the growth of 13 logs: drift, walk, their length in tokens."""

    def surface(
        constant: float, shape: float, tokens: float, phase: float, smooth: float, decay: float
    ) -> Surface:
        terms = level.level.linear * shape
        terms[[0, 3, 5, 6]] = constant, tokens, tokens / 2, tokens / 2
        terms[PHASE_TERMS] = phase, phase / 2, phase / 2, phase / 2, phase / 2
        return Surface(terms, level.level.smooth * smooth, level.level.decay * decay)

    growth = np.exp(logs).tolist()
    share, rate, tokens = (GROWTH_LENGTHS * length for length in level.lengths)
    return replace(
        level,
        drift=surface(*growth[:6]),
        walk=surface(*growth[6:12]),
        growth_lengths=(share, rate, tokens * growth[12]),
    )


def step_density(model: TwoLevel, step: ChannelData) -> float:
    """Mean log density of the losses of a step, without its constant."""
    joint = model.joint(step.points)
    variance = joint.deviations**2 + joint.noise**2
    gap = joint.scale.to_model(step.losses) - joint.mean
    return float(-0.5 * np.mean(gap**2 / variance + np.log(variance)))


def search(loss: Callable[[Array], float], start: Array) -> Array:
    """The minimum that a quasi-Newton search finds from a start."""
    found = minimize(loss, start, method="L-BFGS-B", options={"maxiter": 15})
    return np.asarray(found.x, dtype=np.float64)


def main() -> None:
    """Learn from all ladders and write the shipped file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pilot", type=Path, help="folder of the pilot's tables")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    ladders = public_ladders(arguments.pilot)
    names = ", ".join(ladder.name for ladder in ladders)
    record = {
        "source": f"python experiments/two_level_priors.py, from the ladders {names}",
        "priors": {side: prior_as_record(learn(ladders, side)) for side in SIDES},
    }
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
