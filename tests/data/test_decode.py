"""Decoding: every kind of file against Pillow's own pixels, and broken ones refused."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from helpers.hostile_images import png_of_size
from PIL import Image

from loc_keras.data.decode import RATIOS, decode_bytes, luminance

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (21, 30, 4), np.uint8)
# JPEG decoders differ in how they raise the resolution of colours; smooth colours do not.
RAMP = np.stack(np.broadcast_arrays(np.arange(0, 240, 8)[None], 9 * np.arange(21)[:, None], 99), -1)
RGB = Image.fromarray(RAMP.astype(np.uint8))
GRAY, RGBA = RGB.convert("L"), Image.fromarray(NOISE)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def in_dataset(contents, channels):
    """Decodes as the pipeline does: traced once, for all of the contents."""
    dataset = tf.data.Dataset.from_tensor_slices(contents)
    return list(dataset.map(lambda one: decode_bytes(one, channels)).as_numpy_iterator())


LOSSLESS = {
    "png gray": encoded(GRAY, "PNG"),
    "png gray and alpha": encoded(RGBA.convert("LA"), "PNG"),
    "png rgb": encoded(RGB, "PNG"),
    "png rgba": encoded(RGBA, "PNG"),
    "png palette": encoded(RGB.quantize(16), "PNG"),
    "png palette, transparent": encoded(RGB.quantize(16), "PNG", transparency=3),
    "png two colours": encoded(GRAY.convert("1"), "PNG"),
    "bmp rgb": encoded(RGB, "BMP"),
    "bmp gray": encoded(GRAY, "BMP"),
    "bmp palette": encoded(RGB.quantize(16), "BMP"),
    "bmp rgba": encoded(RGBA, "BMP"),
    "bmp, a byte behind its pixels": encoded(RGB, "BMP") + b"\0",
    "gif": encoded(RGB.quantize(64), "GIF"),
    "gif, animated": encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180)]),
    "webp rgb": encoded(RGB, "WEBP", lossless=True),
    "webp rgba": encoded(RGBA, "WEBP", lossless=True, exact=True),
    "webp, animated": encoded(
        RGB, "WEBP", lossless=True, save_all=True, append_images=[RGB.rotate(180)]
    ),
    "ppm": encoded(RGB, "PPM"),
    "pgm": encoded(GRAY, "PPM"),
    "pbm": encoded(GRAY.convert("1"), "PPM"),
    "tiff": encoded(RGB, "TIFF"),
}


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_lossless_files_have_pillows_pixels(channels, mode):
    found = in_dataset(list(LOSSLESS.values()), channels)
    for (name, content), pixels in zip(LOSSLESS.items(), found, strict=True):
        image = Image.open(io.BytesIO(content))
        # To L in one step Pillow rounds a palette's colours on the way, so by RGB.
        image = image if image.mode in ("L", "LA", "1") else image.convert("RGB")
        expected = np.asarray(image.convert(mode)).reshape(21, 30, channels)
        np.testing.assert_array_equal(pixels, expected, err_msg=name)


def test_a_gif_frame_stands_in_its_place():
    # By hand: the frame's 30 x 21 px in a screen of 50 x 40, their corner at 5, 7 (GIF89a, 18, 20).
    content = bytearray(LOSSLESS["gif"])
    content[6:10] = struct.pack("<HH", 50, 40)
    at = content.index(b"\x2c\0\0\0\0") + 1
    content[at : at + 4] = struct.pack("<HH", 5, 7)
    (found,) = in_dataset([bytes(content)], 3)
    pillows = Image.open(io.BytesIO(content)).convert("RGB")
    assert found.shape[1::-1] == pillows.size
    np.testing.assert_array_equal(found[7:28, 5:35], np.asarray(pillows)[7:28, 5:35])
    rest = found.astype(int).sum() - found[7:28, 5:35].astype(int).sum()
    assert rest == 0


JPEGS = {
    "gray": (encoded(GRAY, "JPEG"), 0),
    "4:4:4": (encoded(RGB, "JPEG", subsampling=0), 0),
    "4:2:0": (encoded(RGB, "JPEG", subsampling=2), 1),
    "progressive": (encoded(RGB, "JPEG", progressive=True), 1),
    "CMYK": (encoded(RGB.convert("CMYK"), "JPEG"), 2),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_is_pillows_but_for_rounding(name, channels):
    content, tolerance = JPEGS[name]
    expected = Image.open(io.BytesIO(content)).convert("RGB" if channels == 3 else "L")
    (found,) = in_dataset([content], channels)
    # For one channel the decoder's own luminance is rounded once, Pillow's of RGB twice.
    difference = np.abs(found.astype(int) - np.asarray(expected).reshape(found.shape))
    assert difference.max() <= tolerance + (channels == 1)


def test_inverted_cmyk_of_adobe():
    # Pillow writes CMYK with Adobe's marker, inverted. A white picture has no ink, ...
    white = encoded(Image.new("CMYK", (16, 16)), "JPEG")
    assert b"Adobe" in white
    # ... and the same samples without the marker are full of it.
    start = white.index(b"\xff\xee")
    length = struct.unpack(">H", white[start + 2 : start + 4])[0]
    black = white[:start] + white[start + 2 + length :]
    for channels in (1, 3):
        bright, dark = in_dataset([white, black], channels)
        assert bright.min() >= 253
        assert dark.max() <= 2


def test_sixteen_bits_keep_the_upper_eight():
    deep = (np.arange(600).reshape(20, 30) * 109).astype(np.uint16)
    pgm = b"P5 30 20 65535\n" + deep.astype(">u2").tobytes()
    contents = [encoded(Image.fromarray(deep), "PNG"), encoded(Image.fromarray(deep), "TIFF"), pgm]
    for found in in_dataset(contents, 1):
        np.testing.assert_array_equal(found[..., 0], deep >> 8)


def test_transparency_is_dropped_not_laid_over_a_ground():
    hidden = np.full((4, 5, 4), 200, np.uint8)
    hidden[..., 3] = 0
    for kind in ("PNG", "WEBP"):
        content = encoded(Image.fromarray(hidden), kind, **({"lossless": True, "exact": True}))
        assert (in_dataset([content], 3)[0] == 200).all()


def test_luminance_is_pillows_bit_for_bit():
    colours = RNG.integers(0, 256, (500, 500, 3), np.uint8)
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    np.testing.assert_array_equal(luminance(tf.constant(colours))[..., 0], expected)


def test_smaller_jpeg():
    content = encoded(RGB.resize((101, 67)), "JPEG", quality=95, subsampling=0)
    whole = decode_bytes(tf.constant(content), 3).numpy().astype(float)
    for ratio in RATIOS:
        found = decode_bytes(tf.constant(content), 3, tf.constant(ratio)).numpy()
        assert found.shape == (-(-67 // ratio), -(-101 // ratio), 3)
        blocks = whole[:64, :96].reshape(64 // ratio, ratio, 96 // ratio, ratio, 3).mean((1, 3))
        # A mean of pixels is what a scaled transform nearly is; rounded to whole pixels twice.
        assert abs(blocks - found[: 64 // ratio, : 96 // ratio]).mean() < 1.5


BROKEN = {
    "empty": b"",
    "text": b"<html></html>",
    "one byte": b"\xff",
    "riff": b"RIFF",
    **{
        f"{kind} cut to {share}": content[: int(len(content) * share)]
        for kind, content in {
            "jpeg": encoded(RGBA.convert("RGB"), "JPEG"),
            "png": encoded(RGBA, "PNG"),
            "bmp": encoded(RGBA.convert("RGB"), "BMP"),
            "gif": encoded(RGBA.convert("P"), "GIF"),
            "webp": encoded(RGBA, "WEBP"),
            "ppm": encoded(RGBA.convert("RGB"), "PPM"),
            "tiff": encoded(RGBA.convert("RGB"), "TIFF"),
        }.items()
        for share in (0.1, 0.5, 0.9)
    },
    "png bomb": png_of_size(2**16, 2**14),
    "jpeg bomb": encoded(RGB, "JPEG").replace(
        struct.pack(">HH", 21, 30), struct.pack(">HH", 65000, 65000)
    ),
    "ppm bomb": b"P6 65000 65000 255\n" + b"x" * 100,
    "float pixels": encoded(Image.new("F", (5, 5)), "TIFF"),
}


def test_broken_files_are_errors_and_never_half_an_image():
    dataset = tf.data.Dataset.from_tensor_slices(list(BROKEN.values()))
    decoded = dataset.enumerate().map(lambda index, one: (index, decode_bytes(one, 3)))
    passed = [list(BROKEN)[index] for index, _ in decoded.ignore_errors()]
    assert passed == []
