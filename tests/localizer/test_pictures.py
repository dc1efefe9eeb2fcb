"""Pixels without TensorFlow: those of training, but for ties, and refused alike."""

import numpy as np
import pytest
from helpers.hostile_images import png_of_size
from helpers.localizer_run import SIZE, encoded, kinds, photograph
from helpers.served_files import BAD, GOOD
from PIL import Image

from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ImageError
from loc_keras.localizer.opening import GraphReader
from loc_keras.localizer.pictures import PictureReader


def files():
    """The bytes of a file of each kind, by its name."""
    large, frames = photograph(1, 641, 401), [photograph(seed, 120, 80) for seed in range(3)]
    moving = {"save_all": True, "append_images": frames[1:]}
    return {
        **kinds(),
        **{f"good {name}": content for name, content in GOOD.items()},
        "ink.jpg": encoded(large.convert("CMYK"), "JPEG"),
        "large ink.jpg": encoded(photograph(2, 1641, 1401).convert("CMYK"), "JPEG"),
        "progressive.jpg": encoded(large, "JPEG", progressive=True),
        "full chroma.jpg": encoded(large, "JPEG", subsampling=0),
        "rgb.jpg": encoded(large, "JPEG", keep_rgb=True),
        "two pictures.jpg": encoded(frames[0], "MPO", **moving),
        "grey alpha.png": encoded(large.convert("LA"), "PNG"),
        "bits.png": encoded(large.convert("1"), "PNG"),
        "moving.gif": encoded(frames[0], "GIF", **moving),
        "moving.webp": encoded(frames[0], "WEBP", **moving),
        "lossless.webp": encoded(large, "WEBP", lossless=True),
        "palette.bmp": encoded(large.quantize(200), "BMP"),
        "bits.bmp": encoded(large.convert("1"), "BMP"),
        "plain.ppm": encoded(large, "PPM"),
    }


FILES = files()
FORMS = (ImageFormat(SIZE, 3, "letterbox"), ImageFormat((64, 48), 1, "stretch"))


@pytest.mark.parametrize("form", FORMS, ids=["letterbox", "stretch"])
def test_pixels_differ_from_those_of_training_by_one_at_most(form):
    training, alone = GraphReader(form), PictureReader(form)
    for name, content in FILES.items():
        expected, found = training.read(content), alone.read(content)
        assert found.size == expected.size, name
        assert found.pixels.dtype == np.uint8
        difference = np.abs(found.pixels.astype(int) - expected.pixels)
        assert difference.max() <= 1, name
        assert (difference > 0).mean() < 0.05, name  # In blocks many sums are ties.
    # What needs no resizing is the same.
    exact = encoded(photograph(9, form.size[1], form.size[0]), "PNG")
    np.testing.assert_array_equal(alone.read(exact).pixels, training.read(exact).pixels)
    for array in (np.asarray(photograph(3)), np.asarray(photograph(4).convert("RGBA"))):
        difference = alone.read(array).pixels.astype(int) - training.read(array).pixels
        assert np.abs(difference).max() <= 1


def test_what_training_refuses_is_refused_in_the_same_words():
    form = FORMS[0]
    readers = GraphReader(form), PictureReader(form)
    photo = kinds()["photo.jpg"]
    bad = [
        *(content for content, _ in BAD.values()),
        photo[:700],
        photo[:20],
        b"",
        b"no image",
        png_of_size(20_000, 20_000),
    ]
    for content in bad:
        told = []
        for reader in readers:
            try:
                reader.read(content, "x")
            except ImageError as error:
                told.append(str(error))
        assert len(told) != 1, told  # WebP and the like are bad for a server alone.
        assert len(set(told)) <= 1


def test_a_large_jpeg_file_is_decoded_smaller(monkeypatch):
    content, sizes = encoded(photograph(1, 641, 401), "JPEG"), []
    resize = Image.Image.resize

    def noted(image, *arguments, **named):
        sizes.append(image.size)
        return resize(image, *arguments, **named)

    monkeypatch.setattr(Image.Image, "resize", noted)
    PictureReader(ImageFormat((40, 56), 3, "stretch")).read(content)
    # Two pixels for each of 56 x 40 are 112 x 80: a quarter of each side is enough, an eighth not.
    assert sizes == [(161, 101)] * 3  # A channel at a time.
