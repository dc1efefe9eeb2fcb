"""A client of a served localizer, over TF Serving's REST or gRPC interface.

REST needs nothing but the standard library; gRPC needs `requirements-serving.txt`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Self, overload

from loc_keras.errors import ServingError
from loc_keras.serving.client_answers import ServedAnswer, answer_of
from loc_keras.serving.client_grpc import GrpcInterface
from loc_keras.serving.client_images import EncodedImage, batches
from loc_keras.serving.client_rest import RestInterface
from loc_keras.serving.client_retry import Backoff, asked_again

MAX_IMAGES = 32
"""Images of one request; the batching parameters in docs/serving.md allow as many."""

MAX_BYTES = 2**24
"""Bytes of one request's images, 16 MiB: a few photographs as a telephone takes them."""


class Interface(Protocol):
    """One way to ask a server."""

    def ask(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Outputs by name, for each image."""

    def close(self) -> None:
        """Lets go of what is open."""


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
        for name, value in (
            ("timeout_s", timeout_s),
            ("tries", tries),
            ("max_images", max_images),
            ("max_bytes", max_bytes),
        ):
            if not value > 0:
                raise ServingError(f"{name} is {value}; it must be above 0.")
        if not model:
            raise ServingError("the name of the served model is empty; give its --model_name.")
        if version is not None and version < 0:
            raise ServingError(f"version is {version}; it must be 0 or above, or None.")
        self._interface = interface_to(
            address, model, version, signature, float(timeout_s), headers or {}
        )
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
        """Lets go of the connection."""
        self._interface.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def interface_to(
    address: str,
    model: str,
    version: int | None,
    signature: str,
    timeout_s: float,
    headers: Mapping[str, str],
) -> Interface:
    """REST or gRPC, as the address says.

    Raises:
        ServingError: If it is neither.
    """
    scheme, mark, rest = address.partition("://")
    if mark and scheme in {"http", "https"} and rest:
        return RestInterface(address, model, version, signature, timeout_s, headers)
    if mark and scheme in {"grpc", "grpcs"} and rest:
        return GrpcInterface(
            rest, model, version, signature, timeout_s, headers, secure=scheme == "grpcs"
        )
    if address and (not mark or scheme in {"dns", "unix", "xds"}):
        return GrpcInterface(address, model, version, signature, timeout_s, headers, secure=False)
    raise ServingError(
        f"the address {address!r} is none of a server; give http://host:8501 for REST or host:8500 "
        "for gRPC."
    )
