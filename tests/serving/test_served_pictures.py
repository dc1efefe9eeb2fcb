"""Decoding in the graph of a served model: pixels against Pillow, refusals, bounded memory."""

import io
import random
import struct

import numpy as np
import pytest
import tensorflow as tf
from helpers.served_files import BAD, DAMAGED, GOOD, PICTURE, PIXELS, encoded, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from loc_keras.data import image_bytes
from loc_keras.data.resize import ImageFormat
from loc_keras.serving.signatures import Pictures, decode_strings

HEIGHT, WIDTH = 60, 90
STRING = [tf.TensorSpec([], tf.string)]
orientation_in = tf.function(image_bytes.orientation_in, STRING, autograph=False)
first_frame = tf.function(image_bytes.first_frame, STRING, autograph=False)
STRINGS = [tf.TensorSpec([None], tf.string)]


def decoder(channels):
    form = ImageFormat((HEIGHT, WIDTH), channels, "stretch")
    return tf.function(
        lambda contents: decode_strings(contents, form), input_signature=STRINGS, autograph=False
    )


@pytest.fixture(scope="module")
def decode():
    """Decodes strings to the size that the test pictures have already."""
    return decoder(3)


def by_pillow(content):
    """The first frame, upright, in RGB; of 16 bits the upper 8, as the product promises."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return np.asarray(picture.convert("RGB"))


def test_each_kind_has_pillows_pixels(decode):
    found = decode(tf.constant(list(GOOD.values())))
    assert found.ok.numpy().all()
    assert set(found.reasons.numpy()) == {b""}
    for index, (kind, content) in enumerate(GOOD.items()):
        expected = by_pillow(content)
        assert tuple(found.sizes[index].numpy()) == expected.shape[:2], kind
        if expected.shape == PIXELS.shape:
            # libjpeg's CMYK and chroma paths round by a step or two.
            difference = np.abs(found.images[index].numpy().astype(int) - expected)
            assert difference.max() <= (3 if "jpeg" in kind else 0), kind


def test_each_bad_string_has_a_reason_and_spoils_no_other(decode):
    contents = []
    for bad, _ in BAD.values():
        contents += [GOOD["png"], bad]
    found = decode(tf.constant(contents))
    assert found.ok.numpy().tolist() == [True, False] * len(BAD)
    for index, (kind, (_, reason)) in enumerate(BAD.items()):
        said = found.reasons[2 * index + 1].numpy().decode()
        assert said.startswith(reason), (kind, said)
        np.testing.assert_array_equal(found.images[2 * index], PIXELS)
        assert not found.images[2 * index + 1].numpy().any()


def test_no_string_gives_no_row(decode):
    found = decode(tf.constant([], tf.string))
    assert [len(part) for part in (found.sizes, found.ok, found.reasons)] == [0, 0, 0]
    assert isinstance(found, Pictures)


def test_gray_models_get_luminance():
    found = decoder(1)(tf.constant([GOOD["png"], GOOD["gif"]]))
    expected = np.asarray(PICTURE.convert("L"))
    np.testing.assert_array_equal(found.images[0, ..., 0], expected)


def test_rows_keep_their_order(decode):
    order = random.Random(0).choices([("png", True), ("text", False)], k=200)
    contents = [GOOD["png"] if good else BAD["text"][0] for _, good in order]
    found = decode(tf.constant(contents))
    assert found.ok.numpy().tolist() == [good for _, good in order]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_bytes_never_spoil_another_row(decode, data):
    content = bytearray(GOOD[data.draw(st.sampled_from(sorted(GOOD)))])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(content), 400) - 1))
        content[at] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(content)))
    found = decode(tf.constant([bytes(content[:kept]), bytes(content), GOOD["png"]]))
    assert found.ok.numpy()[-1]
    np.testing.assert_array_equal(found.images[-1], PIXELS)
    for ok, reason in zip(found.ok.numpy(), found.reasons.numpy(), strict=True):
        assert ok == (reason == b"")


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_jpeg(orientation):
    assert orientation_in(tf.constant(turned(orientation))) == orientation
    behind = turned(orientation, entries=[(0x010F, "a maker"), (0x0110, "a model")])
    assert orientation_in(tf.constant(behind)) == orientation


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "count", "value", "expected"),
    [(3, 1, 6, 6), (4, 1, 8, 8), (3, 1, 0, 1), (3, 1, 9, 1), (3, 2, 6, 1), (2, 1, 6, 1)],
)
def test_orientation_by_the_exif_standard(endian, kind, count, value, expected):
    # Built by hand from CIPA DC-008: TIFF header, one entry, SHORT values stand at the left.
    field = struct.pack(endian + "HH", value, 0) if kind == 3 else struct.pack(endian + "I", value)
    entry = struct.pack(endian + "HHI", 0x0112, kind, count) + field
    mark = b"II*\0" if endian == "<" else b"MM\0*"
    tiff = mark + struct.pack(endian + "IH", 8, 1) + entry + b"\0" * 4
    body = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    plain = encoded(PICTURE, "JPEG")
    assert orientation_in(tf.constant(plain[:2] + segment + plain[2:])) == expected


def test_broken_exif_is_passed_over():
    content = turned(6)
    start = content.index(b"Exif\0\0") + 6
    for at in range(start, start + 14):
        for value in (0, 127, 255):
            changed = content[:at] + bytes([value]) + content[at + 1 :]
            assert 1 <= int(orientation_in(tf.constant(changed))) <= 8
    for length in range(0, start + 30):
        assert 1 <= int(orientation_in(tf.constant(content[:length]))) <= 8


# GIF


def test_first_frame_is_cut_out():
    found = first_frame(tf.constant(GOOD["gif animated"]))
    alone = Image.open(io.BytesIO(found.content.numpy()))
    assert getattr(alone, "n_frames", 1) == 1
    expected = np.asarray(Image.open(io.BytesIO(GOOD["gif animated"])).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(alone.convert("RGB")), expected)
    assert len(found.content.numpy()) < len(GOOD["gif animated"]) / 2
    assert tuple(found.size.numpy()) == (HEIGHT, WIDTH)


def test_a_gif_of_many_tiny_blocks_is_given_up_soon():
    # 100,000 blocks of one byte, then of two, in turn: no run to step over.
    head = GOOD["gif"][: GOOD["gif"].index(b"\x2c\0\0\0\0") + 10]
    content = head + b"\x08" + b"\1\0\2\0\0" * 50_000
    assert first_frame(tf.constant(content)).content == b""


def test_memory_is_bounded(decode):
    resource = pytest.importorskip("resource")
    decode(tf.constant([GOOD["png"]]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hostile = [BAD[kind][0] for kind in ("large png", "larger png", "large gif frame")] * 50
    found = decode(tf.constant(hostile))
    assert not found.ok.numpy().any()
    assert DAMAGED not in {reason.decode() for reason in found.reasons.numpy()}
    # One 20,000 x 20,000 picture alone would take 1,200 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
