"""The check as a whole: everything that can be found about a data set."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import (
    SPLITS,
    Annotated,
    Annotations,
    Fault,
    ImageRef,
    Split,
    count_by_severity,
    known_classes,
)
from loc_keras.data.box_view import settle_view
from loc_keras.data.check.boxes import box_findings, units_findings
from loc_keras.data.check.images import ImageFacts, image_findings, inspect_images, orphan_findings
from loc_keras.data.check.labels import (
    HELD_OUT_FIRST,
    class_findings,
    class_meant,
    crosses_splits,
    duplicate_findings,
    identical_images,
)
from loc_keras.data.fault_kinds import Severity
from loc_keras.data.resolve import CheckedObject, CheckedObjects, checked_objects

_ABOUT_SIZE = frozenset({"exif_turned", "exif_conflict", "size_mismatch"})


@dataclass(frozen=True, eq=False)
class CheckResult:
    """What a check found, in the order of files and rows.

    Attributes:
        identical: For each image a number that those of the same bytes share; one that cannot be
            used has its own.
        class_names: Classes by index, as training would have them.
        named: Whether they were given, by the config or the data set.
        splits: Splits that the data set gives.
        annotations: What was checked; what its reader could not read is among the findings.
        source: How annotations were understood; its `boxes_on` is None where nothing decides it.
    """

    findings: list[Fault]
    objects: CheckedObjects
    images: dict[ImageRef, ImageFacts]
    identical: dict[ImageRef, int]
    class_names: list[str]
    named: bool
    splits: list[Split]
    decoded: bool
    annotations: Annotations
    source: SourceConfig

    @property
    def counts(self) -> dict[Severity, int]:
        """Number of errors, warnings and notes."""
        return count_by_severity(self.findings)


def check_data(
    annotations: Annotations,
    source: SourceConfig,
    *,
    decode: bool = True,
    near: bool = True,
    progress: Callable[[int], None] | None = None,
) -> CheckResult:
    """Checks a data set: annotations, headers, boxes, classes, bytes, and perhaps pixels.

    Memory holds as many decoded images as there are cores (at most eight) and some 2 kB for each
    image. `near` asks for near duplicates among decoded images; `progress` is called
    with the number of images that were finished since the last call.
    """
    refs = annotations.joined.images
    images, thumbnails = inspect_images(refs, decode=decode, near=near, progress=progress)
    headers = {image: facts.opened for image, facts in images.items()}
    annotations, source, of_views = settle_view(annotations, headers, source)
    objects = checked_objects(annotations, headers, source)
    splits = [split for split in SPLITS if annotations.objects.get(split)]
    given = source.class_names or annotations.class_names
    train = annotations.objects.get("train")
    class_names = known_classes(given, train.labels if train else (), source.background)
    identical = identical_images(images)
    first = objects.objects.first
    of_images = [
        # Whether the box fits shows how a picture was looked at when it was labelled.
        one._replace(box=objects[int(first[refs[one.image]])].box)
        if one.kind in _ABOUT_SIZE and one.image
        else one
        for one in image_findings(annotations, images, boxes_on=source.boxes_on)
    ]
    findings = [
        *annotations.faults,
        *of_views,
        *of_images,
        *orphan_findings(annotations),
        *units_findings(objects, source),
        *box_findings(objects),
        *class_findings(objects, given, splits, source.background),
        *_multi_object_findings(objects, source.several),
        *duplicate_findings(objects, identical, thumbnails, class_names=class_names),
    ]
    # By annotation file, in the order in which files are first met, then by row; what concerns
    # the data set as a whole comes last.
    place = {file: number for number, file in enumerate(dict.fromkeys(f.file for f in findings))}
    place[""] = len(place)
    findings.sort(key=lambda finding: (place[finding.file], finding.row))
    facts = (images, identical, class_names, bool(given), splits, decode)
    return CheckResult(findings, objects, *facts, annotations, source)


quick_check = partial(check_data, decode=False)  # `check_data` without decoding pixels.
_POLICY_WORDS: Mapping[str, str] = {
    "skip": "the image is left out",
    "largest": "the largest one is used",
    "first": "the first one is used",
    "crop": "each one is cut out as a picture of its own",
}


def _multi_object_findings(objects: CheckedObjects, policy: str) -> list[Fault]:
    # An object that is written twice counts once, as in training.
    counts = objects.objects.distinct()
    some = objects.take(objects.objects.first[counts > 1])
    found = []
    for item, count in zip(some, counts[counts > 1].tolist(), strict=True):
        one = item.annotated
        reason = f"{one.name} has {count} boxes; {_POLICY_WORDS[policy]} (several: {policy})"
        found.append(Fault(one.file, one.row, reason, "several_boxes", one.image, item.box))
    return found


_OF_LOST_IMAGES = frozenset(
    {"duplicate_across_splits", "duplicate_conflict", "group_across_splits"}
)

_Place = tuple[str, int, ImageRef | None]


def refused_objects(result: CheckResult) -> list[Fault]:
    """The errors of a check, by the rows that training stops at or leaves out.

    Every object of `lost_images` has one fault, of the kind `"duplicate"`; of all others each has
    at most one, of the first error that was found about it.

    Returns:
        Errors that are about no object, as those of readers; then those of objects.
    """
    errors: dict[_Place, deque[Fault]] = defaultdict(deque)
    for finding in result.findings:
        if finding.severity == "error" and finding.kind not in _OF_LOST_IMAGES:
            errors[finding.file, finding.row, finding.image].append(finding)
    lost = lost_images(result)
    images = {image for *_, image in errors} | {image for _, image in lost}
    images |= {image for image, facts in result.images.items() if facts.trouble}
    columns = result.objects.objects
    mine = np.array([image in images for image in columns.images], bool)[columns.image]
    concerned = list(result.objects.take(mine))
    found = [_fault_of(item, result, lost, errors) for item in concerned]
    objects = {_place(item.annotated) for item in concerned}
    others = [one for place, several in errors.items() if place not in objects for one in several]
    return [*others, *(fault for fault in found if fault is not None)]


def lost_images(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Images that are not kept because of their duplicates or their group, with the reason.

    Where an image, or a group, stands in two splits those are its images in the one that is not
    kept; where identical images have different classes, all of them.
    """
    identical: dict[int, list[CheckedObject]] = defaultdict(list)
    groups: dict[str, list[CheckedObject]] = defaultdict(list)
    columns = result.objects.objects
    numbers = [result.identical[image] for image in columns.images]
    alike = {number for number, count in Counter(numbers).items() if count > 1}
    alike |= {numbers[place] for place in columns.image[crosses_splits(result.objects)].tolist()}
    several = np.array([number in alike for number in numbers], bool)[columns.image]
    several |= columns.of_subjects([bool(one.group) for one in columns.subjects], np.bool_)
    for item in result.objects.take(several):
        identical[result.identical[item.annotated.image]].append(item)
        if item.annotated.group:
            groups[item.annotated.group].append(item)
    return (
        _conflicting(identical.values(), class_meant(result.class_names))
        | _not_kept(groups, "its group {name!r} stands in {kept}, too")
        | _not_kept(identical, "the identical image stands in {kept}, too")
    )


