"""On a worker: the exported model behind Beam's `RunInference`, from paths to records."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from apache_beam.ml.inference.base import ModelHandler

from loc_keras.beam.worker_model import local_copy
from loc_keras.beam.worker_reading import Unreadable, read_bytes
from loc_keras.beam.worker_records import Record, records_of
from loc_keras.bulk.names import image_name

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
        # Both are read when TensorFlow is imported; loc_keras/onednn.py says why the first.
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
