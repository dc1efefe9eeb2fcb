"""A run's folder with a tiny model that no one trained, and image files of many kinds."""

import io
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.trust_examples import seen_by
from PIL import Image

import loc_keras
from loc_keras.atomic_file import file_sha256
from loc_keras.config.schema import TrustConfig
from loc_keras.data.formats.yolo_yaml import to_yaml
from loc_keras.models import assembly
from loc_keras.training.run_folder import NOVELTY_FILE, TRUST_FILE
from loc_keras.trust.fit import fit_statements
from loc_keras.trust.novelty import fit_novelty, statistics_over, write_novelty
from loc_keras.trust.shift import shift_reference
from loc_keras.trust.statements import (
    VERSION,
    Calibration,
    Trust,
    write_trust,
)

CLASSES = ["cat", "dog", "owl"]
LOUDER = 4
SIZE = (40, 56)  # Not square, so that exchanged axes show.


def photograph(seed, width=90, height=60):
    """Smooth colours and a bright rectangle: a picture unlike its mirror image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    x, y = rng.integers(0, width // 2), rng.integers(0, height // 2)
    picture.paste((255, 255, 0), (int(x), int(y), int(x) + width // 3, int(y) + height // 4))
    return picture


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def kinds():
    """The bytes of a file of each kind, by its name."""
    sixteen = np.random.default_rng(1).integers(0, 65536, (50, 70)).astype(np.uint16)
    return {
        "photo.jpg": encoded(photograph(0), "JPEG"),
        "large.jpg": encoded(photograph(1, 640, 400), "JPEG"),  # Decoded at a smaller size.
        "grey.jpg": encoded(photograph(2).convert("L"), "JPEG"),
        "turned6.jpg": encoded(photograph(3), "JPEG", exif=_turned(6)),
        "turned3.jpg": encoded(photograph(4, 500, 300), "JPEG", exif=_turned(3)),
        "turned5.png": encoded(photograph(5), "PNG", exif=_turned(5)),
        "tall.png": encoded(photograph(6, 30, 100), "PNG"),
        "alpha.png": encoded(photograph(7).convert("RGBA"), "PNG"),
        "palette.png": encoded(photograph(8).quantize(32), "PNG"),
        "sixteen.png": encoded(Image.fromarray(sixteen), "PNG"),
        "exact.png": encoded(photograph(9, SIZE[1], SIZE[0]), "PNG"),
        "still.gif": encoded(photograph(10), "GIF"),
        "plain.bmp": encoded(photograph(11), "BMP"),
        "lossy.webp": encoded(photograph(12), "WEBP"),
        "page.tif": encoded(photograph(13), "TIFF"),
    }


def write_run(folder, rule="stretch", background=None, path="."):
    """Writes a run's folder.

    Args:
        folder: To make.
        rule: How images are resized.
        background: Name of the class of images without an object.
        path: Folder with `test_data.csv`, on which the run can be evaluated.
    """
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        model = loc_keras.build_localizer(image_shape=(*SIZE, 3), num_classes=3, width=4)
    # Fresh heads answer nearly alike about all images; with loud ones a wrong pixel shows.
    for weight in model.trainable_variables:
        if weight.path.startswith(("softmax_logits", "bbox")) and "kernel" in weight.path:
            weight.assign(LOUDER * weight)
    model.save(folder / "best.keras")
    settings = {
        "data": {
            "source": {"format": "csv", "path": str(path), "background": background}
            | {"csv": {"units": "pixel"}, "class_names": CLASSES, "boxes_on": "stored"},
            "image_size": list(SIZE),
            "channels": 3,
            "resize": rule,
            "split": {"val": 0.0},
        },
        "model": {"backbone": {"width": 4}},
    }
    (folder / "config.yaml").write_text(to_yaml(settings), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return folder


def write_made_up_trust(folder):
    """Trust that was fitted to answers of another, imagined model."""
    seen = seen_by(np.random.default_rng(0))
    features = np.random.default_rng(1).normal(0, 1, (len(seen), 8))  # The model has eight.
    seen = replace(seen, outputs={**seen.outputs, "features": features.astype(np.float32)})
    digest = file_sha256(folder / "best.keras")
    base = Calibration("calibration", len(seen), len(seen), "data", digest, 0.9)
    statements = fit_statements(seen, TrustConfig(coverage=0.9), CLASSES)
    write_trust(folder / TRUST_FILE, Trust(VERSION, base, statements, shift_reference(seen)))


def write_novelty_of_photographs(folder):
    """Novelty fitted to the photographs of this module, p-values to others of them."""
    sides = SIZE[1], SIZE[0]
    pixels = np.stack([np.asarray(photograph(seed, *sides)) for seed in range(200, 260)])
    features = statistics_over([(pixels, None)])
    digest = file_sha256(folder / "best.keras")
    novelty = fit_novelty(
        features[:40], features[40:], level=0.04, split="val", model_sha256=digest
    )
    write_novelty(folder / NOVELTY_FILE, novelty)


def write_images(folder: Path):
    """Writes a file of each kind; gives their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in kinds().items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())
