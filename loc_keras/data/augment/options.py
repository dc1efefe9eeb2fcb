"""What augmentation may do to whole training images: the knobs, their ranges, their names."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import tensorflow as tf

from loc_keras.errors import DataError

FILLS = ("black", "mean", "edge", "reflect")
BOX_RULES = ("corners", "ellipse")

_LIMITS = {
    "translate": 1,
    "scale": 4,
    "aspect": 4,
    "rotation": 180,
    "shear": 1,
    "perspective": 0.4,
    "crop": 0.9,
    "crop_aspect": 1,
    "min_visible": 1,
    "cutout": 1,
    "cutout_size": 1,
    "cutout_hidden": 1,
    "brightness": 1,
    "contrast": 1,
    "gamma": 4,
    "saturation": 1,
    "hue": 0.5,
    "gray": 1,
    "sharpness": 1,
    "blur": 5,
    "auto_contrast": 1,
    "equalize": 1,
    "posterize": 1,
    "mixup": 100,
    "cutmix": 100,
    "mix_probability": 1,
}
_DIGIT_PREFIX = "digit_"
_DIGIT_KNOBS = ("rotation", "scale", "shear", "aspect")


@dataclass(frozen=True)
class ImageAugment:
    """Random changes to whole training images; all are off by default.

    "Log-uniform by k" is a factor from 1 / (1 + k) to 1 + k, uniform in its logarithm.

    Attributes:
        flip: Whether half of the images are mirrored left to right.
        flip_vertical: Whether half of the images are mirrored top to bottom.
        translate: Largest shift as a fraction of the side, either way, for each axis; 0..1.
        scale: Size about the centre, log-uniform by this; 0..4.
        aspect: Width over height, log-uniform by this, at unchanged area; 0..4.
        rotation: Largest turn about the centre in degrees, either way; 0..180.
        shear: Largest slant in px per px, either way, sideways and upright; 0..1.
        perspective: Largest tilt about each axis, either way: lengths at opposite borders are
            divided by 1 + this and 1 - this; 0..0.4.
        crop: Largest share of the picture's area that a random window leaves out; what it keeps
            fills the picture and holds at least `min_visible` of the box; 0..0.9.
        crop_aspect: Width over height of that window against the picture's, log-uniform by this;
            needs `crop`; 0..1.
        fill: What lies outside of the moved picture: `"black"`, `"mean"` (each picture's own mean
            colour), `"edge"` (its border pixels go on) or `"reflect"`.
        box_from: How the box follows: `"corners"` bounds its moved corners, `"ellipse"` its moved
            inscribed ellipse, which is tighter where pictures turn or slant.
        min_visible: Least share of the moved box's area inside the picture. Draws that keep less
            are drawn anew. From 0.5 on, the box's centre stays in the picture; 0..1.
        cutout: Probability that a rectangle, black or of the mean colour, covers a part of it.
        cutout_size: Largest side of that rectangle as a fraction of the picture's; 0..1.
        cutout_hidden: Largest share of the box that it may cover; 0..1.
        brightness: Largest value added to the pixels as a fraction of 255, either way.
        contrast: Largest relative change of the distance to the image's mean, either way.
        gamma: Exponent on the pixels' fractions of 255, log-uniform by this; 0..4.
        saturation: Largest relative change of the distance to grey, either way; colour only.
        hue: Largest turn of the colour circle as a fraction of a full turn, either way; 0..0.5;
            colour only.
        gray: Probability that an image loses its colours.
        sharpness: Largest relative change of the distance to a smoothed image, either way.
        blur: Largest standard deviation of a Gaussian blur in px, uniform from 0; 0..5.
        auto_contrast: Probability that each channel is stretched to the full range.
        equalize: Probability that each channel's histogram is flattened.
        posterize: Probability that only the 4 to 7 highest bits of the pixels are kept.
        mixup: Both parameters of the beta distribution that images are blended by (classes only:
            the box stays that of the larger share); 0: off.
        cutmix: As `mixup`, for pasting a part of another image.
        mix_probability: Share of the images that are mixed where `mixup` or `cutmix` is on.
    """

    flip: bool = False
    flip_vertical: bool = False
    translate: float = 0.0
    scale: float = 0.0
    aspect: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    crop: float = 0.0
    crop_aspect: float = 0.0
    fill: str = "black"
    box_from: str = "corners"
    min_visible: float = 0.5
    cutout: float = 0.0
    cutout_size: float = 0.4
    cutout_hidden: float = 0.4
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    sharpness: float = 0.0
    blur: float = 0.0
    auto_contrast: float = 0.0
    equalize: float = 0.0
    posterize: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 0.5

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            DataError: If a value is outside its range or no choice.
        """
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise DataError(f"augment.{name} must be in 0..{limit}, got {value}.")
        for name, choices in (("fill", FILLS), ("box_from", BOX_RULES)):
            if getattr(self, name) not in choices:
                raise DataError(
                    f"augment.{name} must be one of {', '.join(choices)}, "
                    f"got {getattr(self, name)!r}."
                )

    @property
    def flips(self) -> bool:
        """Whether pictures are mirrored."""
        return self.flip or self.flip_vertical

    @property
    def warps(self) -> bool:
        """Whether pictures are moved by more than mirroring."""
        knobs = ("translate", "scale", "aspect", "rotation", "shear", "perspective", "crop")
        return any(getattr(self, knob) for knob in knobs)

    @property
    def mixes(self) -> bool:
        """Whether images are blended with others and classes with them."""
        return max(self.mixup, self.cutmix) > 0 and self.mix_probability > 0