def _conflicting(
    groups: Iterable[list[CheckedObject]], meant: Callable[[str], Hashable]
) -> dict[tuple[Split, ImageRef], str]:
    """Identical images whose classes differ: which is right cannot be known."""
    lost: dict[tuple[Split, ImageRef], str] = {}
    for group in groups:
        classes: dict[ImageRef, set[Hashable]] = defaultdict(set)
        for item in group:
            classes[item.annotated.image].add(meant(item.annotated.label))
        if len(set(map(frozenset, classes.values()))) > 1:
            reason = "identical images have different classes"
            lost |= {(item.split, item.annotated.image): reason for item in group}
    return lost


def _not_kept(
    groups: Mapping[Any, list[CheckedObject]], reason: str
) -> dict[tuple[Split, ImageRef], str]:
    """Images of groups in several splits, but for those in the split that goes first."""
    lost: dict[tuple[Split, ImageRef], str] = {}
    for name, group in groups.items():
        splits = {item.split for item in group}
        kept = next(split for split in HELD_OUT_FIRST if split in splits)
        why = reason.format(name=name, kept=kept)
        lost |= {(item.split, item.annotated.image): why for item in group if item.split != kept}
    return lost


def _fault_of(
    item: CheckedObject,
    result: CheckResult,
    lost: Mapping[tuple[Split, ImageRef], str],
    errors: Mapping[_Place, deque[Fault]],
) -> Fault | None:
    """The one fault of an object; takes the finding that it is from off `errors`."""
    one = item.annotated
    reason = lost.get((item.split, one.image))
    if reason is not None:
        return Fault(one.file, one.row, f"image {one.name}: {reason}", "duplicate")
    facts = result.images[one.image]
    if facts.trouble:
        # Found once an image, at its first object; it keeps the others from use as well.
        return Fault(one.file, one.row, f"{one.name} {facts.reason}", facts.trouble)
    mine = errors.get(_place(one))
    return mine.popleft() if mine else None


def _place(one: Annotated) -> _Place:
    return one.file, one.row, one.image
