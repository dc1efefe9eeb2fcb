"""Images that are identical byte for byte, and groupings that are joined."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from loc_keras.data.annotations import WHOLE_FILE, ImageRef
from loc_keras.data.files import file_size, for_each, read_bytes


def identical_groups(refs: Sequence[ImageRef]) -> np.ndarray:
    """The index of the first image with the same bytes, int64 (N,), of images that can be read.

    Only images of equal length are read, since others cannot be equal.
    """
    by_length: dict[int, list[ImageRef]] = defaultdict(list)
    for ref in dict.fromkeys(refs):
        length = file_size(ref.path) if ref.length == WHOLE_FILE else ref.length
        by_length[length].append(ref)
    doubtful = [ref for same in by_length.values() if len(same) > 1 for ref in same]
    digests = dict(zip(doubtful, for_each(_digest, doubtful), strict=True))
    return first_of([digests.get(ref, ref) for ref in refs])


def merged_groups(*columns: Iterable[Hashable]) -> np.ndarray:
    """Joins groupings: rows that share a value in any column of N values share a number.

    It is the index of the group's first row, int64 (N,). None joins nothing.
    """
    rows = list(zip(*columns, strict=True))
    first: dict[tuple[int, Hashable], int] = {}
    pairs = [
        (row, first.setdefault((column, value), row))
        for row, values in enumerate(rows)
        for column, value in enumerate(values)
        if value is not None
    ]
    return first_of(components(len(rows), pairs))


def _digest(ref: ImageRef) -> bytes:
    return hashlib.sha256(read_bytes(*ref)).digest()


def components(nodes: int, pairs: npt.ArrayLike) -> list[int]:
    """The connected component of each node, given the pairs that are connected."""
    ends = np.asarray(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1], bool), tuple(ends)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1].tolist()


def first_of(keys: Sequence[Hashable]) -> np.ndarray:
    """Row of the first equal key for each of N keys, int64 (N,)."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)
