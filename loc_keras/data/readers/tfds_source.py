"""Data sets of TensorFlow Datasets (TFDS) that have boxes."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Split,
)
from loc_keras.data.blob import read_blob, write_blob
from loc_keras.data.readers.parsing import given_splits
from loc_keras.data.readers.tfds_examples import ID, check_splits, examples, open_builder, value_at
from loc_keras.data.readers.tfds_features import Layout, find_layout
from loc_keras.errors import DataError

DEFAULT_SPLITS: Mapping[str, str | None] = {"train": "train", "val": None, "test": "test"}

_BLOB_FOLDER = "loc_keras_blobs"


def read_tfds(
    root: str,
    *,
    name: str,
    splits: Mapping[str, str | None] = DEFAULT_SPLITS,
    image: str | None = None,
    box: str | None = None,
    label: str | None = None,
    download: bool = False,
    cache_dir: str | None = None,
) -> Annotations:
    """Reads a TFDS data set with boxes.

    An example of `caltech_birds2011`, as one of `cars196` or `oxford_iiit_pet` (`head_bbox`), has
    one box, and one of `voc` a list, each with a class of its own:

    ```
    {"image": ..., "bbox": [ymin, xmin, ymax, xmax], "label": 17}
    {"image": ..., "objects": {"bbox": [[...], [...]], "label": [3, 14]}}
    ```

    In `stanford_dogs` the boxes are a list and the class is that of the image, so all boxes get it.

    The encoded images are copied once into a file for each split, from which they can be read in
    any order; later reads find them there.

    Args:
        root: TFDS's `data_dir`, under which the data set is prepared.
        name: As `tfds.builder` takes it: `name`, `name/config`, `name:1.0.0`.
        splits: For each split one of the data set, also in parts, such as `train[:90%]`; None
            leaves it out.
        image: Name of the image feature; None finds it by its type.
        box: Name of the box feature, such as `objects/bbox`; None finds it by its type.
        label: Name of the class feature; None finds it by its type.
        download: Whether to download and prepare a data set that is not there.
        cache_dir: Local folder for the copies of the images; None is `loc_keras_blobs` in `root`.

    Returns:
        Boxes in fractions. File and row of an object are its TFDS shard and its record there,
        from 1. Classes are in the order of the data set.

    Raises:
        DataError: If the data set is not prepared and not to be downloaded, lacks a split or one
            of the features, or the copies cannot be written.
    """
    wanted = {split: str(spec) for split, spec in given_splits(splits, "data.source.tfds.splits")}
    folder = _blob_folder(root, cache_dir)
    builder = open_builder(root, name, download=download)
    check_splits(builder, list(wanted.values()))
    layout = find_layout(builder.info.features, image=image, box=box, label=label)
    objects: dict[Split, list[Annotated]] = {}
    faults: list[Fault] = []
    empty: list[EmptyImage] = []
    data_dir = str(builder.data_dir)
    for split, spec in wanted.items():
        images = _split_images(builder, spec, layout, folder)
        objects[split] = []
        parts = (layout.box, layout.label, layout.filename)
        for example in examples(builder, spec, [part for part in parts if part is not None]):
            at = _shard_and_row(example, data_dir)
            if not len(value_at(example, layout.box)):
                nothing = Fault(*at, "names no object", "no_object")
                faults.append(nothing)
                image_ref = images[example[ID].decode("utf-8")]
                empty.append(EmptyImage(split, image_ref, _name(example, layout), nothing))
            else:
                objects[split] += _example_objects(example, layout, at, images, faults)
    return Annotations(
        objects=objects,
        units="fraction",
        faults=faults,
        class_names=layout.class_names,
        empty=empty,
    )


def _blob_folder(root: str, cache_dir: str | None) -> Path:
    folder = files.join(root, _BLOB_FOLDER) if cache_dir is None else cache_dir
    if files.is_remote(folder):
        raise DataError(
            f"images of a TFDS data set are copied to local files, which {folder} is not; set "
            "data.cache_dir to a local folder."
        )
    return Path(folder)


def _split_images(builder: Any, spec: str, layout: Layout, folder: Path) -> dict[str, ImageRef]:
    """Where the encoded images of a split lie, by example id; copies them where need be."""
    info = builder.info
    stamp = f"{info.full_name} {info.dataset_size} {spec} {layout.image.name}"
    digest = hashlib.sha256(f"{spec} {layout.image.name}".encode()).hexdigest()[:8]
    file = f"{re.sub(r'[^A-Za-z0-9]+', '_', spec).strip('_')}-{digest}.blob"
    path = folder.joinpath(*info.full_name.split("/"), file)
    found = read_blob(path, stamp=stamp)
    if found is not None:
        return found
    contents = (
        (example[ID].decode("utf-8"), value_at(example, layout.image))
        for example in examples(builder, spec, [layout.image])
    )
    try:
        return write_blob(path, contents, stamp=stamp)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the images of the TFDS data set {info.name} cannot be copied to {path}: {error}; "
            "set data.cache_dir to a folder with space for them."
        ) from error


def _shard_and_row(example: dict[str, Any], data_dir: str) -> tuple[str, int]:
    """The file of an example, and its number there from 1."""
    shard, _, number = example[ID].decode("utf-8").rpartition("__")
    return files.join(data_dir, shard), int(number) + 1


def _example_objects(
    example: dict[str, Any],
    layout: Layout,
    at: tuple[str, int],
    images: Mapping[str, ImageRef],
    faults: list[Fault],
) -> list[Annotated]:
    """The objects of one example, which has some."""
    shard, row = at
    boxes = value_at(example, layout.box).reshape(-1, 4).tolist()
    label = value_at(example, layout.label)
    labels = list(label) if layout.label.depth else [label] * len(boxes)
    if len(labels) != len(boxes):
        reason = f"has {len(boxes)} boxes and {len(labels)} classes"
        faults.append(Fault(shard, row, reason, "columns"))
        return []
    image = images[example[ID].decode("utf-8")]
    name = _name(example, layout)
    objects = []
    for (ymin, xmin, ymax, xmax), one in zip(boxes, labels, strict=True):
        text = _label_text(one, layout.class_names)
        if text is None:
            reason = f"{layout.label.name} {one} is none of the {len(layout.class_names or ())}"
            faults.append(Fault(shard, row, f"{reason} classes", "label"))
        else:
            objects.append(Annotated(image, name, text, (xmin, ymin, xmax, ymax), shard, row))
    return objects


def _name(example: dict[str, Any], layout: Layout) -> str:
    if layout.filename is not None:
        text = value_at(example, layout.filename).decode("utf-8", "replace")
        if text:
            return text
    return example[ID].decode("utf-8")


def _label_text(value: Any, class_names: list[str] | None) -> str | None:
    """A label as text; None for a number that is no class, as the -1 of hidden labels."""
    if class_names is not None:
        return class_names[value] if 0 <= value < len(class_names) else None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
