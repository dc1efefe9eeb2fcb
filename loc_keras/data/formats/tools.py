"""Files of labelling tools and published sets that need no settings: told, found and read alike.

A format is a row of `TOOLS` and, in `tools_json` or `tools_other`, a generator of `Picture`s and a
function that reads one object. Images, splits, empty images and faults are the same for all.
"""

import hashlib
import json
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from loc_keras.atomic_file import written_aside
from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split, Units
from loc_keras.data.fault_kinds import kind_of
from loc_keras.data.formats.listing import Guess, Listing, by_split, ending_of, head_of, split_of
from loc_keras.data.formats.parsing import (
    LARGEST_SIDE,
    Box,
    Reading,
    RowError,
    below,
    config_path,
    folder_of,
    image_place,
    label_problem,
    number,
    numbered_lines,
    quoted,
    text_of_file,
)
from loc_keras.errors import DataError, first_line

_ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif"}
_SHOWN = 3
_NOT_AS_WRITTEN = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
_HEAD = 2**14  # Bytes at either end of a file in which its marks stand.
_SNIFFED, _MOST_SNIFFED = 20, 2_000  # Files of one ending in one folder, and all, looked at.
_NO_LABELS = frozenset({"classes.txt", "readme.txt", "notes.txt", "_classes.txt"})
_T = TypeVar("_T")


class Tool(NamedTuple):
    """How files of a format are told, and who reads them.

    Attributes:
        title: What the files are, for messages.
        endings: Of the files, in small letters.
        marks: Patterns that the ends of a file must hold, all of them.
        units: Of its boxes.
        beside: Whether each image has a file of its own, in which every file of the folder counts.
        upright: Name of the tool where it shows pictures upright by their EXIF orientation.
        written: Whether `tools_writing` writes it.
    """

    title: str
    endings: tuple[str, ...]
    marks: tuple[str, ...]
    units: Units = "pixel"
    beside: bool = False
    upright: str = ""
    written: bool = False


class Picture(NamedTuple):
    """One image as a file of labels names it.

    Attributes:
        name: As written, perhaps with folders, without ending, or as a URL.
        objects: Row and content of each object, as the format's own function takes them.
        row: Of the image in the file; 0 where the file is of this image alone.
        size: Declared (width, height) in px, or None.
        content: The encoded image where the file holds it, for use where no file stands beside.
        file: Path of the image where it is known.
        label: Class of objects that name none themselves.
        frame: Whether it is one of a video, of which few may be files.
    """

    name: Any
    objects: list[tuple[int, Any]]
    row: int = 0
    size: tuple[int, int] | None = None
    split: Split | None = None
    content: Callable[[], bytes] | None = None
    file: str = ""
    label: str = ""
    frame: bool = False


