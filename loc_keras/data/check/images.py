"""What image files are: their headers, and whether all of them decodes."""

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from PIL import Image

from loc_keras.data.annotations import ImageRef
from loc_keras.data.duplicates import difference_hash
from loc_keras.data.files import read_bytes
from loc_keras.data.image_header import (
    FORMATS,
    Header,
    HeaderError,
    read_headers,
    without_image_warnings,
)

ENDINGS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
}
"""What the files of each format are called."""

IMAGE_ENDINGS = frozenset(ending for form in FORMATS for ending in ENDINGS.get(form, ()))

_SIDEWAYS = frozenset({5, 6, 7, 8})
_WINDOW = 512
_MOST_WORKERS = 8


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image.

    Attributes:
        header: What the file says of itself, or None where it cannot be read.
        trouble: Kind of finding that keeps the image from being used; `""` for none.
        reason: What that is, as the end of a sentence that starts with the image.
        look: 64-bit difference hash of the picture, None where it was not computed.
    """

    header: Header | None
    trouble: str = ""
    reason: str = ""
    look: int | None = None

    def picture_size(self, *, boxes_on: str) -> tuple[int, int]:
        """(width, height) in px of the picture that boxes were drawn on; (0, 0) for unknown.

        Args:
            boxes_on: `"upright"` is the picture as the EXIF orientation turns it, `"stored"` as
                it lies in the file.
        """
        if self.header is None:
            return 0, 0
        size = (self.header.width, self.header.height)
        turned = boxes_on == "upright" and self.header.orientation in _SIDEWAYS
        return size[::-1] if turned else size


def inspect_images(
    refs: Iterable[ImageRef],
    *,
    decode: bool,
    near: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[ImageRef, ImageFacts]:
    """Looks at images, several at a time.

    Args:
        refs: Images; each is looked at once.
        decode: Whether to decode the pixels; else only headers are read.
        near: Whether to compute the difference hash of decoded pictures.
        progress: Called with the number of images that were finished since the last call.

    Returns:
        What was found, by image, in the order given.
    """
    unique = iter(dict.fromkeys(refs))
    found: dict[ImageRef, ImageFacts] = {}
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    with without_image_warnings(), ThreadPoolExecutor(workers) as pool:
        # Windows bound the number of waiting tasks, however many images there are.
        while window := list(islice(unique, _WINDOW)):
            facts = list(map(_facts, read_headers(window)))
            if decode:
                facts = list(pool.map(lambda ref, one: _decoded(ref, one, near), window, facts))
            found.update(zip(window, facts, strict=True))
            if progress:
                progress(len(window))
    return found


def _facts(header: Header | HeaderError) -> ImageFacts:
    if isinstance(header, HeaderError):
        return ImageFacts(None, header.kind, header.reason)
    if header.format == "TIFF" and header.mode in ("I", "F"):
        reason = f"has pixels of the mode {header.mode}, which have no fixed range"
        return ImageFacts(header, "unsupported_mode", reason)
    return ImageFacts(header)


def _decoded(ref: ImageRef, facts: ImageFacts, near: bool) -> ImageFacts:
    """Decodes the first picture, all of it; never raises for what is wrong with it."""
    if facts.header is None or facts.trouble:
        return facts
    try:
        data = read_bytes(ref.path, ref.offset, ref.length)
        if facts.header.format == "PNG":
            # Decoding stops after the last pixel; this walks to the end and sums all chunks.
            with Image.open(io.BytesIO(data)) as image:
                image.verify()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        return replace(facts, look=difference_hash(ref)) if near else facts
    except MemoryError:
        return replace(facts, trouble="too_large", reason="needs more memory than is free")
    except Exception as error:  # PIL's decoders raise nearly anything on hostile bytes.
        words = " ".join(str(error).split())[:120] or type(error).__name__
        return replace(facts, trouble="truncated", reason=f"cannot be decoded: {words}")
