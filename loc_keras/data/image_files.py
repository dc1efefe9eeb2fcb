"""Image files: decoding, the resize rule, and holding them in memory where they fit."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from loc_keras.data.resize import ResizeRule, resize_boxes, resize_images

_GRAY, _COLOUR = 1, 3
_PREFETCHED = 64


@dataclass(frozen=True)
class ImageFormat:
    """What every image becomes.

    Attributes:
        size: Height and width in pixels.
        channels: 1 or 3.
        rule: `"stretch"` or `"letterbox"`; None takes no image of another size.
    """

    size: tuple[int, int]
    channels: int
    rule: ResizeRule | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (*self.size, self.channels)


def decode(path: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP or GIF file (its first picture).

    Args:
        path: string scalar.
        channels: 1 or 3; gray is repeated, colour is weighted by luminance, transparency is
            dropped.

    Returns:
        uint8 (H, W, channels); pixel values of a file with this many channels are kept.
    """
    image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    found = tf.shape(image)[-1]
    # Two and four channels are gray and colour with transparency.
    image = image[..., : found - (1 - found % 2)]
    if channels == _COLOUR:
        image = tf.cond(found < _COLOUR, lambda: tf.repeat(image, _COLOUR, axis=-1), lambda: image)
    else:
        image = tf.cond(found < _COLOUR, lambda: image, lambda: tf.image.rgb_to_grayscale(image))
    return tf.ensure_shape(image, [None, None, channels])


def load(path: tf.Tensor, box: tf.Tensor, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes one image and brings it and its box to the common format.

    Args:
        path: string scalar.
        box: float32 (4,), fractions of the file's picture.
        form: The common format.

    Returns:
        uint8 (height, width, channels) and float32 (4,).
    """
    image = decode(path, form.channels)
    if form.rule is None:
        return tf.ensure_shape(image, form.shape), box
    box = resize_boxes(box, tf.shape(image)[:2], form.size, form.rule)
    return resize_images(image, form.size, form.rule), box


def load_batch(
    paths: tf.Tensor, boxes: tf.Tensor, form: ImageFormat
) -> tuple[tf.Tensor, tf.Tensor]:
    """`load` for string (B,) and float32 (B, 4)."""
    return tf.map_fn(
        lambda pair: load(pair[0], pair[1], form),
        (paths, boxes),
        fn_output_signature=(tf.TensorSpec(form.shape, tf.uint8), tf.TensorSpec([4], tf.float32)),
    )


def load_all(
    paths: np.ndarray, boxes: np.ndarray, form: ImageFormat, *, keep: bool
) -> tuple[np.ndarray | None, np.ndarray, dict[int, str]]:
    """Decodes every image once, in parallel.

    Args:
        paths: str (N,).
        boxes: float32 (N, 4).
        form: The common format.
        keep: Whether to return the pixels; otherwise the pass only finds broken files.

    Returns:
        Pixels uint8 (N, height, width, channels) or None, boxes float32 (N, 4) in fractions of
        the resized pictures, and the reason for each index that could not be decoded (whose
        pixels and box are then undefined).
    """
    count = len(paths)
    pixels = np.zeros((count, *form.shape), np.uint8) if keep else None
    moved = np.array(boxes, np.float32)
    seen = np.zeros(count, bool)
    rows = tf.data.Dataset.from_tensor_slices((np.arange(count), paths.astype(str), moved))
    loaded = rows.map(
        lambda index, path, box: (index, *load(path, box, form)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    loaded = loaded.ignore_errors(log_warning=False).batch(_PREFETCHED).prefetch(2)
    for index, images, new_boxes in loaded.as_numpy_iterator():
        seen[index] = True
        moved[index] = new_boxes
        if pixels is not None:
            pixels[index] = images
    return pixels, moved, {int(i): _reason(paths[i], form) for i in np.flatnonzero(~seen)}


def first_shape(path: str) -> tuple[int, int, int]:
    """(height, width, 1 or 3) of an image file, as decoded.

    Raises:
        tensorflow.errors.OpError: If the file cannot be decoded.
    """
    image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    height, width, channels = image.shape
    return height, width, _GRAY if channels < _COLOUR else _COLOUR


def _reason(path: str, form: ImageFormat) -> str:
    try:
        height, width, _ = first_shape(path)
    except (tf.errors.OpError, ValueError):
        return f"image {path} cannot be decoded as JPEG, PNG, BMP or GIF"
    return (
        f"image {path} is {width} x {height} px and the first one is {form.size[1]} x "
        f"{form.size[0]}; set data.image_size to bring all to one size"
    )