@dataclass
class Document:
    """One file of labels while it is read; what is wrong with it raises `RowError`."""

    path: str
    tool: Tool
    reading: Reading
    cache_dir: str | None = None

    @property
    def stem(self) -> str:
        """The file's name without ending."""
        return posixpath.splitext(posixpath.basename(self.path))[0]

    def text(self, name: str = "") -> str:
        """The text of the file, or of one that lies beside it or at a path of the data folder."""
        path = files.join(folder_of(self.path), name) if name else self.path
        return text_of_file(path, self.path)

    def content(self) -> bytes:
        """The bytes of the file."""
        try:
            return files.read_bytes(self.path)
        except OSError as error:
            raise RowError(f"cannot be read: {first_line(error)}", "unreadable_file") from None

    def keep(self, content: bytes, row: int = 0) -> str:
        """Gives an encoded image that lies in a row of the file a path of its own, in the cache."""
        if self.cache_dir is None:
            raise RowError("holds its images inside, and there is no cache", "missing_image")
        ending = next((end for mark, end in _ENDINGS.items() if content.startswith(mark)), "")
        where = f"{below(self.reading.root, self.path)}:{row}".encode("utf-8", "surrogateescape")
        name = hashlib.sha256(where + content).hexdigest()[:32] + ending
        path = Path(self.cache_dir) / "images" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(path) as aside:
                aside.write_bytes(content)
        return str(path)

    def json(self) -> Any:
        """The file as JSON."""
        return parsed_json(self.text())

    def json_lines(self) -> list[tuple[int, Any]]:
        """Row and value of each line of JSON; broken lines are faults."""
        lines = numbered_lines(self.text())
        return list(self.parsed(lines, lambda row, line: (row, parsed_json(line))))

    def parsed(
        self, rows: Iterable[tuple[int, Any]], parse: Callable[[int, Any], _T]
    ) -> Iterator[_T]:
        """Parses entries one by one; those that are not as the tool writes them become faults."""
        return self.reading.parsed(self.path, rows, lambda *row: self.strict(parse, *row))

    def strict(self, parse: Callable[..., _T], *args: Any) -> _T:
        """Calls a function; what it trips over is told as a `RowError`."""
        try:
            return parse(*args)
        except RecursionError:
            raise RowError("is nested too deeply", "syntax") from None
        except _NOT_AS_WRITTEN as error:
            what = f"has no {error}" if isinstance(error, KeyError) else str(error)
            reason = f"is not as in {self.tool.title}: {quoted(what)[1:-1]}"
            raise RowError(reason, "syntax") from None


