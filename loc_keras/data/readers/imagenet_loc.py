"""The layout of ImageNet's localization task (ILSVRC CLS-LOC), as on its servers and Kaggle."""

from functools import partial
from typing import Literal

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split
from loc_keras.data.readers.imagenet_loc_xml import LARGEST_XML, parse_xml
from loc_keras.data.readers.imagenet_synsets import class_names, read_words
from loc_keras.data.readers.parsing import require_root, shown
from loc_keras.data.readers.text_tables import (
    RowFault,
    corners,
    numbered_lines,
    path_inside,
    text_or_fault,
)
from loc_keras.errors import DataError

_IMAGE_ENDING = ".JPEG"
_FIELDS_AN_OBJECT = 5


def read_imagenet_loc(root: str, *, val_as: Literal["test", "val"] = "test") -> Annotations:
    """Reads a folder in the layout of ImageNet-LOC.

    ```
    LOC_synset_mapping.txt              n01440764 tench, Tinca tinca
    LOC_train_solution.csv              ImageId,PredictionString
                                        n01440764_10026,n01440764 13 16 401 299
    LOC_val_solution.csv                ILSVRC2012_val_00000001,n01440764 1 2 3 4 n01440764 5 6 7 8
    ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_10026.JPEG
    ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG
    ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_10026.xml
    ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml
    ```

    The folder `ILSVRC` may be left out. A CSV table is read instead of the XML files of its split,
    half a million of them in training, which takes far longer; it declares no image sizes.

    Boxes are (x1, y1, x2, y2) in px from 0, and the last pixel belongs to them, as in the task's
    own measure of overlap.

    Args:
        root: The folder.
        val_as: Split that the official validation images become; the official test images have
            no labels.

    Returns:
        Splits `"train"` and `val_as`, those that are there; images may have several objects.
        Classes are in the order of `LOC_synset_mapping.txt`, named by the first of their words,
        or by the wnid where two classes share it.

    Raises:
        DataError: If the folder or `LOC_synset_mapping.txt` is missing, or there are neither
            tables nor XML files.
    """
    require_root(root)
    words, faults = read_words(files.join(root, "LOC_synset_mapping.txt"))
    names = class_names(list(words), words)
    label_of = dict(zip(words, names, strict=True))
    inner = files.join(root, "ILSVRC")
    base = inner if files.is_folder(inner) else root
    splits: dict[str, Split] = {"train": "train", "val": val_as}
    objects: dict[Split, list[Annotated]] = {}
    for folder, split in splits.items():
        table = files.join(root, f"LOC_{folder}_solution.csv")
        if files.is_file(table):
            objects[split] = _read_table(root, base, folder, table, label_of, faults)
        elif files.is_folder(files.join(base, "Annotations", "CLS-LOC", folder)):
            objects[split] = _read_xml_folder(root, base, folder, label_of, faults)
    if not objects:
        raise DataError(
            f"data folder {root} holds no annotations of ImageNet-LOC: expected "
            "LOC_train_solution.csv or the XML files in Annotations/CLS-LOC/train."
        )
    return Annotations(
        objects=objects,
        units="pixel",
        faults=faults,
        class_names=names,
        folders=[_images(base, folder) for folder, split in splits.items() if split in objects],
        exact=False,
    )


def _images(base: str, folder: str) -> str:
    return files.join(base, "Data", "CLS-LOC", folder)


def _read_table(
    root: str,
    base: str,
    folder: str,
    path: str,
    label_of: dict[str, str],
    faults: list[Fault],
) -> list[Annotated]:
    """Reads a CSV table, in which a row has all objects of an image."""
    text = text_or_fault(path)
    if isinstance(text, Fault):
        raise DataError(f"annotation file {path} {text.reason}.")
    objects = []
    for row, line in numbered_lines(text):
        name, _, prediction = line.partition(",")
        if row == 1 and name.strip().lower() == "imageid":
            continue
        try:
            image = _table_image(root, base, folder, name.strip())
            groups = _object_fields(prediction)
        except RowFault as fault:
            faults.append(Fault(path, row, fault.reason, fault.kind))
            continue
        for wnid, *texts in groups:
            try:
                box = corners(texts)
                objects.append(
                    Annotated(image, name.strip(), _label(wnid, label_of), box, path, row)
                )
            except RowFault as fault:
                faults.append(Fault(path, row, fault.reason, fault.kind))
    return objects


