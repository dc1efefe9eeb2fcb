"""`Localizer`: a trained model that takes images as people have them."""

import os
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeGuard, cast, overload

import numpy as np
from PIL import Image

from loc_keras.atomic_file import own_files, written_aside
from loc_keras.data.files import MOST_BYTES
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ImageError, ModelError
from loc_keras.localizer.answers import Opened
from loc_keras.localizer.exported import exported_file, fastest_of, open_exported
from loc_keras.localizer.pictures import (
    ImageLike,
    Pixels,
    described,
    drawn_answer,
    quiet_pillow,
    upright_picture,
)
from loc_keras.localizer.results import Localization

BATCH_SIZE, TOP_K = 32, 5

_WORKERS = min(8, os.cpu_count() or 1)
_BATCH_RANK = 4
_BUILDING = threading.Lock()


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
        runtime: What computes: `"TensorFlow"`, `"LiteRT"`, `"ONNX Runtime"` or `"OpenVINO"`.
    """

    def __init__(self, opened: Opened) -> None:
        self.path, self.digest, self.notes = opened.path, opened.digest, opened.notes
        self.class_names, self.background = opened.class_names, opened.background
        self.form: ImageFormat = opened.reader.form
        self.trusted, self.tells_novelty = opened.trusted, opened.tells_novelty
        self.runtime = opened.runtime
        self._opened = opened
        self._explain: Any = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Localizer":
        """Opens a trained model.

        Args:
            path: A run's folder, whose best model it is; a `.keras` file, whose folder is looked at
                for class names, resize rule and trust; or an export, a version or its newest. A
                `.tflite`, `.onnx` or `.xml` file, or its folder, needs that runtime, NumPy and
                Pillow alone: neither TensorFlow nor Keras is imported.

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
    def open(cls, path: str | os.PathLike[str], *, fastest: bool = False) -> "Localizer":
        """As `load`, without warnings, for programs that report `notes` in their own way.

        With `fastest`, in place of a run or a SavedModel it opens the file for a runtime that
        `export` made of the same model, where there is one in the folder: `path` names it.
        """
        opened = fastest_of(Path(path)) if fastest else None
        if opened is not None:
            return cls(opened)
        file = exported_file(Path(path))
        if file is not None:
            return cls(open_exported(file))
        # TensorFlow, and what trust is fitted with, take seconds to import.
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
                (answer,) = self._opened.ask([self._opened.reader.read(images)], top_k)
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
                answers = iter(self._opened.ask(readable, top_k) if readable else [])
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
        boxes = result.box, result.box_outer, result.box_inner
        drawn = drawn_answer(image, result.label, result.score, *boxes)
        if save_to is not None:
            path = Path(save_to)
            place = path.parent, (path.name,), "give another file to save_to"
            with own_files(*place), written_aside(path) as aside:
                drawn.save(aside)
        return drawn

    @property
    def explains(self) -> bool:
        """Whether `explain` can draw: of models that were built here, but not of exports."""
        if self._opened.model is None:
            return False
        from loc_keras.report.explanation import is_explainable

        return is_explainable(self._opened.model)

    def explain(self, image: ImageLike) -> Image.Image:
        """Draws the answer over what its class was read from and where each side may lie.

        See `report.explanation`. ModelError where `explains` is false; ImageError where the image
        cannot be read.
        """
        if not self.explains:
            raise ModelError(
                f"{self.path} is an export or of other layers than ours, which cannot say why it "
                "answers so; give a run."
            )
        from loc_keras.report.explanation import drawn_explanation, explainer

        with _BUILDING:
            self._explain = self._explain or explainer(self._opened.model)
        given = self._opened.reader.read(image)
        (why,), (result,) = self._explain(given.pixels[None]), self._opened.ask([given], TOP_K)
        picture, legend = drawn_explanation(upright_picture(image), why, self.form.rule_in_use)
        boxes = result.box, result.box_outer, result.box_inner
        return drawn_answer(picture, result.label, result.score, *boxes, legend=legend)

    def evaluate(self, data: str | Path | None = None, split: str = "") -> dict[str, Any]:
        """Measures a run's model; see `commands.python.Run.evaluate`."""
        found: dict[str, Any] = self._run().evaluate(data, split)
        return found

    def export(self, out: str | Path, form: str = "saved_model", quantize: str = "none") -> None:
        """Writes a run's model for servers or devices; see `commands.python.Run.export`."""
        self._run().export(out, form, quantize)

    def _run(self) -> Any:
        from loc_keras.training.run_folder import BEST_FILE

        if self.path.name != BEST_FILE:
            raise ModelError(f"{self.path} is not the best model of a run; open the run's folder.")
        # Commands stand above this package, and wait until they are asked for.
        return import_module("loc_keras.commands.python").Run(self.path.parent)

    def _read(self, number: int, image: ImageLike, max_bytes: int) -> Pixels | ImageError:
        name = described(image)
        if not isinstance(image, str | os.PathLike):
            name = f"image {number} ({name.removeprefix('the ')})"
        try:
            return self._opened.reader.read(image, name, max_bytes)
        except ImageError as error:
            return error


def _is_single(images: object) -> TypeGuard[ImageLike]:
    if isinstance(images, np.ndarray):
        return images.ndim != _BATCH_RANK
    single = str | bytes | bytearray | memoryview | os.PathLike | Image.Image
    return isinstance(images, single) or not isinstance(images, Iterable)


def _check_counts(batch_size: int, top_k: int) -> None:
    for name, value in (("batch_size", batch_size), ("top_k", top_k)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
