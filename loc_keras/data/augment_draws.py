"""Which uniform random numbers an augmentation takes, by name; a knob that is off takes none."""

from dataclasses import dataclass

import tensorflow as tf

from loc_keras.data.augment_options import ImageAugment

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
