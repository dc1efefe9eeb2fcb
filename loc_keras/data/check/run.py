"""The check as a whole: everything that can be found about a data set."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from loc_keras.data.annotations import SPLITS, Annotated, Annotations, Fault, ImageRef, Split
from loc_keras.data.check.boxes import CheckedObject, box_findings, checked_objects
from loc_keras.data.check.images import ImageFacts, image_findings, inspect_images, orphan_findings
from loc_keras.data.check.labels import (
    HELD_OUT_FIRST,
    class_findings,
    class_meant,
    duplicate_findings,
    identical_images,
    known_classes,
)
from loc_keras.data.faults import Finding, Severity, count_by_severity, from_fault
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


_TOLD_BY_IMAGE = frozenset({"duplicate_across_splits", "duplicate_conflict", "group_across_splits"})

_Place = tuple[str, int, ImageRef | None]


def refused_objects(result: CheckResult) -> list[Fault]:
    """The errors of a check, by the rows that training stops at or leaves out.

    Every object of `lost_images` has one fault, of the kind `"duplicate"`; of all others each has
    at most one, of the first error that was found about it.

    Returns:
        Errors that are about no object, as those of readers; then those of objects.
    """
    errors: dict[_Place, deque[Finding]] = defaultdict(deque)
    for finding in result.findings:
        if finding.severity == "error" and finding.kind not in _TOLD_BY_IMAGE:
            errors[finding.file, finding.row, finding.image].append(finding)
    lost = lost_images(result)
    found = [_fault_of(thing, result, lost, errors) for thing in result.objects]
    objects = {_place(thing.one) for thing in result.objects}
    others = [one for place, several in errors.items() if place not in objects for one in several]
    return [*map(_as_fault, others), *(fault for fault in found if fault is not None)]


def lost_images(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Images that are not kept because of their duplicates or their group, with the reason.

    Where an image, or a group, stands in two splits those are its images in the one that is not
    kept; where identical images have different classes, all of them.
    """
    return _conflicting(result) | _of_parted_groups(result) | _in_other_splits(result)


def _fault_of(
    thing: CheckedObject,
    result: CheckResult,
    lost: Mapping[tuple[Split, ImageRef], str],
    errors: Mapping[_Place, deque[Finding]],
) -> Fault | None:
    """The one fault of an object; takes the finding that it is from off `errors`."""
    one = thing.one
    reason = lost.get((thing.split, one.image))
    if reason is not None:
        return Fault(one.file, one.row, f"image {one.name}: {reason}", "duplicate")
    facts = result.images[one.image]
    if facts.trouble:
        # Found once an image, at its first object; it keeps the others from use as well.
        return Fault(one.file, one.row, f"{one.name} {facts.reason}", facts.trouble)
    mine = errors.get(_place(one))
    return _as_fault(mine.popleft()) if mine else None


def _place(one: Annotated) -> _Place:
    return one.file, one.row, one.image


def _as_fault(finding: Finding) -> Fault:
    return Fault(finding.file, finding.row, finding.message, finding.kind)


def _identical(result: CheckResult) -> list[list[CheckedObject]]:
    """Objects on images of the same bytes, one list for each such image."""
    groups: dict[int, list[CheckedObject]] = defaultdict(list)
    for thing in result.objects:
        groups[result.identical[thing.one.image]].append(thing)
    return list(groups.values())


def _conflicting(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Identical images whose classes differ: which is right cannot be known."""
    meant = class_meant(result.class_names)
    lost: dict[tuple[Split, ImageRef], str] = {}
    for group in _identical(result):
        classes: dict[ImageRef, set[Hashable]] = defaultdict(set)
        for thing in group:
            classes[thing.one.image].add(meant(thing.one.label))
        if len(set(map(frozenset, classes.values()))) > 1:
            reason = "identical images have different classes"
            lost |= {(thing.split, thing.one.image): reason for thing in group}
    return lost


def _of_parted_groups(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Images whose group stands in a split that goes before theirs, too."""
    groups: dict[str, list[CheckedObject]] = defaultdict(list)
    for thing in result.objects:
        if thing.one.group:
            groups[thing.one.group].append(thing)
    lost: dict[tuple[Split, ImageRef], str] = {}
    for name, group in groups.items():
        keeper = _keeper(group)
        reason = f"its group {name!r} stands in {keeper}, too"
        lost |= {(thing.split, thing.one.image): reason for thing in group if thing.split != keeper}
    return lost


def _in_other_splits(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Images that stand, with the same bytes, in a split that goes before theirs."""
    lost: dict[tuple[Split, ImageRef], str] = {}
    for group in _identical(result):
        keeper = _keeper(group)
        reason = f"the identical image stands in {keeper}, too"
        lost |= {(thing.split, thing.one.image): reason for thing in group if thing.split != keeper}
    return lost


def _keeper(group: list[CheckedObject]) -> Split:
    splits = {thing.split for thing in group}
    return next(split for split in HELD_OUT_FIRST if split in splits)
