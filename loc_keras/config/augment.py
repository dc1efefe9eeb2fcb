"""The section `augment` of the config: random changes to training images."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from loc_keras.config.base import Degrees, Half, Section, Share, Unit

Tilt = Annotated[float, Field(ge=0, le=0.4)]
Probability = Unit


class AugmentConfig(Section):
    """Random changes to training images; the box moves along. All are off by default.

    The order of the keys is that of their draws: a new one leaves the draws of others alone.
    """

    digit_rotation: Degrees = 0.0
    """Digits only: turn within the square by up to +- degrees, 0..45."""
    digit_scale: Half = 0.0
    """Digits only: resize in the square by up to the factor 1 + this, either way, 0..0.5."""
    digit_shear: Half = 0.0
    """Digits only: slant by up to +- px sideways per px down, 0..0.5."""
    digit_aspect: Half = 0.0
    """Digits only: change width to height by up to the factor 1 + this, either way, 0..0.5."""
    flip: bool = False
    """Mirror left and right for half of the images."""
    flip_vertical: bool = False
    """Mirror top and bottom for half of the images."""
    translate: Half = 0.0
    """Shift each axis by up to +- fraction of its side, 0..0.5."""
    scale: Share = 0.0
    """Resize by up to the factor 1 + this, either way, 0..0.9."""
    aspect: Half = 0.0
    """Change width to height by up to the factor 1 + this, either way, 0..0.5."""
    rotation: Degrees = 0.0
    """Turn about the centre by up to +- degrees, 0..45."""
    shear: Half = 0.0
    """Slant sideways and upright by up to +- px per px, 0..0.5."""
    perspective: Tilt = 0.0
    """Tilt about each axis: lengths at opposite borders are divided by up to 1 + this and 1 - this,
    0..0.4."""
    crop: Share = 0.0
    """Largest share of the area that a random crop leaves out, 0..0.9; the crop keeps min_visible
    of the box and fills the picture."""
    crop_aspect: Half = 0.0
    """Change the crop's width to height by up to the factor 1 + this, either way, 0..0.5."""
    fill: Literal["black", "mean", "edge", "reflect"] = "black"
    """What appears beside a moved picture: black, its mean colour, its border pixels drawn on, or
    its mirror image (which can show the object twice)."""
    box_from: Literal["corners", "ellipse"] = "corners"
    """Box of a turned or slanted object: around its old box's corners (never too small), or around
    the ellipse in that box (nearer for round objects)."""
    min_visible: Unit = 0.5
    """Least share of the box's area that must stay in the picture, 0..1; what leaves less is drawn
    again."""
    cutout: Probability = 0.0
    """Probability of a covered rectangle, 0..1."""
    cutout_size: Unit = 0.4
    """Largest side of that rectangle as a fraction of the side, 0..1."""
    cutout_hidden: Unit = 0.4
    """Largest share of the box that it may cover, 0..1."""
    brightness: Unit = 0.0
    """Add up to +- fraction of the full pixel range, 0..1."""
    contrast: Unit = 0.0
    """Multiply the contrast by 1 +- fraction, 0..1."""
    gamma: Unit = 0.0
    """Raise the pixels' fractions of 255 to a power of up to 1 + this, either way, 0..1."""
    saturation: Unit = 0.0
    """Multiply the distance to grey by 1 +- fraction, 0..1; colour only."""
    hue: Half = 0.0
    """Turn the colour circle by up to +- fraction of a full turn, 0..0.5; colour only."""
    gray: Probability = 0.0
    """Probability that an image loses its colours, 0..1."""
    sharpness: Unit = 0.0
    """Multiply the distance to a smoothed image by 1 +- fraction, 0..1."""
    blur: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Largest standard deviation of a Gaussian blur in px, 0..5."""
    auto_contrast: Probability = 0.0
    """Probability that each channel is stretched to the full range, 0..1."""
    equalize: Probability = 0.0
    """Probability that each channel's histogram is flattened, 0..1."""
    posterize: Probability = 0.0
    """Probability that pixels keep their 4 to 7 highest bits, 0..1."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Blend images, and their classes by the shares, 0..100: both parameters of the beta
    distribution of the share; the box is that of the larger share; 0: off."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """As mixup, but paste a part of another image that leaves min_visible of the box; 0..100; 0:
    off."""
    mix_probability: Probability = 0.5
    """Share of the images that are mixed if mixup or cutmix is on, 0..1."""

    @property
    def deforms_digits(self) -> bool:
        """Whether digits are deformed inside their squares."""
        return any((self.digit_rotation, self.digit_scale, self.digit_shear, self.digit_aspect))

    @model_validator(mode="after")
    def _crop_has_a_shape(self) -> "AugmentConfig":
        if self.crop_aspect and not self.crop:
            raise ValueError(
                f"crop_aspect ({self.crop_aspect:g}) shapes the crop, but crop is 0; raise crop, "
                f"or use aspect"
            )
        return self
