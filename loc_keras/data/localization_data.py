"""What a data source hands to training: its splits and what is known about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loc_keras.data.annotations import Split
from loc_keras.data.share import Share
from loc_keras.data.split_pictures import SplitPictures


class TrainStream(Protocol):
    """Gives the training batches from a global step on, or one share of each."""

    def __call__(self, start_step: int = 0, *, share: Share | None = None) -> tf.data.Dataset:
        """Builds the stream."""
        ...


class HeldOutShare(Protocol):
    """Gives one share of the batches of a split, with weights as `pipeline.eval_dataset`."""

    def __call__(self, *, share: Share) -> tf.data.Dataset:
        """Builds the pipeline."""
        ...


@dataclass(frozen=True, eq=False)
class LocalizationData:
    """The splits as `tf.data` pipelines of `(images, targets)`.

    Images are uint8 (B, H, W, C), raw pixels 0..255; targets are `{"softmax": int32 (B,),
    "bbox": float32 (B, 4)}` with boxes (x1, y1, x2, y2) in fractions of the image side. The box of
    an image without an object is `empty_boxes.EMPTY_BOX`.

    Attributes:
        train: Builds the endless training stream; its argument is the global step (batch) to
            start at, and the stream from there on equals the full one after that many steps.
            With a share it gives, and makes, that part of every batch alone.
        val: Every validation image once, in order, the last batch perhaps smaller; None where
            the source gives no validation images.
        test: Likewise for the test images.
        val_share: Builds the pipeline of one share of the validation images, with weights.
        sizes: Images in `"train"`, `"val"`, `"test"` and, where it is configured,
            `"calibration"`.
        class_names: Name of each class, by index.
        image_shape: (height, width, channels) of every image.
        steps_per_epoch: Batches in one epoch of the training stream.
        fingerprint: SHA-256, in hex, of the labelled data and of how it is split.
        skipped: Rows left out by the reader, as (file, row number, reason).
        notes: Sentences about choices the user should know of.
        background: Index of the class of images without an object; None where all show one.
        calibration: Likewise for the images on which trust is fitted; None without such a split.
        pictures: What the images of each split are made from, in the order of its pipeline.
        batch_indices: Gives the training images, int64 (B,), in the batch of a global step.
    """

    train: TrainStream
    val: tf.data.Dataset | None
    test: tf.data.Dataset | None
    sizes: dict[str, int]
    class_names: list[str]
    image_shape: tuple[int, int, int]
    steps_per_epoch: int
    fingerprint: str
    skipped: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    background: int | None = None
    calibration: tf.data.Dataset | None = None
    pictures: Mapping[Split, SplitPictures] = field(default_factory=dict)
    batch_indices: Callable[[int], npt.NDArray[np.int64]] | None = None
    val_share: HeldOutShare | None = None

    def batch_names(self, step: int) -> list[str]:
        """Names of the pictures in the training batch of a global step, from 0; none if unknown."""
        pictures = self.pictures.get("train")
        if self.batch_indices is None or pictures is None:
            return []
        return [str(name) for name in pictures.names[self.batch_indices(step)]]

    def held_out(self, split: str) -> tf.data.Dataset | None:
        """The pipeline of `"val"`, `"test"` or `"calibration"`; None where it has no images."""
        held: dict[str, tf.data.Dataset | None] = {
            "val": self.val,
            "test": self.test,
            "calibration": self.calibration,
        }
        return held[split]
