"""CSV data sets as a data source: read, split, decode."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from loc_keras.data import image_files
from loc_keras.data.augment import split_augment_options
from loc_keras.data.csv_reader import CsvRecords, Skipped, read_csv, row_faults_error
from loc_keras.data.csv_rows import NEEDED_COLUMNS
from loc_keras.data.image_files import ImageFormat
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.pipeline import (
    ImageSet,
    Targets,
    batched_set,
    side_pair,
    use_cache,
)
from loc_keras.data.resize import ResizeRule
from loc_keras.data.split_pipelines import localization_data
from loc_keras.data.splits import empty_part, stratified_split
from loc_keras.errors import DataError

PUBLISHED_FILES: dict[str, dict[str, str]] = {
    "train": {"csv": "training_data.csv", "images": "training_images"},
    "val": {"csv": "validation_data.csv", "images": "validation_images"},
    "test": {"csv": "test_data.csv", "images": "test_images"},
}
"""CSV file and image folder of each split in the published layout."""


def build_csv_data(
    path: str | Path,
    *,
    batch_size: int,
    seed: int = 0,
    val_fraction: float = 0.05,
    test_fraction: float = 0.05,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: ResizeRule = "stretch",
    augment: Mapping[str, float] | None = None,
    cache: str = "auto",
    on_error: str = "stop",
    splits: Mapping[str, Mapping[str, str]] | None = None,
    header: bool = False,
    delimiter: str = ",",
    columns: Sequence[str] = NEEDED_COLUMNS,
    units: str = "fraction",
    class_names: Sequence[str] | None = None,
) -> LocalizationData:
    """Builds the pipelines of a folder with one CSV file and one image folder per split.

    Args:
        path: The folder.
        batch_size: Images in a batch.
        seed: Seed of the split, the order and the augmentation.
        val_fraction: Part of the training rows kept for validation where there is no
            validation file; above 0, it must come to one image at least.
        test_fraction: Likewise for testing.
        limit: Most images in each split, or None for all.
        image_size: Side, or (height, width), of every image; None demands that all files have
            one size and keeps it.
        channels: 1 or 3; None takes that of the first training image that can be decoded.
        resize: `"stretch"` or `"letterbox"`.
        augment: Knobs of `augment.ImageAugment` by name; those left out are zero.
        cache: `"auto"` holds decoded images in memory where they take at most a quarter of
            what is free, `"memory"` in any case, `"none"` decodes in every epoch.
        on_error: `"stop"` at rows and files that cannot be used, or `"skip"` them.
        splits: `{"train" | "val" | "test": {"csv": file, "images": folder}}`, relative to
            `path`; None is `PUBLISHED_FILES`. Validation and test files may be missing under
            their published names, but not under others.
        header: As in `csv_reader.read_csv`, like the remaining arguments.
        delimiter: See `csv_reader.read_csv`.
        columns: See `csv_reader.read_csv`.
        units: See `csv_reader.read_csv`.
        class_names: See `csv_reader.read_csv`.

    Returns:
        The three splits; validation and test are None where nothing is left for them.

    Raises:
        DataError: If a file, a row or an option is wrong.
    """
    digit_knobs, image_knobs = split_augment_options(augment or {})
    read = partial(
        read_csv,
        header=header,
        delimiter=delimiter,
        columns=columns,
        units=units,
        on_error=on_error,
    )
    records = _read_splits(Path(path), splits or PUBLISHED_FILES, read, class_names)
    skipped = [row for part in records.values() for row in part.skipped]
    # Before rows are shuffled, so that the first image is the first one of the file.
    form = _image_format(records["train"], image_size, channels, resize)
    records, notes = _fill_splits(records, val_fraction, test_fraction, seed)
    if any(digit_knobs.values()):
        notes = [*notes, "augment.digit_* bends the digits source alone and is not used here."]
    records = {
        name: part.take(np.arange(len(part.labels))[:limit]) for name, part in records.items()
    }
    notes += _several_boxes(records)
    sets: dict[str, ImageSet] = {}
    for name, part in records.items():
        if len(part.labels):
            sets[name], records[name] = _image_set(part, form, cache, on_error, skipped)
    return localization_data(
        sets,
        batch_size=batch_size,
        seed=seed,
        image_shape=form.shape,
        image_knobs=image_knobs,
        # The decoded images are cached where they are decoded, for all splits alike.
        cache="none",
        sizes={name: len(part.labels) for name, part in records.items()},
        class_names=records["train"].class_names,
        fingerprint=_fingerprint(records, form),
        skipped=skipped,
        notes=notes,
    )


def _several_boxes(records: Mapping[str, CsvRecords]) -> list[str]:
    """A note where images stand in several rows, since a localizer answers with one box."""
    paths = np.concatenate([part.paths for part in records.values()])
    repeated = len(paths) - len(np.unique(paths))
    if not repeated:
        return []
    return [
        f"{repeated} rows name an image that an earlier row names too: each row counts as an image "
        "of its own, and one image may stand in several splits; keep one row an image for figures "
        "to trust."
    ]


def _read_splits(
    root: Path,
    files: Mapping[str, Mapping[str, str]],
    read: Callable[..., CsvRecords],
    class_names: Sequence[str] | None,
) -> dict[str, CsvRecords]:
    """Reads the CSV files that exist; the training file decides what the classes are."""
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist: data.source.path must name it.")
    records: dict[str, CsvRecords] = {}
    names = class_names
    for split in ("train", "val", "test"):
        entry = files.get(split)
        if entry is None or (split != "train" and _left_out(root, split, entry["csv"])):
            continue
        records[split] = read(
            root / entry["csv"], image_folder=root / entry["images"], class_names=names
        )
        names = records[split].class_names
    return records


def _left_out(root: Path, split: str, name: str) -> bool:
    """Whether a split has no file; one that was named on purpose must be there."""
    if (root / name).is_file():
        return False
    if name != PUBLISHED_FILES[split]["csv"]:
        raise DataError(
            f"CSV file {root / name} does not exist: mend data.source.csv.splits.{split}.csv, or "
            "leave it out to cut the split off the training file."
        )
    return True


def _fill_splits(
    records: dict[str, CsvRecords], val_fraction: float, test_fraction: float, seed: int
) -> tuple[dict[str, CsvRecords], list[str]]:
    """Cuts the splits that have no file of their own off the training rows."""
    wanted = {"val": val_fraction, "test": test_fraction}
    fractions = {name: part for name, part in wanted.items() if name not in records}
    if not any(fractions.values()):
        return records, []
    train = records["train"]
    parts = stratified_split(train.labels, fractions, seed, min_per_class=0)
    cut = {name: train.take(index) for name, index in parts.items()}
    emptied = {
        name: empty_part(name, fraction, len(train.labels))
        for name, fraction in fractions.items()
        if fraction > 0 and not len(parts[name])
    }
    # Without validation no model can be chosen; without a test split only a figure is missing.
    if "val" in emptied:
        raise DataError(emptied["val"])
    notes = list(emptied.values())
    names = " and ".join(name for name in fractions if len(parts[name]))
    if names:
        notes.insert(0, f"Images for {names} were cut off the training file.")
    return {**records, **cut}, notes


def _image_format(
    train: CsvRecords,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    rule: ResizeRule,
) -> ImageFormat:
    """The format asked for; what is left open is that of the first image that can be decoded."""
    if image_size is not None and channels is not None:
        return ImageFormat(side_pair(image_size), channels, rule)
    height, width, found = _first_shape(train)
    if image_size is None:
        return ImageFormat((height, width), channels or found, None)
    return ImageFormat(side_pair(image_size), found, rule)


def _first_shape(train: CsvRecords) -> tuple[int, int, int]:
    # Broken images before it are reported or skipped with all others when the files are read.
    for path in train.paths:
        with suppress(tf.errors.OpError, ValueError):
            return image_files.first_shape(path)
    raise DataError(
        f"{train.source}: image {train.paths[0]} of row {train.rows[0]} cannot be decoded as "
        "JPEG, PNG, BMP or GIF."
    )


def _image_set(
    records: CsvRecords,
    form: ImageFormat,
    cache: str,
    on_error: str,
    skipped: list[Skipped],
) -> tuple[ImageSet, CsvRecords]:
    """Decodes every file once, so that a broken one shows now and not amid an epoch."""
    keep = use_cache(cache, len(records.labels) * int(np.prod(form.shape)))
    pixels, boxes, reasons = image_files.load_all(records.paths, records.boxes, form, keep=keep)
    if reasons:
        faults = [(str(records.source), int(records.rows[i]), why) for i, why in reasons.items()]
        if on_error == "stop" or len(reasons) == len(records.labels):
            raise row_faults_error(records.source, faults, len(records.labels))
        skipped.extend(faults)
        good = np.setdiff1d(np.arange(len(records.labels)), list(reasons))
        records, boxes = records.take(good), boxes[good]
        pixels = None if pixels is None else pixels[good]
    if pixels is None:
        return _file_set(records, form), records
    return _memory_set(pixels, records.labels, boxes), records


def _memory_set(pixels: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> ImageSet:
    held = _held(pixels, labels, boxes)

    def fetch(index: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, Targets]:
        del draws
        image, label, box = (tf.gather(column, index) for column in held)
        return image, {"softmax": label, "bbox": box}

    return batched_set(len(labels), 0, fetch)


def _file_set(records: CsvRecords, form: ImageFormat) -> ImageSet:
    held = _held(records.paths, records.labels, records.boxes)

    def fetch(index: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, Targets]:
        del draws
        path, label, box = (tf.gather(column, index) for column in held)
        images, boxes = image_files.load_batch(path, box, form)
        images = tf.ensure_shape(images, [*index.shape, *form.shape])
        return images, {"softmax": label, "bbox": tf.ensure_shape(boxes, [*index.shape, 4])}

    return batched_set(len(records.labels), 0, fetch)


def _held(*columns: np.ndarray) -> tuple[tf.Tensor, ...]:
    """Tensors that a pipeline takes as inputs, so that they are not copied into its graph."""
    with tf.device("CPU:0"):
        return tuple(tf.constant(column) for column in columns)


def _fingerprint(records: dict[str, CsvRecords], form: ImageFormat) -> str:
    digest = hashlib.sha256(repr(form).encode())
    for name, part in records.items():
        sizes = [Path(path).stat().st_size for path in part.paths]
        files = [Path(path).name for path in part.paths]
        digest.update(repr((name, files, sizes)).encode())
        digest.update(part.labels.tobytes() + part.boxes.tobytes())
    return digest.hexdigest()
