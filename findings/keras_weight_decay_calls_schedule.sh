#!/usr/bin/env bash
# An optimizer of Keras with weight decay asks its learning-rate schedule once per decayed variable and
# once more, in each step (or in each trace of a step): 21 times for ten Dense layers. Without weight
# decay it asks once. A schedule that counts its calls, draws numbers or reads a clock is thus not asked
# "once a step"; a traced step holds the schedule's operations 21 times.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "keras==3.15.1" "jax[cpu]==0.10.2"
cat > "$folder/count.py" <<'PY'
import sys

import keras
import numpy as np

calls = []


class Counting(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        calls.append(step)
        return keras.ops.convert_to_tensor(1e-3)


def calls_in_one_step(name, **options):
    layers = [keras.layers.Dense(4) for _ in range(10)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    optimizer = getattr(keras.optimizers, name)(Counting(), **options)
    model.compile(optimizer, loss="mse", run_eagerly=True)
    values = np.ones((8, 4), "float32")
    for _ in range(2):  # The second step, when all is built.
        calls.clear()
        model.fit(values, values, batch_size=8, epochs=1, verbose=0)
    return len(calls), len(model.trainable_variables)


found = {}
for name in ("SGD", "Adam", "Lion", "AdamW"):
    for decay in (None, 0.01)[name == "AdamW" :]:
        found[name, decay] = calls_in_one_step(name, weight_decay=decay)
        print(f"{name:5} weight_decay={decay}: {found[name, decay][0]} calls of the schedule in a step")
print("keras", keras.__version__, "on", keras.backend.backend())
expected = {(name, None): (1, 20) for name in ("SGD", "Adam", "Lion")}
expected |= {(name, 0.01): (21, 20) for name in ("SGD", "Adam", "Lion", "AdamW")}
sys.exit(found != expected)
PY
KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/count.py" 2> /dev/null
echo "as described: with weight decay the schedule is asked once per decayed variable and once more"
