"""Which features of a TFDS data set hold the image, the boxes and the classes."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from loc_keras.errors import DataError

_NAME_FEATURES = ("image/filename", "file_name", "filename")
_KEY = "data.source.tfds"
# The only format of TFDS's own data sets. One that was prepared before TFDS recorded formats has
# none in its files.
_BOX_FORMATS = (None, "REL_YXYX")


class Place(NamedTuple):
    """One feature.

    Attributes:
        path: Keys that lead to it.
        feature: Its TFDS feature connector.
        depth: Number of sequences around it: 0 for one value an example, 1 for a list.
    """

    path: tuple[str, ...]
    feature: Any
    depth: int

    @property
    def name(self) -> str:
        """Its keys as one text, as the config names it."""
        return "/".join(self.path)


class Layout(NamedTuple):
    """The features that make records.

    Attributes:
        image: One image an example.
        box: One box an example, or a list of them.
        label: One class an example, or a list as long as that of the boxes.
        filename: Name of the image, or None where the data set has none.
        class_names: Classes in the order of their numbers; None where labels are no TFDS classes.
    """

    image: Place
    box: Place
    label: Place
    filename: Place | None
    class_names: list[str] | None


def find_layout(
    features: Any, *, image: str | None = None, box: str | None = None, label: str | None = None
) -> Layout:
    """Finds the features by their types, or by names where they are given.

    Args:
        features: The data set's `tfds.features.FeaturesDict`.
        image: Name of the image feature, or None.
        box: Name of the box feature, such as `objects/bbox`, or None.
        label: Name of the class feature, or None. By type, one that stands beside the boxes goes
            before one of the whole image, and one called `label` before others.

    Raises:
        DataError: If there is none, several that are equally likely, or the named one is absent
            or of the wrong type.
    """
    import tensorflow_datasets as tfds

    # TFDS gives features of a prepared data set in an order that changes from run to run.
    places = sorted(_places(features, (), 0), key=lambda place: place.name)
    images = [
        place
        for place in places
        if isinstance(place.feature, tfds.features.Image)
        and not isinstance(place.feature, tfds.features.LabeledImage)
        and place.depth == 0
        # Images of floats, such as depth maps, are stored as PNG files of other meaning.
        and np.dtype(place.feature.np_dtype).kind == "u"
    ]
    boxes = [
        place
        for place in places
        if isinstance(place.feature, tfds.features.BBoxFeature) and place.depth <= 1
    ]
    box_place = _chosen("box", boxes, box, "bbox")
    _check_box_format(box_place)
    label_place = _label(places, box_place, label)
    names = [place for place in places if place.depth == 0 and place.name in _NAME_FEATURES]
    is_class = isinstance(label_place.feature, tfds.features.ClassLabel)
    return Layout(
        image=_chosen("image", images, image, "image"),
        box=box_place,
        label=label_place,
        filename=names[0] if names else None,
        class_names=list(label_place.feature.names) if is_class else None,
    )


def _places(feature: Any, path: tuple[str, ...], depth: int) -> Iterator[Place]:
    """All features without parts of their own."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.FeaturesDict):
        for key, part in feature.items():
            yield from _places(part, (*path, key), depth)
    elif isinstance(feature, tfds.features.Dataset):
        return  # A data set within an example is not read as a tensor.
    elif isinstance(feature, tfds.features.Sequence):
        yield from _places(feature.feature, path, depth + 1)
    else:
        yield Place(path, feature, depth)


def _label(places: Sequence[Place], box: Place, name: str | None) -> Place:
    import tensorflow_datasets as tfds

    def of_object(place: Place) -> bool:
        return place.depth == box.depth and place.path[:-1] == box.path[:-1]

    usable = [place for place in places if place.depth == 0 or of_object(place)]
    if name is not None:
        return _chosen("label", usable, name, "label")
    classes = [place for place in usable if isinstance(place.feature, tfds.features.ClassLabel)]
    beside = [place for place in classes if of_object(place)]
    return _chosen("label", beside or classes, None, "label")


def _chosen(role: str, places: Sequence[Place], name: str | None, usual: str) -> Place:
    """The one that is named, the only one, or the one with the usual name."""
    found = ", ".join(place.name for place in places) or "none"
    if name is not None:
        named = [place for place in places if place.name == name]
        if not named:
            raise DataError(f"{_KEY}.{role}: {name!r} is not one of the {role} features: {found}.")
        return named[0]
    likely = list(places)
    if len(likely) > 1:
        likely = [place for place in places if place.path[-1] == usual]
    if len(likely) != 1:
        raise DataError(
            f"the TFDS data set has {len(places)} {role} features ({found}) where one was "
            f"expected; "
            + (f"name it by {_KEY}.{role}." if places else "it cannot serve localization.")
        )
    return likely[0]


def _check_box_format(box: Place) -> None:
    written = getattr(box.feature, "bbox_format", None)
    written = getattr(written, "value", written)
    if written not in _BOX_FORMATS:
        raise DataError(
            f"the TFDS feature {box.name} has boxes in the format {written}; only REL_YXYX "
            "(ymin, xmin, ymax, xmax in fractions) is read."
        )
