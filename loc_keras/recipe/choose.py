"""Which settings a data set and a device call for: a pure function from measured facts."""

import math
from collections.abc import Mapping
from typing import Any

from loc_keras.recipe import numbers
from loc_keras.recipe.chooser import Chooser, step_of
from loc_keras.recipe.facts import Choice, Facts
from loc_keras.recipe.training import choose_training

_MOST_SHOWN = 5


def choose(
    facts: Facts, *, minutes: float = numbers.BUDGET_MINUTES, asked: Mapping[str, Any] | None = None
) -> tuple[list[Choice], list[str]]:
    """Chooses settings for a data set.

    Args:
        facts: What was measured.
        minutes: Time that training may take, about.
        asked: Settings that are given, by key; the others are chosen to go with them.

    Returns:
        The choices, each key once, and notes for the user.
    """
    chooser = Chooser(asked or {})
    policy_why = f"{facts.several:,} of {facts.annotated:,} images show several objects"
    chooser.pick("data.source.several", facts.policy, policy_why)
    _splits(facts, chooser)
    side = _pictures(facts, chooser)
    width = _body(facts, chooser)
    tuned = fine_tuning(facts)
    _augment(facts, chooser)
    notes = choose_training(
        facts,
        chooser,
        tuned,
        count=train_images(facts),
        minutes=minutes,
        side=side,
        width=width,
    )
    return chooser.choices, [
        *_class_notes(facts),
        *_held_notes(facts),
        *_weights_notes(facts),
        *notes,
    ]


def held_fraction(facts: Facts) -> float:
    """Fraction for each missing split: more of small sets, and one image a class where it goes."""
    fraction = step_of(numbers.HELD_BACK, facts.images)
    needed = math.ceil(1000 * len(facts.classes) / facts.images) / 1000
    return min(max(fraction, needed), numbers.MOST_HELD_BACK)


def train_images(facts: Facts) -> int:
    """Pictures left for training when the missing splits are cut off, about."""
    missing = sum(name not in facts.given for name in ("val", "test"))
    held = missing * held_fraction(facts) + calibration_fraction(facts)
    return max(1, round(facts.images * (1 - held)))


def calibration_fraction(facts: Facts) -> float:
    """Fraction on which trust in single answers is fitted; 0 for small sets."""
    return numbers.CALIBRATION if facts.images >= numbers.CALIBRATION_FROM else 0.0


def several_policy(several: int, annotated: int) -> str:
    """What to do with images of several objects: leave them out, or cut each object out."""
    return "crop" if several > numbers.SEVERAL_SHARE * annotated else "skip"


def fine_tuning(facts: Facts) -> dict[str, Any]:
    """Settings that differ when a training starts from given weights.

    Args:
        facts: What was measured; `weights` is None for a start from random weights.

    Returns:
        Values by key; empty for random weights.
    """
    if not facts.pretrained:
        return {}
    return dict(numbers.FINE_TUNING_RUN if facts.body else numbers.FINE_TUNING)


def _splits(facts: Facts, chooser: Chooser) -> None:
    fraction = held_fraction(facts)
    for name, word in (("val", "validation"), ("test", "test")):
        if name not in facts.given:
            count = round(fraction * facts.images)
            chooser.pick(
                f"data.split.{name}", fraction, f"{count:,} of {facts.images:,} images for {word}"
            )
    if calibration := calibration_fraction(facts):
        count = round(calibration * facts.images)
        words = f"{count:,} of {facts.images:,} images, on which trust in single answers is fitted"
        chooser.pick("data.split.calibration", calibration, words)


def _pictures(facts: Facts, chooser: Chooser) -> float:
    size = chooser.pick("data.image_size", *_image_size(facts))
    unequal = facts.spread > numbers.LETTERBOX_SPREAD
    chooser.pick(
        "data.resize",
        "letterbox" if unequal else "stretch",
        f"shapes differ {facts.spread:.2f} times"
        + (", so that stretching would distort them unequally" if unequal else ""),
    )
    grey = facts.grey and not facts.pretrained
    why = "all pictures are grey" if grey else "colour"
    if facts.grey and not grey:
        why = "pretrained weights take colour"
    channels = chooser.pick("data.channels", 1 if grey else 3, why)
    sides = (size, size) if isinstance(size, int) else size
    # With null the pictures keep the size of the first one.
    area = math.prod(sides) if sides else facts.side**2
    total = area * (channels or 3) * (facts.images + sum(facts.given.values())) / 2**20
    chooser.pick("data.cache", "auto", f"decoded pictures take {total:,.0f} MiB")
    return math.sqrt(area)


