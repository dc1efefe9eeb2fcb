"""Pictures of one set that look like some of another, such as a test picture seen in training."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from loc_keras.data.annotations import ImageRef
from loc_keras.data.duplicates import difference_hash
from loc_keras.data.looks import FLAT_BITS, NEAR_BITS, Colours

MOST_SEARCHED = 50_000
"""Pictures that are searched at most: each must be read and decoded."""

_BITS = 64
_THREADS = 8
_MOST_FOUND = 3


def lookalikes(
    wanted: Sequence[ImageRef], among: Sequence[ImageRef], most: int = MOST_SEARCHED
) -> list[list[int]]:
    """For each picture those among others that look almost the same.

    Likeness is that of 64-bit difference hashes, confirmed by the colours (`looks`). Pictures that
    cannot be decoded, and plain ones, are like none.

    Args:
        wanted: Pictures to find again.
        among: Where to look; of more than `most` only the first ones are searched.
        most: See there.

    Returns:
        For each wanted picture up to three indices into `among`, the most alike first.
    """
    searched = among[:most] if wanted else []
    with ThreadPoolExecutor(_THREADS) as pool:
        ours = list(pool.map(difference_hash, wanted))
        theirs = list(pool.map(difference_hash, searched))
    colours = Colours()
    return [
        [
            place
            for _, place in _near(look, theirs)
            if colours.alike(wanted[number], searched[place])
        ][:_MOST_FOUND]
        for number, look in enumerate(ours)
    ]


def _near(look: int | None, others: Sequence[int | None]) -> list[tuple[int, int]]:
    """Distance and place of the hashes that are near one, the nearest first."""
    if look is None or not FLAT_BITS <= look.bit_count() <= _BITS - FLAT_BITS:
        return []
    distances = (
        ((other ^ look).bit_count(), place)
        for place, other in enumerate(others)
        if other is not None
    )
    return sorted(pair for pair in distances if pair[0] <= NEAR_BITS)
