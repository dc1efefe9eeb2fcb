"""The mended copy of a data set: its files and the log of every change."""

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import ImageRef, Split
from loc_keras.data.check.fix_plan import Change, FixPlan, Kept
from loc_keras.data.check.images import ENDINGS, ImageFacts
from loc_keras.data.check.run import CheckResult
from loc_keras.data.files import is_remote, read_bytes
from loc_keras.data.readers.csv_file import PUBLISHED_FILES
from loc_keras.data.records import UPRIGHT
from loc_keras.data.writers.names import distinct_stems
from loc_keras.data.writers.pictures import upright
from loc_keras.errors import DataError

CHANGES_FILE = "changes.csv"
SUMMARY_FILE = "summary.txt"

_QUALITY = 95
_WHOLE = (0, 0, 0, 0)


def refuse_fix_folder(folder: Path, source: str) -> None:
    """Refuses a folder that is used, or that lies in the source or holds it.

    Raises:
        DataError: If so.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"--fix {folder} is not an empty folder; name a new one.")
    if is_remote(source):
        return
    real, real_source = os.path.realpath(folder), os.path.realpath(source)
    if os.path.commonpath([real, real_source]) in (real, real_source):
        raise DataError(
            f"--fix {folder} lies in the data folder {source}, or holds it; name one elsewhere: "
            "the source is not touched."
        )


def write_fix(
    folder: Path,
    plan: FixPlan,
    result: CheckResult,
    *,
    config_text: str,
    config_name: str,
    progress: Callable[[int], None] | None = None,
) -> list[Change]:
    """Writes the copy: whole, or not at all.

    Args:
        folder: New or empty.
        plan: What to write.
        result: The check that the plan is from.
        config_text: Config that reads the copy.
        config_name: File name for it.
        progress: Called with the number of images that were finished since the last call.

    Returns:
        All changes, in the order of files and rows.

    Raises:
        DataError: If nothing is left for training, or a file changed since it was checked.
    """
    if not any(kept.split == "train" for kept in plan.kept):
        raise DataError("nothing that can be mended is left for training; no copy was written.")
    with _aside(folder) as aside:
        changes = list(plan.changes)
        for split in dict.fromkeys(kept.split for kept in plan.kept):
            part = [kept for kept in plan.kept if kept.split == split]
            changes += _write_split(aside, split, part, plan.grouped, result, progress)
        changes.sort(key=_place_among(changes))
        write_text(aside / CHANGES_FILE, _changes_text(changes))
        write_text(aside / SUMMARY_FILE, summary(changes, plan.kept))
        write_text(aside / config_name, config_text)
    return changes


def summary(changes: Sequence[Change], kept: Sequence[Kept]) -> str:
    """What was kept and changed, in numbers, a line each."""
    lines = [
        f"{len({one.image for one in kept if one.split == split}):,} images with "
        f"{sum(one.split == split and one.box is not None for one in kept):,} objects in {split}"
        for split in dict.fromkeys(one.split for one in kept)
    ]
    counts = Counter(change.action for change in changes)
    lines += [f"{count:,} {action}" for action, count in counts.most_common()]
    lines.append(f"every change is in {CHANGES_FILE}" if changes else "nothing had to be changed")
    return "\n".join(lines) + "\n"


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A folder beside the one to make, renamed to it at the end and removed after an error."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{os.getpid()}-writing-{folder.name}")
    try:
        aside.mkdir()
        yield aside
        os.rename(aside, folder)  # Onto an empty folder that is possible.
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_split(
    folder: Path,
    split: Split,
    part: Sequence[Kept],
    grouped: bool,
    result: CheckResult,
    progress: Callable[[int], None] | None,
) -> list[Change]:
    files = PUBLISHED_FILES[split]
    (folder / files["images"]).mkdir()
    first = {one.image: one for one in reversed(part)}
    images = list(dict.fromkeys(one.image for one in part))
    (stems,) = distinct_stems([[_origin(first[image]) for image in images]])
    names: dict[ImageRef, str] = {}
    changes: list[Change] = []
    for image, stem in zip(images, stems, strict=True):
        content, ending, change = _picture(first[image], result.images[image], result.rules.exif)
        changes += change
        names[image] = stem + ending
        (folder / files["images"] / names[image]).write_bytes(content)
        if progress:
            progress(1)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for one in part:
        group = [one.group] if grouped else []
        box = [""] * 4 if one.box is None else map(_shortest, one.box)
        writer.writerow([names[one.image], one.label, *box, *group])
    write_text(folder / files["csv"], text.getvalue())
    return changes


def _picture(kept: Kept, facts: ImageFacts, exif: str) -> tuple[bytes, str, list[Change]]:
    """Bytes and ending of an image in the copy, and how it differs."""
    if facts.header is None:
        raise DataError(f"{kept.image.path} cannot be read.")
    try:
        content = read_bytes(*kept.image)
        form, orientation = facts.header.format, facts.header.orientation
        given = os.path.splitext(kept.image.path)[1]
        known = {ending for endings in ENDINGS.values() for ending in endings}
        changes = []
        if orientation != UPRIGHT:
            if exif == "apply":
                content, form = _turned(content, orientation, form)
                reason = f"its EXIF orientation was {orientation}; the pixels are encoded anew"
                changes.append(Change(kept.file, kept.row, kept.name, "turned", reason))
            else:
                # The pixels as stored are what is trained on; no reader of the copy shall turn
                # them, and none of them is to change.
                content, form = _turned(content, UPRIGHT, "PNG")
                reason = f"its EXIF orientation {orientation} is ignored, so the copy has none"
                changes.append(Change(kept.file, kept.row, kept.name, "encoded anew", reason))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{kept.image.path} could be read when it was checked and cannot be now: {error}."
        ) from error
    if given.lower() in ENDINGS[form]:
        return content, given, changes
    ending = ENDINGS[form][0]
    if given.lower() in known:
        reason = f"its content is {form}"
        changes.append(Change(kept.file, kept.row, kept.name, "renamed", reason, given, ending))
    return content, ending, changes


def _turned(content: bytes, orientation: int, form: str) -> tuple[bytes, str]:
    """An image upright, without EXIF data: JPEG of high quality, else PNG."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        profile = image.info.get("icc_profile")
        turned = upright(image, orientation, _WHOLE)
    turned.info = {}
    if form == "JPEG":
        turned.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, icc_profile=profile)
        return buffer.getvalue(), "JPEG"
    if turned.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        turned, profile = turned.convert("RGB"), None
    turned.save(buffer, "PNG", icc_profile=profile)
    return buffer.getvalue(), "PNG"


def _origin(kept: Kept) -> str:
    whole = kept.image == ImageRef(kept.image.path)
    return kept.image.path if whole else kept.name


def _shortest(side: float) -> str:
    """The shortest decimal that reads back as the same float32."""
    return np.format_float_positional(np.float32(side), unique=True, trim="0")


def _place_among(changes: Sequence[Change]) -> Callable[[Change], tuple[int, int]]:
    order = {file: at for at, file in enumerate(dict.fromkeys(one.file for one in changes))}
    return lambda change: (order[change.file], change.row)


def _changes_text(changes: Sequence[Change]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Change._fields)
    # Names from a file system that is no UTF-8 hold signs that cannot be encoded.
    writer.writerows(
        [str(cell).encode("utf-8", "backslashreplace").decode() for cell in one] for one in changes
    )
    return text.getvalue()
