"""Pictures of noise, and strings that pretend to be pictures."""

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, form: str = "jpeg", width: int = 320, height: int = 240) -> bytes:
    """A picture of random pixels, dark where the seed is odd, and wider by `seed` px."""
    rng = np.random.default_rng(seed)
    low, high = (0, 100) if seed % 2 else (150, 250)
    pixels = rng.integers(low, high, (height, width + seed, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A grey PNG of one bit a pixel by the letter of its specification (W3C, 2003)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb(side: int) -> bytes:
    """A whole and valid picture: a few kB, and side * side bytes when it is decoded."""
    line = bytes(1 + (side + 7) // 8)
    return png_of(side, side, zlib.compress(line * side))


def spoilt(seed: int, form: str) -> bytes:
    """A small picture with four bytes of its first 200 changed at random."""
    rng = np.random.default_rng(seed)
    data = bytearray(noise(seed, form, 32, 24))
    for place in rng.integers(0, min(len(data), 200), 4):
        data[place] = rng.integers(256)
    return bytes(data)


HOSTILE = {
    "0 bytes": b"",
    "half a JPEG": noise(1)[: len(noise(1)) // 2],
    "a JPEG's first bytes": noise(1)[:11],
    "half a PNG": noise(1, "png")[:5000],
    "a PNG's first bytes": noise(1, "png")[:20],
    "half a GIF": noise(1, "gif")[:3000],
    "half a BMP": noise(1, "bmp")[:3000],
    "a header of 20,000 x 20,000 px": png_of(20_000, 20_000),
    "a picture of 20,000 x 20,000 px": bomb(20_000),
    "a header of 2**31 - 1 px a side": png_of(2**31 - 1, 2**31 - 1),
    "no pixel": png_of(0, 0),
    "a page": b"<html></html>",
    "zeros": bytes(100_000),
    "text": "çà et là".encode(),
}
"""Strings that are no image, or none that a server should decode, by what they are."""


def png_of_size(width, height):
    """A PNG file that declares a size and holds next to nothing, after the PNG specification."""

    def chunk(name, content):
        code = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + code

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + content


UNFIT = {
    "pipe.png": "it is a pipe, no file",
    "socket.png": "it is a socket, no file",
    "device.png": "it is a device, no file",
    "sparse.png": "it has 32,212,254,720 bytes, and at most 536,870,912 are read",
}
"""What stands in a folder under an image's name, and why it is not read."""


def make_unfit(folder: Path) -> None:
    """Puts all of `UNFIT` into a folder."""
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as waiting:
        # A socket's own name has at most 108 bytes.
        place = os.path.relpath(folder / "socket.png")
        waiting.bind(min(place, str(folder / "socket.png"), key=len))
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "sparse.png").touch()
    os.truncate(folder / "sparse.png", 30 * 2**30)
