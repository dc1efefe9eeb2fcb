"""The model card: what a model is, what it was made from and how well it does, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from loc_keras.models.origin import WeightsOrigin
from loc_keras.models.preprocessing import Preprocessing

CARD_FILE = "model_card.json"
"""Name of the card in a run folder, and below `assets.extra` in an exported version."""

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
    figures: Mapping[str, Mapping[str, float | int]],
    packages: Mapping[str, str | None],
    date: datetime,
    background: int | None = None,
    trust: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Puts together the card of a trained localizer.

    Args:
        name: Name of the run's config.
        class_names: Names of the classes by index.
        image_shape: (height, width, channels) that the model takes.
        resize: Rule by which pictures were brought to that size, in words.
        preprocessing: How the model normalises raw pixels inside itself.
        origin: Body, and where its first weights came from.
        images: Number of images in each split.
        fingerprint: SHA-256 of the labelled data and its splits, in hex.
        figures: What was measured, by split.
        packages: Versions of packages.
        date: When the card was written, with its time zone.
        background: Index of the class of images without an object; None where all show one.
        trust: What is promised of single answers, and how it was kept; None without trust.

    Returns:
        Nested dicts, lists, texts and numbers, ready for JSON.
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
        "outputs": {**OUTPUTS, **(TRUST_OUTPUTS if trust else {})},
        "preprocessing": {
            "resize": resize,
            "normalisation": "inside the model: (pixel - mean) / deviation",
            "mean": list(preprocessing.mean),
            "deviation": list(preprocessing.deviation),
            "reverse_channels": preprocessing.reverse_channels,
        },
        "body": origin.body,
        "weights": {key: value for key, value in asdict(origin).items() if key != "body"},
        "training_data": {"images": dict(images), "fingerprint": fingerprint},
        "figures": {split: dict(found) for split, found in figures.items()},
        "packages": dict(packages),
        **({"trust": dict(trust)} if trust else {}),
    }
