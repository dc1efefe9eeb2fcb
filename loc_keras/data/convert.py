"""Writing a whole data set in another format: complete or not there, and taken up when stopped."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loc_keras.atomic_file import json_object, lock_file, write_text
from loc_keras.data.annotations import SPLITS, Fault, Split
from loc_keras.data.files import is_remote
from loc_keras.data.formats.registry import WRITERS
from loc_keras.data.formats.writing import Job, source_fingerprint
from loc_keras.data.image_header import without_image_warnings
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError

MANIFEST = "conversion.json"  # File in a converted folder that says from what and how it was made.

SKIPPED = "skipped.json"
"""File in a converted folder that lists what was left out, if anything was."""

# Raised when the same settings lead to other files, so that old parts are not mixed with new.
_LAYOUT = 2
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # A path object has lost one slash of two.
_MEANING = {
    "format": "another format",
    "source": "another source (other files, records or --limit)",
    "shards": "another number of shards",
    "layout": "another version of this program",
}


@dataclass(frozen=True)
class Conversion:
    """What a conversion came to: images written of each split, now or earlier, and what was not.

    `done_before` tells that an earlier call had finished it, so that nothing was written.
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
    """Writes all splits in one format, a key of `WRITERS`.

    Everything is written to `<out>.partial`, which gets the name `out`, that of a new or empty
    folder, when it is complete. After an interruption the same call goes on where it stopped. Empty
    splits are left out. `shards` is the number of files of each split, None by size; `background`
    the class of records without an object; `faults` are what was left out before, for
    `skipped.json`. An image that cannot be written is left out, or raises with `stop_at_faults`.
    `texts` are further files by name; `advance` is called with a split and the number of its
    records just done.

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
    done = _finished(out, identity)
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

    partial = partial_of(out)
    try:
        with _only_process(partial), without_image_warnings():
            _open_partial(partial, identity)
            job = Job(partial, splits, class_names, shards, advance, on_fault, background)
            WRITERS[target].write(job)
            for split, count in job.counts.items():
                if not count:
                    raise DataError(f"no image of {split} can be written: {found[-1].reason}.")
            for name, text in (texts or {}).items():
                write_text(partial / name, text)
            if found:
                write_text(partial / SKIPPED, _listing(found))
            if _finished(out, identity) is not None:
                raise DataError(f"{out} was written by another process; remove {partial}.")
            _publish(partial, out, {"images": job.counts})
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"the records cannot be written to {partial}: {reason}.") from error
    return Conversion(job.counts, found)


def refuse_place(out: Path, sources: Sequence[str]) -> None:
    """Refuses a place that is no local folder, in use, in a source, or above it, with DataError."""
    if _SCHEME.match(str(out)):
        raise DataError(
            f"--out must be a local folder, got {out}; copy it to its place afterwards."
        )
    real = Path(os.path.realpath(out))
    for source in sources:
        if is_remote(source):
            continue
        origin = Path(os.path.realpath(source))
        if real == origin or origin in real.parents:
            raise DataError(f"--out {out} lies in the source {source}; give a folder outside it.")
        if real in origin.parents and _entries(real):
            raise DataError(f"--out {out} holds the source {source}; give a folder beside it.")
    _refuse_used(out)


def partial_of(out: Path) -> Path:
    """Where an unfinished conversion to `out` lies."""
    out = Path(os.path.abspath(out))  # A name of its own also for "." and "..".
    return out.with_name(f"{out.name}.partial")


def _finished(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of `out` where this very conversion is complete; None where nothing is there."""
    manifest = _refuse_used(out)
    if manifest is not None:
        _refuse_other(out, manifest, identity)
    return manifest


def _refuse_used(out: Path) -> dict[str, Any] | None:
    """As `_finished`, for a conversion of anything."""
    if not out.exists() or (out.is_dir() and not _entries(out)):
        return None
    manifest = _manifest(out)
    if manifest is None or "images" not in manifest:
        raise DataError(f"{out} is not empty: give a new folder, or empty this one first.")
    return manifest


@contextmanager
def _only_process(partial: Path) -> Iterator[None]:
    partial.mkdir(parents=True, exist_ok=True)
    folder, is_free = os.open(partial, os.O_RDONLY), True
    try:
        with suppress(OSError):  # Network disks without locks get no protection.
            is_free = lock_file(folder)
        if not is_free:
            raise DataError(f"another process is writing to {partial}; wait until it has ended.")
        yield
    finally:
        os.close(folder)


def _open_partial(partial: Path, identity: Mapping[str, Any]) -> None:
    """Begins in an empty folder, or takes up that of an interrupted call of the same identity."""
    manifest = _manifest(partial)
    if manifest is not None:
        _refuse_other(partial, manifest, identity)
        for path in partial.rglob(".*-writing-*"):  # What a killed process was writing.
            path.unlink(missing_ok=True)
    elif _entries(partial):
        raise DataError(f"{partial} is in the way and no interrupted conversion; move it away.")
    else:
        _write_manifest(partial, {**identity, "layout": _LAYOUT})


def _publish(partial: Path, out: Path, results: Mapping[str, Any]) -> None:
    _write_manifest(partial, {**(_manifest(partial) or {}), **results})
    out = Path(os.path.abspath(out))
    if out != Path.cwd():
        if out.is_dir():
            out.rmdir()  # It is empty, or `_finished` had refused it.
        partial.rename(out)
        return
    # To replace the folder would leave whoever works in it in a deleted one. The manifest goes
    # last, so that what lacks it is known to be incomplete.
    for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == MANIFEST):
        entry.rename(out / entry.name)
    partial.rmdir()


def _manifest(folder: Path) -> dict[str, Any] | None:
    found = json_object(folder / MANIFEST)
    return found if found is not None and "source" in found else None


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_text(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _refuse_other(folder: Path, manifest: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    wanted = {**identity, "layout": _LAYOUT}
    other = [_MEANING[key] for key, value in wanted.items() if manifest.get(key) != value]
    if other:
        raise DataError(
            f"{folder} holds a conversion of {' and '.join(other)}; remove it, or give another "
            "--out."
        )


def _entries(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _listing(faults: Sequence[Fault]) -> str:
    listed = [dict(zip(("file", "row", "reason", "kind"), fault, strict=False)) for fault in faults]
    text = json.dumps(listed, indent=2, ensure_ascii=False) + "\n"
    # Names of files need not be text; JSON can hold what UTF-8 cannot.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _read_skipped(out: Path) -> list[Fault]:
    try:
        return [Fault(**fault) for fault in json.loads((out / SKIPPED).read_text("utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError):
        return []
