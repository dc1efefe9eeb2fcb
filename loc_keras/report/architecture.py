"""A block diagram of a functional model, from its input to its named outputs."""

import math
import os
import re
from collections import Counter
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline

from loc_keras.errors import ModelError
from loc_keras.report.style import (
    ELLIPSIS,
    FONT,
    INK,
    LABEL_SIZE,
    MUTED,
    SMALL_SIZE,
    TITLE_SIZE,
    fill_lines,
    keep_apart,
    new_figure,
    save_figure,
    shorten,
    wrap_words,
)

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


Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Operation:
    """One layer or operation of the graph.

    Attributes:
        name: Unique name.
        kind: Class name, for example `Conv2D`.
        words: What the diagram calls it: the class, or the function of an `Activation`.
        sources: Names of the operations whose tensors it takes.
        shape: Shape of its output without the batch axis; None stands for any length.
        parameters: Number of weights, trainable or not.
        inside: The operations of a nested model; none for any other layer.
    """

    name: str
    kind: str
    words: str
    sources: tuple[str, ...]
    shape: Shape
    parameters: int
    inside: tuple["Operation", ...] = ()


@dataclass(frozen=True)
class Block:
    """Operations drawn as one.

    Attributes:
        name: The common beginning of their names, or the one name.
        kinds: How many operations of each class, those with weights first.
        units: How many residual blocks it holds (`stage1_block1_*`, `stage1_block2_*`).
        shape: Shape of the last output without the batch axis.
        parameters: Number of weights, trainable or not.
        outputs: Names of the model outputs that it computes.
    """

    name: str
    kinds: Mapping[str, int]
    units: int
    shape: Shape
    parameters: int
    outputs: tuple[str, ...]


def read_operations(model: keras.Model) -> list[Operation]:
    """List the operations of a functional model in topological order.

    Args:
        model: A functional model; only its public `get_config` is read.

    Returns:
        The operations, inputs first.

    Raises:
        ModelError: The model has no graph of layers (it is subclassed or not built).
    """
    layers = model.get_config().get("layers")
    if not layers or any("inbound_nodes" not in layer for layer in layers):
        raise ModelError(
            f"The model '{model.name}' is not functional, so it has no graph to draw; build it "
            "with keras.Model(inputs, outputs)."
        )
    tensors = {layer["name"]: list(_tensors(layer["inbound_nodes"])) for layer in layers}
    shapes: dict[str, Shape] = {
        source: shape for inbound in tensors.values() for source, shape in inbound
    }
    shapes |= {
        layer: tuple(model.output[name].shape[1:])
        if isinstance(model.output, dict)
        else tuple(model.outputs[number].shape[1:])
        for number, (name, layer) in enumerate(output_layers(model).items())
    }
    parameters = {layer.name: layer.count_params() for layer in model.layers}
    return [
        Operation(
            layer["name"],
            str(layer["class_name"]),
            _words(layer),
            tuple(dict.fromkeys(source for source, _ in tensors[layer["name"]])),
            shapes.get(layer["name"], ()),
            parameters.get(layer["name"], 0),
            _nested(model, layer["name"]),
        )
        for layer in layers
    ]


def _nested(model: keras.Model, name: str) -> tuple[Operation, ...]:
    """What a nested functional model holds, without its inputs."""
    nested = {layer.name: layer for layer in model.layers if isinstance(layer, keras.Model)}
    if name not in nested or isinstance(nested[name], keras.Sequential):
        return ()
    return tuple(one for one in read_operations(nested[name]) if one.kind != "InputLayer")


def output_layers(model: keras.Model) -> dict[str, str]:
    """Map each output's name to the operation that computes it; unnamed outputs take its name."""
    outputs = model.get_config()["output_layers"]
    if isinstance(outputs, Mapping):
        return {name: origin[0] for name, origin in outputs.items()}
    if outputs and isinstance(outputs[0], str):
        outputs = [outputs]
    return {origin[0]: origin[0] for origin in outputs}


def _words(layer: Mapping[str, Any]) -> str:
    activation = layer["config"].get("activation") if layer["class_name"] == "Activation" else None
    return activation if isinstance(activation, str) else str(layer["class_name"])


