"""Made photographs for the benchmark of the input pipeline."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from loc_keras.data.records import Records

COUNT = 256


@dataclass(frozen=True)
class Kind:
    """Files of one sort.

    Attributes:
        side: Height and width of the files.
        target: Height and width for the model.
        format: Pillow's name of the file format.
        grain: Deviation of the finest noise. With 20, a JPEG file of quality 92 takes 4 bits a
            pixel; photographs of 500 px in public data sets take 4 to 5.
    """

    side: int
    target: tuple[int, int]
    format: str
    grain: float = 20.0


KINDS = {
    "100 px PNG": Kind(100, (100, 100), "PNG"),
    "64 px JPEG": Kind(64, (64, 64), "JPEG"),
    "500 px JPEG": Kind(500, (224, 224), "JPEG"),
}


def write_images(folder: Path, kind: Kind, count: int = COUNT) -> tuple[Records, int]:
    """Writes photograph-like images, each with one object.

    Returns:
        Their records, and the mean size of the files in bytes.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    boxes, sizes = np.zeros((count, 4), np.float32), []
    for index in range(count):
        image, boxes[index] = photograph(rng, kind)
        buffer = io.BytesIO()
        image.save(buffer, kind.format, quality=92)
        (folder / f"{index}.img").write_bytes(buffer.getvalue())
        sizes.append(len(buffer.getvalue()))
    names = np.array([f"{index}.img" for index in range(count)])
    records = Records(
        paths=np.array([str(folder / name) for name in names]),
        offsets=np.zeros(count, np.int64),
        lengths=np.full(count, -1, np.int64),
        orientations=np.ones(count, np.uint8),
        windows=np.zeros((count, 4), np.int32),
        sizes=np.full((count, 2), kind.side, np.int32),
        labels=(np.arange(count) % 10).astype(np.int32),
        boxes=boxes,
        names=names,
        files=np.full(count, "made"),
        rows=np.arange(1, count + 1),
        groups=np.full(count, ""),
        class_names=[str(label) for label in range(10)],
    )
    return records, int(np.mean(sizes))


def photograph(rng: np.random.Generator, kind: Kind) -> tuple[Image.Image, np.ndarray]:
    """Noise of four scales with an ellipse on it, and the ellipse's box in fractions."""
    side = kind.side
    pixels = np.full((side, side, 3), 120.0)
    for cells, deviation in ((4, 60.0), (16, 35.0), (64, 20.0), (side, kind.grain)):
        pixels += deviation * _noise(rng, min(cells, side), side)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    low = rng.uniform(0.1, 0.4, 2)
    box = np.concatenate([low, low + rng.uniform(0.2, 0.5, 2)])
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    ImageDraw.Draw(image).ellipse([float(value) for value in box * side], fill=colour)
    return image, box.astype(np.float32)


def _noise(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise (side, side, 3), mostly the same in all colours, as light is."""
    light = rng.normal(size=(cells, cells, 1)).clip(-2, 2)
    colour = rng.normal(size=(cells, cells, 3)).clip(-2, 2)
    planes = (0.9 * light + 0.3 * colour).astype(np.float32)
    grown = [
        np.asarray(Image.fromarray(planes[..., i]).resize((side, side), Image.Resampling.BICUBIC))
        for i in range(3)
    ]
    return np.stack(grown, axis=-1)
