"""What runs on a worker: paths of images in, records out, by an exported model.

`Find` and `ExportedModelHandler` are pickled with the code of this package that they use, none of
which imports Keras.
"""

import os
import pickle
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import has_magic
from typing import Any, Literal

import apache_beam as beam
import cloudpickle
import numpy as np
import numpy.typing as npt
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler

from loc_keras.bulk.inputs import Inputs, image_name, listed_path
from loc_keras.data.formats.parsing import IMAGE_ENDINGS
from loc_keras.localizer.results import localization_of

Record = dict[str, Any]

Source = tuple[Literal["local", "pattern", "folder", "list"], str]
"""A kind and an absolute path or URL. `local`: a path or pattern of the machine's own file system;
`pattern`: URLs; `folder`: a URL with all below it; `list`: a text file of one path a line."""

LEFT_OUT = "left out"
"""Name of the output of `Find` that holds numbers of files that are not taken for images."""

SIGNATURE, INPUT = "serving_default", "image_bytes"
REQUIRED_OUTPUTS = frozenset({"ok", "reason", "probabilities", "box_fraction", "size"})
READERS = 16
"""Files that a worker reads at once; storage of a network answers many as fast as one."""

_PLAIN = CompressionTypes.UNCOMPRESSED
_PIECE = 1 << 20
_TRUST = ("softmax_calibrated", "p_iou50", "label_set", "novelty", "known")
_TRUST_BOXES = ("box_outer", "box_inner")


class PickledByValue:
    """Base of what is pickled with its class and all that the class uses of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as bytes that build the class first."""
        package = sys.modules.get(__name__.partition(".")[0])
        if package is not None:  # On a worker there is none, and nothing to refer to.
            cloudpickle.register_pickle_by_value(package)
        return pickle.loads, (cloudpickle.dumps(_Instance(self)),)


