"""Seeded stratified splits: disjoint index sets with every class in proportion."""

import math

import numpy as np

from loc_keras.errors import DataError

_LEAST_TO_CUT = 2  # One image for the part and one that is left for training.


def stratified_split(
    labels: np.ndarray,
    fractions: dict[str, float],
    seed: int,
    *,
    min_per_class: int = 1,
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
            train must hold as many, and at least one.

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
        if fraction > 0:
            _check_classes(classes, counts, taken, min_per_class, name)
        parts[name] = [remaining[c][:n] for c, n in zip(classes, taken, strict=True)]
        remaining = {c: remaining[c][n:] for c, n in zip(classes, taken, strict=True)}
    left = np.array([len(remaining[c]) for c in classes])
    _check_classes(classes, counts, left, max(min_per_class, 1), "train")
    ordered = {"train": list(remaining.values()), **parts}
    return {name: rng.permutation(_join(pieces)) for name, pieces in ordered.items()}


def grouped_split(
    labels: np.ndarray, groups: np.ndarray, fractions: dict[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Cuts parts off a labelled set so that no group stands in two of them.

    Without groups of several items this is `stratified_split`. Otherwise groups go, the largest
    first and equal ones in a seeded order, to the part that still lacks most items of their
    classes (after the iterative stratification of Sechidis, Tsoumakas and Vlahavas, 2011).

    Args:
        labels: int (N,), class index of each item.
        groups: int (N,), items of one number stay together.
        fractions: As for `stratified_split`.
        seed: Any integer; the same seed gives the same parts.

    Returns:
        Part name, with `"train"` first, to its int64 indices in a seeded random order.

    Raises:
        DataError: If a fraction is out of range.
    """
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) == len(labels):
        return stratified_split(labels, fractions, seed, min_per_class=0)
    _check_fractions(fractions)
    rng = np.random.default_rng([seed, len(labels)])
    _, classes = np.unique(labels, return_inverse=True)
    members = np.zeros((len(names), classes.max() + 1))
    np.add.at(members, (inverse, classes), 1)
    shares = {"train": 1 - sum(fractions.values()), **fractions}
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    part_of = _assign(members[order], np.array(list(shares.values())))
    part_of_group = np.empty(len(names), np.int64)
    part_of_group[order] = part_of
    return {
        name: rng.permutation(np.flatnonzero(part_of_group[inverse] == part))
        for part, name in enumerate(shares)
    }


def _assign(members: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Part of each group, given its items by class (G, K) and the parts' shares (P,)."""
    wanted = shares[:, np.newaxis] * members.sum(axis=0)
    part_of = np.empty(len(members), np.int64)
    for group, items in enumerate(members):
        # What a part lacks in the group's classes, and, between equals, as a whole. A part of
        # share 0 never lacks anything.
        lack = np.where(shares > 0, wanted @ items + 1e-6 * wanted.sum(axis=1), -np.inf)
        part = int(lack.argmax())
        part_of[group] = part
        wanted[part] -= items
    return part_of


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


def _join(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *pieces])
