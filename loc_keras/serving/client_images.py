"""The encoded images that a client sends, in requests that a server can bear."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from loc_keras.errors import DataError

EncodedImage = bytes | bytearray | str | os.PathLike[str]
"""One image: the bytes of an encoded file, or the path of such a file."""


def image_bytes(image: EncodedImage) -> bytes:
    """The encoded file of one image.

    Raises:
        DataError: If it is a path that cannot be read, or nothing of `EncodedImage`.
    """
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if not isinstance(image, str | os.PathLike):
        raise DataError(
            f"an image of type {type(image).__name__} was given; "
            "a client sends encoded files, as bytes or by their path."
        )
    try:
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"image {os.fspath(image)} cannot be read ({reason}).") from error


def batches(
    images: Iterable[EncodedImage], max_images: int, max_bytes: int
) -> Iterator[list[bytes]]:
    """Groups images in order, each as large as both limits allow.

    Files are read as their group is made, so that no more than one group is held in memory.

    Args:
        images: Encoded images or their paths.
        max_images: Most images of a group, 1 or more.
        max_bytes: Most bytes of a group; an image above that makes a group of its own.

    Yields:
        Groups of one image or more.
    """
    group: list[bytes] = []
    size = 0
    for image in images:
        data = image_bytes(image)
        if group and (len(group) >= max_images or size + len(data) > max_bytes):
            yield group
            group, size = [], 0
        group.append(data)
        size += len(data)
    if group:
        yield group
