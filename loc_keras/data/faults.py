"""Every kind of finding: how bad it is, what it is called, and how it is mended."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from loc_keras.data.annotations import Fault, ImageRef

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

FractionBox = tuple[float, float, float, float]


class Kind(NamedTuple):
    """A sort of finding.

    Attributes:
        severity: An error keeps an object from being trained on, or spoils what is measured; a
            warning is worth a look; a note only informs.
        title: What is wrong, in a few words.
        mend: What the user can do.
    """

    severity: Severity
    title: str
    mend: str


CATALOGUE: dict[str, Kind] = {
    # What readers could not read.
    "syntax": Kind("error", "annotation cannot be parsed", "mend or remove the file"),
    "columns": Kind(
        "error",
        "row with the wrong columns",
        "mend the row, or name the columns, header and delimiter in the config",
    ),
    "number": Kind("error", "coordinate that is no number", "write the number, or remove the row"),
    "label": Kind("error", "label that cannot be read", "write the class, or remove the row"),
    "encoding": Kind("error", "annotation is not UTF-8 text", "save the file as UTF-8"),
    "outside": Kind(
        "error",
        "name leads out of the data folder",
        "name images relative to the data folder, and put them below it",
    ),
    "split": Kind("error", "split that is none", "write train, val or test"),
    "empty_file": Kind("error", "annotation file without rows", "fill or remove the file"),
    "missing_file": Kind("error", "annotation file is missing", "add the file"),
    "missing_row": Kind(
        "error", "image lacks a row in a table", "add the row, or remove the image"
    ),
    "duplicate_row": Kind("warning", "the same row twice", "remove all but one"),
    "no_object": Kind(
        "warning",
        "image without objects",
        "label it, or remove it; it is trained on only with data.source.background",
    ),
    "background_box": Kind(
        "error",
        "box of the class for images without an object",
        "remove the box, mend its class, or name another class by data.source.background",
    ),
    "missing_annotation": Kind(
        "error", "annotation file is missing", "add the file, or take its name from the list"
    ),
    "unreadable_file": Kind("error", "annotation file cannot be read", "grant access"),
    "reference": Kind(
        "error", "reference to an entry that is not there", "add the entry, or mend its id"
    ),
    "duplicate_id": Kind("error", "id that occurs twice", "give every entry an id of its own"),
    "declared_size": Kind(
        "warning", "declared image size is none", "write the size in px; the file's own is used"
    ),
    "several": Kind(
        "note", "object of an image with several", "choose which count by data.source.several"
    ),
    "duplicate": Kind(
        "error", "image that stands elsewhere, too", "keep one, under one class (--fix does)"
    ),
    "decode": Kind("error", "image cannot be decoded", "copy the file anew, or remove it"),
    "undecodable": Kind("error", "image cannot be decoded", "copy the file anew, or remove it"),
    "crowd": Kind("note", "crowd of objects (iscrowd)", "nothing; crowds are not trained on"),
    # Files.
    "missing_image": Kind(
        "error", "image file is missing", "add the file, or remove its annotation"
    ),
    "orphan_image": Kind(
        "warning", "image that no annotation names", "label it, or remove it; it is not trained on"
    ),
    "empty": Kind("error", "file of 0 bytes", "copy the file anew, or remove it"),
    "unreadable": Kind("error", "file cannot be read", "grant access, or remove it"),
    "not_image": Kind("error", "file is not an image", "replace the file, or remove it"),
    "truncated": Kind("error", "image is truncated or damaged", "copy the file anew, or remove it"),
    "truncated_header": Kind(
        "error", "image breaks off in its header", "copy the file anew, or remove it"
    ),
    "unsupported_mode": Kind(
        "error", "pixels without a fixed range", "convert them to 8 or 16 bits a channel"
    ),
    "too_large": Kind("error", "image declares an absurd size", "scale it down, or remove it"),
    "wrong_ending": Kind(
        "warning", "file's ending does not fit its content", "rename it (--fix does)"
    ),
    "mode_16bit": Kind(
        "warning", "more than 8 bits a channel", "it is reduced to 8 bits; check that it shows"
    ),
    "mode_cmyk": Kind("warning", "CMYK image", "it is converted to RGB; colours may differ"),
    "mode_palette": Kind("warning", "palette image", "it is converted; nothing to do"),
    "mode_alpha": Kind(
        "warning", "image with transparency", "transparency is dropped; check what lies behind"
    ),
    "animated": Kind("warning", "animated image", "only its first picture is used"),
    "mixed_channels": Kind("note", "grey and colour images mixed", "all get the model's channels"),
    "exif_turned": Kind(
        "warning",
        "EXIF orientation other than upright",
        "check in the gallery that boxes fit; --fix writes the pixels upright",
    ),
    "exif_conflict": Kind(
        "error",
        "annotated size contradicts the EXIF orientation",
        "set data.source.boxes_on to the picture that was labelled (--fix does so for each)",
    ),
    "size_mismatch": Kind(
        "error",
        "annotated size differs from the file's",
        "label the file as it is, or restore the one that was labelled",
    ),
    "size_mismatch_fractions": Kind(
        "warning",
        "annotated size differs, boxes in fractions",
        "check that the image was scaled, not cut",
    ),
    # Boxes.
    "not_finite": Kind(
        "error", "box with infinite or absent numbers", "write the numbers, or remove the row"
    ),
    "inverted": Kind(
        "error", "box is inverted", "swap the sides (--fix does), or mend the column order"
    ),
    "zero_area": Kind("error", "box without area", "draw it anew, or remove the row"),
    "outside_image": Kind(
        "error", "box reaches outside the image", "mend it, or the units or column order"
    ),
    "box_overhang": Kind(
        "warning", "box reaches slightly over the edge", "it is clipped (--fix does so for good)"
    ),
    "box_tiny": Kind(
        "warning", "suspiciously tiny box", "check that it is an object, not a slip of the mouse"
    ),
    "box_full_frame": Kind(
        "warning", "box over the whole image", "check that it was not a default"
    ),
    # Classes.
    "class_unknown": Kind("error", "class that is not listed", "mend the label, or list the class"),
    "class_spelling": Kind(
        "warning", "class that looks misspelt", "mend the label if both mean one class"
    ),
    "class_imbalance": Kind(
        "warning", "classes of very unequal size", "add images of the small classes"
    ),
    "class_absent": Kind("warning", "class absent in a split", "move or add images of it"),
    "class_rare": Kind("warning", "class of very few images", "add images, or merge the class"),
    "several_boxes": Kind(
        "note", "image with several boxes", "choose which count by the setting `several`"
    ),
    # Duplicates.
    "duplicate_image": Kind(
        "warning", "identical image within a split", "keep one; it counts twice as it is"
    ),
    "duplicate_across_splits": Kind(
        "error", "identical image in two splits", "keep one (--fix keeps the held-out one)"
    ),
    "group_across_splits": Kind(
        "error",
        "group in two splits",
        "keep it in one (--fix keeps the held-out part), or mend the groups",
    ),
    "duplicate_conflict": Kind(
        "error", "identical images with different classes", "find out which is right"
    ),
    "duplicate_boxes_differ": Kind(
        "warning", "identical images with different boxes", "find out which is right"
    ),
    "near_duplicate": Kind("warning", "almost identical image within a split", "keep one"),
    "near_duplicate_across_splits": Kind(
        "warning", "almost identical image in two splits", "keep one, or group them when splitting"
    ),
}

UNLISTED = Kind("error", "annotation cannot be used", "mend or remove it")
"""Of a kind that a reader gave and that is not in the catalogue."""


class Finding(NamedTuple):
    """One thing found.

    Attributes:
        kind: Key of the catalogue.
        file: Annotation or image file; `""` for the data set as a whole.
        row: Line, object or record number in it, from 1; 0 for the file as a whole.
        message: What was found, as a sentence without file and row.
        image: The image that shows it, or None.
        box: (x1, y1, x2, y2) in fractions of the picture, to be drawn on it, or None; perhaps
            inverted or outside.
        twin: Another image that it concerns, such as the one that it repeats.
        twin_box: A box on that one, likewise.
    """

    kind: str
    file: str
    row: int
    message: str
    image: ImageRef | None = None
    box: FractionBox | None = None
    twin: ImageRef | None = None
    twin_box: FractionBox | None = None

    @property
    def about(self) -> Kind:
        """The catalogue's entry of its kind."""
        return kind_of(self.kind)

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.about.severity

    @property
    def mend(self) -> str:
        """What the user can do."""
        return self.about.mend


def kind_of(name: str) -> Kind:
    """The catalogue's entry of a kind, whoever named it."""
    return CATALOGUE.get(name, UNLISTED)


def from_fault(fault: Fault) -> Finding:
    """The finding that a reader's fault is."""
    return Finding(fault.kind, fault.file, fault.row, fault.reason)


def count_by_kind(findings: Sequence[Finding]) -> dict[str, int]:
    """Number of findings of each kind, worst kinds first, then the most frequent."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    rank = {severity: number for number, severity in enumerate(SEVERITIES)}
    return dict(
        sorted(counts.items(), key=lambda item: (rank[kind_of(item[0]).severity], -item[1]))
    )


def count_by_severity(findings: Sequence[Finding]) -> dict[Severity, int]:
    """Number of errors, warnings and notes."""
    return {
        severity: sum(finding.severity == severity for finding in findings)
        for severity in SEVERITIES
    }
