"""The client of served models by itself: what it sends, when it asks again, what it says."""

import json
import os
import socket
import subprocess
import sys
import threading
from base64 import b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loc_keras.errors import DataError, ServerUnavailableError, ServingError
from loc_keras.serving import client
from loc_keras.serving.client import (
    Backoff,
    ServingClient,
    answer_of,
    asked_again,
    batches,
    image_bytes,
    longest_wait,
)

ROW = {
    "ok": True,
    "reason": "",
    "label": "cat",
    "class_id": 1,
    "score": 0.75,
    "probabilities": [0.25, 0.75],
    "box": [1.0, 2.0, 3.5, 4.0],
    "box_fraction": [0.1, 0.2, 0.35, 0.4],
}


@contextmanager
def scripted(*script: tuple[int, object]):
    """A REST server that gives (status, JSON or bytes) in turn, the last one for ever.

    Yields its address and the list of (path, headers, JSON) that it was asked.
    """
    asked: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), json.loads(body)))
            status, content = script[min(len(asked), len(script)) - 1]
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def answered(*rows: object) -> tuple[int, object]:
    return 200, {"predictions": list(rows)}


@pytest.fixture
def waits(monkeypatch):
    """Nothing is waited for; gives the upper ends of the waits in seconds."""
    found: list[float] = []

    def uniform(low: float, high: float) -> float:
        found.append(high)
        return 0.0

    # Bound as defaults, so replaced there.
    monkeypatch.setitem(client.asked_again.__kwdefaults__, "uniform", uniform)
    monkeypatch.setitem(client.asked_again.__kwdefaults__, "sleep", lambda _: None)
    return found


# What is sent.


def test_a_request_is_what_tf_serving_documents():
    # The form of api_rest.md, "Predict API" and "Encoding binary values".
    with scripted(answered(ROW, ROW)) as (url, asked):
        headers = {"Authorization": "Bearer x"}
        with ServingClient(f"{url}/behind/", "my model", 7, "image_bytes", headers=headers) as one:
            one.predict([b"\xff\xd8", b"GIF"])
    ((path, sent, body),) = asked
    assert path == "/behind/v1/models/my%20model/versions/7:predict"
    assert sent["Authorization"] == "Bearer x"
    assert sent["Content-Type"] == "application/json"
    assert body["signature_name"] == "image_bytes"
    assert body["instances"] == [{"b64": "/9g="}, {"b64": "R0lG"}]  # RFC 4648 by hand.


def test_batches_keep_to_both_limits():
    # 5 + 4 = 9 fits into 10 bytes, a third 4 does not; 20 goes alone; then two by number.
    sizes = [5, 4, 4, 20, 1, 1, 1]
    found = batches([bytes(size) for size in sizes], max_images=2, max_bytes=10)
    assert [[len(one) for one in batch] for batch in found] == [[5, 4], [4], [20], [1, 1], [1]]


@given(
    st.lists(st.binary(max_size=20)),
    st.integers(min_value=1, max_value=5),
    st.integers(min_value=1, max_value=40),
)
def test_batches_lose_nothing(images, max_images, max_bytes):
    found = list(batches(images, max_images, max_bytes))
    assert [image for batch in found for image in batch] == images
    for batch in found:
        assert 1 <= len(batch) <= max_images
        assert len(batch) == 1 or sum(map(len, batch)) <= max_bytes


def test_files_are_read_when_their_turn_comes(tmp_path):
    paths = [tmp_path / str(number) for number in range(3)]
    paths[0].write_bytes(b"0")
    paths[1].write_bytes(b"1")
    groups = batches(paths, 1, 100)
    assert next(groups) == [b"0"]
    paths[2].write_bytes(b"2")
    assert list(groups) == [[b"1"], [b"2"]]