def _table_image(root: str, base: str, folder: str, name: str) -> ImageRef:
    parts = [name.partition("_")[0]] if folder == "train" else []
    relative = "/".join([*parts, name + _IMAGE_ENDING])
    return ImageRef(path_inside(_images(base, folder), relative, root=root))


def _object_fields(prediction: str) -> list[list[str]]:
    """Parts `wnid x1 y1 x2 y2 wnid ...` into objects."""
    fields = prediction.strip().strip('"').split()
    if not fields:
        raise RowFault("names no object", "no_object")
    if len(fields) % _FIELDS_AN_OBJECT:
        raise RowFault(
            f"PredictionString has {len(fields)} fields, expected a multiple of "
            f"{_FIELDS_AN_OBJECT}: wnid x1 y1 x2 y2",
            "columns",
        )
    starts = range(0, len(fields), _FIELDS_AN_OBJECT)
    return [fields[start : start + _FIELDS_AN_OBJECT] for start in starts]


def _read_xml_folder(
    root: str, base: str, folder: str, label_of: dict[str, str], faults: list[Fault]
) -> list[Annotated]:
    annotations = files.join(base, "Annotations", "CLS-LOC", folder)
    if folder == "val":
        return _read_xml_files(root, annotations, _images(base, folder), label_of, faults)
    objects = []
    for wnid in files.listed(annotations):
        inside = files.join(annotations, wnid)
        if wnid in label_of and files.is_folder(inside):
            images = files.join(_images(base, folder), wnid)
            objects += _read_xml_files(root, inside, images, label_of, faults)
        else:
            reason = "is not the folder of a class in LOC_synset_mapping.txt"
            faults.append(Fault(inside, 0, reason, "label"))
    return objects


def _read_xml_files(
    root: str,
    folder: str,
    images: str,
    label_of: dict[str, str],
    faults: list[Fault],
) -> list[Annotated]:
    """Reads the XML files of a folder; rows of objects are their numbers in the file."""
    objects: list[Annotated] = []
    for name in files.listed(folder):
        if name.endswith(".xml"):
            path = files.join(folder, name)
            read = partial(_read_xml_file, root, path, name, images, label_of)
            try:
                good, bad = read()
            except RowFault as fault:
                faults.append(Fault(path, 0, fault.reason, fault.kind))
            else:
                objects += good
                faults += bad
    return objects


def _read_xml_file(
    root: str, path: str, name: str, images: str, label_of: dict[str, str]
) -> tuple[list[Annotated], list[Fault]]:
    if files.file_size(path) > LARGEST_XML:
        raise RowFault(f"is larger than {LARGEST_XML >> 20} MiB", "syntax")
    try:
        content = files.read_bytes(path)
    except OSError as error:
        raise RowFault(f"cannot be read: {error}", "missing_file") from error
    parsed = parse_xml(content)
    image_name = (parsed.filename or name.removesuffix(".xml")).removesuffix(_IMAGE_ENDING)
    image = ImageRef(path_inside(images, image_name + _IMAGE_ENDING, root=root))
    if not parsed.objects:
        raise RowFault("names no object", "no_object")
    good, bad = [], []
    for row, (wnid, texts) in enumerate(parsed.objects, 1):
        try:
            label = _label(wnid, label_of)
            box = corners(texts, ("xmin", "ymin", "xmax", "ymax"))
        except RowFault as fault:
            bad.append(Fault(path, row, fault.reason, fault.kind))
        else:
            good.append(Annotated(image, image_name, label, box, path, row, parsed.size))
    return good, bad


def _label(wnid: str, label_of: dict[str, str]) -> str:
    if wnid not in label_of:
        raise RowFault(f"wnid {shown(wnid)} is not in LOC_synset_mapping.txt", "label")
    return label_of[wnid]
