"""A part of some records that stands for all of them."""

import numpy as np

from loc_keras.data.records import Records


def even_sample(records: Records, limit: int | None) -> Records:
    """At most `limit` records, evenly spaced, since files are often sorted by class.

    Args:
        records: Any number.
        limit: At least 1, or None for all.
    """
    if limit is None or len(records) <= limit:
        return records
    return records.take(np.arange(limit) * len(records) // limit)
