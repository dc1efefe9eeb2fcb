"""What a served model answers to: encoded images, raw pixels, `tf.Example`s."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from loc_keras.data.image_format import ImageFormat
from loc_keras.data.resize import restore_boxes
from loc_keras.serving.content_check import EMPTY
from loc_keras.serving.served_pictures import Pictures, decode_strings

IMAGE_BYTES, IMAGES, TF_EXAMPLE = "image_bytes", "images", "tf_example"
DEFAULT = "serving_default"
SIGNATURES = (DEFAULT, IMAGE_BYTES, IMAGES, TF_EXAMPLE)
"""Names of the signatures; the default one is `image_bytes`."""

EXAMPLES = "examples"
"""Name of the input of `tf_example`; the inputs of the others are named like their signature."""

ENCODED_KEY = "image/encoded"
"""Feature of a `tf.Example` that holds the encoded image."""

CHUNK = 64
"""Decoded images that the model sees at once, so that a large request needs no more memory."""

NOT_EXAMPLE = "is not a tf.Example"
_PX = ("box", "box_outer", "box_inner")

Outputs = dict[str, tf.Tensor]


class ServedModel(tf.Module):
    """A localizer with everything around it that a server without our code needs.

    Args:
        localizer: Functional model with the outputs `softmax` and `bbox`, and perhaps those of
            trust.
        class_names: Names of the classes by index.
        form: How pictures become the model's images.
    """

    def __init__(
        self, localizer: keras.Model, class_names: Sequence[str], form: ImageFormat
    ) -> None:
        """Notes the parts; see the class."""
        super().__init__(name="served")
        self._held = [variable.value for variable in localizer.variables]
        self._names = tuple(class_names)
        self._form = form
        strings = tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)
        examples = tf.TensorSpec([None], tf.string, name=EXAMPLES)
        self.images = pixel_function(localizer, form)
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
        outputs = in_chunks(self.images, pictures.images)
        return self._answer(outputs, pictures)

    def _of_examples(self, examples: tf.Tensor) -> Outputs:
        with tf.device("CPU:0"):
            contents, is_example = contents_of(examples)
        found = self.image_bytes(image_bytes=contents)
        reasons = tf.where(is_example, found["reason"], NOT_EXAMPLE)
        missing = is_example & (found["reason"] == EMPTY)
        found["reason"] = tf.where(missing, f"has no {ENCODED_KEY}, or an empty one", reasons)
        return found

    def _answer(self, outputs: Mapping[str, tf.Tensor], pictures: Pictures) -> Outputs:
        """Outputs of the model for (M, ...) images as answers to N pictures."""
        count = tf.size(pictures.ok)
        said = {name: value[:count] for name, value in outputs.items()}
        softmax = said.pop("softmax")
        said["box"] = said.pop("bbox")
        index = tf.argmax(softmax, axis=-1, output_type=tf.int64)
        # Where trust is fitted its probabilities count; the most probable class is the same.
        stated = said.get("softmax_calibrated", softmax)
        answers = {"probabilities": softmax, "score": tf.reduce_max(stated, axis=-1), **said}
        sides = tf.cast(tf.tile(pictures.sizes[:, ::-1], [1, 2]), tf.float32)
        for name in set(_PX) & set(said):
            whole = restore_boxes(
                said[name], pictures.sizes, self._form.size, self._form.rule_in_use
            )
            answers[name] = whole * sides
            if name == "box":
                answers["box_fraction"] = whole
        shown = {name: _where(pictures.ok, value) for name, value in answers.items()}
        return {
            **shown,
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

    return _function(call, tf.TensorSpec([None, *form.shape], tf.float32, name=IMAGES))


def contents_of(examples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoded images out of serialized `tf.Example`s.

    Args:
        examples: string (N,).

    Returns:
        string (N,), empty where there is none, and bool (N,), whether it is a `tf.Example`.
    """
    count = tf.size(examples)
    feature = {ENCODED_KEY: tf.io.FixedLenFeature([], tf.string, default_value="")}
    indexed = tf.data.Dataset.from_tensor_slices((tf.range(count), examples))
    found = indexed.map(
        lambda index, example: (index, tf.io.parse_single_example(example, feature)[ENCODED_KEY])
    )
    found = found.ignore_errors().concatenate(tf.data.Dataset.from_tensors((count, "")))
    index, contents = found.batch(tf.cast(count, tf.int64) + 1).get_single_element()
    at = index[:-1, tf.newaxis]
    contents = tf.tensor_scatter_nd_update(tf.fill([count], ""), at, contents[:-1])
    parsed = tf.scatter_nd(at, tf.ones_like(index[:-1]), [count])
    return contents, parsed > 0


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


def _function(call: Callable[..., Outputs], spec: tf.TensorSpec) -> Any:
    """A concrete function with one named input."""
    return tf.function(call, input_signature=[spec], autograph=False).get_concrete_function()


def _where(ok: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Values (N, ...) where a row is good, else zeros."""
    wide = tf.reshape(ok, tf.concat([tf.shape(ok), tf.ones([tf.rank(value) - 1], tf.int32)], 0))
    return tf.where(wide, value, tf.zeros_like(value))
