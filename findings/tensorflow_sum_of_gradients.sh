#!/usr/bin/env bash
# A gradient that comes from four branches of one feature map is summed in the order in which the
# branches end, also after tf.config.experimental.enable_op_determinism(): Grappler's memory optimizer
# replaces the AddN by a temporary variable and AssignAdd. Without Grappler the AddN stays.
# The check is of the graphs, which do not depend on luck; the sums are printed beside.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tensorflow==2.21.0"
cat > "$folder/sums.py" <<'PY'
import collections
import hashlib
import sys

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

tf.config.experimental.enable_op_determinism()
if sys.argv[1] == "off":
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
context.context().enable_graph_collection()
draw = np.random.default_rng(0).normal
images = tf.constant(draw(size=(128, 50, 50, 16)).astype("float32"))
kernels = [tf.Variable(draw(size=(3, 3, 16, 16)).astype("float32") / 12) for _ in range(13)]


def convolve(values, kernel):
    return tf.nn.relu(tf.nn.conv2d(values, kernel, 1, "SAME"))


@tf.function
def gradient(values):
    with tf.GradientTape() as tape:
        shared = convolve(values, kernels[0])
        ends = []
        for branch in range(4):
            end = shared
            for step in range(branch + 1):
                end = convolve(end, kernels[1 + 3 * branch + step if branch < 3 else 9 + step])
            ends.append(tf.reduce_mean(end**2))
        loss = tf.add_n(ends)
    return tape.gradient(loss, kernels[0])


sums = [hashlib.sha256(gradient(images).numpy().tobytes()).hexdigest()[:8] for _ in range(12)]
graphs = context.context().export_run_metadata().function_graphs
ops = collections.Counter(n.op for f in graphs for g in f.partition_graphs for n in g.node)
print(tf.__version__, "grappler", sys.argv[1], "| distinct gradients of 12:", len(set(sums)))
print({op: ops[op] for op in ("AddN", "TemporaryVariable", "AssignAdd")})
replaced = ops["TemporaryVariable"] > 0 and ops["AssignAdd"] > 2
sys.exit(replaced != (sys.argv[1] == "on"))
PY
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" "$folder/sums.py" on 2> /dev/null
"$folder/venv/bin/python" "$folder/sums.py" off 2> /dev/null
echo "as described: op determinism leaves the order of this sum open; without Grappler it is fixed"