def test_what_is_no_image_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"missing\.jpg cannot be read \(No such file"):
        image_bytes(tmp_path / "missing.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        image_bytes("\0")
    with pytest.raises(DataError, match="type int was given"):
        image_bytes(5)
    assert image_bytes(bytearray(b"x")) == b"x"


# When it asks again.


def test_it_asks_again_while_the_server_is_unavailable(waits):
    busy = (503, {"error": "warming up"})
    with scripted(busy, busy, answered(ROW)) as (url, asked):
        assert ServingClient(url, "m").predict(b"x").label == "cat"
    assert len(asked) == 3
    assert waits == [0.2, 0.4]


def test_it_gives_up_after_its_tries(waits):
    with scripted((503, {"error": "warming up"})) as (url, asked):
        with pytest.raises(ServerUnavailableError, match=r"warming up.* was asked 3 times"):
            ServingClient(url, "m", tries=3).predict(b"x")
        assert len(asked) == 3


@pytest.mark.parametrize("status", [400, 404, 429, 500, 501, 502, 504])
def test_nothing_else_is_asked_again(waits, status):
    refusal = (status, {"error": "said so.\nmore"})
    sentence = pytest.raises(ServingError, match=r"said so\. more\.$")
    with scripted(refusal) as (url, asked), sentence as told:
        ServingClient(url, "m").predict(b"x")
    assert not isinstance(told.value, ServerUnavailableError)
    assert len(asked) == 1
    assert waits == []


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
def test_a_refused_connection_is_tried_again(waits, form):
    if form.startswith("127"):
        pytest.importorskip("tensorflow_serving")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = form.format(free.getsockname()[1])
    with pytest.raises(ServerUnavailableError, match="asked 2 times"):
        ServingClient(address, "m", tries=2).predict(b"x")
    assert len(waits) == 1


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
def test_a_silent_server_is_not_waited_for(waits, form):
    if form.startswith("127"):
        pytest.importorskip("tensorflow_serving")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = form.format(silent.getsockname()[1])
        with pytest.raises(ServingError, match=r"within 0\.3 s; raise timeout_s"):
            ServingClient(address, "m", timeout_s=0.3).predict(b"x")
    assert waits == []


def test_waits_double_up_to_a_limit():
    backoff = Backoff(tries=5, first_s=0.5, longest_s=3.0)
    assert [longest_wait(backoff, done) for done in (1, 2, 3, 4, 5000)] == [0.5, 1, 2, 3, 3]


def test_another_fault_passes_at_once():
    def ask() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asked_again(ask, Backoff(), sleep=lambda _: pytest.fail("waited"))


# What it says.


def test_an_answer_is_typed():
    trust = {"p_iou50": 0.9, "box_outer": [0, 0, 4, 5], "box_inner": [0, 0, 0, 0]}
    trust |= {"novelty": 0.25, "known": False}
    answer = answer_of({**ROW, **trust, "label_set": [False, True], "other": 3})
    assert (answer.label, answer.class_id, answer.score) == ("cat", 1, 0.75)
    assert answer.box_px == (1.0, 2.0, 3.5, 4.0)
    assert answer.p_iou50 == 0.9
    assert answer.box_outer_px == (0.0, 0.0, 4.0, 5.0)
    assert answer.label_set == (False, True)
    assert (answer.novelty, answer.known) == (0.25, False)
    assert answer.outputs["other"] == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"<html>"), "did not answer in JSON"),
        ((200, b"[" * 100_000), "did not answer in JSON"),
        ((200, {"predictions": [1.0]}), "no list of named outputs"),
        ((200, {"outputs": {}}), "no list of named outputs"),
        ((200, [ROW]), "no list of named outputs"),
        (answered(ROW, ROW), "gave 2 answers to 1 image"),
        (answered({"softmax": [1.0]}), "no output 'ok' but softmax"),
        (answered({**ROW, "box": [1, 2, 3]}), r"output 'box' as \[1, 2, 3\]"),
        (answered({**ROW, "score": None}), "output 'score' as None"),
        ((404, b"not found here"), r"\(404\): not found here"),
        ((500, b""), "no reason given"),
        ((400, {"error": "x" * 10_000}), "x…"),
    ],
)
def test_an_answer_of_no_use_is_told(answer, words):
    with scripted(answer) as (url, _), pytest.raises(ServingError, match=words) as told:
        ServingClient(url, "m").predict(b"x")
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500


@pytest.mark.parametrize(
    ("address", "arguments", "words"),
    [
        ("ftp://host", {}, "none of a server"),
        ("", {}, "none of a server"),
        ("http://", {}, "none of a server"),
        ("http://host:many", {}, "is no URL"),
        ("http://:8501", {}, "none of a server"),
        ("http://h/v1/models/m:predict", {}, "host and port alone"),
        ("http://h", {"timeout_s": 0}, "timeout_s is 0"),
        ("http://h", {"timeout_s": float("nan")}, "timeout_s is nan"),
        ("http://h", {"max_images": 0}, "max_images is 0"),
        ("http://h", {"version": -1}, "version is -1"),
        ("http://h", {"model": ""}, "name of the served model is empty"),
    ],
)
def test_arguments_that_cannot_be_are_told(address, arguments, words):
    with pytest.raises(ServingError, match=words):
        ServingClient(address, **{"model": "m", **arguments})


def test_a_host_that_is_not_known_is_told(waits):
    with pytest.raises(ServingError, match="is not known"):
        ServingClient("http://no-such-host.invalid", "m").predict(b"x")
    assert waits == []


def test_grpc_without_its_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ServingError, match=r"requirements-serving\.txt.* http://"):
        ServingClient("host:8500", "m")


def test_rest_needs_the_standard_library_alone():
    # The modules of the client import neither TensorFlow nor Keras; the package's `__init__` does,
    # so here an empty module stands in for it.
    code = """
import sys, types
package = types.ModuleType("loc_keras"); package.__path__ = [sys.argv[1]]
sys.modules["loc_keras"] = package
before = {name.partition(".")[0] for name in sys.modules}
from loc_keras.serving.client import ServingClient
ServingClient("http://localhost:8501", "m")
after = {name.partition(".")[0] for name in sys.modules}
print(sorted(after - before - set(sys.stdlib_module_names)))
"""
    package = Path(client.__file__).parents[1]
    told = subprocess.run(
        [sys.executable, "-c", code, str(package)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert told.stdout.strip() == "[]", told.stderr


def test_base64_of_any_bytes_comes_back():
    with scripted(answered(ROW)) as (url, asked):
        ServingClient(url, "m").predict(bytes(range(256)))
    assert b64decode(asked[0][2]["instances"][0]["b64"]) == bytes(range(256))
