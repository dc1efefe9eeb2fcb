"""The table of annotation formats; a new format is one more entry and one section of the config."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from loc_keras.data.annotations import Annotations, Split, with_composed_names
from loc_keras.data.formats import coco, csv_file, published, tfds, tfrecord, tools, voc, yolo
from loc_keras.data.formats.csv_detection import detect_csv
from loc_keras.data.formats.listing import Guess, Listing
from loc_keras.data.formats.writing import Job
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError


class Writer(NamedTuple):
    """How a format is written.

    Attributes:
        write: Fills the job's folder and its counts.
        source: From class names and what was written to the settings (of `data.source`) that read
            it again.
        sharded: Whether it takes a number of shards.
        grouped: Whether it has a place for groups of images.
    """

    write: Callable[[Job], None]
    source: Callable[[Sequence[str], Mapping[Split, Records]], dict[str, Any]]
    sharded: bool = False
    grouped: bool = False


class Format(NamedTuple):
    """What can be done with a format.

    Attributes:
        read: Root folder and the options of the format's section of the config in, annotations out.
        detect: Possible readings of a folder, the likeliest first.
        writer: None where the format is only read.
        needs: What a folder of this format must hold, for messages; `""` for published layouts.
        makes_folder: Whether the reader may make the data folder, by a download.
        caches: Whether it takes `cache_dir`, a folder for what it keeps between runs.
    """

    read: Callable[..., Annotations]
    detect: Callable[[Listing], Iterator[Guess]]
    writer: Writer | None = None
    needs: str = ""
    makes_folder: bool = False
    caches: bool = False


def _tool_writer(name: str) -> Writer:
    def write(job: Job) -> None:
        from loc_keras.data.formats.tools_writing import write_tool

        write_tool(job, format_name=name)

    def source(class_names: Sequence[str], _: Mapping[Split, Records]) -> dict[str, Any]:
        return {"format": name, "class_names": list(class_names), "inclusive_pixels": False}

    return Writer(write, source)


FORMATS: dict[str, Format] = {
    "tiny_imagenet": Format(published.read_tiny_imagenet, published.detect_tiny_imagenet),
    "imagenet_loc": Format(published.read_imagenet_loc, published.detect_imagenet_loc),
    "cub": Format(published.read_cub, published.detect_cub),
    "gtsrb": Format(published.read_gtsrb, published.detect_gtsrb),
    "tfds": Format(tfds.read_tfds, tfds.detect_tfds, makes_folder=True, caches=True),
    # The first of them tells all of them, so that each file is looked at once.
    **{
        name: Format(
            partial(tools.read_tool, format_name=name),
            (lambda _: iter(())) if place else tools.detect_tools,
            _tool_writer(name) if tool.written else None,
            caches=True,
        )
        for place, (name, tool) in enumerate(tools.TOOLS.items())
    },
    "coco": Format(
        coco.read_coco,
        coco.detect_coco,
        Writer(coco.write_coco, coco.coco_source),
        needs="a JSON file with images, annotations and categories",
    ),
    "yolo": Format(
        yolo.read_yolo,
        yolo.detect_yolo,
        Writer(yolo.write_yolo, yolo.yolo_source),
        needs="a data.yaml with train and names",
    ),
    "voc": Format(
        voc.read_voc, voc.detect_voc, Writer(voc.write_voc, voc.voc_source), needs="XML files"
    ),
    "csv": Format(
        csv_file.read_csv,
        detect_csv,
        Writer(csv_file.write_csv, csv_file.csv_source, grouped=True),
        needs="a table with file, class and four numbers a row",
    ),
    "tfrecord": Format(
        tfrecord.read_tfrecord,
        tfrecord.detect_tfrecord,
        Writer(tfrecord.write_tfrecord, tfrecord.tfrecord_source, sharded=True),
        needs="shards named .tfrecord",
    ),
}
"""Formats by `data.source.format`, in the order in which a folder is tried.

What has names of its own goes first; XML goes before CSV, since tables are often made from XML
files and lie beside them.
"""

WRITERS = {name: one.writer for name, one in FORMATS.items() if one.writer is not None}
"""The formats that can be written."""


def read_annotations(format_name: str, root: str, **options: Any) -> Annotations:
    """Reads a data set of one of `FORMATS` with the options of that reader.

    Raises:
        DataError: If the folder or a file that the format needs is missing or unreadable, or if
            nothing at all was found.
    """
    # Millions of tuples without cycles: to look for some takes longer than to read them.
    collects = gc.isenabled()
    gc.disable()
    try:
        found = FORMATS[format_name].read(root, **options)
    finally:
        if collects:
            gc.enable()
    if not any(found.objects.values()) and not found.faults:
        raise DataError(
            f"{root} holds no objects that the format {format_name} finds; check "
            "data.source.format and data.source.path."
        )
    return with_composed_names(found)
