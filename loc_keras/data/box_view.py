"""On which view of pictures with an EXIF orientation their boxes were drawn, by what the data say.

Programs that know the orientation show a picture upright, others as stored. Boxes of the one view
lie beside the object in the other, so that nothing is assumed: the sizes that annotations declare,
boxes that fit one view alone and the program that files name decide for a data set as a whole, or
the user is asked.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Annotations, Box, Fault, ImageRef, Objects
from loc_keras.data.decode import turn_boxes
from loc_keras.data.image_header import Header, HeaderError
from loc_keras.data.resolve import UPRIGHT, CheckedObjects, checked_objects

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
    annotations: Annotations, headers: Mapping[ImageRef, Header | HeaderError], source: SourceConfig
) -> tuple[Annotations, SourceConfig, list[Fault]]:
    """Finds out on which view boxes were drawn; what `source.boxes_on` asks for holds.

    Returns:
        The annotations, without declared sizes of turned pictures where all contradict what is
        asked for or what the program is known to do; the source with `boxes_on`, None where nothing
        decides; and what is to be told of it.
    """
    joined = annotations.joined
    refs = [image for image in joined.images if _is_turned(headers[image])]
    numbers = [joined.images[image] for image in refs]
    turned = np.isin(joined.image, numbers) & ~joined.empty
    if not turned.any():
        return annotations, source.model_copy(update={"boxes_on": source.boxes_on or "stored"}), []
    evidence = _evidence(readings(annotations, headers, source, turned), annotations)
    view = source.boxes_on or evidence.view
    told: list[Fault] = []
    if source.boxes_on is None:
        count = len(np.unique(joined.image[turned]))
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
        annotations = _without_sizes(annotations, set(joined.take(turned).images))
    return annotations, source.model_copy(update={"boxes_on": view}), told


def _is_turned(header: Header | HeaderError) -> bool:
    return isinstance(header, Header) and header.orientation != UPRIGHT


def readings(
    annotations: Annotations,
    headers: Mapping[ImageRef, Header | HeaderError],
    source: SourceConfig,
    which: npt.NDArray[np.bool_],
) -> dict[View, CheckedObjects]:
    """Some of all objects (a mask of them) as they would be read with each `boxes_on`."""
    objects = annotations.objects
    masks = np.split(which, np.cumsum([len(part) for part in objects.values()])[:-1])
    parts = {split: objects[split].take(mask) for split, mask in zip(objects, masks, strict=True)}
    some = replace(annotations, objects=parts)
    return {
        view: checked_objects(some, headers, source.model_copy(update={"boxes_on": view}))
        for view in VIEWS
    }


def view_samples(
    objects: CheckedObjects, annotations: Annotations, source: SourceConfig, count: int
) -> list[tuple[ImageRef, dict[View, Box]]]:
    """At most `count` objects on turned pictures whose boxes lie most differently by view.

    The first few hundred such objects are looked at. Of each it gives the picture, and by view the
    box in fractions of the upright picture.
    """
    headers = dict(zip(objects.objects.images, objects.headers, strict=True))
    numbers = [k for k, header in enumerate(objects.headers) if _is_turned(header)]
    which = np.isin(objects.objects.image, numbers) & ~objects.objects.empty
    which[np.flatnonzero(which)[_MOST_TRIED:]] = False
    read = readings(annotations, headers, source, which)
    some = read["stored"].objects
    turns = [one.orientation for one in read["stored"].headers if isinstance(one, Header)]
    by_view = {
        "stored": turn_boxes(read["stored"].boxes, np.array(turns, np.uint8)[some.image]),
        "upright": read["upright"].boxes,
    }
    with np.errstate(invalid="ignore"):
        apart = np.abs(by_view["stored"] - by_view["upright"]).sum(axis=1)
    order = np.argsort(-apart, kind="stable")
    images = list(some.images)
    samples: dict[ImageRef, dict[View, Box]] = {}
    for index in order[np.isfinite(apart[order])]:
        views: dict[Any, Any] = {
            view: tuple(boxes[index].tolist()) for view, boxes in by_view.items()
        }
        samples.setdefault(images[some.image[index]], views)
    return list(samples.items())[:count]


def _evidence(read: Mapping[View, CheckedObjects], annotations: Annotations) -> Evidence:
    objects = read["stored"].objects
    sizes = {view: item.size for view, item in read.items()}
    differ = (sizes["stored"] != sizes["upright"]).any(axis=1)
    by_size = {
        view: (objects.declared == size).all(axis=1) & differ for view, size in sizes.items()
    }
    sized = Counter[View]({view: int(own.sum()) for view, own in by_size.items() if own.any()})
    fitting: Counter[View] = Counter()
    could_fit = torn = 0
    if annotations.units == "pixel":
        could_fit = int(differ.sum())
        fits = {view: differ & item.fits for view, item in read.items()}
        alone = fits["stored"] != fits["upright"]
        fitting += Counter({view: int((own & alone).sum()) for view, own in fits.items()})
        by_both = (by_size[view] & ~fits[view] for view in VIEWS)
        torn = int((alone & np.logical_or(*by_both)).sum())
    return Evidence(len(objects), sized, fitting, could_fit, torn, annotations.upright_tool)


def _without_sizes(annotations: Annotations, images: set[ImageRef]) -> Annotations:
    def without(part: Objects) -> Objects:
        subjects = [
            one._replace(size=None) if one.image in images else one for one in part.subjects
        ]
        return part.of_columns(
            subjects, part.labels, part.subject, part.label, part.boxes, part.rows
        )

    objects = {split: without(part) for split, part in annotations.objects.items()}
    return replace(annotations, objects=objects)
