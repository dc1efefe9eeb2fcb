"""Encoded pictures of five kinds, valid, odd and damaged, drawn from a seed."""

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

KINDS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
_MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "RGBA", "LA", "P", "1", "I;16"),
    "BMP": ("RGB", "L", "RGBA", "P", "1"),
    "GIF": ("P", "L"),
    "WEBP": ("RGB", "RGBA"),
}
_ORIENTATION = 0x0112


def mutated(count: int, seed: int = 0) -> list[bytes]:
    """That many files, the kinds in turn: a third valid, a third odd, a third damaged."""
    rng = random.Random(seed)
    return [
        _file(rng, KINDS[index % len(KINDS)], index // len(KINDS) % 3) for index in range(count)
    ]


def _file(rng: random.Random, kind: str, how: int) -> bytes:
    content = _valid(rng, kind)
    if how:
        content = _ODD[kind](rng, content)
    return _damaged(rng, content) if how == 2 else content


def _valid(rng: random.Random, kind: str) -> bytes:
    mode = rng.choice(_MODES[kind])
    shape = (rng.randint(1, 40), rng.randint(1, 40))
    small = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (4, 4, 3), np.uint8)
    picture = Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    options: dict = {}
    if kind == "JPEG":
        options = {"quality": rng.choice([30, 75, 95]), "progressive": rng.random() < 0.3}
    if kind in ("GIF", "PNG", "WEBP") and mode != "I;16" and rng.random() < 0.2:
        turned = picture.rotate(90).convert(mode)
        options = {"save_all": True, "append_images": [turned]}
    if kind == "WEBP":
        options["lossless"] = rng.random() < 0.5
    if kind in ("PNG", "WEBP", "JPEG") and rng.random() < 0.4:
        exif = Image.Exif()
        exif[_ORIENTATION] = rng.randint(1, 8)
        options["exif"] = exif
    file = io.BytesIO()
    (picture if mode == "I;16" else picture.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def exif_block(rng: random.Random) -> bytes:
    """TIFF data (TIFF 6.0) with one to three entries of orientation, of any type and count."""
    order = rng.choice("<>")
    entries = b""
    count = rng.randint(1, 3)
    for _ in range(count):
        tag = _ORIENTATION if rng.random() < 0.8 else 0x0110
        kind, value = rng.choice([3, 3, 3, 4, *range(14)]), rng.choice([*range(1, 9), 0, 9, 255])
        number = rng.choice([1, 1, 1, 1, 0, 2, 5])
        field = struct.pack(order + "I", value)
        if kind in (3, 8):
            field = struct.pack(order + "HH", value, rng.choice([0, 7]))
        if kind in (1, 2, 6, 7):
            field = bytes([value, 0, 0, 0])
        entries += struct.pack(order + "HHI", tag, kind, number) + field
    said = count + (rng.choice([-1, 1, 60_000]) if rng.random() < 0.15 else 0)
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    if rng.random() < 0.1:
        mark = rng.choice([b"II\0*", b"MM*\0", b"II+\0", b"EXIF"])
    first = rng.choice([8, 8, 8, 8, 10, 4, 2**31, 2**32 - 1])
    return mark + struct.pack(order + "IH", first, max(said, 0)) + entries + bytes(4)


def _odd_jpeg(rng: random.Random, content: bytes) -> bytes:
    parts = []
    for _ in range(rng.randint(1, 4)):
        body = b"Exif\0\0" + exif_block(rng)
        marker = b"\xff\xe1"
        choice = rng.randrange(6)
        if choice == 0:
            marker, body = b"\xff\xfe", bytes(rng.randrange(256) for _ in range(rng.randint(0, 90)))
        if choice == 1:
            body = b"http://ns.adobe.com/xap/1.0/\0" + bytes(20)
        if choice == 2:
            body = body[: rng.randint(0, len(body))]
        fill = b"\xff" * rng.choice([0, 0, 1, 3, 70])
        junk = bytes(rng.choice([0, 0, 0, 2, 100]))
        parts.append(junk + fill + marker + struct.pack(">H", len(body) + 2) + body)
    tail = rng.choice([b"", b"", b"\0", b"tail" * 9])
    return content[:2] + b"".join(parts) + content[2:] + tail


def _odd_png(rng: random.Random, content: bytes) -> bytes:
    chunks = []
    for _ in range(rng.randint(1, 3)):
        name, body = b"eXIf", exif_block(rng)
        if rng.random() < 0.3:
            name, body = rng.choice([b"tEXt", b"abCd", b"gAMA", b"ABCD"]), bytes(4)
        code = zlib.crc32(name + body) ^ (rng.random() < 0.2)
        chunks.append(struct.pack(">I", len(body)) + name + body + struct.pack(">I", code))
    at = rng.choice([33, 33, 33, len(content), len(content) - 12, 8])
    return content[:at] + b"".join(chunks) + content[at:]


def _odd_bmp(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content + rng.choice([b"", b"\0", b"\0\0\0", b"tail" * 9]))
    if rng.random() < 0.4:  # Rows from the top.
        height = struct.unpack_from("<i", found, 22)[0]
        struct.pack_into("<i", found, 22, -height)
    if rng.random() < 0.2:
        struct.pack_into("<I", found, 46, rng.choice([1, 2, 255, 257]))  # Colours in the palette.
    if rng.random() < 0.2:
        struct.pack_into("<I", found, 2, rng.choice([0, 1, 2**32 - 1]))  # Size of the file.
    return bytes(found)


def _odd_gif(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content + rng.choice([b"", b"\0", b"tail" * 9]))
    if rng.random() < 0.6:  # A larger or smaller screen than the frame.
        struct.pack_into("<HH", found, 6, rng.choice([0, 3, 50]), rng.choice([0, 3, 50]))
    at = bytes(found).find(b"\x2c\0\0\0\0")
    if at > 0 and rng.random() < 0.5:
        struct.pack_into("<HH", found, at + 1, rng.randint(0, 9), rng.randint(0, 9))
    if at > 0 and rng.random() < 0.2:
        found[at + 9] ^= 0x40  # Interlaced.
    return bytes(found)


def _odd_webp(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice([b"", b"\0", b"tail" * 9])


_ODD = {
    "JPEG": _odd_jpeg,
    "PNG": _odd_png,
    "BMP": _odd_bmp,
    "GIF": _odd_gif,
    "WEBP": _odd_webp,
}


def _damaged(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        reach = len(found) if rng.random() < 0.3 else min(len(found), 120)
        found[rng.randrange(reach)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    if rng.random() < 0.3:
        del found[rng.randrange(len(found)) :]
    return bytes(found)
