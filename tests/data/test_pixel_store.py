"""Pictures of records: made from any range, turned, cut and resized; kept in three ways."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from loc_keras.data import pipeline as streams
from loc_keras.data.pipeline import eval_dataset
from loc_keras.data.pixel_store import image_set, store_pixels
from loc_keras.data.record_images import load_picture
from loc_keras.data.resize import ImageFormat, resize_boxes
from loc_keras.data.resolve import Records

FORM = ImageFormat((16, 24), 3, "letterbox")
SIZES = [(20, 30), (40, 30), (16, 24), (90, 60), (33, 65), (12, 70)]


def picture(height, width, seed):
    """Smooth colours with a bright rectangle, so that a wrong turn or cut shows."""
    coarse = np.random.default_rng(seed).integers(0, 128, (5, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    image.paste((255, 200, 180), (width // 4, height // 3, width // 2, height // 2))
    return image


def encoded(image, kind, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def make_records(paths, sizes, **columns):
    count = len(paths)
    return Records(
        **{
            "paths": np.array([str(path) for path in paths]),
            "offsets": np.zeros(count, np.int64),
            "lengths": np.full(count, -1, np.int64),
            "orientations": np.ones(count, np.uint8),
            "windows": np.zeros((count, 4), np.int32),
            "sizes": np.array(sizes, np.int32).reshape(count, 2),
            "labels": np.arange(count, dtype=np.int32) % 3,
            "boxes": np.tile(np.float32([0.25, 0.25, 0.5, 0.75]), (count, 1)),
            "names": np.array([path.name for path in paths]),
            "files": np.full(count, "labels.csv"),
            "rows": np.arange(1, count + 1),
            "groups": np.full(count, ""),
            "class_names": ["a", "b", "c"],
            **columns,
        }
    )


@pytest.fixture
def records(tmp_path):
    """Six good images of all sorts of sizes, as PNG and JPEG."""
    paths = []
    for index, (height, width) in enumerate(SIZES):
        path = tmp_path / f"{index}.{'png' if index % 2 else 'jpg'}"
        path.write_bytes(encoded(picture(height, width, index), "PNG" if index % 2 else "JPEG"))
        paths.append(path)
    return make_records(paths, SIZES)


def batches(store, batch_size=4):
    dataset = eval_dataset(
        image_set(store),
        batch_size=batch_size,
        seed=0,
        split=streams.TEST,
        image_shape=store.form.shape,
        cache="none",
    )
    return list(dataset.as_numpy_iterator())


def all_pixels(store):
    return np.concatenate([images for images, _ in batches(store)])


def pillows(image, form):
    """The picture in the common format by Pillow alone: its bilinear filter averages, too."""
    image = image.convert("RGB")
    if form.rule == "letterbox":
        return np.asarray(
            ImageOps.pad(image, form.size[::-1], Image.Resampling.BILINEAR, color="black")
        )
    return np.asarray(image.resize(form.size[::-1], Image.Resampling.BILINEAR))


# Pictures of records


@pytest.mark.parametrize("rule", ["stretch", "letterbox"])
def test_pixels_are_those_of_pillow(records, rule):
    form = ImageFormat((16, 24), 3, rule)
    found = all_pixels(store_pixels(records, form, keep="none"))
    for index, path in enumerate(records.paths):
        expected = pillows(Image.open(path), form).astype(int)
        difference = np.abs(found[index] - expected)
        assert difference.mean() < 1, index
        assert difference.max() <= 12, index


def test_turned_cut_and_ranged(tmp_path):
    # One file holds all images; each is turned, and the last two are cut, too.
    images = [picture(40, 60, 3) for _ in range(8)]
    contents = [encoded(image, "PNG", 1 + index) for index, image in enumerate(images)]
    path = tmp_path / "all.bin"
    path.write_bytes(b"head" + b"".join(contents))
    lengths = np.array([len(content) for content in contents])
    windows = np.zeros((8, 4), np.int32)
    windows[6:] = [[5, 10, 33, 50], [1, 2, 40, 59]]
    form = ImageFormat((20, 20), 3, "stretch")
    records = make_records(
        [path] * 8,
        [(40, 60)] * 8,
        offsets=4 + np.cumsum(lengths) - lengths,
        lengths=lengths,
        orientations=np.arange(1, 9).astype(np.uint8),
        windows=windows,
    )
    store = store_pixels(records, form, keep="memory")
    assert not store.faults
    for index, content in enumerate(contents):
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        if windows[index].any():
            upright = upright.crop(windows[index].tolist())
        expected = pillows(upright, form)
        assert np.abs(all_pixels(store)[index].astype(int) - expected).max() <= 1, index


@pytest.mark.parametrize("rule", ["stretch", "letterbox"])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("height", "width"), [(401, 603), (1001, 130)])
def test_smaller_decoding_moves_no_edge(tmp_path, rule, fast, height, width):
    drawn = np.zeros((height, width, 3), np.uint8)
    box = [width // 5, height // 4, width * 9 // 10, height * 6 // 7]
    drawn[box[1] : box[3], box[0] : box[2]] = 255
    path = tmp_path / "drawn.jpg"
    path.write_bytes(encoded(Image.fromarray(drawn), "JPEG"))
    fractions = np.float32(box) / np.float32([width, height, width, height])
    form = ImageFormat((48, 40), 3, rule, fast)
    pixels, size = load_picture({"path": tf.constant(str(path))}, form)
    moved = resize_boxes(tf.constant(fractions), size, form.size, rule)
    # Where brightness is summed up along one side, its share tells the edge within a pixel.
    light = pixels.numpy().astype(float).mean(-1) / 255
    edges = moved.numpy() * [40, 48, 40, 48]
    middle_row, middle_column = int(edges[1::2].mean()), int(edges[0::2].mean())
    across, down = light[middle_row], light[:, middle_column]
    found = [
        middle_column - across[:middle_column].sum(),
        middle_row - down[:middle_row].sum(),
        middle_column + across[middle_column:].sum(),
        middle_row + down[middle_row:].sum(),
    ]
    np.testing.assert_allclose(found, edges, atol=0.12)


def test_one_size_demanded(records):
    form = ImageFormat((16, 24), 3, None)
    store = store_pixels(records, form, keep="none")
    assert [fault.kind for fault in store.faults] == ["size"] * 5
    assert "30 x 20 px and the first one is 24 x 16" in store.faults[0].reason
    np.testing.assert_array_equal(all_pixels(store)[0], np.asarray(Image.open(records.paths[2])))


# Keeping


def test_the_three_ways_have_the_same_bits(records, tmp_path):
    stores = [
        store_pixels(records, FORM, keep=keep, folder=tmp_path / "cache")
        for keep in ("none", "memory", "disk")
    ]
    expected = batches(stores[0])
    assert [len(images) for images, _ in expected] == [4, 2]
    for store in stores[1:]:
        for (images, targets), (other, others) in zip(expected, batches(store), strict=True):
            np.testing.assert_array_equal(images, other)
            np.testing.assert_array_equal(targets["bbox"], others["bbox"])
            np.testing.assert_array_equal(targets["softmax"], others["softmax"])
    np.testing.assert_array_equal(expected[1][1]["softmax"], [1, 2])
    # 30 x 20 px on 24 x 16: the whole width, and so on; by hand for the third, of that very size.
    np.testing.assert_allclose(expected[0][1]["bbox"][2], [0.25, 0.25, 0.5, 0.75])


def test_static_shapes_for_training(records):
    stream = streams.train_stream(6, 4, 0, columns=2)
    for keep in ("none", "memory"):
        images, targets, draws = (
            image_set(store_pixels(records, FORM, keep=keep)).fetch(stream).element_spec
        )
        assert images == tf.TensorSpec((4, 16, 24, 3), tf.uint8)
        assert targets["bbox"].shape == (4, 4)
        assert draws.shape == (4, 2)


def damage(records, index, content):
    Path(records.paths[index]).write_bytes(content)


@pytest.mark.parametrize("keep", ["none", "memory", "disk"])
def test_what_cannot_be_decoded_is_told(records, tmp_path, keep):
    whole = all_pixels(store_pixels(records, FORM, keep="none"))
    good = Path(records.paths[1]).read_bytes()
    damage(records, 1, good[: len(good) - 40])
    damage(records, 4, b"")
    records.paths[5] = str(tmp_path / "gone.jpg")
    for _ in range(2):  # The second time from the file, where there is one.
        store = store_pixels(records, FORM, keep=keep, folder=tmp_path / "cache")
        assert [(fault.row, fault.kind) for fault in store.faults] == [
            (2, "damaged"),
            (5, "empty"),
            (6, "missing_image"),
        ]
        assert "PNG data is damaged" in store.faults[0].reason
        assert store.records.rows.tolist() == [1, 3, 4]
        np.testing.assert_array_equal(all_pixels(store), whole[[0, 2, 3]])
        assert [targets["softmax"].tolist() for _, targets in batches(store)] == [[0, 2, 0]]


# The file


def cache_files(folder):
    return sorted(path.suffix for path in folder.iterdir())


def count_loads(monkeypatch):
    from loc_keras.data import pixel_store

    calls = []
    decoded = pixel_store._decoded

    def counted(records, form, first):
        calls.append(first)
        return decoded(records, form, first)

    monkeypatch.setattr(pixel_store, "_decoded", counted)
    return calls


def test_a_whole_file_is_used_again_and_a_changed_image_makes_another(
    records, tmp_path, monkeypatch
):
    folder = tmp_path / "cache"
    first = all_pixels(store_pixels(records, FORM, keep="disk", folder=folder))
    assert cache_files(folder) == [".json", ".lock", ".pixels"]
    calls = count_loads(monkeypatch)
    again = all_pixels(store_pixels(records, FORM, keep="disk", folder=folder))
    np.testing.assert_array_equal(first, again)
    assert calls == [6]  # Nothing is left to do from there on.
    damage(records, 0, encoded(picture(20, 30, 99), "JPEG"))
    changed = all_pixels(store_pixels(records, FORM, keep="disk", folder=folder))
    assert calls == [6, 0]
    assert (changed[0] != first[0]).any()
    np.testing.assert_array_equal(changed[1:], first[1:])
    store_pixels(records, ImageFormat((8, 8), 1, "stretch"), keep="disk", folder=folder)
    assert calls == [6, 0, 0]


def test_a_broken_off_file_is_continued(records, tmp_path, monkeypatch):
    from loc_keras.data import pixel_store

    folder = tmp_path / "cache"
    monkeypatch.setattr(pixel_store, "_CHUNK", 2)

    write = pixel_store.PixelFile.write

    def stop(file, index, images, marks):
        write(file, index, images, marks)
        if file.done >= 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(pixel_store.PixelFile, "write", stop)
        store_pixels(records, FORM, keep="disk", folder=folder)
    assert cache_files(folder) == [".json", ".lock", ".part"]
    calls = count_loads(monkeypatch)
    store = store_pixels(records, FORM, keep="disk", folder=folder)
    assert calls == [4]
    np.testing.assert_array_equal(
        all_pixels(store), all_pixels(store_pixels(records, FORM, keep="none"))
    )


@pytest.mark.parametrize("harm", ["truncated", "no notes", "nonsense", "more than all"])
def test_a_harmed_file_is_made_anew(records, tmp_path, monkeypatch, harm):
    folder = tmp_path / "cache"
    first = all_pixels(store_pixels(records, FORM, keep="disk", folder=folder))
    (pixels,), (notes,) = folder.glob("*.pixels"), folder.glob("*.json")
    if harm == "truncated":
        pixels.write_bytes(pixels.read_bytes()[:-1])
    elif harm == "no notes":
        notes.unlink()
    elif harm == "nonsense":
        notes.write_text("{")
    else:
        notes.write_text(json.dumps({"done": 7, "broken": [-1]}))
    calls = count_loads(monkeypatch)
    store = store_pixels(records, FORM, keep="disk", folder=folder)
    assert calls == [0]
    np.testing.assert_array_equal(all_pixels(store), first)
