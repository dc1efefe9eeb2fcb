"""On which view of turned pictures boxes were drawn: what decides, and what is asked."""

import json

import numpy as np
import pytest
from PIL import Image

from loc_keras.cli.data_source import VIEWS_FILE, UndecidedViewError, require_view
from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Annotated, Annotations, ImageRef
from loc_keras.data.check.run import quick_check
from loc_keras.data.formats.coco import read_coco
from loc_keras.data.resolve import resolve

WIDE, HIGH = 72, 108
"""The upright pictures; they are stored on their side, 108 x 72 px, with the orientation 6."""
BLUE = (20, 30, 250)


def stored_box(box):
    """A box of the upright picture in px of the stored one, by hand.

    With the orientation 6 the stored left side is seen at the top, the stored bottom at the left
    (TIFF 6.0, tag 274), so that x of the stored is y of the seen, and y of it what is right of x.
    """
    x1, y1, x2, y2 = box
    return y1, WIDE - x2, y2, WIDE - x1


def boxes_of(count, reach=HIGH):
    rng = np.random.default_rng(count + reach)
    corners = rng.integers(0, (WIDE - 25, reach - 25), (count, 2))
    return [(x, y, x + 20, y + 25) for x, y in corners.tolist()]


def picture(path, box):
    pixels = np.full((HIGH, WIDE, 3), 128, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = BLUE
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    turned.save(path, exif=exif, quality=95, subsampling=0)


def data(tmp_path, boxes, written=None, size=None, units="pixel", **more):
    """A data set of pictures with an object each, and its boxes as they are written."""
    objects = []
    for number, box in enumerate(boxes):
        path = tmp_path / f"{number}.jpg"
        picture(path, box)
        given = (written or boxes)[number]
        if units == "fraction":
            given = tuple(side / (WIDE, HIGH)[axis % 2] for axis, side in enumerate(given))
        one = Annotated(ImageRef(str(path)), path.name, "a", given, "a.csv", number + 1, size)
        objects.append(one)
    return Annotations({"train": objects}, units, **more)


def found_boxes(result):
    """The boxes that would be trained on, in px of the upright pictures."""
    records = resolve(result.annotations, result.source, result.objects).splits["train"]
    assert (records.sizes == (HIGH, WIDE)).all()
    return records.boxes * (WIDE, HIGH, WIDE, HIGH)


def test_boxes_that_fit_one_view_alone_decide(tmp_path):
    boxes = boxes_of(12)
    assert sum(box[3] > WIDE for box in boxes) >= 3
    result = quick_check(data(tmp_path, boxes), SourceConfig())
    assert result.source.boxes_on == "upright"
    assert not result.counts["error"]
    np.testing.assert_allclose(found_boxes(result), boxes, atol=1e-4)
    (told,) = [one for one in result.findings if one.kind == "exif_decided"]
    assert "12 pictures" in told.reason and "upright" in told.reason
    require_view(result)


def test_boxes_on_stored_pixels_decide_as_well(tmp_path):
    boxes = boxes_of(12)
    written = [stored_box(box) for box in boxes]
    result = quick_check(data(tmp_path, boxes, written), SourceConfig())
    assert result.source.boxes_on == "stored"
    np.testing.assert_allclose(found_boxes(result), boxes, atol=1e-4)


@pytest.mark.parametrize("view", ["stored", "upright"])
def test_declared_sizes_decide(tmp_path, view):
    boxes = boxes_of(5, reach=WIDE)  # Inside both views.
    written = boxes if view == "upright" else [stored_box(box) for box in boxes]
    size = (WIDE, HIGH) if view == "upright" else (HIGH, WIDE)
    result = quick_check(data(tmp_path, boxes, written, size), SourceConfig())
    assert result.source.boxes_on == view
    np.testing.assert_allclose(found_boxes(result), boxes, atol=1e-4)


def outline(cell):
    """Edges of what is drawn in the colour of a box (213, 94, 0), and of the object."""
    red, _, blue = np.moveaxis(np.asarray(cell).astype(int), -1, 0)
    drawn, seen = (red > 150) & (blue < 90), (blue > 180) & (red < 90)
    return [
        (where[1].min(), where[0].min(), where[1].max(), where[0].max())
        for where in (np.nonzero(drawn), np.nonzero(seen))
    ]


def test_nothing_decides_so_both_readings_are_shown(tmp_path):
    boxes = [(5, 60, 25, 85), (40, 70, 60, 95), (3, 5, 23, 30)]
    annotations = data(tmp_path, boxes, units="fraction")
    result = quick_check(annotations, SourceConfig())
    assert result.source.boxes_on is None
    with pytest.raises(
        UndecidedViewError, match=r"3 pictures .* set data\.source\.boxes_on"
    ) as told:
        require_view(result, tmp_path / "report")
    path = tmp_path / "report" / VIEWS_FILE
    assert str(path) in str(told.value)
    with Image.open(path) as sheet:
        side = sheet.width // 2
        assert sheet.height == 2 * side
        for row in range(2):
            across = [
                (0, row * side, side, (row + 1) * side),
                (side, row * side, 2 * side, (row + 1) * side),
            ]
            (stored, _), (upright, thing) = (outline(sheet.crop(cell)) for cell in across)
            assert (
                np.abs(np.subtract(upright, thing)).max() <= 12
            )  # The line is drawn over the object's edge.
            assert np.abs(np.subtract(stored, thing)).max() > 20
    for view in ("stored", "upright"):
        asked = quick_check(annotations, SourceConfig(boxes_on=view))
        require_view(asked)
        assert np.allclose(found_boxes(asked), boxes, atol=1e-4) == (view == "upright")


def test_a_few_wrong_boxes_decide_nothing(tmp_path):
    boxes = boxes_of(12, reach=WIDE)
    written = [stored_box(box) for box in boxes]
    written[0] = (10, 80, 30, 105)
    assert quick_check(data(tmp_path, boxes, written), SourceConfig()).source.boxes_on is None


def test_upright_pictures_ask_for_nothing(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    one = Annotated(ImageRef(str(tmp_path / "a.jpg")), "a.jpg", "a", (1, 1, 9, 9), "a.csv", 1)
    result = quick_check(Annotations({"train": [one]}, "pixel"), SourceConfig())
    assert result.source.boxes_on == "stored"
    assert not [one for one in result.findings if one.kind.startswith("exif")]


@pytest.mark.parametrize("named", [False, True])
def test_sizes_and_boxes_that_contradict_each_other(tmp_path, named):
    # As an export of Label Studio does (HumanSignal/label-studio, 6608): sizes as stored, boxes as
    # seen. Where the file does not name the program, nobody can know.
    boxes = boxes_of(12)
    images, annotations = [], []
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        picture(tmp_path / f"{number}.jpg", (x1, y1, x2, y2))
        images.append({"id": number, "file_name": f"{number}.jpg", "width": HIGH, "height": WIDE})
        bbox = [x1, y1, x2 - x1, y2 - y1]
        annotations.append({"id": number, "image_id": number, "category_id": 0, "bbox": bbox})
    categories = [{"id": 0, "name": "thing"}]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    if named:
        tree["info"] = {"year": 2026, "version": "1.0", "contributor": "Label Studio"}
    (tmp_path / "result.json").write_text(json.dumps(tree))
    read = read_coco(str(tmp_path), splits={"train": {"annotations": "result.json"}})
    result = quick_check(read, SourceConfig())
    assert result.source.boxes_on == ("upright" if named else None)
    if not named:
        with pytest.raises(UndecidedViewError, match=r"EXIF orientation.*boxes_on"):
            require_view(result, tmp_path)
        result = quick_check(read, SourceConfig(boxes_on="upright"))
    assert not result.counts["error"]
    np.testing.assert_allclose(found_boxes(result), boxes, atol=1e-4)
