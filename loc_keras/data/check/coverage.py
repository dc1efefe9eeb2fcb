"""Findings about files: those that images lie in, and images that no annotation names."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef
from loc_keras.data.check.catalogue import Finding
from loc_keras.data.check.images import ENDINGS, IMAGE_ENDINGS, ImageFacts
from loc_keras.data.image_header import Header
from loc_keras.data.records import UPRIGHT

_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"})
_EIGHT = 8
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"|(\S+)")


def image_findings(
    annotations: Annotations, images: Mapping[ImageRef, ImageFacts], *, boxes_on: str
) -> list[Finding]:
    """What is wrong with images, listed by the first annotation that names each.

    Args:
        annotations: As read.
        images: What is known of each image.
        boxes_on: As in `ImageFacts.picture_size`.
    """
    found = []
    seen: set[ImageRef] = set()
    modes: set[bool] = set()
    for _, one in annotations.all_objects():
        facts = images.get(one.image)
        if facts is None:
            continue
        if one.image not in seen:
            seen.add(one.image)
            found += _one_image(one, facts)
            if facts.header and not facts.trouble:
                modes.add(facts.header.mode in _GREY)
        if not facts.trouble:
            found += _size_findings(one, facts, boxes_on, annotations.units)
    if len(modes) > 1:
        words = "some images are grey and some have colour"
        found.append(Finding("mixed_channels", "", 0, words))
    return found


def orphan_findings(annotations: Annotations) -> list[Finding]:
    """Images in the data set's folders that no annotation names, in the order of their paths."""
    named = {_plain(one.image.path) for _, one in annotations.all_objects()}
    stems, words = _spoken_of(annotations.faults)
    found = []
    for path in dict.fromkeys(
        path for folder in annotations.folders for path in files.walk(folder)
    ):
        base = os.path.basename(path)
        stem, ending = os.path.splitext(base)
        if ending.lower() not in IMAGE_ENDINGS or _plain(path) in named:
            continue
        if stem not in stems and base not in words:
            found.append(Finding("orphan_image", path, 0, "no annotation names it", ImageRef(path)))
    return found


def _spoken_of(faults: Iterable[Fault]) -> tuple[set[str], set[str]]:
    """Stems of files at fault and words of reasons: such images are reported already."""
    stems: set[str] = set()
    words: set[str] = set()
    for fault in faults:
        stems.add(os.path.splitext(os.path.basename(fault.file))[0])
        for quoted in _QUOTED.finditer(fault.reason):
            text = next(group for group in quoted.groups() if group is not None)
            words.add(os.path.basename(text.strip(".,;:()")))
    return stems, words


def _one_image(one: Annotated, facts: ImageFacts) -> list[Finding]:
    def finding(kind: str, words: str) -> Finding:
        return Finding(kind, one.file, one.row, f"{one.name} {words}", one.image)

    if facts.trouble or facts.header is None:
        return [finding(facts.trouble, facts.reason)]
    header = facts.header
    found = []
    ending = os.path.splitext(one.image.path)[1].lower()
    if ending in IMAGE_ENDINGS and ending not in ENDINGS[header.format]:
        found.append(finding("wrong_ending", f"holds {header.format}, not {ending[1:]}"))
    found += [finding(kind, words) for kind, words in _unusual(header)]
    if header.orientation != UPRIGHT:
        found.append(finding("exif_turned", f"has the EXIF orientation {header.orientation}"))
    return found


def _unusual(header: Header) -> Iterator[tuple[str, str]]:
    if header.bits > _EIGHT:
        yield "mode_16bit", f"has {header.bits} bits a channel"
    if header.mode in ("CMYK", "YCCK", "LAB"):
        yield "mode_cmyk", f"has the mode {header.mode}"
    # A GIF's pictures have palettes by its nature.
    if header.mode in ("P", "PA") and header.format != "GIF":
        yield "mode_palette", "has pixels that are numbers of a palette"
    if header.mode in ("RGBA", "LA", "RGBa", "La"):
        yield "mode_alpha", f"has the mode {header.mode}"
    if header.animated:
        yield "animated", "has several pictures"


def _size_findings(
    one: Annotated, facts: ImageFacts, boxes_on: str, units: str
) -> Sequence[Finding]:
    """Whether the annotated size is that of the picture; absent or zero ones say nothing."""
    if one.size is None or not all(one.size):
        return []
    size = facts.picture_size(boxes_on=boxes_on)
    if one.size == size:
        return []
    given, real = ("{} x {} px".format(*pair) for pair in (one.size, size))
    orientation = facts.header.orientation if facts.header else UPRIGHT
    other = "stored" if boxes_on == "upright" else "upright"
    if facts.picture_size(boxes_on=other) == one.size:
        words = (
            f"{one.name} is {real} as {boxes_on} but {given} in the annotation, which is its size "
            f"as {other}; its EXIF orientation is {orientation}"
        )
        return [Finding("exif_conflict", one.file, one.row, words, one.image)]
    words = f"{one.name} is {real} but {given} in the annotation"
    kind = "size_mismatch" if units == "pixel" else "size_mismatch_fractions"
    return [Finding(kind, one.file, one.row, words, one.image)]


def _plain(path: str) -> str:
    return path if files.is_remote(path) else os.path.abspath(path)
