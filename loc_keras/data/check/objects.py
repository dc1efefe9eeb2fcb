"""Objects with their boxes in fractions of the picture, as far as its size is known."""

from collections.abc import Mapping
from typing import NamedTuple

from loc_keras.data.annotations import Annotated, Annotations, ImageRef, Split
from loc_keras.data.check.catalogue import FractionBox
from loc_keras.data.check.images import ImageFacts


class CheckedObject(NamedTuple):
    """An object and what is known of its picture.

    Attributes:
        split: The split that it stands in.
        one: The object as annotated.
        size: (width, height) in px of the picture that the box was drawn on; (0, 0) where
            unknown.
        written: (x1, y1, x2, y2) as annotated, the last pixel within.
        units: `"fraction"` or `"pixel"`, of `written`.
    """

    split: Split
    one: Annotated
    size: tuple[int, int]
    written: FractionBox
    units: str

    @property
    def box(self) -> FractionBox | None:
        """The box in fractions, perhaps inverted, not finite or outside.

        None where it is unknown, or the image shows no object.
        """
        if self.one.empty:
            return None
        if self.units == "fraction":
            return self.written
        width, height = self.size
        if not width or not height:
            return None
        x1, y1, x2, y2 = self.written
        return x1 / width, y1 / height, x2 / width, y2 / height


def checked_objects(
    annotations: Annotations,
    images: Mapping[ImageRef, ImageFacts],
    *,
    inclusive_pixels: bool | None,
    boxes_on: str,
) -> list[CheckedObject]:
    """Puts every object beside its picture.

    Args:
        annotations: As read.
        images: What is known of each image.
        inclusive_pixels: Whether the last pixel belongs to a box; None as the format says.
        boxes_on: As in `ImageFacts.picture_size`.
    """
    if inclusive_pixels is None:
        inclusive_pixels = annotations.units == "pixel" and not annotations.exact
    found = []
    for split, one in annotations.all_objects():
        facts = images.get(one.image)
        size = facts.picture_size(boxes_on=boxes_on) if facts else (0, 0)
        x1, y1, x2, y2 = one.box
        written = (x1, y1, x2 + 1, y2 + 1) if inclusive_pixels else one.box
        found.append(CheckedObject(split, one, size, written, annotations.units))
    return found
