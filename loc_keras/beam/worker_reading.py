"""On a worker: finds the images, and reads them from any file system that Beam knows."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from loc_keras.beam.sources import FOLDER, LIST, LOCAL, Source, folder_of
from loc_keras.bulk.inputs import Inputs
from loc_keras.bulk.names import listed_path
from loc_keras.data.readers.parsing import IMAGE_ENDINGS

LEFT_OUT = "left out"
"""Name of the output of `Find` that holds numbers of files that are not taken for images."""

_PIECE = 1 << 20


class Find(beam.DoFn):
    """Paths of the images that a source names, and how many files were left out of it.

    Args:
        out: Folder that is never walked into; None for none.
    """

    def __init__(self, out: str | None) -> None:
        """Keeps the folder."""
        self._out = out

    def process(self, source: Source) -> Iterator[Any]:
        """Finds those of one source."""
        kind, path = source
        if kind == LOCAL:
            inputs = Inputs([path], self._out)
            yield from inputs
            yield beam.pvalue.TaggedOutput(LEFT_OUT, inputs.left_out)
        elif kind == LIST:
            with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                folder = folder_of(path)
                lines = (line.decode("utf-8", "surrogateescape") for line in file)
                # As `LIST_ENCODING`: the mark that some editors begin with is no part of a path.
                lines = (line.removeprefix("\ufeff") for line in lines)
                yield from filter(None, (listed_path(line, folder) for line in lines))
        else:
            found = _matches(path, kind == FOLDER)
            names = [name for name, is_image in found if is_image]
            yield from names
            yield beam.pvalue.TaggedOutput(LEFT_OUT, len(found) - len(names))


def _matches(path: str, whole_folder: bool) -> list[tuple[str, bool]]:
    """Names under a URL, each with whether it is taken; hidden files are not seen."""
    pattern = f"{path}/**" if whole_folder else path
    names = sorted(one.path for one in FileSystems.match([pattern])[0].metadata_list)
    if not whole_folder:
        return [(name, True) for name in names]
    seen = [name for name in names if "/." not in name.removeprefix(path)]
    return [(name, posixpath.splitext(name)[1].lower() in IMAGE_ENDINGS) for name in seen]


class Unreadable(Exception):
    """A file cannot be read; the text says why, as the end of a sentence that begins with it."""


def read_bytes(path: str, most: int) -> bytes:
    """Content of a file, as it lies there.

    Args:
        path: Absolute, or a URL.
        most: Bytes; a larger file is not read to its end.

    Raises:
        Unreadable: If it is not there, cannot be read or is larger.
    """
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            pieces = list(_pieces(file, most))
    except FileNotFoundError as error:
        raise Unreadable("does not exist") from error
    except IsADirectoryError as error:
        raise Unreadable("is a folder") from error
    except (OSError, BeamIOError, ValueError) as error:
        raise Unreadable(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if sum(map(len, pieces)) > most:
        raise Unreadable(f"has more than {most:,} bytes; --max-bytes sets the limit")
    return b"".join(pieces)


def _pieces(file: Any, most: int) -> Iterable[bytes]:
    """Reads on until the end or until it is too much."""
    size = 0
    while size <= most and (piece := file.read(_PIECE)):
        size += len(piece)
        yield piece
