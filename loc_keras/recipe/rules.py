"""Which settings a data set and a device call for: a pure function from measured facts.

`choose` is the whole recipe. All its numbers are the constants below; what they rest on is in
`docs/experiments.md`, and what was not measured says so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SMALL_SET = 1_000
"""Training images below which a set is small: much is held back, and augmentation is strong."""

LARGE_SET = 20_000  # Training images from which on augmentation is light.

HELD_BACK = ((1_000, 0.15), (10_000, 0.1), (math.inf, 0.05))
"""Fraction for each missing split, for sets below so many images."""

MOST_HELD_BACK = 0.3
FEW_HELD_BACK = 50
"""Images of a given split below which its figures swing much."""

CALIBRATION, CALIBRATION_FROM = 0.1, 400
"""Fraction on which trust is fitted, for sets of so many images and more: with 40 of them what is
promised of 90 % of images is kept for 90 % give or take 5; smaller sets need them to train on."""

CROSS_FROM = 20  # Training images from which on trust is fitted without holding any back.

FOLDS, LEAST_FOLDS, FOLD_LENGTH = 5, 3, 0.3
"""Models, each trained without a part of the images, and how long, as a share of the epochs: the
model that is kept gets two fifths of the time. Classes of fewer images than `LEAST_FOLDS` cannot be
cross-validated."""

FOLDS_BELOW = 2_000  # Images below which folds measure, and none are held back.

LEAST_A_CLASS = 3  # Images that a class needs: one each to train, validate and test.
SEVERAL_SHARE = 0.1  # Share of images with several objects from which on each object is cut out.

SIZES = {"cpu": (64, 128, 160), "gpu": (64, 224, 320)}
"""Smallest, usual and largest side of the model's input in px."""

SMALL_OBJECT_PX = 16  # Least height or width that a small object should keep in the model's input.

SIDE_STEP = 32
LETTERBOX_SPREAD = 1.5
"""Ratio of wide to narrow pictures (90th to 10th percentile of width by height) that stretching
would distort too unequally."""

WIDTHS = {"cpu": 32, "gpu": 64}
GREY_WIDTH = 16
"""Width of the body for grey pictures on a CPU, as for digits."""

BATCHES = ((500, 16), (3_000, 64), (math.inf, 128))  # Images a step, for sets below so many images.
LEARNING_RATES = ((16, 0.001), (64, 0.002), (math.inf, 0.004))  # Learning rate up to a batch size.
EPOCH_IMAGES = 448  # Least images that count as an epoch: fewer would pause too often to validate.

EPOCHS = (5, 100)
WARMUP_EPOCHS = 3
WARMUP_SHARE = 0.1
EMA_EPOCHS = 4
"""Epochs that the moving average of the weights spans, or a tenth of the training."""

LEAST_STEPS = 20  # Of an epoch that is cut to a part of the images.
EMA_STEPS = (10, 2_000)  # Fewest and most steps that it spans.
CHECKPOINT_SECONDS = 60  # Most time, about, that an interruption should cost.

BUDGET_MINUTES = 10
DROPOUT = 0.3
WEIGHT_DECAY = 0.05
DISTRIBUTION_WEIGHT = 0.25
LABEL_SMOOTHING = 0.05
MANY_CLASSES = 20
MANY_LABEL_SMOOTHING = 0.1

