"""What the page of an evaluation is made of: plain values, all images in one order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.results import Evaluation
from loc_keras.evaluation.trust_figures import TrustFigures

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageRows:
    """Truth and answer of each image, one row an image.

    Attributes:
        labels: True classes, int (N,).
        predicted: Most probable classes, int (N,).
        confidence: Their probabilities, float (N,), in [0, 1]; calibrated where the model is.
        ious: IoU of true and predicted box, float (N,); of images without an object it is not
            read.
        corner_errors_px: Mean distance of the boxes' corners, float (N,), in px of the pictures.
        boxes_px: True boxes (x1, y1, x2, y2), float (N, 4), in px of the pictures.
        boxes_pred_px: Predicted boxes, likewise.
        sizes: Height and width of the pictures in px, int (N, 2).
        background: Index of the class of images without an object; None where all show one.
        size_groups: Place of each image in `Evaluation.sizes`, int (N,), -1 for none; None leaves
            out the pictures of each size.
        positions: Place in `Evaluation.positions`, likewise.

    Raises:
        ValueError: The rows are not equally many.
    """

    labels: npt.NDArray[np.integer]
    predicted: npt.NDArray[np.integer]
    confidence: npt.NDArray[np.floating]
    ious: npt.NDArray[np.floating]
    corner_errors_px: npt.NDArray[np.floating]
    boxes_px: npt.NDArray[np.floating]
    boxes_pred_px: npt.NDArray[np.floating]
    sizes: npt.NDArray[np.integer]
    background: int | None = None
    size_groups: npt.NDArray[np.integer] | None = None
    positions: npt.NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray) and len(value) != len(self.labels):
                raise ValueError(
                    f"{field.name} has {len(value)} rows, but there are {len(self.labels)} labels."
                )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether each image shows an object, bool (N,)."""
        if self.background is None:
            return np.ones(len(self), bool)
        return np.asarray(self.labels != self.background)


class Lookalike(NamedTuple):
    """An image of the training split that looks like another one.

    Attributes:
        name: Its file.
        picture: uint8 (H, W, 3), small; None where it cannot be shown.
        label: Name of its class.
    """

    name: str
    picture: Pixels | None
    label: str


@dataclass(frozen=True, eq=False)
class Suspect:
    """An image whose true box is perhaps wrong.

    Attributes:
        index: Its row.
        why: What speaks against the box, in words.
        lookalikes: Images of the training split that look like it.
    """

    index: int
    why: str
    lookalikes: Sequence[Lookalike] = ()


@dataclass(frozen=True, eq=False)
class EvaluationPage:
    """All that the page shows.

    Attributes:
        title: Heading of the page.
        run: Name of the run.
        split: Name of the split that was measured.
        facts: How it was measured, as (label, value), both plain text.
        evaluation: The figures.
        rows: Truth and answer of each image.
        names: Name of each image, such as its file.
        pictures: Small pictures by row, uint8 (H, W, 3), each of the whole image and of any size;
            `wanted_pictures` says which are looked for. One that is missing is shown as an empty
            field.
        trust: How true the model's statements about itself were; None where it makes none.
        suspects: Images whose true box is perhaps wrong, the most suspicious first.
    """

    title: str
    run: str
    split: str
    facts: Sequence[tuple[str, str]]
    evaluation: Evaluation
    rows: ImageRows
    names: Sequence[str]
    pictures: Mapping[int, Pixels]
    trust: TrustFigures | None = None
    suspects: Sequence[Suspect] = ()
