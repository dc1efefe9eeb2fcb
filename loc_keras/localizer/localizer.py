"""`Localizer`: a trained model that takes images as people have them."""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeGuard, cast, overload

import numpy as np
import tensorflow as tf
from PIL import Image

from loc_keras.atomic_file import written_aside
from loc_keras.data.resize import ImageFormat, restore_boxes
from loc_keras.errors import ImageError
from loc_keras.localizer.opening import Opened
from loc_keras.localizer.pictures import (
    ImageLike,
    PictureReader,
    Pixels,
    described,
    quiet_pillow,
    upright_picture,
)
from loc_keras.localizer.results import Localization, localization_of

_BOXES = ("bbox", "box_outer", "box_inner")
_SCORES = ("softmax", "softmax_calibrated", "p_iou50", "label_set")


class Answerer:
    """Asks a model about batches of images.

    Args:
        opened: The model.
    """

    def __init__(self, opened: Opened) -> None:
        """Makes the function; it is traced at its first call."""
        self._names = opened.settings.class_names or ()
        background = opened.settings.background
        self._background = self._names.index(background) if background in self._names else None
        form = opened.form

        # With a fixed signature it is traced once, whatever the number of images.
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, *form.shape], tf.uint8),
                tf.TensorSpec([None, 2], tf.int32),
            ],
            autograph=False,
        )
        def look(images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
            found = opened.answer(tf.cast(images, tf.float32))
            boxes = {
                name: restore_boxes(found[name], sizes, form.size, form.rule or "stretch")
                for name in _BOXES
                if name in found
            }
            return {**{name: found[name] for name in _SCORES if name in found}, **boxes}

        self._look = look

    @property
    def background(self) -> int | None:
        """Index of the class of images without an object."""
        return self._background

    def ask(self, batch: Sequence[Pixels], top_k: int) -> list[Localization]:
        """Answers about some images, at least one.

        Args:
            batch: The images.
            top_k: How many classes are told of each, at least one.
        """
        images = (
            np.stack([one.pixels for one in batch]) if len(batch) > 1 else batch[0].pixels[None]
        )
        sizes = np.array([one.size for one in batch], np.int32)
        found = self._look(tf.constant(images), tf.constant(sizes))
        arrays = {name: value.numpy() for name, value in found.items()}
        return [
            localization_of(
                arrays, row, batch[row].size, self._names, background=self._background, top_k=top_k
            )
            for row in range(len(batch))
        ]


BATCH_SIZE, TOP_K = 32, 5

_WORKERS = min(8, os.cpu_count() or 1)
_STACK_RANK = 4


class Localizer:
    """A trained model that says what is in an image and where.

    Args:
        opened: The model; `Localizer.load` opens one.
    """

    def __init__(self, opened: Opened) -> None:
        """Keeps the model; see the class."""
        self._opened = opened
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
        found = cls.open(path)
        for note in found.notes:
            warnings.warn(note, stacklevel=2)
        return found

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Localizer":
        """As `load`, without warnings, for programs that tell `notes` in their own way."""
        # What trust is fitted with takes as long to import as all the rest of the package.
        from loc_keras.localizer.opening import open_trained

        return cls(open_trained(Path(path)))

    def __repr__(self) -> str:
        """Says what it takes and knows."""
        height, width, channels = self.form.shape
        return (
            f"<Localizer {self._opened.path}: {len(self.class_names)} classes, images of "
            f"{height} x {width} x {channels}, {self.form.rule}>"
        )

    @property
    def path(self) -> Path:
        """File or folder of the model."""
        return self._opened.path

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by index."""
        return self._opened.settings.class_names or ()

    @property
    def background(self) -> int | None:
        """Index of the class of images without an object; None without one."""
        return self._answerer.background

    @property
    def form(self) -> ImageFormat:
        """Size, channels and resize rule of the images that the model is given."""
        return self._opened.form

    @property
    def trusted(self) -> bool:
        """Whether answers come with statements of trust."""
        return self._opened.trusted

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not known of the model and how it was taken instead, as sentences."""
        return self._opened.notes

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the model and all that its answers depend on."""
        return self._opened.digest

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
        """Says what is in an image, or in each of several.

        Args:
            images: A path, the bytes of a file, an array, an image of Pillow, or several of them;
                an array of four dimensions is several. `ImageLike` has the details.
            batch_size: Images that the model is given at once, of several.
            top_k: How many classes are told, the most probable first.

        Returns:
            The answer; of several a list in their order.

        Raises:
            ImageError: At the first image that cannot be read, naming it.
            ValueError: If `batch_size` or `top_k` is below 1.
        """
        if _is_one(images):
            _check_counts(batch_size, top_k)
            with quiet_pillow():
                pixels = self._reader.read(images)
            return self._answerer.ask([pixels], top_k)[0]
        with quiet_pillow():
            several = cast(Iterable[ImageLike], images)
            return list(map(_or_raise, self.stream(several, batch_size=batch_size, top_k=top_k)))

    def stream(
        self, images: Iterable[ImageLike], *, batch_size: int = BATCH_SIZE, top_k: int = TOP_K
    ) -> Iterator[Localization | ImageError]:
        """Answers about any number of images, in their order, holding few of them at a time.

        Threads decode the next images while the model looks at a batch.

        Args:
            images: As for `predict`; taken two batches ahead.
            batch_size: Images that the model is given at once.
            top_k: How many classes are told of each.

        Yields:
            The answer, or the error of an image that cannot be read.

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
                waiting.append(pool.submit(self._read, *following))

        try:
            refill()
            while waiting:
                batch = [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
                refill()
                yield from self._answered(batch, top_k)
        finally:
            pool.shutdown(cancel_futures=True)

    def annotate(
        self,
        image: ImageLike,
        result: Localization,
        save_to: str | os.PathLike[str] | None = None,
    ) -> Image.Image:
        """Draws an answer on its image.

        Args:
            image: The one that `result` is about.
            result: What `predict` answered.
            save_to: A file to write the picture to as well, whole or not at all; its ending tells
                the format.

        Returns:
            RGB, upright, of the image's own size.

        Raises:
            ImageError: If the image cannot be read.
        """
        from loc_keras.report.image_boxes import draw_answer  # Loads fonts.

        with quiet_pillow():
            picture = upright_picture(image)
        score = f"{result.label} {100 * result.score:.0f} %"
        drawn = draw_answer(picture, score, result.box, result.box_outer, result.box_inner)
        if save_to is not None:
            with written_aside(Path(save_to)) as aside:
                drawn.save(aside)
        return drawn

    def _read(self, number: int, image: ImageLike) -> Pixels | ImageError:
        name = described(image)
        if not isinstance(image, str | os.PathLike):
            name = f"image {number} ({name.removeprefix('the ')})"
        try:
            return self._reader.read(image, name)
        except ImageError as error:
            return error

    def _answered(
        self, batch: list[Pixels | ImageError], top_k: int
    ) -> Iterator[Localization | ImageError]:
        good = [one for one in batch if isinstance(one, Pixels)]
        answers = iter(self._answerer.ask(good, top_k) if good else [])
        for one in batch:
            yield one if isinstance(one, ImageError) else next(answers)


def _is_one(images: object) -> TypeGuard[ImageLike]:
    if isinstance(images, np.ndarray):
        return images.ndim != _STACK_RANK
    one = str | bytes | bytearray | memoryview | os.PathLike | Image.Image
    return isinstance(images, one) or not isinstance(images, Iterable)


def _or_raise(answer: Localization | ImageError) -> Localization:
    if isinstance(answer, ImageError):
        raise answer
    return answer


def _check_counts(batch_size: int, top_k: int) -> None:
    for name, value in (("batch_size", batch_size), ("top_k", top_k)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
