"""Data sources of image files: decoding, one format, cut splits, faults by message."""

import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from loc_keras.config import data as config_source
from loc_keras.config.data import CSV_FILES, AugmentConfig, DataConfig, SourceConfig, SplitConfig
from loc_keras.data.check.run import quick_check
from loc_keras.data.dataset import build_file_data
from loc_keras.data.formats.registry import FORMATS, read_annotations
from loc_keras.data.load_records import load_records
from loc_keras.errors import DataError


def make_image(path, size=(20, 10), value=0, mode="L"):
    """An image of one colour; a text in the file keeps those of two splits from being identical."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngInfo()
    text.add_text("Title", str(path))
    Image.new(mode, size, value).save(path, pnginfo=text)


def build(
    root,
    *,
    batch_size,
    val_fraction=0.05,
    test_fraction=0.05,
    seed=0,
    splits=None,
    augment=None,
    **options,
):
    """Reads a folder in the published CSV layout and builds its pipelines."""
    annotations = read_annotations("csv", str(root), splits=splits or CSV_FILES)
    found = load_records(
        quick_check(annotations, SourceConfig()),
        SplitConfig(val=val_fraction, test=test_fraction, together="identical"),
        seed=seed,
        on_error=options.get("on_error", "stop"),
    )
    augment = AugmentConfig(**augment or {})
    return build_file_data(found, DataConfig(**options), augment, batch_size=batch_size, seed=seed)


def test_the_config_repeats_the_names_of_the_readers():
    # The config may not import the readers: it is read without TensorFlow.
    formats = config_source.SourceConfig.model_fields["format"].annotation
    assert set(get_args(formats)) == {"digits", *FORMATS}


def make_set(root, counts, sizes=((20, 10),), modes=("L",)):
    """Folders in the published layout; the gray value of image i of a split is 10 + i."""
    names = {"train": "training", "val": "validation", "test": "test"}
    for split, count in counts.items():
        rows = []
        for i in range(count):
            file = f"{i:03d}.png"
            mode = modes[i % len(modes)]
            value = 10 + i if mode == "L" else (10 + i,) * len(mode)
            make_image(root / f"{names[split]}_images" / file, sizes[i % len(sizes)], value, mode)
            rows.append(f"{file},{i % 2},0.25,0.2,0.75,0.8")
        (root / f"{names[split]}_data.csv").write_text("\n".join(rows) + "\n")
    return root


def collect(dataset):
    batches = list(dataset.as_numpy_iterator())
    images = np.concatenate([images for images, _ in batches])
    return images, {
        key: np.concatenate([targets[key] for _, targets in batches]) for key in batches[0][1]
    }


@pytest.mark.parametrize("cache", ["auto", "none"])
def test_files_come_as_they_are(tmp_path, cache):
    make_set(tmp_path, {"train": 8, "val": 5, "test": 3})
    data = build(tmp_path, batch_size=2, cache=cache)
    assert data.sizes == {"train": 8, "val": 5, "test": 3}
    assert data.image_shape == (10, 20, 1)
    assert data.class_names == ["0", "1"]
    assert data.steps_per_epoch == 4
    images, targets = collect(data.val)
    assert images[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 14]
    assert targets["softmax"].tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_allclose(targets["bbox"], [[0.25, 0.2, 0.75, 0.8]] * 5)
    shown, _ = collect(data.train(0).take(4))
    assert sorted(shown[:, 0, 0, 0].tolist()) == list(range(10, 18))


def test_the_files_of_a_batch_are_known_by_its_step(tmp_path):
    make_set(tmp_path, {"train": 10, "val": 2, "test": 2})
    data = build(tmp_path, batch_size=3)
    # Three steps an epoch: this goes on into the third, with another order in each.
    for step, (images, _) in enumerate(data.train(0).take(8).as_numpy_iterator()):
        names = [f"{int(image.max()) - 10:03d}.png" for image in images]
        assert [Path(name).name for name in data.batch_names(step)] == names


def test_the_cache_changes_neither_order_nor_boxes_nor_even_pictures(tmp_path):
    # Pictures of one colour: others differ by the second resampling, see test_fused.py.
    make_set(tmp_path, {"train": 12}, sizes=((20, 10), (9, 17)))
    options = {"batch_size": 4, "image_size": 16, "resize": "letterbox", "val_fraction": 0.25}
    augment = {"flip": True, "translate": 0.2, "rotation": 20.0, "brightness": 0.2}
    one, other = (
        build(tmp_path, cache=cache, augment=augment, test_fraction=0.0, **options)
        for cache in ("memory", "none")
    )
    assert one.fingerprint == other.fingerprint
    for first, second in ((one.train(1).take(3), other.train(1).take(3)), (one.val, other.val)):
        a, b = collect(first), collect(second)
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1]["bbox"], b[1]["bbox"])


def test_missing_splits_are_cut_off_the_training_rows(tmp_path):
    make_set(tmp_path, {"train": 40})
    data = build(tmp_path, batch_size=4, val_fraction=0.2, test_fraction=0.1)
    assert data.sizes == {"train": 28, "val": 8, "test": 4}
    assert data.notes == ["Images for val and test were cut off the training images."]
    shown = [
        set(collect(part)[0][:, 0, 0, 0].tolist())
        for part in (data.train(0).take(7), data.val, data.test)
    ]
    assert set.union(*shown) == set(range(10, 50))
    assert sum(len(part) for part in shown) == 40
    without = build(tmp_path, batch_size=4, val_fraction=0.0, test_fraction=0.0)
    assert without.val is None
    assert without.sizes["train"] == 40


def test_a_validation_part_without_images_is_refused(tmp_path):
    make_set(tmp_path, {"train": 12})
    # 0.04 of 12 is 0.48 image; one of 12 is 0.08333, so 0.084 is enough.
    with pytest.raises(DataError) as fault:
        build(tmp_path, batch_size=2, val_fraction=0.04)
    assert str(fault.value) == (
        "data.split.val 0.04 of 12 images leaves none for validation; raise it (0.084 gives one "
        "image), or give more images."
    )
    data = build(tmp_path, batch_size=2, val_fraction=0.084, test_fraction=0.0)
    assert data.sizes["val"] == 1


def test_a_test_part_without_images_is_noted(tmp_path):
    make_set(tmp_path, {"train": 12})
    data = build(tmp_path, batch_size=2, val_fraction=0.25, test_fraction=0.04)
    assert data.test is None
    assert data.notes == [
        "Images for val were cut off the training images.",
        "data.split.test 0.04 of 12 images leaves none for testing; raise it (0.084 gives one "
        "image), or give more images.",
    ]


def test_channels_follow_the_first_image_or_the_option(tmp_path):
    make_set(tmp_path, {"train": 6}, modes=("RGB", "L", "RGBA", "LA"))
    options = {"batch_size": 6, "val_fraction": 0.0, "test_fraction": 0.0}
    colour = build(tmp_path, **options)
    gray = build(tmp_path, channels=1, **options)
    for data, channels in ((colour, 3), (gray, 1)):
        assert data.image_shape == (10, 20, channels)
        images, _ = next(data.train(0).as_numpy_iterator())
        # Gray pictures saved in four modes: each channel, and the luminance, keep the value.
        assert sorted(images[:, 5, 5, -1].tolist()) == [10, 11, 12, 13, 14, 15]


def test_images_of_several_sizes_need_an_image_size(tmp_path):
    make_set(tmp_path, {"train": 4}, sizes=((20, 10), (30, 10)))
    options = {"batch_size": 2, "val_fraction": 0.0, "test_fraction": 0.0}
    with pytest.raises(DataError, match=r"row 2 .*30 x 10 px and the first one is 20 x 10"):
        build(tmp_path, **options)
    data = build(tmp_path, image_size=(8, 12), **options)
    assert data.image_shape == (8, 12, 1)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_broken_images_are_named_or_skipped(tmp_path, cache):
    make_set(tmp_path, {"train": 6, "val": 2})
    (tmp_path / "training_images" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    options = {"batch_size": 2, "cache": cache}
    with pytest.raises(DataError, match=r"1 object cannot be used: .*: row 4 image .*003.png"):
        build(tmp_path, **options)
    data = build(tmp_path, on_error="skip", **options)
    assert data.sizes["train"] == 5
    ((file, row, reason),) = data.skipped
    assert file.endswith("training_data.csv")
    assert row == 4
    assert "003.png" in reason
    shown, _ = collect(data.train(0).take(2))
    assert 13 not in shown


def test_a_broken_first_image_can_be_skipped(tmp_path):
    make_set(tmp_path, {"train": 6, "val": 2})
    options = {"batch_size": 2, "test_fraction": 0.0}
    for broken in ("000", "003"):
        (tmp_path / "training_images" / f"{broken}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 objects .* row 1 image .*; row 4 image .*003.png"):
        build(tmp_path, **options)
    data = build(tmp_path, on_error="skip", **options)
    # The size of the second image, the first one that can be read.
    assert data.image_shape == (10, 20, 1)
    assert data.sizes["train"] == 4
    assert [row for file, row, _ in data.skipped if "training" in file] == [1, 4]


def test_the_first_image_of_the_file_decides_whatever_the_seed(tmp_path):
    make_set(tmp_path, {"train": 9}, sizes=((20, 10), (9, 9), (9, 9)), modes=("L", "RGB", "RGB"))
    options = {"batch_size": 2, "val_fraction": 0.4, "test_fraction": 0.0, "image_size": 8}
    for seed in range(4):
        assert build(tmp_path, seed=seed, **options).image_shape == (8, 8, 1)


def test_no_image_is_probed_for_what_is_given(tmp_path, monkeypatch):
    make_set(tmp_path, {"train": 4})
    monkeypatch.setattr("loc_keras.data.dataset.read_header", None)
    options = {"batch_size": 2, "val_fraction": 0.0, "test_fraction": 0.0}
    data = build(tmp_path, image_size=8, channels=3, **options)
    assert data.image_shape == (8, 8, 3)


def test_images_that_are_all_broken(tmp_path):
    make_set(tmp_path, {"train": 3})
    for image in (tmp_path / "training_images").iterdir():
        image.write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"no object is left .* row 1 image .*000.png is not an image"
    ):
        build(tmp_path, batch_size=2, on_error="skip")


def test_images_may_lie_beside_the_csv_file(tmp_path):
    make_set(tmp_path, {"train": 4})
    for image in (tmp_path / "training_images").iterdir():
        image.rename(tmp_path / image.name)
    options = {"batch_size": 2, "val_fraction": 0.0, "test_fraction": 0.0}
    assert build(tmp_path, **options).sizes["train"] == 4


def test_own_names_of_files(tmp_path):
    make_set(tmp_path, {"train": 6})
    (tmp_path / "training_data.csv").rename(tmp_path / "boxes.csv")
    splits = {"train": {"csv": "boxes.csv", "images": "training_images"}}
    options = {"batch_size": 2, "val_fraction": 0.0, "test_fraction": 0.0, "splits": splits}
    assert build(tmp_path, **options).sizes["train"] == 6


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_file_named_on_purpose_must_be_there(tmp_path, split):
    make_set(tmp_path, {"train": 6})
    named = {split: {**CSV_FILES[split], "csv": "valdiation.csv"}}
    with pytest.raises(DataError) as fault:
        build(tmp_path, batch_size=2, splits={**CSV_FILES, **named})
    assert str(fault.value) == (
        f"CSV file {tmp_path}/valdiation.csv does not exist: mend data.source.csv.splits.{split}"
        ".csv, or leave it out to cut the split off the training file."
    )


def test_a_label_that_training_lacks_is_named(tmp_path):
    make_set(tmp_path, {"train": 3, "val": 2})
    for name, labels in (("training", "135"), ("validation", "12")):
        rows = [f"{i:03d}.png,{label},0,0,1,1" for i, label in enumerate(labels)]
        (tmp_path / f"{name}_data.csv").write_text("\n".join(rows))
    # Not the third class, which is called 5.
    with pytest.raises(DataError, match=r"validation_data.csv: row 2 column label: '2'"):
        build(tmp_path, batch_size=2, test_fraction=0.0)


def test_source_faults(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist"):
        build(tmp_path / "none", batch_size=2)
    with pytest.raises(DataError, match=r"training_data.csv does not exist"):
        build(tmp_path, batch_size=2)


def test_augmentation_of_digits_is_left_out_and_said(tmp_path):
    make_set(tmp_path, {"train": 6, "val": 2})
    options = {"batch_size": 2, "test_fraction": 0.0}
    data = build(tmp_path, augment={"digit_scale": 0.1}, **options)
    assert "augment.digit_*" in data.notes[-1]
    assert not build(tmp_path, augment={"digit_scale": 0.0}, **options).notes


def test_fingerprint_follows_the_data(tmp_path):
    make_set(tmp_path, {"train": 6, "val": 2})
    options = {"batch_size": 2, "test_fraction": 0.0}
    before = build(tmp_path, **options).fingerprint
    assert before == build(tmp_path, **options).fingerprint
    table = tmp_path / "training_data.csv"
    table.write_text(table.read_text().replace("0.25", "0.26", 1))
    assert before != build(tmp_path, **options).fingerprint


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_fingerprint_follows_what_images_show(tmp_path, cache):
    root = make_set(tmp_path / "set", {"train": 6, "val": 2})
    options = {"batch_size": 2, "test_fraction": 0.0, "cache": cache}
    options["cache_dir"] = str(tmp_path / "cache")
    before = build(root, **options)
    # Noise of the same number of bytes: names, sizes and labels stay what they were.
    for name in ("validation_images/000.png", "training_images/003.png"):
        path = root / name
        content, stamp = path.read_bytes(), path.stat()
        for seed in range(999):
            colour = int(np.random.default_rng(seed).integers(60, 250))
            make_image(path, (20, 10), colour)
            if path.stat().st_size == len(content) and path.read_bytes() != content:
                break
        assert path.stat().st_size == len(content)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))
        after = build(root, **options)
        assert after.fingerprint != before.fingerprint
        assert after.fingerprint_by_sizes == before.fingerprint_by_sizes
        assert not after.is_that_of(before.fingerprint)
        path.write_bytes(content)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert build(root, **options).fingerprint == before.fingerprint


def test_runs_of_earlier_versions_keep_their_cut_and_are_known(tmp_path):
    rows = []
    for number in range(12):
        make_image(tmp_path / "images" / f"{number}.bmp", (20, 10), (9 * number, 5, 7), "RGB")
        rows.append(f"{number}.bmp,{'ab'[number % 2]},0.25,0.2,0.75,0.8\n")
    (tmp_path / "all.csv").write_text("".join(rows))
    splits = {"train": {"csv": "all.csv", "images": "images"}}
    fractions = {"val_fraction": 0.25, "test_fraction": 0.25}
    data = build(tmp_path, batch_size=4, image_size=16, splits=splits, **fractions)
    # What two earlier versions (commits 8832d82 and 55cd7a7) made of these files.
    cut = {"train": [5, 7, 9, 4, 0, 1], "val": [8, 3, 10], "test": [2, 11, 6]}
    for split, numbers in cut.items():
        assert [int(Path(name).stem) for name in data.pictures[split].names] == numbers
    before = "2e5177b11d0d24d614c062220cf1f7b972e4ae7eda56fd9db69965726f09551b"
    assert data.fingerprint_by_sizes == before
    assert data.is_that_of(before)
    assert data.is_that_of(data.fingerprint)
    assert not data.is_that_of("")
    assert not data.is_that_of(None)


def test_rows_that_are_repeated_count_once_and_are_noted(tmp_path):
    make_set(tmp_path, {"train": 6, "val": 2})
    table = tmp_path / "training_data.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows, rows[0], rows[0]]) + "\n")
    data = build(tmp_path, batch_size=2, test_fraction=0.0)
    assert data.sizes["train"] == 6
    assert data.notes[-1] == "2 objects that are written twice count once."
    assert [row for _, row, _ in data.skipped] == [7, 8]
