"""The objects of annotations one by one, and the records of annotations that no check has seen."""

from collections.abc import Iterator

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Annotated, Annotations, Split
from loc_keras.data.image_header import read_headers
from loc_keras.data.resolve import DatasetRecords, checked_objects, resolve


def all_objects(annotations: Annotations) -> Iterator[tuple[Split, Annotated]]:
    """Every object with its split, in the order of the files."""
    for split, objects in annotations.objects.items():
        for one in objects:
            yield split, one


def resolved(annotations: Annotations, source: SourceConfig) -> DatasetRecords:
    """As `resolve`, which is told of the objects' boxes by a check."""
    refs = list(annotations.joined.images)
    headers = dict(zip(refs, read_headers(refs), strict=True))
    return resolve(annotations, source, checked_objects(annotations, headers, source))
