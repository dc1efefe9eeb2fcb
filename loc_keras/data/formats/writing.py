"""What the writers share: their job, images read ahead, files and their names."""

import hashlib
import io
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.atomic_file import written_aside
from loc_keras.data.annotations import WHOLE_FILE, Fault, ImageRef, Split
from loc_keras.data.decode import upright
from loc_keras.data.files import file_state, read_bytes
from loc_keras.data.formats.parsing import RowError, is_image_name
from loc_keras.data.image_header import HeaderError, formats_of, read_header
from loc_keras.data.resolve import COLUMNS, UPRIGHT, Records, image_refs
from loc_keras.errors import first_line

ENDINGS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
}
"""File endings of the formats that may be copied; the first is given where none is there."""

COPIED = ("JPEG", "PNG", "BMP", "WEBP")  # Formats that nearly every tool reads.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_WORKERS = min(8, os.cpu_count() or 1)
_IN_FLIGHT = 2 * _WORKERS
# Of a stem in UTF-8; systems allow 255 for a name, and counters and endings come behind it.
_LONGEST_BYTES = 180
_PLAIN = set("-_.+=@()")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """One image as it is written.

    Attributes:
        content: The encoded file.
        format: `"JPEG"`, `"PNG"`, `"BMP"`, `"GIF"` or `"WEBP"`.
        size: Height and width in px.
        channels: Of the encoded file, 1..4.
        copied: Whether the bytes are those of the source.
    """

    content: bytes
    format: str
    size: tuple[int, int]
    channels: int
    copied: bool


@dataclass(frozen=True)
class Job:
    """What is written, and where.

    Attributes:
        folder: Existing folder to fill; what it holds already is from the same job.
        splits: Records of each split, none empty.
        shards: Files of each split for formats that cut it, or None to choose by size.
        advance: Called with the split and a number of records just done.
        on_fault: Called for every record that cannot be written; may raise to stop the job.
        background: Class of the records without an object, or None.
        counts: Images of each split that are written, which writers fill in.
    """

    folder: Path
    splits: Mapping[Split, Records]
    class_names: Sequence[str]
    shards: int | None
    advance: Callable[[Split, int], None]
    on_fault: Callable[[Fault], None]
    background: str | None = None
    counts: dict[Split, int] = field(default_factory=dict)

    @property
    def object_classes(self) -> Sequence[str]:
        """Names of the classes that objects have: without that of the background at the end.

        On reading it comes there again. Between others it keeps its place, so that they do.
        """
        return object_classes(self.class_names, self.background)

    @cached_property
    def stems(self) -> dict[Split, list[str]]:
        """`record_stems` of the splits, each in a folder of its own."""
        return record_stems(self.splits)


def object_classes(class_names: Sequence[str], background: str | None) -> Sequence[str]:
    """Names of the classes that objects have; see `Job.object_classes`."""
    last = len(class_names) - 1
    ends = background is not None and class_names[last] == background
    return class_names[:last] if ends else class_names


Sidecar = Callable[[Records, int, str, Picture], None]
"""Writes what stands beside an image: takes records, index, name of the image file and picture."""


def write_images(
    job: Job,
    split: Split,
    folder: Path,
    sidecar: Sidecar | None = None,
    *,
    stems: Sequence[str] | None = None,
    formats: Collection[str] = COPIED,
) -> list[str]:
    """Writes one image file for each record, except those that an earlier call has finished.

    An image comes after what `sidecar` writes beside it, so that its presence proves both. `stems`,
    else those of the job, are distinct in the folder, which other splits may share; bytes of
    `formats` may be copied.

    Returns:
        The file name of each record, `""` for those that were given to `job.on_fault`.
    """
    records, stems = job.splits[split], stems or job.stems[split]
    folder.mkdir(parents=True, exist_ok=True)
    written = filter(is_image_name, os.listdir(folder))  # Labels may lie beside.
    there = {os.path.splitext(name)[0]: name for name in written}
    names = [there.get(stem, "") for stem in stems]
    job.advance(split, sum(map(bool, names)))
    missing = [index for index, name in enumerate(names) if not name]
    for index, picture in pictures(records, missing, formats):
        if isinstance(picture, RowError):
            job.on_fault(records.fault(index, str(picture), picture.kind))
        else:
            name = stems[index] + ending_of(str(records.names[index]), picture.format)
            if sidecar is not None:
                sidecar(records, index, name, picture)
            write_bytes(folder / name, picture.content)
            names[index] = name
        job.advance(split, 1)
    job.counts[split] = sum(map(bool, names))
    return names


