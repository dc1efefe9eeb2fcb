"""TensorFlow Datasets (TFDS): data sets that have boxes."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loc_keras.atomic_file import write_text, written_aside
from loc_keras.config.data import TfdsSplitsConfig
from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, ImageRef, Split
from loc_keras.data.formats.listing import Guess, Listing
from loc_keras.data.formats.parsing import Reading, folder_of, given_splits
from loc_keras.errors import DataError, first_line

INDEX_ENDING = ".index"  # Added to the name of a blob for the file that lists its contents.
_KEY = "data.source.tfds"
_ID = "tfds_id"  # Key under which an example names its shard and its number there.
_BLOB_FOLDER = "loc_keras_blobs"
_NAME_FEATURES = ("image/filename", "file_name", "filename")
# The only format of TFDS's own data sets. One that was prepared before TFDS recorded formats has
# none in its files.
_BOX_FORMATS = (None, "REL_YXYX")


class Place(NamedTuple):
    """One feature.

    Attributes:
        path: Keys that lead to it.
        feature: Its TFDS feature connector.
        depth: Number of sequences around it: 0 for one value an example, 1 for a list.
    """

    path: tuple[str, ...]
    feature: Any
    depth: int

    @property
    def name(self) -> str:
        """Its keys as one text, as the config names it."""
        return "/".join(self.path)


class Layout(NamedTuple):
    """The features that make records.

    Attributes:
        image: One image an example.
        box: One box an example, or a list of them.
        label: One class an example, or a list as long as that of the boxes.
        filename: Name of the image, or None where the data set has none.
        class_names: Classes in the order of their numbers; None where labels are no TFDS classes.
    """

    image: Place
    box: Place
    label: Place
    filename: Place | None
    class_names: list[str] | None


def read_tfds(
    root: str,
    *,
    name: str,
    splits: Mapping[str, str | None] = TfdsSplitsConfig().model_dump(),
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
    any order; later reads find them there. Features that are not named (`image`; `box`, such as
    `objects/bbox`; `label`) are found by their types.

    The data set lies below `root`, TFDS's `data_dir`, or is downloaded and prepared there. Its
    `name` is as `tfds.builder` takes it: `name`, `name/config`, `name:1.0.0`. A split may be
    in parts, such as `train[:90%]`; None leaves it out. Without `cache_dir`, a local folder, the
    copies of the images lie in `loc_keras_blobs` in `root`.

    Returns:
        Boxes in fractions. File and row of an object are its TFDS shard and its record there,
        from 1. Classes are in the order of the data set.

    Raises:
        DataError: If the data set is not prepared and not to be downloaded, lacks a split or one
            of the features, or the copies cannot be written.
    """
    wanted = {split: str(spec) for split, spec in given_splits(splits, f"{_KEY}.splits")}
    folder = _blob_folder(root, cache_dir)
    builder = _open_builder(root, name, download=download)
    _check_splits(builder, list(wanted.values()))
    layout = find_layout(builder.info.features, image=image, box=box, label=label)
    parts = [part for part in (layout.box, layout.label, layout.filename) if part is not None]
    reading = Reading(root)
    for split, spec in wanted.items():
        images = _split_images(builder, spec, layout, folder)
        reading.split(split)
        for example in _examples(builder, spec, parts):
            image_ref = images[example[_ID].decode("utf-8")]
            _read_example(split, example, str(builder.data_dir), image_ref, layout, reading)
    return reading.annotations("fraction", class_names=layout.class_names)


def _read_example(
    split: Split,
    example: dict[str, Any],
    data_dir: str,
    image: ImageRef,
    layout: Layout,
    reading: Reading,
) -> None:
    shard, _, number = example[_ID].decode("utf-8").rpartition("__")
    where = files.join(data_dir, shard), int(number) + 1
    name = _name(example, layout)
    boxes = _value_at(example, layout.box).reshape(-1, 4).tolist()
    if not boxes:
        reading.without_object(split, image, name, *where)
        return
    labels = _value_at(example, layout.label)
    labels = list(labels) if layout.label.depth else [labels] * len(boxes)
    if len(labels) != len(boxes):
        reason = f"has {len(boxes)} boxes and {len(labels)} classes"
        reading.fault(*where, reason, "columns")
        return
    objects = reading.split(split)
    for (ymin, xmin, ymax, xmax), value in zip(boxes, labels, strict=True):
        label = _label_text(value, layout.class_names)
        if label is None:
            count = len(layout.class_names or ())
            reason = f"{layout.label.name} {value} is none of the {count} classes"
            reading.fault(*where, reason, "label")
        else:
            objects.append(Annotated(image, name, label, (xmin, ymin, xmax, ymax), *where))


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
        (example[_ID].decode("utf-8"), _value_at(example, layout.image))
        for example in _examples(builder, spec, [layout.image])
    )
    try:
        return write_blob(path, contents, stamp=stamp)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the images of the TFDS data set {info.name} cannot be copied to {path}: "
            f"{first_line(error)}; set data.cache_dir to a folder with space for them."
        ) from error