def parsed_json(text: str) -> Any:
    """Text as JSON; RowError if it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RowError(f"is not JSON: {error.msg} in {where}", "syntax") from None
    except RecursionError:
        raise RowError("is nested too deeply", "syntax") from None
    except ValueError:
        raise RowError("has a number of too many digits", "syntax") from None


def floats(*values: Any, key: str = "") -> list[float]:
    """Numbers of JSON, perhaps as text; RowError, which begins with `key`, if one is none."""
    found = []
    for value in values:
        side = number(value) if isinstance(value, str) else value
        if isinstance(side, bool) or not isinstance(side, int | float):
            raise RowError(f"{key}{quoted(value)} is not a number", "number")
        try:
            found.append(float(side))
        except OverflowError:
            raise RowError(f"{key}{quoted(value)} is not a number of px", "number") from None
    return found


def box_of(values: Iterable[Any]) -> Box:
    """Four numbers; RowError if they are none, or not four."""
    sides = floats(*values)
    if len(sides) != 4:
        raise RowError(f"has {len(sides)} numbers for its box, expected 4", "columns")
    return sides[0], sides[1], sides[2], sides[3]


def extent(points: Iterable[Iterable[Any]]) -> Box:
    """The box around points, in whatever order they were drawn.

    RowError if there are fewer than two.
    """
    xs, ys = zip(*(floats(*point)[:2] for point in points), strict=True)
    if len(xs) < 2:
        raise RowError("is a single point, around which there is no box", "no_box")
    return min(xs), min(ys), max(xs), max(ys)


def around(x: float, y: float, half_width: float, half_height: float) -> Box:
    """The box of a centre and half its sides."""
    return x - half_width, y - half_height, x + half_width, y + half_height


def rotated(box: Box, degrees: float) -> Box:
    """The box around one that is turned about its centre."""
    x1, y1, x2, y2 = box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = (x2 - x1) / 2, (y2 - y1) / 2
    if not degrees:
        return box
    return around(
        (x1 + x2) / 2, (y1 + y2) / 2, width * cos + height * sin, width * sin + height * cos
    )


def ellipse(x: float, y: float, radius_x: float, radius_y: float, radians: float = 0.0) -> Box:
    """The box around an ellipse that is turned about its centre."""
    cos, sin = math.cos(radians), math.sin(radians)
    width = math.hypot(radius_x * cos, radius_y * sin)
    return around(x, y, width, math.hypot(radius_x * sin, radius_y * cos))


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """A declared size in px; None where it is none, as many tools write 0 for unknown."""
    try:
        sides = floats(width, height)
    except RowError:
        return None
    whole = all(1 <= side <= LARGEST_SIDE and side == int(side) for side in sides)
    return (int(sides[0]), int(sides[1])) if whole else None


def read_tool(
    root: str, *, format_name: str, cache_dir: str | None = None, file: str | None = None
) -> Annotations:
    """Reads all files of one of `TOOLS` below a folder, or the one `file` of it alone.

    Splits are those that the files say, or else that their names or folders or those of the images
    speak of; where none is for training, the largest is.

    Images that lie inside the files are copied to `cache_dir`; without it they are left out.

    Raises:
        DataError: If the folder is missing or has no such file.
    """
    from loc_keras.data.formats.tools_other import READERS

    tool = TOOLS[format_name]
    reading = Reading(root, upright_tool=tool.upright)
    read, read_object = READERS[format_name]
    if file is not None:
        chosen = [config_path(root, file, "data.source.file")]
        if not files.is_file(chosen[0]):
            raise DataError(f"{chosen[0]} {files.absence(chosen[0])}: mend data.source.file.")
    else:
        with files.noted_reads():  # To look at a file is not to use it.
            chosen = _own_files(files.walk(root), tool)
    if not chosen:
        raise DataError(f"{root} holds no {tool.title}; mend data.source.format or path.")
    found: list[tuple[Document, Picture]] = []
    for path in chosen:
        document = Document(path, tool, reading, cache_dir)
        try:
            found += [
                (document, one) for one in document.strict(lambda it: list(read(it)), document)
            ]
        except RowError as error:
            reading.failed(path, 0, error)

    def split_said(one: tuple[Document, Picture]) -> Split | None:
        named = split_of(below(root, one[0].path))
        return one[1].split or named or split_of(posixpath.dirname(str(one[1].name)))

    for split, part in by_split(found, split_said).items():
        reading.split(split)
        for document, picture in part:
            _add(document, picture, split, read_object)
    return reading.annotations(tool.units)


def _own_files(paths: Sequence[str], tool: Tool) -> list[str]:
    """The files of a format: those that show its marks, and what lies beside them if it counts."""
    likely = [path for path in paths if path.lower().endswith(tool.endings)]
    if not tool.beside:
        return [path for path in likely if _has_marks(_ends(path), tool)]
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in likely:
        if posixpath.basename(path).lower() not in _NO_LABELS:
            by_folder[folder_of(path)].append(path)
    return [
        path
        for some in by_folder.values()
        if any(_has_marks(_ends(path), tool) for path in some[:_SNIFFED])
        for path in some
    ]


def _image_path(document: Document, picture: Picture) -> str:
    """The path of an image, by the rule of `ImageFinder`; of several that fit, the nearest one."""
    # An image of the same name beside a file of this image alone outranks what is written.
    name, root, folder = picture.name, document.reading.root, folder_of(document.path)
    finder = document.reading.finder
    if not isinstance(name, str):
        raise RowError(f"names the image {quoted(name)}, not text", "syntax")
    stem = document.stem if document.tool.beside else ""
    own = (path for path in finder.fitting(folder, stem) if folder_of(path) == folder)
    written = (finder.as_written(base, name) for base in (folder, root))
    if path := next(filter(None, chain(own, written)), None):
        return path
    fitting = finder.fitting(root, name) or finder.fitting(root, stem)
    if not fitting and picture.content is not None:
        return document.keep(document.strict(picture.content))
    if not fitting and picture.frame:
        raise RowError(f"{name} is no file; extract the frames to use it", "missing_frame")
    if not fitting:
        return image_place(folder, name, root)

    def near(path: str) -> tuple[bool, bool, int, bool]:
        own = folder_of(path)
        same = split_of(below(root, own)) == split_of(below(root, document.path))
        shared = posixpath.commonpath([own.replace("://", "/"), folder.replace("://", "/")])
        # As Images/001 belongs to Labels/001, and image_2 to label_2.
        called, alike = (
            own.rpartition(sign)[2] == folder.rpartition(sign)[2] for sign in ("/", "_")
        )
        return same, called, len(shared), alike

    nearest = max(map(near, fitting))
    best = [path for path in fitting if near(path) == nearest]
    if len(best) > 1:
        names = " or ".join(below(root, path) for path in best[:_SHOWN])
        raise RowError(f"image {quoted(name)} may be {names}", "missing_image")
    return best[0]


def _add(
    document: Document,
    picture: Picture,
    split: Split,
    read_object: Callable[[Any, Picture], tuple[Any, Box]],
) -> None:
    """Adds the objects of an image, or what is wrong with it."""
    reading, path = document.reading, document.path
    try:
        file = picture.file or _image_path(document, picture)
    except RowError as error:
        reading.failed(path, picture.row, error)
        return
    ref = ImageRef(file)
    reading.folders[folder_of(file)] = None
    name, where = picture.name, "" if document.tool.beside else f"of {quoted(picture.name)}: "
    for row, entry in picture.objects:
        try:
            label, box = document.strict(read_object, entry, picture)
            if isinstance(label, int) and not isinstance(label, bool):
                label = str(label)
            if problem := label_problem(label):
                raise RowError(f"class {problem}", "label")
        except RowError as error:
            reading.faults.append(Fault(path, row, f"{where}{error}", error.kind, ref))
            if kind_of(error.kind).severity == "error":
                reading.unread[ref] += 1
        else:
            one = Annotated(ref, name, label.strip(), box, path, row, picture.size)
            reading.split(split).append(one)
    if not picture.objects:
        reason = f"{quoted(name)} names no object"
        reading.without_object(split, ref, name, path, picture.row, reason, picture.size)


def detect_tools(listing: Listing) -> Iterator[Guess]:
    """A guess for each of `TOOLS` whose marks some file shows, in the order of the table."""
    seen: dict[str, list[str]] = defaultdict(list)
    for name in islice(_likely(listing), _MOST_SNIFFED):
        text = _ends(listing.path(name))
        for form, tool in TOOLS.items():
            if name.lower().endswith(tool.endings) and _has_marks(text, tool):
                seen[form].append(name)
    for form, tool in TOOLS.items():
        if names := seen[form]:
            what = ", ".join(dict.fromkeys(map(posixpath.dirname, names)) if tool.beside else names)
            why = f"{tool.title}: {what or '.'}"
            yield Guess(form, listing.root, why=why, files=() if tool.beside else tuple(names))


def is_of_tool(listing: Listing, name: str, tool: Tool) -> bool:
    """Whether a file is one of the tool's."""
    return name.lower().endswith(tool.endings) and _has_marks(_ends(listing.path(name)), tool)