def pictures(
    records: Records, indices: Iterable[int], formats: Collection[str]
) -> Iterator[tuple[int, Picture | RowError]]:
    """Reads pictures in the given order, a bounded number ahead; see `read_picture`."""

    def read(index: int) -> tuple[int, Picture | RowError]:
        try:
            return index, read_picture(records, index, formats)
        except RowError as error:
            return index, error

    pool = ThreadPoolExecutor(_WORKERS)
    running: deque[Future[tuple[int, Picture | RowError]]] = deque()
    try:
        for index in indices:
            running.append(pool.submit(read, index))
            if len(running) >= _IN_FLIGHT:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_picture(records: Records, index: int, formats: Collection[str]) -> Picture:
    """Reads the image of a record, so that a reader who knows no orientation sees it upright.

    Bytes are copied where they are in one of the formats, upright and whole. Everything else is
    decoded, turned, cut and written as PNG, which loses nothing. RowError if the image cannot be
    read or is not the one that the record describes.
    """
    ref = records.ref(index)
    orientation = int(records.orientations[index])
    window = tuple(int(side) for side in records.windows[index])
    expected = (int(records.sizes[index][0]), int(records.sizes[index][1]))
    try:
        header = read_header(ref)
        content = read_bytes(*ref)
    except HeaderError as error:
        raise RowError(f"image {ref.path} {error}", error.kind) from error
    except OSError as error:
        reason = f"image {ref.path} cannot be read: {first_line(error)}"
        raise RowError(reason, "unreadable") from error
    # A file that says it is turned would be turned by others, even if its record ignores that.
    upright_whole = orientation == header.orientation == UPRIGHT and not any(window)
    if upright_whole and header.format in formats:
        _check_size((header.height, header.width), expected, ref.path)
        with _decoding(content, ref.path) as image:
            image.load()  # A copy must not hold what its source cannot show.
        channels = Image.getmodebands(header.mode)
        return Picture(content, header.format, expected, channels, copied=True)
    with _decoding(content, ref.path) as image:
        picture = upright(image, orientation, window)
    _check_size((picture.height, picture.width), expected, ref.path)
    content, channels = encoded_png(picture)
    return Picture(content, "PNG", expected, channels, copied=False)


@contextmanager
def _decoding(content: bytes, path: str) -> Iterator[Image.Image]:
    """Opens an image; what fails within becomes a `RowError`."""
    try:
        with Image.open(io.BytesIO(content), formats=formats_of(content)) as image:
            yield image
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise RowError(f"image {path} cannot be decoded: {error}", "undecodable") from error


def encoded_png(image: Image.Image) -> tuple[bytes, int]:
    """The same pixels as PNG, without notes that are no longer true, and their channels."""
    kept = {"transparency", "icc_profile"}
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
        kept.discard("icc_profile")  # It speaks of the colours before.
    # What else the source notes would turn the picture again, or tell of other sizes.
    image.info = {key: value for key, value in image.info.items() if key in kept}
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), len(image.getbands())


def _check_size(found: tuple[int, int], expected: tuple[int, int], path: str) -> None:
    if found != expected:
        raise RowError(
            f"image {path} is {found[1]} x {found[0]} px, but was {expected[1]} x {expected[0]} px "
            "when its box was read",
            "size",
        )


def ending_of(name: str, form: str) -> str:
    """The ending of a name where it fits the format, else the format's first one."""
    given = "." + name.rpartition(".")[2]
    return given if given.lower() in ENDINGS[form] else ENDINGS[form][0]


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


def source_fingerprint(splits: Mapping[Split, Records], class_names: Sequence[str]) -> str:
    """SHA-256, in hex, over all records, class names, and size and time of every image file."""
    digest = hashlib.sha256(repr(list(class_names)).encode())
    for split, records in splits.items():
        digest.update(f"{split} {len(records)}".encode())
        for name in COLUMNS:
            column = getattr(records, name)
            if column.dtype.kind in "OUS":
                digest.update("\0".join(map(str, column)).encode("utf-8", "surrogatepass"))
            else:
                digest.update(np.ascontiguousarray(column).tobytes())
        for path in np.unique(records.paths.astype(str)):
            digest.update(repr(file_state(str(path))).encode())
    return digest.hexdigest()


