"""A small SavedModel by hand with the signatures of an exported localizer, for tests of serving.

What it answers can be worked out by hand: the label is `bright` where the mean pixel is 128 or more
and `dark` below, the score is how far it is on that side, and the box is the middle half of the
picture.
"""

from pathlib import Path

import tensorflow as tf

LABELS = ("dark", "bright")
MIDDLE = (0.25, 0.25, 0.75, 0.75)
SIDE = 8
MAX_PIXELS = 2**26
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"


def write_tiny_bundle(version: Path) -> Path:
    """Writes the SavedModel to the folder `version` and returns it."""
    module = TinyBundle()
    tf.saved_model.save(
        module,
        str(version),
        signatures={
            "serving_default": module.image_bytes,
            "image_bytes": module.image_bytes,
            "images": module.images,
            "tf_example": module.tf_example,
        },
    )
    return version


class TinyBundle(tf.Module):
    """Brightness as class, the middle as box."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def image_bytes(self, image_bytes):
        return answers(image_bytes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def tf_example(self, examples):
        feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string, "")}
        return answers(tf.io.parse_example(examples, feature)["image/encoded"])

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 1], tf.float32, "images")])
    def images(self, images):
        return raw_outputs(images)


def raw_outputs(images):
    bright = tf.reduce_mean(images, axis=(1, 2, 3)) / 255
    return {
        "softmax": tf.stack([1 - bright, bright], axis=-1),
        "bbox": tf.broadcast_to(tf.constant([MIDDLE]), [tf.shape(images)[0], 4]),
    }


def answers(encoded):
    pixels, sizes, reasons = read(encoded)
    outputs = raw_outputs(pixels)
    ok = tf.equal(reasons, "")
    softmax, bbox = (tf.where(ok[:, None], outputs[name], 0.0) for name in ("softmax", "bbox"))
    class_id = tf.argmax(softmax, axis=-1)
    return {
        "ok": ok,
        "reason": reasons,
        "label": tf.where(ok, tf.gather(tf.constant(LABELS), class_id), ""),
        "class_id": tf.where(ok, class_id, -1),
        "score": tf.reduce_max(softmax, axis=-1),
        "probabilities": softmax,
        "box": bbox * tf.tile(sizes, [1, 2]),
        "box_fraction": bbox,
    }


def read(encoded):
    """Pixels (N, SIDE, SIDE, 1), sizes (N, 2) as width and height, and reasons (N,); never fails.

    A data set can leave out what fails; there is no other try in a graph. It takes one after the
    other: however large the batch, one decoded picture is in memory.
    """
    count = tf.size(encoded)
    indexed = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    found = indexed.map(lambda index, data: (index, *decoded(data))).ignore_errors()
    # Behind the last row stands one that is dropped, since a batch of nothing cannot be had.
    last = (count, tf.zeros([SIDE, SIDE, 1]), tf.zeros([2]))
    found = found.concatenate(tf.data.Dataset.from_tensors(last))
    rows = found.batch(tf.cast(count, tf.int64) + 1).get_single_element()
    index, pixels, sizes = (part[:-1] for part in rows)
    at = index[:, tf.newaxis]
    pixels = tf.scatter_nd(at, pixels, [count, SIDE, SIDE, 1])
    sizes = tf.scatter_nd(at, sizes, [count, 2])
    return pixels, sizes, tf.where(sizes[:, 0] > 0, "", "is no image that can be read")


def decoded(data):
    """Pixels and (width, height) of one image; an error where it is none, or too large."""
    small = tf.debugging.assert_less_equal(png_pixels(data), tf.constant(MAX_PIXELS, tf.int64))
    with tf.control_dependencies([small]):
        image = tf.io.decode_image(data, channels=1, expand_animations=False)
    image.set_shape([None, None, 1])
    size = tf.cast(tf.shape(image)[1::-1], tf.float32)
    return tf.image.resize(tf.cast(image, tf.float32), [SIDE, SIDE]), size


def png_pixels(encoded):
    """Number of pixels that a PNG header declares; 0 for anything else."""

    def declared():
        sides = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.uint8)
        sides = tf.reshape(tf.cast(sides, tf.int64), [2, 4])
        return tf.reduce_prod(tf.reduce_sum(sides * [2**24, 2**16, 2**8, 1], axis=-1))

    is_png = tf.equal(tf.strings.substr(encoded, 0, 8), b"\x89PNG\r\n\x1a\n")
    whole = tf.strings.length(encoded) >= 24
    return tf.cond(is_png & whole, declared, lambda: tf.constant(0, tf.int64))


def write_warmup(version: Path, images: list[bytes], pixels) -> Path:
    """Writes one request for each signature as TF Serving reads it; needs its protobufs."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    example = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
                }
            )
        ).SerializeToString()
        for image in images
    ]
    inputs = {
        "serving_default": ("image_bytes", tf.constant(images)),
        "image_bytes": ("image_bytes", tf.constant(images)),
        "images": ("images", tf.constant(pixels, tf.float32)),
        "tf_example": ("examples", tf.constant(example)),
    }
    path = version / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, (name, tensor) in inputs.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "default"
            request.model_spec.signature_name = signature
            request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())
    return path
