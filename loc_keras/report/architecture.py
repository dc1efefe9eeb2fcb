"""A drawing of a localizer: image, body with its stages, two heads and their outputs."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import keras
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from loc_keras.errors import ModelError
from loc_keras.models.body import BODY_NAME, body_groups, network_cells
from loc_keras.report import style

Shape = tuple[int | None, ...]
OUTPUTS = ("softmax", "bbox")


@dataclass(frozen=True)
class Block:
    """Layers that are drawn as one.

    Attributes:
        name: Of a stage, or of the output that a head computes.
        kinds: Each class of its layers with weights, but for normalisation, and how many.
        shape: Of what it gives, without the batch axis.
        maps: Of a head: place of each stage whose map it takes, with the shape of that map.
        takes_box: Of a head: whether it takes the predicted box.
    """

    name: str
    kinds: Sequence[str]
    parameters: int
    shape: Shape
    maps: Mapping[int, Shape] = field(default_factory=dict)
    takes_box: bool = False


class Structure(NamedTuple):
    """Image and what is done to it, the body's stages or levels from fine to coarse, two heads."""

    before: list[Block]
    stages: list[Block]
    heads: list[Block]


def structure_of(localizer: keras.Model) -> Structure:
    """Reads the parts of a localizer by the names of its layers; ModelError if it is none."""
    outputs = localizer.get_config().get("output_layers")
    if not isinstance(outputs, Mapping) or not set(OUTPUTS) <= outputs.keys():
        raise ModelError(
            f"The model '{localizer.name}' is not functional with the outputs softmax and bbox; "
            "build it with loc_keras.build_localizer."
        )
    groups = body_groups(localizer)
    layers = localizer.layers
    nested = next((layer for layer in layers if layer.name == BODY_NAME), None)
    parts = [[one for one in layers if one.name.partition("_")[0] == name] for name in OUTPUTS]
    drawn = [layer for part in (*groups, *parts) for layer in part]
    before = [layer for layer in layers if layer not in (nested, *drawn)]
    taken = [keras.tree.flatten([layer.input for layer in part]) for part in parts]
    names = [f"level {row + 1}" for row in range(len(groups))]
    if nested is None:
        names = [group[0].name.partition("_")[0] for group in groups]
        rows = {id(layer.output): row for row, group in enumerate(groups) for layer in group}
        shapes = {row: group[-1].output.shape for row, group in enumerate(groups)}
    else:
        level = {cell.size: cell.level - 1 for cell in network_cells(nested)}
        # Outside of the body its maps are other tensors, which no other layer gives.
        own = set(map(id, keras.tree.flatten([one.output for one in layers if one is not nested])))
        maps = [one for one in keras.tree.flatten(taken) if id(one) not in own]
        rows = {id(one): level[one.shape[1:3]] for one in maps}
        shapes = {level[one.shape[1:3]]: one.shape for one in nested.outputs}
    heads = []
    for name, part, tensors in zip(OUTPUTS, parts, taken, strict=True):
        found = {rows[id(one)]: one.shape[1:] for one in tensors if id(one) in rows}
        box = any(one is localizer.get_layer("bbox").output for one in tensors)
        shape = localizer.get_layer(name).output.shape
        heads.append(_block(name, part, shape, maps=dict(sorted(found.items())), takes_box=box))
    first = [_block(one.name, [one], one.output.shape) for one in before]
    stages = [_block(names[row], group, shapes.get(row, ())) for row, group in enumerate(groups)]
    return Structure(first, stages, heads)


def _block(name: str, layers: Iterable[keras.layers.Layer], shape: Shape, **head: Any) -> Block:
    weights = [(type(layer).__name__, layer.count_params()) for layer in layers]
    counts = Counter(kind for kind, n in weights if n and not kind.endswith("Normalization"))
    kinds = [kind + (f" ×{n}" if n > 1 else "") for kind, n in counts.most_common()]
    return Block(name, kinds, sum(n for _, n in weights), tuple(shape[1:]), **head)


# Lengths in inches; DPI in pixels per inch.
DPI = 144.0
MARGIN, GAP, SIDE_GAP = 0.25, 0.3, 1.15  # around all, below a block, and beside the body
WIDTH, HEAD_WIDTH = 2.5, 1.75  # of a block and of a head
ROUND = "round,pad=0,rounding_size=0.07"
LOW, HIGH = 0.5, 0.74  # heights of a block of two lines and of three
FRAME, LINE = 0.14, 0.19  # from the body's frame to its stages, and of text
TINTS = {"softmax": ("#FBEBCF", "#F3C878"), "bbox": ("#DDF1E7", "#9BD6BE")}
INPUT_TINT, STAGE_TINT = "#EFEFEF", "#E3EEF7"
OVER: Mapping[str, Any] = {"size": style.SMALL_SIZE, "ha": "center", "va": "bottom"}


