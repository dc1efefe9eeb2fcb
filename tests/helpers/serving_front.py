"""TF Serving's interfaces before TF's own session loader, since its binary is in no registry.

It loads a SavedModel as the server does, `tf.compat.v1.saved_model.load` and a session, takes
requests by signature name, and gives the server's statuses (`predict_util.cc`, `http_server.cc` and
`json_tensor.cc` of tensorflow/serving). gRPC is there where tensorflow-serving-api is installed.
None of our code, and no Keras, is imported.

    python tests/helpers/serving_front.py --model_name NAME --model_base_path FOLDER
"""

import argparse
import json
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# A server has none of these: whoever asks for them fails.
if __name__ == "__main__":
    sys.modules["keras"] = sys.modules["loc_keras"] = None
    # Run as a script, it finds what stands beside it as the tests do.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf
from helpers.serving_json import JsonFault, outputs_to_json, request_from_json
from tensorflow.core.protobuf import config_pb2

# `ToHTTPStatusCode` of http_server.cc, for what can come here.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d+))?(?P<verb>:predict|/metadata)?"
)


class Fault(Exception):
    """A status other than OK, by gRPC's name."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ServedModel:
    """The latest version below a base folder, in a session."""

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.version = max(int(path.name) for path in base.iterdir() if path.name.isdecimal())
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(
                self._session, [tf.saved_model.SERVING], str(base / str(self.version))
            )
        self.signatures = meta.signature_def
        self._calls = {}
        # The server runs as many requests at once as it has threads, four for each core.
        self._threads = threading.BoundedSemaphore(4 * (os.cpu_count() or 1))

    def find(self, name: str, version: int | None) -> None:
        """Proves that a request means this model."""
        if name != self.name:
            raise Fault("NOT_FOUND", f"Servable not found for request: Latest({name})")
        if version is not None and version != self.version:
            raise Fault("NOT_FOUND", f"Servable not found for request: Specific({name}, {version})")

    def signature(self, name: str):
        name = name or "serving_default"
        if name not in self.signatures:
            raise Fault("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def predict(self, signature_name: str, inputs, output_filter=()) -> dict:
        """Output arrays by name for input `TensorProto`s by name."""
        signature = self.signature(signature_name)
        if sorted(inputs) != sorted(signature.inputs):
            raise Fault(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(signature.inputs)} "
                f"Sent: {sorted(inputs)}. Required: {sorted(signature.inputs)}.",
            )
        names = sorted(signature.inputs)
        arrays = [_array(name, inputs[name]) for name in names]
        wanted = sorted(output_filter or signature.outputs)
        if unknown := set(wanted) - set(signature.outputs):
            raise Fault("INVALID_ARGUMENT", f"output tensor alias not found: {sorted(unknown)}")
        try:
            with self._threads:
                found = self._call(signature, names, wanted)(*arrays)
        except tf.errors.OpError as error:
            raise Fault(_status_name(error), error.message) from error
        return dict(zip(wanted, found, strict=True))

    def _call(self, signature, names: list[str], wanted: list[str]):
        # A callable hands its arrays to the C++ session as they are: `Session.run` would check and
        # cast them in Python first, which the server does not.
        feeds = [signature.inputs[name].name for name in names]
        fetches = [signature.outputs[name].name for name in wanted]
        key = (*feeds, "to", *fetches)
        if key not in self._calls:
            self._calls[key] = self._session._make_callable_from_options(
                config_pb2.CallableOptions(feed=feeds, fetch=fetches)
            )
        return self._calls[key]


def _array(name: str, tensor) -> np.ndarray:
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError) as error:
        raise Fault("INVALID_ARGUMENT", f"tensor parsing error: {name}") from error


def _status_name(error: tf.errors.OpError) -> str:
    """`InvalidArgumentError` as `INVALID_ARGUMENT`."""
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


def rest_server(model: ServedModel, port: int) -> ThreadingHTTPServer:
    """The REST interface on 127.0.0.1; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _answer(self, body: bytes) -> None:
            try:
                status, content = 200, answer_rest(model, self.command, self.path, body)
            except Fault as fault:
                status = HTTP_STATUS.get(fault.status, 500)
                content = json.dumps({"error": fault.message})
            data = content.encode("utf-8", errors="replace")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    return Server(("127.0.0.1", port), Handler)


def answer_rest(model: ServedModel, method: str, path: str, body: bytes) -> str:
    """The body of the answer to one request."""
    found = PATH.fullmatch(path)
    if found is None or (method == "POST") != (found["verb"] == ":predict"):
        raise Fault("INVALID_ARGUMENT", f"Malformed request: {method} {path}")
    model.find(found["model"], int(found["version"]) if found["version"] else None)
    if method == "GET":
        return _told_state(model) if found["verb"] is None else _told_metadata(model)
    try:
        signature_name, inputs, by_row = request_from_json(
            body, lambda name: model.signature(name).inputs
        )
        outputs = model.predict(signature_name, inputs)
        return outputs_to_json(outputs, by_row)
    except JsonFault as fault:
        raise Fault("INVALID_ARGUMENT", str(fault)) from fault


def _told_state(model: ServedModel) -> str:
    status = {"error_code": "OK", "error_message": ""}
    state = {"version": str(model.version), "state": "AVAILABLE", "status": status}
    return json.dumps({"model_version_status": [state]}, indent=1)


def _told_metadata(model: ServedModel) -> str:
    names = {
        key: {"inputs": sorted(signature.inputs), "outputs": sorted(signature.outputs)}
        for key, signature in model.signatures.items()
    }
    spec = {"name": model.name, "version": str(model.version)}
    return json.dumps({"model_spec": spec, "metadata": {"signature_def": names}})


def main() -> None:
    """Serves until it is told to stop; prints its ports as one line of JSON when it is ready."""
    parser = argparse.ArgumentParser(description="TF Serving's interfaces, for tests.")
    parser.add_argument("--model_name", required=True)
    parser.add_argument("--model_base_path", type=Path, required=True)
    parser.add_argument("--rest_api_port", type=int, default=0)
    parser.add_argument("--port", type=int, default=0, help="of gRPC")
    arguments = parser.parse_args()
    model = ServedModel(arguments.model_name, arguments.model_base_path)
    rest = rest_server(model, arguments.rest_api_port)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    try:
        from helpers.serving_grpc import grpc_server
    except ImportError:
        grpc_port = None
    else:
        _grpc, grpc_port = grpc_server(model, arguments.port)
    print(json.dumps({"rest": rest.server_address[1], "grpc": grpc_port}), flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
