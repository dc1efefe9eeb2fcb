"""The decoded pictures of a split: in memory, in a file, or made anew each time they are asked for.

The pixels are the same bits in all three, since one function makes them (`record_images`).
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loc_keras.atomic_file import json_object, lock_file, write_text
from loc_keras.data import files, record_images
from loc_keras.data.annotations import Fault
from loc_keras.data.geometry import source_loader, source_spec
from loc_keras.data.pipeline import ImageSet, Targets, Unresized, batched_set
from loc_keras.data.record_images import image_fault
from loc_keras.data.resize import ImageFormat
from loc_keras.data.resolve import THUMBNAIL_SIDE as SIDE
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError, first_line

_RULE = 1
"""Number of the rule that makes pictures; another one makes files of an older rule unknown."""

_CHUNK = 32  # Pictures that a thread makes and hands over at once.
_SAVED = 2048  # Pictures after which progress is written down.

Keep = Literal["memory", "disk", "none"]


@dataclass(frozen=True, eq=False)
class PixelStore:
    """The records of one split that can be decoded, and their pixels where they are kept.

    Attributes:
        boxes: float32 (N, 4), fractions of the pictures in the common format.
        pixels: uint8 (M, height, width, channels), a tensor or a file mapped into memory; None
            where pictures are made anew.
        rows: int64 (N,), row of `pixels` that holds each record's picture.
        faults: What was left out, and why.
        marks: uint8 (N, MARK), of each record: its fingerprint and its thumbnail.
    """

    records: Records
    boxes: np.ndarray
    form: ImageFormat
    pixels: tf.Tensor | np.memmap | None
    rows: np.ndarray
    faults: list[Fault]
    marks: npt.NDArray[np.uint8]

    @property
    def fingerprints(self) -> npt.NDArray[np.uint8]:
        """Of the bytes of each record's image, uint8 (N, FINGERPRINT)."""
        return self.marks[:, : record_images.FINGERPRINT]

    @property
    def thumbnails(self) -> npt.NDArray[np.uint8]:
        """Of each record, uint8 (N, SIDE, SIDE)."""
        return self.marks[:, record_images.FINGERPRINT :].reshape(-1, SIDE, SIDE)

    @property
    def looks(self) -> npt.NDArray[np.uint8]:
        """Thumbnails of all that the store was made of, zeros for what could not be decoded."""
        found = np.zeros((len(self.rows) + len(self.faults), SIDE, SIDE), np.uint8)
        found[self.rows] = self.thumbnails
        return found

    def part(self, index: npt.NDArray[np.int64]) -> "PixelStore":
        """The store of some of what it was made of, in this order, of the same pixels."""
        good = np.isin(index, self.rows)
        at = np.searchsorted(self.rows, index[good])
        broken = np.setdiff1d(np.arange(len(self.rows) + len(self.faults)), self.rows)
        lost = [self.faults[place] for place in np.searchsorted(broken, index[~good])]
        return replace(self.take(at), faults=lost)

    def take(self, at: npt.NDArray[np.integer]) -> "PixelStore":
        """The store of some of its records, in this order, of the same pixels."""
        return replace(
            self,
            records=self.records.take(at),
            boxes=self.boxes[at],
            rows=self.rows[at],
            faults=[],
            marks=self.marks[at],
        )


def store_pixels(
    records: Records, form: ImageFormat, *, keep: Keep, folder: str | Path | None = None
) -> PixelStore:
    """Decodes every record of a split once, in parallel, and keeps the pixels where asked to.

    `"none"` keeps nothing: the pass only finds what is broken. The file of `"disk"` lies in a local
    folder; one of the same images and format that is there is used again, and continued where it
    was broken off. DataError if it cannot be written.
    """
    shape = (len(records), *form.shape)
    if keep == "disk" and len(records):
        if folder is None:
            raise ValueError("keep='disk' needs a folder")
        with PixelFile(Path(folder), pixels_key(records, form), shape) as file:
            made = file.made
            for index, images, marks in _decoded(records, form, file.done):
                file.write(index, images, marks)
            pixels: tf.Tensor | np.memmap | None = file.finish()
            told: np.ndarray = file.marks
    else:
        made = np.zeros(len(records), bool)
        kept = np.zeros(shape, np.uint8) if keep != "none" else None
        told = np.zeros((len(records), record_images.MARK), np.uint8)
        for index, images, marks in _decoded(records, form, 0):
            made[index] = True
            told[index] = marks
            if kept is not None:
                kept[index] = images
        pixels = None if kept is None else held({"pixels": kept})["pixels"]
    rows = np.flatnonzero(made)
    faults = [image_fault(records, int(index), form) for index in np.flatnonzero(~made)]
    good = records if len(rows) == len(records) else records.take(rows)
    boxes = record_images.record_boxes(good, form)
    return PixelStore(good, boxes, form, pixels, rows, faults, np.asarray(told)[rows])


