#!/usr/bin/env bash
# model.export("m.onnx") of Keras with the TensorFlow backend makes the mean and the variance of a
# Normalization layer inputs of the graph, without a default: ONNX Runtime then refuses a call with the
# model's own input alone. The same layer exported as a SavedModel has one input. A Rescaling layer is exact.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "keras==3.15.1" "tensorflow==2.21.0" "tf2onnx==1.17.0" "onnx==1.23.2" "onnxruntime==1.32.0"
cat > "$folder/export.py" <<'PY'
import sys
from importlib.metadata import version

import keras
import numpy as np
import onnxruntime

print(", ".join(f"{name} {version(name)}" for name in ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime")))
picture = np.array([[10.0, 20.0, 30.0]], np.float32)
inputs = {}
for layer in (keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 9.0, 16.0]), keras.layers.Rescaling(1 / 255)):
    start = keras.Input((3,), name="picture")
    model = keras.Model(start, keras.layers.Dense(2)(layer(start)))
    own = np.asarray(model(picture))  # Also needed: a functional model that was never called is refused.
    name = type(layer).__name__
    path = f"{sys.argv[1]}/{name}.onnx"
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    inputs[name] = [one.name for one in session.get_inputs()]
    print(f"{name}: inputs {inputs[name]}")
    try:
        (answer,) = session.run(None, {"picture": picture})
        print(f"  answers within {np.abs(answer - own).max():.1e} of Keras")
    except ValueError as error:
        print(f"  ValueError: {str(error)[:27]}")
sys.exit(len(inputs["Normalization"]) != 3 or len(inputs["Rescaling"]) != 1)
PY
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES="" "$folder/venv/bin/python" "$folder/export.py" "$folder" 2>"$folder/log" || { tail -5 "$folder/log"; exit 1; }
