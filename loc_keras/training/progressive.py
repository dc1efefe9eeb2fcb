"""Training on small images first: most of what is to be learned shows at half the size.

After Howard (2018, DAWNBench), and Tan and Le 2021 ("EfficientNetV2", section 4). The images are
made smaller inside the training step, so that data, validation, checkpoints and the saved model
know nothing of it; validation is always on images of full size.
"""

from collections.abc import Sequence
from typing import Any

import keras

from loc_keras.training.model import TrainingModel
from loc_keras.training.position import Position
from loc_keras.training.size_stages import SizeStage, size_at

Logs = dict[str, Any] | None


class ProgressiveSize(keras.callbacks.Callback):
    """Changes the size of the training images where a stage ends; comes after the position.

    Args:
        stages: See `size_at`.
        total_steps: Steps of the whole training.
        position: Knows the step.
    """

    model: TrainingModel

    def __init__(self, stages: Sequence[SizeStage], total_steps: int, position: Position) -> None:
        """Stores the stages; see the class."""
        super().__init__()
        self.stages = tuple(stages)
        self.total_steps = total_steps
        self.position = position

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Makes the step anew where the next batch is to have another size."""
        if self.position.passing_over:
            return
        height, width = self.model.input.shape[1:3]
        step = self.position.global_step
        size = size_at(step, self.stages, self.total_steps, (height, width))
        if size != self.model.train_size:
            self.model.train_size = size
            # The optimizer, the metrics and all variables stay; only the graph is another.
            self.model.make_train_function(force=True)
            self.position.replace_step(self.model.train_function)
