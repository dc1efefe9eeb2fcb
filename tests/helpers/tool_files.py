"""Two labelled pictures in the files of each tool, as the tool of the named version writes them.

`a.png` is 96 x 64 px and has a cup at (50, 33, 72, 53); `b.png` is 64 x 96 px and has a key at
(3, 63, 24, 89).
"""

import json

DRAWN = {"a": ("cup", (50.0, 33.0, 72.0, 53.0)), "b": ("key", (3.0, 63.0, 24.0, 89.0))}
SIZES = {"a": (96, 64), "b": (64, 96)}
OBJECTS = [(stem, *DRAWN[stem][:1], *DRAWN[stem][1]) for stem in DRAWN]


def _json(tree) -> bytes:
    return json.dumps(tree, indent=2).encode()


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def labelme(stem: str, kind: str = "rectangle", **more) -> bytes:
    """labelme 6.3.1, `write_label_file`; the rectangle is drawn from its lower right corner."""
    label, (x1, y1, x2, y2) = DRAWN[stem]
    shape = {"label": label, "points": [[x2, y2], [x1, y1]], "group_id": None}
    shape |= {"shape_type": kind, "flags": {}, "description": "", "mask": None}
    width, height = SIZES[stem]
    tree = {"version": "6.3.1", "flags": {}, "shapes": [shape], "imagePath": f"{stem}.png"}
    tree |= {"imageData": None, "imageHeight": height, "imageWidth": width}
    return _json(tree | more)


def _studio_region(stem: str) -> dict:
    label, (x1, y1, x2, y2) = DRAWN[stem]
    width, height = SIZES[stem]
    value = {"x": x1 / width * 100, "y": y1 / height * 100, "width": (x2 - x1) / width * 100}
    value |= {"height": (y2 - y1) / height * 100, "rotation": 0, "rectanglelabels": [label]}
    return {"original_width": width, "original_height": height, "image_rotation": 0, "value": value}


def _studio_min(stem: str) -> dict:
    region = _studio_region(stem)
    return region.pop("value") | {key: region[key] for key in ("original_width", "original_height")}


def _studio_csv() -> bytes:
    rows = []
    for number, stem in enumerate(DRAWN, 1):
        label = json.dumps([_studio_min(stem)]).replace('"', '""')
        rows.append(f'/data/upload/1/1f2e3d4c-{stem}.png,{number},"{label}",1,{number},now,now,9.5')
    return _lines("image,id,label,annotator,annotation_id,created_at,updated_at,lead_time", *rows)


def _web(stem: str) -> bytes:
    label, (x1, y1, x2, y2) = DRAWN[stem]
    width, height = SIZES[stem]
    corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    points = "".join(f"<pt><x>{x:.2f}</x><y>{y:.2f}</y></pt>" for x, y in corners)
    return (
        f"<annotation><filename>{stem}.png</filename><folder>x</folder><imagesize><nrows>{height}"
        f"</nrows><ncols>{width}</ncols></imagesize><object><name>{label}</name><deleted>0</deleted>"
        f"<type>bounding_box</type><polygon>{points}<username></username></polygon></object>"
        "</annotation>"
    ).encode()


def _cvat() -> bytes:
    images = "".join(
        f'<image id="{number}" name="{stem}.png" width="{SIZES[stem][0]}" '
        f'height="{SIZES[stem][1]}"><box label="{label}" occluded="0" xtl="{x1:.2f}" '
        f'ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}" z_order="0"></box></image>'
        for number, (stem, label, x1, y1, x2, y2) in enumerate(OBJECTS)
    )
    return (
        f'<?xml version="1.0"?><annotations><version>1.1</version>{images}</annotations>'.encode()
    )


def _dlib() -> bytes:
    images = "".join(
        f"<image file='{stem}.png'><box top='{y1:.0f}' left='{x1:.0f}' width='{x2 - x1:.0f}' "
        f"height='{y2 - y1:.0f}'><label>{label}</label></box></image>"
        for stem, label, x1, y1, x2, y2 in OBJECTS
    )
    return f"<?xml version='1.0'?><dataset><images>{images}</images></dataset>".encode()


def _via_region(label: str, x1: float, y1: float, x2: float, y2: float) -> dict:
    shape = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {"shape_attributes": shape, "region_attributes": {"name": label}}


def _via_csv() -> bytes:
    quoted = (
        f'{stem}.png,512,"{{}}",1,0,'
        + ",".join('"' + json.dumps(one).replace('"', '""') + '"' for one in region.values())
        for stem, *drawn in OBJECTS
        for region in [_via_region(*drawn)]
    )
    header = "filename,file_size,file_attributes,region_count,region_id,"
    return _lines(f"{header}region_shape_attributes,region_attributes", *quoted)