def _tensors(inbound: Any) -> Iterator[tuple[str, Shape]]:
    """Find every serialised Keras tensor in the arguments of a layer's calls."""
    if isinstance(inbound, Mapping):
        if inbound.get("class_name") == "__keras_tensor__":
            config = inbound["config"]
            yield config["keras_history"][0], tuple(config["shape"][1:])
            return
        inbound = inbound.values()
    elif not isinstance(inbound, (list, tuple)):
        return
    for item in inbound:
        yield from _tensors(item)


def block_name(operation: Operation) -> str:
    """Name the block of an operation by the beginning of its name.

    `stem_conv` is in `stem`, `stage1_block2_conv1` in `stage1`, `head_bbox_dense` in
    `head_bbox`. A name that Keras made up from the class (`dense_3`) says nothing about the
    place in the model, so such an operation is a block of its own.
    """
    name = operation.name
    if re.sub(r"_\d+$", "", name).replace("_", "") == operation.kind.lower():
        return name
    first, *rest = name.split("_")
    return f"{first}_{rest[0]}" if first == "head" and rest else first


def join_blocks(
    operations: Sequence[Operation], outputs: Mapping[str, str]
) -> tuple[list[Block], list[tuple[str, str]]]:
    """Join operations to blocks by name.

    Args:
        operations: In topological order.
        outputs: Output name to operation name, see `output_layers`.

    Returns:
        Blocks in topological order, and the edges between them, each once.
    """
    block_of = {operation.name: block_name(operation) for operation in operations}
    while True:
        edges = _edges(operations, block_of)
        members = Counter(block_of.values())
        sorter = TopologicalSorter({name: set[str]() for name in members})
        for source, target in edges:
            sorter.add(target, source)
        try:
            names = list(sorter.static_order())
        except CycleError as error:
            # Names that interleave cannot be one box each: show their operations one by one.
            loop = set(error.args[1])
            block_of |= {name: name for name, block in block_of.items() if block in loop}
        else:
            break
    blocks = []
    for name in names:
        inside = [operation for operation in operations if block_of[operation.name] == name]
        made = tuple(output for output, layer in outputs.items() if block_of[layer] == name)
        blocks.append(_block(name, inside, made))
    return blocks, edges


def _edges(operations: Sequence[Operation], block_of: Mapping[str, str]) -> list[tuple[str, str]]:
    pairs = {
        (block_of[source], block_of[operation.name]): None
        for operation in operations
        for source in operation.sources
    }
    return [(source, target) for source, target in pairs if source != target]


def _block(name: str, inside: Sequence[Operation], outputs: tuple[str, ...]) -> Block:
    leaves = [leaf for operation in inside for leaf in operation.inside or (operation,)]
    weighty = {leaf.words for leaf in leaves if leaf.parameters}
    counted = Counter(leaf.words for leaf in leaves).most_common()
    kinds = dict(sorted(counted, key=lambda pair: pair[0] not in weighty))
    found = (re.search(r"_block(\w+?)_", operation.name) for operation in inside)
    units = {match[1] for match in found if match}
    return Block(
        name=name,
        kinds=kinds,
        units=len(units),
        shape=inside[-1].shape,
        parameters=sum(operation.parameters for operation in inside),
        outputs=outputs,
    )


ROOM = 235.0  # width of a line in points
MOST_LINES = 3  # for the list of what a block holds

SHORT_WORDS = {
    "AveragePooling2D": "average pool",
    "BatchNormalization": "BatchNorm",
    "GlobalAveragePooling2D": "global average",
    "InputLayer": "input",
    "MaxPooling2D": "max pool",
    "ZeroPadding2D": "pad",
}
SHARED_TINT, INPUT_TINT = "#E3EEF7", "#EFEFEF"
BRANCH_TINTS = ("#FBEBCF", "#DDF1E7", "#F6E3EE")
OUTPUT_TINTS = ("#F3C878", "#9BD6BE", "#E3B3CD")


def block_tints(blocks: Sequence[Block], edges: Sequence[Edge]) -> dict[str, str]:
    """Colour inputs, outputs, and what lies between by whether one output needs it or several.

    Args:
        blocks: In topological order.
        edges: Pairs (source, target) of block names.

    Returns:
        A colour for each block name.
    """
    reached = {block.name: set(block.outputs) for block in blocks}
    for block in reversed(blocks):
        for source, target in edges:
            if source == block.name:
                reached[source] |= reached[target]
    branches = sorted({name for block in blocks for name in block.outputs}, reverse=True)
    targets = {target for _, target in edges}
    tints = {}
    for block in blocks:
        name = block.name
        if block.outputs:
            tints[name] = OUTPUT_TINTS[branches.index(block.outputs[0]) % len(OUTPUT_TINTS)]
        elif name not in targets:
            tints[name] = INPUT_TINT
        elif len(reached[name]) != 1 or len(branches) == 1:
            tints[name] = SHARED_TINT
        else:
            (branch,) = reached[name]
            tints[name] = BRANCH_TINTS[branches.index(branch) % len(BRANCH_TINTS)]
    return tints


