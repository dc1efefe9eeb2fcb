"""What an image file says of itself before its pixels: size, orientation, format, mode."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import IO, NamedTuple

from PIL import Image, UnidentifiedImageError

from loc_keras._environ import tf
from loc_keras.data import files
from loc_keras.data.annotations import WHOLE_FILE, ImageRef
from loc_keras.data.image_bytes import (
    LIMITS,
    MAX_PIXELS,
    MAX_SIDE,
    file_orientation,
    tiff_orientation,
)
from loc_keras.errors import first_line

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF", "AVIF")
"""Formats that are read, by their contents: the ending of a file's name is not looked at."""

HEIF = "HEIF"
"""The format of telephones (.heic), which is read where the package pillow-heif is installed."""

ENDINGS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""What the files of each format are called."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
_LARGE = 2**24  # Bytes from which on a file is not read before its header.
_PNG_BITS = 24  # Byte of a PNG file that holds its bits a sample.
_TIFF_BITS = 258  # TIFF tag BitsPerSample.
_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 16, "F": 32}


class HeaderError(ValueError):
    """An image cannot be opened.

    Attributes:
        reason: What is wrong, as the end of a sentence that starts with the image.
        kind: `"missing_image"`, `"unreadable"`, `"empty"`, `"not_image"`, `"truncated_header"` or
            `"too_large"`.
    """

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


class Header(NamedTuple):
    """An image as its header describes it.

    Attributes:
        width: Columns as stored, before any orientation is applied.
        height: Rows as stored.
        orientation: EXIF orientation 1..8; 1 where the file names none or one out of range, and
            for TIFF, whose decoder turns the picture by itself.
        format: One of `FORMATS`, or `HEIF`.
        mode: Pillow's name for the pixels: `"L"`, `"RGB"`, `"RGBA"`, `"P"`, `"CMYK"`, `"I;16"`...
        frames: 1, or 2 for an animation of any length.
        bits: Bits of one sample in the file; palettes count as 8.
    """

    width: int
    height: int
    orientation: int = 1
    format: str = "JPEG"
    mode: str = "RGB"
    frames: int = 1
    bits: int = 8

    @property
    def grey(self) -> bool:
        """Whether the pixels have no colour, with or without transparency."""
        return self.mode in ("1", "L", "LA", "La", "I", "F") or self.mode.startswith("I;16")

    @property
    def animated(self) -> bool:
        """Whether there is more than the one frame that is used."""
        return self.frames > 1


def read_header(ref: ImageRef) -> Header:
    """Reads the header of one image, a file or a range of its bytes; pixels stay undecoded.

    Whoever calls it in several threads silences Pillow around them: `without_image_warnings`.
    HeaderError if there is no image of a known format, or one of more than `MAX_PIXELS`.
    """
    if threading.current_thread() is not threading.main_thread():
        return _read(ref)
    with without_image_warnings():
        return _read(ref)


def header_of(content: bytes) -> Header:
    """Reads the header of an encoded image that is in memory.

    Whoever calls it silences Pillow around it: `without_image_warnings`. HeaderError as
    `read_header` does.
    """
    return open_content(content)[0]


def open_content(content: bytes) -> tuple[Header, Image.Image]:
    """As `header_of`, with the opened image, whose pixels are not decoded yet."""
    if not content:
        raise HeaderError("is empty", "empty")
    return _parse(io.BytesIO(content), content[: _PNG_BITS + 1])


def read_content(ref: ImageRef) -> bytes:
    """Reads the bytes of an image; of a large file only where it has a header.

    HeaderError as `read_header` does.
    """
    with _reading():
        size = files.file_size(ref.path) if ref.length == WHOLE_FILE else ref.length
        if size > _LARGE:
            _read(ref)
        return files.read_bytes(*ref)


def read_headers(refs: Sequence[ImageRef]) -> list[Header | HeaderError]:
    """Reads many headers: for each image its header, or what `read_header` would raise."""

    def read(ref: ImageRef) -> Header | HeaderError:
        try:
            return _read(ref)
        except HeaderError as error:
            return error

    with without_image_warnings():
        return files.for_each(read, refs)


def _read(ref: ImageRef) -> Header:
    with _reading(), _opened(ref) as file:
        first = file.read(_PNG_BITS + 1)
        if not first:
            raise HeaderError("is empty", "empty")
        file.seek(0)
        return _parse(file, first)[0]


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise HeaderError("does not exist", "missing_image") from error
    except files.file_errors() as error:
        if not isinstance(error, OSError) and isinstance(error, tf.errors.NotFoundError):
            raise HeaderError("does not exist", "missing_image") from error
        raise HeaderError(f"cannot be read ({first_line(error)})", "unreadable") from error


