"""What a synthetic digits picture looks like: the options of the task, checked."""

from dataclasses import dataclass, fields

from loc_keras.data.digit_sources import DIGIT_SIDE
from loc_keras.errors import DataError

BOX_RULES = ("square", "tight")
BACKGROUNDS = ("black", "noise", "clutter")


@dataclass(frozen=True)
class DigitTask:
    """The family of tasks; the defaults are the published one (28 px on black 100 x 100).

    Attributes:
        canvas: Side of the picture in pixels.
        scale: Lowest and highest size of the digit's square, as a factor of 28 px; the side
            is drawn uniformly between them and rounded to whole pixels.
        box: `"square"` is the whole pasted square; `"tight"` the extent of the ink, which is
            every pixel of at least `digits.INK_THRESHOLD`.
        background: `"black"`; `"noise"`, independent uniform pixels; or `"clutter"`, small
            crops of other digits (after the cluttered MNIST of Mnih et al. 2014).
        clutter: Number of crops of the clutter background, of 6 to 10 px where the digit's
            square has 28.
        distractors: Number of larger crops of other digits, of 10 to 13 px where the square
            has 28; never a whole digit, so the label stays unambiguous.
    """

    canvas: int = 100
    scale: tuple[float, float] = (1.0, 1.0)
    box: str = "square"
    background: str = "black"
    clutter: int = 8
    distractors: int = 0

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            DataError: If one is out of range or does not fit another.
        """
        low, high = self.scale
        if not 0 < low <= high:
            raise DataError(f"digits scale must be 0 < low <= high, got {low} {high}.")
        if self.smallest_side < 8:
            raise DataError(
                f"digits scale {low} makes squares of {self.smallest_side} px: at least 8 px "
                f"are needed, so a scale of {8 / DIGIT_SIDE:.2f}."
            )
        if self.largest_side > self.canvas:
            raise DataError(
                f"digits scale {high} makes squares of {self.largest_side} px, which do not fit "
                f"on a canvas of {self.canvas} px: lower the scale or enlarge the canvas."
            )
        _check_choice("box", self.box, BOX_RULES)
        _check_choice("background", self.background, BACKGROUNDS)
        for name, count in (("clutter", self.clutter), ("distractors", self.distractors)):
            if count < 0:
                raise DataError(f"digits {name} must be 0 or more, got {count}.")

    @property
    def smallest_side(self) -> int:
        """Side of the smallest digit square in pixels."""
        return round(DIGIT_SIDE * self.scale[0])

    @property
    def largest_side(self) -> int:
        """Side of the largest digit square in pixels."""
        return round(DIGIT_SIDE * self.scale[1])

    @property
    def clutter_count(self) -> int:
        """Number of small crops that are really drawn."""
        return self.clutter if self.background == "clutter" else 0


@dataclass(frozen=True)
class DigitDeformation:
    """Random deformation of a digit inside its own square, about the square's centre.

    What leaves the square is cut off, so that the square stays a true box.

    Attributes:
        rotation: Largest angle in degrees, either way.
        scale: Largest relative change of size: factors from 1 / (1 + scale) to 1 + scale,
            uniform in their logarithm.
        shear: Largest horizontal shift per unit of height, either way.
        aspect: Largest relative change of width over height, drawn as `scale` is.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    aspect: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            DataError: If a value is negative, or so large that digits lose their shape.
        """
        limits = {"rotation": 180.0, "scale": 1.0, "shear": 1.0, "aspect": 1.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise DataError(f"augment.digit_{name} must be in 0..{limit:g}, got {value}.")

    @property
    def active(self) -> bool:
        """Whether any knob is above zero."""
        return any(getattr(self, field.name) > 0 for field in fields(self))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DataError(f"digits {name} must be one of {', '.join(choices)}, got {value!r}.")
