"""Images without an object as a class of their own, where the user names it.

Readers only tell which images show nothing. Here these become annotated images with the label of
the background and the empty box, so that the check and training see them as they see all others.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Split,
)
from loc_keras.data.class_names import class_index, class_indices, infer_class_names, with_class
from loc_keras.data.empty_boxes import EMPTY_BOX

FAULT_KIND = "background_box"


def with_background(
    annotations: Annotations, name: str, class_names: Sequence[str] | None = None
) -> Annotations:
    """Makes images without an object records of a class.

    An image that is named as empty but has an object as well, read or not, is none: what is said
    of it stays a fault.

    Args:
        annotations: As read.
        name: Class of images without an object. Where the data set fixes its classes and this is
            none of them, it comes after them.
        class_names: Classes by index where the config fixes them.

    Returns:
        Annotations without `empty`, whose faults of these images are gone. Objects that have the
        class of the background and a box are faults.
    """
    given = class_names or annotations.class_names
    if given:
        names = with_class(given, name)
    else:
        train = annotations.objects.get("train", [])
        names = infer_class_names({one.label for one in train}, name)
    index_of = class_indices(names)

    def is_background(label: str) -> bool:
        return class_index(label, index_of) == index_of[name]

    faults: list[Fault] = []
    objects: dict[Split, list[Annotated]] = {}
    unread = Counter(annotations.unread)
    for split, several in annotations.objects.items():
        objects[split] = []
        for one in several:
            if not is_background(one.label):
                objects[split].append(one)
            elif one.box == EMPTY_BOX:
                objects[split].append(one._replace(label=name, empty=True))
            else:
                faults.append(_boxed(one, name))
                unread[one.image] += 1
    showing = {(split, one.image) for split, part in objects.items() for one in part}
    used: set[Fault] = set()
    for nothing in annotations.empty:
        fits = not nothing.label or is_background(nothing.label)
        if fits and nothing.image not in unread and (nothing.split, nothing.image) not in showing:
            used.add(nothing.fault)
            objects.setdefault(nothing.split, []).append(_annotated(nothing, name))
    return replace(
        annotations,
        objects=objects,
        faults=[fault for fault in annotations.faults if fault not in used] + faults,
        class_names=with_class(annotations.class_names, name) if annotations.class_names else None,
        unread=dict[ImageRef, int](unread),
        empty=(),
    )


def _annotated(nothing: EmptyImage, label: str) -> Annotated:
    return Annotated(
        nothing.image,
        nothing.name,
        label,
        EMPTY_BOX,
        nothing.fault.file,
        nothing.fault.row,
        nothing.size,
        nothing.group,
        empty=True,
    )


def _boxed(one: Annotated, name: str) -> Fault:
    reason = f"has a box of the class {name!r}, which data.source.background keeps for images "
    return Fault(one.file, one.row, reason + "without an object", FAULT_KIND)
