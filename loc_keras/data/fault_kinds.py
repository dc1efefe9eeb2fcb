"""The kinds of faults of a data set: how bad each is, what is wrong, and what the user can do."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """A sort of fault: what is wrong, in a few words, and what the user can do.

    An error keeps an object from being trained on, or spoils what is measured; a warning is worth a
    look; a note only informs.
    """

    severity: Severity
    title: str
    mend: str


_ERRORS = {
    "syntax": ("annotation cannot be parsed", "mend or remove the file"),
    "columns": (
        "row with the wrong columns",
        "mend the row, or name the columns, header and delimiter in the config",
    ),
    "number": ("coordinate that is no number", "write the number, or remove the row"),
    "label": ("label that cannot be read", "write the class, or remove the row"),
    "encoding": ("annotation is not UTF-8 text", "save the file as UTF-8"),
    "outside": (
        "name leads out of the data folder",
        "name images relative to the data folder, and put them below it",
    ),
    "split": ("split that is none", "write train, val or test"),
    "empty_file": ("annotation file without rows", "fill or remove the file"),
    "missing_file": ("annotation file is missing", "add the file"),
    "missing_row": ("image lacks a row in a table", "add the row, or remove the image"),
    "units": (
        "boxes that cannot be what they are said to be",
        "say what they are by the setting that is named",
    ),
    "background_box": (
        "box of the class for images without an object",
        "remove the box, mend its class, or name another class by data.source.background",
    ),
    "missing_annotation": (
        "annotation file is missing",
        "add the file, or take its name from the list",
    ),
    "unreadable_file": ("annotation file cannot be read", "grant access"),
    "reference": ("reference to an entry that is not there", "add the entry, or mend its id"),
    "duplicate_id": ("id that occurs twice", "give every entry an id of its own"),
    "duplicate": ("image that stands elsewhere, too", "keep one, under one class (--fix does)"),
    "undecodable": ("image cannot be decoded", "copy the file anew, or remove it"),
    "missing_image": ("image file is missing", "add the file, or remove its annotation"),
    "empty": ("file of 0 bytes", "copy the file anew, or remove it"),
    "unreadable": ("file cannot be read", "grant access, or remove it"),
    "not_image": ("file is not an image", "replace the file, or remove it"),
    "truncated": ("image is truncated or damaged", "copy the file anew, or remove it"),
    "truncated_header": ("image breaks off in its header", "copy the file anew, or remove it"),
    "unsupported_mode": ("pixels without a fixed range", "convert them to 8 or 16 bits a channel"),
    "too_large": ("image declares an absurd size", "scale it down, or remove it"),
    "exif_conflict": (
        "annotated size contradicts the EXIF orientation",
        "set data.source.boxes_on to the picture that was labelled (--fix does so for each)",
    ),
    "exif_undecided": (
        "boxes may be drawn on either view of turned pictures",
        "set data.source.boxes_on to stored or upright",
    ),
    "size_mismatch": (
        "annotated size differs from the file's",
        "label the file as it is, or restore the one that was labelled",
    ),
    "not_finite": ("box with infinite or absent numbers", "write the numbers, or remove the row"),
    "inverted": ("box is inverted", "swap the sides (--fix does), or mend the column order"),
    "zero_area": ("box without area", "draw it anew, or remove the row"),
    "outside_image": ("box reaches outside the image", "mend it, or the units or column order"),
    "class_unknown": ("class that is not listed", "mend the label, or list the class"),
    "class_from_one": ("classes counted from 1", "number them from 0, or list what 0 is"),
    "duplicate_across_splits": (
        "identical image in two splits",
        "keep one (--fix keeps the held-out one)",
    ),
    "group_across_splits": (
        "group in two splits",
        "keep it in one (--fix keeps the held-out part), or mend the groups",
    ),
    "duplicate_conflict": ("identical images with different classes", "find out which is right"),
}
_WARNINGS = {
    "first_pixel": (
        "pixels counted from another number",
        "set data.source.voc.first_pixel to 1 or 0, or mend the files",
    ),
    "duplicate_row": ("the same row twice", "remove all but one"),
    "no_object": (
        "image without objects",
        "label it, or remove it; it is trained on only with data.source.background",
    ),
    "unused_entry": ("split that is not read", "mend the entry, or take it out of the file"),
    "stale_name": (
        "annotation that names another image than its own",
        "nothing, if it is a copy; else rename the annotation or the image",
    ),
    "declared_size": (
        "declared image size is none",
        "write the size in px; the file's own is used",
    ),
    "orphan_image": (
        "image that no annotation names",
        "label it, or remove it; it is not trained on",
    ),
    "wrong_ending": ("file's ending does not fit its content", "rename it (--fix does)"),
    "mode_16bit": ("more than 8 bits a channel", "it is reduced to 8 bits; check that it shows"),
    "mode_cmyk": ("CMYK image", "it is converted to RGB; colours may differ"),
    "mode_palette": ("palette image", "it is converted; nothing to do"),
    "mode_alpha": ("image with transparency", "transparency is dropped; check what lies behind"),
    "animated": ("animated image", "only its first picture is used"),
    "exif_turned": (
        "EXIF orientation other than upright",
        "check in the gallery that boxes fit; --fix writes the pixels upright",
    ),
    "size_swapped": (
        "annotated sides are swapped",
        "nothing, if boxes fit in the gallery; else turn the pictures as they were labelled",
    ),
    "size_mismatch_fractions": (
        "annotated size differs, boxes in fractions",
        "check that the image was scaled, not cut",
    ),
    "box_overhang": (
        "box reaches slightly over the edge",
        "it is clipped (--fix does so for good)",
    ),
    "box_tiny": ("suspiciously tiny box", "check that it is an object, not a slip of the mouse"),
    "box_full_frame": ("box over the whole image", "check that it was not a default"),
    "class_spelling": ("class that looks misspelt", "mend the label if both mean one class"),
    "byte_order_mark": (
        "list of class names that begins with a byte order mark",
        "save it as UTF-8 without one; other programs take it for a part of the first name",
    ),
    "class_imbalance": ("classes of very unequal size", "add images of the small classes"),
    "class_absent": ("class absent in a split", "move or add images of it"),
    "class_rare": ("class of very few images", "add images, or merge the class"),
    "duplicate_image": ("identical image within a split", "keep one; it counts twice as it is"),
    "duplicate_boxes_differ": ("identical images with different boxes", "find out which is right"),
    "near_duplicate": ("almost identical image within a split", "keep one"),
    "near_duplicate_across_splits": (
        "almost identical image in two splits",
        "keep one, or group them when splitting",
    ),
}
_NOTES = {
    "score": ("score behind the box", "nothing; it is not read"),
    "several": ("object of an image with several", "choose which count by data.source.several"),
    "crowd": ("crowd of objects (iscrowd)", "nothing; crowds are not trained on"),
    "no_box": ("shape that is no object's box", "nothing; draw a box if it is an object"),
    "missing_frame": ("frame of a video without a file", "extract it as CVAT names it"),
    "mixed_channels": ("grey and colour images mixed", "all get the model's channels"),
    "exif_decided": (
        "view on which boxes were drawn",
        "set data.source.boxes_on where it is wrong",
    ),
    "class_unused": (
        "class without any object",
        "nothing, if it is none; name it by data.source.class_names to keep it",
    ),
    "class_repeated": ("name of two classes", "nothing, if both mean one class"),
    "unicode_form": ("class in two Unicode forms", "nothing; the composed form (NFC) is used"),
    "several_boxes": ("image with several boxes", "choose which count by the setting `several`"),
}
CATALOGUE = {
    name: Kind(severity, *words)
    for severity, kinds in zip(SEVERITIES, (_ERRORS, _WARNINGS, _NOTES), strict=True)
    for name, words in kinds.items()
}
"""All kinds by name, with what is wrong and what the user can do."""

OF_THE_WHOLE_SET = frozenset({"units", "class_from_one"})
"""Kinds of errors that make every object wrong, so that leaving some out is no way on."""

UNLISTED = Kind("error", "annotation cannot be used", "mend or remove it")
"""Of a kind that a reader gave and that is not in the catalogue."""


def kind_of(name: str) -> Kind:
    """The catalogue's entry of a kind, whoever named it."""
    return CATALOGUE.get(name, UNLISTED)
