"""Two labelled pictures in the files of each tool, as the tool of the named version writes them.

`a.png` is 96 x 64 px and has a cup at (50, 33, 72, 53); `b.png` is 64 x 96 px and has a key at
(3, 63, 24, 89).
"""

import io
import json

import numpy as np
from PIL import Image

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


def _darwin(stem: str) -> bytes:
    """darwin-py 3.6, Darwin JSON 2.0."""
    label, (x1, y1, x2, y2) = DRAWN[stem]
    slot = {"type": "image", "slot_name": "0", "width": SIZES[stem][0], "height": SIZES[stem][1]}
    box = {"x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
    one = {"id": "7", "name": label, "properties": [], "slot_names": ["0"], "bounding_box": box}
    item = {"name": f"{stem}.png", "path": "/", "slots": [slot]}
    return _json({"version": "2.0", "schema_ref": "x", "item": item, "annotations": [one]})


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
    # VIA 3.0.13, "Save VIA project"; 2 is a rectangle.
    "via3": (
        {
            "via_project.json": _json(
                {
                    "project": {"pid": "__VIA_PROJECT_ID__", "pname": "p", "vid_list": ["1", "2"]},
                    "config": {"file": {"loc_prefix": {"1": "", "2": ""}}},
                    "attribute": {
                        "1": {
                            "aname": "class",
                            "anchor_id": "FILE1_Z0_XY1",
                            "type": 3,
                            "options": {"0": "cup", "1": "key"},
                        }
                    },
                    "file": {
                        "1": {"fid": "1", "fname": "a.png", "type": 2, "loc": 1, "src": "a.png"},
                        "2": {"fid": "2", "fname": "b.png", "type": 2, "loc": 1, "src": "b.png"},
                    },
                    "metadata": {
                        "1_x": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {}},
                        "1_y": {"vid": "1", "z": [], "xy": [2, 50, 33, 22, 20], "av": {"1": "0"}},
                        "2_z": {
                            "vid": "2",
                            "z": [],
                            "xy": [7, 3, 63, 24, 70, 10, 89],
                            "av": {"1": "1"},
                        },
                    },
                    "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
                }
            )
        },
        ("a.png", "b.png"),
    ),
    # VoTT 2.2, files of single images.
    "vott": (
        {
            f"0{stem}-asset.json": _json(
                {
                    "asset": {
                        "format": "png",
                        "name": f"{stem}.png",
                        "path": f"file:/home/me/{stem}.png",
                        "size": dict(zip(("width", "height"), SIZES[stem], strict=True)),
                        "state": 2,
                        "type": 1,
                    },
                    "regions": [
                        {
                            "id": "r",
                            "type": "RECTANGLE",
                            "tags": [label],
                            "boundingBox": {
                                "height": y2 - y1,
                                "width": x2 - x1,
                                "left": x1,
                                "top": y1,
                            },
                            "points": [{"x": x1, "y": y1}, {"x": x2, "y": y2}],
                        }
                    ],
                    "version": "2.2.0",
                }
            )
            for stem, label, x1, y1, x2, y2 in OBJECTS
        },
        ("a.png", "b.png"),
    ),
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
    "darwin": ({f"{stem}.json": _darwin(stem) for stem in DRAWN}, ("images/a.png", "images/b.png")),
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
    # datumaro 1.13.12, `datumaro` and `open_images`.
    "datumaro": (
        {
            "annotations/train.json": _json(
                {
                    "dm_format_version": "1.0",
                    "media_type": 2,
                    "infos": {},
                    "categories": {
                        "label": {"labels": [{"name": "cup"}, {"name": "key"}], "attributes": []}
                    },
                    "items": [
                        {
                            "id": stem,
                            "annotations": [
                                {
                                    "id": 0,
                                    "type": "bbox",
                                    "label_id": number,
                                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                                }
                            ],
                            "image": {"path": f"{stem}.png", "size": [*SIZES[stem]][::-1]},
                        }
                        for number, (stem, _, x1, y1, x2, y2) in enumerate(OBJECTS)
                    ],
                }
            )
        },
        ("images/train/a.png", "images/train/b.png"),
    ),
    "openimages": (
        {
            "annotations/train-annotations-bbox.csv": _lines(
                "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
                "IsGroupOf,IsDepiction,IsInside",
                *(
                    f"{stem},,{label},1,{x1 / SIZES[stem][0]},{x2 / SIZES[stem][0]},"
                    f"{y1 / SIZES[stem][1]},{y2 / SIZES[stem][1]},0,-1,-1,-1,-1"
                    for stem, label, x1, y1, x2, y2 in OBJECTS
                ),
            )
        },
        ("images/train/a.png", "images/train/b.png"),
    ),
    # COCO's panopticapi; stuff is no thing.
    "coco_panoptic": (
        {
            "panoptic_train2017.json": _json(
                {
                    "images": [
                        {
                            "id": number,
                            "file_name": f"{stem}.png",
                            "width": size[0],
                            "height": size[1],
                        }
                        for number, (stem, size) in enumerate(SIZES.items())
                    ],
                    "annotations": [
                        {
                            "image_id": number,
                            "file_name": f"{stem}_mask.png",
                            "segments_info": [
                                {
                                    "id": 7,
                                    "category_id": number,
                                    "iscrowd": 0,
                                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                                    "area": 5,
                                }
                            ],
                        }
                        for number, (stem, _, x1, y1, x2, y2) in enumerate(OBJECTS)
                    ],
                    "categories": [
                        {"id": 0, "name": "cup", "isthing": 1},
                        {"id": 1, "name": "key", "isthing": 1},
                    ],
                }
            )
        },
        ("train2017/a.png", "train2017/b.png"),
    ),
    # Vertex AI's import and export files; ground truth manifests of SageMaker.
    "automl": (
        {
            "data.jsonl": _lines(
                *(
                    json.dumps(
                        {
                            "imageGcsUri": f"gs://bucket/set/{stem}.png",
                            "boundingBoxAnnotations": [
                                {
                                    "displayName": label,
                                    "xMin": str(x1 / SIZES[stem][0]),
                                    "yMin": y1 / SIZES[stem][1],
                                    "xMax": x2 / SIZES[stem][0],
                                    "yMax": y2 / SIZES[stem][1],
                                }
                            ],
                            "dataItemResourceLabels": {
                                "aiplatform.googleapis.com/ml_use": "training"
                            },
                        }
                    )
                    for stem, label, x1, y1, x2, y2 in OBJECTS
                )
            )
        },
        ("a.png", "b.png"),
    ),
    "sagemaker": (
        {
            "output.manifest": _lines(
                *(
                    json.dumps(
                        {
                            "source-ref": f"s3://bucket/set/{stem}.png",
                            "job": {
                                "image_size": [
                                    {"width": SIZES[stem][0], "height": SIZES[stem][1], "depth": 3}
                                ],
                                "annotations": [
                                    {
                                        "class_id": 0,
                                        "top": int(y1),
                                        "left": int(x1),
                                        "height": int(y2 - y1),
                                        "width": int(x2 - x1),
                                    }
                                ],
                            },
                            "job-metadata": {
                                "class-map": {"0": label},
                                "type": "groundtruth/object-detection",
                            },
                        }
                    )
                    for stem, label, x1, y1, x2, y2 in OBJECTS
                )
            )
        },
        ("a.png", "b.png"),
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


def trimap(box) -> bytes:
    """A trimap of 96 x 64 px: 1 in the box, 2 outside, and a border of 3 within it."""
    x1, y1, x2, y2 = box
    pixels = np.full((64, 96), 2, np.uint8)
    pixels[y1:y2, x1:x2] = 3
    pixels[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = 1
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PUBLISHED: dict[str, tuple[dict[str, bytes], tuple[str, ...], set]] = {
    # By its README: name, class, species, breed; the box is around pixels of 1 and 3.
    "oxford_pet": (
        {
            "annotations/list.txt": _lines(
                "#Image CLASS-ID SPECIES BREED ID",
                "#ID: 1:37 Class ids",
                "Abyssinian_100 1 1 1",
                "great_pyrenees_7 2 2 1",
            ),
            "annotations/trainval.txt": b"Abyssinian_100 1 1 1\n",
            "annotations/test.txt": b"great_pyrenees_7 2 2 1\n",
            "annotations/trimaps/Abyssinian_100.png": trimap((50, 33, 72, 53)),
            "annotations/trimaps/great_pyrenees_7.png": trimap((3, 4, 24, 60)),
        },
        ("images/Abyssinian_100.jpg", "images/great_pyrenees_7.jpg"),
        {
            ("train", "Abyssinian_100.jpg", "Abyssinian", (50, 33, 72, 53)),
            ("test", "great_pyrenees_7.jpg", "great_pyrenees", (3, 4, 24, 60)),
        },
    ),
    # By its README the top left pixel is (1, 1), and sides name pixels of the box.
    "aircraft": (
        {
            "data/images_box.txt": _lines(
                "0034309 3 144 998 431", "0034958 1 1 10 20", "0000003 1 2 3 4"
            ),
            "data/images_variant_train.txt": b"0034309 707-320\n",
            "data/images_variant_val.txt": b"0034958 A340-200 X\n",
            "data/images_variant_test.txt": b"0000003 707-320\n",
        },
        tuple(f"data/images/{name}.jpg" for name in ("0034309", "0034958", "0000003")),
        {
            ("train", "0034309.jpg", "707-320", (2, 143, 998, 431)),
            ("val", "0034958.jpg", "A340-200 X", (0, 0, 10, 20)),
            ("test", "0000003.jpg", "707-320", (0, 1, 3, 4)),
        },
    ),
    "celeba": (
        {
            "Anno/list_bbox_celeba.txt": _lines(
                "2",
                "image_id x_1 y_1 width height",
                "000001.jpg    95  71 226 313",
                "000002.jpg    72  94 221 306",
            ),
            "Eval/list_eval_partition.txt": _lines("000001.jpg 0", "000002.jpg 2"),
        },
        ("Img/img_celeba/000001.jpg", "Img/img_celeba/000002.jpg", "Img/other/000001.jpg"),
        {
            ("train", "000001.jpg", "face", (95, 71, 321, 384)),
            ("test", "000002.jpg", "face", (72, 94, 293, 400)),
        },
    ),
}
"""The same of published sets, with split, image, class and box in px, by hand."""