AUGMENT: dict[str, dict[str, float]] = {
    "strong": {
        **{"translate": 0.15, "scale": 0.3, "aspect": 0.2, "rotation": 10.0, "crop": 0.4},
        **{"brightness": 0.2, "contrast": 0.3, "saturation": 0.3, "hue": 0.02},
    },
    "medium": {
        **{"translate": 0.15, "scale": 0.3, "aspect": 0.2, "rotation": 0.0, "crop": 0.0},
        **{"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.02},
    },
    "light": {
        **{"translate": 0.1, "scale": 0.2, "aspect": 0.1, "rotation": 0.0, "crop": 0.0},
        **{"brightness": 0.1, "contrast": 0.2, "saturation": 0.2, "hue": 0.0},
    },
}
COLOUR_ONLY = ("saturation", "hue")
SIDE_WORDS = frozenset({"left", "right"})

# Two CPU cores, default heads, 100 px, width 32, bfloat16: 246 images/s. Smaller pictures cost less
# in the body, but the heads cost the same; the shares fit the times of the four photograph configs.
HEAD_SECONDS = 0.001
BODY_SECONDS = 0.0031
MEASURED_SIDE = 100
MEASURED_CORES = 2
MOST_CORES = 16
"""Cores that a step of this size can still use."""

WIDTH_FACTORS = {16: 0.49, 32: 1.0, 64: 2.7}  # Time by width, in bfloat16.

AVX2_FACTOR = 1.65
"""Time on two cores with 256-bit vectors: 201 images/s at 64 px, width 32, batch 128, float32."""

FLOAT32_FACTORS = {16: 1.05, 32: 1.33, 64: 1.48}
BATCH_FACTORS = ((32, 2.0), (64, 1.6), (10**9, 1.3))
"""Overhead of validation and of small steps, below a batch size."""

AROUND_SECONDS = 60.0
"""Of a command beside its epochs: imports, reading, tracing, figures, the export and its check."""

FOLDS_SECONDS, FOLD_SECONDS = 60.0, 12.0
"""Of all folds together beside their epochs, most for an export that holds their models, and of
each. All three go by the parts of one run on two cores."""

MINUTES_FOR_FOLDS = math.ceil(2 * (AROUND_SECONDS + FOLDS_SECONDS + FOLDS * FOLD_SECONDS) / 60)
"""From which on these take half the time or less, and folds are cut."""

GPU_IMAGES = 1_000.0
"""Images a second on a GPU at 224 px and width 64: a guess, nothing was measured."""

GPU_SIDE = 224
GPU_MOST = 5_000.0

SHARED_BODY: dict[str, Any] = {"name": "resnet18", "width": 64, "stem": "imagenet"}
"""The body that ImageNet weights, and files of weights, are for."""

AUTO_BODIES = {
    "cpu": (("resnet18", "resnet34"), "applications/MobileNetV3Small"),
    "gpu": (("resnet50", "resnet34", "resnet18"), "applications/EfficientNetV2B0"),
}
"""Bodies whose ImageNet weights are taken where they can be had: those of files, of KerasHub for
the first, and the one that Keras itself offers. Chosen by their cost; not measured here."""

FINE_TUNING: dict[bool, dict[str, float]] = {
    False: {
        "train.learning_rate": 0.001,
        "train.fine_tune.body_rate": 0.3,
        "train.fine_tune.layer_decay": 0.7,
    },
    True: {"train.learning_rate": 0.001},
}
"""What differs when a training starts from weights of ImageNet (False: customary, not measured
here), or from an earlier run: one rate for all from the first step. A body that has seen some
thousand photographs gained nothing from lower ones (`docs/transfer.md`)."""

FREEZE_SHARE = 0.125  # Share of the epochs in which only the heads learn; customary.

STEADY_BATCH = 16
"""Below this many images a step the statistics of batch normalisation stay as they came."""

_MOST_SHOWN = 5  # Classes that a note names.


@dataclass(frozen=True)
class Facts:
    """What is known before training.

    Attributes:
        images: Pictures that training may use, before missing splits are cut off; at least 1.
        classes: Pictures of each class by its name, in train.
        side: Median of the pictures' sides in px (the root of their area).
        spread: 90th percentile of width by height divided by the 10th, at least 1.
        small_side: 10th percentile of the boxes' shorter side, in fractions of the picture.
        given: Splits beside train that the data give, with their pictures.
        several: Images of several objects, for which `policy` is, of `annotated` that show any.
        avx512: Whether the CPU has 512-bit vectors; True where the system does not say.
        weights: Pretrained ones, `of_run` or of ImageNet; `body`: its `name`, `width` and `stem`.
    """

    images: int
    classes: Mapping[str, int]
    side: float
    spread: float = 1.0
    small_side: float = 0.25
    grey: bool = False
    given: Mapping[str, int] = field(default_factory=dict)
    several: int = 0
    annotated: int = 0
    policy: str = "skip"
    cores: int = 2
    gpus: tuple[str, ...] = ()
    bfloat16: bool = False
    avx512: bool = True
    weights: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    of_run: bool = False

    @property
    def device(self) -> str:
        """`"gpu"` or `"cpu"`."""
        return "gpu" if self.gpus else "cpu"

    @property
    def pretrained(self) -> bool:
        """Whether training starts from given weights."""
        return self.weights not in (None, "none")


class Choice(NamedTuple):
    """One setting: its key in the config, its value, and why."""

    key: str
    value: Any
    why: str


def choose(
    facts: Facts,
    *,
    minutes: float = BUDGET_MINUTES,
    asked: Mapping[str, Any] | None = None,
    to_train: bool = True,
) -> tuple[list[Choice], list[str]]:
    """Chooses settings for a data set that take about so many minutes, to go with those `asked`.

    Gives the choices, each key once, and notes for the user, on the training only where one comes.
    """
    chooser = Chooser(asked or {})
    policy_why = f"{facts.several:,} of {facts.annotated:,} images show several objects"
    chooser.pick("data.source.several", facts.policy, policy_why)
    _splits(facts, chooser, minutes)
    side = _pictures(facts, chooser)
    width = _body(facts, chooser)
    _augment(facts, chooser)
    notes = _training(facts, chooser, minutes=minutes, side=side, width=width)
    of_training = notes if to_train else []
    return chooser.choices, [*_class_notes(facts, chooser), *_held_notes(facts), *of_training]


def held_fraction(facts: Facts) -> float:
    """Fraction for each missing split: more of small sets, and one image a class where it goes."""
    fraction = _step_of(HELD_BACK, facts.images)
    needed = math.ceil(1000 * len(facts.classes) / facts.images) / 1000
    return min(max(fraction, needed), MOST_HELD_BACK)


def calibration_fraction(facts: Facts) -> float:
    """Fraction on which trust in single answers is fitted; 0 for small sets."""
    return CALIBRATION if facts.images >= CALIBRATION_FROM else 0.0


def fold_count(facts: Facts) -> int:
    """Folds that measure in place of splits which would be cut off; 0 where splits do.

    A class has an image in every fold.
    """
    least = min((count for count in facts.classes.values() if count), default=0)
    missing = {"val", "test"} - set(facts.given)
    return (
        min(FOLDS, least) if missing and facts.images < FOLDS_BELOW and least >= LEAST_FOLDS else 0
    )


def train_images(facts: Facts, folds: int = 0) -> int:
    """Pictures left for training when the missing splits, if not measured by folds, are cut off."""
    if folds:
        return facts.images
    missing = sum(name not in facts.given for name in ("val", "test"))
    held = missing * held_fraction(facts) + calibration_fraction(facts)
    return max(1, round(facts.images * (1 - held)))


def multi_object_policy(several: int, annotated: int) -> str:
    """What to do with images of several objects: leave them out, or cut each object out."""
    return "crop" if several > SEVERAL_SHARE * annotated else "skip"


def fine_tuning(facts: Facts) -> dict[str, Any]:
    """Settings by key that differ when a training starts from given weights; else none."""
    return dict(FINE_TUNING[facts.of_run]) if facts.pretrained else {}


class Cost(NamedTuple):
    """What decides how long an image takes: side of the input in px, width, images a step, device.

    `halves` tells that the body computes in 16 bits, `avx512` that the CPU has 512-bit vectors, as
    the measured one had.
    """

    side: float
    width: int
    batch: int
    halves: bool = False
    cores: int = MEASURED_CORES
    gpu: bool = False
    avx512: bool = True


def images_a_second(cost: Cost) -> float:
    """Training images a second, validation included, about."""
    if cost.gpu:
        area = (cost.side / GPU_SIDE) ** 2 * (cost.width / 64)
        return min(GPU_MOST, GPU_IMAGES / area)
    seconds = HEAD_SECONDS + BODY_SECONDS * (cost.side / MEASURED_SIDE) ** 2
    seconds *= _near(WIDTH_FACTORS, cost.width)
    if not cost.halves:
        seconds *= _near(FLOAT32_FACTORS, cost.width)
    if not cost.avx512:
        seconds *= AVX2_FACTOR
    seconds *= next(factor for limit, factor in BATCH_FACTORS if cost.batch < limit)
    return min(cost.cores, MOST_CORES) / MEASURED_CORES / seconds


class Chooser:
    """Collects choices; what the user asked for goes before what is recommended."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.choices: list[Choice] = []
        self._asked = asked

    def pick(self, key: str, value: Any, why: str) -> Any:
        """Adds a choice and gives the value in force."""
        if key in self._asked:
            value, why = self._asked[key], "asked for"
        self.choices.append(Choice(key, value, why))
        return value

    def asked(self, key: str, otherwise: Any) -> Any:
        """What the user asked for."""
        return self._asked.get(key, otherwise)

    def value(self, key: str, otherwise: Any) -> Any:
        """What was picked for a key."""
        return next((one.value for one in self.choices if one.key == key), otherwise)


def _splits(facts: Facts, chooser: Chooser, minutes: float) -> None:
    fits = minutes >= MINUTES_FOR_FOLDS
    folds = chooser.asked("train.folds", fold_count(facts) if fits else 0)
    if folds:
        words = "models, each trained without a part of the images, measure; all images train"
        chooser.pick("train.folds", folds, words)
        method = "cross" if facts.images >= CROSS_FROM else "split"
        chooser.pick(
            "trust.method", method, "by the same models" if method == "cross" else "few images"
        )
        chooser.pick("trust.fold_length", FOLD_LENGTH, f"of the epochs for each of the {folds}")
        return
    fraction = held_fraction(facts)
    for name, word in (("val", "validation"), ("test", "test")):
        if name not in facts.given:
            count = round(fraction * facts.images)
            chooser.pick(
                f"data.split.{name}", fraction, f"{count:,} of {facts.images:,} images for {word}"
            )
    calibration = calibration_fraction(facts)
    usual = "split" if calibration or not fits else "cross"
    method = chooser.asked("trust.method", usual)
    if method == "cross" and not chooser.asked("data.split.calibration", 0):
        _cross(facts, chooser)
    elif calibration:
        count = round(calibration * facts.images)
        words = f"{count:,} of {facts.images:,} images, on which trust in single answers is fitted"
        chooser.pick("data.split.calibration", calibration, words)


def _cross(facts: Facts, chooser: Chooser) -> None:
    count = train_images(facts)
    if count < CROSS_FROM:
        return
    words = f"{count:,} training images, too few to hold any back for trust in single answers"
    chooser.pick("trust.method", "cross", words)
    folds = chooser.pick("trust.folds", FOLDS, "models, each trained without a part of the images")
    chooser.pick("trust.fold_length", FOLD_LENGTH, f"of the epochs for each of the {folds}")


def _pictures(facts: Facts, chooser: Chooser) -> float:
    size = chooser.pick("data.image_size", *_image_size(facts))
    resize, why = "stretch", f"shapes differ {facts.spread:.2f} times"
    if facts.spread > LETTERBOX_SPREAD:
        resize, why = "letterbox", f"{why}, so that stretching would distort them unequally"
    chooser.pick("data.resize", resize, why)
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
    least, usual, most = SIZES[facts.device]
    native = round(facts.side)
    wanted = SMALL_OBJECT_PX / max(facts.small_side, 1e-6)
    size = max(usual, math.ceil(min(wanted, most) / SIDE_STEP) * SIDE_STEP)
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
    width, why = WIDTHS[facts.device], f"for a {facts.device.upper()}"
    if facts.grey and not facts.gpus and not facts.pretrained:
        width, why = GREY_WIDTH, "grey pictures, on a CPU"
    body = dict(facts.body)
    if facts.pretrained:
        chooser.pick("model.backbone.weights", facts.weights, "at hand")
        body = body or dict(SHARED_BODY)
        width, why = body.pop("width", width), "that of the weights"
        for key, value in body.items():
            chooser.pick(f"model.backbone.{key}", value, why)
    name = chooser.asked("model.backbone.name", body.get("name", ""))
    if "/" not in str(name):  # Others than our ResNets.
        width = chooser.pick("model.backbone.width", width, why)
    chooser.pick("model.dropout", DROPOUT, "against overfitting")
    chooser.pick("loss.distribution_weight", DISTRIBUTION_WEIGHT, "as in all measured recipes")
    classes = len(facts.classes)
    smoothing = MANY_LABEL_SMOOTHING if classes >= MANY_CLASSES else LABEL_SMOOTHING
    chooser.pick("loss.label_smoothing", smoothing, f"{classes} classes")
    return int(width)


def _augment(facts: Facts, chooser: Chooser) -> None:
    reason = _no_flip(facts.classes)
    chooser.pick("augment.flip", not reason, reason or "no class depends on left or right")
    count = train_images(facts, chooser.value("train.folds", 0))
    strength = "strong" if count < SMALL_SET else "light" if count >= LARGE_SET else "medium"
    for name, value in AUGMENT[strength].items():
        if value and not (facts.grey and name in COLOUR_ONLY):
            chooser.pick(f"augment.{name}", value, f"{strength}, for {count:,} images")
    if AUGMENT[strength]["rotation"]:
        chooser.pick("augment.box_from", "ellipse", "boxes of turned objects stay tight")


def _no_flip(classes: Mapping[str, int]) -> str:
    """Why pictures must not be mirrored; `""` where they may."""
    for name in classes:
        words = "".join(sign if sign.isalpha() else " " for sign in name.lower()).split()
        if SIDE_WORDS & set(words):
            return f"class {name!r} depends on left or right"
    if classes and all(len(name) <= 1 or name.isdigit() for name in classes):
        return "classes look like digits or letters"
    return ""


def _training(
    facts: Facts, chooser: Chooser, *, minutes: float, side: float, width: int
) -> list[str]:
    folds = chooser.value("train.folds", 0)
    tuned, count = fine_tuning(facts), train_images(facts, folds)
    halves = facts.bfloat16 and not facts.gpus and width >= WIDTHS["cpu"]
    precision = chooser.pick(
        "train.precision", "auto", "bfloat16 on this CPU" if halves else "by device"
    )
    batch = chooser.pick(
        "train.batch_size", int(_step_of(BATCHES, count)), f"{count:,} training images"
    )
    rate = next(rate for most, rate in LEARNING_RATES if batch <= most)
    chooser.pick("train.learning_rate", tuned.get("train.learning_rate", rate), f"batch of {batch}")
    decay = tuned.get("train.weight_decay", WEIGHT_DECAY)
    chooser.pick("train.weight_decay", decay, "as in all measured recipes")
    if precision != "auto":
        halves = precision.endswith("16")
    gpu = bool(facts.gpus)
    speed = images_a_second(Cost(side, width, batch, halves, facts.cores, gpu, facts.avx512))
    # Of all trainings, in lengths of the one whose model is kept, and what goes on around them.
    lengths, around = 1.0, AROUND_SECONDS
    folds = folds or chooser.value("trust.folds", 0)
    if folds:
        lengths += folds * chooser.value("trust.fold_length", 0)
        around += FOLDS_SECONDS + folds * FOLD_SECONDS
    affordable = max(0.0, minutes * 60 - around) * speed / (batch * lengths)  # Steps.
    fewest, most = EPOCHS
    passes = max(1, count // batch)
    least = math.ceil(EPOCH_IMAGES / batch)
    given, why = None, "one pass over the images"
    if passes < least:
        given, why = least, f"some {least * batch / count:.0f} passes, for fewer pauses"
    if fewest * LEAST_STEPS < affordable < fewest * (given or passes):
        given, why = int(affordable / fewest), f"a part of a pass, so that {fewest} epochs fit"
    steps = chooser.pick("train.steps_per_epoch", given, why) or passes
    epoch = steps * batch / speed
    between = max(1, round(CHECKPOINT_SECONDS * speed / batch))
    given, why = None, "an epoch takes less than a minute"
    if between < steps:
        given, why = between, "an interruption costs a minute at most, about"
    chooser.pick("train.checkpoint_every_steps", given, why)
    wanted = min(max(math.floor(affordable / steps), fewest), most)
    guess = "a guess, as no GPU was measured" if facts.gpus else "estimated"
    epochs = chooser.pick(
        "train.epochs", wanted, f"{minutes:g} min at some {speed:,.0f} images/s ({guess})"
    )
    if tuned:
        _fine_tune(chooser, tuned, epochs, batch)
    warmup = round(min(WARMUP_EPOCHS, max(1.0, WARMUP_SHARE * epochs), epochs), 2)
    chooser.pick("train.warmup_epochs", warmup, "a tenth, 1 to 3")
    shortest, longest = EMA_STEPS
    window = min(max(min(EMA_EPOCHS * steps, epochs * steps // 10), shortest), longest)
    chooser.pick("train.ema", round(1 - 1 / window, 4), f"averages over some {window:,} steps")
    chooser.pick("train.seed", 0, "the start of every random draw")
    taken = (epochs * epoch * lengths + around) / 60
    notes = [f"import to export will take some {taken:.1f} min ({guess})."]
    if fold_count(facts) and minutes < MINUTES_FOR_FOLDS:
        notes.append(
            "some images are held back to measure, since cross-validation, which needs none, takes "
            f"--minutes {MINUTES_FOR_FOLDS} or more."
        )
    if taken > minutes * 1.1:
        notes.append(f"{epochs} epochs take longer than the {minutes:g} min of --minutes.")
    return notes


def _fine_tune(chooser: Chooser, tuned: Mapping[str, Any], epochs: int, batch: int) -> None:
    slower = {key: value for key, value in tuned.items() if key.startswith("train.fine_tune.")}
    if slower:
        rest = round(FREEZE_SHARE * epochs)
        chooser.pick("train.fine_tune.freeze_epochs", rest, "the heads learn alone first")
    for key, value in slower.items():
        chooser.pick(key, value, "slower towards the pixels")
    frozen = batch < STEADY_BATCH
    chooser.pick(
        "train.fine_tune.batch_norm",
        "frozen" if frozen else "train",
        f"batches of {batch} are {'too small' if frozen else 'large enough'} for its statistics",
    )


def _held_notes(facts: Facts) -> list[str]:
    return [
        f"the data give {count:,} images for {split}: one more right or wrong moves its figures by "
        f"{1 / count:.0%}."
        for split, count in facts.given.items()
        if 0 < count < FEW_HELD_BACK
    ]


def _class_notes(facts: Facts, chooser: Chooser) -> list[str]:
    rare = {name: count for name, count in facts.classes.items() if count < LEAST_A_CLASS}
    if not rare:
        return []
    shown = ", ".join(f"{name} ({count})" for name, count in list(rare.items())[:_MOST_SHOWN])
    more = ", ..." if len(rare) > _MOST_SHOWN else ""
    instead = " in place of folds" * (not chooser.value("train.folds", 0))
    return [
        f"{len(rare)} of {len(facts.classes)} classes have fewer than {LEAST_A_CLASS} "
        f"images, one each to train, validate and test{instead}: {shown}{more}."
    ]


def _near(factors: dict[int, float], width: int) -> float:
    """The factor of the nearest width that was measured; beyond them it grows with the width."""
    nearest = min(factors, key=lambda one: abs(one - width))
    return factors[nearest] * (max(1.0, width / nearest))


def _step_of(table: tuple[tuple[float, float], ...], value: float) -> float:
    """The entry of the first row whose limit is above a value."""
    return next(entry for limit, entry in table if value < limit)
