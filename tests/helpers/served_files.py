"""Encoded images for the tests of serving: good ones of each kind, broken and hostile ones."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_RNG = np.random.default_rng(0)
PIXELS = np.kron(_RNG.integers(0, 256, (10, 15, 3)), np.ones((6, 6, 1))).astype(np.uint8)
"""60 x 90 px of coloured squares."""
PICTURE = Image.fromarray(PIXELS)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(orientation, kind="JPEG", entries=()):
    """The picture with an EXIF orientation, behind other entries."""
    exif = Image.Exif()
    for tag, value in entries:
        exif[tag] = value
    exif[0x0112] = orientation
    return encoded(PICTURE, kind, exif=exif)


def png_of_size(width, height):
    """A PNG file whose header declares this size, with pixels for none of it."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks.append((b"IDAT", zlib.compress(b"\0" * 1000)))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif_with_frame_of(width, height):
    """A GIF file whose screen is small, but whose first frame declares another size."""
    content = bytearray(encoded(PICTURE.convert("P"), "GIF"))
    at = content.index(b"\x2c\0\0\0\0")
    content[at + 5 : at + 9] = struct.pack("<HH", width, height)
    return bytes(content)


_P = PICTURE.convert("P")
GOOD = {
    "jpeg": encoded(PICTURE, "JPEG"),
    "progressive jpeg": encoded(PICTURE, "JPEG", progressive=True),
    "gray jpeg": encoded(PICTURE.convert("L"), "JPEG"),
    "cmyk jpeg": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "turned jpeg": turned(6),
    "png": encoded(PICTURE, "PNG"),
    "png rgba": encoded(PICTURE.convert("RGBA"), "PNG"),
    "png gray alpha": encoded(PICTURE.convert("LA"), "PNG"),
    "png palette": encoded(_P, "PNG"),
    "png 16 bit": encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "PNG"),
    "png turned": turned(3, "PNG"),
    "gif": encoded(_P, "GIF"),
    "gif transparent": encoded(_P, "GIF", transparency=int(np.asarray(_P)[0, 0])),
    "gif animated": encoded(
        _P, "GIF", save_all=True, append_images=[_P.rotate(90 * turn) for turn in (1, 2, 3)]
    ),
    "bmp": encoded(PICTURE, "BMP"),
    "bmp palette": encoded(_P, "BMP"),
    "bmp rgba": encoded(PICTURE.convert("RGBA"), "BMP"),
    "one pixel png": encoded(PICTURE.crop((0, 0, 1, 1)), "PNG"),
    "one pixel jpeg": encoded(PICTURE.crop((0, 0, 1, 1)), "JPEG"),
}
"""Images that a served model reads."""

DAMAGED = "is damaged or cut short"
NOT_IMAGE = "is not a JPEG, PNG, GIF or BMP image"
BAD = {
    "truncated jpeg": (GOOD["jpeg"][: len(GOOD["jpeg"]) // 2], DAMAGED),
    "truncated png": (GOOD["png"][: len(GOOD["png"]) // 2], DAMAGED),
    "truncated gif": (GOOD["gif"][: len(GOOD["gif"]) // 2], DAMAGED),
    "truncated bmp": (GOOD["bmp"][: len(GOOD["bmp"]) // 2], DAMAGED),
    "bare jpeg start": (b"\xff\xd8\xff", DAMAGED),
    "bare gif start": (b"GIF89a", DAMAGED),
    "png without pixels": (png_of_size(90, 60), DAMAGED),
    "nothing": (b"", "is empty"),
    "text": (b"hello, world", NOT_IMAGE),
    "webp": (encoded(PICTURE, "WEBP"), NOT_IMAGE),
    "bmp 1 bit": (
        encoded(PICTURE.convert("1"), "BMP"),
        "is a BMP image of a kind that is not read",
    ),
    "large png": (png_of_size(20_000, 20_000), "declares 20000 x 20000 px"),
    "larger png": (png_of_size(2**32 - 1, 2**32 - 1), "declares 4294967295 x 4294967295 px"),
    "long png": (png_of_size(70_000, 1), "declares 70000 x 1 px"),
    "no height": (png_of_size(90, 0), DAMAGED),
    "large gif frame": (gif_with_frame_of(65_535, 65_535), "declares 65535 x 65535 px"),
}
"""Content that is refused, with how its reason begins."""
