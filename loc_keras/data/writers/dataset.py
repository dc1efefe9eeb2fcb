"""Writing a whole data set in another format: complete or not there, and taken up when stopped."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import SPLITS, Fault, Split
from loc_keras.data.image_header import without_image_warnings
from loc_keras.data.records import Records
from loc_keras.data.writers.coco import coco_source, write_coco
from loc_keras.data.writers.csv_files import csv_source, write_csv
from loc_keras.data.writers.fingerprint import source_fingerprint
from loc_keras.data.writers.folder import finished, open_partial, partial_of, publish
from loc_keras.data.writers.job import Job
from loc_keras.data.writers.tfrecord import tfrecord_source, write_tfrecord
from loc_keras.data.writers.voc import voc_source, write_voc
from loc_keras.data.writers.yolo import write_yolo, yolo_source
from loc_keras.errors import DataError

WRITERS: dict[str, Callable[[Job], dict[Split, int]]] = {
    "csv": write_csv,
    "voc": write_voc,
    "coco": write_coco,
    "yolo": write_yolo,
    "tfrecord": write_tfrecord,
}
"""The writer of each format: fills the job's folder and returns the images of each split."""

SOURCES: dict[str, Callable[[Sequence[str], Mapping[Split, Records]], dict[str, Any]]] = {
    "csv": csv_source,
    "voc": voc_source,
    "coco": coco_source,
    "yolo": yolo_source,
    "tfrecord": tfrecord_source,
}
"""For each format, from class names and what was written to the settings (of `data.source`) that
read it."""

SKIPPED = "skipped.json"


@dataclass(frozen=True)
class Conversion:
    """What a conversion came to.

    Attributes:
        counts: Images of each split that were written, now or by an earlier call.
        faults: All that was left out.
        done_before: Whether an earlier call had finished it, so that nothing was written.
    """

    counts: dict[Split, int]
    faults: list[Fault]
    done_before: bool = False


def write_dataset(
    out: Path,
    target: str,
    splits: Mapping[Split, Records],
    class_names: Sequence[str],
    *,
    shards: int | None = None,
    background: str | None = None,
    faults: Sequence[Fault] = (),
    stop_at_faults: bool = False,
    texts: Mapping[str, str] | None = None,
    advance: Callable[[Split, int], None] = lambda split, records: None,
) -> Conversion:
    """Writes all splits in one format.

    Everything is written to `<out>.partial`, which gets the name `out` when it is complete. After
    an interruption the same call goes on where it stopped.

    Args:
        out: Folder to make; one that exists must be empty.
        target: A key of `WRITERS`.
        splits: Records of each split; empty ones are left out.
        class_names: Name of each class, by index.
        shards: Files of each split, >= 1, for formats that cut it; None chooses by size.
        background: Class of the records without an object, where there is one.
        faults: What was left out before, for `skipped.json`.
        stop_at_faults: Raise at the first image that cannot be written, instead of leaving it out.
        texts: Further files to write, by name.
        advance: Called with a split and the number of its records just done.

    Returns:
        What was written and what was not.

    Raises:
        DataError: If `out` holds something else, an earlier call was about another source, or
            nothing could be written.
    """
    splits = {split: splits[split] for split in SPLITS if len(splits.get(split, ()))}
    identity = {
        "format": target,
        "source": source_fingerprint(splits, class_names),
        "shards": shards,
    }
    done = finished(out, identity)
    if done is not None:
        return Conversion(dict(done.get("images", {})), _read_skipped(out), done_before=True)
    if not splits:
        raise DataError("there is no record to write; run the check to see why.")
    found = list(faults)

    def on_fault(fault: Fault) -> None:
        found.append(fault)
        if stop_at_faults:
            where = f"{fault.file}, row {fault.row}" if fault.row else fault.file
            raise DataError(
                f"{where}: {fault.reason}; mend it, or set data.on_error to skip to leave it out."
            )

    try:
        partial = open_partial(out, identity)
        job = Job(partial, splits, class_names, shards, advance, on_fault, background)
        with without_image_warnings():
            counts = WRITERS[target](job)
        for split, count in counts.items():
            if not count:
                raise DataError(f"no image of {split} can be written: {found[-1].reason}.")
        for name, text in (texts or {}).items():
            write_text(partial / name, text)
        if found:
            write_text(partial / SKIPPED, _listing(found))
        publish(partial, out, {"images": counts})
    except OSError as error:
        raise DataError(f"the records cannot be written to {partial_of(out)}: {error}.") from error
    return Conversion(counts, found)


def _listing(faults: Sequence[Fault]) -> str:
    listed = [fault._asdict() for fault in faults]
    text = json.dumps(listed, indent=2, ensure_ascii=False) + "\n"
    # Names of files need not be text; JSON can hold what UTF-8 cannot.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _read_skipped(out: Path) -> list[Fault]:
    try:
        return [Fault(**fault) for fault in json.loads((out / SKIPPED).read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
