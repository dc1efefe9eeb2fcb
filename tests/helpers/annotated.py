"""The objects of annotations one by one, each with its split."""

from collections.abc import Iterator

from loc_keras.data.annotations import Annotated, Annotations, Split


def all_objects(annotations: Annotations) -> Iterator[tuple[Split, Annotated]]:
    """Every object with its split, in the order of the files."""
    for split, objects in annotations.objects.items():
        for one in objects:
            yield split, one
