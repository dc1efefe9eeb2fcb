"""What images are called in answers: their paths relative to a folder that holds all of them."""

import os
from collections.abc import Sequence


def image_name(path: str, root: str) -> str:
    """Name of an image: its path relative to the root, or from / on where it lies elsewhere.

    Args:
        path: Absolute, or a URL such as `gs://bucket/photos/1.jpg`.
        root: Folder, of the same form. A URL elsewhere keeps its whole text.
    """
    if "://" in path:
        return path.removeprefix(root.rstrip("/") + "/")
    if "://" in root:
        return path.lstrip("/")
    name = os.path.relpath(path, root)
    inside = name != os.pardir and not name.startswith(os.pardir + os.sep)
    return (name if inside else path.lstrip(os.sep)).replace(os.sep, "/")


def common_root(folders: Sequence[str]) -> str:
    """The deepest folder that holds all of some; `/` where local ones and URLs have none.

    Args:
        folders: At least one; absolute paths, and URLs of folders.
    """
    if not any("://" in folder for folder in folders):
        return os.path.commonpath(folders)
    parts = [folder.rstrip("/").split("/") for folder in folders]
    same = 0
    while all(same < len(one) and one[same] == parts[0][same] for one in parts):
        same += 1
    # Of a URL the first three parts are the scheme, nothing, and the place that it names.
    return "/".join(parts[0][:same]) if same > 2 and "://" in folders[0] else "/"


def listed_path(line: str, folder: str) -> str | None:
    """The path that a line of a list names: absolute, or a URL; None for an empty line.

    Args:
        line: With or without its end.
        folder: The list's own, to which paths that do not begin with / are relative.
    """
    name = line.rstrip("\r\n")
    if not name.strip():
        return None
    if "://" in name:
        return name
    if "://" in folder:
        return name if name.startswith("/") else f"{folder.rstrip('/')}/{name}"
    return os.path.normpath(os.path.join(folder, name))
