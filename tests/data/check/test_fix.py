"""The mended copy: what it holds, what its log says, and that the source is not touched.

Planted files come from `test_check`; what is expected of each is written down by hand.
"""

import csv
import hashlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.annotated import all_objects
from helpers.planted_faults import (
    clean_set,
    config_file,
    encoded,
    good,
    grouped_set,
    picture,
    planted_set,
    read_set,
    turned_jpeg,
    write_set,
)
from PIL import Image

from loc_keras.cli.data_source import DataSource
from loc_keras.config.data import SourceConfig
from loc_keras.config.load import load_config
from loc_keras.data.annotations import Fault
from loc_keras.data.check.fix import Change, FixPlan, plan_fix, refuse_fix_folder, write_fix
from loc_keras.data.check.run import check_data
from loc_keras.data.fault_kinds import CATALOGUE
from loc_keras.data.formats.csv_file import read_csv
from loc_keras.data.formats.voc import read_voc
from loc_keras.errors import DataError


def tree_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(str(path.relative_to(root)).encode() + b"\0")
        if path.is_file():
            stat = path.stat()
            digest.update(path.read_bytes() + str((stat.st_mtime_ns, stat.st_mode)).encode())
    return digest.hexdigest()


def fix(
    root: Path, folder: Path, rules: SourceConfig | None = None
) -> tuple[FixPlan, list[Change]]:
    result = check_data(read_set(root), rules or SourceConfig())
    plan = plan_fix(result)
    return plan, write_fix(folder, plan, result, config_text="", config_name="loc_keras.yaml")


