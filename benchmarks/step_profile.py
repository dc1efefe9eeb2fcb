"""Where the time of a training step goes, by TensorFlow's profiler.

    python -m benchmarks.step_profile --config FILE [--set KEY=VALUE] [--steps 5]

Steps of the config are recorded with batches in memory, after some that are not; then one with the
live input is timed beside them. The table has the operations' own time, summed over all threads, by
kind of operation and by part of the network, as shares of all; a machine that does other work makes
all of them longer, and the shares little different.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from benchmarks.common import markdown_of, table_of
from loc_keras.cli.build import localizer_from
from loc_keras.cli.data_source import DataSource
from loc_keras.config.load import load_config
from loc_keras.config.schema import Config
from loc_keras.training.model import FitPlan, compiled_training_model, with_training_targets

WARM_UP = 4
KINDS = {
    "convolution, forward": ("Conv2D", "_FusedConv2D"),
    "convolution, gradient of the input": ("Conv2DBackpropInput",),
    "convolution, gradient of the kernel": ("Conv2DBackpropFilter",),
    "matrix products": ("MatMul", "BatchMatMulV2", "_FusedMatMul", "BatchMatMulV3"),
    "batch normalisation": ("FusedBatchNormV3", "_FusedBatchNormEx", "FusedBatchNormGradV3"),
    "sums and means (losses)": ("Mean", "Sum", "SquaredDifference"),
    "pooling": ("MaxPool", "MaxPoolGrad", "AvgPool"),
    "rectifier": ("Relu", "ReluGrad"),
    "element by element": (
        *("Mul", "AddV2", "Sub", "Rsqrt", "Square", "RealDiv", "AddN", "Neg", "Maximum", "Minimum"),
        *("Select", "SelectV2", "Cast", "BiasAdd", "BiasAddGrad", "Exp", "Softmax", "Sqrt"),
    ),
    "moving and copying": (
        *(
            "Transpose",
            "Tile",
            "ConcatV2",
            "Reshape",
            "Pad",
            "Slice",
            "StridedSlice",
            "BroadcastTo",
        ),
        "Identity",
    ),
    "variables (optimizer, statistics)": (
        *("AssignSubVariableOp", "AssignAddVariableOp", "AssignVariableOp", "ReadVariableOp"),
    ),
}
PARTS = ("stem", "stage1", "stage2", "stage3", "stage4", "bbox", "softmax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    config = load_config(args.config, args.set)
    model, live = config_step(config)
    held = iter(live.take(2).cache().repeat())
    timed(model, held, WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        recorded = timed(model, held, args.steps)
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        spent = operations(file)
    from_memory = timed(model, held, args.steps)
    from_input = timed(model, iter(live), args.steps)
    print(
        f"a step: {from_memory:.3f} s, recorded {recorded:.3f} s, with the input {from_input:.3f} s"
    )
    for title, rows in (("kind", by_kind(spent)), ("part of the network", by_part(spent))):
        Console().print(table_of(rows, title))
        print(markdown_of(rows))


def config_step(config: Config) -> tuple[keras.Model, tf.data.Dataset]:
    """A model whose `train_function` takes a step from an iterator, and endless batches."""
    data = DataSource(config).build()
    localizer = localizer_from(config, data)
    model = compiled_training_model(localizer, FitPlan.for_data(config.train, config.loss, data))
    names = list(model.output)
    model.make_train_function()
    return model, data.train(0).map(lambda x, y: (x, with_training_targets(y, names)))


def timed(model: keras.Model, source: Iterator[Any], steps: int) -> float:
    """Seconds of a step."""
    began = time.perf_counter()
    for _ in range(steps):
        float(model.train_function(source)["loss"])
    return (time.perf_counter() - began) / steps


def operations(file: Path) -> Counter[tuple[str, str]]:
    """Time in ms of all operations, by (name, type)."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(file.read_bytes())
    spent: Counter[tuple[str, str]] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, colon, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                # Operations of the graph are told as name:type; calls hold others, counted there.
                if colon and "/" in name and "Call" not in kind and " " not in name:
                    spent[name, kind] += event.duration_ps / 1e9
    return spent


def by_kind(spent: Counter[tuple[str, str]]) -> list[dict[str, str]]:
    kinds = {one: kind for kind, members in KINDS.items() for one in members}
    sums: Counter[str] = Counter()
    for (_, one), value in spent.items():
        # oneDNN's kernels are told as `_MklNative` and the operation that they stand for.
        plain = one.replace("_MklNative", "").replace("_Mkl", "")
        sums[kinds.get(plain, kinds.get(f"_{plain}", "all others"))] += value
    return shares(sums, "operation")


def by_part(spent: Counter[tuple[str, str]]) -> list[dict[str, str]]:
    sums: Counter[str] = Counter()
    for (name, _), value in spent.items():
        found = [part for part in PARTS if f"/{part}" in name]
        sums[found[0] if found else "losses, measures, optimizer, input"] += value
    return shares(sums, "part")


def shares(sums: Counter[str], title: str) -> list[dict[str, str]]:
    whole = sum(sums.values())
    return [{title: name, "share": f"{value / whole:.1%}"} for name, value in sums.most_common()]


if __name__ == "__main__":
    main()
