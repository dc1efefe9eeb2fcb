"""Which objects cannot be trained on: those at fault, and those of images in a second place."""

from collections import defaultdict

from loc_keras.data.annotations import Fault, ImageRef, Split
from loc_keras.data.check.objects import CheckedObject
from loc_keras.data.check.run import CheckResult

HELD_OUT_FIRST: tuple[Split, ...] = ("test", "val", "train")
"""Of an image in two splits the one kept: figures on held-out images stay comparable."""

_TOLD_BY_IMAGE = frozenset({"duplicate_across_splits", "duplicate_conflict"})


def refused_objects(result: CheckResult) -> list[Fault]:
    """The errors of a check, by the rows that training stops at or leaves out.

    Where an image stands in two splits those are its rows in the one that is not kept; where
    identical images have different classes, all of theirs.
    """
    found = [
        Fault(finding.file, finding.row, finding.message, finding.kind)
        for finding in result.findings
        if finding.severity == "error" and finding.kind not in _TOLD_BY_IMAGE
    ]
    lost = lost_images(result)
    for thing in result.objects:
        reason = lost.get((thing.split, thing.one.image))
        if reason is not None:
            words = f"image {thing.one.name}: {reason}"
            found.append(Fault(thing.one.file, thing.one.row, words, "duplicate"))
    return found


def lost_images(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Images that are not kept because of their duplicates, with the reason."""
    return _conflicting(result) | _in_other_splits(result)


def _groups(result: CheckResult) -> list[list[CheckedObject]]:
    """Objects on images of the same bytes, one list for each image that can be used."""
    groups: dict[int, list[CheckedObject]] = defaultdict(list)
    for thing in result.objects:
        if thing.one.image in result.identical:
            groups[result.identical[thing.one.image]].append(thing)
    return list(groups.values())


def _conflicting(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Identical images whose classes differ: which is right cannot be known."""
    lost: dict[tuple[Split, ImageRef], str] = {}
    for group in _groups(result):
        labels: dict[ImageRef, set[str]] = defaultdict(set)
        for thing in group:
            labels[thing.one.image].add(thing.one.label)
        if len(set(map(frozenset, labels.values()))) > 1:
            reason = "identical images have different classes"
            lost |= {(thing.split, thing.one.image): reason for thing in group}
    return lost


def _in_other_splits(result: CheckResult) -> dict[tuple[Split, ImageRef], str]:
    """Images that stand, with the same bytes, in a split that goes before theirs."""
    lost: dict[tuple[Split, ImageRef], str] = {}
    for group in _groups(result):
        splits = {thing.split for thing in group}
        keeper = next(split for split in HELD_OUT_FIRST if split in splits)
        for thing in group:
            if thing.split != keeper:
                reason = f"the identical image stands in {keeper}, too"
                lost[thing.split, thing.one.image] = reason
    return lost
