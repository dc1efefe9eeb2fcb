"""Data sets in which every fault is planted, and clean ones; made by PIL or byte by byte."""

import csv
import json
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.data.annotations import Annotations
from loc_keras.data.formats.csv_file import read_csv

Row = Sequence[object]


SIZE = (60, 40)


COLUMNS = ("file", "label", "x1", "y1", "x2", "y2", "width", "height")


SPLITS = {
    "train": {"csv": "train.csv", "images": "images"},
    "test": {"csv": "test.csv", "images": "images"},
}


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A coarse pattern that no other seed shares: near duplicates would be found otherwise."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned_jpeg(seed: int, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(seed), "JPEG", exif=exif)


def huge_png() -> bytes:
    """A PNG file of some bytes that declares 100,000 x 100,000 px."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def write_set(root: Path, images: dict[str, bytes], rows: dict[str, list[Row]]) -> Path:
    (root / "images").mkdir(parents=True)
    for name, content in images.items():
        (root / "images" / name).write_bytes(content)
    for name, lines in rows.items():
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
    return root


def read_set(root: Path) -> Annotations:
    return read_csv(str(root), splits=SPLITS, columns=COLUMNS, units="pixel")


def good(name: str, label: str) -> Row:
    return (name, label, 10, 10, 40, 30, *SIZE)


def clean_set(root: Path) -> Path:
    images = {f"{label}{n}.png": encoded(picture(ord(label) + 1000 * n), "PNG")
              for label in "cd" for n in range(10)}  # fmt: skip
    rows = {
        split: [good(f"{label}{n}.png", {"c": "cat", "d": "dog"}[label])
                for label in "cd" for n in numbers]
        for split, numbers in (("train.csv", range(6)), ("test.csv", range(6, 10)))
    }  # fmt: skip
    return write_set(root, images, rows)


def planted_set(root: Path) -> tuple[Path, list[tuple[str, str, int]]]:
    """A data set with every fault, and the (kind, file, row) to be found."""
    images: dict[str, bytes] = {}
    train: list[Row] = []
    expected: list[tuple[str, str, int]] = []

    def plant(kinds: str, row: Row, content: bytes | None = None) -> None:
        train.append(row)
        if content is not None:
            images[str(row[0])] = content
        expected.extend((kind, "train.csv", len(train)) for kind in kinds.split())

    for label, name in (("cat", "c"), ("dog", "d")):
        for n in range(6):
            plant("", good(f"{name}{n}.png", label), encoded(picture(n + 10 * ord(name)), "PNG"))
    jpeg = encoded(picture(100), "JPEG")
    png = encoded(picture(101), "PNG")
    plant("missing_image", good("missing.png", "cat"))
    plant("empty", good("empty.png", "cat"), b"")
    plant("not_image", good("words.jpg", "cat"), b"these are words, no picture")
    plant("truncated", good("cut.jpg", "cat"), jpeg[: len(jpeg) // 2])
    plant("truncated", good("cut tail.png", "cat"), png[:-6])
    plant("truncated_header", good("header.png", "cat"), png[:12])
    plant("too_large", good("huge.png", "cat"), huge_png())
    plant("wrong_ending", good("really a jpeg.png", "cat"), encoded(picture(102), "JPEG"))
    deep = Image.fromarray((np.asarray(picture(103).convert("L")).astype(np.uint16) << 8) + 7)
    plant("mode_16bit", good("deep.png", "cat"), encoded(deep, "PNG"))
    plant("mode_cmyk", good("cmyk.jpg", "cat"), encoded(picture(104).convert("CMYK"), "JPEG"))
    plant("mode_palette", good("few.png", "cat"), encoded(picture(105).quantize(8), "PNG"))
    plant(
        "mode_alpha", good("see-through.png", "cat"), encoded(picture(106).convert("RGBA"), "PNG")
    )
    frames = encoded(picture(107), "GIF", save_all=True, append_images=[picture(108)])
    plant("animated", good("moves.gif", "cat"), frames)
    plant("exif_turned", good("turned.jpg", "dog"), turned_jpeg(109, 6))
    upright = ("conflict.jpg", "dog", 10, 10, 30, 40, SIZE[1], SIZE[0])
    plant("exif_turned exif_conflict", upright, turned_jpeg(110, 6))
    plant(
        "size_mismatch",
        ("scaled.png", "dog", 10, 10, 80, 60, 120, 80),
        encoded(picture(111), "PNG"),
    )

    def box(kind: str, *sides: object) -> None:
        seed = 120 + len(train)
        plant(kind, (f"box{seed}.png", "dog", *sides, *SIZE), encoded(picture(seed), "PNG"))

    box("not_finite", 10, "nan", 40, 30)
    box("inverted", 40, 10, 10, 30)
    box("zero_area", 10, 20, 40, 20)
    box("outside_image", 10, 10, 90, 30)
    box("box_overhang", 10, 10, 60.5, 30)
    box("box_tiny", 10, 10, 13, 30)
    box("box_full_frame", 0, 0, 60, 40)
    plant("class_spelling", good("capital.png", "Cat"), encoded(picture(130), "PNG"))
    plant("duplicate_image", good("copy of c0.png", "cat"), images["c0.png"])
    plant("duplicate_image duplicate_conflict", good("copy of c1.png", "dog"), images["c1.png"])
    far = ("copy of c2.png", "cat", 45, 31, 59, 39, *SIZE)
    plant("duplicate_image duplicate_boxes_differ", far, images["c2.png"])
    similar = Image.open(BytesIO(images["c3.png"]))
    plant("near_duplicate", good("like c3.jpg", "cat"), encoded(similar, "JPEG", quality=92))
    plant("several_boxes", good("two.png", "cat"), encoded(picture(131), "PNG"))
    plant("", ("two.png", "cat", 41, 31, 59, 39, *SIZE))
    plant("duplicate_row", good("c4.png", "cat"))
    plant("outside", good("../../elsewhere.png", "cat"))
    plant("columns", ("c5.png", "cat", 1, 2))
    plant("number", ("c5.png", "cat", "left", 10, 40, 30, *SIZE))
    images["orphan.png"] = encoded(picture(132), "PNG")
    expected.append(("orphan_image", "images/orphan.png", 0))
    test = [good(f"t{n}.png", label) for n, label in enumerate(("cat", "dog") * 2)]
    images |= {f"t{n}.png": encoded(picture(200 + n), "PNG") for n in range(4)}
    test += [good("copy of d0.png", "dog"), good("bird.png", "bird")]
    images |= {"copy of d0.png": images["d0.png"], "bird.png": encoded(picture(210), "PNG")}
    expected += [("duplicate_across_splits", "test.csv", 5), ("class_unknown", "test.csv", 6)]
    # Of the data set as a whole: "Cat" makes a class of one, and deep.png is the grey one.
    # Two pictures are turned, and each declares the size of one view: the first one's counts.
    of_all = ("class_imbalance", "class_rare", "mixed_channels", "exif_decided")
    expected += [(kind, "", 0) for kind in of_all]
    write_set(root, images, {"train.csv": train, "test.csv": test})
    return root, expected


def config_file(root: Path, *, more: str = "") -> Path:
    columns = ", ".join(COLUMNS)
    splits = ", ".join(
        f"{split}: {{csv: {entry['csv']}, images: {entry['images']}}}"
        for split, entry in SPLITS.items()
    )
    text = (
        f"data:\n  image_size: 32\n  source:\n    format: csv\n    path: {json.dumps(str(root))}\n"
        f"    csv: {{units: pixel, columns: [{columns}], splits: {{{splits}}}}}\n{more}"
    )
    path = root.parent / "check me.yaml"
    path.write_text(text, encoding="utf-8")
    return path


GROUPED = (*COLUMNS, "group")


def grouped_set(root: Path) -> Annotations:
    """Six images: group "a" in train and test, "b" in train alone, two images without one."""
    images = {f"{n}.png": encoded(picture(n), "PNG") for n in range(6)}
    groups = ["a", "b", "b", "", "a", ""]
    rows = [(*good(f"{n}.png", "cat"), group) for n, group in enumerate(groups)]
    write_set(root, images, {"train.csv": rows[:4], "test.csv": rows[4:]})
    return read_csv(str(root), splits=SPLITS, columns=GROUPED, units="pixel")
