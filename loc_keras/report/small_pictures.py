"""Small upright pictures of records, for pages that draw on them."""

import io
import warnings
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from loc_keras.data.annotations import ImageRef
from loc_keras.data.files import read_bytes
from loc_keras.data.records import Records
from loc_keras.data.writers.pictures import upright
from loc_keras.report.data_thumbs import stretched

SIDE = 320
"""Longer side of a picture in px, at most."""

Pixels = npt.NDArray[np.uint8]


def small_pictures(records: Records, rows: Iterable[int], side: int = SIDE) -> dict[int, Pixels]:
    """Pictures of some records, as their boxes refer to them.

    Args:
        records: Of a split.
        rows: Which.
        side: Longer side in px, at most; small pictures stay as they are.

    Returns:
        By row, uint8 (H, W, 3); those that cannot be decoded are left out.
    """
    made = {row: _small_picture(records, row, side) for row in rows}
    return {row: picture for row, picture in made.items() if picture is not None}


def _small_picture(records: Records, row: int, side: int) -> Pixels | None:
    ref = ImageRef(str(records.paths[row]), int(records.offsets[row]), int(records.lengths[row]))
    window = tuple(int(edge) for edge in records.windows[row])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, about odd files: the check tells of them.
            with Image.open(io.BytesIO(read_bytes(*ref))) as opened:
                if not any(window):  # A window is in px of the whole picture.
                    opened.draft("RGB", (2 * side, 2 * side))
                whole = upright(opened, int(records.orientations[row]), window)
    except Exception:  # PIL's decoders raise nearly anything on hostile bytes.
        return None
    picture = (stretched(whole) if whole.mode.startswith(("I", "F")) else whole).convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)
