"""On which view of pictures with an EXIF orientation their boxes were drawn, by what the data say.

Programs that know the orientation show a picture upright, others as stored. Boxes of the one view
lie beside the object in the other, so that nothing is assumed: the sizes that annotations declare,
boxes that fit one view alone and the program that files name decide for a data set as a whole, or
the user is asked.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Annotated, Annotations, Box, Fault, ImageRef, Split
from loc_keras.data.decode import turn_boxes
from loc_keras.data.image_header import Header, HeaderError
from loc_keras.data.records import UPRIGHT
from loc_keras.data.resolve import CheckedObject, checked_object, is_inclusive, picture_size

View = Literal["stored", "upright"]
VIEWS: tuple[View, View] = ("stored", "upright")

LEAST_BOXES, LEAST_SHARE = 3, 0.1
"""Boxes that must fit one view alone, at least and of those that could, before they count: a few
are mistakes in any data set."""

_MOST_TRIED = 300

DECIDED, UNDECIDED = "exif_decided", "exif_undecided"
"""Kinds of what is told of it."""


class Evidence(NamedTuple):
    """What speaks for a view.

    Attributes:
        turned: Objects on pictures with an orientation.
        sized: Those whose declared size is that of one view alone, by view.
        fitting: Those whose box fits into one view alone, by view.
        could_fit: Those whose box could, since its picture's views differ in size.
        torn: Those whose size and box speak for different views.
        tool: The program that the files name, of those that show pictures upright, or `""`.
    """

    turned: int
    sized: Counter[View]
    fitting: Counter[View]
    could_fit: int
    torn: int
    tool: str

    def counts(self, number: int) -> bool:
        """Whether so many boxes are more than mistakes."""
        return number >= max(LEAST_BOXES, LEAST_SHARE * self.could_fit)

    @property
    def view(self) -> View | None:
        """The view that all evidence speaks for, or None.

        Where each object's own size names its view, that of most is taken; the others contradict
        it and are errors of their own.
        """
        told: set[View] = {"upright"} if self.tool else set(self.sized)
        told |= {view for view in VIEWS if self.counts(self.fitting[view])}
        if len(told) == 1:
            return told.pop()
        if self.sized.total() == self.turned and not self.tool and not self.counts(self.torn):
            return max(VIEWS, key=self.sized.__getitem__)
        return None

    def words(self) -> str:
        """The evidence as a list, or `""`."""
        parts = [
            f"{count} boxes fit into the {view} picture alone"
            for view, count in self.fitting.items()
        ]
        parts += [
            f"{count} objects declare the size of the {view} picture"
            for view, count in self.sized.items()
        ]
        if self.tool:
            parts.append(f"{self.tool}, which the files name, shows pictures upright")
        return ", ".join(parts)


def settle_view(
    annotations: Annotations,
    headers: Mapping[ImageRef, Header | HeaderError],
    source: SourceConfig,
) -> tuple[Annotations, SourceConfig, list[Fault]]:
    """Finds out on which view boxes were drawn; what `source.boxes_on` asks for holds.

    Returns:
        The annotations, without declared sizes of turned pictures where all contradict what is
        asked for or what the program is known to do; the source with `boxes_on`, None where nothing
        decides; and what is to be told of it.
    """
    turned = [
        (split, one, header)
        for split, one in annotations.all_objects()
        if not one.empty
        and isinstance(header := headers[one.image], Header)
        and header.orientation != UPRIGHT
    ]
    if not turned:
        return annotations, source.model_copy(update={"boxes_on": source.boxes_on or "stored"}), []
    evidence = _evidence(turned, annotations, source)
    view = source.boxes_on or evidence.view
    told: list[Fault] = []
    if source.boxes_on is None:
        count = len({one.image for _, one, _ in turned})
        pictures = f"{count} {'picture' if count == 1 else 'pictures'}"
        words = evidence.words()
        if view is None:
            reason = (
                f"{pictures} with boxes and an EXIF orientation: nothing decides "
                "whether the boxes were drawn on the pictures as stored or on the upright ones"
                f"{f' ({words})' if words else ''}"
            )
            told = [Fault("", 0, reason, UNDECIDED)]
        else:
            reason = (
                f"the boxes of {pictures} with an EXIF orientation are taken as drawn on "
                f"the {view} pictures: {words}"
            )
            told = [Fault("", 0, reason, DECIDED)]
    sure = source.boxes_on is not None or bool(evidence.tool)
    if sure and view is not None and evidence.sized and not evidence.sized[view]:
        annotations = _without_sizes(annotations, {one.image for _, one, _ in turned})
    return annotations, source.model_copy(update={"boxes_on": view}), told


def readings(
    split: Split, one: Annotated, header: Header, annotations: Annotations, source: SourceConfig
) -> dict[View, CheckedObject]:
    """An object as it would be read with each `boxes_on`."""
    inclusive = is_inclusive(annotations, source)
    return {
        view: checked_object(
            split, one, header, units=annotations.units, inclusive=inclusive, boxes_on=view
        )
        for view in VIEWS
    }


def view_samples(
    objects: Sequence[CheckedObject], annotations: Annotations, source: SourceConfig, count: int
) -> list[tuple[ImageRef, dict[View, Box]]]:
    """At most `count` objects on turned pictures whose boxes lie most differently by view.

    The first few hundred such objects are looked at. Of each it gives the picture, and by view the
    box in fractions of the upright picture.
    """
    found = []
    for item in objects:
        header = item.header
        if item.annotated.empty or isinstance(header, HeaderError) or header.orientation == UPRIGHT:
            continue
        read = readings(item.split, item.annotated, header, annotations, source)
        if (stored := read["stored"].box) is None or (upright := read["upright"].box) is None:
            continue
        turned = turn_boxes(np.array(stored), np.array(header.orientation))
        x1, y1, x2, y2 = turned.tolist()
        apart = float(np.abs(turned - upright).sum())
        if math.isfinite(apart):
            found.append((apart, item.annotated.image, (x1, y1, x2, y2), upright))
        if len(found) == _MOST_TRIED:
            break
    samples: dict[ImageRef, dict[View, Box]] = {}
    for _, image, stored_box, upright_box in sorted(found, key=lambda one: -one[0]):
        samples.setdefault(image, {"stored": stored_box, "upright": upright_box})
    return list(samples.items())[:count]


def _evidence(
    turned: Sequence[tuple[Split, Annotated, Header]],
    annotations: Annotations,
    source: SourceConfig,
) -> Evidence:
    sized: Counter[View] = Counter()
    fitting: Counter[View] = Counter()
    could_fit = torn = 0
    for split, one, header in turned:
        sizes = {view: picture_size(header, view) for view in VIEWS}
        if sizes["stored"] == sizes["upright"]:
            continue
        by_size = [view for view, size in sizes.items() if one.size == size]
        sized.update(by_size)
        if annotations.units == "fraction":
            continue
        could_fit += 1
        read = readings(split, one, header, annotations, source)
        by_box = [view for view, item in read.items() if item.fault is None]
        if len(by_box) == 1:
            fitting.update(by_box)
            torn += bool(by_size) and by_size != by_box
    return Evidence(len(turned), sized, fitting, could_fit, torn, annotations.upright_tool)


def _without_sizes(annotations: Annotations, images: set[ImageRef]) -> Annotations:
    objects = {
        split: [one._replace(size=None) if one.image in images else one for one in part]
        for split, part in annotations.objects.items()
    }
    return replace(annotations, objects=objects)
