"""Headers: what an image file says of itself, read without its pixels."""

import importlib.util
import io

import numpy as np
import pytest
import tensorflow as tf
from helpers.hostile_images import UNFIT, make_unfit, png_of_size
from PIL import Image

from loc_keras.data.annotations import ImageRef
from loc_keras.data.decode import decode_with_pillow
from loc_keras.data.image_bytes import MAX_PIXELS
from loc_keras.data.image_header import Header, HeaderError, read_header, read_headers

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8))


def encoded(image=PICTURE, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_exif(orientation, kind="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(kind=kind, exif=exif)


@pytest.fixture
def write(tmp_path):
    def write(content, name="image.any"):
        path = tmp_path / name
        path.write_bytes(content)
        return ImageRef(str(path))

    return write


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF"])
def test_formats_are_told_by_content(write, kind):
    # The ending lies on purpose.
    header = read_header(write(encoded(kind=kind), "photo.txt"))
    assert (header.width, header.height, header.format) == (20, 12, kind)
    assert header.orientation == 1
    assert not header.animated


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_read_and_the_size_is_as_stored(write, kind, orientation):
    header = read_header(write(with_exif(orientation, kind)))
    assert (header.width, header.height, header.orientation) == (20, 12, orientation)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_orientations_that_do_not_exist_count_as_none(write, value):
    assert read_header(write(with_exif(value))).orientation == 1


def test_broken_exif_does_not_matter(write, recwarn):
    header = read_header(write(encoded(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")))
    assert header == Header(20, 12)
    assert not list(recwarn)


def test_modes_and_bits(write):
    deep = Image.fromarray(np.full((12, 20), 40000, np.uint16))
    assert read_header(write(encoded(deep, "PNG")))[4:] == ("I;16", 1, 16)
    assert read_header(write(encoded(deep, "TIFF")))[4:] == ("I;16", 1, 16)
    assert read_header(write(encoded(PICTURE.convert("1"), "PNG")))[4:] == ("1", 1, 1)
    assert read_header(write(encoded(PICTURE.convert("P"), "GIF")))[4:] == ("P", 1, 8)
    assert read_header(write(encoded(PICTURE.convert("CMYK"))))[4:] == ("CMYK", 1, 8)
    assert read_header(write(encoded(PICTURE.convert("LA"), "PNG")))[4:] == ("LA", 1, 8)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_are_told(write, kind):
    frames = [PICTURE.rotate(90), PICTURE.rotate(180)]
    assert read_header(write(encoded(kind=kind, save_all=True, append_images=frames))).animated


def test_a_second_picture_behind_a_photograph_is_no_animation(write):
    # Telephones store previews so (Multi-Picture Format).
    content = encoded(kind="MPO", save_all=True, append_images=[PICTURE])
    assert read_header(write(content)) == Header(20, 12)


def test_ranges_within_a_file(write):
    first, second = encoded(), with_exif(6, "PNG")
    path = write(b"head" + first + second + b"tail").path
    found = [
        read_header(ImageRef(path, 4, len(first))),
        read_header(ImageRef(path, 4 + len(first), len(second))),
    ]
    assert [(header.format, header.orientation) for header in found] == [("JPEG", 1), ("PNG", 6)]
    with pytest.raises(HeaderError) as error:
        read_header(ImageRef(path, 4, 10))
    assert error.value.kind == "truncated_header"


def test_other_filesystems():
    path = "ram://headers/image.png"
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(with_exif(8, "PNG"))
    assert read_header(ImageRef(path)).orientation == 8
    with pytest.raises(HeaderError) as error:
        read_header(ImageRef("ram://headers/none.png"))
    assert error.value.kind == "missing_image"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not_image"),
        (b"\0" * 5000, "not_image"),
        (encoded()[:20], "truncated_header"),
        (encoded()[:2], "not_image"),
        (encoded(kind="PNG")[:20], "truncated_header"),
        (encoded(kind="GIF")[:8], "truncated_header"),
        (encoded(kind="WEBP")[:14], "truncated_header"),
        (png_of_size(2**16, 2**11), "too_large"),
        (png_of_size(2**31 - 1, 2**31 - 1), "too_large"),
        (b"P6 60000 60000 255\n" + b"x" * 100, "too_large"),
        (png_of_size(0, 5), "truncated_header"),
    ],
)
def test_hostile_files_have_a_kind(write, content, kind):
    with pytest.raises(HeaderError) as error:
        read_header(write(content))
    assert error.value.kind == kind
    assert "\n" not in error.value.reason


def test_the_largest_picture_still_passes(write, recwarn):
    assert read_header(write(png_of_size(2**13, MAX_PIXELS // 2**13))).width == 2**13
    with pytest.raises(HeaderError):
        read_header(write(png_of_size(2**13, MAX_PIXELS // 2**13 + 1)))
    assert not list(recwarn)


@pytest.mark.parametrize("quick", [0.0, 1.0])  # Seconds: read in threads, or in turn.
def test_many_headers_keep_their_order(write, monkeypatch, quick):
    monkeypatch.setattr("loc_keras.data.files._QUICK", quick)
    refs = [write(png_of_size(3 + i, 5), f"{i}.png") for i in range(150)]
    refs[70] = ImageRef("nowhere.png")
    found = read_headers(refs)
    assert [header.width for i, header in enumerate(found) if i != 70] == [
        3 + i for i in range(150) if i != 70
    ]
    assert isinstance(found[70], HeaderError)
    assert read_headers([]) == []


def test_what_is_no_file_or_too_large_is_neither_waited_for_nor_read(tmp_path):
    make_unfit(tmp_path)
    for name, reason in UNFIT.items():
        with pytest.raises(HeaderError) as failed:
            read_header(ImageRef(str(tmp_path / name)))
        assert (failed.value.reason, failed.value.kind) == (
            f"cannot be read ({reason})",
            "unreadable",
        )


def test_avif_is_read_and_turned(tmp_path):
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:10, :10] = 255
    exif = Image.Exif()
    exif[274] = 6  # Stored lying on its left side: 90 degrees clockwise make it upright.
    Image.fromarray(pixels).save(tmp_path / "a.avif", quality=95, exif=exif)
    header = read_header(ImageRef(str(tmp_path / "a.avif")))
    assert (header.format, header.width, header.height) == ("AVIF", 40, 30)
    assert header.orientation == 6


def test_heic_is_read_by_its_package_or_that_is_named(tmp_path):
    # The file type box of a telephone's picture.
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40)
    if importlib.util.find_spec("pillow_heif") is None:
        with pytest.raises(HeaderError, match="the package pillow-heif is needed: pip install it"):
            read_header(ImageRef(str(path)))
        return
    import pillow_heif

    pixels = np.full((30, 40, 3), 90, np.uint8)
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(str(path), quality=95)
    header = read_header(ImageRef(str(path)))
    assert (header.format, header.width, header.height) == ("HEIF", 40, 30)
    decoded = decode_with_pillow(path.read_bytes(), 3)
    assert np.abs(decoded.astype(int) - pixels).max() < 8
