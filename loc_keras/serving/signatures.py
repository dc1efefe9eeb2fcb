"""What a served model answers to: encoded images, raw pixels, `tf.Example`s."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from loc_keras.data.decode import HIGHEST, UNIT_RANGE
from loc_keras.data.image_bytes import BROKEN, EMPTY, examine, orientation_in
from loc_keras.data.record_images import CONTENT, ORIENTATION, load_picture
from loc_keras.data.resize import ImageFormat, restore_boxes

IMAGE_BYTES, IMAGES, TF_EXAMPLE = "image_bytes", "images", "tf_example"
DEFAULT = "serving_default"
"""Names of the signatures; the default one is `image_bytes`."""

EXAMPLES = "examples"
"""Name of the input of `tf_example`; the inputs of the others are named like their signature."""

ENCODED_KEY = "image/encoded"  # Feature of a `tf.Example` that holds the encoded image.

PARALLEL = 16
"""Pictures that may be decoded at the same time; a server's own pool of threads bounds it, too."""

CHUNK = 64
"""Decoded images that the model sees at once, so that a large request needs no more memory."""

NOT_EXAMPLE = "is not a tf.Example"
BOXES = ("box", "box_outer", "box_inner")
"""Outputs of a served model that are in px of the originals."""

Outputs = dict[str, tf.Tensor]


class Pictures(NamedTuple):
    """A batch of decoded pictures; rows that could not be decoded are zero.

    Attributes:
        images: uint8 (M, H, W, C) for the model. M is N, or 1 where N is 0: models dislike nothing.
        sizes: int32 (N, 2), height and width in px of the originals, turned upright; at least 1.
        ok: bool (N,).
        reasons: string (N,), empty where it was decoded.
    """

    images: tf.Tensor
    sizes: tf.Tensor
    ok: tf.Tensor
    reasons: tf.Tensor


class ServedModel(tf.Module):
    """A localizer with everything around it that a server without our code needs.

    It is a functional model with the outputs `softmax` and `bbox`, and perhaps those of trust.
    """

    def __init__(
        self, localizer: keras.Model, class_names: Sequence[str], form: ImageFormat
    ) -> None:
        super().__init__(name="served")
        self._held = [variable.value for variable in localizer.variables]
        self._names = tuple(class_names)
        self._form = form
        strings = tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)
        examples = tf.TensorSpec([None], tf.string, name=EXAMPLES)
        self._pixels = pixel_function(localizer, form)
        self.images = _function(self._of_images, _pixels_spec(form))
        self.image_bytes = _function(self._of_strings, strings)
        self.tf_example = _function(self._of_examples, examples)

    @property
    def signatures(self) -> dict[str, Any]:
        """The signatures by name, ready for `tf.saved_model.save`."""
        return {
            DEFAULT: self.image_bytes,
            IMAGE_BYTES: self.image_bytes,
            IMAGES: self.images,
            TF_EXAMPLE: self.tf_example,
        }

    def _of_strings(self, image_bytes: tf.Tensor) -> Outputs:
        with tf.device("CPU:0"):
            pictures = decode_strings(image_bytes, self._form)
        outputs = in_chunks(self._pixels, pictures.images)
        return self._answers(outputs, pictures)

    def _of_images(self, images: tf.Tensor) -> Outputs:
        count = tf.shape(images)[0]
        with tf.control_dependencies(_raw_pixels(images)):
            # An empty batch leaves oneDNN's convolutions with a wrong shape (TensorFlow 2.21).
            some = tf.cond(count > 0, lambda: images, lambda: tf.zeros([1, *self._form.shape]))
            outputs: Outputs = self._pixels(images=tf.ensure_shape(some, images.shape))
        return {name: value[:count] for name, value in outputs.items()}

    def _of_examples(self, examples: tf.Tensor) -> Outputs:
        with tf.device("CPU:0"):
            contents, is_example = contents_of(examples)
        answers = self.image_bytes(image_bytes=contents)
        reasons = tf.where(is_example, answers["reason"], NOT_EXAMPLE)
        missing = is_example & (answers["reason"] == EMPTY)
        answers["reason"] = tf.where(missing, f"has no {ENCODED_KEY}, or an empty one", reasons)
        return answers

    def _answers(self, outputs: Mapping[str, tf.Tensor], pictures: Pictures) -> Outputs:
        """Outputs of the model for (M, ...) images as answers to N pictures."""
        count = tf.size(pictures.ok)
        answers = {name: value[:count] for name, value in outputs.items()}
        softmax = answers["probabilities"] = answers.pop("softmax")
        answers["box"] = answers.pop("bbox")
        index = tf.argmax(softmax, axis=-1, output_type=tf.int64)
        # Where trust is fitted its probabilities count; the most probable class is the same.
        answers["score"] = tf.reduce_max(answers.get("softmax_calibrated", softmax), axis=-1)
        sides = tf.cast(tf.tile(pictures.sizes[:, ::-1], [1, 2]), tf.float32)
        size, rule = self._form.size, self._form.rule_in_use
        fractions = {
            name: restore_boxes(answers[name], pictures.sizes, size, rule)
            for name in BOXES
            if name in answers
        }
        answers |= {name: boxes * sides for name, boxes in fractions.items()}
        answers["box_fraction"] = fractions["box"]
        values = {name: _where(pictures.ok, value) for name, value in answers.items()}
        return {
            **values,
            "label": tf.where(pictures.ok, tf.gather(tf.constant(self._names), index), ""),
            "class_id": tf.where(pictures.ok, index, -1),
            "size": _where(pictures.ok, pictures.sizes),
            "ok": pictures.ok,
            "reason": pictures.reasons,
        }


