"""From a checked data set to the records of its splits, of which missing ones are cut off."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from loc_keras.config.data import SplitConfig
from loc_keras.data.annotations import ALL_SPLITS, CALIBRATION, SPLITS, Fault, ImageRef, Split
from loc_keras.data.check.run import CheckResult, lost_images, refused_objects
from loc_keras.data.duplicates import (
    LARGEST_SHARE,
    LEAST_AGREEMENT,
    MOST_COMPARED,
    identical_groups,
    merged_groups,
    near_groups,
    near_pairs,
)
from loc_keras.data.fault_kinds import OF_THE_WHOLE_SET
from loc_keras.data.resolve import Cut, DatasetRecords, Records, image_refs, resolve
from loc_keras.errors import DataError

_NO_PART = -1
_LEAST_TO_CUT = 2  # One image for the part and one that is left for training.
_SHOWN = 5

WHOLE_IMAGE_KINDS = frozenset({"size_mismatch", "exif_conflict"})
"""Kinds of errors that concern all objects of an image."""


Looks: TypeAlias = Callable[[DatasetRecords], npt.NDArray[np.uint8]]
"""Gives the thumbnails of the training records, uint8 (N, SIDE, SIDE); zeros for broken ones."""


def load_records(
    checked: CheckResult,
    split: SplitConfig,
    *,
    seed: int = 0,
    on_error: str = "stop",
    looks: Looks | None = None,
) -> DatasetRecords:
    """Resolves a checked data set and cuts the missing splits off the training records.

    With `"skip"` for `on_error` what is wrong is left out. `looks` is asked, and needed, where
    something is cut off and near duplicates stay together.

    Raises:
        DataError: If what is wrong concerns every object, there are errors and `on_error` is
            `"stop"`, or no record, or none with an object, is left for training or validation.
    """
    for finding in checked.findings:
        if finding.kind in OF_THE_WHOLE_SET:
            raise DataError(f"{finding.reason}.")
    found = _without_refused(
        resolve(checked.annotations, checked.source, checked.objects),
        refused_objects(checked),
        lost_images(checked),
    )
    if found.errors and on_error == "stop":
        raise faults_error(found.errors)
    given = [name for name in SPLITS if name in checked.annotations.objects]
    if "train" not in found.splits:
        raise DataError(_nothing_left("training", found.faults))
    if "val" in given and "val" not in found.splits:
        raise DataError(_nothing_left("validation", found.faults))
    if "test" in given and "test" not in found.splits:
        # It is not cut off the training images instead: the figures would mean something else.
        found = replace(found, notes=[*found.notes, _nothing_left("testing", found.faults)])
    filled = _fill_splits(found, split, seed, given, checked.identical, looks)
    # Without an object no box could be learned, or no model be chosen.
    uses: dict[Split, str] = {"train": "training", "val": "validation"}
    for name, use in uses.items():
        part = filled.splits.get(name)
        if part is not None and part.empty.all():
            raise DataError(
                f"all {len(part)} images for {use} are without an object, but at least 1 must show "
                "one; add images with objects, or change data.split."
            )
    return filled


def _fill_splits(
    found: DatasetRecords,
    split: SplitConfig,
    seed: int,
    given: Sequence[str],
    identical: Mapping[ImageRef, int],
    looks: Looks | None,
) -> DatasetRecords:
    """Cuts the splits that are not given off the training records."""
    wanted: dict[str, float] = {"val": split.val, "test": split.test}
    fractions = {name: part for name, part in wanted.items() if name not in given}
    if split.calibration:
        fractions[CALIBRATION] = split.calibration
    if not any(fractions.values()):
        return found
    train = found.splits["train"]
    thumbnails = None if looks is None else partial(looks, found)
    groups, apart, said = _groups(train, split.together, identical, thumbnails)
    parts = grouped_split(train.labels, groups, fractions, seed)
    emptied = {
        name: empty_part(name, fraction, len(train))
        for name, fraction in fractions.items()
        if fraction > 0 and not len(parts[name])
    }
    # Without validation no model can be chosen, and a calibration that was asked for is promised;
    # without a test split only a figure is missing.
    for name in ("val", CALIBRATION):
        if name in emptied:
            raise DataError(emptied[name])
    if not len(parts["train"]):
        raise DataError(
            "all images belong together (data.split.together), so that none is left for training; "
            "name the splits in the data, or set data.split.together to none."
        )
    names = ", ".join(name for name in fractions if len(parts[name]))
    names = " and ".join(names.rsplit(", ", 1))
    notes = [f"Images for {names} were cut off the training images."] if names else []
    rows = {name: parts[name] for name in ALL_SPLITS if len(parts.get(name, ()))}
    cut = Cut(train, rows, {name: train.take(rows[name]) for name in rows}, apart)
    return replace(
        found,
        splits={**found.splits, **cut.parts},
        notes=[*notes, *said, *emptied.values(), *found.notes],
        cut=cut,
    )


def _groups(
    train: Records,
    together: str,
    identical: Mapping[ImageRef, int],
    thumbnails: Callable[[], npt.NDArray[np.uint8]] | None,
) -> tuple[npt.NDArray[np.int64], bool, list[str]]:
    """Which records stay together, whether that goes for near duplicates, and what is said."""
    refs = image_refs(train)
    columns: list[Sequence[object]] = [refs, [group or None for group in train.groups.tolist()]]
    if together != "none":
        columns.append([identical[ref] for ref in refs])
    if together != "near":
        return merged_groups(*columns), False, []
    if thumbnails is None:
        raise ValueError("near duplicates are told by thumbnails, and none are given")
    alike, said = _near_groups(len(train), thumbnails)
    if alike is None:
        return merged_groups(*columns), False, said
    return merged_groups(*columns, alike.tolist()), True, said


def _near_groups(
    count: int, thumbnails: Callable[[], npt.NDArray[np.uint8]]
) -> tuple[npt.NDArray[np.int64] | None, list[str]]:
    """Groups of near duplicates, int64 (N,), None of too many images; and what is said of them."""
    if count * count > 2 * MOST_COMPARED:
        return None, [
            f"{count:,} images are too many to look for near duplicates among them, so that those "
            "may stand on both sides of the cut."
        ]
    groups, least = near_groups(count, near_pairs(thumbnails()))
    sizes = np.bincount(groups)
    several = sizes[sizes > 1]
    if least > LEAST_AGREEMENT:
        kept = f"only those that agree by {least:g} stand" if np.isfinite(least) else "none stand"
        return groups, [
            f"more than {LARGEST_SHARE:.0%} of the images look nearly alike, as from a camera that "
            f"never moves, so that they cannot all be kept together: {kept} on one side of the cut."
        ]
    if not len(several):
        return groups, []
    noun = "group" if len(several) == 1 else "groups"
    return groups, [
        f"{several.sum():,} images form {len(several):,} {noun} of near duplicates, the largest of "
        f"{several.max():,}; each stands on one side of the cut (data.split.together)."
    ]


def _without_refused(
    found: DatasetRecords, refused: Sequence[Fault], lost: Mapping[tuple[Split, ImageRef], str]
) -> DatasetRecords:
    """Leaves out records whose image cannot be used, with one fault for each."""
    of_images = {
        (fault.file, fault.row): fault for fault in refused if fault.kind in WHOLE_IMAGE_KINDS
    }
    splits: dict[Split, Records] = {}
    dropped: list[Fault] = []
    for name, part in found.splits.items():
        kept = []
        for index, ref in enumerate(image_refs(part)):
            fault = of_images.get((str(part.files[index]), int(part.rows[index])))
            if (name, ref) in lost:
                reason = f"image {part.names[index]}: {lost[name, ref]}"
                fault = part.fault(index, reason, "duplicate")
            if fault is None:
                kept.append(index)
            else:
                dropped.append(fault)
        if kept:
            splits[name] = part.take(np.array(kept))
    known = {(fault.file, fault.row) for fault in [*found.errors, *dropped]}
    rest = [fault for fault in refused if (fault.file, fault.row) not in known]
    if not dropped and not rest:
        return found
    return replace(found, splits=splits, faults=[*found.faults, *dropped, *rest])


def faults_error(faults: Sequence[Fault]) -> DataError:
    """One message about what cannot be used, the first few of each file."""
    by_file = Counter(fault.file for fault in faults)
    sentences = []
    for file, count in list(by_file.items())[:_SHOWN]:
        mine = [fault for fault in faults if fault.file == file]
        shown = "; ".join(_with_row(fault) for fault in mine[:_SHOWN])
        more = f"; and {count - _SHOWN} more" if count > _SHOWN else ""
        sentences.append(f"{file}: {shown}{more}")
    rest = len(by_file) - _SHOWN
    more_files = f"; and {rest} more files" if rest > 0 else ""
    header = any(fault.kind == "number" and fault.row == 1 for fault in faults)
    hint = "set data.source.csv.header if row 1 names the columns, " if header else ""
    noun = "object" if len(faults) == 1 else "objects"
    return DataError(
        f"{len(faults)} {noun} cannot be used: {'; '.join(sentences)}{more_files}; mend them "
        f"(python -m loc_keras.check lists all and can), {hint}or set data.on_error to skip to "
        "leave them out."
    )


def _with_row(fault: Fault) -> str:
    return f"row {fault.row} {fault.reason}" if fault.row else fault.reason


def _nothing_left(use: str, faults: Sequence[Fault]) -> str:
    kinds: Mapping[str, int] = Counter(fault.kind for fault in faults)
    listed = ", ".join(f"{count} of kind {kind}" for kind, count in kinds.items())
    first = f"; the first is {faults[0].file}: {_with_row(faults[0])}" if faults else ""
    return f"no object is left for {use}: left out were {listed or 'none'}{first}."


def stratified_split(
    labels: np.ndarray, fractions: dict[str, float], seed: int, *, min_per_class: int = 1
) -> dict[str, np.ndarray]:
    """Cuts parts off a labelled set and leaves the rest to `"train"`.

    A part of fraction f holds exactly round(f * N) items; each class gives it the whole part
    of its proportional quota, and the largest remainders (Hamilton's method) get the items
    that are still missing. The parts share no item.

    Args:
        labels: int (N,), class index of each item.
        fractions: Part name to its fraction of N, each in [0, 1), together below 1; a
            fraction of 0 gives an empty part.
        seed: Any integer; the same seed gives the same parts.
        min_per_class: Items of every class that each part of a fraction above 0 must hold;
            train must hold as many, and at least one. With 0 the last item of a class stays in
            train, so that the parts may come out smaller.

    Returns:
        Part name, with `"train"` first, to its int64 indices in a seeded random order.

    Raises:
        DataError: If a fraction is out of range or a class is too small.
    """
    labels = np.asarray(labels)
    _check_fractions(fractions)
    rng = np.random.default_rng([seed, len(labels)])
    classes = np.unique(labels)
    remaining = {c: rng.permutation(np.flatnonzero(labels == c)) for c in classes}
    counts = np.array([len(remaining[c]) for c in classes])
    parts: dict[str, list[np.ndarray]] = {}
    for name, fraction in fractions.items():
        taken = _apportion(counts, fraction)
        if not min_per_class:
            # The last image of a class is needed for training.
            left = np.array([len(remaining[c]) for c in classes])
            taken = np.minimum(taken, np.maximum(left - 1, 0))
        if fraction > 0:
            _check_classes(classes, counts, taken, min_per_class, name)
        parts[name] = [remaining[c][:n] for c, n in zip(classes, taken, strict=True)]
        remaining = {c: remaining[c][n:] for c, n in zip(classes, taken, strict=True)}
    left = np.array([len(remaining[c]) for c in classes])
    _check_classes(classes, counts, left, max(min_per_class, 1), "train")
    ordered = {"train": list(remaining.values()), **parts}
    return {
        name: rng.permutation(np.concatenate([np.empty(0, np.int64), *pieces]))
        for name, pieces in ordered.items()
    }


def grouped_split(
    labels: np.ndarray, groups: np.ndarray, fractions: dict[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Cuts parts off a labelled set so that no group stands in two of them.

    Without groups of several items this is `stratified_split`, whose arguments and parts it has;
    items with one number in `groups`, int (N,), stay together. Groups of several go first, the
    largest before the others and equal ones in a seeded order, each to the part that still lacks
    most items of its classes (after the iterative stratification of Sechidis, Tsoumakas and
    Vlahavas, 2011); single items then fill each part class by class.

    Raises:
        DataError: If a fraction is out of range.
    """
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if counts.max(initial=0) <= 1:
        return stratified_split(labels, fractions, seed, min_per_class=0)
    _check_fractions(fractions)
    rng = np.random.default_rng([seed, len(labels)])
    _, classes = np.unique(labels, return_inverse=True)
    names = ["train", *fractions]
    totals = np.bincount(classes)
    wanted = np.array([_apportion(totals, fraction) for fraction in fractions.values()])
    wanted = np.concatenate([(totals - wanted.sum(axis=0))[np.newaxis], wanted]).astype(float)
    part_of = np.full(len(labels), _NO_PART)
    for items in _groups_of_several(inverse, counts, rng):
        held = np.bincount(classes[items], minlength=len(totals))
        # What a part lacks of the group's classes; between equals, what it lacks as a whole. One
        # that wants nothing gets nothing.
        lack = wanted @ held + 1e-6 * wanted.sum(axis=1)
        part = int(np.where(wanted.max(axis=1) > 0, lack, -np.inf).argmax())
        part_of[items] = part
        wanted[part] -= held
    _place_singles(part_of, classes, wanted, rng)
    return {
        name: rng.permutation(np.flatnonzero(part_of == part)) for part, name in enumerate(names)
    }


def _groups_of_several(
    inverse: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Items of each group of several, the largest groups first, equal ones shuffled."""
    order = rng.permutation(np.flatnonzero(counts > 1))
    order = order[np.argsort(-counts[order], kind="stable")]
    by_group = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    return [by_group[group] for group in order]


def grouped_folds(
    labels: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> list[np.ndarray]:
    """Cuts a labelled set into 2 or more folds of nearly equal size, by `grouped_split`.

    Returns:
        Of each fold its int64 indices, rising; each item is in one fold.

    Raises:
        DataError: If a fold would be empty.
    """
    rest, parts = np.arange(len(labels)), []
    for left in range(folds, 1, -1):
        cut = grouped_split(labels[rest], groups[rest], {"fold": 1 / left}, seed)
        parts.append(np.sort(rest[cut["fold"]]))
        rest = np.sort(rest[cut["train"]])
    parts.append(rest)
    if not all(map(len, parts)) and len(np.unique(groups)) == len(labels) >= folds:
        # A cut leaves the last image of a class; single ones of small classes are dealt out.
        order = np.random.default_rng([seed, len(labels)]).permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        parts = [np.sort(order[fold::folds]) for fold in range(folds)]
    if not all(map(len, parts)):
        raise DataError(
            f"{len(labels)} images cannot be cut into {folds} folds of one image or more that keep "
            "together what belongs together (data.split.together); lower trust.folds."
        )
    return parts


def cut_folds(
    train: Records,
    split: SplitConfig,
    folds: int,
    seed: int,
    thumbnails: Callable[[], npt.NDArray[np.uint8]] | None = None,
) -> list[np.ndarray]:
    """`grouped_folds` of records, with images together as the cut of splits keeps them.

    `thumbnails`, as of `Looks`, are needed where near duplicates stay together.
    """
    refs = image_refs(train)
    identical = dict(zip(refs, identical_groups(refs).tolist(), strict=True))
    groups, _, _ = _groups(train, split.together, identical, thumbnails)
    return grouped_folds(train.labels, groups, folds, seed)


def _place_singles(
    part_of: np.ndarray, classes: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> None:
    """Gives every item without a part one: what the cut parts lack by class, then in all."""
    waiting = [
        rng.permutation(np.flatnonzero((part_of == _NO_PART) & (classes == c))).tolist()
        for c in range(wanted.shape[1])
    ]
    for part in range(1, len(wanted)):
        for c, items in enumerate(waiting):
            for _ in range(min(len(items), max(0, int(wanted[part, c])))):
                part_of[items.pop()] = part
                wanted[part, c] -= 1
        # Groups took more of one class than asked for, or less; the total still fits.
        for _ in range(max(0, int(wanted[part].sum()))):
            richest = max(range(len(waiting)), key=lambda c: len(waiting[c]))
            if waiting[richest]:
                part_of[waiting[richest].pop()] = part
    part_of[part_of == _NO_PART] = 0


def empty_part(name: str, fraction: float, total: int) -> str:
    """Says that a fraction above 0 of `total` items came to none, and how to get one."""
    use = {"val": "validation", "test": "testing"}.get(name, name)
    fault = f"data.split.{name} {fraction:g} of {total} images leaves none for {use}; "
    if total < _LEAST_TO_CUT:
        return fault + "give more images."
    digits = len(str(total)) + 1
    one = math.ceil(10**digits / total) / 10**digits
    return fault + f"raise it ({one:g} gives one image), or give more images."


def _check_fractions(fractions: dict[str, float]) -> None:
    if any(not 0 <= value < 1 for value in fractions.values()) or sum(fractions.values()) >= 1:
        raise DataError(f"split fractions must be in [0, 1) and sum to less than 1: {fractions}.")


def _apportion(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Whole numbers near `counts * fraction` that sum to its rounded total."""
    quotas = counts * fraction
    taken = np.floor(quotas).astype(np.int64)
    missing = round(float(counts.sum() * fraction)) - int(taken.sum())
    # A stable sort gives equal remainders to the lower class, so the result is reproducible.
    taken[np.argsort(taken - quotas, kind="stable")[: max(missing, 0)]] += 1
    return taken


def _check_classes(
    classes: np.ndarray, counts: np.ndarray, taken: np.ndarray, least: int, name: str
) -> None:
    poor = np.flatnonzero(taken < least)
    if poor.size:
        first = poor[0]
        raise DataError(
            f"class {classes[first]} has {counts[first]} images, which leaves {taken[first]} "
            f"for the {name} split, but at least {least} are needed: give more images or change "
            "the split fractions."
        )
