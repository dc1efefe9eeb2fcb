"""Records of image files as a data source: one format for all pictures, pixels kept, pipelines."""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loc_keras.config.data import AugmentConfig, DataConfig
from loc_keras.data import pipeline as streams
from loc_keras.data.annotations import FOLDS, WHOLE_FILE, Fault, Split
from loc_keras.data.augment.batch import augmentation_from
from loc_keras.data.duplicates import MOST_COMPARED, NearPairs, near_pairs
from loc_keras.data.files import file_size
from loc_keras.data.image_header import HeaderError, read_header
from loc_keras.data.load_records import faults_error
from loc_keras.data.pipeline import ImageSet, eval_dataset, train_dataset, use_cache
from loc_keras.data.pixel_store import Keep, PixelStore, image_set, store_pixels
from loc_keras.data.resize import ImageFormat, ResizeRule, restore_boxes
from loc_keras.data.resolve import COLUMNS, DatasetRecords, Records, image_refs
from loc_keras.errors import DataError


@dataclass(frozen=True, eq=False)
class SplitPictures:
    """The pictures of one split, in the order of its pipeline, and how they come to a target size.

    Attributes:
        names: str (N,), as the annotations name them; digits are numbered.
        sizes: int32 (N, 2), height and width of the whole pictures in px, as boxes refer to them.
        target: Height and width of the model's images.
        boxes: float32 (N, 4), true boxes in fractions of the pictures; None if unknown here.
        records: Where the pictures lie; None for digits, which are drawn.
    """

    names: npt.NDArray[np.object_]
    sizes: npt.NDArray[np.int32]
    rule: ResizeRule
    target: tuple[int, int]
    boxes: npt.NDArray[np.float32] | None = None
    records: Records | None = None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.names)

    @property
    def paths(self) -> list[str]:
        """The file of each picture; within a file of many also the first byte; "" where drawn."""
        if self.records is None:
            return [""] * len(self)
        return [
            ref.path if ref.length == WHOLE_FILE else f"{ref.path}@{ref.offset}"
            for ref in image_refs(self.records)
        ]

    def to_px(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Boxes (N, 4), fractions of the model's images, as float64 px of the pictures, clipped."""
        whole = restore_boxes(boxes.astype(np.float32), self.sizes, self.target, self.rule)
        return np.asarray(whole, np.float64) * np.tile(self.sizes[:, ::-1], 2)


def drawn_pictures(
    count: int, size: tuple[int, int], target: tuple[int, int], rule: ResizeRule
) -> SplitPictures:
    """Drawn pictures, named by number; sizes are (height, width) in px, theirs and the model's."""
    names = np.array([f"{number:06d}" for number in range(count)], object)
    return SplitPictures(names, np.tile(np.array(size, np.int32), (count, 1)), rule, target)


TrainStream: TypeAlias = Callable[..., tf.data.Dataset]
"""`pipeline.train_dataset` of a source: the training batches from a global step on."""

HeldOutShare: TypeAlias = Callable[..., tf.data.Dataset]
"""Gives one `share` of the batches of a split, with weights as `pipeline.eval_dataset`."""


@dataclass(frozen=True, eq=False)
class LocalizationData:
    """The splits as `tf.data` pipelines of `(images, targets)`.

    Images are uint8 (B, H, W, C), raw pixels 0..255; targets are `{"softmax": int32 (B,), "bbox":
    float32 (B, 4)}` with boxes (x1, y1, x2, y2) in fractions of the image side. The box of an image
    without an object is `resize.EMPTY_BOX`.

    Attributes:
        train: Builds the endless training stream; its argument is the global step (batch) to start
            at, and the stream from there on equals the full one after that many steps. With a share
            it gives, and makes, that part of every batch alone.
        val: Every validation image once, in order, the last batch perhaps smaller; None, as `test`
            and `calibration`, where there are no such images.
        folds: The training images likewise, where they are answered out of fold; else None.
        store: The pixels of the training images; None where they are drawn.
        val_share: Builds the pipeline of one share of the validation images, with weights.
        sizes: Images of each split.
        image_shape: (height, width, channels) of every image.
        steps_per_epoch: Batches in one epoch of the training stream.
        fingerprint: SHA-256, in hex, of the labelled data, the bytes of images included, and of how
            it is split.
        fingerprint_by_sizes: Likewise of names and sizes of images in place of their bytes, as runs
            of earlier versions know their data; "" where bytes were always known.
        test_fingerprint: Likewise of the test images alone, whatever size a model takes; ""
            without.
        near_duplicates: Near duplicates of training images in each split that has some: rows of the
            split, and of the training split.
        skipped: Rows left out by the reader, as (file, row number, reason).
        background: Index of the class of images without an object; None where all show one.
        pictures: What the images of each split are made from, in the order of its pipeline.
        batch_indices: Gives the training images, int64 (B,), in the batch of a global step; with
            `steps` in so many from there on.
    """

    train: TrainStream
    val: tf.data.Dataset | None
    test: tf.data.Dataset | None
    sizes: dict[str, int]
    class_names: list[str]
    image_shape: tuple[int, int, int]
    steps_per_epoch: int
    fingerprint: str
    fingerprint_by_sizes: str = ""
    test_fingerprint: str = ""
    near_duplicates: Mapping[Split, NearPairs] = field(default_factory=dict)
    skipped: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    background: int | None = None
    calibration: tf.data.Dataset | None = None
    folds: tf.data.Dataset | None = None
    store: PixelStore | None = None
    pictures: Mapping[Split, SplitPictures] = field(default_factory=dict)
    batch_indices: Callable[..., npt.NDArray[np.int64]] | None = None
    val_share: HeldOutShare | None = None

    def is_that_of(self, fingerprint: object) -> bool:
        """Whether a fingerprint, perhaps of an earlier version, is that of these data."""
        return fingerprint in {self.fingerprint, self.fingerprint_by_sizes} - {""}

    def leaked(self, split: Split) -> npt.NDArray[np.bool_] | None:
        """Near duplicates of training images in a split, bool (N,); None where none is."""
        if split not in self.near_duplicates:
            return None
        return np.isin(np.arange(self.sizes[split]), self.near_duplicates[split].first)

    def batch_names(self, step: int) -> list[str]:
        """Names of the pictures in the training batch of a global step, from 0; none if unknown."""
        pictures = self.pictures.get("train")
        if self.batch_indices is None or pictures is None:
            return []
        return [str(name) for name in pictures.names[self.batch_indices(step)]]

    def held_out(self, split: str) -> tf.data.Dataset | None:
        """The pipeline of a split in its order; None where it has no images, and of `"train"`."""
        found: tf.data.Dataset | None = getattr(self, split)
        return None if split == "train" else found

    @property
    def measured(self) -> Split:
        """The split whose figures say most: test, else the answers out of fold, else validation."""
        return "test" if self.test is not None else "val" if self.folds is None else FOLDS


_HELD_OUT = {"val": streams.VALIDATION, "test": streams.TEST, "calibration": streams.CALIBRATION}
"""Streams of random numbers of the splits that are not trained on."""
_HELD_OUT |= {FOLDS: streams.VALIDATION}  # Pictures of files take none.


def localization_data(
    sets: Mapping[str, ImageSet],
    *,
    batch_size: int,
    seed: int,
    image_shape: tuple[int, int, int],
    augment: AugmentConfig,
    cache: str,
    class_names: list[str],
    **facts: Any,
) -> LocalizationData:
    """Builds the pipelines of a data source; `facts` are further fields of `LocalizationData`.

    `sets` are the images of each split that has some. The seed is that of the order, of what is
    drawn and of the augmentation; `cache` as of `pipeline.eval_dataset`.
    """
    held_out = {
        name: partial(
            eval_dataset,
            sets[name],
            batch_size=batch_size,
            seed=seed,
            split=split,
            image_shape=image_shape,
            cache=cache,
        )
        for name, split in _HELD_OUT.items()
        if name in sets
    }
    return LocalizationData(
        train=partial(
            train_dataset,
            sets["train"],
            batch_size=batch_size,
            seed=seed,
            augmentation=augmentation_from(augment, len(class_names)),
        ),
        batch_indices=partial(streams.batch_indices, sets["train"].size, batch_size, seed),
        val=held_out["val"]() if "val" in held_out else None,
        val_share=held_out.get("val"),
        test=held_out["test"]() if "test" in held_out else None,
        calibration=held_out["calibration"]() if "calibration" in held_out else None,
        folds=held_out[FOLDS]() if FOLDS in held_out else None,
        image_shape=image_shape,
        class_names=class_names,
        steps_per_epoch=streams.steps_per_epoch(sets["train"].size, batch_size),
        **facts,
    )


def build_file_data(
    found: DatasetRecords,
    data: DataConfig,
    augment: AugmentConfig | None = None,
    *,
    batch_size: int,
    seed: int = 0,
    uncut: PixelStore | None = None,
    folds: bool = False,
) -> LocalizationData:
    """Builds the pipelines of a data set whose records are known; `"train"` must have some.

    The config says how pictures are brought to one format, kept, and left out where they are
    broken. `uncut` is the store of `found.cut.whole`; None makes it. `folds` says that training
    images are answered out of fold. DataError where an image is wrong.
    """
    augment = augment or AugmentConfig()
    notes = list(found.notes)
    if augment.deforms_digits:
        notes.append("augment.digit_* bends the digits source alone and is not used here.")
    form = image_format(found, data)
    faults = list(found.faults)
    stores = _stores(found, data, form, uncut)
    by_sizes, contents = hashlib.sha256(repr(form).encode()), hashlib.sha256()
    for split, store in stores.items():
        _judge_broken(store.faults, split, len(found.splits[split]), data.on_error)
        faults += store.faults
        by_sizes.update(f"{split} {_fingerprint(store.records, form)}".encode())
        contents.update(store.fingerprints.tobytes())
    contents.update(by_sizes.digest())
    tested = stores.get("test")
    leaks, said = _leaks(stores, _kept_apart(found))
    notes += said
    sizes = {"train": 0, "val": 0, "test": 0}
    sizes |= {split: len(store.records) for split, store in stores.items()}
    if folds:
        stores[FOLDS] = stores["train"]
    return localization_data(
        {split: image_set(store) for split, store in stores.items()},
        batch_size=batch_size,
        seed=seed,
        image_shape=form.shape,
        augment=augment,
        # The decoded images are kept where they are decoded, for all splits alike.
        cache="none",
        sizes=sizes,
        store=stores["train"],
        class_names=found.class_names,
        fingerprint=contents.hexdigest(),
        fingerprint_by_sizes=by_sizes.hexdigest(),
        test_fingerprint=""
        if tested is None
        else hashlib.sha256(
            _fingerprint(tested.records, None).encode() + tested.fingerprints.tobytes()
        ).hexdigest(),
        near_duplicates=leaks,
        skipped=[(fault.file, fault.row, fault.reason) for fault in faults],
        notes=notes,
        background=found.background,
        pictures={
            split: SplitPictures(
                store.records.names,
                store.records.sizes,
                form.rule_in_use,
                form.size,
                store.records.boxes,
                store.records,
            )
            for split, store in stores.items()
        },
    )


def store_of(
    records: Records, form: ImageFormat, data: DataConfig, keep: Keep | None = None
) -> PixelStore:
    """Decodes records and keeps the pixels as the config says, or otherwise."""
    if keep is None:
        in_memory = use_cache(data.cache, len(records) * math.prod(form.shape))
        keep = "disk" if data.cache == "disk" else "memory" if in_memory else "none"
    return store_pixels(records, form, keep=keep, folder=data.cache_dir)


def _stores(
    found: DatasetRecords, data: DataConfig, form: ImageFormat, uncut: PixelStore | None
) -> dict[Split, PixelStore]:
    """The store of each split; those that were cut off the training records share its pixels."""
    stores: dict[Split, PixelStore] = {}
    for split, records in found.splits.items():
        # Who uses a part of the records only, or parts them anew, leaves the cut as it was.
        if found.cut is not None and records is found.cut.parts.get(split):
            uncut = uncut or store_of(found.cut.whole, form, data)
            stores[split] = uncut.part(found.cut.rows[split])
        else:
            stores[split] = store_of(records, form, data)
    return stores


def _kept_apart(found: DatasetRecords) -> Collection[Split]:
    """Splits that were cut so that near duplicates stand on one side, and are still as cut."""
    if found.cut is None or not found.cut.apart:
        return ()
    parts = found.cut.parts
    return parts if all(found.splits.get(split) is parts[split] for split in parts) else ()


def _leaks(
    stores: Mapping[Split, PixelStore], apart: Collection[Split]
) -> tuple[dict[Split, NearPairs], list[str]]:
    """Near duplicates of training images in other splits, and where none were looked for."""
    notes = []
    train = stores["train"].thumbnails
    searched: dict[Split, npt.NDArray[np.uint8]] = {}
    for split, store in stores.items():
        if split == "train" or split in apart:
            continue
        total = len(store.records)
        if total * len(train) > MOST_COMPARED:
            notes.append(
                f"{total:,} {split} and {len(train):,} training images are too many to look for "
                "near duplicates between them."
            )
            continue
        searched[split] = store.thumbnails
    if not searched:
        return {}, notes
    # All at once, since what is known of the training images is worked out in each search.
    pairs = near_pairs(np.concatenate(list(searched.values())), train)
    found: dict[Split, NearPairs] = {}
    start = 0
    for split, thumbnails in searched.items():
        mine = pairs.take((pairs.first >= start) & (pairs.first < start + len(thumbnails)))
        if len(mine.first):
            found[split] = mine._replace(first=mine.first - start)
        start += len(thumbnails)
    return found, notes


def image_format(found: DatasetRecords, data: DataConfig) -> ImageFormat:
    """The format asked for; what is left open is that of the first training image in its file."""
    first = found.first or found.splits["train"]
    ref = first.ref(0)
    try:
        channels = data.channels or (1 if read_header(ref).grey else 3)
    except HeaderError as fault:
        raise DataError(f"image {ref.path} {fault}.") from fault
    if data.image_size is not None:
        return ImageFormat(data.image_size, channels, data.resize)
    height, width = (int(side) for side in first.sizes[0])
    return ImageFormat((height, width), channels, None)


def _judge_broken(broken: list[Fault], split: Split, total: int, on_error: str) -> None:
    if broken and on_error == "stop":
        raise faults_error(broken)
    if len(broken) == total:
        first = f"{broken[0].file} row {broken[0].row} {broken[0].reason}"
        raise DataError(f"no image of the {split} split can be decoded; the first is {first}.")


def _fingerprint(records: Records, form: ImageFormat | None) -> str:
    """SHA-256, in hex, of the records, the sizes of their files and what a model makes of them."""
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
