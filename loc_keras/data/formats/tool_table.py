"""The table of formats that need no settings, and how a folder shows that it holds one of them."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import NamedTuple

from loc_keras.data.annotations import Units
from loc_keras.data.formats.listing import Guess, Listing, ending_of

HEAD = 2**14
"""Characters of a file in which its marks stand."""

SNIFFED = 20
"""Files of one ending in one folder that are looked at."""

_MOST_SNIFFED = 2_000


class Tool(NamedTuple):
    """How files of a format are told, and who reads them.

    Attributes:
        title: What the files are, for messages.
        module: Last part of the module whose `READERS` has the format.
        endings: Of the files, in small letters.
        marks: Patterns that the beginning of a file must hold, all of them.
        units: Of its boxes.
        beside: Whether each image has a file of its own, in which every file of the folder counts.
        upright: Name of the tool where it shows pictures upright by their EXIF orientation.
        written: Whether `tools_writing` writes it.
    """

    title: str
    module: str
    endings: tuple[str, ...]
    marks: tuple[str, ...]
    units: Units = "pixel"
    beside: bool = False
    upright: str = ""
    written: bool = False


def detect_tools(listing: Listing) -> Iterator[Guess]:
    """A guess for each of `TOOLS` whose marks some file shows, in the order of the table."""
    seen: dict[str, list[str]] = defaultdict(list)
    for name in islice(_likely(listing), _MOST_SNIFFED):
        for form, tool in TOOLS.items():
            if is_of_tool(listing, name, tool):
                seen[form].append(name)
    for form, tool in TOOLS.items():
        if names := seen[form]:
            what = ", ".join(dict.fromkeys(map(posixpath.dirname, names)) if tool.beside else names)
            why = f"{tool.title}: {what or '.'}"
            yield Guess(form, listing.root, why=why, files=() if tool.beside else tuple(names))


def is_of_tool(listing: Listing, name: str, tool: Tool) -> bool:
    """Whether a file is one of the tool's."""
    return name.lower().endswith(tool.endings) and has_marks(listing.head(name)[:HEAD], tool)


def _likely(listing: Listing) -> Iterator[str]:
    """The first files of each ending in each folder."""
    tools = [tool.endings for tool in TOOLS.values()] + [endings for _, endings, *_ in NAMED]
    endings = {ending_of(f"x{ending}") for some in tools for ending in some}
    for path, folder in listing.folders.items():
        for ending, names in folder.names.items():
            if ending in endings:
                yield from (posixpath.join(path, name) for name in names[:SNIFFED])


def has_marks(head: str, tool: Tool) -> bool:
    """Whether the beginning of a file is one of the tool's."""
    return all(_pattern(mark).search(head) for mark in tool.marks)


_pattern = cache(re.compile)
_IMAGE = r"\.(?i:jpe?g|png|bmp|gif|webp|tiff?)"

_JSON = ("tools_json", (".json",))
_TEXT = ("tools_text", (".txt",))
_XML = ("tools_xml", (".xml",))

