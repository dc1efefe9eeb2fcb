"""The check as a whole: everything that can be found about a data set."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loc_keras.data.annotations import SPLITS, Annotations, Fault, ImageRef, Split
from loc_keras.data.check.boxes import box_findings
from loc_keras.data.check.catalogue import Finding, Severity, count_by_severity, from_fault
from loc_keras.data.check.classes import class_findings, known_classes
from loc_keras.data.check.coverage import image_findings, orphan_findings
from loc_keras.data.check.duplicates import duplicate_findings, identical_images
from loc_keras.data.check.images import ImageFacts, inspect_images
from loc_keras.data.check.objects import CheckedObject, checked_objects
from loc_keras.data.resolve import ResolveRules

_ABOUT_SIZE = frozenset({"exif_turned", "exif_conflict", "size_mismatch"})


@dataclass(frozen=True, eq=False)
class CheckResult:
    """What a check found.

    Attributes:
        findings: Everything found, in the order of files and rows.
        objects: All objects with their boxes.
        images: What is known of each image.
        identical: For each image a number that those of the same bytes share; one that cannot be
            used has its own.
        class_names: Classes by index, as training would have them.
        named: Whether they were given, by the config or the data set.
        splits: Splits that the data set gives.
        decoded: Whether every image was decoded.
        rules: How annotations were understood.
        faults: What the reader could not read, as it told; findings, too.
    """

    findings: list[Finding]
    objects: list[CheckedObject]
    images: dict[ImageRef, ImageFacts]
    identical: dict[ImageRef, int]
    class_names: list[str]
    named: bool
    splits: list[Split]
    decoded: bool
    rules: ResolveRules
    faults: list[Fault]

    @property
    def counts(self) -> dict[Severity, int]:
        """Number of errors, warnings and notes."""
        return count_by_severity(self.findings)


def check_data(
    annotations: Annotations,
    rules: ResolveRules,
    *,
    near: bool = True,
    progress: Callable[[int], None] | None = None,
) -> CheckResult:
    """Checks a data set, decoding every image.

    Memory holds as many decoded images as there are cores (at most eight) and a few hundred bytes
    for each other one.

    Args:
        annotations: As read.
        rules: How training understands them.
        near: Whether to seek almost identical images, too.
        progress: Called with the number of images that were finished since the last call.
    """
    images = inspect_images(_refs(annotations), decode=True, near=near, progress=progress)
    return _result(annotations, rules, images, near=near, decoded=True)


def quick_check(
    annotations: Annotations,
    rules: ResolveRules,
    *,
    progress: Callable[[int], None] | None = None,
) -> CheckResult:
    """Checks a data set without decoding pixels: annotations, headers, boxes, classes, bytes.

    Args:
        annotations: As read.
        rules: How training understands them.
        progress: Called with the number of images that were finished since the last call.
    """
    refs = _refs(annotations)
    images = inspect_images(refs, decode=False, progress=progress)
    return _result(annotations, rules, images, near=False, decoded=False)


def _result(
    annotations: Annotations,
    rules: ResolveRules,
    images: dict[ImageRef, ImageFacts],
    *,
    near: bool,
    decoded: bool,
) -> CheckResult:
    objects = checked_objects(
        annotations, images, inclusive_pixels=rules.inclusive_pixels, boxes_on=rules.boxes_on
    )
    splits = [split for split in SPLITS if annotations.objects.get(split)]
    given = rules.class_names or annotations.class_names
    identical = identical_images(images)
    class_names = known_classes(objects, given, rules.background)
    boxes = {thing.one.image: thing.box for thing in reversed(objects)}
    of_images = [
        # Whether the box fits shows how a picture was looked at when it was labelled.
        one._replace(box=boxes.get(one.image)) if one.kind in _ABOUT_SIZE and one.image else one
        for one in image_findings(annotations, images, boxes_on=rules.boxes_on)
    ]
    findings = [
        *map(from_fault, annotations.faults),
        *of_images,
        *orphan_findings(annotations),
        *box_findings(objects),
        *class_findings(objects, given, splits, rules.background),
        *_several(objects, rules.several),
        *duplicate_findings(objects, images, identical, class_names=class_names, near=near),
    ]
    return CheckResult(
        in_order(findings),
        objects,
        images,
        identical,
        class_names,
        bool(given),
        splits,
        decoded,
        rules,
        annotations.faults,
    )


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """By annotation file, in the order in which files are first met, then by row."""
    place = {file: number for number, file in enumerate(dict.fromkeys(f.file for f in findings))}
    place[""] = len(place)  # What concerns the data set as a whole comes last.
    return sorted(findings, key=lambda finding: (place[finding.file], finding.row))


def _refs(annotations: Annotations) -> list[ImageRef]:
    return list(dict.fromkeys(one.image for _, one in annotations.all_objects()))


_POLICY_WORDS: Mapping[str, str] = {
    "skip": "the image is left out",
    "largest": "the largest one is used",
    "first": "the first one is used",
    "crop": "each one is cut out as a picture of its own",
}


def _several(objects: Sequence[CheckedObject], policy: str) -> list[Finding]:
    # An object that is written twice counts once, as in training.
    distinct = {(one.image, one.label, one.box) for _, one, *_ in objects}
    counts = Counter(image for image, *_ in distinct)
    found = []
    seen: set[ImageRef] = set()
    for thing in objects:
        one = thing.one
        if counts[one.image] > 1 and one.image not in seen:
            seen.add(one.image)
            words = (
                f"{one.name} has {counts[one.image]} boxes; {_POLICY_WORDS[policy]} "
                f"(several: {policy})"
            )
            found.append(Finding("several_boxes", one.file, one.row, words, one.image, thing.box))
    return found