def save_architecture(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Draws a localizer as PNG, whole or not at all; ModelError if it is none."""
    structure = structure_of(model)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    subtitle = f"{trained:,} trainable parameters, {model.count_params() - trained:,} fixed"
    return style.save_figure(draw_structure(structure, model.name, subtitle), path)


def draw_structure(structure: Structure, title: str, subtitle: str) -> Figure:
    """Draws the body from top to bottom, the class head on its left, the box head on its right.

    A level arrow is a map that a head takes, with its shape where it is not that of the stage.
    """
    before, stages, heads = structure
    left = MARGIN + HEAD_WIDTH + SIDE_GAP
    width = 2 * left + WIDTH
    *tops, first = [MARGIN + 3.5 * LINE + (LOW + GAP) * row for row in range(len(before) + 1)]
    rows = [first + FRAME + (HIGH + GAP) * row for row in range(len(stages))]
    end = rows[-1] + HIGH + LINE + FRAME
    figure, page = style.new_page(width, end + 3 * LINE + GAP + LOW + MARGIN, DPI)
    title = style.shorten(title, 72 * (width - 2 * MARGIN), style.TITLE_SIZE, "bold")
    style.write(page, MARGIN, MARGIN, title, size=style.TITLE_SIZE, weight="bold")
    style.write(page, MARGIN, MARGIN + 1.5 * LINE, subtitle, size=style.LABEL_SIZE)
    _box(page, (left - FRAME, first), (WIDTH + 2 * FRAME, end - first), style.PAPER)
    body = sum(stage.parameters for stage in stages)
    style.write(page, width / 2, end - FRAME / 2, f"body: {body:,} parameters", **OVER)
    places = [(y, LOW, INPUT_TINT) for y in tops] + [(y, HIGH, STAGE_TINT) for y in rows]
    for block, (y, height, tint) in zip((*before, *stages), places, strict=True):
        kinds = " · ".join(block.kinds) if height == HIGH else ""
        last = " · ".join(filter(None, (_sides(block.shape), _weights(block))))
        _box(page, (left, y), (WIDTH, height), tint, block.name, kinds, last)
    for (upper, height, _), (lower, _, _) in pairwise(places):
        _arrow(page, (width / 2, upper + height), (width / 2, lower))

    head_end = end + 3 * LINE  # Below the body, so that the box passes under it.
    for head, side in zip(heads, (-1, 1), strict=True):
        middle = width / 2 + side * (WIDTH / 2 + SIDE_GAP + HEAD_WIDTH / 2)
        x, inner = middle - HEAD_WIDTH / 2, middle - side * HEAD_WIDTH / 2
        tint, output_tint = TINTS[head.name]
        lines = (f"{head.name} head", *head.kinds, _weights(head))
        _box(page, (x, first), (HEAD_WIDTH, head_end - first), tint, *lines)
        output = f"output (N, {_sides(head.shape)})"
        _box(page, (x, head_end + GAP), (HEAD_WIDTH, LOW), output_tint, head.name, output)
        _arrow(page, (middle, head_end), (middle, head_end + GAP))
        for row, shape in head.maps.items():
            y = rows[row] + HIGH / 2
            _arrow(page, (width / 2 + side * WIDTH / 2, y), (inner, y))
            words = _sides(shape) if shape != stages[row].shape else ""
            style.write(page, inner - side * (SIDE_GAP - FRAME) / 2, y - 0.03, words, **OVER)
        if head.takes_box:
            _arrow(page, (width - inner, head_end - LINE), (inner, head_end - LINE))
            style.write(page, width / 2, head_end - LINE - 0.03, "the box", **OVER)
    return figure


def _sides(shape: Shape) -> str:
    return " × ".join("?" if side is None else f"{side:,}" for side in shape)


def _weights(block: Block) -> str:
    return f"{block.parameters:,} parameters" if block.parameters else ""


def _box(
    page: Axes, corner: tuple[float, float], size: tuple[float, float], tint: str, *lines: str
) -> None:
    """A box with centred lines, the first one bold; those that are empty are left out."""
    (x, y), (width, height) = corner, size
    page.add_patch(FancyBboxPatch(corner, *size, ROUND, facecolor=tint, edgecolor=style.MUTED))
    for number, line in enumerate(shown := [line for line in lines if line]):
        middle = y + height / 2 + LINE * (number - (len(shown) - 1) / 2)
        points, weight = (style.SMALL_SIZE, "normal") if number else (style.LABEL_SIZE, "bold")
        words = style.shorten(line, 72 * width - 10, points, weight)
        font = {"size": points, "weight": weight, "ha": "center", "va": "center_baseline"}
        style.write(page, x + width / 2, middle, words, **font)


def _arrow(page: Axes, *ends: tuple[float, float]) -> None:
    look: dict[str, Any] = {"color": style.MUTED, "linewidth": 1.3, "mutation_scale": 1}
    look |= {"arrowstyle": "-|>,head_length=5,head_width=2.6", "shrinkA": 0, "shrinkB": 0}
    page.add_patch(FancyArrowPatch(*ends, **look))