def _name(example: dict[str, Any], layout: Layout) -> str:
    if layout.filename is not None:
        text = _value_at(example, layout.filename).decode("utf-8", "replace")
        if text:
            return text
    return example[_ID].decode("utf-8")


def _label_text(value: Any, class_names: list[str] | None) -> str | None:
    """A label as text; None for a number that is no class, as the -1 of hidden labels."""
    if class_names is not None:
        return class_names[value] if 0 <= value < len(class_names) else None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def find_layout(
    features: Any, *, image: str | None = None, box: str | None = None, label: str | None = None
) -> Layout:
    """Finds the features by their types, or by names where they are given.

    A class that stands beside the boxes goes before one of the whole image, and one called `label`
    before others. DataError if there is none, several that are equally likely, or the named one is
    absent or of the wrong type.
    """
    import tensorflow_datasets as tfds

    # TFDS gives features of a prepared data set in an order that changes from run to run.
    places = sorted(_places(features, (), 0), key=lambda place: place.name)
    kinds = tfds.features
    images = [
        place
        for place in places
        if isinstance(place.feature, kinds.Image)
        and not isinstance(place.feature, kinds.LabeledImage)
        and place.depth == 0
        # Images of floats, such as depth maps, are stored as PNG files of other meaning.
        and np.dtype(place.feature.np_dtype).kind == "u"
    ]
    boxes = [one for one in places if isinstance(one.feature, kinds.BBoxFeature) and one.depth <= 1]
    box_place = _chosen("box", boxes, box, "bbox")
    written = getattr(box_place.feature, "bbox_format", None)
    written = getattr(written, "value", written)
    if written not in _BOX_FORMATS:
        raise DataError(
            f"the TFDS feature {box_place.name} has boxes in the format {written}; only REL_YXYX "
            "(ymin, xmin, ymax, xmax in fractions) is read."
        )
    label_place = _label(places, box_place, label)
    names = [place for place in places if place.depth == 0 and place.name in _NAME_FEATURES]
    is_class = isinstance(label_place.feature, kinds.ClassLabel)
    return Layout(
        image=_chosen("image", images, image, "image"),
        box=box_place,
        label=label_place,
        filename=names[0] if names else None,
        class_names=list(label_place.feature.names) if is_class else None,
    )


def _places(feature: Any, path: tuple[str, ...], depth: int) -> Iterator[Place]:
    """All features without parts of their own."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.FeaturesDict):
        for key, part in feature.items():
            yield from _places(part, (*path, key), depth)
    elif isinstance(feature, tfds.features.Dataset):
        return  # A data set within an example is not read as a tensor.
    elif isinstance(feature, tfds.features.Sequence):
        yield from _places(feature.feature, path, depth + 1)
    else:
        yield Place(path, feature, depth)


def _label(places: Sequence[Place], box: Place, name: str | None) -> Place:
    import tensorflow_datasets as tfds

    def of_object(place: Place) -> bool:
        return place.depth == box.depth and place.path[:-1] == box.path[:-1]

    usable = [place for place in places if place.depth == 0 or of_object(place)]
    if name is not None:
        return _chosen("label", usable, name, "label")
    classes = [place for place in usable if isinstance(place.feature, tfds.features.ClassLabel)]
    beside = [place for place in classes if of_object(place)]
    return _chosen("label", beside or classes, None, "label")


def _chosen(role: str, places: Sequence[Place], name: str | None, usual: str) -> Place:
    """The one that is named, the only one, or the one with the usual name."""
    found = ", ".join(place.name for place in places) or "none"
    if name is not None:
        named = [place for place in places if place.name == name]
        if not named:
            raise DataError(f"{_KEY}.{role}: {name!r} is not one of the {role} features: {found}.")
        return named[0]
    likely = list(places)
    if len(likely) > 1:
        likely = [place for place in places if place.path[-1] == usual]
    if len(likely) != 1:
        raise DataError(
            f"the TFDS data set has {len(places)} {role} features ({found}) where one was "
            f"expected; "
            + (f"name it by {_KEY}.{role}." if places else "it cannot serve localization.")
        )
    return likely[0]


def _open_builder(root: str, name: str, *, download: bool) -> Any:
    """Opens a data set from its own files on disk alone, or downloads and prepares it if it may."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            "the tfds format needs TensorFlow Datasets; install it by: "
            f"pip install tensorflow-datasets ({error})."
        ) from error
    # TFDS raises errors of many types, those of its downloads and of each data set's own code
    # among them; none of them is the user's to trace.
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        if not download:
            raise DataError(
                f"the TFDS data set {name} is not prepared below {root}; set data.source.path to "
                "its data_dir, or data.source.tfds.download to true to fetch and prepare it there."
            ) from error
    except Exception as error:
        raise DataError(f"the TFDS data set {name} below {root}: {_sentence(error)}") from error
    try:
        builder = tfds.builder(name, data_dir=root, try_gcs=False)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except Exception as error:
        raise DataError(
            f"the TFDS data set {name} could not be prepared in {root}: {_sentence(error)}"
        ) from error
    return builder


