"""A client of a served localizer, over TF Serving's REST or gRPC interface.

REST needs nothing but the standard library; gRPC needs `requirements-serving.txt`.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from loc_keras.errors import DataError, ServerUnavailableError, ServingError
from loc_keras.serving.client_transport import Target, interface_to

MAX_IMAGES = 32  # Images of one request; the batching parameters in docs/serving.md allow as many.

MAX_BYTES = 2**24
"""Bytes of one request's images, 16 MiB: a few photographs as a telephone takes them."""

EncodedImage = bytes | bytearray | str | os.PathLike[str]
"""One image: the bytes of an encoded file, or the path of such a file."""

Box = tuple[float, float, float, float]  # (x1, y1, x2, y2), x to the right and y down.

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Backoff:
    """How often a server is asked, 1 or more, and how long is waited between, in seconds.

    The longest wait after the first try is `first_s`; it doubles with every try up to `longest_s`.
    """

    tries: int = 4
    first_s: float = 0.2
    longest_s: float = 5.0


@dataclass(frozen=True)
class ServedAnswer:
    """The answer for one image. Where it could not be read, only `ok` and `reason` say something.

    Attributes:
        probabilities: Of each class.
        box_px: Box in pixels of the image as it was sent, upright.
        box_fraction: The same in fractions of its sides.
        p_iou50: Probability that the box has an IoU of at least .5 with the true one; None, like
            the following, where no trust was fitted to the model.
        box_outer_px: Box that holds the true one with the promised probability.
        box_inner_px: Box that lies in the true one with it; all zero where it is empty.
        label_set: For each class, whether it is one of those of which the true one is one with it.
        novelty: p-value of the image being drawn as the training images were; None, like the
            following, where no novelty was fitted to the model.
        known: Whether it is no smaller than the level that was set.
        outputs: All outputs of the server for this image, by name.
    """

    ok: bool
    reason: str = ""
    label: str | None = None
    class_id: int | None = None
    score: float | None = None
    probabilities: tuple[float, ...] = ()
    box_px: Box | None = None
    box_fraction: Box | None = None
    p_iou50: float | None = None
    box_outer_px: Box | None = None
    box_inner_px: Box | None = None
    label_set: tuple[bool, ...] | None = None
    novelty: float | None = None
    known: bool | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)


class ServingClient:
    """Asks a served localizer; may be shared by threads, and used in a `with` statement.

    Args:
        address: `http://host:8501` or `https://...` for REST; `host:8500`, `grpc://host:8500` or,
            encrypted, `grpcs://host:8500` for gRPC.
        model: Name of the served model.
        version: Its version; None: the one that the server takes for the latest.
        signature: `serving_default`, `image_bytes` (the same) or, with serialized examples in the
            place of images, `tf_example`.
        timeout_s: Seconds that one try may take with gRPC, and that the server may be silent with
            REST.
        tries: How often a request is sent that finds the server unavailable (gRPC's UNAVAILABLE, a
            refused connection, HTTP 503). Nothing else is tried again.
        max_images: Most images of one request.
        max_bytes: Most bytes of one request's images; a larger image goes alone.
        headers: Further headers (gRPC: metadata) of every request.

    Raises:
        ServingError: If an argument cannot be, or gRPC's packages are missing.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        signature: str = "serving_default",
        timeout_s: float = 30.0,
        *,
        tries: int = Backoff.tries,
        max_images: int = MAX_IMAGES,
        max_bytes: int = MAX_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        limits = {"timeout_s": timeout_s, "tries": tries}
        limits |= {"max_images": max_images, "max_bytes": max_bytes}
        for name, value in limits.items():
            if not value > 0:
                raise ServingError(f"{name} is {value}; it must be above 0.")
        if not model:
            raise ServingError("the name of the served model is empty; give its --model_name.")
        if version is not None and version < 0:
            raise ServingError(f"version is {version}; it must be 0 or above, or None.")
        target = Target(model, version, signature, float(timeout_s), headers or {})
        self._interface = interface_to(address, target)
        self._backoff = Backoff(tries)
        self._max_images = max_images
        self._max_bytes = max_bytes

    # A text is a sequence of texts to the type checker; here it is one path.
    @overload
    def predict(self, images: EncodedImage) -> ServedAnswer: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Iterable[EncodedImage]) -> list[ServedAnswer]: ...

    def predict(
        self, images: EncodedImage | Iterable[EncodedImage]
    ) -> ServedAnswer | list[ServedAnswer]:
        """What the model says of one image, or of several in their order.

        An image that the model cannot read has `ok` false and a `reason`; the others have answers.

        Args:
            images: Encoded files (JPEG, PNG, BMP, GIF) as bytes or by path, one or several.

        Raises:
            DataError: If a path cannot be read.
            ServerUnavailableError: If the server was unavailable on every try.
            ServingError: If it did not answer in time, refused, or gave an answer of no use.
        """
        if isinstance(images, bytes | bytearray | str | os.PathLike):
            return next(self.stream([images]))
        return list(self.stream(images))

    def stream(self, images: Iterable[EncodedImage]) -> Iterator[ServedAnswer]:
        """As `predict`, one answer after the other, with one request's images in memory."""
        for batch in batches(images, self._max_images, self._max_bytes):
            rows = asked_again(partial(self._interface.ask, batch), self._backoff)
            yield from map(answer_of, rows)

    def close(self) -> None:
        """Closes the connection."""
        self._interface.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer_of(row: Mapping[str, Any]) -> ServedAnswer:
    """Types the outputs for one image by name; ServingError where one is missing or wrong."""
    if not _output(row, "ok", bool):
        return ServedAnswer(ok=False, reason=_output(row, "reason", str), outputs=row)
    return ServedAnswer(
        ok=True,
        label=_output(row, "label", str),
        class_id=_output(row, "class_id", int),
        score=_output(row, "score", float),
        probabilities=_output(row, "probabilities", _floats),
        box_px=_output(row, "box", _box),
        box_fraction=_output(row, "box_fraction", _box),
        p_iou50=_output(row, "p_iou50", float) if "p_iou50" in row else None,
        box_outer_px=_output(row, "box_outer", _box) if "box_outer" in row else None,
        box_inner_px=_output(row, "box_inner", _box) if "box_inner" in row else None,
        label_set=_output(row, "label_set", _bools) if "label_set" in row else None,
        novelty=_output(row, "novelty", float) if "novelty" in row else None,
        known=_output(row, "known", bool) if "known" in row else None,
        outputs=row,
    )