def block_lines(block: Block) -> list[str]:
    """Say what a block is: its name, what is in it, and what comes out of it.

    Args:
        block: The block.

    Returns:
        Three lines or more that fit, for example `stage1 · 2 blocks`, `Conv2D x4 · ReLU x4`
        (with a multiplication sign) and `25 x 25 x 64 · 147,968 parameters`.
    """
    name = block.name
    if block.outputs:
        made = ", ".join(block.outputs)
        name = f"{name} (output)" if made == name else f"{name} → output {made}"
    if block.units > 1:
        name = f"{name} · {block.units} blocks"
    kinds = [
        SHORT_WORDS.get(kind, kind) + (f" ×{count}" if count > 1 else "")
        for kind, count in block.kinds.items()
    ]
    content = fill_lines(kinds, ROOM, SMALL_SIZE)
    if len(content) > MOST_LINES:
        content = [
            *content[: MOST_LINES - 1],
            shorten(content[MOST_LINES - 1] + ELLIPSIS, ROOM, SMALL_SIZE),
        ]
    sides = " × ".join("?" if side is None else f"{side:,}" for side in block.shape)
    weights = f"{block.parameters:,} parameters" if block.parameters else ""
    last = " · ".join(part for part in (sides or "one number", weights) if part)
    return [shorten(name, ROOM, LABEL_SIZE, "bold"), *content, last]


POINTS = 72.0  # in an inch
# Lengths in inches; DPI in pixels per inch.
BLOCK_WIDTH = ROOM / POINTS + 0.28
PADDING = 0.16
ROUNDING = 0.07
SIDE_GAP = 0.3
ROW_GAP = 0.36
LANE = 0.4
MARGIN = 0.25
TITLE_LINE = 0.25
TITLE_GAP = 0.1
LINE = 0.175
ARROW = 0.08
PORT = 0.4  # between two arrows that enter one block
DPI = 144.0


@dataclass(frozen=True)
class Row:
    """Upper and lower edge of a row of blocks, in inches from the first row's upper edge."""

    top: float
    bottom: float


def save_architecture(
    model: keras.Model, path: str | os.PathLike[str], *, title: str | None = None
) -> Path:
    """Draw the blocks of a model and write them as PNG, whole or not at all.

    Layers are joined by the beginning of their names (see `model_graph.block_name`). What
    only one output needs has that output's colour.

    Args:
        model: A functional model.
        path: File to write.
        title: First line; None takes the model's name.

    Returns:
        The path written.

    Raises:
        ModelError: The model is not functional.
    """
    blocks, edges = join_blocks(read_operations(model), output_layers(model))
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    fixed = sum(math.prod(weight.shape) for weight in model.non_trainable_weights)
    subtitle = f"{trained:,} trainable parameters, {fixed:,} fixed"
    figure = draw_architecture(blocks, edges, title=title or model.name, subtitle=subtitle)
    return save_figure(figure, path)


def draw_architecture(
    blocks: Sequence[Block], edges: Sequence[Edge], *, title: str, subtitle: str
) -> Figure:
    """Draw blocks and their edges from top to bottom on a new figure.

    Args:
        blocks: In topological order.
        edges: Pairs (source, target) of block names.
        title: Bold first line.
        subtitle: Plain second line.

    Returns:
        A figure of its own whose size follows from the graph.
    """
    names = [block.name for block in blocks]
    layout = layered_layout(names, edges, node_width=BLOCK_WIDTH + SIDE_GAP, lane_width=LANE)
    faces = {block.name: block_lines(block) for block in blocks}
    rows = _rows(layout, faces)
    places = [*layout.x.values(), *(x for lane in layout.lanes.values() for x in lane)]
    right = max(max(layout.x.values()) + (BLOCK_WIDTH + SIDE_GAP) / 2, max(places) + LANE / 2)
    width = right + 2 * MARGIN - SIDE_GAP
    page = _page(width, rows[-1].bottom, title, subtitle)
    for edge in edges:
        _draw_arrow(page, layout, rows, edge, _port(layout, edges, edge))
    tints = block_tints(blocks, edges)
    for name, lines in faces.items():
        _draw_block(page, lines, layout.x[name], rows[layout.rank[name]], tints[name])
    return page.figure  # type: ignore[return-value]


