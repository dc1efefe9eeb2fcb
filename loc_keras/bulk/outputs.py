"""The output folder of `predict`: its journals, and the files that are made from them.

The journals are the truth: lines are only appended, and all other files are made from them.
"""

import csv
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from PIL.Image import Image

from loc_keras.atomic_file import (
    Known,
    label_set,
    lock_file,
    own_files,
    refuse_foreign,
    safe_cell,
    write_text,
    written_aside,
)
from loc_keras.errors import DataError, ImageError
from loc_keras.localizer.pictures import drawn_answer

if TYPE_CHECKING:
    from loc_keras.localizer.localizer import Localizer

Record = Mapping[str, Any]

ANSWERS_FILE, FAILURES_FILE, SETTINGS_FILE = "predictions.jsonl", "failures.jsonl", "predict.json"
CSV_FILE, COCO_FILE = "predictions.csv", "predictions_coco.json"
YOLO_FILES = ("data.yaml", "classes.txt")
INSTEAD = "give another folder to --out"
DATABASE = "answered by loc_keras"

_SIDES = ("x1", "y1", "x2", "y2")
_COLOURS = 3
_QUALITY = 90
_CHUNK = 1 << 16
_LONGEST_STEM, _DIGEST_BYTES = 251, 8  # Of 255 bytes four are the ending's.


@dataclass(frozen=True)
class Sidecar:
    """A kind of file for each image, in a folder below that of the answers; `write` makes one."""

    folder: str
    ending: str
    write: Callable[[Path, Record], None]

    def write_missing(self, out: Path, stem: str, record: Record) -> None:
        """Writes the file of a record, unless it is there."""
        path = out / self.folder / f"{stem}{self.ending}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path, record)


@dataclass(frozen=True)
class OutputFormat:
    """A format of answers, on top of the journal.

    Attributes:
        printed: Whether answers can be printed in it, without a folder.
        sidecar: The file that it has for each image.
        refuse: Raises DataError where a class name cannot be written in it.
        files: Those that it has once for all records.
        finish: Writes them, for records that can be gone through twice.
    """

    printed: bool = False
    sidecar: Sidecar | None = None
    refuse: Callable[[Sequence[str]], None] = lambda class_names: None
    files: Sequence[str] = ()
    finish: Callable[[Path, Iterable[Record], "Localizer"], None] = lambda *_: None


def sidecars_of(
    form: str, *, draw: bool, explain: Callable[[str], Image] | None = None
) -> list[Sidecar]:
    """The files for each image in a format, with pictures that are drawn or explained."""
    kinds = [FORMATS[form].sidecar, _DRAWN if draw else None]
    if explain is not None:
        write = partial(_save_drawn, lambda record: explain(record["path"]))
        kinds.append(Sidecar("explained", ".jpg", write))
    return [kind for kind in kinds if kind is not None]


def place_of(
    folder: Path, form: str, sidecars: Iterable[Sidecar]
) -> tuple[Path, Sequence[str], str, Known]:
    """What is made from the journals in a folder of answers, as `own_files` takes it."""
    names = (*FORMATS[form].files, *(kind.folder for kind in sidecars))
    return folder, names, INSTEAD, (SETTINGS_FILE, frozenset({"model", "top_k", "root"}))


@dataclass(frozen=True)
class AnswerSettings:
    """What all answers of a folder were made with: the model's digest, and the root of names."""

    model: str
    top_k: int
    root: str


class OutputFolder:
    """Answers and failures of a folder, made where it is missing, opened to go on.

    `root` is what names of images are relative to, as it was the first time. DataError if there are
    answers of another model, or another process is at work.
    """

    def __init__(self, folder: Path, settings: AnswerSettings) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"--out {folder} cannot be made a folder ({error.strerror}); give another one."
            ) from error
        before = _read_settings(folder)
        if before is None:
            refuse_foreign(folder, (FAILURES_FILE,), INSTEAD)
        if before is not None and (before.model, before.top_k) != (settings.model, settings.top_k):
            other = "model" if before.model != settings.model else "--top-k"
            raise DataError(
                f"{folder} holds answers made with another {other}; give another folder to --out."
            )
        self.answers = Journal(folder / ANSWERS_FILE)
        if not self.answers.lock():
            raise DataError(f"another process is writing to {folder}; wait until it has ended.")
        self.failures = Journal(folder / FAILURES_FILE)
        self.root = settings.root if before is None else before.root
        if before is None:
            with own_files(folder, (SETTINGS_FILE,), INSTEAD):
                write_text(folder / SETTINGS_FILE, json.dumps(asdict(settings), indent=1) + "\n")

    @property
    def torn(self) -> bool:
        """Whether a line was cut off that an earlier process could not finish."""
        return bool(self.answers.torn or self.failures.torn)

    def close(self) -> None:
        """Closes the journals."""
        self.answers.close()
        self.failures.close()


