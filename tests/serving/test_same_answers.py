"""A file gives one picture, whether training, predicting or an exported model decodes it."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.mutated_images import KINDS, mutated

from loc_keras.data.image_header import HeaderError, header_of, without_image_warnings
from loc_keras.data.resize import ImageFormat
from loc_keras.data.resolve import picture_size
from loc_keras.errors import ImageError
from loc_keras.localizer.opening import GraphReader
from loc_keras.serving.signatures import decode_strings

FORM = ImageFormat((16, 24), 3, "letterbox")


def compare(contents):
    """Decodes files in both ways, and counts those that both read, by kind."""
    decode = tf.function(
        lambda strings: decode_strings(strings, FORM),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    served = decode(tf.constant(contents))
    reader = GraphReader(FORM)
    read = dict.fromkeys(KINDS, 0)
    for index, content in enumerate(contents):
        kind = KINDS[index % len(KINDS)]
        ok, reason = bool(served.ok[index]), served.reasons[index].numpy().decode()
        place = (index, kind, reason)
        try:
            with without_image_warnings():
                local = reader.read(content)
        except ImageError as error:
            assert not ok, (*place, str(error))
            continue
        if not ok:
            # Documented: an exported model has no decoder for these, and says so.
            assert reason.startswith(("is not a JPEG, PNG", "is a BMP image of a kind")), place
            continue
        read[kind] += 1
        assert local.size == tuple(served.sizes[index].numpy()), place
        np.testing.assert_array_equal(local.pixels, served.images[index], err_msg=str(place))
        with without_image_warnings():
            try:
                header = header_of(content)  # What training goes by.
            except HeaderError:
                continue
        assert picture_size(header, "upright") == local.size[::-1], place
    return read


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_predicting_and_serving_agree_on_strange_files(count):
    read = compare(mutated(count, seed=count))
    # A third of the files are valid, and most of the odd ones.
    for kind in ("JPEG", "PNG", "BMP", "GIF"):
        assert read[kind] > count / len(KINDS) / 4, read
