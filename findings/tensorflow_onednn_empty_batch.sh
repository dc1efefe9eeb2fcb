#!/usr/bin/env bash
# With oneDNN on, which is TensorFlow's default on many processors, a convolution of an empty batch
# gives the shape of its input, not (0, height, width, filters): filters, strides and padding are
# forgotten, in eager code and in graphs, and the next layer raises. A batch of one is right.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tensorflow==2.21.0"
cat > "$folder/empty.py" <<'PY'
import os
import sys

import tensorflow as tf

onednn = os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
print("tensorflow", tf.__version__, "oneDNN", "on" if onednn else "off")
kernel = tf.ones([3, 3, 3, 8])


@tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3])])
def shape_in_graph(images):
    return tf.shape(tf.nn.conv2d(images, kernel, 2, "SAME"))


seen = {}
for count in (0, 1):
    images = tf.zeros([count, 32, 32, 3])
    eager = tuple(tf.nn.conv2d(images, kernel, 2, "SAME").shape)
    graph = tuple(shape_in_graph(images).numpy().tolist())
    deep = tuple(tf.nn.depthwise_conv2d(images, tf.ones([3, 3, 3, 2]), [1] * 4, "SAME").shape)
    seen[count] = (eager, graph, deep)
    print(f"{count} images of 32 x 32 x 3, 8 filters, stride 2: eager {eager}, graph {graph};",
          f"depthwise, 2 a channel, stride 1: {deep}")
right = ((16, 16, 8), (16, 16, 8), (32, 32, 6))
wrong = ((32, 32, 3),) * 3
found = {count: tuple(shape[1:] for shape in shapes) for count, shapes in seen.items()}
sys.exit(found != {0: wrong if onednn else right, 1: right})
PY
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
TF_ENABLE_ONEDNN_OPTS=1 "$folder/venv/bin/python" "$folder/empty.py" 2> /dev/null
TF_ENABLE_ONEDNN_OPTS=0 "$folder/venv/bin/python" "$folder/empty.py" 2> /dev/null
echo "as described: with oneDNN an empty batch keeps the shape of the input"
