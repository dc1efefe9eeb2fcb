"""Which objects cannot be trained on: those at fault, and those of images in a second place."""

from collections import defaultdict, deque
from collections.abc import Hashable, Mapping

from loc_keras.data.annotations import Annotated, Fault, ImageRef, Split
from loc_keras.data.check.catalogue import Finding
from loc_keras.data.check.classes import class_meant
from loc_keras.data.check.duplicates import HELD_OUT_FIRST
from loc_keras.data.check.objects import CheckedObject
from loc_keras.data.check.run import CheckResult

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