def _image_size(facts: Facts) -> tuple[int, str]:
    least, usual, most = numbers.SIZES[facts.device]
    native = round(facts.side)
    wanted = numbers.SMALL_OBJECT_PX / max(facts.small_side, 1e-6)
    size = max(usual, math.ceil(min(wanted, most) / numbers.SIDE_STEP) * numbers.SIDE_STEP)
    why = f"usual on a {facts.device.upper()}"
    if size > usual:
        why = (
            f"small objects have {facts.small_side:.0%} of the side and keep "
            f"{facts.small_side * min(size, most):.0f} px"
        )
    if size > most:
        size, why = most, f"{why}; the most on a {facts.device.upper()}"
    if native < size:
        size = max(native, least)
        why = "as the pictures" if size == native else f"the least; the pictures have {native} px"
    return size, why


def _body(facts: Facts, chooser: Chooser) -> int:
    width, why = numbers.WIDTHS[facts.device], f"for a {facts.device.upper()}"
    if facts.grey and not facts.gpus and not facts.pretrained:
        width, why = numbers.GREY_WIDTH, "grey pictures, on a CPU"
    body = dict(facts.body)
    if facts.pretrained:
        chooser.pick("model.backbone.weights", facts.weights, "asked for")
        body = body or dict(numbers.SHARED_BODY)
        width, why = body["width"], "that of the weights"
        for key in ("name", "stem"):
            chooser.pick(f"model.backbone.{key}", body[key], why)
    if not chooser.asks_for_other_body():
        width = chooser.pick("model.backbone.width", width, why)
    chooser.pick("model.dropout", numbers.DROPOUT, "against learning by heart")
    chooser.pick(
        "loss.distribution_weight", numbers.DISTRIBUTION_WEIGHT, "as in all measured recipes"
    )
    many = len(facts.classes) >= numbers.MANY_CLASSES
    chooser.pick(
        "loss.label_smoothing",
        numbers.MANY_LABEL_SMOOTHING if many else numbers.LABEL_SMOOTHING,
        f"{len(facts.classes)} classes",
    )
    return int(width)


def _augment(facts: Facts, chooser: Chooser) -> None:
    reason = _no_flip(facts.classes)
    chooser.pick("augment.flip", not reason, reason or "no class is told by its side")
    strength = "medium"
    if train_images(facts) < numbers.SMALL_SET:
        strength = "strong"
    elif train_images(facts) >= numbers.LARGE_SET:
        strength = "light"
    why = f"{strength}, for {train_images(facts):,} images"
    for name, value in numbers.AUGMENT[strength].items():
        if facts.grey and name in numbers.COLOUR_ONLY:
            continue
        if value:
            chooser.pick(f"augment.{name}", value, why)
    if numbers.AUGMENT[strength]["rotation"]:
        chooser.pick("augment.box_from", "ellipse", "boxes of turned objects stay tight")


def _no_flip(classes: Mapping[str, int]) -> str:
    """Why pictures must not be mirrored; `""` where they may."""
    for name in classes:
        words = "".join(sign if sign.isalpha() else " " for sign in name.lower()).split()
        if numbers.SIDE_WORDS & set(words):
            return f"class {name!r} is told by its side"
    if classes and all(len(name) <= 1 or name.isdigit() for name in classes):
        return "classes look like digits or letters"
    return ""


def _weights_notes(facts: Facts) -> list[str]:
    if facts.pretrained or facts.images >= numbers.PRETRAINED_HELPS:
        return []
    return [
        f"with fewer than {numbers.PRETRAINED_HELPS:,} images pretrained weights help: --weights "
        "imagenet fetches them, --weights FILE or RUN takes those at hand."
    ]


def _held_notes(facts: Facts) -> list[str]:
    return [
        f"the data give {count:,} images for {split}: one more right or wrong moves its figures by "
        f"{1 / count:.0%}."
        for split, count in facts.given.items()
        if 0 < count < numbers.FEW_HELD_BACK
    ]


def _class_notes(facts: Facts) -> list[str]:
    rare = {name: count for name, count in facts.classes.items() if count < numbers.LEAST_A_CLASS}
    if not rare:
        return []
    shown = ", ".join(f"{name} ({count})" for name, count in list(rare.items())[:_MOST_SHOWN])
    more = ", ..." if len(rare) > _MOST_SHOWN else ""
    return [
        f"{len(rare)} of {len(facts.classes)} classes have fewer than {numbers.LEAST_A_CLASS} "
        f"images, one each to train, validate and test: {shown}{more}."
    ]
