"""Training speeds measured for models of several sizes, and the time that runs take by them."""

from __future__ import annotations

import csv
import math
from importlib.resources import files
from itertools import pairwise


def _read_speeds() -> dict[str, dict[float, float]]:
    """GPU -> parameters -> tokens per second, from ``speeds.csv``."""
    found: dict[str, dict[float, float]] = {}
    with (files("dcpt.grid") / "speeds.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            speeds = found.setdefault(row["gpu"], {})
            speeds[float(row["n_params"])] = float(row["tokens_per_s"])
    return found


SPEEDS = _read_speeds()
"""GPU -> parameters -> tokens per second of each GPU, in bfloat16. Models that share a GPU train
three side by side; of larger ones the speed of a run over several GPUs is divided by their number.
Each row of ``speeds.csv`` names the benchmark that measured it; a new size is a new row."""

H100_TOKENS_PER_S = SPEEDS["h100"]


def speed_on_h100(n_params: float) -> float:
    """Tokens per second of an H100 that trains models of this size, as in :data:`SPEEDS`.

    Between measured sizes the logarithm of the speed is linear in that of the size. Smaller models
    continue the first segment; larger ones slow down in proportion to their size.

    Args:
        n_params: Parameters of the model.
    """
    return interpolate_speed(H100_TOKENS_PER_S, n_params)


def interpolate_speed(speeds: dict[float, float], n_params: float) -> float:
    """Tokens per second of a model of any size; see :func:`speed_on_h100`.

    Args:
        speeds: Measured tokens per second by parameters, of at least two sizes.
        n_params: Parameters of the model.
    """
    sizes = sorted(speeds)
    if n_params >= sizes[-1]:
        return speeds[sizes[-1]] * sizes[-1] / n_params
    low, high = next(pair for pair in pairwise(sizes) if n_params <= pair[1])
    slope = math.log(speeds[high] / speeds[low]) / math.log(high / low)
    return speeds[low] * float((n_params / low) ** slope)
