"""Duplicates: images of the same bytes; and near ones: one scene in other bytes, cut, of a burst.

Every picture is known by a grey thumbnail. Two are near duplicates where the details of these, the
differences of neighbouring pixels, agree: each difference counts by its share of those around it,
so that neither a frame nor one strong edge outweighs the rest, and each of nine parts must agree.
Before that the one is laid over the other by a shift and a scale along each axis (after Lucas and
Kanade, 1981, "An iterative image registration technique with an application to stereo vision"),
since a cut of 4 % moves every detail out of its place. Coarse thumbnails tell which pairs are
compared at all, and one step of the alignment, at half the size, which of these may agree.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from loc_keras.data.annotations import WHOLE_FILE, ImageRef
from loc_keras.data.files import file_size, for_each, read_bytes
from loc_keras.data.image_bytes import UPRIGHT_TURNS
from loc_keras.data.resolve import THUMBNAIL_SIDE as SIDE
from loc_keras.data.resolve import UPRIGHT

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

LEAST_AGREEMENT = 0.7
"""Correlation of the details of near duplicates, at least. Copies in other bytes or sizes have .84
and more, copies cut by up to 8 % on each side mostly .75; among 11,000 photographs of 64 px 9 pairs
have it, of which one shows two different pictures."""

LEAST_OF_PART = 0.4
"""Likewise of each of nine parts that has details: pictures of the same frame and ground alone show
different objects."""

STRICTER = (0.8, 0.9, 0.95)
"""Tried in turn where a group would hold more than `LARGEST_SHARE` of the images."""

LARGEST_SHARE = 0.1
"""Part of the images that one group may hold: more look alike for another reason, such as a camera
that never moves."""

MOST_COMPARED = 10**11  # Pairs of coarse thumbnails that are compared, at most; that takes minutes.

_DRAFT_SIDE = 4 * SIDE  # At half of it other pairs are found.
_COARSE = 0.65  # Correlation of coarse thumbnails below which pairs are not looked at.
_COARSE_STEP = SIDE // 8
_PROMISING = 0.55
"""Correlation of the details at half the size, after one step of the alignment, below which pairs
are not aligned: none of 23,477 copies of photographs that are found has less, and 80 % of other
pairs have."""

_MOST_CANDIDATES = 8  # For each picture, the nearest ones.
_NOISE = 4.0  # Differences of grey below which details are mere noise.
_PLAIN = 0.03  # Mean square of details below which there is nothing to be told by.
_PLAIN_PART = 0.2  # Likewise of the squares of both differences, for a part.
_TINY = 1e-9
_MARGIN = 0.1  # Part of each side that an aligned picture may lack.
_REACH = 0.2  # Of shift and scale, in halves of the side.
_STEPS = ((2, 5), (1, 4))  # Reduction of the thumbnails and number of steps of the alignment.
_ROWS, _COLUMNS = 256, 1024  # Pairs that are compared at once.
_MAIN = 0.9  # Part of the squares of all coarse details that lies on the main axes.
_BATCH = 128  # Pictures whose details are held at once.


class NearPairs(NamedTuple):
    """Rows, int64 (P,), of the one and the other picture, and the correlation of their details."""

    first: Rows
    second: Rows
    agreement: Floats

    def take(self, index: npt.NDArray[np.bool_] | Rows) -> "NearPairs":
        """Some of the pairs."""
        return NearPairs(self.first[index], self.second[index], self.agreement[index])


def thumbnail(image: Image.Image, orientation: int = UPRIGHT) -> npt.NDArray[np.uint8]:
    """The grey thumbnail of a stored picture, uint8 (SIDE, SIDE): means over the covered pixels.

    Its EXIF orientation is undone. A JPEG picture that is not decoded yet is decoded for it in grey
    and, where it is large, at a half, a quarter or an eighth of its size.
    """
    image.draft("L", (_DRAFT_SIDE, _DRAFT_SIDE))
    if image.mode != "L":
        # Transparent pixels and palettes have their colours.
        image = image.convert("RGB").convert("L")
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    if orientation in UPRIGHT_TURNS:
        small = small.transpose(UPRIGHT_TURNS[orientation])
    return np.asarray(small)


def near_pairs(
    thumbnails: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8] | None = None
) -> NearPairs:
    """Finds the near duplicates among pictures, uint8 (N, SIDE, SIDE), or in another set of them.

    Plain pictures have none. Memory grows with the number of pictures and of pairs found. Pairs are
    ordered by `first`, then by `second`; in one set `first` is the smaller. For each `first` the 8
    likeliest were compared.
    """
    among = thumbnails if others is None else others
    # Threads of BLAS would wait for its next small product by spinning.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        first, second = _candidates(thumbnails, others, pool)

        def compared(start: int) -> Floats:
            rows = slice(start, start + _BATCH)
            return _agreements(thumbnails[first[rows]], among[second[rows]])

        parts = list(pool.map(compared, range(0, len(first), _BATCH)))
    found = NearPairs(first, second, np.concatenate([np.zeros(0, np.float32), *parts]))
    return found.take(found.agreement >= LEAST_AGREEMENT)


def near_groups(count: int, pairs: NearPairs) -> tuple[Rows, float]:
    """Numbers pictures, int64 (count,), so that near duplicates share the number of the first.

    It also gives the agreement from which on pictures were joined, more than `LEAST_AGREEMENT`
    where groups would be too large.
    """
    for least in (LEAST_AGREEMENT, *STRICTER, np.inf):
        joined = pairs.take(pairs.agreement >= least)
        groups = first_of(components(count, np.stack([joined.first, joined.second], axis=1)))
        if np.bincount(groups, minlength=1).max() <= max(2, LARGEST_SHARE * count):
            break
    return groups, least


def leak_words(count: int, total: int, split: str = "") -> str:
    """How many images of a split are near duplicates of training images, without an end."""
    kind = "near duplicate" if count == 1 else "near duplicates"
    verb, of = ("is a", f" {split}") if count == 1 else ("are", f" {split}")
    return f"{count:,} of {total:,}{of if split else ''} images {verb} {kind} of training images"


def _candidates(
    thumbnails: npt.NDArray[np.uint8],
    others: npt.NDArray[np.uint8] | None,
    pool: ThreadPoolExecutor,
) -> tuple[Rows, Rows]:
    """Pairs of rows whose coarse thumbnails correlate, for each first row the nearest ones."""
    own = _coarse_details(thumbnails, pool)
    among = own if others is None else _coarse_details(others, pool)
    short = _shortening(among)
    own_short = short(own)
    among_short = own_short if others is None else short(among)

    def nearest(start: int) -> Rows:
        memory = np.empty(_ROWS * _COLUMNS, np.float32)  # Used again, it stays in the cache.
        rows = slice(start, start + _ROWS)
        best = np.zeros((2, 0), np.int64), np.zeros(0, np.float32)
        # Each pair once: of the same ones, those with later ones.
        for left in range(start if others is None else 0, len(among), _COLUMNS):
            columns = slice(left, left + _COLUMNS)
            a, b = own_short[rows], among_short[columns].T
            bound = np.matmul(a, b, out=memory[: len(a) * b.shape[1]].reshape(len(a), b.shape[1]))
            if bound.max() >= _COARSE:
                pairs, likeness = _alike(own[rows], among[columns], bound)
                pairs += [[start], [left]]
                kept = np.flatnonzero(pairs[0] < pairs[1]) if others is None else slice(None)
                best = _nearest(
                    np.concatenate([best[0], pairs[:, kept]], axis=1),
                    np.concatenate([best[1], likeness[kept]]),
                )
        return best[0][:, np.lexsort(best[0][::-1])]

    found = pool.map(nearest, range(0, len(own), _ROWS))
    first, second = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
    return first, second


def _shortening(details: Floats) -> Callable[[Floats], Floats]:
    """Makes details shorter, so that no product of two becomes less."""
    # Of the axes that matter little only the length is kept (inequality of Cauchy and Schwarz).
    sample = details[:: max(1, len(details) // 4096)]
    squares, axes = np.linalg.eigh(sample.T @ sample)
    squares, axes = np.cumsum(squares[::-1]), axes[:, ::-1]
    kept = axes[:, : np.searchsorted(squares, _MAIN * squares[-1]) + 1]

    def shortened(details: Floats) -> Floats:
        main = details @ kept
        rest = np.square(details).sum(axis=1) - np.square(main).sum(axis=1)
        # A little more than what rounding may have taken.
        return np.column_stack([main, np.sqrt(np.maximum(rest, 0) + 1e-6)])

    return shortened


def _alike(own: Floats, among: Floats, bound: Floats) -> tuple[Rows, Floats]:
    """Pairs that correlate, (2, P), of those whose products may be as large; and how well."""
    places = np.flatnonzero(bound >= _COARSE)
    row, column = np.divmod(places, bound.shape[1])
    if len(places) * 16 > bound.size:
        likeness = (own @ among.T).ravel()[places]
    else:
        likeness = np.einsum("ij,ij->i", own[row], among[column])
    kept = likeness >= _COARSE
    return np.stack([row[kept], column[kept]]), likeness[kept]


def _nearest(pairs: Rows, likeness: Floats) -> tuple[Rows, Floats]:
    """Of the pairs (2, P) of each first row those with the nearest ones."""
    order = np.lexsort((pairs[1], -likeness, pairs[0]))
    row = pairs[0, order]
    order = order[np.arange(len(row)) - np.searchsorted(row, row) < _MOST_CANDIDATES]
    return pairs[:, order], likeness[order]


def _coarse_details(thumbnails: npt.NDArray[np.uint8], pool: ThreadPoolExecutor) -> Floats:
    """Details of 8 x 8 px as unit vectors, float32 (N, 98); zeros for plain pictures."""

    def coarse(start: int) -> Floats:
        grey = thumbnails[start : start + _BATCH].astype(np.float32)
        details = _details(_reduced(grey, _COARSE_STEP)).reshape(len(grey), -1)
        length = np.linalg.norm(details, axis=1, keepdims=True)
        plain = np.square(_details(grey)).mean(axis=(1, 2, 3)) < _PLAIN
        return np.where(plain[:, None], 0, details / np.maximum(length, 1e-6))

    parts = pool.map(coarse, range(0, len(thumbnails), _BATCH))
    return np.concatenate([np.zeros((0, 98), np.float32), *parts])


def _agreements(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Floats:
    """Correlation of the details of row i with row i as best laid over each other; 0 for little."""
    one, other = first.astype(np.float32), second.astype(np.float32)
    found = np.zeros(len(one), np.float32)
    rows = np.flatnonzero(_promising(_reduced(one, 2), _reduced(other, 2)))
    if len(rows):
        found[rows] = _agreement(one[rows], other[rows])
    rest = rows[found[rows] < LEAST_AGREEMENT]
    if not len(rest):
        return found
    for a, b in ((one[rest], other[rest]), (other[rest], one[rest])):
        found[rest] = np.maximum(found[rest], _agreement(_warped(a, _alignment(a, b, _STEPS)), b))
    return found


def _promising(one: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    """Whether details of row i and row i correlate after one step of the alignment of either."""
    inner = _inner(one.shape[1])
    best = np.zeros(len(one), np.float32)
    for a, b in ((one, other), (other, one)):
        moved = _warped(a, _alignment(a, b, ((1, 1),)))
        x, y = (_details(grey[:, inner, inner]) for grey in (moved, b))
        shared, own, theirs = (np.einsum("nkij,nkij->n", *of) for of in ((x, y), (x, x), (y, y)))
        best = np.maximum(best, shared / np.sqrt(np.maximum(own * theirs, _TINY)))
    return np.asarray(best >= _PROMISING)


def _agreement(one: Floats, other: Floats) -> Floats:
    """Correlation of the details of row i with row i; 0 where one of nine parts differs."""
    inner = _inner(SIDE)
    a, b = (_details(grey[:, inner, inner]) for grey in (one, other))
    shared, own, theirs = (_of_parts((x * y).sum(axis=1)) for x, y in ((a, b), (a, a), (b, b)))
    part = shared / np.sqrt(np.maximum(own * theirs, _TINY))
    telling = np.maximum(own, theirs) > _PLAIN_PART * _of_parts(np.ones_like(a[:1, 0]))
    whole = shared.sum(axis=1) / np.sqrt(np.maximum(own.sum(axis=1) * theirs.sum(axis=1), _TINY))
    differs = (telling & (part < LEAST_OF_PART)).any(axis=1)
    return np.where(differs, 0, whole).astype(np.float32)


def _of_parts(values: Floats) -> Floats:
    """Sums over three by three parts of pictures (N, S, S), (N, 9)."""
    edges = np.linspace(0, values.shape[1], 4)[:3].astype(int)
    sums = np.add.reduceat(np.add.reduceat(values, edges, axis=1), edges, axis=2)
    return np.asarray(sums.reshape(len(values), -1))


def _alignment(moved: Floats, fixed: Floats, steps: Sequence[tuple[int, int]]) -> Floats:
    """Scale - 1 and shift along x, then y, of -1..1, to lay pictures on others: float32 (N, 4)."""
    found = np.zeros((len(moved), 4), np.float32)
    for step, turns in steps:
        a, side = _reduced(moved, step), moved.shape[1] // step
        inner = _inner(side)
        b = _standard(_reduced(fixed, step)[:, inner, inner])
        place = _places(side)[inner]
        across, down = (np.gradient(b, axis=axis) * (side / 2) for axis in (2, 1))
        slopes = np.stack([across * place, across, down * place[:, None], down], axis=1)
        slopes = slopes.reshape(len(b), 4, -1)
        curvature = slopes @ slopes.transpose(0, 2, 1)
        # A little more on the diagonal keeps pictures with edges of one direction solvable.
        ridge = 0.01 * np.trace(curvature, axis1=1, axis2=2) / 4 + 1e-6
        curvature += np.eye(4, dtype=np.float32) * ridge[:, None, None]
        solver = np.linalg.inv(curvature) @ slopes
        for _ in range(turns):
            now = _standard(_warped(a, found)[:, inner, inner])
            change = (solver @ (b - now).reshape(len(b), -1, 1))[..., 0]
            found = np.clip(found + change, -_REACH, _REACH)
    return found


def _warped(grey: Floats, alignment: Floats) -> Floats:
    """Pictures (N, S, S) read at moved places, bilinear, beyond the edge as at the edge."""
    side = grey.shape[1]

    def weights(scale: Floats, shift: Floats) -> Floats:
        """What each pixel counts for each place along one axis, (N, S, S)."""
        place = _places(side) * (1 + scale[:, None]) + shift[:, None]
        at = np.clip((place + 1) / 2 * side - 0.5, 0, side - 1)
        distance = np.abs(at[:, :, None] - np.arange(side, dtype=np.float32))
        return np.maximum(1 - distance, 0)

    across, down = weights(*alignment[:, :2].T), weights(*alignment[:, 2:].T)
    return np.asarray(down @ grey @ across.transpose(0, 2, 1))


def _details(grey: Floats) -> Floats:
    """Differences along x and y, (N, 2, S - 1, S - 1), each by the mean of the nine around it."""
    corner = grey[:, :-1, :-1]
    found = np.stack([grey[:, :-1, 1:] - corner, grey[:, 1:, :-1] - corner], axis=1)
    around = uniform_filter(np.square(found).sum(axis=1), size=(0, 3, 3), mode="nearest")
    found /= np.sqrt(around + _NOISE**2)[:, None]
    return found


def _places(side: int) -> Floats:
    """Middles of pixels, from -1 to 1 across the picture."""
    return ((2 * np.arange(side) + 1) / side - 1).astype(np.float32)


def _inner(side: int) -> slice:
    margin = round(_MARGIN * side)
    return slice(margin, side - margin)


def _reduced(grey: Floats, step: int) -> Floats:
    """Means over squares of 1, 2 or 4 px a side."""
    while step > 1:
        rows = grey[:, ::2] + grey[:, 1::2]
        grey, step = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25), step // 2
    return grey


def _standard(grey: Floats) -> Floats:
    """Pictures with mean 0 and deviation 1."""
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.einsum("ij,ij->i", flat, flat) / flat.shape[1])
    return (flat / np.maximum(deviation, 1e-3)[:, None]).reshape(grey.shape)


def identical_groups(refs: Sequence[ImageRef]) -> np.ndarray:
    """The index of the first image with the same bytes, int64 (N,), of images that can be read.

    Only images of equal length are read, since others cannot be equal.
    """
    by_length: dict[int, list[ImageRef]] = defaultdict(list)
    for ref in dict.fromkeys(refs):
        length = file_size(ref.path) if ref.length == WHOLE_FILE else ref.length
        by_length[length].append(ref)
    doubtful = [ref for same in by_length.values() if len(same) > 1 for ref in same]
    found = for_each(lambda ref: hashlib.sha256(read_bytes(*ref)).digest(), doubtful)
    digests = dict(zip(doubtful, found, strict=True))
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


def components(nodes: int, pairs: npt.ArrayLike) -> list[int]:
    """The connected component of each node, given the pairs that are connected."""
    ends = np.asarray(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1], bool), tuple(ends)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1].tolist()


def first_of(keys: Sequence[Hashable]) -> np.ndarray:
    """Row of the first equal key for each of N keys, int64 (N,)."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)
