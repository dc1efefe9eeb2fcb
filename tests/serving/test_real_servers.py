"""Exports behind real servers, KServe's and Triton's: `pytest -m servers -n 0 -s`.

Each package of `requirements-servers.txt` gets an environment of its own, with TensorFlow and ONNX
Runtime, in the folder that `LOC_KERAS_SERVERS` names (some GB, some minutes).
"""

import base64
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sysconfig
import threading
import time
import venv
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import tensorflow as tf
from helpers import real_servers
from helpers.hostile_images import HOSTILE, noise
from helpers.served_bundles import NAMES, SIDE, exported_bundle
from helpers.served_files import GOOD
from helpers.serving_server import MODEL, peak_mb, running

from loc_keras.serving.client import ServingClient

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(real_servers.__file__)
PINNED = {
    line.partition(">=")[0].rpartition("-")[2]: line
    for line in (ROOT / "requirements-servers.txt").read_text("utf-8").split("\n")
    if line and not line.startswith("#")
}
"""`kserve` and `pytriton`."""

PACKAGE = {"kserve": "kserve", "triton": "pytriton"}
CLIENTS, REQUESTS = 50, 10_000
MOST_GROWTH_MB = 64
BAD = HOSTILE["half a JPEG"]
JSON = {"Content-Type": "application/json"}


def python_of(kind):
    """The Python of a server's environment, which is made where there is none."""
    home = os.environ.get("LOC_KERAS_SERVERS", ROOT / ".servers")
    folder = Path(home).absolute() / kind
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        wanted = [PINNED[PACKAGE[kind]], "tensorflow>=2.21,<2.22", "onnxruntime"]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    return python


@contextmanager
def served(kind, *files):
    """Ports of REST and gRPC of a server of `files`, and its process, for the block."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    # Triton's part for Python loads the library of this Python, else the system's of another patch.
    library = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
    process = subprocess.Popen(
        [python_of(kind), SCRIPT, kind, *map(str, (*ports, MODEL, *files))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **library},
    )
    try:
        for _ in range(3000):
            assert process.poll() is None, f"{kind} ended with code {process.poll()}"
            try:
                if request(ports[0], "GET", f"/v2/models/{MODEL}/ready")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        else:
            pytest.fail(f"{kind} was not ready within five minutes")
        yield *ports, process
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(60)


def request(port, method, path, body=b"", headers=None, connection=None):
    """Status, headers and content of an answer."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    own.request(method, path, body, headers or {})
    answer = own.getresponse()
    found = answer.status, answer.headers, answer.read()
    if connection is None:
        own.close()
    return found


def binary(contents):
    """A request of KServe v2 with encoded images behind its JSON, and its headers.

    https://github.com/kserve/open-inference-protocol, "Binary Tensor Data extension".
    """
    data = b"".join(struct.pack("<I", len(one)) + one for one in contents)
    given = {"name": real_servers.INPUT, "shape": [len(contents), 1], "datatype": "BYTES"}
    given["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [given]}).encode()
    headers = {"Content-Type": "application/octet-stream"}
    return head + data, {**headers, "Inference-Header-Content-Length": str(len(head))}


def in_base64(contents):
    """The same as text, since KServe 0.21 takes binary strings for UTF-8."""
    data = [base64.b64encode(one).decode() for one in contents]
    given = {"name": real_servers.INPUT, "shape": [len(data), 1], "datatype": "BYTES"}
    return json.dumps({"inputs": [{**given, "data": data}]}).encode(), JSON


def rows_v2(port, contents, written=binary, connection=None):
    """An answer for each image, over REST v2, as dicts of plain values."""
    path = f"/v2/models/{MODEL}/infer"
    status, _, content = request(port, "POST", path, *written(contents), connection)
    assert status == 200, content
    columns = {}
    for one in json.loads(content)["outputs"]:
        count, wide = len(contents), len(one["data"]) // len(contents)
        rows = [one["data"][at * wide : (at + 1) * wide] for at in range(count)]
        scalar = one["name"] in ("label", "class_id", "score", "ok", "reason")
        columns[one["name"]] = [row[0] for row in rows] if scalar else rows
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.fixture(scope="module")
def base():
    return exported_bundle()[1]


@pytest.fixture(scope="module")
def expected(base):
    """What TensorFlow itself answers, from the folder: `row(contents)` gives dicts."""
    loaded = tf.saved_model.load(str(base / "1"))

    def rows(contents):
        found = loaded.signatures["serving_default"](image_bytes=tf.constant(contents, tf.string))
        plain = {name: real_servers.plain(value.numpy()) for name, value in found.items()}
        return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]

    return rows


def assert_same(found, right):
    assert set(found) == set(right)
    for name, value in right.items():
        if isinstance(value, str | bool):
            assert found[name] == value
        else:  # Batches of other sizes may be rounded otherwise.
            assert found[name] == pytest.approx(value, abs=0.01 if name == "box" else 1e-4), name


CONTENTS = [*GOOD.values(), BAD, b"", b"text"]


@pytest.fixture(scope="module")
def kserve(base, tmp_path_factory):
    from loc_keras.data.resize import ImageFormat
    from loc_keras.serving.bundle import Bundle
    from loc_keras.serving.portable import export_portable

    pytest.importorskip("onnxruntime")
    form = ImageFormat((SIDE, SIDE), 3, "stretch")
    bundle = Bundle(exported_bundle()[0], NAMES, form, [noise(0)])
    folder = tmp_path_factory.mktemp("onnx")
    version = export_portable(bundle, folder, "onnx", "none", measure=lambda run: {})
    with served("kserve", base / "1", version / "model.onnx") as (rest, _, _):
        yield rest


