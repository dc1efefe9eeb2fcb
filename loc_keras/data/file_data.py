"""Records of image files as a data source: one format for all pictures, pixels kept, pipelines."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from loc_keras.data.annotations import WHOLE_FILE, Fault, ImageRef, Split
from loc_keras.data.augment import split_augment_options
from loc_keras.data.files import file_size
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.image_header import HeaderError, read_header
from loc_keras.data.load_records import faults_error, image_refs
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.pipeline import ImageSet, side_pair, use_cache
from loc_keras.data.pixel_store import Keep, image_set, store_pixels
from loc_keras.data.records import COLUMNS, Records
from loc_keras.data.resize import ResizeRule
from loc_keras.data.resolve import DatasetRecords
from loc_keras.data.split_pictures import SplitPictures, pictures_of_records
from loc_keras.data.split_pipelines import localization_data
from loc_keras.errors import DataError

_GRAY, _COLOUR = 1, 3
_GRAY_MODES = frozenset(
    {"1", "L", "LA", "La", "I", "F"}
)  # Pillow's; those of 16 bits are "I;16..".


def build_file_data(
    found: DatasetRecords,
    *,
    batch_size: int,
    seed: int = 0,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: ResizeRule = "stretch",
    augment: Mapping[str, Any] | None = None,
    cache: str = "auto",
    cache_dir: str = "cache",
    on_error: str = "stop",
) -> LocalizationData:
    """Builds the pipelines of a data set whose records are known.

    Args:
        found: Records of each split; `"train"` must have some.
        batch_size: Images in a batch.
        seed: Seed of the order and the augmentation.
        limit: Most images in each split, or None for all.
        image_size: Side, or (height, width), of every image; None demands that all pictures
            have one size and keeps it.
        channels: 1 or 3; None takes that of the first training image.
        resize: `"stretch"` or `"letterbox"`.
        augment: Knobs of `augment.ImageAugment` by name; those left out are off.
        cache: `"auto"` holds decoded images in memory where they take at most a quarter of
            what is free, `"memory"` in any case, `"disk"` in files under `cache_dir`, `"none"`
            decodes in every epoch.
        cache_dir: Folder for `"disk"`.
        on_error: `"stop"` at images that cannot be decoded, or `"skip"` them.

    Returns:
        The splits; all but the training one are None where there are no records for them.

    Raises:
        DataError: If an image or an option is wrong.
    """
    digit_knobs, image_knobs = split_augment_options(augment or {})
    notes = list(found.notes)
    if any(digit_knobs.values()):
        notes.append("augment.digit_* bends the digits source alone and is not used here.")
    first = found.first or found.splits["train"]
    form = _image_format(first, image_size, channels, resize)
    faults = list(found.faults)
    sets: dict[str, ImageSet] = {}
    sizes: dict[str, int] = {}
    pictures: dict[Split, SplitPictures] = {}
    digest = hashlib.sha256(repr(form).encode())
    for split, records in found.splits.items():
        part = records.take(np.arange(len(records))[:limit])
        store = store_pixels(part, form, keep=_keep(cache, part, form), folder=cache_dir)
        _judge_broken(store.faults, split, len(part), on_error)
        faults += store.faults
        sets[split] = image_set(store)
        sizes[split] = len(store.records)
        pictures[split] = pictures_of_records(store.records, form.size, form.rule or "stretch")
        digest.update(f"{split} {_fingerprint(store.records, form)}".encode())
    return localization_data(
        sets,
        batch_size=batch_size,
        seed=seed,
        image_shape=form.shape,
        image_knobs=image_knobs,
        # The decoded images are kept where they are decoded, for all splits alike.
        cache="none",
        sizes={"train": 0, "val": 0, "test": 0} | sizes,
        class_names=found.class_names,
        fingerprint=digest.hexdigest(),
        skipped=[(fault.file, fault.row, fault.reason) for fault in faults],
        notes=notes,
        background=found.background,
        pictures=pictures,
    )


def _image_format(
    first: Records,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    rule: ResizeRule,
) -> ImageFormat:
    """The format asked for; what is left open is that of the first training image in its file."""
    if channels is None:
        channels = _channels_of(image_refs(first)[0])
    if image_size is not None:
        return ImageFormat(side_pair(image_size), channels, rule)
    height, width = (int(side) for side in first.sizes[0])
    return ImageFormat((height, width), channels, None)


def _channels_of(ref: ImageRef) -> int:
    try:
        mode = read_header(ref).mode
    except HeaderError as fault:
        raise DataError(f"image {ref.path} {fault}.") from fault
    return _GRAY if mode in _GRAY_MODES or mode.startswith("I;16") else _COLOUR


def _keep(cache: str, records: Records, form: ImageFormat) -> Keep:
    """Where the pixels of a split are kept."""
    if cache == "disk":
        return "disk"
    return "memory" if use_cache(cache, len(records) * math.prod(form.shape)) else "none"


def _judge_broken(broken: list[Fault], split: Split, total: int, on_error: str) -> None:
    """Refuses images that cannot be decoded, or a split of which nothing else is left."""
    if broken and on_error == "stop":
        raise faults_error(broken)
    if len(broken) == total:
        first = f"{broken[0].file} row {broken[0].row} {broken[0].reason}"
        raise DataError(f"no image of the {split} split can be decoded; the first is {first}.")


def _fingerprint(records: Records, form: ImageFormat) -> str:
    """SHA-256, in hex, of the records and the sizes of their files."""
    digest = hashlib.sha256(repr(form).encode())
    lengths = [
        file_size(path) if length == WHOLE_FILE else length
        for path, length in zip(records.paths.tolist(), records.lengths.tolist(), strict=True)
    ]
    digest.update(repr((records.names.tolist(), lengths, records.class_names)).encode())
    for name in COLUMNS:
        column = getattr(records, name)
        if column.dtype != object:
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
