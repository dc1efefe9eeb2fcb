"""Run in a tool's own environment: has it write labelled pictures, or read what was written.

    python real_tools.py write NAME DRAWN.json FOLDER
    python real_tools.py read NAME FOLDER

`DRAWN.json` lists [path, class, [x1, y1, x2, y2], [width, height]]; reading prints such a list of
[name, class, box] as its last line.
"""

import json
import os
import shutil
import sys
from pathlib import Path

CLASSES = ["cup", "key", "ring"]


def copied(drawn, folder):
    """Copies the pictures; gives (new path, class, box, size) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        (shutil.copy(path, folder), label, tuple(box), tuple(size))
        for path, label, box, size in drawn
    ]


def labelme(drawn, out):
    from labelme._label_file import read_image_file, write_label_file

    for path, label, (x1, y1, x2, y2), (width, height) in copied(drawn, out):
        shape = {"label": label, "points": [[x2, y2], [x1, y1]], "shape_type": "rectangle"}
        shape |= {"group_id": None, "flags": {}, "description": "", "mask": None}
        inside = read_image_file(path) if label == "key" else None
        write_label_file(
            os.path.splitext(path)[0] + ".json",
            shapes=[shape],
            image_path=os.path.basename(path),
            image_height=height,
            image_width=width,
            image_data=inside,
        )


def read_labelme(folder):
    from labelme._label_file import LabelFile

    for path in sorted(folder.glob("*/*.json")):
        file = LabelFile(str(path))
        (shape,) = file.shapes
        (x1, y1), (x2, y2) = shape["points"]
        yield file.image_path, shape["label"], [x1, y1, x2, y2]


def supervision(form):
    def write(drawn, out):
        import numpy as np
        import supervision as sv

        found = {
            path: sv.Detections(xyxy=np.array([box]), class_id=np.array([CLASSES.index(label)]))
            for path, label, box, _ in copied(drawn, out.parent / "given")
        }
        data = sv.DetectionDataset(CLASSES, list(found), found)
        images = {"images_directory_path": str(out / "images")}
        if form == "createml":
            data.as_createml(**images, annotations_path=str(out / "_annotations.createml.json"))
        elif form == "labelme":
            data.as_labelme(str(out), annotations_directory_path=str(out))
        elif form == "coco":
            data.as_coco(**images, annotations_path=str(out / "annotations.json"))
        elif form == "voc":
            data.as_pascal_voc(**images, annotations_directory_path=str(out / "annotations"))
        else:
            labels = {"annotations_directory_path": str(out / "labels")}
            data.as_yolo(**images, **labels, data_yaml_path=str(out / "data.yaml"))

    return write


def read_supervision(folder):
    import supervision as sv

    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        path = part / "_annotations.createml.json"
        if path.exists():
            data = sv.DetectionDataset.from_createml(str(part), str(path))
        else:
            data = sv.DetectionDataset.from_labelme(str(part), str(part))
        for name, _, found in data:
            yield os.path.basename(name), data.classes[found.class_id[0]], found.xyxy[0].tolist()


def globox(form):
    def write(drawn, out):
        from globox import Annotation, AnnotationSet, BoundingBox

        made = AnnotationSet(
            Annotation(
                os.path.basename(path),
                size,
                [BoundingBox(label=label, xmin=x1, ymin=y1, xmax=x2, ymax=y2)],
            )
            for path, label, (x1, y1, x2, y2), size in copied(drawn, out / "images")
        )
        if form == "cvat":
            made.save_cvat(out / "annotations.xml")
        elif form == "via":
            made.save_via_json(out / "via.json", image_folder=out / "images")
        elif form == "openimages":
            made.save_openimage(out / "train-annotations-bbox.csv")
        elif form == "coco":
            made.save_coco(out / "annotations.json", auto_ids=True)
        else:
            made.save_pascal_voc(out / "annotations")

    return write


def read_globox(folder):
    from globox import AnnotationSet

    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (part / "annotations.xml").exists():
            data = AnnotationSet.from_cvat(part / "annotations.xml")
        else:
            path = part / "via_region_data.json"
            data = AnnotationSet.from_via_json(path, image_folder=part, label_key="class")
        for one in data:
            (box,) = one.boxes
            yield one.image_id, box.label, [box.xmin, box.ymin, box.xmax, box.ymax]


def datumaro(form):
    def write(drawn, out):
        import datumaro as dm
        from datumaro.components.media import Image

        items = []
        for number, (path, label, (x1, y1, x2, y2), _) in enumerate(drawn):
            box = dm.Bbox(x1, y1, x2 - x1, y2 - y1, label=CLASSES.index(label), id=number)
            box.attributes["occluded"] = False
            items.append(
                dm.DatasetItem(
                    id=Path(path).stem,
                    subset="train" if number < 7 else "val",
                    media=Image.from_file(path=path),
                    annotations=[box],
                )
            )
        dm.Dataset.from_iterable(items, categories=CLASSES).export(str(out), form, save_media=True)

    return write


def read_datumaro(folder):
    import datumaro as dm

    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        data = dm.Dataset.import_from(str(part / "annotations.xml"), "cvat")
        names = [one.name for one in data.categories()[dm.AnnotationType.label]]
        for item in data:
            (box,) = item.annotations
            yield os.path.basename(item.media.path), names[box.label], list(box.points)


def hugging_face(form):
    def write(drawn, out):
        from datasets import ClassLabel, Dataset, Features, Image, List, Value
        from datasets.table import embed_table_storage

        box = List(List(Value("float32"), 4))
        objects = {"bbox": box, "category": List(ClassLabel(names=CLASSES))}
        data = Dataset.from_dict(
            {
                "image": [path for path, *_ in drawn],
                "objects": [
                    {"bbox": [[x1, y1, x2 - x1, y2 - y1]], "category": [CLASSES.index(label)]}
                    for _, label, (x1, y1, x2, y2), _ in drawn
                ],
            },
            features=Features({"image": Image(), "objects": objects}),
        )
        if form == "save_to_disk":
            data.save_to_disk(str(out))
        else:
            (out / "data").mkdir(parents=True)
            data = data.with_format("arrow").map(embed_table_storage, batched=True)
            data.to_parquet(str(out / "data" / "train-00000-of-00001.parquet"))

    return write


def read_hugging_face(folder):
    from datasets import Image, load_dataset

    for part in load_dataset("imagefolder", data_dir=str(folder)).values():
        for one in part.cast_column("image", Image(decode=False)):
            (x, y, width, height), (label,) = (
                one["objects"]["bbox"][0],
                one["objects"]["categories"],
            )
            yield os.path.basename(one["image"]["path"]), label, [x, y, x + width, y + height]


def imantics(form):
    def write(drawn, out):
        from imantics import BBox, Category, Dataset, Image

        categories = {name: Category(name, id=number) for number, name in enumerate(CLASSES, 1)}
        data = Dataset("x")
        for number, (path, label, box, _) in enumerate(copied(drawn, out / "images"), 1):
            image = Image.from_path(path)
            image.id = number
            image.add(BBox(box), categories[label])
            data.add(image)
        if form == "coco":
            (out / "annotations.json").write_text(json.dumps(data.coco()), encoding="utf-8")
        else:
            from lxml.etree import tostring

            (out / "annotations").mkdir()
            for image in data.iter_images():
                name = os.path.splitext(image.file_name)[0] + ".xml"
                (out / "annotations" / name).write_bytes(tostring(image.voc()))

    return write


def label_img(form):
    def write(drawn, out):
        from libs.create_ml_io import CreateMLWriter
        from libs.pascal_voc_io import PascalVocWriter
        from libs.yolo_io import YOLOWriter

        for path, label, (x1, y1, x2, y2), (width, height) in copied(drawn, out):
            stem, name = os.path.splitext(path)[0], os.path.basename(path)
            if form == "createml":
                points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
                shapes = [{"label": label, "points": points}]
                file = str(out / "annotations.json")
                CreateMLWriter(out.name, name, (height, width, 3), shapes, file).write()
                continue
            of_form = PascalVocWriter if form == "voc" else YOLOWriter
            writer = of_form(out.name, name, (height, width, 3), local_img_path=path)
            writer.add_bnd_box(*map(int, (x1, y1, x2, y2)), label, False)
            if form == "voc":
                writer.save(stem + ".xml")
            else:
                writer.save(CLASSES, stem + ".txt")

    return write


def read_label_img(folder):
    from libs.create_ml_io import CreateMLReader
    from libs.pascal_voc_io import PascalVocReader

    for path in sorted(folder.rglob("*.png")):
        labels = path.parents[1] / "Annotations" / f"{path.stem}.xml"
        if labels.exists():
            shapes = PascalVocReader(str(labels)).get_shapes()
        else:
            labels = path.parent / "_annotations.createml.json"
            shapes = CreateMLReader(str(labels), str(path)).get_shapes()
        ((label, points, *_),) = shapes
        yield path.name, label, [*points[0], *points[2]]


def yolo(drawn, out):
    """What any tool can be given: YOLO files, by hand."""
    (out / "labels").mkdir(parents=True)
    (out / "classes.txt").write_text("\n".join(CLASSES))
    for path, label, (x1, y1, x2, y2), (width, height) in copied(drawn, out / "images"):
        fractions = (
            (x1 + x2) / 2 / width,
            (y1 + y2) / 2 / height,
            (x2 - x1) / width,
            (y2 - y1) / height,
        )
        line = " ".join(map(repr, (CLASSES.index(label), *fractions)))
        (out / "labels" / (Path(path).stem + ".txt")).write_text(line + "\n")


def label_studio(form):
    def write(drawn, out):
        from label_studio_sdk.converter import Converter
        from label_studio_sdk.converter.imports.yolo import convert_yolo_to_ls

        given = out.parent / "given"
        yolo(drawn, given)
        tasks, config = str(given / "tasks.json"), str(given / "tasks.label_config.xml")
        convert_yolo_to_ls(str(given), tasks)
        listed = json.loads(Path(tasks).read_text())
        for number, task in enumerate(listed, 1):  # As Label Studio numbers what it imports.
            task["id"] = task["annotations"][0]["id"] = number
        Path(tasks).write_text(json.dumps(listed))
        copied(drawn, out / "images")
        if form == "json":
            shutil.copy(tasks, out)
            return
        names = {"json_min": "JSON_MIN", "csv": "CSV", "coco": "COCO", "yolo": "YOLO", "voc": "VOC"}
        converter = Converter(config, str(out.parent), download_resources=False)
        target = out / "result.csv" if form == "csv" else out
        converter.convert(tasks, str(target), names[form], is_dir=False)

    return write


def read_label_studio(folder):
    from label_studio_sdk.converter.imports.coco import convert_coco_to_ls

    for path in sorted(folder.rglob("*.json")):
        if "annotations" in json.loads(path.read_text()):
            tasks = path.with_suffix(".tasks.json")
            convert_coco_to_ls(str(path), str(tasks), use_super_categories=False)
            for task in json.loads(tasks.read_text()):
                ((one,),) = [found["result"] for found in task["annotations"]]
                sides, value = (one["original_width"], one["original_height"]), one["value"]
                x, y, w, h = (
                    value[key] * sides[number % 2] / 100
                    for number, key in enumerate(("x", "y", "width", "height"))
                )
                name = task["data"]["image"].rpartition("=")[2]
                yield name, value["rectanglelabels"][0], [x, y, x + w, y + h]


def pylabel(form):
    def write(drawn, out):
        from pylabel import importer

        yolo(drawn, out)
        data = importer.ImportYoloV5(
            str(out / "labels"), cat_names=CLASSES, path_to_images="../images", img_ext="png"
        )
        shutil.rmtree(out / "labels")
        (out / "classes.txt").unlink()
        if form == "voc":
            data.export.ExportToVoc(str(out / "annotations"))
        elif form == "coco":
            data.export.ExportToCoco(str(out / "annotations.json"))
        elif form == "csv":
            data.df.to_csv(out / "labels.csv")
        else:
            data.export.ExportToYoloV5(str(out / "labels"), yaml_file="dataset.yaml")

    return write


def darwin(form):
    def write(drawn, out):
        from darwin import datatypes
        from darwin.exporter.formats import coco, pascalvoc
        from darwin.exporter.formats.darwin import build_image_annotation

        files = []
        for number, (path, label, (x1, y1, x2, y2), (width, height)) in enumerate(
            copied(drawn, out / "images")
        ):
            of_class = datatypes.AnnotationClass(label, "bounding_box")
            box = datatypes.make_bounding_box(label, x1, y1, x2 - x1, y2 - y1)
            name = os.path.basename(path)
            source = [{"file_name": name, "url": None}]
            slot = datatypes.Slot("0", "image", source, width=width, height=height)
            files.append(
                datatypes.AnnotationFile(
                    *(Path(name), name, {of_class}, [box]),
                    image_width=width,
                    image_height=height,
                    slots=[slot],
                    remote_path="/",
                    seq=number,
                    dataset_name="x",
                )
            )
        if form == "coco":
            coco.export(files, out)
        elif form == "voc":
            pascalvoc.export(files, out / "annotations")
        else:
            (out / "annotations").mkdir()
            for file in files:
                text = json.dumps(build_image_annotation(file, "team"), default=str)
                (out / "annotations" / f"{Path(file.filename).stem}.json").write_text(text)

    return write


WRITERS = {
    "labelme labelme": labelme,
    **{
        f"supervision {one}": supervision(one)
        for one in ("createml", "labelme", "coco", "voc", "yolo")
    },
    **{f"globox {one}": globox(one) for one in ("cvat", "via", "openimages", "coco", "voc")},
    **{
        f"datumaro {one}": datumaro(one)
        for one in ("cvat", "datumaro", "kitti", "label_me", "open_images", "coco", "voc", "yolo")
    },
    **{f"datasets {one}": hugging_face(one) for one in ("save_to_disk", "parquet")},
    **{f"imantics {one}": imantics(one) for one in ("coco", "voc")},
    **{f"labelImg {one}": label_img(one) for one in ("voc", "yolo", "createml")},
    **{
        f"label-studio-sdk {one}": label_studio(one)
        for one in ("json", "json_min", "csv", "coco", "yolo", "voc")
    },
    **{f"pylabel {one}": pylabel(one) for one in ("voc", "coco", "yolo", "csv")},
    **{f"darwin-py {one}": darwin(one) for one in ("darwin", "coco", "voc")},
}
READERS = {
    "labelme labelme": read_labelme,
    "supervision createml": read_supervision,
    "supervision labelme": read_supervision,
    "globox cvat": read_globox,
    "globox via": read_globox,
    "datumaro cvat": read_datumaro,
    "datasets huggingface": read_hugging_face,
    "labelImg createml": read_label_img,
    "labelImg voc": read_label_img,
    "label-studio-sdk coco": read_label_studio,
}

if __name__ == "__main__":
    if sys.argv[1] == "write":
        with open(sys.argv[3], encoding="utf-8") as file:
            given = json.load(file)
        WRITERS[sys.argv[2]](given, Path(sys.argv[4]))
    elif sys.argv[1] == "read":
        print(json.dumps(list(READERS[sys.argv[2]](Path(sys.argv[3])))))
    else:
        print(json.dumps([list(WRITERS), list(READERS)]))
