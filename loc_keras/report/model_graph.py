"""Read the graph of a functional model and join its layers to blocks worth drawing."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import keras

from loc_keras.errors import ModelError

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