def _likely(listing: Listing) -> Iterator[str]:
    """The first files of each ending in each folder."""
    tools = [tool.endings for tool in TOOLS.values()] + [endings for _, endings, *_ in NAMED]
    endings = {ending_of(f"x{ending}") for some in tools for ending in some}
    for path, folder in listing.folders.items():
        for ending, names in folder.names.items():
            if ending in endings:
                yield from (posixpath.join(path, name) for name in names[:_SNIFFED])


def _ends(path: str) -> str:
    """The beginning of a file and, as keys of JSON have no order, of a longer one its end."""
    head = head_of(path, _HEAD)
    return head if len(head) < _HEAD // 2 else f"{head}\n{head_of(path, _HEAD, tail=True)}"


def _has_marks(text: str, tool: Tool) -> bool:
    """Whether the ends of a file are those of one of the tool's."""
    return all(_pattern(mark).search(text) for mark in tool.marks)


_pattern = cache(re.compile)
_IMAGE = r"\.(?i:jpe?g|png|bmp|gif|webp|tiff?)"

_JSON, _TEXT, _CSV, _XML = (".json",), (".txt",), (".csv",), (".xml",)

TOOLS: dict[str, Tool] = {
    "labelme": Tool(
        "LabelMe JSON",
        _JSON,
        (r"\A\s*\{", r'"shapes"\s*:\s*\[', r'"(flags|imagePath|lineColor|imageHeight)"\s*:'),
        beside=True,
        upright="LabelMe",
        written=True,
    ),
    "createml": Tool(
        "CreateML JSON",
        _JSON,
        (r"\A\s*\[", r'"(image|imagefilename)"\s*:', r'"annotations?"\s*:', r'"coordinates"\s*:'),
        written=True,
    ),
    "via": Tool(
        "JSON of the VGG Image Annotator",
        _JSON,
        (r"\A\s*\{", r'"filename"\s*:', r'"regions"\s*:', r'"shape_attributes"|"size"'),
        written=True,
    ),
    "via3": Tool("project of VIA 3", _JSON, (r"\A\s*\{", r'"project"\s*:\s*\{', r'"vid_list"\s*:')),
    "vott": Tool("JSON of VoTT", _JSON, (r"\A\s*\{", r'"asset"\s*:\s*\{', r'"regions"\s*:\s*\[')),
    "via_csv": Tool(
        "CSV of the VGG Image Annotator",
        _CSV,
        (r"\A[^\n]*filename[^\n]*region_shape_attributes",),
        written=True,
    ),
    "label_studio": Tool(
        "JSON of Label Studio",
        _JSON,
        (r"\A\s*\[", r'"original_width"\s*:', r'"annotations"\s*:|"annotator"\s*:|"\w*labels"'),
        units="fraction",
        upright="Label Studio",
    ),
    "label_studio_csv": Tool(
        "CSV of Label Studio",
        _CSV,
        (r"\A[^\n]*\bannotation_id\b[^\n]*\blead_time\b",),
        units="fraction",
        upright="Label Studio",
    ),
    "datumaro": Tool(
        "Datumaro JSON", _JSON, (r'"categories"\s*:\s*\{\s*"', r'"label"\s*:\s*\{\s*"labels"')
    ),
    "coco_panoptic": Tool("COCO panoptic JSON", _JSON, (r'"segments_info"\s*:\s*\[',)),
    "automl": Tool(
        "JSON lines of AutoML and Vertex AI",
        (".jsonl",),
        (r'"imageGcsUri"\s*:', r'"boundingBoxAnnotations"\s*:'),
        units="fraction",
    ),
    "sagemaker": Tool("SageMaker manifest", (".manifest", ".jsonl"), (r'"source-ref"\s*:',)),
    "openimages": Tool(
        "Open Images table",
        _CSV,
        (r"\A[^\n]*ImageID,[^\n]*LabelName,[^\n]*XMin,XMax,YMin,YMax",),
        units="fraction",
    ),
    "oxford_pet": Tool("Oxford-IIIT Pet list", ("list.txt",), (r"\A#Image CLASS-ID SPECIES",)),
    "aircraft": Tool("FGVC-Aircraft boxes", ("images_box.txt",), (r"\A\d+( \d+){4}\s*\n",)),
    "celeba": Tool("CelebA boxes", _TEXT, (r"\A\d+\s*\nimage_id\s+x_1\s+y_1\s+width",)),
    "cvat": Tool(
        "CVAT XML", _XML, (r"<annotations>", r"<image\s[^>]*name=|<track\s"), written=True
    ),
    "darwin": Tool(
        "Darwin JSON of V7",
        _JSON,
        (r'"item"\s*:\s*\{', r'"annotations"\s*:', r'"version"|"slots"|"schema_ref"'),
        beside=True,
    ),
    "labelme_web": Tool(
        "XML of the web LabelMe",
        _XML,
        (r"<annotation>", r"<polygon>(?s:(?!<bndbox).)*<pt>"),
        beside=True,
    ),
    "dlib": Tool("XML of dlib's imglab", _XML, (r"<dataset>", r"<images>")),
    "huggingface": Tool(
        "Hugging Face metadata",
        ("metadata.jsonl", "metadata.csv", ".parquet", ".arrow"),
        (r"(?s)\APAR1|\A\ufffd{4}|\A(?=.*file_name).*(objects|bbox)",),
        written=True,
    ),
    "kitti": Tool(
        "KITTI labels", _TEXT, (r"\A[A-Za-z]\S*( -?[\d.e+-]+){14,15}\s*(\n|\Z)",), beside=True
    ),
    "bbox_label_tool": Tool(
        "BBox-Label-Tool labels",
        _TEXT,
        (r"\A\d+\s*\n\s*\d+ \d+ \d+ \d+( \S.*)?(\n|\Z)",),
        beside=True,
    ),
    "keras_yolo": Tool(
        "annotation lines of keras-yolo3", _TEXT, (rf"(?m)^\S.*{_IMAGE}( -?\d+(,-?\d+){{4}})+\s*$",)
    ),
}
"""Formats without settings by `data.source.format`, in the order in which a folder is tried."""

