"""What every writer is given, and the steps they share: pictures read ahead, images written."""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from loc_keras.atomic_file import written_aside
from loc_keras.data.annotations import Fault, Split
from loc_keras.data.records import Records
from loc_keras.data.writers.pictures import Picture, PictureError, ending_of, read_picture

_WORKERS = min(8, os.cpu_count() or 1)
_IN_FLIGHT = 2 * _WORKERS

Sidecar = Callable[[int, str, Picture], None]
"""Writes what stands beside an image: takes the record's index, the file's name, the picture."""


@dataclass(frozen=True)
class Job:
    """What is written, and where.

    Attributes:
        folder: Existing folder to fill; what it holds already is from the same job.
        splits: Records of each split, none empty.
        class_names: Name of each class, by index.
        shards: Files of each split for formats that cut it, or None to choose by size.
        advance: Called with the split and a number of records just done.
        on_fault: Called for every record that cannot be written; may raise to stop the job.
        background: Class of the records without an object, or None.
    """

    folder: Path
    splits: Mapping[Split, Records]
    class_names: Sequence[str]
    shards: int | None
    advance: Callable[[Split, int], None]
    on_fault: Callable[[Fault], None]
    background: str | None = None

    @property
    def object_classes(self) -> Sequence[str]:
        """Names of the classes that objects have: without that of the background at the end.

        On reading it comes there again. Between others it keeps its place, so that they do.
        """
        return object_classes(self.class_names, self.background)


def object_classes(class_names: Sequence[str], background: str | None) -> Sequence[str]:
    """Names of the classes that objects have; see `Job.object_classes`."""
    last = len(class_names) - 1
    ends = background is not None and class_names[last] == background
    return class_names[:last] if ends else class_names


def pictures(
    records: Records, indices: Iterable[int], formats: Collection[str]
) -> Iterator[tuple[int, Picture | PictureError]]:
    """Reads pictures in the given order, a bounded number of them ahead.

    Args:
        records: Records of one split.
        indices: Which of them.
        formats: Formats whose bytes may be copied.
    """

    def read(index: int) -> tuple[int, Picture | PictureError]:
        try:
            return index, read_picture(records, index, formats)
        except PictureError as error:
            return index, error

    pool = ThreadPoolExecutor(_WORKERS)
    running: deque[Future[tuple[int, Picture | PictureError]]] = deque()
    try:
        for index in indices:
            running.append(pool.submit(read, index))
            if len(running) >= _IN_FLIGHT:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def write_images(
    job: Job,
    split: Split,
    folder: Path,
    stems: Sequence[str],
    formats: Collection[str],
    sidecar: Sidecar | None = None,
) -> list[str]:
    """Writes one image file for each record, except those that an earlier call has finished.

    An image comes after what stands beside it, so that its presence proves both.

    Args:
        job: The job.
        split: Which split.
        folder: Folder of the images, made if missing; other splits may share it.
        stems: File name of each record without ending, distinct in the folder.
        formats: Formats whose bytes may be copied.
        sidecar: Called before each image is written.

    Returns:
        The file name of each record, `""` for those that were given to `job.on_fault`.
    """
    records = job.splits[split]
    folder.mkdir(parents=True, exist_ok=True)
    there = {os.path.splitext(name)[0]: name for name in os.listdir(folder)}
    names = [there.get(stem, "") for stem in stems]
    job.advance(split, sum(map(bool, names)))
    missing = [index for index, name in enumerate(names) if not name]
    for index, picture in pictures(records, missing, formats):
        if isinstance(picture, PictureError):
            job.on_fault(records.fault(index, str(picture), picture.kind))
        else:
            name = stems[index] + ending_of(str(records.names[index]), picture.format)
            if sidecar is not None:
                sidecar(index, name, picture)
            write_bytes(folder / name, picture.content)
            names[index] = name
        job.advance(split, 1)
    return names


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file that is either whole or absent."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def box_px(records: Records, index: int) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) of a record in px of its picture, continuous edges."""
    height, width = (int(side) for side in records.sizes[index])
    x1, y1, x2, y2 = (float(side) for side in records.boxes[index])
    return x1 * width, y1 * height, x2 * width, y2 * height


def decimal(value: float) -> str:
    """A number in plain decimals, to a millionth."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
