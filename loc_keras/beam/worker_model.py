"""On a worker: brings an exported version from where it lies to the machine's own disk."""

import os
import posixpath
import shutil
import tempfile

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems


def local_copy(folder: str) -> str:
    """A folder that TensorFlow can open: the same one or, of a URL, a copy of it.

    The copy stays until the machine's temporary files are removed: a process may open it again.
    """
    if "://" not in folder:
        return folder
    base = folder.rstrip("/")
    copy = tempfile.mkdtemp(prefix="loc-keras-model-")
    for found in FileSystems.match([f"{base}/**"])[0].metadata_list:
        target = os.path.join(copy, *posixpath.relpath(found.path, base).split("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        plain = CompressionTypes.UNCOMPRESSED
        with FileSystems.open(found.path, compression_type=plain) as file, open(target, "wb") as to:
            shutil.copyfileobj(file, to)
    return copy
