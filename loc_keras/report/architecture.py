"""A drawing of a localizer: image, body with its stages, two heads and their outputs."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline

from loc_keras.errors import ModelError
from loc_keras.models.body import BODY_NAME, body_groups, network_cells
from loc_keras.report.style import (
    LABEL_SIZE,
    MUTED,
    PAPER,
    SMALL_SIZE,
    TITLE_SIZE,
    new_page,
    save_figure,
    shorten,
    write,
)

Shape = tuple[int | None, ...]
Source = tuple[str, int, Shape]  # A tensor: its layer, its number among the layer's, its shape.
OUTPUTS = ("softmax", "bbox")


@dataclass(frozen=True)
class Block:
    """Layers that are drawn as one.

    Attributes:
        name: Of a stage, or of the output that a head computes.
        kinds: How many layers with weights of each class, but for normalisation.
        parameters: Number of weights, trainable or not.
        shape: Of what it gives, without the batch axis.
    """

    name: str
    kinds: Mapping[str, int]
    parameters: int
    shape: Shape


@dataclass(frozen=True)
class Head(Block):
    """The layers of one output.

    Attributes:
        maps: Place of each stage whose map it takes, with the shape of that map.
        takes_box: Whether it takes the predicted box.
    """

    maps: Mapping[int, Shape]
    takes_box: bool


@dataclass(frozen=True)
class Structure:
    """What a localizer is made of.

    Attributes:
        before: The image and what is done to its pixels.
        stages: The body from fine to coarse: stem and stages of our ResNets, the levels of others.
        heads: `softmax` and `bbox`.
    """

    before: tuple[Block, ...]
    stages: tuple[Block, ...]
    heads: tuple[Head, Head]


def structure_of(localizer: keras.Model) -> Structure:
    """Reads the parts of a localizer by the names of its layers.

    Raises:
        ModelError: The model is not functional or lacks the outputs `softmax` and `bbox`.
    """
    config = localizer.get_config()
    outputs = config.get("output_layers")
    if not isinstance(outputs, Mapping) or not set(OUTPUTS) <= outputs.keys():
        raise ModelError(
            f"The model '{localizer.name}' is not functional with the outputs softmax and bbox; "
            "build it with loc_keras.build_localizer."
        )
    groups = body_groups(localizer)
    nested = next((layer for layer in localizer.layers if layer.name == BODY_NAME), None)
    if nested is None:
        stages = [_block(_stage_name(group), group, group[-1].output.shape) for group in groups]
        rows = {(layer.name, 0): row for row, group in enumerate(groups) for layer in group}
    else:
        made = {
            id(tensor): max(cell.level, 1)
            for cell in network_cells(nested)
            for tensor in keras.tree.flatten(cell.operation.output)
        }
        levels = sorted(set(made.values()))
        places = [levels.index(made[id(tensor)]) for tensor in nested.outputs]
        rows = {(BODY_NAME, number): row for number, row in enumerate(places)}
        shapes = {row: tensor.shape for row, tensor in zip(places, nested.outputs, strict=True)}
        stages = [
            _block(f"level {row + 1}", group, shapes.get(row, ()))
            for row, group in enumerate(groups)
        ]
    members = {name: [one for one in localizer.layers if _is_of(one, name)] for name in OUTPUTS}
    drawn = {layer.name for layers in (*groups, *members.values()) for layer in layers}
    before = [one for one in localizer.layers if one.name not in drawn and one is not nested]
    calls = {layer["name"]: list(_tensors(layer["inbound_nodes"])) for layer in config["layers"]}
    softmax, bbox = (_head(name, members, rows, calls) for name in OUTPUTS)
    first = tuple(_block(layer.name, [layer], layer.output.shape) for layer in before)
    return Structure(first, tuple(stages), (softmax, bbox))


def _is_of(layer: keras.layers.Layer, output: str) -> bool:
    return layer.name == output or layer.name.startswith(f"{output}_")


def _stage_name(group: Sequence[keras.layers.Layer]) -> str:
    stage = group[0].name.partition("_")[0]
    units = {layer.name.split("_")[1] for layer in group if "_block" in layer.name}
    return f"{stage} · {len(units)} blocks" if len(units) > 1 else stage


def _block(name: str, layers: Sequence[keras.layers.Layer], shape: Sequence[int | None]) -> Block:
    kinds = Counter(
        type(layer).__name__
        for layer in layers
        if layer.count_params() and not type(layer).__name__.endswith("Normalization")
    )
    parameters = sum(layer.count_params() for layer in layers)
    return Block(name, dict(kinds.most_common()), parameters, tuple(shape[1:]))


def _head(
    name: str,
    members: Mapping[str, Sequence[keras.layers.Layer]],
    rows: Mapping[tuple[str, int], int],
    calls: Mapping[str, Sequence[Source]],
) -> Head:
    block = _block(name, members[name], members[name][-1].output.shape)
    taken = [source for layer in members[name] for source in calls[layer.name]]
    maps = {rows[source[:2]]: source[2] for source in taken if source[:2] in rows}
    takes_box = name != "bbox" and any(source[0] == "bbox" for source in taken)
    return Head(**vars(block), maps=dict(sorted(maps.items())), takes_box=takes_box)


def _tensors(inbound: Any) -> Iterator[Source]:
    """Every serialised Keras tensor in the arguments of a layer's calls."""
    if isinstance(inbound, Mapping):
        if inbound.get("class_name") == "__keras_tensor__":
            layer, _, number = inbound["config"]["keras_history"]
            yield layer, number, tuple(inbound["config"]["shape"][1:])
            return
        inbound = inbound.values()
    elif not isinstance(inbound, (list, tuple)):
        return
    for item in inbound:
        yield from _tensors(item)