class Journal:
    """A file of one JSON object a line, made where it is not there.

    A last line that its process could not end is cut off; `torn` is its number of bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self._file).st_size
        whole = _end_of_last_line(self._file, size)
        self.torn = size - whole
        if self.torn:
            os.ftruncate(self._file, whole)

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds lines, in one write where the system takes it whole; DataError if it refuses."""
        left = memoryview("".join(f"{json.dumps(record)}\n" for record in records).encode())
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror}); make room, and give the same "
                "command again to go on."
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Reads the lines one by one; DataError at one that is no JSON object."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict):
                    raise DataError(
                        f"{self.path}, line {number}, is no answer; restore the file, or give "
                        "another --out."
                    )
                yield record

    def lock(self) -> bool:
        """Keeps other processes away until this one ends; False where one is at work already."""
        return lock_file(self._file)

    def close(self) -> None:
        """Brings everything to the disk and closes the file."""
        os.fsync(self._file)
        os.close(self._file)


class PathSet:
    """A set of paths, each with a name of its own for what is written about it.

    It lies in a temporary file that the system removes with the process.
    """

    def __init__(self) -> None:
        self._base = sqlite3.connect("")
        self._base.execute("PRAGMA journal_mode=OFF")
        self._base.execute("CREATE TABLE paths (path BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("CREATE TABLE stems (stem BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.commit()

    def add(self, path: str) -> bool:
        """Adds a path; False where it was there."""
        return self._insert("paths", path)

    def __contains__(self, path: str) -> bool:
        """Whether a path was added."""
        query = "SELECT 1 FROM paths WHERE path = ?"
        return self._base.execute(query, (os.fsencode(path),)).fetchone() is not None

    def stem(self, name: str) -> str:
        """A name without its ending or, where another file has that already, with it."""
        stem = _short(os.path.splitext(name)[0])
        while not self._insert("stems", stem):
            stem = name if stem != name and not stem.startswith(name) else f"{stem}_"
            stem = _short(stem)
        return stem

    def _insert(self, table: str, text: str) -> bool:
        query = f"INSERT OR IGNORE INTO {table} VALUES (?)"
        return self._base.execute(query, (os.fsencode(text),)).rowcount == 1


Column = Callable[[Record], Any]  # Gives the cell of a record.


def _text_column(name: str) -> Column:
    return lambda record: safe_cell(record[name])


def _csv_columns(*, trust: bool, novelty: bool) -> dict[str, Column]:
    """The columns by name; cells without a value are empty, texts as `safe_cell` makes them."""
    columns: dict[str, Column] = {name: _text_column(name) for name in ("image", "path", "label")}
    columns["score"] = itemgetter("score")
    columns["found"] = lambda record: str(record["found"]).lower()
    columns |= _box_columns("", "box")
    columns |= {name: itemgetter(name) for name in ("width", "height")}
    if trust:
        columns["p_iou50"] = itemgetter("p_iou50")
        columns |= _box_columns("outer_", "box_outer") | _box_columns("inner_", "box_inner")
        columns["label_set"] = lambda record: safe_cell(label_set(record["label_set"]))
    if novelty:
        columns["novelty"] = itemgetter("novelty")
        columns["known"] = lambda record: str(record["known"]).lower()
    return columns


class CsvWriter:
    """Writes answers of a localizer as rows of a CSV file, below a header."""

    def __init__(self, file: TextIO, localizer: "Localizer") -> None:
        self._columns = _csv_columns(trust=localizer.trusted, novelty=localizer.tells_novelty)
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(self._columns)

    def write(self, record: Record) -> None:
        """Writes the row of an answer."""
        self._writer.writerow([cell(record) for cell in self._columns.values()])


def write_csv(path: Path, records: Iterable[Record], localizer: "Localizer") -> None:
    """Writes a row for each answer; UTF-8, with a header, whole or absent."""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = CsvWriter(file, localizer)
        for record in records:
            writer.write(record)


def write_coco(path: Path, records: Iterable[Record], class_names: Sequence[str]) -> None:
    """Writes answers as annotations of an `instances` file, with their scores; whole or absent."""
    from loc_keras.data.formats.coco import coco_categories

    ends = {"annotations": _annotations(records), "images": _images(records)}
    head = {
        "info": {"description": "answered by loc_keras", "version": "1"},
        "licenses": [],
        "categories": coco_categories(class_names),
    }
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1])
        for name, items in ends.items():
            file.write(f', "{name}": [')
            _write_items(file, items)
            file.write("]")
        file.write("}\n")