def split_augment_options(
    options: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts knobs named `digit_*` (without that prefix) from those for whole images.

    Raises:
        DataError: If a name is unknown.
    """
    image_names = [field.name for field in fields(ImageAugment)]
    digit_names = [_DIGIT_PREFIX + name for name in _DIGIT_KNOBS]
    unknown = sorted(set(options) - set(image_names) - set(digit_names))
    if unknown:
        raise DataError(
            f"augment has no {unknown[0]!r}; its names are "
            f"{', '.join([*image_names, *digit_names])}."
        )
    digit = {
        name.removeprefix(_DIGIT_PREFIX): value
        for name, value in options.items()
        if name in digit_names
    }
    return digit, {name: value for name, value in options.items() if name in image_names}


CANDIDATES = 4
"""Draws of the geometry and of the cutout for each image, of which the first good one counts.

A draw is given up for hiding too much of the object, which is rare; the chance that four are
falls with the fourth power, and what then remains is the picture without that change.
"""

# The names of the draws behind each knob, each drawn `CANDIDATES` times or once.
_CANDIDATE_DRAWS = {
    "translate": ("translate_x", "translate_y"),
    "scale": ("scale",),
    "aspect": ("aspect",),
    "rotation": ("rotation",),
    "shear": ("shear_x", "shear_y"),
    "perspective": ("perspective_x", "perspective_y"),
    "crop": ("crop_area", "crop_aspect", "crop_x", "crop_y"),
    "cutout": ("cutout_x", "cutout_y", "cutout_width", "cutout_height"),
}
_SINGLE_DRAWS = {
    "flip": ("flip",),
    "flip_vertical": ("flip_vertical",),
    "cutout": ("cutout",),
    "brightness": ("brightness",),
    "contrast": ("contrast",),
    "gamma": ("gamma",),
    "saturation": ("saturation",),
    "hue": ("hue",),
    "gray": ("gray",),
    "sharpness": ("sharpness",),
    "blur": ("blur",),
    "auto_contrast": ("auto_contrast",),
    "equalize": ("equalize",),
    "posterize": ("posterize", "posterize_bits"),
}
_MIX_DRAWS = ("mix", "mix_kind", "mix_share")
_CUTMIX_DRAWS = ("cutmix_x", "cutmix_y")


def draw_names(options: ImageAugment) -> tuple[str, ...]:
    """Names of the columns of a row of draws; those of candidates stand `CANDIDATES` times."""
    single = [
        name for knob, names in _SINGLE_DRAWS.items() if getattr(options, knob) for name in names
    ]
    several = [
        name for knob, names in _CANDIDATE_DRAWS.items() if getattr(options, knob) for name in names
    ]
    if options.mixes:
        single += _MIX_DRAWS
        several += _CUTMIX_DRAWS if options.cutmix else ()
    return (*single, *(name for name in several for _ in range(CANDIDATES)))


@dataclass(frozen=True)
class Draws:
    """A batch of draws, float32 (B, columns) uniform in [0, 1), and the columns' names."""

    values: tf.Tensor
    names: tuple[str, ...]

    def one(self, name: str) -> tf.Tensor:
        """The draws of one name, float32 (B,)."""
        return self.values[:, self.names.index(name)]

    def candidates(self, name: str) -> tf.Tensor:
        """The draws of one name, float32 (B, CANDIDATES)."""
        first = self.names.index(name)
        return self.values[:, first : first + CANDIDATES]

    def signed(self, name: str) -> tf.Tensor:
        """The candidates of one name, spread over [-1, 1); float64 (B, CANDIDATES)."""
        return tf.cast(self.candidates(name), tf.float64) * 2.0 - 1.0
