"""What an export is made of: the model with its card, and the folders of its versions."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from loc_keras.atomic_file import aside_of, remove_halves
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ExportError, ModelError, one_line
from loc_keras.models.body import Preprocessing, WeightsOrigin
from loc_keras.training.run_folder import CARD_FILE, read_json

EXTRA_FOLDER = "assets.extra"
"""TensorFlow keeps this folder of an exported version for files that come with a model."""

OUTPUTS = {
    "softmax": "float32 (N, classes): probability of each class, in the order of `classes`",
    "bbox": "float32 (N, 4): box (x1, y1, x2, y2), x to the right, y down, in fractions of the "
    "image side, 0..1, with x1 <= x2 and y1 <= y2",
}
"""What the outputs of every localizer mean."""

TRUST_OUTPUTS = {
    "softmax_calibrated": "float32 (N, classes): `softmax` at the fitted temperature",
    "p_iou50": "float32 (N,): probability that the box has an IoU of at least .5 with the true one",
    "box_outer": "float32 (N, 4): box that holds the true one with the promised probability",
    "box_inner": "float32 (N, 4): box that lies in the true one with the promised probability; all "
    "zero where it is empty",
    "label_set": "bool (N, classes): classes of which the true one is one with that probability",
}
"""What the further outputs of a localizer with trust mean."""

NOVELTY_OUTPUTS = {
    "novelty": "float32 (N,): p-value of the image being drawn as the training images were",
    "known": "bool (N,): whether it is no smaller than the level",
}
"""What the outputs of a localizer mean that was fitted to know unlike images."""

MAX_VERSION = 2**63 - 1  # TF Serving holds a version as an int64.

_NUMBER = re.compile(r"[1-9][0-9]*", re.ASCII)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained localizer and all that a server has to know beside it.

    Attributes:
        localizer: With the outputs `softmax` and `bbox`, and perhaps those of trust.
        samples: Encoded images (JPEG, PNG, GIF, BMP), at least one, on which the copy must agree
            with the model, and which warm a server up.
        texts: Further files to come with the model, by name.
    """

    localizer: keras.Model
    class_names: Sequence[str]
    form: ImageFormat
    samples: Sequence[bytes]
    card: Mapping[str, Any] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


