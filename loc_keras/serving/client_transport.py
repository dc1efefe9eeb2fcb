"""TF Serving's REST interface, with the standard library alone."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit

from loc_keras.errors import ServerUnavailableError, ServingError, one_line

# gRPC's own limit on answers is 4 MB; a batch of probabilities over many classes passes it.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcInterface:
    """Asks `PredictionService.Predict`.

    The name of the signature's input is asked from the server once, by `GetModelMetadata`.

    Args:
        target: `host:port`, or another of gRPC's names of a server.
        model: Name of the served model.
        version: Its version; None: the one that the server takes for the latest.
        signature: Name of a signature with one input, encoded images.
        timeout_s: Longest time that an answer may take, in seconds.
        headers: Metadata of every request; gRPC wants lower case, which is seen to here.
        secure: Whether the connection is encrypted, with the system's certificates.

    Raises:
        ServingError: If the packages are missing.
    """

    def __init__(
        self,
        target: str,
        model: str,
        version: int | None,
        signature: str,
        timeout_s: float,
        headers: Mapping[str, str],
        *,
        secure: bool,
    ) -> None:
        self._grpc, self._apis = _packages()
        grpc = self._grpc
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(), options=_OPTIONS)
            if secure
            else grpc.insecure_channel(target, options=_OPTIONS)
        )
        self._stub = self._apis.prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._target = target
        self._model = model
        self._version = version
        self._signature = signature
        self._timeout_s = timeout_s
        self._metadata = [(name.lower(), value) for name, value in headers.items()]
        self._input: str | None = None

    def ask(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """The outputs for encoded images, one dict by output name for each.

        Raises:
            ServerUnavailableError: If the status is UNAVAILABLE, as it is without a connection.
            ServingError: If the status is any other but OK, or the answer is of no use.
        """
        if self._input is None:
            self._input = self._input_name()
        request = self._apis.predict_pb2.PredictRequest()
        self._name_model(request.model_spec)
        request.model_spec.signature_name = self._signature
        tensor = request.inputs[self._input]
        tensor.dtype = self._apis.types_pb2.DT_STRING
        tensor.tensor_shape.dim.add(size=len(images))
        tensor.string_val.extend(images)
        answer = self._call(self._stub.Predict, request)
        return rows_of(answer.outputs, len(images), self._target)

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
        if self._signature not in signatures.signature_def:
            known = ", ".join(sorted(signatures.signature_def)) or "none"
            raise ServingError(
                f"the model {self._model} has no signature {self._signature!r}; it has {known}."
            )
        names = sorted(signatures.signature_def[self._signature].inputs)
        if len(names) != 1:
            raise ServingError(
                f"the signature {self._signature!r} of model {self._model} takes {len(names)} "
                "inputs, not encoded images alone."
            )
        return names[0]

    def _name_model(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s, metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise self._in_words(error) from error

    def _in_words(self, error: Any) -> ServingError:
        code, said = error.code(), one_line(error.details() or "no reason given")
        codes = self._grpc.StatusCode
        if code is codes.UNAVAILABLE:
            return ServerUnavailableError(f"the server {self._target} is unavailable: {said}.")
        if code is codes.DEADLINE_EXCEEDED:
            return ServingError(
                f"the server {self._target} did not answer within {self._timeout_s:g} s; raise "
                "timeout_s, or send fewer images at once."
            )
        return ServingError(f"the server {self._target} refused the request ({code.name}): {said}.")


def rows_of(outputs: Mapping[str, Any], count: int, place: str) -> list[dict[str, Any]]:
    """Turns output tensors into one dict for each image.

    Args:
        outputs: `TensorProto`s by name, the images on the first axis.
        count: Number of images that were sent.
        place: The server, for the error.

    Raises:
        ServingError: If an output has another number of rows.
    """
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
    """Nested lists with their bytes decoded, as JSON would have them."""
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


class _Apis:
    """The generated modules of TF Serving that are used here."""

    def __init__(self) -> None:
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            predict_pb2,
            prediction_service_pb2_grpc,
        )

        self.types_pb2 = types_pb2
        self.get_model_metadata_pb2 = get_model_metadata_pb2
        self.predict_pb2 = predict_pb2
        self.prediction_service_pb2_grpc = prediction_service_pb2_grpc


def _packages() -> tuple[ModuleType, _Apis]:
    try:
        import grpc

        return grpc, _Apis()
    except ImportError as error:
        raise ServingError(
            "gRPC needs the package tensorflow-serving-api "
            "(pip install -r requirements-serving.txt); or give an address that begins with "
            f"http:// to use REST ({one_line(error)})."
        ) from error


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
            return rows_of_client_rest(content, len(images), self._place)
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


def rows_of_client_rest(content: bytes, count: int, place: str) -> list[dict[str, Any]]:
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