TOOLS: dict[str, Tool] = {
    "labelme": Tool(
        "LabelMe JSON",
        *_JSON,
        (r"\A\s*\{", r'"shapes"\s*:\s*\[', r'"(flags|imagePath|lineColor|imageHeight)"\s*:'),
        beside=True,
        upright="LabelMe",
        written=True,
    ),
    "createml": Tool(
        "CreateML JSON",
        *_JSON,
        (r"\A\s*\[", r'"(image|imagefilename)"\s*:', r'"annotations?"\s*:', r'"coordinates"\s*:'),
        written=True,
    ),
    "via": Tool(
        "JSON of the VGG Image Annotator",
        *_JSON,
        (r"\A\s*\{", r'"filename"\s*:', r'"regions"\s*:', r'"shape_attributes"|"size"'),
        written=True,
    ),
    "via3": Tool(
        "project of VIA 3", *_JSON, (r"\A\s*\{", r'"project"\s*:\s*\{', r'"vid_list"\s*:')
    ),
    "vott": Tool("JSON of VoTT", *_JSON, (r"\A\s*\{", r'"asset"\s*:\s*\{', r'"regions"\s*:\s*\[')),
    "via_csv": Tool(
        "CSV of the VGG Image Annotator",
        "tools_tables",
        (".csv",),
        (r"\A[^\n]*filename[^\n]*region_shape_attributes",),
        written=True,
    ),
    "label_studio": Tool(
        "JSON of Label Studio",
        *_JSON,
        (r"\A\s*\[", r'"original_width"\s*:', r'"annotations"\s*:|"annotator"\s*:|"\w*labels"'),
        units="fraction",
        upright="Label Studio",
    ),
    "label_studio_csv": Tool(
        "CSV of Label Studio",
        "tools_tables",
        (".csv",),
        (r"\A[^\n]*\bannotation_id\b[^\n]*\blead_time\b",),
        units="fraction",
        upright="Label Studio",
    ),
    "datumaro": Tool(
        "Datumaro JSON", *_JSON, (r'"categories"\s*:\s*\{\s*"', r'"label"\s*:\s*\{\s*"labels"')
    ),
    "coco_panoptic": Tool("COCO panoptic JSON", *_JSON, (r'"segments_info"\s*:\s*\[',)),
    "automl": Tool(
        "JSON lines of AutoML and Vertex AI",
        "tools_json",
        (".jsonl",),
        (r'"imageGcsUri"\s*:', r'"boundingBoxAnnotations"\s*:'),
        units="fraction",
    ),
    "sagemaker": Tool(
        "SageMaker manifest", "tools_json", (".manifest", ".jsonl"), (r'"source-ref"\s*:',)
    ),
    "openimages": Tool(
        "Open Images table",
        "tools_tables",
        (".csv",),
        (r"\A[^\n]*ImageID,[^\n]*LabelName,[^\n]*XMin,XMax,YMin,YMax",),
        units="fraction",
    ),
    "oxford_pet": Tool(
        "Oxford-IIIT Pet list", "tools_text", ("list.txt",), (r"\A#Image CLASS-ID SPECIES",)
    ),
    "aircraft": Tool(
        "FGVC-Aircraft boxes", "tools_text", ("images_box.txt",), (r"\A\d+( \d+){4}\s*\n",)
    ),
    "celeba": Tool("CelebA boxes", *_TEXT, (r"\A\d+\s*\nimage_id\s+x_1\s+y_1\s+width",)),
    "cvat": Tool(
        "CVAT XML", *_XML, (r"<annotations>", r"<image\s[^>]*name=|<track\s"), written=True
    ),
    "darwin": Tool(
        "Darwin JSON of V7",
        *_JSON,
        (r'"item"\s*:\s*\{', r'"annotations"\s*:', r'"version"|"slots"|"schema_ref"'),
        beside=True,
    ),
    "labelme_web": Tool(
        "XML of the web LabelMe",
        *_XML,
        (r"<annotation>", r"<polygon>(?s:(?!<bndbox).)*<pt>"),
        beside=True,
    ),
    "dlib": Tool("XML of dlib's imglab", *_XML, (r"<dataset>", r"<images>")),
    "huggingface": Tool(
        "Hugging Face metadata",
        "tools_tables",
        ("metadata.jsonl", "metadata.csv", ".parquet", ".arrow"),
        (r"(?s)\APAR1|\A\ufffd{4}|\A(?=.*file_name).*(objects|bbox)",),
        written=True,
    ),
    "kitti": Tool(
        "KITTI labels", *_TEXT, (r"\A[A-Za-z]\S*( -?[\d.e+-]+){14,15}\s*(\n|\Z)",), beside=True
    ),
    "bbox_label_tool": Tool(
        "BBox-Label-Tool labels",
        *_TEXT,
        (r"\A\d+\s*\n\s*\d+ \d+ \d+ \d+( \S.*)?(\n|\Z)",),
        beside=True,
    ),
    "keras_yolo": Tool(
        "annotation lines of keras-yolo3",
        *_TEXT,
        (rf"(?m)^\S.*{_IMAGE}( -?\d+(,-?\d+){{4}})+\s*$",),
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
)
"""Formats that are known and not read: what they are, endings, a mark, and the way on."""


def way_on(listing: Listing) -> str:
    """A sentence for a folder of one of `NAMED`; `""` where there is none."""
    for name in islice(_likely(listing), _MOST_SNIFFED):
        for title, endings, mark, way in NAMED:
            if name.lower().endswith(endings) and _pattern(mark).search(listing.head(name)[:HEAD]):
                how = way.replace("{root}", listing.root)
                return f"{name} holds {title}, a format that is not read: {how}."
    return ""