def image_bytes(image: EncodedImage) -> bytes:
    """The encoded file of one image; DataError if it cannot be read, or is no `EncodedImage`."""
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if not isinstance(image, str | os.PathLike):
        raise DataError(
            f"an image of type {type(image).__name__} was given; "
            "a client sends encoded files, as bytes or by their path."
        )
    try:
        if Path(image).exists() and not (Path(image).is_file() or Path(image).is_dir()):
            raise OSError("it is a pipe, a socket or a device, no file")
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"image {os.fspath(image)} cannot be read ({reason}).") from error


def batches(
    images: Iterable[EncodedImage], max_images: int, max_bytes: int
) -> Iterator[list[bytes]]:
    """Groups images in order, each group as large as both limits allow, one image at least.

    Files are read as their group is made, so that no more than one group is held in memory.
    """
    group: list[bytes] = []
    size = 0
    for image in images:
        data = image_bytes(image)
        if group and (len(group) >= max_images or size + len(data) > max_bytes):
            yield group
            group, size = [], 0
        group.append(data)
        size += len(data)
    if group:
        yield group


def asked_again(
    ask: Callable[[], Answer],
    backoff: Backoff,
    *,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Answer:
    """Calls `ask` until it answers; ServerUnavailableError if it raises that on every try.

    Waits are drawn evenly between nothing and `longest_wait` ("full jitter", Brooker 2015, AWS
    Architecture Blog), so that clients refused together do not come back together.
    """
    for done in range(1, backoff.tries):
        try:
            return ask()
        except ServerUnavailableError:
            sleep(uniform(0.0, longest_wait(backoff, done)))
    try:
        return ask()
    except ServerUnavailableError as error:
        if backoff.tries == 1:
            raise
        raise ServerUnavailableError(f"{error} It was asked {backoff.tries} times.") from error


def longest_wait(backoff: Backoff, done: int) -> float:
    """Upper end of the wait after `done` tries (1, 2, ...), in seconds."""
    # 2.0 ** 1100 would overflow.
    return min(backoff.longest_s, backoff.first_s * 2.0 ** min(done - 1, 64))


def _output(row: Mapping[str, Any], name: str, make: Any) -> Any:
    if name not in row:
        raise ServingError(
            f"the served model has no output {name!r} but {', '.join(sorted(row)) or 'none'}; "
            "choose a signature that takes encoded images, such as serving_default."
        )
    try:
        return make(row[name])
    except (TypeError, ValueError) as error:
        raise ServingError(
            f"the served model gave output {name!r} as {row[name]!r:.80}."
        ) from error


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _bools(values: Any) -> tuple[bool, ...]:
    return tuple(bool(value) for value in values)


def _box(values: Any) -> Box:
    x1, y1, x2, y2 = _floats(values)
    return x1, y1, x2, y2
