"""What runs on a worker: paths of images in, records out, answered as `predict` answers.

A worker needs this package and what its model needs: the runtime of a file, or TensorFlow.
"""

import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import has_magic
from typing import Any, Literal

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler

from loc_keras.bulk.inputs import Inputs, image_name, listed_path
from loc_keras.bulk.run import Record, answered
from loc_keras.data.formats.parsing import IMAGE_ENDINGS
from loc_keras.errors import ImageError, ModelError, first_line
from loc_keras.localizer.localizer import Localizer

Source = tuple[Literal["local", "pattern", "folder", "list"], str]
"""A kind and an absolute path or URL. `local`: a path or pattern of the machine's own file system;
`pattern`: URLs; `folder`: a URL with all below it; `list`: a text file of one path a line."""

LEFT_OUT = "left out"
"""Name of the output of `Find` that holds numbers of files that are not taken for images."""

READERS = 16
"""URLs that a worker reads at once; storage of a network answers many as fast as one."""

_PLAIN = CompressionTypes.UNCOMPRESSED
_PIECE = 1 << 20


class Find(beam.DoFn):
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
class Task:
    """What the workers need to know.

    Attributes:
        model: Path or URL of the model, which is the one with this `Localizer.digest`.
        root: What names of images are relative to.
    """

    model: str
    digest: str
    root: str
    top_k: int
    max_bytes: int


class LocalizerHandler(ModelHandler[str, Record, Localizer]):
    """Answers about files by a trained model.

    Beam tries sizes of a batch between the two and stays with the fastest; a last one may be
    smaller.
    """

    def __init__(self, task: Task, *, min_batch_size: int, max_batch_size: int) -> None:
        super().__init__(min_batch_size=min_batch_size, max_batch_size=max_batch_size)
        self._task = task

    def load_model(self) -> Localizer:
        """Opens the model, once in a process."""
        place = self._task.model
        localizer = Localizer.open(local_copy(place))
        if localizer.digest != self._task.digest:
            raise ModelError(
                f"{place} is another model on a worker; --model must mean the same on all of them."
            )
        return localizer

    def run_inference(
        self,
        batch: Sequence[str],
        model: Localizer,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Record]:
        """A record for each path: first of URLs that cannot be read, then of the others."""
        task = self._task
        contents: dict[str, str | bytes] = {}
        with ThreadPoolExecutor(READERS) as pool:
            for path, content in zip(batch, pool.map(self._content, batch), strict=True):
                if isinstance(content, ImageError):
                    head = {"image": image_name(path, task.root), "path": path}
                    yield {**head, "reason": content.reason}
                else:
                    contents[path] = content
        settings = {"top_k": task.top_k, "max_bytes": task.max_bytes, "batch_size": len(batch)}
        yield from answered(model, contents, task.root, contents.__getitem__, **settings)

    def _content(self, path: str) -> str | bytes | ImageError:
        """The bytes of a URL; a path as it is, since the localizer reads that itself."""
        try:
            return read_bytes(path, self._task.max_bytes) if "://" in path else path
        except ImageError as error:
            return error


def read_bytes(url: str, most: int) -> bytes:
    """At most `most` bytes of a file; ImageError if it has more, or cannot be read."""
    content = bytearray()
    try:
        with FileSystems.open(url, compression_type=_PLAIN) as file:
            while len(content) <= most and (piece := file.read(_PIECE)):
                content += piece
    except FileNotFoundError as error:
        raise ImageError(url, "does not exist") from error
    except (OSError, BeamIOError, ValueError) as error:
        raise ImageError(url, f"cannot be read ({first_line(error)})") from error
    if len(content) > most:
        raise ImageError(url, f"has more than {most:,} bytes; --max-bytes sets the limit")
    return bytes(content)


def local_copy(model: str) -> str:
    """A model's path on this machine: the same one or, of a URL, that of a copy.

    Of a folder all is copied, of a file what has its name with any ending, of a `.keras` file its
    folder without folders in it. The copy stays until the machine's temporary files are removed: a
    process may open it again. ModelError where nothing is there.
    """
    if "://" not in model:
        return model
    base = model.rstrip("/")
    folder, name = base.rsplit("/", 1)
    stem, ending = posixpath.splitext(base)
    files = _matches(f"{base}/**") or _matches(f"{folder}/*" if ending == ".keras" else f"{stem}.*")
    if not files:
        raise ModelError(f"{model} does not exist; give a trained model or the folder that has it.")
    copy = tempfile.mkdtemp(prefix="loc-keras-model-")
    for file in files:
        target = os.path.join(copy, *file.removeprefix(f"{folder}/").split("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with FileSystems.open(file, compression_type=_PLAIN) as source, open(target, "wb") as to:
            shutil.copyfileobj(source, to)
    return os.path.join(copy, name)


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
