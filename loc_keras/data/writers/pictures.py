"""The image bytes of a record for another format: unchanged where possible, else as PNG."""

import io
from collections.abc import Collection
from dataclasses import dataclass

from PIL import Image

from loc_keras.data.annotations import ImageRef
from loc_keras.data.files import read_bytes
from loc_keras.data.image_header import FORMATS, HeaderError, read_header
from loc_keras.data.records import UPRIGHT, Records

ENDINGS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
}
"""File endings of the formats that may be copied; the first is given where none is there."""

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How pixels stored with an EXIF orientation come upright (TIFF 6.0, tag 274)."""


class PictureError(Exception):
    """Why a record's image cannot be written, as the end of a sentence, and the kind of fault."""

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


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


def read_picture(records: Records, index: int, formats: Collection[str]) -> Picture:
    """Reads the image of a record, so that a reader who knows no orientation sees it upright.

    Bytes are copied where they are in one of the formats, upright and whole. Everything else is
    decoded, turned, cut and written as PNG, which loses nothing.

    Args:
        records: Records of one split.
        index: Which of them.
        formats: Formats that may be copied, keys of `ENDINGS`.

    Raises:
        PictureError: If the image cannot be read or is not the one that the record describes.
    """
    ref = ImageRef(
        str(records.paths[index]), int(records.offsets[index]), int(records.lengths[index])
    )
    orientation = int(records.orientations[index])
    window = tuple(int(side) for side in records.windows[index])
    expected = (int(records.sizes[index][0]), int(records.sizes[index][1]))
    try:
        header = read_header(ref)
        content = read_bytes(*ref)
    except HeaderError as error:
        raise PictureError(f"image {ref.path} {error}", error.kind) from error
    except OSError as error:
        reason = error.strerror or error
        raise PictureError(f"image {ref.path} cannot be read: {reason}", "unreadable") from error
    # A file that says it is turned would be turned by others, even if its record ignores that.
    upright_whole = orientation == header.orientation == UPRIGHT and not any(window)
    if upright_whole and header.format in formats:
        _check_size((header.height, header.width), expected, ref.path)
        _prove_decodable(content, ref.path)
        channels = Image.getmodebands(header.mode)
        return Picture(content, header.format, expected, channels, copied=True)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            picture = _for_png(upright(image, orientation, window))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        reason = f"image {ref.path} cannot be decoded: {error}"
        raise PictureError(reason, "undecodable") from error
    _check_size((picture.height, picture.width), expected, ref.path)
    return Picture(_png(picture), "PNG", expected, len(picture.getbands()), copied=False)


def _prove_decodable(content: bytes, path: str) -> None:
    """Refuses bytes that break off: a copy must not hold what its source cannot show."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise PictureError(f"image {path} cannot be decoded: {error}", "undecodable") from error


def ending_of(name: str, form: str) -> str:
    """The ending of a name where it fits the format, else the format's first one."""
    given = "." + name.rpartition(".")[2]
    return given if given.lower() in ENDINGS[form] else ENDINGS[form][0]


def upright(image: Image.Image, orientation: int, window: tuple[int, ...]) -> Image.Image:
    """Undoes an EXIF orientation, then cuts a window (left, top, right, bottom) in px out.

    Args:
        image: As decoded; its own EXIF block is not looked at.
        orientation: 1..8; others leave it as it is.
        window: All zero for the whole picture.
    """
    image.load()
    turned = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image.copy()
    return turned.crop(_checked(turned, window)) if any(window) else turned


def _checked(image: Image.Image, window: tuple[int, ...]) -> tuple[int, int, int, int]:
    left, top, right, bottom = window
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ValueError(f"the window {window} is not inside {image.width} x {image.height} px")
    return left, top, right, bottom


def _for_png(image: Image.Image) -> Image.Image:
    """The same pixels in a mode that PNG has, without notes that are no longer true."""
    kept = {"transparency", "icc_profile"}
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
        kept.discard("icc_profile")  # It speaks of the colours before.
    # What else the source notes would turn the picture again, or tell of other sizes.
    image.info = {key: value for key, value in image.info.items() if key in kept}
    return image


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _check_size(found: tuple[int, int], expected: tuple[int, int], path: str) -> None:
    if found != expected:
        raise PictureError(
            f"image {path} is {found[1]} x {found[0]} px, but was {expected[1]} x {expected[0]} px "
            "when its box was read",
            "size",
        )