def _rows(layout: Layout, faces: Mapping[str, Sequence[str]]) -> list[Row]:
    """Rows as high as the longest text in them."""
    rows: list[Row] = []
    for number in range(max(layout.rank.values()) + 1):
        most = max(len(lines) for name, lines in faces.items() if layout.rank[name] == number)
        top = rows[-1].bottom + ROW_GAP if rows else 0.0
        rows.append(Row(top, top + PADDING + LINE * most))
    return rows


def _page(width: float, depth: float, title: str, subtitle: str) -> Axes:
    """Axes in inches, y down from the first row, x from the layout's left edge; with titles."""
    room = (width - 2 * MARGIN) * POINTS
    head: list[tuple[str, float, str]] = [
        *((line, TITLE_SIZE, "bold") for line in wrap_words(title, room, TITLE_SIZE, "bold")),
        *((line, LABEL_SIZE, "normal") for line in wrap_words(subtitle, room, LABEL_SIZE)),
    ]
    above = MARGIN + TITLE_LINE * len(head) + TITLE_GAP
    figure = new_figure(width, above + depth + MARGIN, DPI)
    page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    page.set_axis_off()
    left = SIDE_GAP / 2 - MARGIN
    page.set_xlim(left, left + width)
    page.set_ylim(depth + MARGIN, -above)
    for number, (line, size, weight) in enumerate(head):
        y = MARGIN - above + TITLE_LINE * number
        _write(page, left + MARGIN, y, line, size, weight)
    return page


def _port(layout: Layout, edges: Sequence[Edge], edge: Edge) -> float:
    """Where an arrow enters its block: arrows into one block come in beside each other."""
    entering = [other for other in edges if other[1] == edge[1]]
    entering.sort(key=lambda other: ([layout.x[other[0]], *layout.lanes[other]])[-1])
    return (entering.index(edge) - (len(entering) - 1) / 2) * PORT


def _draw_arrow(page: Axes, layout: Layout, rows: Sequence[Row], edge: Edge, port: float) -> None:
    source, target = edge
    start, end = layout.rank[source], layout.rank[target]
    stops = [layout.x[source], *layout.lanes[edge], layout.x[target] + port]
    points, codes = [(stops[0], rows[start].bottom)], [Outline.MOVETO]
    for row, (here, there) in enumerate(pairwise(stops), start=start + 1):
        low = rows[row].top - (ARROW if row == end else 0.0)
        middle = (rows[row - 1].bottom + low) / 2
        points += [(here, middle), (there, middle), (there, low)]
        codes += [Outline.CURVE4] * 3
        # A last straight piece carries the head; between, the lane passes the row's blocks.
        points.append((there, rows[row].top if row == end else rows[row].bottom))
        codes.append(Outline.LINETO)
    page.add_patch(
        FancyArrowPatch(
            path=Outline(points, codes),
            arrowstyle="-|>,head_length=5,head_width=2.6",
            mutation_scale=1.0,
            color=MUTED,
            linewidth=1.3,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )


def _draw_block(page: Axes, lines: Sequence[str], middle: float, row: Row, tint: str) -> None:
    page.add_patch(
        FancyBboxPatch(
            (middle - BLOCK_WIDTH / 2, row.top),
            BLOCK_WIDTH,
            row.bottom - row.top,
            boxstyle=f"round,pad=0,rounding_size={ROUNDING}",
            facecolor=tint,
            edgecolor=MUTED,
            linewidth=1.0,
            zorder=2,
        )
    )
    style = {"ha": "center", "va": "center_baseline"}
    first = (row.top + row.bottom - LINE * (len(lines) - 1)) / 2
    _write(page, middle, first, lines[0], LABEL_SIZE, "bold", **style)
    for number, line in enumerate(lines[1:], start=1):
        _write(page, middle, first + LINE * number, line, SMALL_SIZE, "normal", **style)


def _write(
    page: Axes, x: float, y: float, words: str, size: float, weight: str = "normal", **style: Any
) -> None:
    common: dict[str, Any] = {"color": INK, "va": "top", "family": FONT, "parse_math": False}
    page.text(x, y, words, size=size, weight=weight, zorder=3, **(common | style))
