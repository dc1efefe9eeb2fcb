"""A process that trains a localizer of ours, and times its steps when told to.

The counterpart of `benchmarks.pytorch_worker`: the same folder, arguments and answers.
"""

import sys
from pathlib import Path
from typing import Any

import keras

from benchmarks.step_profile import config_step
from benchmarks.timed_steps import answer
from loc_keras.config.schema import Config

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
                # Decodes each image each time, as PyTorch's loader does, where that is asked for.
                "cache": "none" if "not cached" in way else "auto",
            },
            "model": {"backbone": {"width": 64}, **heads},
            "loss": {"bbox": "iou"},
            "train": {**train, "xla": "on" if "XLA" in way else "off"},
        }
    )


def main() -> None:
    folder, way, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if "bfloat16" in way else "float32")
    model, live = config_step(config_of(folder, way, batch))
    iterator = iter(live)

    def step() -> None:
        logs: Any = model.train_function(iterator)
        float(logs["loss"])  # Waits for the step.

    answer(step, batch)


if __name__ == "__main__":
    main()
