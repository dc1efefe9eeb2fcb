"""TF Serving's REST interface, with the standard library alone."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from loc_keras.errors import ServerUnavailableError, ServingError
from loc_keras.serving.client_words import one_line

# The statuses that TF Serving gives (`ToHTTPStatusCode` in its http_server.cc) and proxies add.
UNAVAILABLE = 503
GATEWAY_TIMEOUT = 504
OK = 200


class RestInterface:
    """Asks `POST URL/v1/models/MODEL[/versions/V]:predict` in row format.

    Args:
        url: `http://host:port` or `https://host:port`, perhaps with a path before `/v1`.
        model: Name of the served model.
        version: Its version; None: the one that the server takes for the latest.
        signature: Name of a signature with one input, encoded images.
        timeout_s: Longest silence of the server, in seconds.
        headers: Further headers of every request, for example `Authorization`.

    Raises:
        ServingError: If the URL has no host, or a port that is no number.
    """

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None,
        signature: str,
        timeout_s: float,
        headers: Mapping[str, str],
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ServingError(f"the address {url!r} is no URL ({one_line(error)}).") from error
        if not host or "/v1/models" in parts.path:
            raise ServingError(
                f"the address {url!r} is none of a server; give scheme, host and port alone, as in "
                "http://host:8501."
            )
        self._secure = parts.scheme == "https"
        self._host, self._port = host, port
        self._place = host if port is None else f"{host}:{port}"
        self._path = predict_path(parts.path, model, version)
        self._signature = signature
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json", **headers}

    def ask(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """The outputs for encoded images, one dict by output name for each.

        Raises:
            ServerUnavailableError: If the connection is refused or the answer is status 503.
            ServingError: If the server does not answer in time, refuses, or answers otherwise.
        """
        status, content = self._post(request_body(self._signature, images))
        if status == OK:
            return rows_of(content, len(images), self._place)
        said = _told_reason(content)
        if status == UNAVAILABLE:
            raise ServerUnavailableError(f"the server {self._place} is unavailable: {said}.")
        if status == GATEWAY_TIMEOUT:
            raise ServingError(f"the server {self._place} ran out of time: {said}.")
        raise ServingError(f"the server {self._place} refused the request ({status}): {said}.")

    def close(self) -> None:
        """Nothing is kept open: each request has its own connection."""

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request("POST", self._path, body=body, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError as error:
            raise ServerUnavailableError(
                f"the server {self._place} refused the connection; start it, or correct the "
                "address."
            ) from error
        except TimeoutError as error:
            raise ServingError(
                f"the server {self._place} did not answer within {self._timeout_s:g} s; raise "
                "timeout_s, or send fewer images at once."
            ) from error
        except socket.gaierror as error:
            raise ServingError(
                f"the host of {self._place} is not known ({error.strerror}); correct the address."
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServingError(
                f"the connection to the server {self._place} broke ({one_line(error)})."
            ) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)


def predict_path(prefix: str, model: str, version: int | None) -> str:
    """Path of the predict interface of a model, for example `/v1/models/digits:predict`."""
    versions = "" if version is None else f"/versions/{version}"
    return f"{prefix.rstrip('/')}/v1/models/{quote(model, safe='')}{versions}:predict"


def request_body(signature: str, images: Sequence[bytes]) -> bytes:
    """The request in row format; bytes go as `{"b64": ...}`."""
    instances = [{"b64": base64.b64encode(image).decode("ascii")} for image in images]
    return json.dumps({"signature_name": signature, "instances": instances}).encode("ascii")


def rows_of(content: bytes, count: int, place: str) -> list[dict[str, Any]]:
    """The rows of an answer in row format.

    Args:
        content: Body of the answer.
        count: Number of images that were sent.
        place: The server, for the error.

    Raises:
        ServingError: If it is no JSON object with `count` objects in `predictions`.
    """
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ServingError(
            f"the server {place} did not answer in JSON; is it TF Serving's REST port?"
        ) from error
    rows = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ServingError(
            f"the server {place} gave no list of named outputs; choose a signature that takes "
            "encoded images, such as serving_default."
        )
    if len(rows) != count:
        raise ServingError(f"the server {place} gave {len(rows)} answers to {count} images.")
    return rows


def _told_reason(content: bytes) -> str:
    """What the body of an error says: TF Serving's `error`, or the text itself."""
    text = content[:4096].decode("utf-8", errors="replace")
    try:
        said = json.loads(content)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        said = text
    return one_line(said) or "no reason given"