def model_card(
    *,
    name: str,
    class_names: Sequence[str],
    image_shape: tuple[int, int, int],
    resize: str,
    preprocessing: Preprocessing,
    origin: WeightsOrigin,
    images: Mapping[str, int],
    fingerprint: str,
    test_fingerprint: str = "",
    figures: Mapping[str, Mapping[str, float | int]],
    packages: Mapping[str, str | None],
    date: datetime,
    background: int | None = None,
    trust: Mapping[str, Any] | None = None,
    novelty: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Puts together the card of a trained localizer, ready for JSON.

    `image_shape` is (height, width, channels), `images` counts those of each split. The
    fingerprints are SHA-256 in hex, of the labelled data and its splits and of the test images
    alone, "" without them. `figures` are by split; `date` has its time zone. `trust` is what is
    promised of single answers, and how it was kept; `novelty` on what it was fitted, and how often
    it flags own images.
    """
    height, width, channels = image_shape
    return {
        "name": name,
        "date": date.isoformat(timespec="seconds"),
        "classes": list(class_names),
        **({} if background is None else {"background": class_names[background]}),
        "input": {
            "images": "raw pixels 0..255, any numeric type, (N, height, width, channels), RGB "
            "where there are three channels",
            "height": height,
            "width": width,
            "channels": channels,
        },
        "outputs": OUTPUTS
        | (TRUST_OUTPUTS if trust else {})
        | (NOVELTY_OUTPUTS if novelty else {}),
        "preprocessing": {
            "resize": resize,
            "normalisation": "inside the model: (pixel - mean) / deviation",
            "mean": list(preprocessing.mean),
            "deviation": list(preprocessing.deviation),
            "reverse_channels": preprocessing.reverse_channels,
        },
        "body": origin.body,
        "weights": {key: value for key, value in asdict(origin).items() if key != "body"},
        "training_data": {
            "images": dict(images),
            "fingerprint": fingerprint,
            "test_fingerprint": test_fingerprint,
        },
        "figures": {split: dict(found) for split, found in figures.items()},
        "packages": dict(packages),
        **({"trust": dict(trust)} if trust else {}),
        **({"novelty": dict(novelty)} if novelty else {}),
    }


def parse_version(text: str) -> int:
    """A version that somebody wrote; ExportError if TF Serving would ignore or misread it."""
    if not _NUMBER.fullmatch(text) or int(text) > MAX_VERSION:
        raise ExportError(
            f"{text!r} is no version that TF Serving loads; give a whole number from 1 to "
            f"{MAX_VERSION}, without leading zeros."
        )
    return int(text)


def next_version(base: Path) -> int:
    """One more than the highest version in the folder; 1 where there is none."""
    if not base.is_dir():
        return 1
    # A name with leading zeros is a number to TF Serving, too.
    names = [child.name for child in base.iterdir()]
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    highest = max((number for number in numbers if number <= MAX_VERSION), default=0)
    if highest == MAX_VERSION:
        raise ExportError(f"{base} holds the highest version that there can be; give --version.")
    return highest + 1


def behind_served(card: Mapping[str, Any], base: Path) -> str | None:
    """Says that a model did worse than the newest version on the same test images, if it did.

    As when the best epoch is chosen, class accuracy times mean IoU decides. It is the start of a
    sentence.
    """
    newest = base / str(next_version(base) - 1)
    files = [*newest.glob(f"{EXTRA_FOLDER}/{CARD_FILE}"), *newest.glob(CARD_FILE)]
    served: Mapping[str, Any] = {}
    with suppress(ModelError):  # Of a damaged version, of which nothing is known.
        served = read_json(files[0]) if files else {}
    found = [one.get("figures", {}).get("test") for one in (card, served)]
    if not _fingerprints(card) & _fingerprints(served) or not all(found):
        return None
    figures = [(one.get("softmax_accuracy", 1.0), one.get("bbox_iou", 0.0)) for one in found]
    own, other = (accuracy * iou for accuracy, iou in figures)
    if own >= other:
        return None
    words = [f"a class accuracy of {a:.2%} and a mean IoU of {iou:.4f}" for a, iou in figures]
    return (
        f"on the same {found[0]['images']:,} test images this model has {words[0]}, and {newest} "
        f"has {words[1]}"
    )


def _fingerprints(card: Mapping[str, Any]) -> set[tuple[str, str]]:
    """By what a card knows its test images; those of earlier versions know all data alone."""
    data = card.get("training_data", {})
    return {(key, data[key]) for key in ("fingerprint", "test_fingerprint") if data.get(key)}


def refuse_version(base: Path, version: int) -> None:
    """Raises ExportError for a version that is there already."""
    if (base / str(version)).exists():
        raise ExportError(
            f"{base / str(version)} exists and is never overwritten; give another --version, or "
            "none for the next one."
        )


@contextmanager
def folder_aside(base: Path) -> Iterator[Path]:
    """An empty folder beside the versions, removed at the end if it was not renamed into place.

    Two exports at once have two of them. Folders above it that were made for it go too, where they
    stay empty. ExportError where it, or what is written while it is open, cannot be written.
    """
    made: list[Path] = []
    try:
        made = [folder for folder in (base, *base.parents) if not folder.exists()]
        base.mkdir(parents=True, exist_ok=True)
        remove_halves(base)
        aside = aside_of(base / "version")
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise ExportError(
            f"the export cannot be written to {base} ({one_line(error.strerror or error)}); choose "
            "a folder that can be written, by --out or export.dir, or set export.enabled to false."
        ) from error
    finally:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


def put_in_place(written: Path, base: Path, version: int | None) -> Path:
    """Renames a finished version to its number, None for the next; ExportError if it is there."""
    while True:
        number = next_version(base) if version is None else version
        refuse_version(base, number)
        try:
            return written.rename(base / str(number))
        except OSError:
            # Another export may have taken the number since it was looked for.
            if not (base / str(number)).exists():
                raise
