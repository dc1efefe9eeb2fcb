"""What tells one source from another: its records and the state of its files."""

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from loc_keras.data.annotations import WHOLE_FILE, Split
from loc_keras.data.files import file_size, is_remote
from loc_keras.data.records import COLUMNS, Records

_ABSENT = (-1, 0)


def source_fingerprint(splits: Mapping[Split, Records], class_names: Sequence[str]) -> str:
    """SHA-256, in hex, over all records, class names, and size and time of every image file."""
    digest = hashlib.sha256(repr(list(class_names)).encode())
    for split, records in splits.items():
        digest.update(f"{split} {len(records)}".encode())
        for name in COLUMNS:
            column = getattr(records, name)
            if column.dtype.kind in "OUS":
                digest.update("\0".join(map(str, column)).encode("utf-8", "surrogatepass"))
            else:
                digest.update(np.ascontiguousarray(column).tobytes())
        for path in np.unique(records.paths.astype(str)):
            digest.update(repr(_state(str(path))).encode())
    return digest.hexdigest()


def encoded_bytes(records: Records) -> int:
    """Bytes of all images as they are stored; missing files count nothing."""
    whole = records.lengths == WHOLE_FILE
    parts = int(records.lengths[~whole].sum())
    return parts + sum(max(_state(str(path))[0], 0) for path in records.paths[whole])


def _state(path: str) -> tuple[int, int]:
    """Size and time of the last change; on other filesystems than local ones the size alone."""
    try:
        if is_remote(path):
            return file_size(path), 0
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.startswith("tensorflow"):
            return _ABSENT
        raise
