"""Which size training images have when: small ones first, after which all are of full size."""

from collections.abc import Sequence
from dataclasses import dataclass

from loc_keras.errors import TrainingError
from loc_keras.models.assembly import SMALLEST_SIDE


@dataclass(frozen=True)
class SizeStage:
    """A part of the training on images of one size.

    Attributes:
        share: Part of all steps, > 0..1.
        side: Longer side of the images in pixels.
    """

    share: float
    side: int


def refuse_wrong_sizes(stages: Sequence[SizeStage], image_shape: tuple[int, ...]) -> None:
    """Refuses stages that do not fit images of (height, width, ...) pixels.

    Raises:
        TrainingError: If a stage does not make the images smaller, or makes them too small.
    """
    height, width = image_shape[:2]
    for number, stage in enumerate(stages):
        least = -(-SMALLEST_SIDE * max(height, width) // min(height, width))
        if not least <= stage.side < max(height, width):
            raise TrainingError(
                f"train.progressive_size[{number}].side is {stage.side} px, and the images have "
                f"{height} x {width} px: give {least} to {max(height, width) - 1}."
            )


def size_at(
    step: int, stages: Sequence[SizeStage], total_steps: int, image_size: tuple[int, int]
) -> tuple[int, int] | None:
    """Size of the images in a step.

    Args:
        step: Steps that were taken before, from 0.
        stages: From the beginning of the training on; what they leave is of full size.
        total_steps: Steps of the whole training.
        image_size: (height, width) in pixels of the images at full size.

    Returns:
        (height, width) in pixels, with the ratio of the image's sides but for rounding, or None
        for full size.
    """
    end = 0.0
    for stage in stages:
        end += stage.share
        if step < round(end * total_steps):
            height, width = (round(side * stage.side / max(image_size)) for side in image_size)
            return height, width
    return None