def _read_settings(folder: Path) -> AnswerSettings | None:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        if (folder / ANSWERS_FILE).exists():
            raise DataError(
                f"{folder} holds {ANSWERS_FILE} but no {SETTINGS_FILE}, which names the model that "
                "answered; give another folder to --out."
            )
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if "runner" in settings:
            raise DataError(
                f"{folder} holds answers from a runner, which are not continued; give another "
                "folder to --out."
            )
        return AnswerSettings(**settings)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged; give another folder to --out.") from error


def _end_of_last_line(file: int, size: int) -> int:
    end = size
    while end:
        start = max(0, end - _CHUNK)
        at = os.pread(file, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _short(stem: str) -> str:
    """A stem that leaves a file name room for an ending; of a longer one the end is a digest."""
    folder, name = os.path.split(stem)
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_STEM:
        return stem
    kept = raw[: _LONGEST_STEM - 2 * _DIGEST_BYTES - 1].decode(errors="ignore")
    digest = hashlib.blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()
    return os.path.join(folder, f"{kept}_{digest}")


def _refuse_for_voc(class_names: Sequence[str]) -> None:
    from loc_keras.data.formats.voc import refuse_unwritable

    refuse_unwritable(class_names)


def _write_voc(path: Path, record: Record) -> None:
    from loc_keras.data.formats.voc import voc_xml
    from loc_keras.data.formats.writing import write_bytes

    name = str(record["image"])
    folder, _, file = name.rpartition("/")
    size = (record["height"], record["width"])
    label = record["label"] if record["found"] else None
    write_bytes(
        path, voc_xml(folder, file, size, _COLOURS, label, record["box"] or (), database=DATABASE)
    )


def _write_yolo(path: Path, record: Record) -> None:
    from loc_keras.data.formats.yolo import yolo_line

    box = record["box_fraction"]
    write_text(path, "" if box is None else yolo_line(record["index"], box))


def _draw(record: Record) -> Image:
    boxes = (record["box"], record.get("box_outer"), record.get("box_inner"))
    return drawn_answer(record["path"], record["label"], record["score"], *boxes)


def _save_drawn(draw: Callable[[Record], Image], path: Path, record: Record) -> None:
    try:
        drawn = draw(record)
    except ImageError:  # It was there when it was answered about.
        return
    with written_aside(path) as aside:
        drawn.save(aside, quality=_QUALITY)


def _write_yolo_classes(folder: Path, _: Iterable[Record], localizer: "Localizer") -> None:
    from loc_keras.data.formats.writing import object_classes
    from loc_keras.data.formats.yolo import yolo_yaml

    classes, background = localizer.class_names, localizer.background
    names = object_classes(classes, None if background is None else classes[background])
    texts = (yolo_yaml({}, names), "".join(f"{name}\n" for name in names))
    for name, text in zip(YOLO_FILES, texts, strict=True):
        write_text(folder / name, text)


def _images(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(records, start=1):
        sides = {name: record[name] for name in ("width", "height")}
        yield {"id": number, "file_name": record["image"], **sides}


def _annotations(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    from loc_keras.data.formats.coco import coco_annotation

    objects = 0
    for number, record in enumerate(records, start=1):
        if record["found"]:
            objects += 1
            annotation = coco_annotation(objects, number, record["index"], record["box"])
            yield {**annotation, "score": record["score"]}


def _write_items(file: TextIO, items: Iterable[Record]) -> None:
    for place, item in enumerate(items):
        file.write(f"{',' if place else ''}\n{json.dumps(item)}")


def _box_columns(prefix: str, key: str) -> dict[str, Column]:
    def column(side: int) -> Column:
        return lambda record: "" if record[key] is None else record[key][side]

    return {f"{prefix}{name}_px": column(side) for side, name in enumerate(_SIDES)}


FORMATS = {
    "jsonl": OutputFormat(printed=True),
    "csv": OutputFormat(
        printed=True,
        files=(CSV_FILE,),
        finish=lambda folder, records, localizer: write_csv(folder / CSV_FILE, records, localizer),
    ),
    "coco": OutputFormat(
        files=(COCO_FILE,),
        finish=lambda folder, records, localizer: write_coco(
            folder / COCO_FILE, records, localizer.class_names
        ),
    ),
    "voc": OutputFormat(sidecar=Sidecar("Annotations", ".xml", _write_voc), refuse=_refuse_for_voc),
    "yolo": OutputFormat(
        sidecar=Sidecar("labels", ".txt", _write_yolo), files=YOLO_FILES, finish=_write_yolo_classes
    ),
}
_DRAWN = Sidecar("drawn", ".jpg", partial(_save_drawn, _draw))
