"""The pictures behind a split's images: their names, their sizes, and boxes in their pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loc_keras.data.records import Records
from loc_keras.data.resize import ResizeRule, restore_boxes


@dataclass(frozen=True, eq=False)
class SplitPictures:
    """The pictures of one split, in the order of its pipeline.

    Attributes:
        names: str (N,), as the annotations name them; digits are numbered.
        sizes: int32 (N, 2), height and width of the whole pictures in px, as boxes refer to them.
        rule: How they are brought to the model's size.
        target: Height and width of the model's images.
        boxes: float32 (N, 4), true boxes in fractions of the pictures; None where they are only
            known from the pipeline.
        records: Where the pictures lie; None for digits, which are drawn.
    """

    names: npt.NDArray[np.object_]
    sizes: npt.NDArray[np.int32]
    rule: ResizeRule
    target: tuple[int, int]
    boxes: npt.NDArray[np.float32] | None = None
    records: Records | None = None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.names)

    def to_px(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Boxes in fractions of the model's images as boxes in px of the pictures.

        Args:
            boxes: (N, 4), one for each picture.

        Returns:
            float64 (N, 4), (x1, y1, x2, y2) clipped to the picture.
        """
        whole = restore_boxes(boxes.astype(np.float32), self.sizes, self.target, self.rule)
        return np.asarray(whole, np.float64) * np.tile(self.sizes[:, ::-1], 2)


def pictures_of_records(
    records: Records, target: tuple[int, int], rule: ResizeRule
) -> SplitPictures:
    """The pictures of records."""
    return SplitPictures(records.names, records.sizes, rule, target, records.boxes, records)


def drawn_pictures(
    count: int, size: tuple[int, int], target: tuple[int, int], rule: ResizeRule
) -> SplitPictures:
    """Pictures that are drawn, so that they have a number for a name.

    Args:
        count: How many.
        size: Height and width in px.
        target: Height and width of the model's images.
        rule: How one becomes the other.
    """
    names = np.array([f"{number:06d}" for number in range(count)], object)
    return SplitPictures(names, np.tile(np.array(size, np.int32), (count, 1)), rule, target)