class _Instance:
    """Reduces to an object in the default way, which `PickledByValue` replaces."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return object.__new__, (type(self._value),), vars(self._value)


class Find(PickledByValue, beam.DoFn):
    """Paths of the images of a source, and how many files were left out; skips `out`."""

    def __init__(self, out: str | None) -> None:
        super().__init__()
        self._out = out

    def process(self, source: Source) -> Iterator[Any]:
        """Finds those of one source."""
        kind, path = source
        if kind == "local":
            inputs = Inputs([path], self._out)
            yield from inputs
            yield beam.pvalue.TaggedOutput(LEFT_OUT, inputs.left_out)
        elif kind == "list":
            yield from _listed(path)
        elif kind == "pattern":
            yield from _matches(path)
        else:
            names = _matches(f"{path}/**")
            names = [name for name in names if "/." not in name.removeprefix(path)]
            images = [n for n in names if posixpath.splitext(n)[1].lower() in IMAGE_ENDINGS]
            yield from images
            yield beam.pvalue.TaggedOutput(LEFT_OUT, len(names) - len(images))


@dataclass(frozen=True)
class ExportedModel:
    """What is known of an exported version; the digest is as `Localizer.digest`."""

    place: str
    names: tuple[str, ...]
    background: int | None
    digest: str


@dataclass(frozen=True)
class Task:
    """What the workers need to know; names of images are relative to `root`."""

    model: ExportedModel
    root: str
    top_k: int
    max_bytes: int


@dataclass
class LoadedModel:
    """An open model, and the threads that read files for it; variables live as long as the bundle.

    Beam refers to it weakly, which excludes tuples.
    """

    bundle: Any
    signature: Any
    pool: ThreadPoolExecutor


class ExportedModelHandler(PickledByValue, ModelHandler[str, Record, LoadedModel]):
    """Answers about files by an exported SavedModel, which takes them as they are.

    Beam tries sizes of a batch between the two and stays with the fastest; a last one may be
    smaller.
    """

    def __init__(self, task: Task, *, min_batch_size: int, max_batch_size: int) -> None:
        super().__init__(min_batch_size=min_batch_size, max_batch_size=max_batch_size)
        self._task = task

    def load_model(self) -> LoadedModel:
        """Opens the model, once in a process."""
        # Both are read when TensorFlow is imported; loc_keras/_environ.py says why the first.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        bundle = tf.saved_model.load(local_copy(self._task.model.place))
        return LoadedModel(bundle, bundle.signatures[SIGNATURE], ThreadPoolExecutor(READERS))

    def run_inference(
        self, batch: Sequence[str], model: LoadedModel, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Record]:
        """A record for each path, in their order."""
        import tensorflow as tf

        contents = list(model.pool.map(self._content, batch))
        heads = [{"image": image_name(path, self._task.root), "path": path} for path in batch]
        read = [at for at, content in enumerate(contents) if isinstance(content, bytes)]
        records = [
            head if isinstance(content, bytes) else {**head, "reason": str(content)}
            for head, content in zip(heads, contents, strict=True)
        ]
        if read:
            strings = tf.constant([contents[at] for at in read], tf.string)
            outputs = model.signature(**{INPUT: strings})
            answers = records_of(
                {name: value.numpy() for name, value in outputs.items()},
                [heads[at] for at in read],
                self._task.model.names,
                background=self._task.model.background,
                top_k=self._task.top_k,
            )
            for at, answer in zip(read, answers, strict=True):
                records[at] = answer
        return records

    def get_num_bytes(self, batch: Sequence[str]) -> int:
        """Bytes of the paths, which are what is sent to the worker."""
        return sum(len(path) for path in batch)

    def get_metrics_namespace(self) -> str:
        """Name under which Beam counts batches and their times."""
        return "loc_keras"

    def _content(self, path: str) -> "bytes | Unreadable":
        try:
            return read_bytes(path, self._task.max_bytes)
        except Unreadable as reason:
            return reason


def records_of(
    outputs: Mapping[str, npt.NDArray],
    heads: Sequence[Record],
    names: Sequence[str],
    *,
    background: int | None,
    top_k: int,
) -> list[Record]:
    """A record for each of N pictures: its head and the answer or, if unreadable, `reason`.

    Outputs are of the signature, heads have `image` and `path`; the rest is as in
    `localization_of`.
    """
    arrays = {"softmax": outputs["probabilities"], "bbox": outputs["box_fraction"]}
    arrays |= {name: outputs[name] for name in _TRUST if name in outputs}
    # These come in px; of a picture that was not read the size is zero.
    sides = np.maximum(np.tile(outputs["size"][:, ::-1].astype(np.float64), (1, 2)), 1)
    arrays |= {name: outputs[name] / sides for name in _TRUST_BOXES if name in outputs}
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


class Unreadable(Exception):
    """A file cannot be read; the text says why, as the end of a sentence that begins with it."""


def read_bytes(path: str, most: int) -> bytes:
    """At most `most` bytes of a file, by absolute path or URL; Unreadable if there are more."""
    try:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise Unreadable("is a pipe, a socket or a device, no file")
        with FileSystems.open(path, compression_type=_PLAIN) as file:
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


def local_copy(folder: str) -> str:
    """A folder that TensorFlow can open: the same one or, of a URL, a copy of it.

    The copy stays until the machine's temporary files are removed: a process may open it again.
    """
    if "://" not in folder:
        return folder
    base = folder.rstrip("/")
    copy = tempfile.mkdtemp(prefix="loc-keras-model-")
    for name in _matches(f"{base}/**"):
        target = os.path.join(copy, *posixpath.relpath(name, base).split("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with FileSystems.open(name, compression_type=_PLAIN) as file, open(target, "wb") as to:
            shutil.copyfileobj(file, to)
    return copy


def folder_of(path: str) -> str:
    """Folder of a file, or of what a pattern matches: the part before any sign of a pattern."""
    folder = path.rpartition("/")[0] if "://" in path else os.path.dirname(path)
    while has_magic(folder):
        folder = folder.rpartition("/")[0]
    return folder


def _listed(path: str) -> Iterator[str]:
    with FileSystems.open(path, compression_type=_PLAIN) as file:
        for line in file:
            # As `LIST_ENCODING`: the mark that some editors begin with is no part of a path.
            text = line.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
            if (listed := listed_path(text, folder_of(path))) is not None:
                yield listed


def _matches(pattern: str) -> list[str]:
    return sorted(match.path for match in FileSystems.match([pattern])[0].metadata_list)


def _pieces(file: Any, most: int) -> Iterator[bytes]:
    size = 0
    while size <= most and (piece := file.read(_PIECE)):
        size += len(piece)
        yield piece
