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

    digit_rotation: Degrees = Field(
        default=0.0, description="Digits only: turn within the square by up to +- degrees, 0..45."
    )
    digit_scale: Half = Field(
        default=0.0,
        description="Digits only: resize in the square by up to the factor 1 + this, either way, "
        "0..0.5.",
    )
    digit_shear: Half = Field(
        default=0.0, description="Digits only: slant by up to +- px sideways per px down, 0..0.5."
    )
    digit_aspect: Half = Field(
        default=0.0,
        description="Digits only: change width to height by up to the factor 1 + this, either way, "
        "0..0.5.",
    )
    flip: bool = Field(default=False, description="Mirror left and right for half of the images.")
    flip_vertical: bool = Field(
        default=False, description="Mirror top and bottom for half of the images."
    )
    translate: Half = Field(
        default=0.0, description="Shift each axis by up to +- fraction of its side, 0..0.5."
    )
    scale: Share = Field(
        default=0.0, description="Resize by up to the factor 1 + this, either way, 0..0.9."
    )
    aspect: Half = Field(
        default=0.0,
        description="Change width to height by up to the factor 1 + this, either way, 0..0.5.",
    )
    rotation: Degrees = Field(
        default=0.0, description="Turn about the centre by up to +- degrees, 0..45."
    )
    shear: Half = Field(
        default=0.0,
        description="Slant sideways and upright by up to +- px per px, 0..0.5.",
    )
    perspective: Tilt = Field(
        default=0.0,
        description="Tilt about each axis: lengths at opposite borders are divided by up to "
        "1 + this and 1 - this, 0..0.4.",
    )
    crop: Share = Field(
        default=0.0,
        description="Largest share of the area that a random crop leaves out, 0..0.9; the crop "
        "keeps min_visible of the box and fills the picture.",
    )
    crop_aspect: Half = Field(
        default=0.0,
        description="Change the crop's width to height by up to the factor 1 + this, either way, "
        "0..0.5.",
    )
    fill: Literal["black", "mean", "edge", "reflect"] = Field(
        default="black",
        description="What appears beside a moved picture: black, its mean colour, its border "
        "pixels drawn on, or its mirror image (which can show the object twice).",
    )
    box_from: Literal["corners", "ellipse"] = Field(
        default="corners",
        description="Box of a turned or slanted object: around its old box's corners (never too "
        "small), or around the ellipse in that box (nearer for round objects).",
    )
    min_visible: Unit = Field(
        default=0.5,
        description="Least share of the box's area that must stay in the picture, 0..1; what "
        "leaves less is drawn again.",
    )
    cutout: Probability = Field(
        default=0.0, description="Probability of a covered rectangle, 0..1."
    )
    cutout_size: Unit = Field(
        default=0.4, description="Largest side of that rectangle as a fraction of the side, 0..1."
    )
    cutout_hidden: Unit = Field(
        default=0.4, description="Largest share of the box that it may cover, 0..1."
    )
    brightness: Unit = Field(
        default=0.0, description="Add up to +- fraction of the full pixel range, 0..1."
    )
    contrast: Unit = Field(default=0.0, description="Multiply the contrast by 1 +- fraction, 0..1.")
    gamma: Unit = Field(
        default=0.0,
        description="Raise the pixels' fractions of 255 to a power of up to 1 + this, either way, "
        "0..1.",
    )
    saturation: Unit = Field(
        default=0.0,
        description="Multiply the distance to grey by 1 +- fraction, 0..1; colour only.",
    )
    hue: Half = Field(
        default=0.0,
        description="Turn the colour circle by up to +- fraction of a full turn, 0..0.5; colour "
        "only.",
    )
    gray: Probability = Field(
        default=0.0, description="Probability that an image loses its colours, 0..1."
    )
    sharpness: Unit = Field(
        default=0.0,
        description="Multiply the distance to a smoothed image by 1 +- fraction, 0..1.",
    )
    blur: Annotated[float, Field(ge=0, le=5)] = Field(
        default=0.0, description="Largest standard deviation of a Gaussian blur in px, 0..5."
    )
    auto_contrast: Probability = Field(
        default=0.0,
        description="Probability that each channel is stretched to the full range, 0..1.",
    )
    equalize: Probability = Field(
        default=0.0, description="Probability that each channel's histogram is flattened, 0..1."
    )
    posterize: Probability = Field(
        default=0.0, description="Probability that pixels keep their 4 to 7 highest bits, 0..1."
    )
    mixup: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.0,
        description="Blend images, and their classes by the shares, 0..100: both parameters of "
        "the beta distribution of the share; the box is that of the larger share; 0: off.",
    )
    cutmix: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.0,
        description="As mixup, but paste a part of another image that leaves min_visible of the "
        "box; 0..100; 0: off.",
    )
    mix_probability: Probability = Field(
        default=0.5,
        description="Share of the images that are mixed if mixup or cutmix is on, 0..1.",
    )

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
