"""Place the nodes of an acyclic graph in rows so that no edge runs through a node.

The method is that of Sugiyama, Tagawa and Toda (1981, "Methods for visual understanding of
hierarchical system structures"): ranks by longest path, a place of its own in every row that
a long edge crosses, rows ordered by the mean of their neighbours, then positions. What every
end depends on is the trunk and stands in one straight column.
"""

import math
from collections import Counter
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loc_keras.report.spacing import keep_apart

Edge = tuple[str, str]
Place = Hashable  # a node's name, or (source, target, rank) where an edge crosses a row
Rows = list[list[Place]]

ORDER_SWEEPS = 8
POSITION_SWEEPS = 60
FIRMNESS = 1e6  # the trunk is a straight column; everything else makes way


@dataclass(frozen=True)
class Layout:
    """Where everything lies.

    Attributes:
        rank: Row of each node, from 0 at the top.
        x: Centre of each node.
        lanes: For each edge the x at which it crosses each row between its ends.
    """

    rank: Mapping[str, int]
    x: Mapping[str, float]
    lanes: Mapping[Edge, Sequence[float]]


def layered_layout(
    nodes: Sequence[str], edges: Sequence[Edge], *, node_width: float, lane_width: float
) -> Layout:
    """Lay out an acyclic graph from top to bottom.

    Args:
        nodes: Names in topological order.
        edges: Pairs (source, target) of names, each once.
        node_width: Room that a node takes in its row, its margin included.
        lane_width: Room that an edge takes in a row that it crosses.

    Returns:
        The layout; the leftmost node or lane has its left edge at 0. Nodes without outgoing
        edges share the last row.
    """
    rank = _ranks(nodes, edges)
    chains = {edge: _chain(edge, rank) for edge in edges}
    links = [pair for chain in chains.values() for pair in pairwise(chain)]
    rows: Rows = [[node for node in nodes if rank[node] == row] for row in range(_depth(rank))]
    for chain in chains.values():
        for place in chain[1:-1]:
            rows[place[2]].append(place)  # type: ignore[index]
    rows = _ordered(rows, links)
    width = {place: node_width if place in rank else lane_width for row in rows for place in row}
    x = _positions(rows, links, width, _trunk(rank, edges))
    _straighten(x, rows, [chain[1:-1] for chain in chains.values()], width)
    left = min(x[place] - width[place] / 2 for place in x)
    return Layout(
        rank,
        {node: x[node] - left for node in nodes},
        {edge: [x[place] - left for place in chain[1:-1]] for edge, chain in chains.items()},
    )


def _depth(rank: Mapping[str, int]) -> int:
    return max(rank.values(), default=-1) + 1


def _ranks(nodes: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    rank = dict.fromkeys(nodes, 0)
    for node in nodes:
        for source, target in edges:
            if source == node:
                rank[target] = max(rank[target], rank[node] + 1)
    last = _depth(rank) - 1
    sources = {source for source, _ in edges}
    return {node: row if node in sources else last for node, row in rank.items()}


def _chain(edge: Edge, rank: Mapping[str, int]) -> list[Place]:
    source, target = edge
    crossed = [(source, target, row) for row in range(rank[source] + 1, rank[target])]
    return [source, *crossed, target]


def _neighbours(links: Sequence[tuple[Place, Place]]) -> dict[Place, list[Place]]:
    neighbours: dict[Place, list[Place]] = {}
    for upper, lower in links:
        neighbours.setdefault(upper, []).append(lower)
        neighbours.setdefault(lower, []).append(upper)
    return neighbours


def _crossings(rows: Rows, links: Sequence[tuple[Place, Place]]) -> int:
    at = {place: (number, i) for number, row in enumerate(rows) for i, place in enumerate(row)}
    pairs = [(*at[upper], at[lower][1]) for upper, lower in links]
    return sum(
        one[0] == two[0] and (one[1] - two[1]) * (one[2] - two[2]) < 0
        for number, one in enumerate(pairs)
        for two in pairs[:number]
    )


def _ordered(rows: Rows, links: Sequence[tuple[Place, Place]]) -> Rows:
    neighbours = _neighbours(links)
    best, fewest = rows, _crossings(rows, links)
    for sweep in range(ORDER_SWEEPS):
        rows = [list(row) for row in rows]
        down = sweep % 2 == 0
        numbers = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for number in numbers:
            fixed = {place: i for i, place in enumerate(rows[number - 1 if down else number + 1])}
            _sort_by_mean(rows[number], fixed, neighbours)
        crossings = _crossings(rows, links)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _sort_by_mean(
    row: list[Place], fixed: Mapping[Place, int], neighbours: Mapping[Place, list[Place]]
) -> None:
    means = {}
    for index, place in enumerate(row):
        around = [fixed[other] for other in neighbours.get(place, ()) if other in fixed]
        means[place] = sum(around) / len(around) if around else float(index)
    row.sort(key=means.__getitem__)


def _trunk(rank: Mapping[str, int], edges: Sequence[Edge]) -> set[str]:
    """Nodes that every end of the graph depends on, where a row holds just one of them."""
    sources = {source for source, _ in edges}
    ends = {node: {node} - sources for node in rank}
    for source, target in sorted(edges, key=lambda edge: -rank[edge[0]]):
        ends[source] |= ends[target]
    everywhere = set().union(*ends.values())
    shared = [node for node in rank if ends[node] == everywhere]
    in_row = Counter(rank[node] for node in shared)
    return {node for node in shared if in_row[rank[node]] == 1}


def _positions(
    rows: Rows,
    links: Sequence[tuple[Place, Place]],
    width: Mapping[Place, float],
    trunk: Container[Place],
) -> dict[Place, float]:
    neighbours = _neighbours(links)
    gaps = [[(width[one] + width[two]) / 2 for one, two in pairwise(row)] for row in rows]
    weights = [[FIRMNESS if place in trunk else 1.0 for place in row] for row in rows]
    x = dict.fromkeys(width, 0.0)

    def wanted(place: Place) -> float:
        if place in trunk:
            return 0.0
        around = [x[other] for other in neighbours.get(place, ())]
        return sum(around) / len(around) if around else x[place]

    for sweep in range(POSITION_SWEEPS):
        order = list(zip(rows, gaps, weights, strict=True))
        for row, between, firm in order if sweep % 2 == 0 else reversed(order):
            places = keep_apart([wanted(place) for place in row], between, firm)
            x.update(zip(row, places, strict=True))
    return x


def _straighten(
    x: dict[Place, float],
    rows: Rows,
    lanes: Sequence[Sequence[Place]],
    width: Mapping[Place, float],
) -> None:
    """Give each long edge one x in all rows that it crosses, where its neighbours leave room.

    The longest edges lie outermost and go first, so that they move away from the others.
    """
    at = {place: (row, index) for row in rows for index, place in enumerate(row)}
    for lane in sorted(lanes, key=len, reverse=True):
        low, high = -math.inf, math.inf
        for place in lane:
            row, index = at[place]
            if index > 0:
                other = row[index - 1]
                low = max(low, x[other] + (width[other] + width[place]) / 2)
            if index + 1 < len(row):
                other = row[index + 1]
                high = min(high, x[other] - (width[other] + width[place]) / 2)
        if lane and low <= high:
            mean = sum(x[place] for place in lane) / len(lane)
            x.update(dict.fromkeys(lane, min(max(mean, low), high)))
