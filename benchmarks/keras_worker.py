"""A process that trains a localizer of ours, and times its steps when told to.

The counterpart of `benchmarks.pytorch_worker`: the same folder, arguments and answers.
"""

import sys
import time
from pathlib import Path
from typing import Any

import keras

from loc_keras.config import Config
from loc_keras.from_config import data_from, losses_from, plan_from
from loc_keras.model_from_config import localizer_from
from loc_keras.training.compiled import compiled_training_model
from loc_keras.training.model import with_training_targets

WARM_UP = 2
HEADS = {"bbox_head": "gap_mlp", "class_head": "pooled"}


def config_of(folder: Path, way: str, batch: int) -> Config:
    """The original's recipe on the CSV file of a folder, or our heads in its place."""
    heads = {} if "our heads" in way else HEADS
    train = {"batch_size": batch, "optimizer": "adam", "schedule": "constant", "warmup_epochs": 0}
    return Config.model_validate(
        {
            "name": "speed",
            "data": {
                "source": {"format": "csv", "path": str(folder)},
                "image_size": 224,
                "channels": 3,
            },
            "model": {"backbone": {"width": 64}, **heads},
            "loss": {"bbox": "iou"},
            "train": {**train, "xla": "on" if "XLA" in way else "off"},
        }
    )


def main() -> None:
    folder, way, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if "bfloat16" in way else "float32")
    config = config_of(folder, way, batch)
    data = data_from(config)
    localizer = localizer_from(config, data)
    model = compiled_training_model(localizer, plan_from(config, data), losses_from(config))
    names = list(model.output)
    stream = data.train(0).map(lambda x, y: (x, with_training_targets(y, names)))
    model.make_train_function()
    iterator = iter(stream)

    def step() -> None:
        logs: Any = model.train_function(iterator)
        float(logs["loss"])  # Waits for the step.

    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, steps, began = float(line), 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            step()
            steps += 1
        print(steps * batch / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