def pixel_function(localizer: keras.Model, form: ImageFormat) -> Any:
    """A localizer as a concrete function of `images` float32 (N, H, W, C), raw pixels."""

    def call(images: tf.Tensor) -> Outputs:
        outputs: Outputs = localizer(images, training=False)
        return outputs

    return _function(call, _pixels_spec(form))


def _pixels_spec(form: ImageFormat) -> tf.TensorSpec:
    return tf.TensorSpec([None, *form.shape], tf.float32, name=IMAGES)


def _raw_pixels(images: tf.Tensor) -> list[tf.Operation]:
    """Refuses a request in which an image (H, W, C) has other values than raw pixels."""
    sides = [1, 2, 3]
    # False of what is no number.
    inside = tf.reduce_all((images >= 0) & (images <= HIGHEST), sides)
    # Whole numbers as low may be a dark picture of 8 bits.
    broken = tf.reduce_any(images != tf.round(images), sides)
    least, most = tf.reduce_min(images, sides), tf.reduce_max(images, sides)
    bad = ~inside | (broken & (most < UNIT_RANGE))
    texts = [tf.as_string(tf.where(bad)[:1, 0])]
    texts += [tf.as_string(value[bad][:1], shortest=True) for value in (least, most)]
    place, low, high = (tf.strings.reduce_join(text) for text in texts)
    words = ["image ", place, " has values from ", low, " to ", high, "; give raw pixels 0..255"]
    return [tf.debugging.Assert(~tf.reduce_any(bad), [tf.strings.join(words)])]


def decode_strings(contents: tf.Tensor, form: ImageFormat) -> Pictures:
    """Decodes and resizes strings (N,) on several threads; no string can spoil another's row."""
    count = tf.size(contents)
    at, (images, sizes, reasons) = _map_strings(
        lambda content: _picture(content, form), contents, _blank(form, tf.constant("")), PARALLEL
    )
    # What is missing raised within a decoder.
    reasons = tf.tensor_scatter_nd_update(tf.fill([count], BROKEN), at, reasons)
    sizes = tf.tensor_scatter_nd_update(tf.ones([count, 2], tf.int32), at, sizes)
    images = tf.scatter_nd(at, images, [tf.maximum(count, 1), *form.shape])
    images = tf.ensure_shape(images, [None, *form.shape])
    return Pictures(images, sizes, reasons == "", reasons)


