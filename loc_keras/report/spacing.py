"""Keep things on a line from overlapping while moving them as little as possible."""

from collections.abc import Sequence


def keep_apart(
    wanted: Sequence[float], gaps: Sequence[float], weights: Sequence[float] | None = None
) -> list[float]:
    """Move ordered positions so that neighbours keep their distance.

    Of all allowed positions, the result has the least weighted sum of squared moves. With the gaps
    taken off, "at least a gap apart" becomes "never falling", which is isotonic regression;
    it is solved by pooling neighbours that break the rule at their weighted mean (Ayer et al. 1955,
    "An empirical distribution function for sampling with incomplete information").

    Args:
        wanted: n wanted positions, in the order that is kept.
        gaps: n - 1 smallest distances, from each position to the next.
        weights: n weights > 0 of the moves; None weighs all alike.

    Returns:
        n positions.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []
    for index, position in enumerate(wanted):
        mean, mass, size = position - offsets[index], weights[index] if weights else 1.0, 1
        while pools and pools[-1][0] > mean:
            before, its_mass, members = pools.pop()
            mean = (mean * mass + before * its_mass) / (mass + its_mass)
            mass, size = mass + its_mass, size + members
        pools.append((mean, mass, size))
    levels = [mean for mean, _, size in pools for _ in range(size)]
    return [level + offset for level, offset in zip(levels, offsets, strict=False)]


def spread_apart(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions as little as needed so that no two are closer than `gap`.

    Args:
        positions: Wanted positions in any order.
        gap: Smallest distance between two labels.
        low: Lowest position allowed.
        high: Highest position allowed; where the labels cannot all fit, the gap shrinks.

    Returns:
        New positions for the input's order; the labels keep their order on the line.
    """
    steps = max(len(positions) - 1, 0)
    if steps:
        gap = min(gap, (high - low) / steps)
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    apart = keep_apart([positions[index] for index in order], [gap] * steps)
    moved = [0.0] * len(positions)
    for rank, index in enumerate(order):
        # The k-th label from below leaves room for k labels under it and the rest above.
        moved[index] = min(max(apart[rank], low + rank * gap), high - (steps - rank) * gap)
    return moved