def _check_splits(builder: Any, specs: Sequence[str]) -> None:
    """Checks that a data set has the splits that specs such as `train[:90%]` name."""
    known = list(builder.info.splits)
    for spec in specs:
        for part in spec.split("+"):
            name = part.partition("[")[0].strip()
            # A data set that was never prepared knows no splits, and any is tried.
            if known and name not in (*known, "all"):
                raise DataError(
                    f"the TFDS data set {builder.info.name} has no split {name!r}; it has "
                    f"{', '.join(known)}. Set data.source.tfds.splits to these, or to null where "
                    "a split shall be cut off train."
                )


def _examples(builder: Any, spec: str, wanted: Sequence[Place]) -> Iterator[dict[str, Any]]:
    """Examples of a split in one order: nested dicts, `_ID` at the top, images as encoded bytes."""
    import tensorflow_datasets as tfds

    features: dict[str, Any] = {}
    decoders: dict[str, Any] = {}
    for place in wanted:
        _put(features, place.path, True)
        if isinstance(place.feature, tfds.features.Image):
            _put(decoders, place.path, tfds.decode.SkipDecoding())
    try:
        dataset = builder.as_dataset(
            split=spec,
            decoders=tfds.decode.PartialDecoding(features, decoders=decoders or None),
            shuffle_files=False,
            read_config=tfds.ReadConfig(
                add_tfds_id=True, try_autocache=False, interleave_cycle_length=1
            ),
        )
        yield from tfds.as_numpy(dataset)
    except GeneratorExit:
        raise
    except Exception as error:
        raise DataError(
            f"split {spec!r} of the TFDS data set {builder.info.name} cannot be read: "
            f"{_sentence(error)}"
        ) from error


def _value_at(example: dict[str, Any], place: Place) -> Any:
    """The value of a feature in an example."""
    return reduce(getitem, place.path, example)


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _sentence(error: Exception) -> str:
    """The first line of what an error says, which TFDS follows by pages of advice."""
    return f"{type(error).__name__}: {first_line(error, 300)}"


def write_blob(
    path: Path, items: Iterable[tuple[str, bytes]], *, stamp: str
) -> dict[str, ImageRef]:
    """Writes contents by key as they come, one at a time in memory, and their index.

    A blob of that name is replaced. The stamp says what the contents depend on, for `read_blob`.

    Raises:
        OSError: If the files cannot be written.
        ValueError: If a key comes twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    index = _index_path(path)
    index.unlink(missing_ok=True)  # It would describe the new blob wrongly.
    entries: dict[str, ImageRef] = {}
    position = 0
    with written_aside(path) as aside, aside.open("wb") as file:
        for key, content in items:
            if key in entries:
                raise ValueError(f"the key {key!r} comes twice")
            file.write(content)
            entries[key] = ImageRef(str(path), position, len(content))
            position += len(content)
    header = {"stamp": stamp, "bytes": position, "count": len(entries)}
    rows = [[key, ref.offset, ref.length] for key, ref in entries.items()]
    write_text(index, "\n".join(map(json.dumps, [header, *rows])) + "\n")
    return entries


def read_blob(path: Path, *, stamp: str) -> dict[str, ImageRef] | None:
    """Where each content of a blob lies, by key, in the order of writing.

    None where the blob is absent, not whole, or was written with another stamp.
    """
    try:
        header, *rows = map(json.loads, _index_path(path).read_text("utf-8").splitlines())
        entries = {
            str(key): ImageRef(str(path), int(offset), int(length)) for key, offset, length in rows
        }
        written = header["stamp"], header["bytes"], header["count"]
        whole = written == (stamp, path.stat().st_size, len(entries))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return entries if whole else None


def _index_path(path: Path) -> Path:
    return path.with_name(path.name + INDEX_ENDING)


def detect_tfds(listing: Listing) -> Iterator[Guess]:
    """Guesses by the `dataset_info.json` of prepared data sets."""
    for path in listing.named("dataset_info.json"):
        try:
            info = json.loads(listing.head(files.join(path, "dataset_info.json")))
            parts = [info["name"], info.get("configName"), info["version"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        parts = [part for part in parts if part]
        folder = files.join(listing.root, path) if path else listing.root.rstrip("/")
        if not all(isinstance(part, str) for part in parts) or not folder.endswith(
            "/".join(["", *parts])
        ):
            continue
        for _ in parts:
            folder = folder_of(folder)
        splits = {one["name"] for one in info.get("splits", ()) if isinstance(one, dict)}
        wanted = {"train": "train", "test": "test" if "test" in splits else None}
        wanted["val"] = next((name for name in ("validation", "val") if name in splits), None)
        name = f"{'/'.join(parts[:-1])}:{parts[-1]}"
        yield Guess("tfds", folder, {"name": name, "splits": wanted}, why="dataset_info.json")