def encoded_bytes(records: Records) -> int:
    """Bytes of all images as they are stored; missing files count nothing."""
    whole = records.lengths == WHOLE_FILE
    parts = int(records.lengths[~whole].sum())
    return parts + sum(max(file_state(str(path))[0], 0) for path in records.paths[whole])


def record_stems(
    splits: Mapping[Split, Records], *, one_folder: bool = False
) -> dict[Split, list[str]]:
    """A file name without ending for each record, distinct even where case does not count.

    It is the base name of the image. Where images of one folder share it, all names of the data
    set get as many of the folders above them as part these images. What is still the same (as
    objects cut out of one image are) gets a number. Files of each split lie in a folder of
    their own, or those of all in `one_folder`.
    """
    origins = {
        split: list(map(origin, image_refs(records), records.names.tolist()))
        for split, records in splits.items()
    }
    if not one_folder:
        return dict(zip(origins, distinct_stems(list(origins.values())), strict=True))
    stems = iter(distinct_stems([[origin for part in origins.values() for origin in part]])[0])
    return {split: list(islice(stems, len(part))) for split, part in origins.items()}


def distinct_stems(folders: Sequence[Sequence[str]]) -> list[list[str]]:
    """As `record_stems`, for paths or names with slashes, by the folder that they will lie in."""
    parts = [[tuple(map(safe_name, _parts(origin))) for origin in folder] for folder in folders]
    depth = _depth(parts)
    return [_numbered([_joined(origin, depth) for origin in folder]) for folder in parts]


def safe_name(text: str) -> str:
    """Keeps letters and digits of every alphabet and a few signs; the rest becomes `_`.

    Spaces, quotes and the like are legal in file names and still break the lists, shells and
    tools that the files go through.
    """
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(sign if _is_plain(sign) else "_" for sign in composed)
    kept = kept.lstrip(".").rstrip(".")
    kept = f"_{kept}" if _RESERVED.fullmatch(kept) else kept
    return _cut(kept) or "image"


def origin(image: ImageRef, name: str) -> str:
    """The path of a file of its own; images within a larger file have only a name."""
    return image.path if image.length == WHOLE_FILE else name


def _parts(origin: str) -> list[str]:
    """The folders and the base name without its ending."""
    folder, _, base = origin.replace("\\", "/").rpartition("/")
    stem, ending = os.path.splitext(base)
    # "photo 1.5 m" has no ending: those of image files are short and alphanumeric.
    stem = stem if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", ending) else base
    return [*(part for part in folder.split("/") if part not in ("", ".", "..")), stem]


def _joined(parts: Sequence[str], depth: int) -> str:
    return _cut("_".join(parts[-depth:]))


def _depth(folders: Sequence[Sequence[tuple[str, ...]]]) -> int:
    """The fewest parts of a path with which the fewest origins clash, as some do at any depth."""
    fewest, best = None, 1
    for depth in range(
        1, max((len(origin) for folder in folders for origin in folder), default=1) + 1
    ):
        clashes = sum(
            len(origins) - len({_joined(origin, depth).casefold() for origin in origins})
            for origins in map(set, folders)
        )
        if fewest is None or clashes < fewest:
            fewest, best = clashes, depth
        if not clashes:
            break
    return best


def _numbered(stems: Sequence[str]) -> list[str]:
    """Appends `_2`, `_3`, ... to repetitions, past numbers that are taken."""
    taken = set(Counter(stem.casefold() for stem in stems))
    count: Counter[str] = Counter()
    named = []
    for stem in stems:
        key = stem.casefold()
        count[key] += 1
        name = stem
        if count[key] > 1:
            while (name := f"{stem}_{count[key]}").casefold() in taken:
                count[key] += 1
            taken.add(name.casefold())
        named.append(name)
    return named


def _is_plain(sign: str) -> bool:
    return sign in _PLAIN or sign.isalnum() or unicodedata.category(sign).startswith("M")


def _cut(text: str) -> str:
    """At most `_LONGEST_BYTES` in UTF-8, whole letters, the distinguishing end kept."""
    raw = text.encode("utf-8", "replace")
    return raw[-_LONGEST_BYTES:].decode("utf-8", "ignore") if len(raw) > _LONGEST_BYTES else text


def shortest(value: float | np.floating) -> str:
    """The shortest decimal that reads back as the same float32."""
    return np.format_float_positional(np.float32(value), unique=True, trim="0")


def box_cells(box: Sequence[float], empty: bool = False) -> list[str]:
    """The sides of a box as cells of CSV; empty ones where there is no object."""
    return [""] * len(box) if empty else list(map(shortest, box))
