"""The decoded pictures of a split: in memory, in a file, or made anew each time they are asked for.

The pixels are the same bits in all three, since one function makes them (`record_images`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from loc_keras.data import record_images
from loc_keras.data.annotations import Fault
from loc_keras.data.fused_sources import source_loader, source_spec
from loc_keras.data.image_faults import image_fault
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.pipeline import ImageSet, Targets, Unresized, batched_set
from loc_keras.data.pixel_file import PixelFile, pixels_key
from loc_keras.data.records import Records

Keep = Literal["memory", "disk", "none"]
Progress = Callable[[int, int], None]

_CHUNK = 64  # Pictures that are handed over, and progress that is told, at once.


@dataclass(frozen=True, eq=False)
class PixelStore:
    """The records of one split that can be decoded, and their pixels where they are kept.

    Attributes:
        records: Those that can be decoded, in their order.
        boxes: float32 (N, 4), fractions of the pictures in the common format.
        form: That format.
        pixels: uint8 (M, height, width, channels), an array or a file mapped into memory; None
            where pictures are made anew.
        rows: int64 (N,), row of `pixels` that holds each record's picture.
        faults: What was left out, and why.
    """

    records: Records
    boxes: np.ndarray
    form: ImageFormat
    pixels: np.ndarray | None
    rows: np.ndarray
    faults: list[Fault]


def store_pixels(
    records: Records,
    form: ImageFormat,
    *,
    keep: Keep,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> PixelStore:
    """Decodes every record once, in parallel, and keeps the pixels where asked to.

    Args:
        records: Records of one split.
        form: What their pictures become.
        keep: `"memory"`, `"disk"`, or `"none"`, where the pass only finds what is broken.
        folder: Local folder for the file of `"disk"`. A file of the same images and format that is
            there is used again; one that was broken off is continued.
        progress: Is told after every few pictures how many of how many are done.

    Returns:
        The records that could be decoded, with a fault for each other.

    Raises:
        DataError: If the file cannot be written.
    """
    shape = (len(records), *form.shape)
    if keep == "disk" and len(records):
        if folder is None:
            raise ValueError("keep='disk' needs a folder")
        with PixelFile(Path(folder), pixels_key(records, form), shape) as file:
            seen = file.seen
            for index, images in _decoded(records, form, file.done):
                file.write(index, images)
                _tell(progress, int(index[-1]) + 1, len(records))
            pixels: np.ndarray | None = file.finish()
    else:
        seen = np.zeros(len(records), bool)
        pixels = np.zeros(shape, np.uint8) if keep != "none" else None
        for index, images in _decoded(records, form, 0):
            seen[index] = True
            if pixels is not None:
                pixels[index] = images
            _tell(progress, int(index[-1]) + 1, len(records))
    _tell(progress, len(records), len(records))
    rows = np.flatnonzero(seen)
    faults = [image_fault(records, int(index), form) for index in np.flatnonzero(~seen)]
    good = records if len(rows) == len(records) else records.take(rows)
    boxes = record_images.record_boxes(good, form)
    return PixelStore(good, boxes, form, pixels, rows, faults)


def image_set(store: PixelStore) -> ImageSet:
    """The pictures and targets of a store for the input pipeline.

    Targets are `"softmax"` int32, the class, and `"bbox"` float32 (4,). No random numbers are used.
    """
    if store.pixels is None:
        return _made_anew(store)
    if isinstance(store.pixels, np.memmap):
        return _from_file(store)
    return _from_memory(store)


def _decoded(
    records: Records, form: ImageFormat, first: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rising indices from `first` on with their pictures, without the broken ones."""
    if first >= len(records):
        return
    columns = held(record_images.record_rows(records))
    loader = record_images.loader(form, frozenset(columns))

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = {name: tf.gather(column, index) for name, column in columns.items()}
        return index, loader(row)

    indices = tf.data.Dataset.range(first, len(records))
    loaded = indices.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    loaded = loaded.ignore_errors(log_warning=False).batch(_CHUNK).prefetch(2)
    yield from loaded.as_numpy_iterator()


def _from_memory(store: PixelStore) -> ImageSet:
    columns = held({"pixels": store.pixels, "row": store.rows, **_targets(store)})

    def fetch(index: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, Targets]:
        del draws
        images = tf.gather(columns["pixels"], tf.gather(columns["row"], index))
        return images, {name: tf.gather(columns[name], index) for name in _targets(store)}

    return batched_set(len(store.records), 0, fetch)


def _from_file(store: PixelStore) -> ImageSet:
    pixels, rows = store.pixels, store.rows
    columns = held(_targets(store))

    def read(index: np.ndarray) -> np.ndarray:
        return np.asarray(pixels[rows[index]])  # type: ignore[index]

    def fetch(index: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, Targets]:
        del draws
        images = tf.numpy_function(read, [index], tf.uint8, stateful=False)
        images = tf.ensure_shape(images, [*index.shape, *store.form.shape])
        return images, {name: tf.gather(column, index) for name, column in columns.items()}

    return batched_set(len(store.records), 0, fetch)


def _made_anew(store: PixelStore) -> ImageSet:
    form, rows = store.form, held(record_images.record_rows(store.records))
    keys = frozenset(rows)
    spec = tf.TensorSpec(form.shape, tf.uint8)
    images = _loading(store, rows, record_images.loader(form, keys), spec)
    unresized = None
    if form.rule is not None:
        load = source_loader(form, keys)
        sources = _loading(store, rows, load, source_spec(form))
        unresized = Unresized(form, batched_set(len(store.records), 0, sources).fetch)
    return replace(batched_set(len(store.records), 0, images), unresized=unresized)


def _loading(
    store: PixelStore, rows: Mapping[str, tf.Tensor], load: Callable[..., Any], spec: Any
) -> Callable[[tf.Tensor, tf.Tensor], tuple[Any, Targets]]:
    """A batch function that makes each picture by `load`."""
    columns = held(_targets(store))

    def one(index: tf.Tensor) -> Any:
        return load({name: tf.gather(column, index) for name, column in rows.items()})

    def fetch(index: tf.Tensor, draws: tf.Tensor) -> tuple[Any, Targets]:
        del draws
        made = tf.map_fn(one, index, fn_output_signature=spec)
        return made, {name: tf.gather(column, index) for name, column in columns.items()}

    return fetch


def held(columns: Mapping[str, np.ndarray | None]) -> dict[str, tf.Tensor]:
    """Tensors that a pipeline takes as inputs, so that they are not copied into its graph."""
    with tf.device("CPU:0"):
        return {name: tf.constant(column) for name, column in columns.items()}


def _targets(store: PixelStore) -> dict[str, np.ndarray]:
    return {"softmax": store.records.labels.astype(np.int32), "bbox": store.boxes}


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
