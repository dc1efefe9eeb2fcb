"""One serialized `tf.train.Example` with the features of the object-detection tools."""

from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError

from loc_keras.data.readers.parsing import shown
from loc_keras.data.readers.text_tables import RowFault

_BOX_FEATURES = ("xmin", "ymin", "xmax", "ymax")


class Example(NamedTuple):
    """What a record says.

    Attributes:
        offset: First byte of the encoded image within the record.
        length: Its bytes.
        name: File name or source id; `""` for neither.
        size: (width, height) in px, or None.
        boxes: (xmin, ymin, xmax, ymax) of each object, fractions.
        texts: Class of each object by name, or empty.
        ids: Class of each object by number, or empty.
    """

    offset: int
    length: int
    name: str
    size: tuple[int, int] | None
    boxes: list[tuple[float, float, float, float]]
    texts: list[str]
    ids: list[int]


def parse_example(data: bytes) -> Example:
    """Parses a record.

    Raises:
        RowFault: If it is no Example, holds no image, or the features of its objects disagree in
            type or number.
    """
    try:
        features = tf.train.Example.FromString(data).features.feature
    except DecodeError:
        raise RowFault("is not a serialized tf.train.Example", "syntax") from None
    encoded = _values(features, "image/encoded", "bytes_list")
    if len(encoded) != 1 or not encoded[0]:
        raise RowFault("has no image in image/encoded", "missing_image")
    columns = [
        _values(features, f"image/object/bbox/{side}", "float_list") for side in _BOX_FEATURES
    ]
    texts = _values(features, "image/object/class/text", "bytes_list")
    ids = _values(features, "image/object/class/label", "int64_list")
    counts = [len(column) for column in columns]
    if len(set(counts)) > 1 or any(len(column) not in (0, counts[0]) for column in (texts, ids)):
        raise RowFault(
            f"has {', '.join(map(str, counts))} values of {', '.join(_BOX_FEATURES)}, {len(texts)} "
            f"of class/text and {len(ids)} of class/label; they must be as many",
            "columns",
        )
    names = _values(features, "image/filename", "bytes_list") or _values(
        features, "image/source_id", "bytes_list"
    )
    # A protobuf message holds a bytes value as it is, so its place can be looked for. Should the
    # same bytes stand at an earlier place as well, that one serves as well.
    return Example(
        data.find(encoded[0]),
        len(encoded[0]),
        _text("image/filename", names[0]) if names else "",
        _size(features),
        list(zip(*columns, strict=True)),
        [_text("image/object/class/text", text) for text in texts],
        ids,
    )


def _size(features: Any) -> tuple[int, int] | None:
    width = _values(features, "image/width", "int64_list")
    height = _values(features, "image/height", "int64_list")
    return (width[0], height[0]) if len(width) == len(height) == 1 else None


def _values(features: Any, name: str, kind: str) -> list[Any]:
    """The values of a feature; an absent one has none."""
    if name not in features:
        return []
    feature = features[name]
    written = feature.WhichOneof("kind")
    if written not in (kind, None):
        raise RowFault(f"feature {name} is a {written}, expected a {kind}", "number")
    return list(getattr(feature, kind).value)


def _text(feature: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise RowFault(
            f"feature {feature}: {shown(repr(content[:40]))} is not UTF-8 text", "encoding"
        ) from None
