"""On a worker: the exported model behind Beam's `RunInference`, from paths to records."""

import os
import posixpath
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import has_magic
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler

from loc_keras.bulk.inputs import Inputs, common_root, image_name, listed_path
from loc_keras.data.formats.parsing import IMAGE_ENDINGS
from loc_keras.errors import DataError
from loc_keras.localizer.results import localization_of


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


LOCAL, PATTERN, FOLDER, LIST = "local", "pattern", "folder", "list"


class Source(NamedTuple):
    """Where some of the images are.

    Attributes:
        kind: `local` (a path or pattern of the machine's own file system), `pattern` (of URLs),
            `folder` (a URL with all below it) or `list` (a text file of one path a line).
        path: Absolute path or URL.
    """

    kind: str
    path: str


class Named(NamedTuple):
    """All that was named.

    Attributes:
        sources: Each by itself.
        root: Folder that names of images are relative to.
    """

    sources: list[Source]
    root: str


def sources_of(
    arguments: Sequence[str],
    lists: Sequence[str],
    exists: Callable[[str], bool],
    out: str | None = None,
) -> Named:
    """Looks at what was named, without walking through it.

    Args:
        arguments: Paths, patterns, and URLs of a file system that Beam knows.
        lists: Text files of one path a line.
        exists: Whether there is a file by the name or pattern, URL or path.
        out: Folder or URL for the answers, which must not be one of the images.

    Raises:
        DataError: If there is nothing under a name, or it is `out`.
    """
    found = [_remote(one, exists) if "://" in one else _local(one, out) for one in arguments]
    for one in lists:
        path = one if "://" in one else os.path.abspath(one)
        if not exists(path):
            raise DataError(f"{one} does not exist; give --list a text file of one path a line.")
        found.append((Source(LIST, path), folder_of(path)))
    if not found:
        raise DataError("no images are named; give files, folders, patterns, or --list FILE.")
    return Named([source for source, _ in found], common_root([folder for _, folder in found]))


def folder_of(path: str) -> str:
    """Folder of a file, or of what a pattern matches: the part before any sign of a pattern."""
    folder = path.rpartition("/")[0] if "://" in path else os.path.dirname(path)
    while has_magic(folder):
        folder = folder.rpartition("/")[0]
    return folder


def _local(given: str, out: str | None) -> tuple[Source, str]:
    inputs = Inputs([given], None if out is None or "://" in out else out)
    return Source(LOCAL, os.path.abspath(given)), inputs.root


def _remote(given: str, exists: Callable[[str], bool]) -> tuple[Source, str]:
    folder = given.rstrip("/")
    # First, since some file systems say of a folder that it is there like a file.
    if not has_magic(given) and exists(f"{folder}/**"):
        return Source(FOLDER, folder), folder
    if exists(given):
        return Source(PATTERN, given), folder_of(given)
    raise DataError(f"{given} matches no file; check the name, and that you may read it.")


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


Record = dict[str, Any]

_TRUST = ("softmax_calibrated", "p_iou50", "label_set")
_OUTER_BOXES = ("box_outer", "box_inner")

NEEDED = frozenset({"ok", "reason", "probabilities", "box_fraction", "size"})
"""Outputs without which there is no record."""


def records_of(
    outputs: Mapping[str, npt.NDArray],
    heads: Sequence[Record],
    names: Sequence[str],
    *,
    background: int | None,
    top_k: int,
) -> list[Record]:
    """A record for each picture: its head and the answer or, where it could not be read, `reason`.

    Args:
        outputs: Of the signature, for N pictures.
        heads: N times `image` and `path`.
        names: Of the classes by index.
        background: Index of the class of images without an object; None without one.
        top_k: How many classes are told.
    """
    arrays = {"softmax": outputs["probabilities"], "bbox": outputs["box_fraction"]}
    arrays |= {name: outputs[name] for name in _TRUST if name in outputs}
    # These are told in px alone; of a picture that was not read the size is zero.
    sides = np.maximum(np.tile(outputs["size"][:, ::-1].astype(np.float64), (1, 2)), 1)
    arrays |= {name: outputs[name] / sides for name in _OUTER_BOXES if name in outputs}
    records = []
    for row, head in enumerate(heads):
        if not outputs["ok"][row]:
            records.append({**head, "reason": outputs["reason"][row].decode()})
            continue
        height, width = outputs["size"][row].tolist()
        answer = localization_of(
            arrays, row, (height, width), names, background=background, top_k=top_k
        )
        records.append({**head, **answer.as_dict()})
    return records


