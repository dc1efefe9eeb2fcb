"""What TensorBoard shows of a run: six groups of charts and pictures, graph, hyper-parameters."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from loc_keras.evaluation.figures import BY_RUN_KEY
from loc_keras.training.callbacks import Logs, Position
from loc_keras.training.model import SIDES_OUTPUT

DrawPictures = Callable[
    [np.ndarray, Mapping[str, np.ndarray], Mapping[str, np.ndarray]], Sequence[np.ndarray]
]
"""Draws images (N, H, W, C) with their targets and outputs as a uint8 picture (h, w, 3) each."""

TAGS = {
    "loss": "loss/total",
    "softmax_loss": "loss/class",
    "bbox_loss": "loss/box",
    f"{SIDES_OUTPUT}_loss": "loss/box sides",
    "learning_rate": "run/learning rate",
    "images_per_second": "run/images per second",
    "score": "run/class accuracy x mean IoU",
}
"""Charts by the names of what the logs hold; figures are named by `tag_of`."""

PICTURES = "pictures"
TRAIN, VALIDATION = "train", "validation"


def tag_of(name: str) -> str:
    """The chart of a value of the logs without its `val_`, behind that of its group."""
    figure = BY_RUN_KEY.get(name)
    if figure is None:
        return TAGS.get(name, f"run/{name}")
    both = "class and box" if name.endswith("_loc") else "class"
    return f"{'box' if figure.box_only else both}/{figure.name}"


class Scalars(keras.callbacks.Callback):
    """Writes the figures of each epoch, training and validation into the same charts.

    They stand at the step at which the epoch ended.
    """

    def __init__(self, folder: Path, position: Position) -> None:
        super().__init__()
        self.position = position
        self._writers = {
            part: tf.summary.create_file_writer(str(folder / part)) for part in (TRAIN, VALIDATION)
        }

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes them."""
        self.write(self.position.global_step, logs or {})

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes figures, those of validation with `val_` before their names."""
        for name, value in figures.items():
            key = name.removeprefix("val_")
            with self._writers[TRAIN if key == name else VALIDATION].as_default():
                tf.summary.scalar(tag_of(key), value, step=step)
        for writer in self._writers.values():
            writer.flush()


class Profiler(keras.callbacks.TensorBoard):
    """Keras's profiler without its charts."""

    def __init__(self, folder: Path, steps: tuple[int, int]) -> None:
        super().__init__(str(folder), write_graph=False, profile_batch=steps)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes no chart."""

    def on_test_begin(self, logs: Logs = None) -> None:
        """Writes no chart."""

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Writes no chart."""

    def on_test_end(self, logs: Logs = None) -> None:
        """Writes no chart."""


class ImagePanel(keras.callbacks.Callback):
    """Writes the same validation images at each epoch, with true and predicted boxes."""

    def __init__(
        self,
        localizer: keras.Model,
        folder: Path,
        dataset: tf.data.Dataset,
        count: int,
        draw: DrawPictures,
    ) -> None:
        super().__init__()
        self.localizer = localizer
        self.dataset = dataset
        self.count = count
        self.draw = draw
        self._shown: tuple[np.ndarray, dict[str, np.ndarray]] | None = None
        self.writer = tf.summary.create_file_writer(str(folder / "images"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws and writes the pictures."""
        if self._shown is None:
            # Read only now: the epoch's validation has filled the data set's cache, which a
            # partial reading before it would have spoiled.
            self._shown = first_images(self.dataset, self.count)
        images, truth = self._shown
        outputs = self.localizer(images, training=False)
        answers = {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}
        with self.writer.as_default():
            for number, picture in enumerate(self.draw(images, truth, answers), start=1):
                tf.summary.image(f"{PICTURES}/{number}", picture[np.newaxis], step=epoch)
        self.writer.flush()


class InferenceGraph(keras.callbacks.Callback):
    """Writes the localizer's graph, from raw pixels to both outputs, once before training.

    Keras's own callback writes none for a subclass of `keras.Model`.
    """

    def __init__(self, localizer: keras.Model, folder: Path) -> None:
        super().__init__()
        self.localizer = localizer
        self.folder = folder

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Traces and writes the graph, in the first phase of a new training alone."""
        log = self.folder / "graph"
        if log.exists():
            return
        images = tf.TensorSpec((None, *self.localizer.input_shape[1:]), tf.float32)
        traced = tf.function(lambda x: self.localizer(x, training=False))
        graph = traced.get_concrete_function(images).graph
        with tf.summary.create_file_writer(str(log)).as_default():
            tf.summary.graph(graph)


class HyperParameters(keras.callbacks.Callback):
    """Writes the settings of the run, by flat names, and which validation figures go with them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], name: str) -> None:
        super().__init__()
        self.settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in settings.items()
        }
        self.name = name
        # A figure is looked for in a folder below that of the settings.
        self.writer = tf.summary.create_file_writer(str(folder))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the settings."""
        shown = [
            hparams.Metric(tag_of(key), group=VALIDATION, display_name=BY_RUN_KEY[key].name)
            for key in ("softmax_accuracy", "bbox_iou", "top1_loc")
        ]
        with self.writer.as_default():
            hparams.hparams_config(
                hparams=[hparams.HParam(key) for key in self.settings], metrics=shown
            )
            hparams.hparams(self.settings, trial_id=self.name)
        self.writer.flush()


def first_images(dataset: tf.data.Dataset, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The first images of a data set and their targets, as arrays; fewer where it has fewer."""
    images, targets = next(iter(dataset.unbatch().batch(count)))
    return images.numpy(), {name: value.numpy() for name, value in targets.items()}
