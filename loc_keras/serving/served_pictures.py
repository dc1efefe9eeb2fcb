"""From encoded strings to a batch of the model's images, in the graph.

TensorFlow's own operations do it all; what cannot be decoded stays a row, with its reason.
"""

from typing import NamedTuple

import tensorflow as tf

from loc_keras.data.decode import decode_jpeg, decode_png, with_channels
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.image_ratio import jpeg_ratio
from loc_keras.data.orientation import is_transposed, turn_image
from loc_keras.data.resize import resize_images
from loc_keras.serving.content_check import BMP, BROKEN, GIF, JPEG, PNG, Examined, examine
from loc_keras.serving.exif_in_graph import jpeg_orientation, png_orientation
from loc_keras.serving.raw_bytes import head_of, little_endian

PARALLEL = 16
"""Pictures that may be decoded at the same time; a server's own pool of threads bounds it, too."""

_PALETTE = 256


class Pictures(NamedTuple):
    """A batch of decoded pictures; rows that could not be decoded are zero.

    Attributes:
        images: uint8 (M, H, W, C) for the model. M is N, or 1 where N is 0: models dislike nothing.
        sizes: int32 (N, 2), height and width in px of the originals, turned upright; at least 1.
        ok: bool (N,), whether a row was decoded.
        reasons: string (N,), why not; empty where it was.
    """

    images: tf.Tensor
    sizes: tf.Tensor
    ok: tf.Tensor
    reasons: tf.Tensor


def decode_strings(contents: tf.Tensor, form: ImageFormat) -> Pictures:
    """Decodes and resizes strings (N,) on several threads; no string can spoil another's row."""
    count = tf.size(contents)
    indexed = tf.data.Dataset.from_tensor_slices((tf.range(count), contents))
    found = indexed.map(
        lambda index, content: (index, *_picture(content, form)), num_parallel_calls=PARALLEL
    )
    # Behind the last row stands one that is dropped, since a batch of nothing cannot be had.
    blank = (count, *_blank(form, tf.constant("")))
    found = found.ignore_errors().concatenate(tf.data.Dataset.from_tensors(blank))
    rows = found.batch(tf.cast(count, tf.int64) + 1).get_single_element()
    index, images, sizes, reasons = (part[:-1] for part in rows)
    at = index[:, tf.newaxis]
    # What is missing raised within a decoder.
    reasons = tf.tensor_scatter_nd_update(tf.fill([count], BROKEN), at, reasons)
    sizes = tf.tensor_scatter_nd_update(tf.ones([count, 2], tf.int32), at, sizes)
    images = tf.scatter_nd(at, images, [tf.maximum(count, 1), *form.shape])
    images = tf.ensure_shape(images, [None, *form.shape])
    return Pictures(images, sizes, reasons == "", reasons)


def _picture(content: tf.Tensor, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The model's image uint8 (H, W, C), the original's size int32 (2,), and the reason.

    Raises:
        tensorflow.errors.OpError: When run, if the content is broken.
    """
    found = examine(content)
    return tf.cond(
        found.reason == "", lambda: _decoded(found, form), lambda: _blank(form, found.reason)
    )


def _decoded(found: Examined, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    image, size = tf.cond(
        found.kind == JPEG,
        lambda: _jpeg(found.content, form),
        lambda: _resized(_other(found, form.channels), form),
    )
    return image, size, tf.constant("")


def _jpeg(content: tf.Tensor, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor]:
    orientation = jpeg_orientation(content)
    size, ratio = jpeg_ratio(content, form, is_transposed(orientation))
    picture = turn_image(decode_jpeg(content, form.channels, ratio), orientation)
    return resize_images(picture, form.size, form.rule_in_use, size=size, ratio=ratio), size


def _resized(picture: tf.Tensor, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor]:
    return resize_images(picture, form.size, form.rule_in_use), tf.shape(picture)[:2]


def _other(found: Examined, channels: int) -> tf.Tensor:
    picture = tf.switch_case(
        found.kind - PNG,
        {
            PNG - PNG: lambda: decode_png(found.content),
            GIF - PNG: lambda: tf.io.decode_gif(found.content)[0],
            BMP - PNG: lambda: _bmp(found.content),
        },
    )
    picture = with_channels(tf.ensure_shape(picture, [None, None, None]), channels)
    picture = tf.ensure_shape(picture, [None, None, channels])
    orientation = tf.cond(
        found.kind == PNG, lambda: png_orientation(found.content), lambda: tf.constant(1)
    )
    return turn_image(picture, orientation)


def _bmp(content: tf.Tensor) -> tf.Tensor:
    """A BMP picture, with the colours of its palette where it has one: uint8 (H, W, 3 or 4)."""
    picture = tf.io.decode_bmp(content)
    raw = head_of(content, 2048)
    start = tf.cast(little_endian(raw, 14, 4), tf.int32) + 14
    entries = tf.concat([raw, tf.zeros([4 * _PALETTE], tf.int32)], axis=0)
    start = tf.clip_by_value(start, 0, tf.shape(raw)[0])
    colours = tf.reshape(entries[start : start + 4 * _PALETTE], [_PALETTE, 4])[:, 2::-1]
    return tf.cond(
        tf.shape(picture)[-1] == 1,
        lambda: tf.gather(tf.cast(colours, tf.uint8), tf.cast(picture[..., 0], tf.int32)),
        lambda: picture,
    )


def _blank(form: ImageFormat, reason: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return tf.zeros(form.shape, tf.uint8), tf.ones([2], tf.int32), reason
