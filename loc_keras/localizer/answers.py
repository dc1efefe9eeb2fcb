"""Answers from arrays: a trained model by whatever computes, and its outputs as `Localization`s."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loc_keras.data.resize import ImageFormat, placement
from loc_keras.localizer.pictures import PictureReader, Pixels
from loc_keras.localizer.results import Localization, localization_of

TENSORFLOW = "TensorFlow"

Arrays = Mapping[str, npt.NDArray]

_BOXES = ("bbox", "box_outer", "box_inner")

Answer = Callable[[npt.NDArray[np.uint8]], Arrays]
"""From images uint8 (N, H, W, C), N at least 1, to the model's outputs by name."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A trained model with all that is known of it.

    Attributes:
        path: File or folder of the model itself.
        answer: Gives `softmax`, `bbox` and, where they are fitted, what `TRUST_OUTPUTS` and
            `NOVELTY_OUTPUTS` name; boxes in fractions of the model's image.
        reader: Makes the images that it is given.
        background: Index of the class of images without an object; None without one.
        notes: What was not known and how it was taken instead, as sentences.
        digest: SHA-256, in hex, of the model and of what is said about its answers.
        runtime: What computes.
        model: The Keras model, of a run or a `.keras` file alone.
    """

    path: Path
    answer: Answer
    reader: PictureReader
    class_names: tuple[str, ...]
    background: int | None
    trusted: bool
    notes: tuple[str, ...]
    digest: str
    tells_novelty: bool = False
    runtime: str = TENSORFLOW
    model: Any = None

    def ask(self, batch: Sequence[Pixels], top_k: int) -> list[Localization]:
        """Answers about some images, at least one, with the `top_k` most probable classes each."""
        outputs = self.answer(np.stack([one.pixels for one in batch]))
        arrays = restored(outputs, [one.size for one in batch], self.reader.form)
        names, background = self.class_names, self.background
        return [
            localization_of(arrays, row, image.size, names, background=background, top_k=top_k)
            for row, image in enumerate(batch)
        ]


def restored(outputs: Arrays, sizes: Sequence[tuple[int, int]], form: ImageFormat) -> Arrays:
    """A model's outputs with boxes in fractions of the originals, of heights and widths in px."""
    if form.rule_in_use == "stretch":
        return outputs
    # For each image the height and width that it has in the model's, then its top and left.
    placed = np.array([placement(size, form.size) for size in sizes], np.float32)
    fractions = placed[..., ::-1] / np.array(form.size[::-1], np.float32)
    scale, offset = np.moveaxis(np.tile(fractions, 2), 1, 0)
    boxes = {
        name: np.clip((outputs[name] - offset) / scale, 0.0, 1.0)
        for name in _BOXES
        if name in outputs
    }
    return {**outputs, **boxes}
