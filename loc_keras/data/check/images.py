"""What image files are: their headers, and whether all of them decodes."""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import numpy.typing as npt
from PIL import Image

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Subject
from loc_keras.data.duplicates import thumbnail
from loc_keras.data.formats.parsing import is_image_name
from loc_keras.data.image_header import (
    ENDINGS,
    Header,
    HeaderError,
    open_content,
    read_content,
    read_headers,
    without_image_warnings,
)
from loc_keras.data.resolve import THUMBNAIL_SIDE, TOLERANCE_PX, UPRIGHT, picture_size

_WINDOW = 512
_NO_MEMORY = "needs more memory than is free"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of one image.

    Attributes:
        header: What the file says of itself, or None where it cannot be read.
        trouble: Kind of finding that keeps the image from being used; `""` for none.
        reason: What that is, as the end of a sentence that starts with the image.
        digest: Hash of its bytes; `b""` where only the header was read.
    """

    header: Header | None
    trouble: str = ""
    reason: str = ""
    digest: bytes = b""

    @property
    def opened(self) -> Header | HeaderError:
        """The header, or why there is none."""
        return self.header or HeaderError(self.reason, self.trouble)


def inspect_images(
    refs: Iterable[ImageRef],
    *,
    decode: bool,
    near: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[ImageRef, ImageFacts], npt.NDArray[np.uint8] | None]:
    """Looks at images, each once and several at a time.

    Without `decode` only headers are read; `near` makes thumbnails of decoded pictures. `progress`
    is called with the number of images that were finished since the last call.

    Returns:
        What is known of each image, in their order, and uint8 (N, SIDE, SIDE), as
        `duplicates.thumbnail` of the upright pictures, zeros where they cannot be decoded; None
        where they were not made.
    """
    unique = list(dict.fromkeys(refs))
    found: dict[ImageRef, ImageFacts] = {}
    side, count = THUMBNAIL_SIDE, len(unique) if decode and near else 0
    thumbnails = np.zeros((count, side, side), np.uint8) if count else None
    threads = min(8, os.cpu_count() or 1)
    with without_image_warnings():
        # Windows bound the number of waiting tasks, however many images there are.
        for start in range(0, len(unique), _WINDOW):
            window = slice(start, start + _WINDOW)
            refs = unique[window]
            if decode:
                small = repeat(None) if thumbnails is None else thumbnails[window]
                facts = files.for_each(_decoded, list(zip(refs, small, strict=False)), threads)
            else:
                facts = list(map(_facts, read_headers(refs)))
            found.update(zip(refs, facts, strict=True))
            if progress:
                progress(len(refs))
    return found, thumbnails


def _facts(header: Header | HeaderError, digest: bytes = b"") -> ImageFacts:
    if isinstance(header, HeaderError):
        return ImageFacts(None, header.kind, header.reason)
    if header.format == "TIFF" and header.mode in ("I", "F"):
        reason = f"has pixels of the mode {header.mode}, which have no fixed range"
        return ImageFacts(header, "unsupported_mode", reason, digest)
    return ImageFacts(header, digest=digest)


def _decoded(place: tuple[ImageRef, npt.NDArray[np.uint8] | None]) -> ImageFacts:
    """Decodes all of the first picture, and writes its thumbnail to its place if it has one."""
    ref, small = place
    try:
        content = read_content(ref)
        header, image = open_content(content)
    except HeaderError as error:
        return _facts(error)
    except MemoryError:
        return _facts(HeaderError(_NO_MEMORY, "too_large"))
    facts = _facts(header, hashlib.sha256(content).digest())
    if facts.trouble:
        return facts
    try:
        if header.format == "PNG":
            # Decoding stops after the last pixel; this walks to the end and sums all chunks.
            image.verify()
        if header.format != "JPEG":
            image = Image.open(io.BytesIO(content))
        made = thumbnail(image, header.orientation)
        if small is not None:
            small[:] = made
        return facts
    except MemoryError:
        return replace(facts, trouble="too_large", reason=_NO_MEMORY)
    except Exception as error:  # PIL's decoders raise nearly anything on hostile bytes.
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        return replace(facts, trouble="truncated", reason=f"cannot be decoded: {reason}")


_EIGHT = 8
_TURNED = (
    ", and the box fits the annotated size alone: turn the picture as it was when it was labelled"
)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"|(\S+)")


def image_findings(
    annotations: Annotations, images: Mapping[ImageRef, ImageFacts], *, boxes_on: str | None
) -> list[Fault]:
    """What is wrong with images, listed by the first annotation that names each.

    `boxes_on` is as in `resolve.picture_size`, or None where nothing decides it.
    """
    found = []
    inspected: set[ImageRef] = set()
    modes: set[bool] = set()
    objects = annotations.joined

    def differs(one: Subject) -> bool:
        header = images[one.image].header if one.image in images and one.size else None
        return header is not None and picture_size(header, boxes_on or "stored") != one.size

    told = objects.of_subjects([differs(one) for one in objects.subjects], np.bool_)
    told[objects.first] = True
    for one in objects.take(told):
        facts = images.get(one.image)
        if facts is None:
            continue
        if one.image not in inspected:
            inspected.add(one.image)
            found += _one_image(one, facts)
            if facts.header and not facts.trouble:
                modes.add(facts.header.grey)
        if not facts.trouble:
            found += _size_findings(one, facts, boxes_on, annotations.units)
    if any(one.reason.endswith(_TURNED) for one in found):
        # Then it is no slip: pictures were turned after they were labelled.
        found = [
            one._replace(kind="size_mismatch") if one.kind == "size_swapped" else one
            for one in found
        ]
    if len(modes) > 1:
        reason = "some images are grey and some have colour"
        found.append(Fault("", 0, reason, "mixed_channels"))
    return found


def orphan_findings(annotations: Annotations) -> list[Fault]:
    """Images in the data set's folders that no annotation names, in the order of their paths."""
    named = {_plain(image.path) for image in annotations.joined.images}
    stems, named_by_faults = _named_by_faults(annotations.faults)
    found = []
    for path in dict.fromkeys(
        path for folder in annotations.folders for path in files.walk(folder)
    ):
        base = os.path.basename(path)
        stem = os.path.splitext(base)[0]
        if not is_image_name(base) or _plain(path) in named:
            continue
        if stem not in stems and base not in named_by_faults:
            found.append(Fault(path, 0, "no annotation names it", "orphan_image", ImageRef(path)))
    return found


