"""What the columns of a table mean: by their names, then by where the boxes lie."""

from pathlib import Path

import pytest
from helpers.converted import drawn, save

from loc_keras.cli.data_source import read_folder
from loc_keras.errors import DataError

WIDTH, HEIGHT = 40, 30


def box_of(k):
    """Corners in px. The first starts at the edge, the last ends there: no other reading fits."""
    return [(0, 0, 12, 9), (3, 5, 20, 30), (22, 4, 40, 19)][k % 3]


def rows_of(text, count=9):
    """Rows by a pattern: {0}..{3} corners, {w} and {h}, {cx} and {cy}, fractions as f0..f3."""
    for k in range(count):
        x1, y1, x2, y2 = box_of(k)
        fractions = (x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT)
        more = {"w": x2 - x1, "h": y2 - y1, "cx": (x1 + x2) / 2, "cy": (y1 + y2) / 2}
        more |= {f"f{side}": round(value, 5) for side, value in enumerate(fractions)}
        label, split = "ab"[k % 2], ["TRAIN", "VALIDATION", "TEST"][k % 3]
        yield text.format(*box_of(k), k=k, label=label, split=split, **more)


def picture(path, k):
    pixels = drawn(WIDTH, HEIGHT, box_of(k))
    pixels[-1] = 13 * k  # No two are the same.
    save(path, pixels, quality=95)


def write_set(root, rows, header=None, folder="images", table="labels.csv"):
    for k in range(9):
        picture(root / folder / f"{k}.jpg", k)
    lines = [*([header] if header else []), *rows]
    path = Path(root / table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def read(root, *overrides):
    return read_folder(str(root), overrides, name="x")


def assert_all_are_read(reading):
    seen = set()
    for part in reading.records.splits.values():
        for row in range(len(part)):
            name = Path(part.paths[row]).name
            k = int(name.removesuffix(".jpg"))
            height, width = part.sizes[row]
            box = part.boxes[row] * [width, height, width, height]
            assert box == pytest.approx(box_of(k), abs=0.01)
            assert part.class_names[part.labels[row]] == "ab"[k % 2]
            seen.add(k)
    assert seen == set(range(9))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,class,min_row,min_col,max_row,max_col", "{k}.jpg,{label},{1},{0},{3},{2}"),
        ("image,class,top_y,left_x,bottom_y,right_x", "{k}.jpg,{label},{1},{0},{3},{2}"),
        ("image,class,bbox-0,bbox-1,bbox-2,bbox-3", "{k}.jpg,{label},{0},{1},{2},{3}"),
        ("image,class,bbox-0,bbox-1,bbox-2,bbox-3", "{k}.jpg,{label},{0},{1},{w},{h}"),
        (
            "image,class,bbox_center_x,bbox_center_y,bbox_width,bbox_height",
            "{k}.jpg,{label},{cx},{cy},{w},{h}",
        ),
        ("image,class,xc,yc,w,h", "{k}.jpg,{label},{cx},{cy},{w},{h}"),
        ("image,class,x,y,w,h", "{k}.jpg,{label},{cx},{cy},{w},{h}"),
        ("image,class,x,y,w,h", "{k}.jpg,{label},{0},{1},{w},{h}"),
        ("image,class,x0,y0,x1,y1", "{k}.jpg,{label},{0},{1},{2},{3}"),
        # pylabel 0.1.55
        (
            "id,img_filename,img_width,img_height,ann_bbox_xmin,ann_bbox_ymin,ann_bbox_xmax,"
            "ann_bbox_ymax,ann_bbox_width,ann_bbox_height,cat_id,cat_name",
            "{k},{k}.jpg,40,30,{0},{1},{2},{3},{w},{h},7,{label}",
        ),
        # OpenImages
        (
            "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax",
            "{k},xclick,{label},1,{f0},{f2},{f1},{f3}",
        ),
        *[
            (f"filename,{name},xmin,ymin,xmax,ymax", "{k}.jpg,{label},{0},{1},{2},{3}")
            for name in ("labels", "cls", "tag", "breed", "type", "object", "class_label", "fruit")
        ],
        # The whole box in one field.
        (
            "image_id,width,height,bbox,source",
            '{k}.jpg,40,30,"[{0}.0, {1}.0, {w}.0, {h}.0]",{label}',
        ),
        ("image,box,class", "{k}.jpg,{0} {1} {2} {3},{label}"),
        ("image,box,class", '{k}.jpg,"({f0}, {f1}, {f2}, {f3})",{label}'),
        (None, '{k}.jpg,"{0},{1},{2},{3}",{label}'),
        ("image,box,class", '{k}.jpg,"(({0}, {1}), ({2}, {3}))",{label}'),
        # pandas of YOLOv5: the class as a number and as text.
        (
            "xmin,ymin,xmax,ymax,confidence,class,name,file",
            "{0},{1},{2},{3},0.9{k},4{k},{label},{k}.jpg",
        ),
        ("file,class,set,ulx,uly,lrx,lry", "{k}.jpg,{label},{split},{0},{1},{2},{3}"),
        # A column called as one of splits that names none.
        ("file,class,set,x1,y1,x2,y2", "{k}.jpg,{label},summer,{0},{1},{2},{3}"),
        # Names that are not those of the files here.
        ("image_id,class_name,x_min,y_min,x_max,y_max", "{k},{label},{0},{1},{2},{3}"),
        ("file,class,xmin,ymin,xmax,ymax", "{k}.JPG,{label},{0},{1},{2},{3}"),
        ("file,class,xmin,ymin,xmax,ymax", "/content/set/{k}.jpg,{label},{0},{1},{2},{3}"),
        ("file,class,xmin,ymin,xmax,ymax", "D:\\set\\{k}.jpg,{label},{0},{1},{2},{3}"),
        ("file,class,xmin,ymin,xmax,ymax", "https://h.example/{k}.jpg?a=b,{label},{0},{1},{2},{3}"),
        # AutoML and Vertex, with two and with four corners.
        (None, "{split},gs://bucket/{k}.jpg,{label},{f0},{f1},,,{f2},{f3},,"),
        (None, "UNASSIGNED,gs://b/{k}.jpg,{label},{f0},{f1},{f2},{f1},{f2},{f3},{f0},{f3}"),
    ],
)
def test_meaning_of_columns(tmp_path, header, row):
    write_set(tmp_path, rows_of(row), header)
    reading = read(tmp_path)
    assert_all_are_read(reading)
    if "{split}" in row:
        assert {split: len(part) for split, part in reading.records.splits.items()} == {
            "train": 3,
            "val": 3,
            "test": 3,
        }