TOOL_FILES: dict[str, tuple[dict[str, bytes], tuple[str, ...]]] = {
    "labelme": ({f"{stem}.json": labelme(stem) for stem in DRAWN}, ("a.png", "b.png")),
    # supervision 0.31.2, `as_createml`: x and y are the centre.
    "createml": (
        {
            "_annotations.createml.json": _json(
                [
                    {
                        "image": f"{stem}.png",
                        "annotations": [
                            {
                                "label": label,
                                "coordinates": {
                                    "x": (x1 + x2) / 2,
                                    "y": (y1 + y2) / 2,
                                    "width": x2 - x1,
                                    "height": y2 - y1,
                                },
                            }
                        ],
                    }
                    for stem, label, x1, y1, x2, y2 in OBJECTS
                ]
            )
        },
        ("images/a.png", "images/b.png"),
    ),
    # VGG Image Annotator 2.0.12, "Export Annotations (as json)", and as csv.
    "via": (
        {
            "via_region_data.json": _json(
                {
                    f"{stem}.png512": {
                        "filename": f"{stem}.png",
                        "size": 512,
                        "regions": [_via_region(*drawn)],
                        "file_attributes": {},
                    }
                    for stem, *drawn in OBJECTS
                }
            )
        },
        ("a.png", "b.png"),
    ),
    "via_csv": ({"via_region_data.csv": _via_csv()}, ("a.png", "b.png")),
    # Label Studio 1.x: JSON, and CSV, whose regions are those of JSON-MIN.
    "label_studio": (
        {
            "project-1-at-2024.json": _json(
                [
                    {
                        "id": number,
                        "annotations": [
                            {
                                "id": number,
                                "was_cancelled": False,
                                "ground_truth": False,
                                "result": [
                                    _studio_region(stem)
                                    | {
                                        "id": "x1",
                                        "from_name": "label",
                                        "to_name": "image",
                                        "type": "rectanglelabels",
                                        "origin": "manual",
                                    }
                                ],
                            }
                        ],
                        "data": {"image": f"/data/upload/1/1f2e3d4c-{stem}.png"},
                    }
                    for number, stem in enumerate(DRAWN, 1)
                ]
            )
        },
        ("a.png", "b.png"),
    ),
    "label_studio_csv": ({"project-1-at-2024.csv": _studio_csv()}, ("a.png", "b.png")),
    # CVAT 2.x, "CVAT for images 1.1", as datumaro 1.13.12 writes it, too.
    "cvat": ({"annotations.xml": _cvat()}, ("images/a.png", "images/b.png")),
    # datumaro 1.13.12, `label_me`.
    "labelme_web": (
        {f"Annotations/{stem}.xml": _web(stem) for stem in DRAWN},
        ("Images/a.png", "Images/b.png"),
    ),
    # dlib's imglab 1.x.
    "dlib": ({"training.xml": _dlib()}, ("a.png", "b.png")),
    # Loaded by `datasets` 5.2.0 as an imagefolder.
    "huggingface": (
        {
            "train/metadata.jsonl": _lines(
                *(
                    json.dumps(
                        {
                            "file_name": f"{stem}.png",
                            "objects": {
                                "bbox": [[x1, y1, x2 - x1, y2 - y1]],
                                "categories": [label],
                            },
                        }
                    )
                    for stem, label, x1, y1, x2, y2 in OBJECTS
                )
            )
        },
        ("train/a.png", "train/b.png"),
    ),
    # datumaro 1.13.12, `kitti`.
    "kitti": (
        {
            f"training/label_2/{stem}.txt": _lines(
                f"{label} 0.00 0 -1.82 {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f} "
                "-1 -1 -1 -1000 -1000 -1000 -10"
            )
            for stem, label, x1, y1, x2, y2 in OBJECTS
        },
        ("training/image_2/a.png", "training/image_2/b.png", "testing/image_2/a.png"),
    ),
    "bbox_label_tool": (
        {
            f"Labels/{stem}.txt": _lines("1", f"{x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f} {label}")
            for stem, label, x1, y1, x2, y2 in OBJECTS
        },
        ("Images/a.png", "Images/b.png"),
    ),
    # Roboflow's "YOLO Keras TXT".
    "keras_yolo": (
        {
            "_annotations.txt": _lines(
                *(
                    f"{stem}.png {x1:.0f},{y1:.0f},{x2:.0f},{y2:.0f},{number}"
                    for number, (stem, _, x1, y1, x2, y2) in enumerate(OBJECTS)
                )
            ),
            "_classes.txt": b"cup\nkey\n",
        },
        ("a.png", "b.png"),
    ),
}
"""Files of labels and names of images of each format, by its name."""
