"""Training speeds measured for models of several sizes, and the time that runs take by them."""

from __future__ import annotations

import math
from itertools import pairwise

H100_TOKENS_PER_S = {1.8e6: 9.00e6, 6.6e6: 4.07e6, 29e6: 1.55e6, 91e6: 0.65e6}
"""Parameters -> tokens per second of an H100 on which three runs of that size train side by side
(``experiments/benchmarks/train.md``, row ``dcpt 3``; bfloat16, sequences of 512 tokens)."""


def speed_on_h100(n_params: float) -> float:
    """Tokens per second of an H100 that trains three models of this size side by side.

    Between measured sizes the logarithm of the speed is linear in that of the size. Smaller models
    continue the first segment; larger ones slow down in proportion to their size.

    Args:
        n_params: Parameters of the model.
    """
    sizes = sorted(H100_TOKENS_PER_S)
    if n_params >= sizes[-1]:
        return H100_TOKENS_PER_S[sizes[-1]] * sizes[-1] / n_params
    low, high = next(pair for pair in pairwise(sizes) if n_params <= pair[1])
    slope = math.log(H100_TOKENS_PER_S[high] / H100_TOKENS_PER_S[low]) / math.log(high / low)
    return H100_TOKENS_PER_S[low] * float((n_params / low) ** slope)
