"""Many small files in one: images back to back, and where each of them lies.

A blob is written once and then read by byte range. Its index is written last and records the size
of the blob, so that one that was cut off is never taken for whole.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from loc_keras.atomic_file import write_text, written_aside
from loc_keras.data.annotations import ImageRef

INDEX_ENDING = ".index"
"""Added to the name of a blob for the file that lists its contents."""


def write_blob(
    path: Path, items: Iterable[tuple[str, bytes]], *, stamp: str
) -> dict[str, ImageRef]:
    """Writes contents as they come, one at a time in memory, and their index.

    Args:
        path: File to write; its folder is made. A blob of that name is replaced.
        items: Key and content of each; keys are distinct.
        stamp: What the contents depend on, for `read_blob`.

    Returns:
        Where each content lies, by key.

    Raises:
        OSError: If the files cannot be written.
        ValueError: If a key comes twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    index = _index_path(path)
    index.unlink(missing_ok=True)  # It would describe the new blob wrongly.
    entries: dict[str, ImageRef] = {}
    position = 0
    with written_aside(path) as aside, aside.open("wb") as file:
        for key, content in items:
            if key in entries:
                raise ValueError(f"the key {key!r} comes twice")
            file.write(content)
            entries[key] = ImageRef(str(path), position, len(content))
            position += len(content)
    header = {"stamp": stamp, "bytes": position, "count": len(entries)}
    rows = [[key, ref.offset, ref.length] for key, ref in entries.items()]
    write_text(index, "\n".join(map(json.dumps, [header, *rows])) + "\n")
    return entries


def read_blob(path: Path, *, stamp: str) -> dict[str, ImageRef] | None:
    """Reads the index of a blob.

    Args:
        path: File of the blob.
        stamp: As it was written with.

    Returns:
        Where each content lies, by key, in the order of writing; None where the blob is absent,
        not whole, or was written with another stamp.
    """
    try:
        header, *rows = map(json.loads, _index_path(path).read_text("utf-8").splitlines())
        entries = {
            str(key): ImageRef(str(path), int(offset), int(length)) for key, offset, length in rows
        }
        written = header["stamp"], header["bytes"], header["count"]
        whole = written == (stamp, path.stat().st_size, len(entries))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return entries if whole else None


def _index_path(path: Path) -> Path:
    return path.with_name(path.name + INDEX_ENDING)