def image_set(store: PixelStore) -> ImageSet:
    """The pictures and targets of a store for the input pipeline, which shares its pixels.

    Targets are `"softmax"` int32, the class, and `"bbox"` float32 (4,). No random numbers are used.
    """
    if store.pixels is None:
        return _made_anew(store)
    if isinstance(store.pixels, np.memmap):
        return _with_targets(store, _from_file(store))
    columns = held({"pixels": store.pixels, "row": store.rows})
    return _with_targets(
        store, lambda index: tf.gather(columns["pixels"], tf.gather(columns["row"], index))
    )


def _decoded(
    records: Records, form: ImageFormat, first: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields rising indices from `first` on with pictures and marks, without the broken ones.

    The function that makes them is traced once in a process; the graph of a `tf.data` pipeline
    would be built for each split, which takes longer than a small one itself.
    """
    rows = record_images.record_rows(records)
    make = record_images.many_loader(form, frozenset(rows))

    def take(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pictures, marks = make(held({name: column[index] for name, column in rows.items()}))
        return pictures.numpy(), marks.numpy()

    def alone(index: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            return take(index)
        except tf.errors.OpError:
            return None

    def made(start: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        index = np.arange(start, min(start + _CHUNK, len(records)))
        try:
            return [(index, *take(index))]
        except tf.errors.OpError:
            return [(one, *found) for one in index[:, None] if (found := alone(one))]

    starts = iter(range(first, len(records), _CHUNK))
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        ahead = deque(pool.submit(made, start) for start in islice(starts, threads + 2))
        while ahead:
            done = ahead.popleft().result()
            ahead.extend(pool.submit(made, start) for start in islice(starts, 1))
            yield from done
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _with_targets(store: PixelStore, make: Callable[[tf.Tensor], Any]) -> ImageSet:
    """Pictures made of indices, (B,), with their targets; of the store it holds nothing else."""
    targets = {"softmax": store.records.labels.astype(np.int32), "bbox": store.boxes}
    columns = held(targets)

    def fetch(index: tf.Tensor, draws: tf.Tensor) -> tuple[Any, Targets]:
        del draws
        return make(index), {name: tf.gather(column, index) for name, column in columns.items()}

    return batched_set(len(store.records), 0, fetch)


def _from_file(store: PixelStore) -> Callable[[tf.Tensor], tf.Tensor]:
    pixels, rows, shape = store.pixels, store.rows, store.form.shape

    def read(index: np.ndarray) -> np.ndarray:
        return np.asarray(pixels[rows[index]])  # type: ignore[index]

    def fetch(index: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(read, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(images, [*index.shape, *shape])

    return fetch


def _made_anew(store: PixelStore) -> ImageSet:
    form, rows = store.form, held(record_images.record_rows(store.records))

    def mapped(load: Callable[..., Any], spec: Any) -> ImageSet:
        def one(index: tf.Tensor) -> Any:
            return load({name: tf.gather(column, index) for name, column in rows.items()})

        return _with_targets(store, lambda index: tf.map_fn(one, index, fn_output_signature=spec))

    pictures = tf.TensorSpec(form.shape, tf.uint8)
    images = mapped(lambda row: record_images.load_known(row, form)[0], pictures)
    if form.rule is None:
        return images
    sources = mapped(source_loader(form, frozenset(rows)), source_spec(form))
    return replace(images, unresized=Unresized(form, sources.fetch))


def held(columns: Mapping[str, np.ndarray | None]) -> dict[str, tf.Tensor]:
    """Tensors that a pipeline takes as inputs, so that they are not copied into its graph."""
    with tf.device("CPU:0"):
        return {name: tf.constant(column) for name, column in columns.items()}


def pixels_key(records: Records, form: ImageFormat) -> str:
    """Name of the pixels of these records: SHA-256 in hex of all that they depend on.

    The contents of the images stand in by the size and time of change of their files.
    """
    paths, which = np.unique(records.paths.astype(str), return_inverse=True)
    stamps = list(map(files.file_state, paths.tolist()))
    digest = hashlib.sha256(repr((_RULE, tf.__version__, form, paths.tolist(), stamps)).encode())
    for column in (which, records.offsets, records.lengths):
        digest.update(np.asarray(column, "<i8").tobytes())
    digest.update(np.asarray(records.orientations, "<i8").tobytes())
    digest.update(np.asarray(records.windows, "<i8").tobytes())
    return digest.hexdigest()


class PixelFile:
    """A file of pictures that is being written; a context, within which no one else writes it.

    Behind the pixels, in `KEY.pixels`, stand the marks, uint8 (N, MARK); beside it a small file,
    `KEY.json`, of how far they go. All pictures before the index `done` need not be made again;
    `made`, bool (N,), is False for broken ones among them.
    """

    def __init__(self, folder: Path, key: str, shape: tuple[int, ...]) -> None:
        self._pixels = folder / f"{key}.pixels"
        self._part = folder / f"{key}.part"
        self._notes = folder / f"{key}.json"
        self._lock_path = folder / f"{key}.lock"
        self._shape = shape
        self._map: np.memmap | None = None
        self._unsaved = 0
        self.done = 0
        self.made = np.zeros(shape[0], bool)

    def __enter__(self) -> "PixelFile":
        """Waits for other writers, then finds what is there."""
        try:
            self._pixels.parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(self._lock_path, "a")
            lock_file(self._lock, wait=True)
            self._find()
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Writes down how far it went, and lets others write."""
        if self._map is not None:
            self._save()
            self._map = None
        self._lock.close()

    def write(self, index: np.ndarray, images: np.ndarray, marks: np.ndarray) -> None:
        """Writes pictures and marks of rising indices; those that were left out are broken."""
        if self._map is None:
            raise ValueError("the file is complete")
        self._map[index] = images
        self.marks[index] = marks
        self.made[index] = True
        self.done = int(index[-1]) + 1
        self._unsaved += len(index)
        if self._unsaved >= _SAVED:
            self._save()

    def finish(self) -> np.memmap:
        """Says that all pictures have been written, and opens them, uint8, for reading."""
        self.done = self._shape[0]
        try:
            if self._map is not None:
                self._save()
                self._map = None
                os.replace(self._part, self._pixels)
            pixels, self.marks = self._opened(self._pixels, "r")
            return pixels
        except OSError as error:
            raise self._failed(error) from error

    def _find(self) -> None:
        notes = self._read_notes()
        size = self._bytes_of_pixels + self._shape[0] * record_images.MARK
        for path in (self._pixels, self._part):
            if notes and path.is_file() and path.stat().st_size == size:
                self.done = notes["done"]
                self.made[: self.done] = True
                self.made[notes["broken"]] = False
                break
        if not (self._pixels.is_file() and self.done == self._shape[0]):
            self._pixels.unlink(missing_ok=True)
            if not self.done:
                self._part.unlink(missing_ok=True)
                self._part.touch()
            os.truncate(self._part, size)
            self._map, self.marks = self._opened(self._part, "r+")

    @property
    def _bytes_of_pixels(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64))

    def _opened(self, path: Path, mode: Literal["r", "r+"]) -> tuple[np.memmap, np.memmap]:
        marks = (self._shape[0], record_images.MARK)
        return (
            np.memmap(path, np.uint8, mode, shape=self._shape),
            np.memmap(path, np.uint8, mode, self._bytes_of_pixels, marks),
        )

    def _read_notes(self) -> dict[str, Any] | None:
        notes = json_object(self._notes) or {}
        try:
            broken = np.asarray(notes["broken"], np.int64)
            fits = 0 <= notes["done"] <= self._shape[0] and (broken < notes["done"]).all()
        except (ValueError, KeyError, TypeError):
            return None
        return {"done": notes["done"], "broken": broken} if fits else None

    def _save(self) -> None:
        if self._map is not None:
            self._map.flush()
            self.marks.flush()
        broken = np.flatnonzero(~self.made[: self.done]).tolist()
        write_text(self._notes, json.dumps({"done": self.done, "broken": broken}))
        self._unsaved = 0

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"the decoded images cannot be kept in {self._pixels.parent} ({first_line(error)}); "
            "free some space or name another folder."
        )
