"""Near duplicates: copies are found again, other pictures are not, and the cut keeps them together.

What is a copy, and of which picture, is known here since the tests make the copies by Pillow.
"""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from loc_keras import evaluate, train
from loc_keras.cli.data_source import DataSource
from loc_keras.cli.runs import leak_note, write_near_duplicates
from loc_keras.config.load import config_from_tree, dump_config
from loc_keras.data.duplicates import SIDE, NearPairs, near_groups, near_pairs, thumbnail
from loc_keras.data.pixel_store import store_pixels
from loc_keras.data.resize import ImageFormat, ResizeRule
from loc_keras.data.resolve import Records


def photograph(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Blobs of all sizes in random colours, each seed another scene."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size)
    for cells in ((3, 3), (6, 6), (12, 12), (24, 24)):
        coarse = Image.fromarray(rng.integers(0, 256, (*cells, 3), np.uint8))
        image = Image.blend(image, coarse.resize(size, Image.Resampling.BICUBIC), 0.5)
    return image


def rewritten(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content)


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without these fractions of the sides."""
    width, height = image.size
    edges = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return image.crop(tuple(map(round, edges)))


def looks(*images: Image.Image) -> np.ndarray:
    return np.stack([thumbnail(image) for image in images])


COPIES = {
    "other bytes": lambda image: rewritten(image, 40),
    "half the size": lambda image: image.resize((80, 60), Image.Resampling.BILINEAR),
    "three times the size": lambda image: image.resize((480, 360), Image.Resampling.BICUBIC),
    "darker": lambda image: image.point(lambda value: int(value * 0.7)),
    "grey": lambda image: image.convert("L"),
    "cut on one side": lambda image: cut(image, 0, 0, 0.06, 0),
    "cut all around": lambda image: cut(image, 0.05, 0.03, 0.04, 0.06),
    "a burst": lambda image: cut(image, 0.02, 0, 0, 0.02),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(kind: str) -> None:
    scenes = [photograph(seed) for seed in range(30)]
    copies = [COPIES[kind](scene) for scene in scenes]
    if kind == "a burst":  # Both pictures have what the other lacks.
        scenes = [cut(scene, 0, 0.02, 0.02, 0) for scene in scenes]
    found = near_pairs(looks(*copies), looks(*scenes))
    assert found.first.tolist() == found.second.tolist() == list(range(30))
    assert (found.agreement >= 0.7).all()
    among = near_pairs(looks(*scenes, *copies))
    pairs = list(zip(among.first.tolist(), among.second.tolist(), strict=True))
    assert pairs == [(number, number + 30) for number in range(30)]


def test_objects_alike_on_the_same_ground_are_no_copies() -> None:
    # One frame and one ground for all, as of product photographs; the objects differ.
    pictures = []
    for seed in range(12):
        image = Image.new("RGB", (160, 120), "white")
        image.paste((230, 230, 230), (20, 20, 140, 100))
        image.paste(photograph(seed, (80, 50)), (40, 35))
        pictures.append(image)
    assert not len(near_pairs(looks(*pictures)).first)


def test_plain_pictures_are_like_none() -> None:
    rng = np.random.default_rng(0)
    plain = [Image.new("RGB", (60, 40), colour) for colour in ("white", "black", "red")]
    noise = rng.integers(120, 123, (2, 40, 60, 3)).astype(np.uint8)  # Of a sensor, say.
    assert not len(near_pairs(looks(*plain, *plain, *map(Image.fromarray, noise))).first)
    assert not len(near_pairs(looks(*plain)[:0]).first)
    assert not len(near_pairs(looks(*plain), looks(*plain)[:0]).first)


def test_groups_are_those_of_chains() -> None:
    pairs = NearPairs(np.array([0, 1, 5]), np.array([1, 3, 6]), np.float32([0.8, 0.9, 1]))
    groups, least = near_groups(40, pairs)
    expected = list(range(40))
    expected[1] = expected[3] = 0
    expected[6] = 5
    assert groups.tolist() == expected
    assert least == 0.7


@pytest.mark.parametrize(
    ("agreement", "least", "largest"), [(0.75, 0.8, 1), (0.85, 0.9, 1), (1.0, np.inf, 1)]
)
def test_a_group_of_nearly_all_is_parted(agreement: float, least: float, largest: int) -> None:
    # A chain through half of 40 images: more than the tenth that one group may hold.
    count = np.arange(20)
    chain = NearPairs(count[:-1], count[1:], np.full(19, agreement, np.float32))
    groups, found = near_groups(40, chain)
    assert found == least
    assert np.bincount(groups).max() == largest


def test_copies_are_found_wherever_they_stand_among_many() -> None:
    """Pictures of noise are like none but their own copies, which stand in other blocks."""
    many = np.random.default_rng(0).integers(0, 256, (2600, SIDE, SIDE), np.uint8)
    planted = [(0, 2599), (511, 512), (600, 601), (700, 2047)]
    for first, second in planted:
        many[second] = many[first]
    found = near_pairs(many)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == planted
    others = near_pairs(many[:600], many[600:])
    assert others.first.tolist() == [0] and others.second.tolist() == [1999]


def test_large_jpeg_pictures_are_decoded_at_a_part_of_their_size() -> None:
    stored = rewritten(photograph(0, (1024, 768)), 90)
    whole = np.asarray(rewritten(photograph(0, (1024, 768)), 90).convert("L"))
    made = thumbnail(stored)
    assert stored.size == (256, 192)
    means = whole.reshape(SIDE, 24, SIDE, 32).mean(axis=(1, 3))
    assert np.abs(made - means).mean() < 1


@pytest.mark.parametrize("rule", ["stretch", "letterbox"])
def test_thumbnails_of_training_are_those_of_pillow(tmp_path: Path, rule: ResizeRule) -> None:
    """Pillow makes the one from the whole file, TensorFlow the other from the model's image."""
    stored = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photograph(orientation, (200, 130)).save(tmp_path / f"{orientation}.png", exif=exif)
        stored.append(Image.open(tmp_path / f"{orientation}.png"))
    upright = [ImageOps.exif_transpose(image) for image in stored]
    columns = {
        "paths": [str(tmp_path / f"{orientation}.png") for orientation in range(1, 9)],
        "offsets": np.zeros(8, np.int64),
        "lengths": np.full(8, -1),
        "orientations": np.arange(1, 9, dtype=np.uint8),
        "windows": np.zeros((8, 4), np.int32),
        "sizes": np.array([image.size[::-1] for image in upright], np.int32),
        "labels": np.zeros(8, np.int32),
        "boxes": np.tile(np.float32([0, 0, 1, 1]), (8, 1)),
        "rows": np.arange(1, 9),
        **{name: [""] * 8 for name in ("names", "files", "groups")},
    }
    records = Records(
        **{name: np.asarray(value) for name, value in columns.items()}, class_names=["a"]
    )
    found = store_pixels(records, ImageFormat((96, 128), 3, rule), keep="none").thumbnails
    expected = looks(*upright)
    assert np.abs(found.astype(int) - expected).mean(axis=(1, 2)).max() < 2
    turned = [thumbnail(image, number + 1) for number, image in enumerate(stored)]
    # Pillow counts a pixel on an edge to one side, which a turn changes.
    assert np.abs(np.array(turned, int) - expected).mean(axis=(1, 2)).max() < 2


def source(root: Path, splits: dict[str, list[Image.Image]], **data: object) -> DataSource:
    """A CSV data set of two classes whose boxes are all alike."""
    given: dict[str, object] = {"val": None, "test": None}
    for split, images in splits.items():
        (root / split).mkdir(parents=True)
        rows = []
        for number, image in enumerate(images):
            image.convert("RGB").save(root / split / f"{number:02d}.png")
            rows.append(f"{number:02d}.png,{'ab'[number % 2]},0.2,0.2,0.7,0.8\n")
        (root / f"{split}.csv").write_text("".join(rows))
        given[split] = {"csv": f"{split}.csv", "images": split}
    tree = {
        "data": {
            "source": {"format": "csv", "path": str(root), "csv": {"splits": given}},
            "image_size": 64,
            **data,
        },
        "train": {"batch_size": 4},
    }
    return DataSource(config_from_tree(tree, [], origin="the test", name="near"))


@pytest.mark.parametrize("keep", ["none", "memory", "disk"])
def test_our_own_cut_keeps_copies_on_one_side(tmp_path: Path, keep: str) -> None:
    # Image i + 20 is a copy of image i, of the same class.
    scenes = [photograph(seed) for seed in range(20)]
    data = {"cache": keep, "cache_dir": str(tmp_path / "cache")}
    images = [*scenes, *(cut(rewritten(scene, 60), 0.03, 0, 0.02, 0.04) for scene in scenes)]
    near = source(tmp_path / "set", {"train": images}, split={"val": 0.2, "test": 0.2}, **data)
    for _ in range(2):  # The second time from the file, where there is one.
        built = near.build()
        numbers = {
            split: [int(Path(name).stem) for name in pictures.names]
            for split, pictures in built.pictures.items()
        }
        assert sorted(number for own in numbers.values() for number in own) == list(range(40))
        assert {split: len(own) for split, own in numbers.items()} == {
            "train": 24,
            "val": 8,
            "test": 8,
        }
        for own in numbers.values():
            assert {number % 20 for number in own} == {number for number in own if number < 20}
        assert not built.near_duplicates
        assert any("40 images form 20 groups of near duplicates" in note for note in built.notes)
        # The pictures are still those of their records: the scene's mean colour tells it.
        for split in ("val", "test"):
            batches = np.concatenate([shown for shown, _ in built.held_out(split)])
            for shown, number in zip(batches, numbers[split], strict=True):
                expected = np.asarray(images[number].convert("RGB")).mean(axis=(0, 1))
                assert np.abs(shown.mean(axis=(0, 1)) - expected).max() < 3
    # Commands that need no pixels cut alike.
    for split, records in near.records.splits.items():
        assert records.names.tolist() == built.pictures[split].names.tolist()


def test_leaks_of_given_splits_are_listed(tmp_path: Path) -> None:
    scenes = [photograph(seed) for seed in range(12)]
    test = [photograph(50), rewritten(scenes[3], 50), photograph(51), cut(scenes[7], 0, 0, 0.06, 0)]
    given = {"train": scenes, "val": [photograph(60), photograph(61)], "test": test}
    built = source(tmp_path / "set", given).build()
    assert built.leaked("val") is None
    assert built.leaked("test").tolist() == [False, True, False, True]
    # A comparison neither lists them nor gives figures without them.
    assert leak_note(built, "test", listed=False) == (
        "2 of 4 test images are near duplicates of training images, which flatters the figures."
    )
    write_near_duplicates(tmp_path, built, built.near_duplicates)
    with (tmp_path / "near_duplicates.csv").open() as file:
        rows = list(csv.DictReader(file))
    told = [(row["split"], row["image"], row["training_image"]) for row in rows]
    assert told == [("test", "01.png", "03.png"), ("test", "03.png", "07.png")]
    assert Path(rows[0]["path"]).samefile(tmp_path / "set" / "test" / "01.png")
    assert all(0.7 <= float(row["agreement"]) <= 1 for row in rows)


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_training_and_evaluation_tell_of_leaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = [photograph(seed) for seed in range(12)]
    test = [photograph(50), rewritten(scenes[3], 50), photograph(51), photograph(52)]
    given = {"train": scenes, "val": [photograph(60), photograph(61)], "test": test}
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(source(tmp_path / "set", given).config))
    run = tmp_path / "run"
    small = ["model.backbone.width=4", "train.epochs=1", "train.warmup_epochs=0"]
    settings = [word for key in (*small, "export.enabled=false") for word in ("--set", key)]
    assert train.main(["--config", str(config), "--run-dir", str(run), *settings]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 of 4 test images is a near duplicate of training images" in told
    measured = json.loads((run / "metrics.json").read_text())
    counts = {split: found["images"] for split, found in measured.items()}
    assert counts == {"val": 2, "test": 4, "test_without_near_duplicates": 3}
    assert set(measured["test"]) == set(measured["test_without_near_duplicates"])
    assert evaluate.main(["--run", str(run)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 of 4 images is a near duplicate of training images" in told
    out = run / "evaluation" / "test"
    assert json.loads((out / "metrics.json").read_text())["without_near_duplicates"]["images"] == 3
    assert "is a near duplicate of training images" in (out / "report.html").read_text()
    for folder in (run, out):
        lines = (folder / "near_duplicates.csv").read_text().splitlines()
        assert len(lines) == 2
        assert lines[1].startswith("test,01.png,")
    # A picture that is replaced by another one of the same size is another data set.
    path = tmp_path / "set" / "test" / "00.png"
    size = path.stat().st_size
    photograph(99).resize((40, 30)).save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    assert evaluate.main(["--run", str(run)]) == 0
    assert "these are not the splits that the run was trained with" in " ".join(
        capsys.readouterr().out.split()
    )