def rows_of(path: Path) -> dict[str, tuple[str, list[float]]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {name: (label, [float(side) for side in box])
                for name, label, *box in csv.reader(file)}  # fmt: skip


def test_copy_has_no_errors_and_source_is_untouched(tmp_path: Path) -> None:
    root, _ = planted_set(tmp_path / "set")
    before = tree_hash(root)
    plan, _ = fix(root, tmp_path / "copy")
    assert tree_hash(root) == before
    rules = SourceConfig(class_names=plan.class_names)
    result = check_data(read_csv(str(tmp_path / "copy")), rules)
    assert [one for one in result.findings if one.severity == "error"] == []
    assert len(result.objects) == sum(map(len, plan.objects.values()))
    kinds = {one.kind for one in result.findings}
    assert not kinds & {"exif_turned", "wrong_ending", "box_overhang", "duplicate_row"}
    # What is odd but usable is the user's to judge, so it is still there.
    assert {"mode_16bit", "box_tiny", "animated", "several_boxes"} <= kinds


def test_log_names_every_change(tmp_path: Path) -> None:
    root, _ = planted_set(tmp_path / "set")
    _, changes = fix(root, tmp_path / "copy")
    train = {(one.row, one.action) for one in changes if one.file.endswith("train.csv")}
    # Rows as planted: 13-19 are files that cannot be used, 27 was labelled on the upright
    # picture, 28 was scaled, 29-33 are boxes, 36 is "Cat", 38 and its original in row 2 differ
    # in class, row 7 (d0) stands in test, too, 43 repeats row 5, and 44-46 cannot be read.
    dropped = {(row, "dropped") for row in (*range(13, 20), 29, 31, 38, 2, 7, 43)}
    left_out = {(row, "left out") for row in (44, 45, 46)}
    changed = {(20, "renamed"), (26, "turned"), (27, "turned"), (28, "scaled")}
    boxes = {(30, "swapped"), (32, "clipped"), (33, "clipped"), (36, "relabelled")}
    assert train == dropped | left_out | changed | boxes
    test = {(one.row, one.action) for one in changes if one.file.endswith("test.csv")}
    assert test == {(6, "dropped")}  # the bird, a class that the training split lacks
    with (tmp_path / "copy" / "changes.csv").open(newline="", encoding="utf-8") as file:
        head, *written = csv.reader(file)
    assert tuple(head) == Change._fields and len(written) == len(changes)
    assert "clipped" in (tmp_path / "copy" / "summary.txt").read_text(encoding="utf-8")


def test_boxes_and_names_of_the_copy(tmp_path: Path) -> None:
    root, _ = planted_set(tmp_path / "set")
    fix(root, tmp_path / "copy")
    rows = rows_of(tmp_path / "copy" / "training_data.csv")
    # By hand, on 60 x 40 px: row 30 is (40, 10, 10, 30) swapped, 32 is (10, 10, 90, 30) clipped.
    assert rows["box149.png"][1] == pytest.approx([10 / 60, 0.25, 40 / 60, 0.75])
    assert rows["box151.png"][1] == pytest.approx([10 / 60, 0.25, 1, 0.75])
    # Labelled as (10, 10, 80, 60) on 120 x 80 px, the shape that the file still has.
    assert rows["scaled.png"][1] == pytest.approx([10 / 120, 10 / 80, 80 / 120, 60 / 80])
    assert rows["capital.png"][0] == "cat"
    assert "really_a_jpeg.jpg" in rows and "really_a_jpeg.png" not in rows
    copied = tmp_path / "copy" / "training_images" / "c0.png"
    assert copied.read_bytes() == (root / "images" / "c0.png").read_bytes()


def turned_rectangle(orientation: int) -> bytes:
    """A JPEG of 60 x 40 px, white over 16, 8, 48, 16 and else black, with an EXIF orientation."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[8:16, 16:48] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), "JPEG", exif=exif, quality=95, subsampling=0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("boxes_on", ["stored", "upright"])
def test_turned_picture_keeps_its_box_on_its_object(
    tmp_path: Path, orientation: int, boxes_on: str
) -> None:
    # A white rectangle on black, stored turned; PIL's own exif_transpose says where it is seen.
    from PIL import ImageOps

    content = turned_rectangle(orientation)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(content)))
    seen = upright.convert("L").point(lambda value: 255 * (value > 127)).getbbox()
    box = (16, 8, 48, 16) if boxes_on == "stored" else seen
    size = (60, 40) if boxes_on == "stored" else upright.size
    images = {"turned.jpg": content, "other.png": encoded(picture(5), "PNG")}
    train = [("turned.jpg", "cat", *box, *size), good("other.png", "cat")]
    root = write_set(tmp_path / "set", images, {"train.csv": train, "test.csv": train[1:]})
    (root / "test.csv").unlink()
    rules = SourceConfig(boxes_on=boxes_on)
    splits = {"train": {"csv": "train.csv", "images": "images"}}
    columns = ("file", "label", "x1", "y1", "x2", "y2", "width", "height")
    annotations = read_csv(str(root), splits=splits, columns=columns, units="pixel")
    result = check_data(annotations, rules)
    write_fix(
        tmp_path / "copy", plan_fix(result), result, config_text="", config_name="loc_keras.yaml"
    )
    rows = rows_of(tmp_path / "copy" / "training_data.csv")
    width, height = upright.size
    expected = [seen[0] / width, seen[1] / height, seen[2] / width, seen[3] / height]
    assert rows["turned.jpg"][1] == pytest.approx(expected, abs=1e-6)
    with Image.open(tmp_path / "copy" / "training_images" / "turned.jpg") as image:
        assert image.size == upright.size and image.getexif().get(0x0112, 1) == 1
        again = image.convert("L").point(lambda value: 255 * (value > 127)).getbbox()
    assert again == seen


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("boxes_on", ["stored", "upright"])
def test_ignored_orientation_leaves_the_stored_pixels(
    tmp_path: Path, orientation: int, boxes_on: str
) -> None:
    # A white rectangle on black; the config says that the pixels as stored are trained on.
    content = turned_rectangle(orientation)
    # Upright by hand: 3 turns by half, 6 stands on its right side, 40 x 60.
    seen = {1: (16, 8, 48, 16), 3: (12, 24, 44, 32), 6: (24, 16, 32, 48)}[orientation]
    size = (40, 60) if orientation == 6 and boxes_on == "upright" else (60, 40)
    box = (16, 8, 48, 16) if boxes_on == "stored" else seen
    images = {"turned.jpg": content, "other.png": encoded(picture(5), "PNG")}
    rows = [("turned.jpg", "cat", *box, *size), good("other.png", "cat")]
    root = write_set(tmp_path / "set", images, {"train.csv": rows, "test.csv": rows[1:]})
    _, changes = fix(root, tmp_path / "copy", SourceConfig(exif="ignore", boxes_on=boxes_on))
    name = "turned.jpg" if orientation == 1 else "turned.png"
    assert rows_of(tmp_path / "copy" / "training_data.csv")[name][1] == pytest.approx(
        [16 / 60, 8 / 40, 48 / 60, 16 / 40]
    )
    with Image.open(tmp_path / "copy" / "training_images" / name) as image:
        assert image.getexif().get(0x0112, 1) == 1
        with Image.open(BytesIO(content)) as stored:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(stored))
    actions = {one.action for one in changes if one.image == "turned.jpg"}
    assert actions == (set() if orientation == 1 else {"encoded anew", "renamed"})


def test_groups_are_copied_and_read_again(tmp_path: Path) -> None:
    from loc_keras.check import main

    annotations = grouped_set(tmp_path / "set")
    config = config_file(tmp_path / "set")
    text = config.read_text(encoding="utf-8").replace("width, height]", "width, height, group]")
    config.write_text(text, encoding="utf-8")
    assert main(["--config", str(config), "--fix", str(tmp_path / "copy")]) == 1
    with (tmp_path / "copy" / "training_data.csv").open(newline="", encoding="utf-8") as file:
        # 0.png is of group "a", which stands in test, too.
        assert [(row[0], row[6]) for row in csv.reader(file)] == [
            ("1.png", "b"),
            ("2.png", "b"),
            ("3.png", ""),
        ]
    fixed = load_config(tmp_path / "copy" / "loc_keras.yaml")
    assert fixed.data.source.csv.columns == ("file", "label", "x1", "y1", "x2", "y2", "group")
    again = {one.name: one.group for _, one in all_objects(DataSource(fixed).annotations)}
    given = {one.name: one.group for _, one in all_objects(annotations)}
    assert again == {name: group for name, group in given.items() if name != "0.png"}
    assert main(["--config", str(tmp_path / "copy" / "loc_keras.yaml")]) == 0


def test_log_names_whatever_a_reader_left_out(tmp_path: Path) -> None:
    annotations = read_set(clean_set(tmp_path / "set"))
    kinds = [*CATALOGUE, "a kind that a new reader made up"]
    faults = [Fault("a.json", row, f"is {kind}", kind) for row, kind in enumerate(kinds, 1)]
    result = check_data(replace(annotations, faults=faults), SourceConfig())
    changes = plan_fix(result).changes
    assert [(one.file, one.row, one.reason) for one in changes] == [one[:3] for one in faults]
    # Of these the object is used all the same.
    other = {one.reason for one in changes if one.action != "left out"}
    assert other == {"is declared_size", "is stale_name", "is score"}


def test_annotation_without_a_picture_is_logged_once(tmp_path: Path) -> None:
    box = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
    for name in ("here", "gone"):
        text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
        (tmp_path / f"{name}.xml").write_text(text, encoding="utf-8")
    (tmp_path / "here.png").write_bytes(encoded(picture(1), "PNG"))
    result = check_data(
        read_voc(str(tmp_path), splits={"train": {"annotations": "."}}), SourceConfig()
    )
    (change,) = plan_fix(result).changes
    assert (change.file, change.action) == (str(tmp_path / "gone.xml"), "left out")


def test_held_out_copy_is_the_one_kept(tmp_path: Path) -> None:
    images = {f"{n}.png": encoded(picture(n), "PNG") for n in range(4)}
    images["again.png"] = images["0.png"]
    rows = {
        "train.csv": [good(f"{n}.png", "cat") for n in range(3)],
        "test.csv": [good("again.png", "cat"), good("2.png", "cat"), good("3.png", "cat")],
    }
    root = write_set(tmp_path / "set", images, rows)
    plan, _ = fix(root, tmp_path / "copy")
    # 0.png has the bytes of again.png, and 2.png is named by both.
    assert [(split, one.name) for split, part in plan.objects.items() for one in part] == [
        ("train", "1.png"),
        ("test", "again.png"),
        ("test", "2.png"),
        ("test", "3.png"),
    ]


def test_names_that_break_tools_are_made_safe_and_distinct(tmp_path: Path) -> None:
    hostile = ['a,b"c.png', "a b\nc.png", "<b>.png", "ü ö.png", "=1+1.png"]
    images = {name: encoded(picture(n), "PNG") for n, name in enumerate(hostile)}
    rows = [good(name, "cat, or <dog>") for name in hostile]
    root = write_set(tmp_path / "set", images, {"train.csv": rows, "test.csv": rows[:1]})
    plan, _ = fix(root, tmp_path / "copy")
    again = read_csv(str(tmp_path / "copy"))
    result = check_data(again, SourceConfig(class_names=plan.class_names))
    assert [one for one in result.findings if one.severity == "error"] == []
    paths = [one.image.path.casefold() for _, one in all_objects(again)]
    assert len(paths) == len(set(paths)) == 5
    names = [one.name for _, one in all_objects(again)]
    assert not any(set(name) & set(',"<>\n ') for name in names)
    assert {one.label for _, one in all_objects(again)} == {"cat, or <dog>"}


def test_folder_must_be_new_and_elsewhere(tmp_path: Path) -> None:
    root = clean_set(tmp_path / "set")
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").touch()
    (tmp_path / "link").symlink_to(root)
    for folder in (used, used / "file", root, root / "new", tmp_path, tmp_path / "link" / "new"):
        with pytest.raises(DataError, match="--fix"):
            refuse_fix_folder(folder, str(root))
    refuse_fix_folder(tmp_path / "new", str(root))
    refuse_fix_folder(tmp_path / "set beside", str(root))


def test_nothing_is_written_where_nothing_is_left(tmp_path: Path) -> None:
    rows = {"train.csv": [good("gone.png", "cat")], "test.csv": [good("gone.png", "cat")]}
    root = write_set(tmp_path / "set", {}, rows)
    with pytest.raises(DataError, match="no copy was written"):
        fix(root, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_stopped_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = clean_set(tmp_path / "set")
    result = check_data(read_set(root), SourceConfig())

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_fix(
            tmp_path / "copy",
            plan_fix(result),
            result,
            config_text="",
            config_name="loc_keras.yaml",
            progress=stop,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_file_that_went_away_is_an_error_not_a_hole(tmp_path: Path) -> None:
    root = clean_set(tmp_path / "set")
    result = check_data(read_set(root), SourceConfig())
    (root / "images" / "c3.png").unlink()
    with pytest.raises(DataError, match=r"c3\.png"):
        write_fix(tmp_path / "copy", plan_fix(result), result, config_text="", config_name="c.yaml")
    assert not (tmp_path / "copy").exists()


def test_door_writes_a_config_that_reads_the_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from loc_keras.check import main

    root, _ = planted_set(tmp_path / "set")
    config = config_file(root, more="train: {epochs: 7}\n")
    before = tree_hash(root)
    assert main(["--config", str(config), "--fix", str(tmp_path / "copy")]) == 1
    assert tree_hash(root) == before
    fixed = tmp_path / "copy" / "loc_keras.yaml"
    assert "epochs: 7" in fixed.read_text(encoding="utf-8")
    assert main(["--config", str(fixed)]) == 0
    assert "0 errors" in capsys.readouterr().out
    # Once more into the same folder: refused before anything is read.
    assert main(["--config", str(config), "--fix", str(tmp_path / "copy")]) == 2


def test_conflict_of_size_is_solved_by_the_other_picture(tmp_path: Path) -> None:
    # Labelled on the upright picture, 40 x 60, while boxes are said to be on the stored one.
    images = {"turned.jpg": turned_jpeg(3, 6), "other.png": encoded(picture(4), "PNG")}
    train = [("turned.jpg", "cat", 10, 10, 30, 40, 40, 60), good("other.png", "cat")]
    root = write_set(tmp_path / "set", images, {"train.csv": train, "test.csv": train[1:]})
    plan, _ = fix(root, tmp_path / "copy")
    kept = next(one for part in plan.objects.values() for one in part)
    assert kept.name == "turned.jpg"
    assert kept.box == pytest.approx((10 / 40, 10 / 60, 30 / 40, 40 / 60))