def _parse(file: IO[bytes], first: bytes) -> tuple[Header, Image.Image]:
    try:
        named = file_orientation(file)
        file.seek(0)
        image = Image.open(file, formats=formats_of(first))
        width, height = image.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            raise _too_large(f"{width} x {height} px")
        if width < 1 or height < 1:
            raise HeaderError(f"declares {width} x {height} px", "not_image")
        header = Header(
            width=width,
            height=height,
            orientation=named or orientation_of(image),
            # Photographs of telephones hold a second picture behind the first.
            format="JPEG" if image.format == "MPO" else str(image.format),
            mode=image.mode,
            # Pages of a TIFF file are no animation, and looking for them reads on through the file.
            frames=2 if image.format in _ANIMATIONS and getattr(image, "is_animated", False) else 1,
            bits=_bits(image, first),
        )
        return header, image
    except HeaderError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large("more pixels than can be held") from error
    except UnidentifiedImageError as error:
        raise _unidentified(first) from error
    except files.op_errors():
        raise
    except Exception as error:  # Pillow's parsers let many kinds of exception through.
        raise HeaderError(f"has a broken header ({first_line(error)})", "truncated_header") from (
            error
        )


def formats_of(content: bytes) -> tuple[str, ...]:
    """The formats that a file may have by its first bytes."""
    is_heif = content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS
    return (*FORMATS, HEIF) if is_heif and _reads_heif() else FORMATS


@cache
def _reads_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _unidentified(first: bytes) -> HeaderError:
    """Tells a file that was cut within its header from one that is no image at all."""
    if first[4:8] == b"ftyp" and first[8:12] in _HEIF_BRANDS and not _reads_heif():
        reason = "is a HEIC picture, for which the package pillow-heif is needed: pip install it"
        return HeaderError(f"{reason}, or save the picture as JPEG", "not_image")
    if first.startswith(_SIGNATURES) or (first[:4] == b"RIFF" and first[8:12] in (b"", b"WEBP")):
        return HeaderError("has a header that is broken or cut short", "truncated_header")
    return HeaderError(f"is not an image of a known format ({', '.join(FORMATS)})", "not_image")


_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def _too_large(declared: str) -> HeaderError:
    return HeaderError(f"declares {declared}; {LIMITS}", "too_large")


def undecodable(header: Header) -> str:
    """Why the pixels of an image with a good header cannot be made, as the end of a sentence."""
    return (
        f"cannot be decoded: its {header.format} data is damaged, cut short or of an unsupported "
        f"kind ({header.mode}, {header.bits} bit)"
    )


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation 1..8 that is still to be undone; 1 where the image names none."""
    # `image.getexif()` would decode a PNG in search of EXIF data behind its pixels.
    content = image.info.get("exif")
    if image.format == "TIFF" or not isinstance(content, bytes):
        return 1
    return tiff_orientation(content.removeprefix(b"Exif\0\0"))


def _bits(image: Image.Image, first: bytes) -> int:
    if image.format == "PNG" and image.mode != "P":
        return first[_PNG_BITS]
    if image.format == "TIFF":
        found = image.tag_v2.get(_TIFF_BITS, 1)  # type: ignore[attr-defined]
        return int(found[0] if isinstance(found, tuple) else found)
    return _BITS.get(image.mode, 8)


@contextmanager
def _opened(ref: ImageRef) -> Iterator[IO[bytes]]:
    most = files.MOST_BYTES if ref.length == WHOLE_FILE else None
    with files.open_binary(ref.path, most) as file:
        if ref.length == WHOLE_FILE and not ref.offset and not files.is_remote(ref.path):
            yield file
        else:
            yield io.BufferedReader(_Range(file, ref))  # type: ignore[type-var]


@contextmanager
def without_image_warnings() -> Iterator[None]:
    """Silences Pillow's warnings of large images and broken EXIF data, which are handled here.

    Filters of warnings are the process's own. Of threads that each set and restored them, one
    would restore what another had set, so they are set once, around a pool.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Range(io.RawIOBase):
    """A range of a file as a file of its own, read as it is asked for."""

    def __init__(self, file: IO[bytes], ref: ImageRef) -> None:
        self._file = file
        self._start = ref.offset
        size = files.file_size(ref.path) - ref.offset
        self._size = max(0, size if ref.length == WHOLE_FILE else min(ref.length, size))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        if not count:
            return 0
        self._file.seek(self._start + self._at)
        content = self._file.read(count)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
