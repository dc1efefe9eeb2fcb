"""The page as it is served: to `gradio_client`, to many visitors, and to those who only connect."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from importlib.util import find_spec

import pytest
from helpers.localizer_run import encoded, kinds, photograph, write_run
from helpers.served_bundles import exported_litert

from loc_keras import Localizer

pytestmark = pytest.mark.skipif(
    find_spec("gradio") is None, reason="needs Gradio: pip install -r requirements-demo.txt"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page about a tiny model: its process, address and run."""
    run = write_run(tmp_path_factory.mktemp("demo") / "run", "letterbox")
    command = [sys.executable, "-m", "loc_keras.demo", "--model", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[0]
        yield process, address, run
        process.terminate()


class Visitor:
    """Sends pictures as the page does."""

    def __init__(self, address):
        self.address = address
        self.session = uuid.uuid4().hex
        config = json.loads(self.ask("config"))
        (self.function,) = (
            one["id"] for one in config["dependencies"] if one["api_name"] == "predict"
        )

    def ask(self, path, body=None, **headers):
        asked = urllib.request.Request(self.address + path, body, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.read()

    def upload(self, content, name="photo.png"):
        """Sends a file as a form (RFC 7578); gives its path there."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        body = head.encode() + content + b"\r\n--x--\r\n"
        (path,) = json.loads(self.ask("gradio_api/upload", body, **kind))
        return path

    def answer(self, path):
        """What the model says of an uploaded file."""
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
        asked = {"data": data, "fn_index": self.function, "session_hash": self.session}
        kind = {"Content-Type": "application/json"}
        self.ask("gradio_api/queue/join", json.dumps(asked).encode(), **kind)
        events = self.ask(f"gradio_api/queue/data?session_hash={self.session}").decode()
        told = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
        (done,) = (one for one in told if one["msg"] == "process_completed")
        assert done["success"], done
        return done["output"]["data"][0]


def test_gradio_client_gets_the_answer_of_the_localizer(site, tmp_path):
    from gradio_client import Client, handle_file

    _, address, run = site
    localizer = Localizer.load(run)
    client = Client(address, verbose=False, analytics_enabled=False, download_files=False)
    for name in ("turned6.jpg", "sixteen.png", "page.tif"):
        (tmp_path / name).write_bytes(kinds()[name])
        told = client.predict(handle_file(str(tmp_path / name)), api_name="/predict")
        expected = json.loads(json.dumps(localizer.predict(tmp_path / name).as_dict()))
        assert told["label"] == expected["label"] and told["width"] == expected["width"]
        assert told["score"] == pytest.approx(expected["score"], abs=1e-5)
    (tmp_path / "cut.jpg").write_bytes(kinds()["photo.jpg"][:700])
    told = client.predict(handle_file(str(tmp_path / "cut.jpg")), api_name="/predict")
    assert "cannot be decoded" in told["reason"]
    client.close()


def test_a_visitor_sees_nothing_of_another(site):
    _, address, _ = site
    one, other = Visitor(address), Visitor(address)
    path = one.upload(encoded(photograph(1, 61, 47), "PNG"))
    assert one.answer(path)["width"] == 61
    folder = os.path.dirname(os.path.dirname(path))
    for guess in (folder, os.path.dirname(path), f"{folder}/../x", "/etc/passwd", f"{folder}/x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            other.ask(f"gradio_api/file={guess}")
        assert refused.value.code in (403, 404), guess
    # The same name gives another place, and the answers are to their own pictures.
    second = other.upload(encoded(photograph(2, 73, 50), "PNG"))
    assert second != path and other.answer(second)["width"] == 73


def test_other_names_and_pages_are_refused(site):
    _, address, _ = site
    visitor = Visitor(address)
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            visitor.ask("gradio_api/queue/join", b"{}", **headers)
        assert refused.value.code == 403
    asked = urllib.request.Request(f"{address}config", headers={"Origin": "http://evil.example"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_headers_without_bodies_shut_nobody_out(site):
    _, address, _ = site
    host, port = address.removeprefix("http://").strip("/").split(":")
    held = []
    for number in range(40):
        held.append(socket.create_connection((host, int(port))))
        if number % 2:  # The others send nothing at all.
            head = (
                f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n"
            )
            held[-1].sendall(head.encode())
    path = None
    while path is None:  # Until those uploads count as slow.
        try:
            path = Visitor(address).upload(encoded(photograph(1), "PNG"))
        except urllib.error.HTTPError as refused:
            assert refused.code == 503
    assert Visitor(address).answer(path)["width"] == 90
    for one in held:
        one.close()


@pytest.mark.slow
def test_many_requests_leave_memory_as_it_was(site):
    """500 pictures by 10 visitors; each answer is to its own picture, of its own size."""
    process, address, _ = site
    visitors = [Visitor(address) for _ in range(10)]
    held = []
    for number in range(500):
        size = (50 + number % 97, 40 + number % 89)
        visitor = visitors[number % 10]
        told = visitor.answer(visitor.upload(encoded(photograph(number, *size), "PNG")))
        assert (told["width"], told["height"]) == size
        if number % 50 == 49:
            with open(f"/proc/{process.pid}/status") as status:
                (line,) = (line for line in status if line.startswith("VmRSS"))
            held.append(int(line.split()[1]) / 1024)
    print("MB after each 50 requests:", *(f"{one:.0f}" for one in held))
    # A picture has some 20 kB: were they kept, 250 of them would be 5 MB, and their answers more.
    assert held[-1] - held[4] < 5


WITHOUT_TENSORFLOW = """
import sys
from types import SimpleNamespace
from loc_keras import demo
from loc_keras.commands import demo as work
work.server_of = lambda *_: SimpleNamespace(run=lambda sockets: None)
code = demo.main(["--port", "0", "--model", *sys.argv[1:]])
assert not {"tensorflow", "keras"} & set(sys.modules)
sys.exit(code)
"""
"""The command until it would serve; before, it has answered about a picture."""


def test_a_light_file_is_shown_without_tensorflow(tmp_path):
    version = exported_litert(tmp_path / "served")
    for model in (version / "model.tflite", version.parent):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TENSORFLOW, str(model)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"LiteRT answers, from {version}/model.tflite" in done.stderr
