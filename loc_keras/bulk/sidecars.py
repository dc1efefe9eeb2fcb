"""Files that stand for one image each: Pascal VOC, YOLO, drawn pictures. All made of its record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loc_keras.atomic_file import write_text, written_aside
from loc_keras.data.writers.job import object_classes, write_bytes
from loc_keras.data.writers.voc import refuse_unwritable, voc_xml
from loc_keras.data.writers.yolo import yolo_line, yolo_yaml
from loc_keras.errors import ImageError
from loc_keras.localizer.pictures import upright_picture

Record = Mapping[str, Any]

DATABASE = "answered by loc_keras"
_COLOURS = 3
_QUALITY = 90


@dataclass(frozen=True)
class Sidecar:
    """A kind of file that is written for each image.

    Attributes:
        folder: Below the folder of the answers.
        ending: Of the files.
        write: Writes one for a record.
    """

    folder: str
    ending: str
    write: Callable[[Path, Record], None]

    def write_missing(self, out: Path, stem: str, record: Record) -> None:
        """Writes the file of a record, unless it is there."""
        path = out / self.folder / f"{stem}{self.ending}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path, record)


def sidecars_of(
    form: str, *, draw: bool, class_names: Sequence[str], background: int | None
) -> list[Sidecar]:
    """The kinds that a format asks for.

    Args:
        form: `"voc"`, `"yolo"` or another, which has none.
        draw: Whether pictures are drawn, too.
        class_names: Of the model.
        background: Index of the class of images without an object.

    Raises:
        DataError: If a class cannot be written in that format.
    """
    found = []
    if form == "voc":
        refuse_unwritable(class_names)
        found.append(Sidecar("Annotations", ".xml", _write_voc))
    if form == "yolo":
        found.append(Sidecar("labels", ".txt", _write_yolo))
    if draw:
        found.append(Sidecar("drawn", ".jpg", _draw))
    return found


def yolo_classes(class_names: Sequence[str], background: int | None) -> dict[str, str]:
    """Content of the files that name the classes of a YOLO folder."""
    nothing = None if background is None else class_names[background]
    names = object_classes(class_names, nothing)
    return {
        "data.yaml": yolo_yaml({}, names),
        "classes.txt": "".join(f"{name}\n" for name in names),
    }


def _write_voc(path: Path, record: Record) -> None:
    name = str(record["image"])
    folder, _, file = name.rpartition("/")
    size = (record["height"], record["width"])
    label = record["label"] if record["found"] else None
    write_bytes(
        path, voc_xml(folder, file, size, _COLOURS, label, record["box"] or (), database=DATABASE)
    )


def _write_yolo(path: Path, record: Record) -> None:
    box = record["box_fraction"]
    write_text(path, "" if box is None else yolo_line(record["index"], box))


def _draw(path: Path, record: Record) -> None:
    from loc_keras.report.answer_picture import draw_answer

    try:
        picture = upright_picture(record["path"])
    except ImageError:  # It was there when it was answered about.
        return
    caption = f"{record['label']} {100 * record['score']:.0f} %"
    boxes = (record["box"], record.get("box_outer"), record.get("box_inner"))
    drawn = draw_answer(picture, caption, *boxes)
    with written_aside(path) as aside:
        drawn.save(aside, quality=_QUALITY)
