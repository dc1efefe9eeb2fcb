"""The two interfaces of TF Serving: REST with the standard library alone, and gRPC."""

import base64
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from loc_keras.errors import ServerUnavailableError, ServingError, one_line

# The statuses that TF Serving gives (`ToHTTPStatusCode` in its http_server.cc) and proxies add.
OK, UNAVAILABLE, GATEWAY_TIMEOUT = 200, 503, 504

# gRPC's own limit on answers is 4 MB; a batch of probabilities over many classes passes it.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class Target:
    """What is asked of a server; see `ServingClient`."""

    model: str
    version: int | None = None
    signature: str = "serving_default"
    timeout_s: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict)


class Interface(Protocol):
    """One way to ask a server."""

    def ask(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """The outputs for encoded images, one dict by output name for each.

        Raises:
            ServerUnavailableError: If the connection is refused, or the server says that it is
                unavailable (HTTP status 503, gRPC's UNAVAILABLE).
            ServingError: If the server does not answer in time, refuses, or answers otherwise.
        """

    def close(self) -> None:
        """Closes what is open."""


def interface_to(address: str, target: Target) -> Interface:
    """REST or gRPC, as the address says; ServingError if it is neither."""
    scheme, mark, rest = address.partition("://")
    if mark and scheme in {"http", "https"} and rest:
        return RestInterface(address, target)
    if mark and scheme in {"grpc", "grpcs"} and rest:
        return GrpcInterface(rest, target, secure=scheme == "grpcs")
    if address and (not mark or scheme in {"dns", "unix", "xds"}):
        return GrpcInterface(address, target)
    raise ServingError(
        f"the address {address!r} is none of a server; give http://host:8501 for REST or host:8500 "
        "for gRPC."
    )


class RestInterface:
    """Asks `POST URL/v1/models/MODEL[/versions/V]:predict` in row format.

    The URL may have a path before `/v1`. ServingError without a host, or with a port that is no
    number.
    """

    def __init__(self, url: str, target: Target) -> None:
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
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = partial(kind, host, port, timeout=target.timeout_s)
        self._place = host if port is None else f"{host}:{port}"
        versions = "" if target.version is None else f"/versions/{target.version}"
        model = quote(target.model, safe="")
        self._path = f"{parts.path.rstrip('/')}/v1/models/{model}{versions}:predict"
        self._target = target

    def ask(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """See `Interface`; bytes go as `{"b64": ...}`."""
        instances = [{"b64": base64.b64encode(image).decode("ascii")} for image in images]
        body = {"signature_name": self._target.signature, "instances": instances}
        status, content = self._post(json.dumps(body).encode("ascii"))
        if status == OK:
            return _rows_of_json(content, len(images), self._place)
        reason = _error_text(content)
        if status == UNAVAILABLE:
            raise ServerUnavailableError(f"the server {self._place} is unavailable: {reason}.")
        if status == GATEWAY_TIMEOUT:
            raise ServingError(f"the server {self._place} ran out of time: {reason}.")
        raise ServingError(f"the server {self._place} refused the request ({status}): {reason}.")

    def close(self) -> None:
        """Nothing is kept open: each request has its own connection."""

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = self._connection()
        headers = {"Content-Type": "application/json", **self._target.headers}
        try:
            connection.request("POST", self._path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError as error:
            raise ServerUnavailableError(
                f"the server {self._place} refused the connection; start it, or correct the "
                "address."
            ) from error
        except TimeoutError as error:
            raise _too_slow(self._place, self._target) from error
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


class GrpcInterface:
    """Asks `PredictionService.Predict`; encrypted where `secure`, by the system's certificates.

    The name of the signature's input is asked once, by `GetModelMetadata`. ServingError without
    packages.
    """

    def __init__(self, address: str, target: Target, *, secure: bool = False) -> None:
        self._grpc, self._apis = _packages()
        grpc = self._grpc
        self._channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), options=_OPTIONS)
            if secure
            else grpc.insecure_channel(address, options=_OPTIONS)
        )
        self._stub = self._apis.prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._place = address
        self._target = target
        # gRPC wants lower case.
        self._metadata = [(name.lower(), value) for name, value in target.headers.items()]
        self._input: str | None = None

    def ask(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """See `Interface`."""
        if self._input is None:
            self._input = self._input_name()
        request = self._apis.predict_pb2.PredictRequest()
        self._name_model(request.model_spec)
        request.model_spec.signature_name = self._target.signature
        tensor = request.inputs[self._input]
        tensor.dtype = self._apis.types_pb2.DT_STRING
        tensor.tensor_shape.dim.add(size=len(images))
        tensor.string_val.extend(images)
        answer = self._call(self._stub.Predict, request)
        return _rows_of_tensors(answer.outputs, len(images), self._place)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _input_name(self) -> str:
        request = self._apis.get_model_metadata_pb2.GetModelMetadataRequest()
        self._name_model(request.model_spec)
        request.metadata_field.append("signature_def")
        answer = self._call(self._stub.GetModelMetadata, request)
        signatures = self._apis.get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        model, name = self._target.model, self._target.signature
        if name not in signatures.signature_def:
            known = ", ".join(sorted(signatures.signature_def)) or "none"
            raise ServingError(f"the model {model} has no signature {name!r}; it has {known}.")
        names = sorted(signatures.signature_def[name].inputs)
        if len(names) != 1:
            raise ServingError(
                f"the signature {name!r} of model {model} takes {len(names)} inputs, not encoded "
                "images alone."
            )
        return names[0]

    def _name_model(self, spec: Any) -> None:
        spec.name = self._target.model
        if self._target.version is not None:
            spec.version.value = self._target.version

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._target.timeout_s, metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise self._error(error) from error

    def _error(self, error: Any) -> ServingError:
        code, reason = error.code(), one_line(error.details() or "no reason given")
        codes = self._grpc.StatusCode
        if code is codes.UNAVAILABLE:
            return ServerUnavailableError(f"the server {self._place} is unavailable: {reason}.")
        if code is codes.DEADLINE_EXCEEDED:
            return _too_slow(self._place, self._target)
        return ServingError(
            f"the server {self._place} refused the request ({code.name}): {reason}."
        )


def _rows_of_json(content: bytes, count: int, place: str) -> list[dict[str, Any]]:
    """The rows of an answer in row format: `count` objects in `predictions`."""
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


def _rows_of_tensors(outputs: Mapping[str, Any], count: int, place: str) -> list[dict[str, Any]]:
    """The rows of `TensorProto`s by name, which have `count` images on their first axis."""
    from tensorflow import make_ndarray

    columns: dict[str, list[Any]] = {}
    for name, tensor in outputs.items():
        values = make_ndarray(tensor)
        if values.ndim == 0 or len(values) != count:
            raise ServingError(
                f"the server {place} gave output {name} in shape {values.shape} to {count} images."
            )
        columns[name] = _as_text(values.tolist())
    return [{name: column[row] for name, column in columns.items()} for row in range(count)]


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _packages() -> tuple[ModuleType, SimpleNamespace]:
    try:
        import grpc
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            predict_pb2,
            prediction_service_pb2_grpc,
        )
    except ImportError as error:
        raise ServingError(
            "gRPC needs the package tensorflow-serving-api "
            "(pip install -r requirements-serving.txt); or give an address that begins with "
            f"http:// to use REST ({one_line(error)})."
        ) from error
    apis = SimpleNamespace(
        types_pb2=types_pb2,
        get_model_metadata_pb2=get_model_metadata_pb2,
        predict_pb2=predict_pb2,
        prediction_service_pb2_grpc=prediction_service_pb2_grpc,
    )
    return grpc, apis


def _too_slow(place: str, target: Target) -> ServingError:
    return ServingError(
        f"the server {place} did not answer within {target.timeout_s:g} s; raise timeout_s, or "
        "send fewer images at once."
    )


def _error_text(content: bytes) -> str:
    """What the body of an error says: TF Serving's `error`, or the text itself."""
    text = content[:4096].decode("utf-8", errors="replace")
    try:
        reason = json.loads(content)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        reason = text
    return one_line(reason) or "no reason given"