# Lengths in inches; DPI in pixels per inch.
DPI = 144.0
MARGIN = 0.25
WIDTH, HEAD_WIDTH = 2.5, 1.75  # of a block and of a head
LOW, HIGH = 0.5, 0.74  # heights of a block of two lines and of three
GAP, SIDE_GAP = 0.3, 1.15  # between two blocks, and between the body and a head
FRAME = 0.14  # from the body's frame to its stages
LINE = 0.19  # of text
BEND = 0.17  # from a head's edge to the arrow that enters it from below
TINTS = {"softmax": ("#FBEBCF", "#F3C878"), "bbox": ("#DDF1E7", "#9BD6BE")}
INPUT_TINT, STAGE_TINT = "#EFEFEF", "#E3EEF7"
SIDES: tuple[Literal[-1, 1], ...] = (-1, 1)  # Of the body, where the heads stand.


def save_architecture(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Draws a localizer and writes the picture as PNG, whole or not at all.

    Raises:
        ModelError: The model is not functional or lacks the outputs `softmax` and `bbox`.
    """
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    fixed = sum(math.prod(weight.shape) for weight in model.non_trainable_weights)
    subtitle = f"{trained:,} trainable parameters, {fixed:,} fixed"
    return save_figure(draw_structure(structure_of(model), model.name, subtitle), path)


def draw_structure(structure: Structure, title: str, subtitle: str) -> Figure:
    """Draws the body from top to bottom, the class head on its left, the box head on its right.

    A level arrow is a map that a head takes, with its shape where it is not that of the stage.
    """
    top = MARGIN + 3.5 * LINE
    before, stages = structure.before, structure.stages
    tops = [top + (LOW + GAP) * place for place in range(len(before))]
    first = top + (LOW + GAP) * len(tops) + FRAME
    rows = [first + (HIGH + GAP) * row for row in range(len(stages))]
    end = rows[-1] + HIGH
    frame_end = end + FRAME + LINE
    outputs = frame_end + GAP
    left = MARGIN + HEAD_WIDTH + SIDE_GAP
    width = 2 * left + WIDTH
    figure, page = new_page(width, outputs + LOW + MARGIN, DPI)
    title = shorten(title, 72 * (width - 2 * MARGIN), TITLE_SIZE, "bold")
    write(page, MARGIN, MARGIN, title, size=TITLE_SIZE, weight="bold")
    write(page, MARGIN, MARGIN + 1.5 * LINE, subtitle, size=LABEL_SIZE)

    _box(page, left - FRAME, first - FRAME, WIDTH + 2 * FRAME, frame_end - first + FRAME, PAPER)
    body = f"body: {_weights(sum(stage.parameters for stage in stages))}"
    write(page, width / 2, end + 0.08, body, size=SMALL_SIZE, ha="center")
    places = [(y, LOW, INPUT_TINT) for y in tops] + [(y, HIGH, STAGE_TINT) for y in rows]
    for block, (y, height, tint) in zip((*before, *stages), places, strict=True):
        _box(page, left, y, WIDTH, height, tint)
        kinds = " · ".join(_kinds(block)) if height == HIGH else ""
        last = " · ".join(filter(None, (_sides(block.shape), _weights(block.parameters))))
        _text(page, width / 2, y + height / 2, WIDTH, [block.name, kinds, last])
    for (upper, height, _), (lower, _, _) in pairwise(places):
        _arrow(page, (width / 2, upper + height), (width / 2, lower))

    grid = _Grid(width, left, rows, first, end, outputs)
    for head, side in zip(structure.heads, SIDES, strict=True):
        _draw_head(page, head, side, stages, grid)
    return figure


class _Grid(NamedTuple):
    """Places on the page in inches: its width, the body's left edge, and heights from the top."""

    width: float
    left: float
    rows: Sequence[float]  # Upper edges of the stages.
    first: float
    end: float
    outputs: float


def _draw_head(
    page: Axes, head: Head, side: Literal[-1, 1], stages: Sequence[Block], grid: _Grid
) -> None:
    """Draws a head on the left (-1) or right (1) of the body, the maps it takes and its output."""
    x = MARGIN if side < 0 else grid.width - MARGIN - HEAD_WIDTH
    inner = x + HEAD_WIDTH * (side < 0)  # Its edge beside the body.
    head_tint, output_tint = TINTS[head.name]
    _box(page, x, grid.first, HEAD_WIDTH, grid.end - grid.first, head_tint)
    lines = [f"{head.name} head", *_kinds(head), _weights(head.parameters)]
    _text(page, x + HEAD_WIDTH / 2, (grid.first + grid.end) / 2, HEAD_WIDTH, lines)
    over = {"size": SMALL_SIZE, "ha": "center", "va": "bottom"}
    for row, shape in head.maps.items():
        y, start = grid.rows[row] + HIGH / 2, grid.left + WIDTH * (side > 0)
        _arrow(page, (start, y), (inner, y))
        if shape != stages[row].shape:
            write(page, (start + side * FRAME + inner) / 2, y - 0.03, _sides(shape), **over)
    # The output is narrower, so that the arrow of the box passes beside it.
    output_x, output_width = x + 2 * BEND * (side > 0), HEAD_WIDTH - 2 * BEND
    middle, y = output_x + output_width / 2, grid.outputs + LOW / 2
    _box(page, output_x, grid.outputs, output_width, LOW, output_tint)
    _arrow(page, (middle, grid.end), (middle, grid.outputs))
    _text(page, middle, y, output_width, [head.name, f"output (N, {_sides(head.shape)})"])
    if head.takes_box:
        bend = inner - BEND
        _arrow(page, (grid.width - inner + 2 * BEND, y), (bend, y), (bend, grid.end))
        write(page, grid.width / 2, y - 0.03, "the box", **over)


def _kinds(block: Block) -> list[str]:
    return [kind + (f" ×{count}" if count > 1 else "") for kind, count in block.kinds.items()]


def _sides(shape: Shape) -> str:
    return " × ".join("?" if side is None else f"{side:,}" for side in shape)


def _weights(parameters: int) -> str:
    return f"{parameters:,} parameters" if parameters else ""


def _box(page: Axes, x: float, y: float, width: float, height: float, tint: str) -> None:
    shape = "round,pad=0,rounding_size=0.07"
    page.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=tint, edgecolor=MUTED))


def _text(page: Axes, x: float, middle: float, width: float, lines: Sequence[str]) -> None:
    """Centred lines, the first one bold; those that are empty are left out."""
    shown = [line for line in lines if line]
    for number, line in enumerate(shown):
        y = middle + LINE * (number - (len(shown) - 1) / 2)
        size, weight = (SMALL_SIZE, "normal") if number else (LABEL_SIZE, "bold")
        words = shorten(line, 72 * width - 10, size, weight)
        write(page, x, y, words, size=size, weight=weight, ha="center", va="center_baseline")


def _arrow(page: Axes, *points: tuple[float, float]) -> None:
    page.add_patch(
        FancyArrowPatch(
            path=Outline(points),
            arrowstyle="-|>,head_length=5,head_width=2.6",
            mutation_scale=1.0,
            color=MUTED,
            linewidth=1.3,
            shrinkA=0,
            shrinkB=0,
        )
    )
