"""`Localizer`: a trained model that takes images as people have them."""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard, cast, overload

import numpy as np
import tensorflow as tf
from PIL import Image

from loc_keras.atomic_file import own_files, written_aside
from loc_keras.data.files import MOST_BYTES
from loc_keras.data.resize import restore_boxes
from loc_keras.errors import ImageError
from loc_keras.localizer.opening import Opened
from loc_keras.localizer.pictures import (
    ImageLike,
    PictureReader,
    Pixels,
    described,
    drawn_answer,
    quiet_pillow,
)
from loc_keras.localizer.results import Localization, localization_of

BATCH_SIZE, TOP_K = 32, 5

_BOXES = ("bbox", "box_outer", "box_inner")
_SCORES = ("softmax", "softmax_calibrated", "p_iou50", "label_set", "novelty", "known")
_WORKERS = min(8, os.cpu_count() or 1)
_BATCH_RANK = 4


class Localizer:
    """A trained model that predicts what is in an image and where; `load` opens one.

    Attributes:
        path: File or folder of the model.
        class_names: By index.
        background: Index of the class of images without an object; None without one.
        form: Size, channels and resize rule of the images that the model is given.
        trusted: Whether answers come with statements of trust.
        tells_novelty: Whether answers say how much a picture is like the training images.
        notes: What was not known of the model and how it was taken instead, as sentences.
        digest: SHA-256, in hex, of the model and all that its answers depend on.
    """

    def __init__(self, opened: Opened) -> None:
        self.path, self.digest, self.notes = opened.path, opened.digest, opened.notes
        self.class_names, self.background = opened.class_names, opened.background
        self.form = opened.form
        self.trusted, self.tells_novelty = opened.trusted, opened.tells_novelty
        self._reader = PictureReader(opened.form)
        self._answerer = Answerer(opened)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Localizer":
        """Opens a trained model.

        Args:
            path: A run's folder, whose best model it is; a `.keras` file, whose folder is looked at
                for class names, resize rule and trust; or an export, a version or its newest.

        Raises:
            ModelError: If there is none, or it cannot be opened.
            TrustError: If the run's trust belongs to another model.

        Warns:
            UserWarning: Where class names or resize rule are not known (`notes`).
        """
        localizer = cls.open(path)
        for note in localizer.notes:
            warnings.warn(note, stacklevel=2)
        return localizer

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Localizer":
        """As `load`, without warnings, for programs that report `notes` in their own way."""
        # What trust is fitted with takes as long to import as all the rest of the package.
        from loc_keras.localizer.opening import open_trained

        return cls(open_trained(Path(path)))

    def __repr__(self) -> str:
        """Path, number of classes and image format."""
        height, width, channels = self.form.shape
        return (
            f"<Localizer {self.path}: {len(self.class_names)} classes, images of "
            f"{height} x {width} x {channels}, {self.form.rule}>"
        )

    @overload  # A text is iterable, too, but is one image.
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, batch_size: int = ..., top_k: int = ...
    ) -> Localization: ...

    @overload
    def predict(
        self, images: Iterable[ImageLike], *, batch_size: int = ..., top_k: int = ...
    ) -> list[Localization]: ...

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        batch_size: int = BATCH_SIZE,
        top_k: int = TOP_K,
    ) -> Localization | list[Localization]:
        """Predicts what is in an image, or in each of several.

        Args:
            images: A path, the bytes of a file, an array, an image of Pillow, or several of them;
                an array of four dimensions is several. `ImageLike` has the details.
            batch_size: Images that the model is given at once, of several.
            top_k: How many classes an answer holds, the most probable first.

        Returns:
            The answer; of several a list in their order.

        Raises:
            ImageError: At the first image that cannot be read, naming it.
            ValueError: If `batch_size` or `top_k` is below 1.
        """
        _check_counts(batch_size, top_k)
        with quiet_pillow():
            if _is_single(images):
                (answer,) = self._answerer.ask([self._reader.read(images)], top_k)
                return replace(answer, source=images)
            answers: list[Localization] = []
            batch = cast(Iterable[ImageLike], images)
            for each in self.stream(batch, batch_size=batch_size, top_k=top_k):
                if isinstance(each, ImageError):
                    raise each
                answers.append(each)
            return answers

    def stream(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int = BATCH_SIZE,
        top_k: int = TOP_K,
        max_bytes: int = MOST_BYTES,
    ) -> Iterator[Localization | ImageError]:
        """Answers about any number of images, in their order, holding few of them at a time.

        Threads decode the next images, two batches ahead, while the model works on a batch. Files
        of more than `max_bytes` are not read. It yields the answer, or the error of an image that
        cannot be read.

        Raises:
            ValueError: If `batch_size` or `top_k` is below 1.
        """
        _check_counts(batch_size, top_k)
        coming = iter(enumerate(images))
        waiting: deque[Future[Pixels | ImageError]] = deque()
        pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="localizer")

        def refill() -> None:
            while len(waiting) < 2 * batch_size:
                following = next(coming, None)
                if following is None:
                    return
                waiting.append(pool.submit(self._read, *following, max_bytes))

        try:
            refill()
            while waiting:
                batch = [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
                refill()
                readable = [image for image in batch if isinstance(image, Pixels)]
                answers = iter(self._answerer.ask(readable, top_k) if readable else [])
                for image in batch:
                    yield image if isinstance(image, ImageError) else next(answers)
        finally:
            pool.shutdown(cancel_futures=True)

    def annotate(
        self, image: ImageLike, result: Localization, save_to: str | os.PathLike[str] | None = None
    ) -> Image.Image:
        """Draws the answer of `predict` on its image: RGB, upright, small ones enlarged.

        Where there are several boxes, a legend stands below. The picture is also written to
        `save_to`, whole or not at all, in the place of one that this wrote and none other; its
        ending chooses the format. ImageError where the image cannot be read.
        """
        drawn = drawn_answer(image, result)
        if save_to is not None:
            path = Path(save_to)
            place = path.parent, (path.name,), "give another file to save_to"
            with own_files(*place), written_aside(path) as aside:
                drawn.save(aside)
        return drawn

    def _read(self, number: int, image: ImageLike, max_bytes: int) -> Pixels | ImageError:
        name = described(image)
        if not isinstance(image, str | os.PathLike):
            name = f"image {number} ({name.removeprefix('the ')})"
        try:
            return self._reader.read(image, name, max_bytes)
        except ImageError as error:
            return error


class Answerer:
    """Asks a model about batches of images, by a function that is traced at its first call."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        form = opened.form

        # With a fixed signature it is traced once, whatever the number of images.
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, *form.shape], tf.uint8),
                tf.TensorSpec([None, 2], tf.int32),
            ],
            autograph=False,
        )
        def outputs_of(images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = opened.answer(tf.cast(images, tf.float32))
            scores = {name: outputs[name] for name in _SCORES if name in outputs}
            boxes = {
                name: restore_boxes(outputs[name], sizes, form.size, form.rule or "stretch")
                for name in _BOXES
                if name in outputs
            }
            return scores | boxes

        self._outputs_of = outputs_of

    def ask(self, batch: Sequence[Pixels], top_k: int) -> list[Localization]:
        """Answers about some images, at least one, with the `top_k` most probable classes each."""
        images = (
            np.stack([one.pixels for one in batch]) if len(batch) > 1 else batch[0].pixels[None]
        )
        sizes = np.array([one.size for one in batch], np.int32)
        outputs = self._outputs_of(tf.constant(images), tf.constant(sizes))
        arrays = {name: value.numpy() for name, value in outputs.items()}
        names, background = self._opened.class_names, self._opened.background
        return [
            localization_of(arrays, row, image.size, names, background=background, top_k=top_k)
            for row, image in enumerate(batch)
        ]


def _is_single(images: object) -> TypeGuard[ImageLike]:
    if isinstance(images, np.ndarray):
        return images.ndim != _BATCH_RANK
    single = str | bytes | bytearray | memoryview | os.PathLike | Image.Image
    return isinstance(images, single) or not isinstance(images, Iterable)


def _check_counts(batch_size: int, top_k: int) -> None:
    for name, value in (("batch_size", batch_size), ("top_k", top_k)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