_DATUM = "datum convert -i {root} -if {form} -f coco -o DIR (pip install 'datumaro[cli]')"
_TABLE = "write a CSV with the columns file, label, x1, y1, x2, y2"

NAMED: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    (
        "MegaDetector results, a detector's guesses in fractions",
        (".json",),
        r'"detection_categories"\s*:|"detections"\s*:\s*\[\s*\{\s*"(category|conf)"',
        f"{_TABLE} of those that were checked, with x2 = x + width",
    ),
    (
        "a Camtrap DP package",
        ("observations.csv",),
        r"\A[^\n]*bboxX,bboxY,bboxWidth,bboxHeight",
        "join media.csv by mediaID, and write a CSV with the columns file, label, x, y, w, h",
    ),
    (
        "DOTA labels, eight numbers of a turned box a line",
        (".txt",),
        r"(?m)\A(imagesource:.*\n)?(gsd:.*\n)?([-\d.]+ ){8}[^\d\s]\S* [012]\s*$",
        _DATUM.replace("{form}", "dota"),
    ),
    (
        "xView GeoJSON",
        (".geojson", ".json"),
        r'"bounds_imcoords"\s*:',
        f"{_TABLE} from image_id, type_id and bounds_imcoords",
    ),
    (
        "WIDER FACE lists",
        (".txt",),
        r"(?i)\A\S.*\.jpe?g\s*\n\d+\s*\n(\d+ ){4,9}",
        _DATUM.replace("{form}", "wider_face"),
    ),
    (
        "MOT tracks",
        ("gt.txt",),
        r"\A\d+,\d+(,-?[\d.]+){5,8}\s*\n",
        _DATUM.replace("{form}", "mot_seq"),
    ),
    (
        "Cityscapes polygons",
        (".json",),
        r'"imgHeight"\s*:.*"polygon"|"polygon".*"imgHeight"',
        _DATUM.replace("{form}", "cityscapes"),
    ),
    (
        "Supervisely annotations",
        (".json",),
        r'"classTitle"\s*:|"geometryType"\s*:',
        "export them from Supervisely as COCO or Pascal VOC",
    ),
    (
        "a Labelbox export",
        (".json", ".ndjson"),
        r'"data_row"\s*:|"Labeled Data"\s*:',
        f"{_TABLE} from each bounding_box (top, left, height, width)",
    ),
    ("Scalabel or BDD100K labels", (".json",), r'"box2d"\s*:', f"{_TABLE} from each box2d"),
    ("MATLAB files", (".mat",), "", f"{_TABLE} from what scipy.io.loadmat reads"),
    ("a spreadsheet", (".xlsx", ".xls", ".ods"), "", "save it as CSV"),
)
"""Formats that are known and not read: what they are, endings, a mark, and the way on."""


def way_on(listing: Listing) -> str:
    """A sentence for a folder of one of `NAMED`; `""` where there is none."""
    for name in islice(_likely(listing), _MOST_SNIFFED):
        for title, endings, mark, way in NAMED:
            if name.lower().endswith(endings) and _pattern(mark).search(_ends(listing.path(name))):
                how = way.replace("{root}", listing.root)
                return f"{name} holds {title}, a format that is not read: {how}."
    return ""