def test_kserve_answers_our_client_over_v1(kserve, expected):
    with ServingClient(f"http://127.0.0.1:{kserve}", MODEL) as client:
        answers = client.predict(CONTENTS)
    for answer, right in zip(answers, expected(CONTENTS), strict=True):
        assert (answer.ok, answer.reason, answer.label) == (
            right["ok"], right["reason"], right["label"] if right["ok"] else answer.label
        )  # fmt: skip
        if answer.ok:
            assert answer.box_px == pytest.approx(right["box"], abs=0.01)
    assert [answer.ok for answer in answers[-3:]] == [False] * 3


def test_kserve_answers_the_line_of_the_readme(kserve, expected, tmp_path):
    page = (ROOT / "README.md").read_text("utf-8")
    (line,) = re.findall(r"^\(printf .*\n.*:predict$", page, re.MULTILINE)
    line = line.replace("localhost:8501", f"127.0.0.1:{kserve}").replace("my_photos", MODEL)
    (tmp_path / "photo.jpg").write_bytes(GOOD["jpeg"])
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    (found,) = json.loads(done.stdout)["predictions"]
    print(done.stdout.decode())
    assert_same(found, expected([GOOD["jpeg"]])[0])


def test_kserve_answers_over_v2(kserve, expected):
    for found, right in zip(rows_v2(kserve, CONTENTS, in_base64), expected(CONTENTS), strict=True):
        assert_same(found, right)


def test_kserve_answers_from_the_onnx_file(kserve, base):
    pixels = [[[[x * y % 256, x, y] for x in range(SIDE)] for y in range(SIDE)]]
    loaded = tf.saved_model.load(str(base / "1"))
    right = loaded.signatures["images"](images=tf.constant(pixels, tf.float32))
    path = f"/v1/models/{MODEL}-onnx:predict"
    body = json.dumps({"instances": pixels}).encode()
    (found,) = json.loads(request(kserve, "POST", path, body, JSON)[2])["predictions"]
    given = {"name": "images", "shape": [1, SIDE, SIDE, 3], "datatype": "FP32", "data": pixels}
    body = json.dumps({"inputs": [given]}).encode()
    _, _, content = request(kserve, "POST", f"/v2/models/{MODEL}-onnx/infer", body, JSON)
    v2 = {one["name"]: one["data"] for one in json.loads(content)["outputs"]}
    for name in ("softmax", "bbox"):
        expected = right[name].numpy()[0].tolist()
        assert found[name] == pytest.approx(expected, abs=1e-4)
        assert v2[name] == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def triton(base):
    with served("triton", base / "1") as found:
        yield found


def test_triton_answers_over_rest_and_grpc(triton, expected, tmp_path):
    rest, grpc, _ = triton
    rights = expected(CONTENTS)
    for found, right in zip(rows_v2(rest, CONTENTS), rights, strict=True):
        assert_same(found, right)
    for content, right in ((CONTENTS[0], rights[0]), (BAD, rights[-3])):
        file = tmp_path / "sent"
        file.write_bytes(content)
        command = [python_of("triton"), SCRIPT, "ask", f"127.0.0.1:{grpc}", MODEL, file]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        found = json.loads(done.stdout)
        flat = {n: v[0] if isinstance(right[n], str | bool | int | float) else v
                for n, v in found.items()}  # fmt: skip
        print(done.stdout)
        assert_same(flat, right)


def memory_mb(pid):
    """Memory of a process and of those it started, in MB."""
    pages = subprocess.run(
        ["ps", "-eo", "pid,ppid,rss"], capture_output=True, check=True, text=True
    )
    rows = [list(map(int, line.split())) for line in pages.stdout.splitlines()[1:]]
    family = {pid}
    for _ in rows:
        family |= {child for child, parent, _ in rows if parent in family}
    return sum(rss for one, _, rss in rows if one in family) / 1024


def rate(port, ask, images, rights, requests):
    """Requests a second of fifty clients at once; each gets its own answer."""
    left, lock, told = iter(range(requests)), threading.Lock(), Counter()

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                if next(left, None) is None:
                    return connection.close()
            box = ask(port, images[number], connection)
            assert box == pytest.approx(rights[number], abs=0.01)
            with lock:
                told[number] += 1

    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(client, range(CLIENTS)))
    assert sum(told.values()) == requests
    return requests / (time.monotonic() - start)


def ask_v2(port, image, connection):
    return rows_v2(port, [image], connection=connection)[0]["box"]


def ask_v1(port, image, connection):
    body = json.dumps({"instances": [{"b64": base64.b64encode(image).decode()}]}).encode()
    path = f"/v1/models/{MODEL}:predict"
    status, _, content = request(port, "POST", path, body, None, connection)
    assert status == 200, content
    return json.loads(content)["predictions"][0]["box"]


def test_fifty_clients_of_triton_lose_nothing(triton, base, expected):
    rest, _, process = triton
    images = [noise(seed, width=64, height=48) for seed in range(CLIENTS)]
    rights = [row["box"] for row in expected(images)]
    rate(rest, ask_v2, images, rights, 1000)
    before = memory_mb(process.pid)
    found = rate(rest, ask_v2, images, rights, REQUESTS)
    after = memory_mb(process.pid)
    with running("front", base) as front:
        port = int(front.rest.rpartition(":")[2])
        rate(port, ask_v1, images, rights, 200)
        stand_in = rate(port, ask_v1, images, rights, 1000)
        peak = peak_mb(front.pid)
    print(f"\n{REQUESTS} requests of {CLIENTS} clients at once: Triton {found:.0f} a second")
    print(f"{before:.0f} MB before, {after:.0f} after; stand-in {stand_in:.0f}, {peak:.0f} MB")
    assert after - before < MOST_GROWTH_MB