def _named_by_faults(faults: Iterable[Fault]) -> tuple[set[str], set[str]]:
    """Stems of files at fault and names in reasons: such images are reported already."""
    stems: set[str] = set()
    names: set[str] = set()
    for fault in faults:
        stems.add(os.path.splitext(os.path.basename(fault.file))[0])
        for quoted in _QUOTED.finditer(fault.reason):
            text = next(group for group in quoted.groups() if group is not None)
            names.add(os.path.basename(text.strip(".,;:()")))
    return stems, names


def _one_image(one: Annotated, facts: ImageFacts) -> list[Fault]:
    def finding(kind: str, reason: str) -> Fault:
        return Fault(one.file, one.row, f"{one.name} {reason}", kind, one.image)

    if facts.trouble or facts.header is None:
        return [finding(facts.trouble, facts.reason)]
    header = facts.header
    found = []
    ending = os.path.splitext(one.image.path)[1].lower()
    if is_image_name(ending) and ending not in ENDINGS[header.format]:
        found.append(finding("wrong_ending", f"holds {header.format}, not {ending[1:]}"))
    found += [finding(kind, reason) for kind, reason in _unusual(header)]
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
    one: Annotated, facts: ImageFacts, boxes_on: str | None, units: str
) -> Sequence[Fault]:
    """Whether the annotated size is that of the picture; absent or zero ones say nothing."""
    if one.size is None or not all(one.size) or facts.header is None:
        return []
    size = picture_size(facts.header, boxes_on or "stored")
    if one.size == size:
        return []
    given, real = ("{} x {} px".format(*pair) for pair in (one.size, size))
    other = "stored" if boxes_on == "upright" else "upright"
    if picture_size(facts.header, other) == one.size:
        if boxes_on is None:
            return []
        reason = (
            f"{one.name} is {real} as {boxes_on} but {given} in the annotation, which is its size "
            f"as {other}; its EXIF orientation is {facts.header.orientation}"
        )
        return [Fault(one.file, one.row, reason, "exif_conflict", one.image)]
    reason = f"{one.name} is {real} but {given} in the annotation"
    kind = "size_mismatch" if units == "pixel" else "size_mismatch_fractions"
    if one.size == size[::-1] and units == "pixel":
        fits = one.box[2] <= size[0] + TOLERANCE_PX and one.box[3] <= size[1] + TOLERANCE_PX
        kind = "size_swapped" if fits else kind
        reason += ": its sides are swapped" + ("; the box fits the picture" if fits else _TURNED)
    return [Fault(one.file, one.row, reason, kind, one.image)]


def _plain(path: str) -> str:
    return path if files.is_remote(path) else os.path.abspath(path)