def contents_of(examples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoded images in serialized `tf.Example`s (N,), and whether each is one, bool (N,)."""
    count = tf.size(examples)
    feature = {ENCODED_KEY: tf.io.FixedLenFeature([], tf.string, default_value="")}
    at, (found,) = _map_strings(
        lambda example: (tf.io.parse_single_example(example, feature)[ENCODED_KEY],),
        examples,
        ("",),
    )
    contents = tf.tensor_scatter_nd_update(tf.fill([count], ""), at, found)
    return contents, tf.scatter_nd(at, tf.ones_like(at[:, 0]), [count]) > 0


def in_chunks(function: Callable[..., Outputs], images: tf.Tensor) -> Outputs:
    """Calls a model on uint8 (M, H, W, C), M at least 1, by `CHUNK` at a time."""
    names = sorted(function.structured_outputs)  # type: ignore[attr-defined]
    specs = function.structured_outputs  # type: ignore[attr-defined]
    total = tf.shape(images)[0]
    parts = [
        tf.TensorArray(
            specs[name].dtype,
            size=(total + CHUNK - 1) // CHUNK,
            element_shape=[None, *specs[name].shape[1:]],
            infer_shape=False,
        )
        for name in names
    ]

    def step(index: tf.Tensor, parts: list[tf.TensorArray]) -> tuple[tf.Tensor, Any]:
        start = index * CHUNK
        outputs = function(images=tf.cast(images[start : start + CHUNK], tf.float32))
        return index + 1, [
            part.write(index, outputs[name]) for part, name in zip(parts, names, strict=True)
        ]

    _, parts = tf.while_loop(
        lambda index, parts: index * CHUNK < total,
        step,
        [tf.constant(0), parts],
        parallel_iterations=1,
    )
    return {name: part.concat() for name, part in zip(names, parts, strict=True)}


def _map_strings(
    function: Callable[[tf.Tensor], tuple[Any, ...]],
    strings: tf.Tensor,
    blank: tuple[Any, ...],
    parallel: int | None = None,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Calls a function on each of N strings and leaves out those on which it raises.

    Returns:
        int32 (M, 1), the rows that are left, and for each output of the function its M values.
    """
    count = tf.size(strings)
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), strings)).map(
        lambda index, string: (index, *function(string)), num_parallel_calls=parallel
    )
    # Behind the last row stands one that is dropped, since a batch of nothing cannot be had.
    rows = rows.ignore_errors().concatenate(tf.data.Dataset.from_tensors((count, *blank)))
    index, *values = rows.batch(tf.cast(count, tf.int64) + 1).get_single_element()
    return index[:-1, tf.newaxis], [value[:-1] for value in values]


def _picture(content: tf.Tensor, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The model's image uint8 (H, W, C), the original's size int32 (2,), and the reason.

    Raises:
        tensorflow.errors.OpError: When run, if the content is broken.
    """
    reason = examine(content)
    return tf.cond(
        reason == "", lambda: (*_decoded(content, form), reason), lambda: _blank(form, reason)
    )


def _decoded(content: tf.Tensor, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor]:
    row = {CONTENT: content, ORIENTATION: orientation_in(content)}
    return load_picture(row, replace(form, rule=form.rule_in_use), portable=True)


def _blank(form: ImageFormat, reason: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return tf.zeros(form.shape, tf.uint8), tf.ones([2], tf.int32), reason


def _function(call: Callable[..., Outputs], spec: tf.TensorSpec) -> Any:
    return tf.function(call, input_signature=[spec], autograph=False).get_concrete_function()


def _where(ok: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Values (N, ...) where a row is good, else zeros."""
    wide = tf.reshape(ok, tf.concat([tf.shape(ok), tf.ones([tf.rank(value) - 1], tf.int32)], 0))
    return tf.where(wide, value, tf.zeros_like(value))
