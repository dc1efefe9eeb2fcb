"""What the readers of text formats share: paths, numbers and quotations, each checked once."""

import os
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Split
from loc_keras.errors import DataError

IMAGE_ENDINGS = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".heic", ".avif", ".jp2", ".mpo"),
    ]
)
"""Endings, in small letters, by which a file shows that it is meant as an image."""

LONGEST_LABEL = 256
"""Characters of the longest class name."""

_LONGEST_PATH = 4096
_MOST_SHOWN = 60


def require_root(root: str) -> None:
    """Raises DataError where the data folder is missing."""
    if not files.is_folder(root):
        raise DataError(f"data folder {root} does not exist: data.source.path must name it.")


def given_splits(splits: Mapping[str, Any], key: str) -> Iterator[tuple[Split, Any]]:
    """The splits that the config gives, in their order.

    Args:
        splits: Files of each split by its name; None stands for a split that is left out.
        key: Config key of `splits`, for messages.

    Raises:
        DataError: If no training split is given, or one of an unknown name.
    """
    unknown = [name for name in splits if name not in SPLITS]
    if unknown:
        raise DataError(f"{key} has {shown(unknown[0])}; the splits are {', '.join(SPLITS)}.")
    if splits.get("train") is None:
        raise DataError(f"{key}.train is missing; say where the training data lie.")
    for split in SPLITS:
        entry = splits.get(split)
        if entry is not None:
            yield split, entry


def config_path(root: str, name: str, key: str) -> str:
    """Joins a path that the config gives to the data folder.

    Args:
        root: The data folder.
        name: Path relative to it.
        key: Config key of `name`, for the message.

    Raises:
        DataError: If it leads out of the data folder.
    """
    try:
        return place(root, name, root)
    except files.OutsideError as fault:
        raise DataError(f"{key}: {fault}; name what lies below data.source.path.") from fault


def place(folder: str, name: str, root: str) -> str:
    """Joins a name that an annotation gives to a folder; the result lies below `root`.

    Raises:
        OutsideError: If it does not, or if no file can have this name.
    """
    if not is_text(name) or len(name) > _LONGEST_PATH:
        raise files.OutsideError(f"{shown(name)} names no file")
    try:
        return files.join_inside(folder, name, root=root)
    except files.OutsideError as fault:
        raise files.OutsideError(str(fault).replace(repr(name), shown(name))) from None


def below(root: str, path: str) -> str:
    """A path relative to the data folder that holds it."""
    if files.is_remote(root):
        return posixpath.relpath(path.partition("://")[2], root.partition("://")[2])
    return os.path.relpath(path, root)


def folder_of(path: str) -> str:
    """The folder that holds a file."""
    return posixpath.dirname(path) or os.curdir


def is_image_name(name: str) -> bool:
    """Whether a name has the ending of an image, in large or small letters."""
    return name[name.rfind(".") :].lower() in IMAGE_ENDINGS


def is_text(value: object) -> bool:
    """Whether a value is text that a file can hold and a terminal can show.

    JSON and YAML can write half of a surrogate pair, and NUL.
    """
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def label_problem(value: object) -> str:
    """Why a value can name no class, as the end of a sentence; `""` if it can."""
    if not isinstance(value, str):
        return f"is {shown(value)}, not text"
    if not value.strip():
        return "is empty"
    # Lists of classes are written one a line, whatever their reader takes for the end of one.
    if not is_text(value) or len(value.splitlines()) > 1 or any(map(_is_control, value)):
        return f"{shown(value)} has signs that are no text"
    return f"is longer than {LONGEST_LABEL} characters" if len(value) > LONGEST_LABEL else ""


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) == "Cc"


def number(text: str) -> float | None:
    """A decimal number, perhaps `nan` or infinite; None where the text is none."""
    # Python would read 1_000, which no annotation tool writes.
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def shown(value: object) -> str:
    """A value quoted for a message, shortened where it is long."""
    # Cut first: the representation of a hostile value may be large.
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "...")
    if isinstance(value, bool | float) or value is None:
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= _MOST_SHOWN else "a huge number"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
