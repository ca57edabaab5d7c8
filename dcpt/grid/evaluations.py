"""When a trunk is evaluated."""

from __future__ import annotations


def evaluation_points(n_tokens: int, first: int, per_doubling: float, step: int) -> list[int]:
    """Log-spaced tokens at which a trunk is evaluated: the same for every prefix of a trunk.

    Args:
        n_tokens: End of the trunk.
        first: The first point.
        per_doubling: Points per doubling of tokens.
        step: Tokens of one optimizer step; points are whole steps.

    Returns:
        Rising tokens, the end included.
    """
    points, k = {n_tokens}, 0
    while (tokens := first * 2 ** (k / per_doubling)) < n_tokens:
        points.add(max(1, round(tokens / step)) * step)
        k += 1
    return sorted(point for point in points if point <= n_tokens)
