"""What TensorBoard shows beyond Keras's own scalars and graph: pictures and hyper-parameters."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

DrawPanel = Callable[[np.ndarray, Mapping[str, np.ndarray], Mapping[str, np.ndarray]], np.ndarray]
"""Draws images (N, H, W, C) with their targets and outputs as one uint8 picture (h, w, 3)."""


class ImagePanel(keras.callbacks.Callback):
    """Writes one picture an epoch: the same validation images with true and predicted boxes."""

    def __init__(
        self,
        localizer: keras.Model,
        folder: Path,
        dataset: tf.data.Dataset,
        count: int,
        draw: DrawPanel,
    ) -> None:
        super().__init__()
        self.localizer = localizer
        self.dataset = dataset
        self.count = count
        self.draw = draw
        self._shown: tuple[np.ndarray, dict[str, np.ndarray]] | None = None
        self.writer = tf.summary.create_file_writer(str(folder / "images"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws and writes the picture."""
        if self._shown is None:
            # Read only now: the epoch's validation has filled the data set's cache, which a
            # partial reading before it would have spoiled.
            self._shown = first_images(self.dataset, self.count)
        images, truth = self._shown
        outputs = self.localizer(images, training=False)
        answers = {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}
        picture = self.draw(images, truth, answers)
        with self.writer.as_default():
            tf.summary.image("validation", picture[np.newaxis], step=epoch)
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
    """Writes the settings of the run, by flat names, and at its end the figures they led to."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], name: str) -> None:
        super().__init__()
        self.settings = {key: _plain(value) for key, value in settings.items()}
        self.name = name
        self.writer = tf.summary.create_file_writer(str(folder / "hparams"))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the settings."""
        with self.writer.as_default():
            hparams.hparams(self.settings, trial_id=self.name)
        self.writer.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the epoch's validation figures beside the settings."""
        with self.writer.as_default():
            for name, value in (logs or {}).items():
                if name.startswith("val_"):
                    tf.summary.scalar(f"hparams/{name}", value, step=epoch)
        self.writer.flush()


def first_images(dataset: tf.data.Dataset, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The first images of a data set and their targets, as arrays; fewer where it has fewer."""
    images, targets = next(iter(dataset.unbatch().batch(count)))
    return images.numpy(), {name: value.numpy() for name, value in targets.items()}


def step_scalars(folder: Path) -> Callable[[int, Mapping[str, float]], None]:
    """Gives a function that writes figures of a step within an epoch as scalars."""
    writer = tf.summary.create_file_writer(str(folder / "within_epoch"))

    def write(step: int, figures: Mapping[str, float]) -> None:
        with writer.as_default():
            for name, value in figures.items():
                tf.summary.scalar(f"step_{name}", value, step=step)
        writer.flush()

    return write


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