READERS = 16
"""Files that a worker reads at once; storage of a network answers many as fast as one."""

SIGNATURE, INPUT = "serving_default", "image_bytes"


@dataclass(frozen=True)
class Asked:
    """What the workers need to know.

    Attributes:
        model: Folder or URL of the exported version.
        names: Of its classes, by index.
        background: Index of the class of images without an object; None without one.
        root: Folder that names of images are relative to.
        top_k: Classes that are told of each image.
        max_bytes: Size of the largest file that is read.
    """

    model: str
    names: tuple[str, ...]
    background: int | None
    root: str
    top_k: int
    max_bytes: int


@dataclass
class Loaded:
    """A model that is open, and the threads that read for it.

    The bundle is kept because its variables live as long as it. Beam refers to it weakly, which
    excludes tuples.
    """

    bundle: Any
    signature: Any
    pool: ThreadPoolExecutor


class ExportedModelHandler(ModelHandler[str, Record, Loaded]):
    """Answers about files by an exported SavedModel, which takes them as they are.

    Args:
        asked: What is asked.
        min_batch_size: Images that the model is given at once, at least; a last batch may be
            smaller.
        max_batch_size: At most. Beam tries sizes between the two and stays with the fastest.
    """

    def __init__(self, asked: Asked, *, min_batch_size: int, max_batch_size: int) -> None:
        """Keeps what is asked; nothing is opened before a worker asks for it."""
        super().__init__(min_batch_size=min_batch_size, max_batch_size=max_batch_size)
        self._asked = asked

    def load_model(self) -> Loaded:
        """Opens the model, once in a process."""
        # Both are read when TensorFlow is imported; loc_keras/_environ.py says why the first.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        bundle = tf.saved_model.load(local_copy(self._asked.model))
        return Loaded(bundle, bundle.signatures[SIGNATURE], ThreadPoolExecutor(READERS))

    def run_inference(
        self, batch: Sequence[str], model: Loaded, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Record]:
        """A record for each path, in their order."""
        import tensorflow as tf

        contents = list(model.pool.map(self._content, batch))
        heads = [{"image": image_name(path, self._asked.root), "path": path} for path in batch]
        read = [at for at, content in enumerate(contents) if isinstance(content, bytes)]
        answers: list[Record] = []
        if read:
            strings = tf.constant([contents[at] for at in read], tf.string)
            found = {
                name: value.numpy() for name, value in model.signature(**{INPUT: strings}).items()
            }
            answers = records_of(
                found,
                [heads[at] for at in read],
                self._asked.names,
                background=self._asked.background,
                top_k=self._asked.top_k,
            )
        by_place = dict(zip(read, answers, strict=True))
        return [
            by_place[at] if at in by_place else {**heads[at], "reason": str(contents[at])}
            for at in range(len(batch))
        ]

    def get_num_bytes(self, batch: Sequence[str]) -> int:
        """Bytes of the paths, which are what is sent to the worker."""
        return sum(len(path) for path in batch)

    def get_metrics_namespace(self) -> str:
        """Under which Beam tells how long batches took."""
        return "loc_keras"

    def _content(self, path: str) -> bytes | Unreadable:
        try:
            return read_bytes(path, self._asked.max_bytes)
        except Unreadable as reason:
            return reason