def test_many_images_without_an_object_hide_no_table(tmp_path):
    for k in range(10, 16):
        picture(tmp_path / "images" / f"{k}.jpg", k)
    rows = [*(f"{k}.jpg,,,,," for k in range(10, 16)), *rows_of("{k}.jpg,{0},{1},{2},{3},{label}")]
    write_set(tmp_path, rows)
    assert_all_are_read(read(tmp_path))


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("id,box,kind", "{k},{0} {1} {2} {3},{label}", "does not name the image"),
        ("file,bbox,class", "{k}.jpg,x{0} y{1} w{w} h{h},{label}", "holds four numbers a row"),
    ],
)
def test_tables_of_boxes_that_cannot_be_read_are_named(tmp_path, header, row, said):
    write_set(tmp_path, rows_of(row), header)
    with pytest.raises(DataError, match=f"labels.csv looks like a table of boxes, but .*{said}"):
        read(tmp_path)


def test_boxes_that_lie_in_their_images_both_ways_are_asked_about(tmp_path):
    # Corners or corner and size: each of them fits 40 x 30 px.
    write_set(tmp_path, [f'{k}.jpg,"[2, 3, 15, {8 + k}]",{"ab"[k % 2]}' for k in range(9)])
    with pytest.raises(
        DataError, match=r"as xyxy and as xywh: say which by --set data.source.csv.b"
    ):
        read(tmp_path)
    reading = read(tmp_path, "data.source.csv.box=xywh")
    assert reading.source.config.data.source.csv.box == "xywh"
    assert (reading.records.splits["train"].boxes[0] * [40, 30, 40, 30]).tolist() == pytest.approx(
        [2, 3, 17, 11]
    )


def test_two_columns_of_text_that_may_be_the_class_are_asked_about(tmp_path):
    write_set(
        tmp_path, rows_of("{k}.jpg,{label},{split},{0},{1},{2},{3}"), "f,kind,site,x1,y1,x2,y2"
    )
    with pytest.raises(DataError, match=r"does not say which column is the class"):
        read(tmp_path)


def test_names_of_two_images_are_not_guessed(tmp_path):
    write_set(tmp_path, rows_of("/a/{k}.jpg,{label},{0},{1},{2},{3}"), "file,class,x1,y1,x2,y2")
    for k in range(9):
        picture(tmp_path / "copies" / f"{k}.jpg", k + 10)
    with pytest.raises(DataError, match="no image that it names is found"):
        read(tmp_path)
