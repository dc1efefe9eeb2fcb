"""What a block of the architecture diagram says, and in which colour."""

from collections.abc import Sequence

from loc_keras.report.layered_layout import Edge
from loc_keras.report.model_graph import Block
from loc_keras.report.style import LABEL_SIZE, SMALL_SIZE
from loc_keras.report.text import ELLIPSIS, fill_lines, shorten

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
