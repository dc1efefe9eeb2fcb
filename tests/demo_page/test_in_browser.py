"""The page to try a model on, driven in a real browser: its answers, silence, limits and end."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.browser import found_browser, open_browser
from helpers.hostile_images import HOSTILE
from helpers.localizer_run import CLASSES, kinds, write_made_up_trust, write_run
from PIL import Image

from loc_keras import Localizer
from loc_keras.commands.demo import keep_newest, uploads_folder
from loc_keras.demo_page import guard
from loc_keras.demo_page.page import NOTHING_SENT, Answered, answer_html, facts, percent

pytestmark = [
    pytest.mark.skipif(
        find_spec("gradio") is None, reason="needs Gradio: pip install -r requirements-demo.txt"
    ),
    pytest.mark.skipif(found_browser() is None, reason="needs Chromium and its driver on the PATH"),
]

ODD = "<b>${1+1}{{value}}</b>"
FIELD = "#demo-image input[type=file]"
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Chromium shows a moving pattern in place of a camera, and does not ask."""

PHONE, DESK = 390, 1200
LIMITS = guard.Limits(file_bytes=guard.MEGABYTE, kept=4)

TOLD = "return document.querySelector('#demo-output').innerText"
CELLS = """
return [...document.querySelectorAll('.demo-boxes tbody tr')].map(
  row => [...row.querySelectorAll('td')].map(cell => Number(cell.innerText)))
"""
CLASS_ROWS = """
return [...document.querySelectorAll('.demo-classes tr')].map(
  row => [row.querySelector('th').innerText, row.querySelector('td:last-child').innerText])
"""
CLEAR = "document.querySelector('#demo-image button[aria-label=\"Remove Image\"]').click()"
OVERFLOW = "return document.documentElement.scrollWidth"

# Gradio's own, at the end of each answer: it closes what it replaces by a stub.
HARMLESS = '"Method not implemented."'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run with made-up trust whose classes have odd names; its localizer; files to send."""
    folder = tmp_path_factory.mktemp("demo")
    run = write_run(folder / "run", "letterbox")
    write_made_up_trust(run)
    (run / "examples").mkdir()
    for number, name in enumerate(("photo.jpg", "large.jpg", "alpha.png"), start=1):
        with Image.open(io.BytesIO(kinds()[name])) as opened:
            opened.convert("RGB").save(run / "examples" / f"{number}.png")
    (run / "classes.txt").write_text(f"{ODD}\n" + "".join(f"{name}\n" for name in CLASSES[1:]))
    files = {}
    for name, content in {
        **kinds(),
        "bomb.png": HOSTILE["a picture of 20,000 x 20,000 px"],
    }.items():
        files[name] = folder / name
        files[name].write_bytes(content)
    return SimpleNamespace(folder=folder, run=run, files=files, localizer=Localizer.load(run))


@pytest.fixture(scope="module")
def hosts():
    """Hosts that this process looks up or calls, from now on."""
    found = []

    def hook(event, arguments):
        if event in ("socket.getaddrinfo", "socket.gethostbyname"):
            found.append(arguments[0])
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            found.append(arguments[1][0])

    sys.addaudithook(hook)
    return found


@pytest.fixture(scope="module")
def site(place, hosts):
    """The page's address and its folder of uploads."""
    with guard.listen("127.0.0.1", 0) as taken, uploads_folder() as folder:
        from loc_keras.demo_page.page import application, build_page

        page = application(build_page(place.localizer, place.localizer.path, LIMITS, 3), LIMITS)
        guarded = guard.Guard(page, LIMITS, partial(keep_newest, folder, LIMITS.kept))
        server = guard.server_of(guarded, LIMITS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        yield SimpleNamespace(address=guard.address_of(taken), folder=folder, hosts=hosts)
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser"), CAMERA) as one:
        yield one


@pytest.fixture
def page(browser, site):
    browser.open(site.address, DESK)
    browser.wait(f"return document.querySelector('{FIELD}') !== null")
    yield browser
    asked = browser.requests()
    assert asked and all(one.startswith((site.address, "blob:")) for one in asked), asked
    assert set(site.hosts) <= {"127.0.0.1", None}, site.hosts


def complaints(browser):
    return [one for one in browser.complaints() if HARMLESS not in one]


def sent(page, file):
    """What the page tells of a file."""
    if page.run("return document.querySelector('.demo-hint') === null"):
        page.run(CLEAR)
        page.wait("return document.querySelector('.demo-hint') !== null")
    page.wait(f"return document.querySelector('{FIELD}') !== null")
    page.choose(FIELD, file)
    page.wait("return document.querySelector('.demo-hint') === null")
    return page.run(TOLD)


def test_an_answer_is_that_of_the_localizer(page, place, site):
    assert page.run(TOLD) == NOTHING_SENT
    for name in ("photo.jpg", "turned6.jpg", "large.jpg", "alpha.png", "still.gif", "sixteen.png"):
        told = sent(page, place.files[name])
        found = place.localizer.predict(place.files[name], top_k=3)
        boxes = [box for box in (found.box, found.box_outer, found.box_inner) if box is not None]
        assert page.run(CELLS) == [pytest.approx(list(box), abs=0.0501) for box in boxes], name
        rows = [[one.label, percent(one.score)] for one in found.top_k]
        assert page.run(CLASS_ROWS) == rows and ODD in told
        assert (
            page.run("return document.querySelector('.demo-label span').innerText") == found.label
        )
        assert all(fact in told for fact in facts(found)) and len(list(facts(found))) == 3
        drawn = place.localizer.annotate(place.files[name], found)
        uri = page.run("return document.querySelector('.demo-picture').src")
        assert uri in answer_html(Answered(found, drawn)), name
    assert complaints(page) == []
    assert len([one for one in site.folder.iterdir() if one.is_dir()]) <= LIMITS.kept + 1
    for width in (PHONE, DESK):
        page.chrome("Emulation.setDeviceMetricsOverride", width=width, height=900,
                    deviceScaleFactor=1, mobile=False)  # fmt: skip
        assert page.run(OVERFLOW) <= width
        least = page.run("return document.querySelector('.demo-answer').clientWidth")
        assert least > 0.35 * width
    page.run(CLEAR)
    page.wait("return document.querySelector('.demo-hint') !== null")
    assert page.run(TOLD) == NOTHING_SENT


def test_examples_of_the_run_are_answered_and_a_picture_stands_once(page, place):
    buttons = "[...document.querySelectorAll('button.demo-example')]"
    assert page.run(f"return {buttons}.map(one => one.innerText)") == [
        *("Example 1", "Example 2", "Example 3")
    ]
    page.run(f"{buttons}[1].click()")
    page.wait("return document.querySelector('.demo-answer') !== null")
    found = place.localizer.predict(place.run / "examples" / "2.png")
    assert f"px of {found.size[1]} x {found.size[0]}" in page.run(TOLD)
    before = page.run(TOLD)
    page.choose(FIELD, place.files["photo.jpg"])
    page.wait(f"{TOLD} !== {json.dumps(before)}")
    shown = "[...document.querySelectorAll('img')].filter(one => one.offsetHeight > 40).length"
    assert page.run(f"return {shown}") == 2  # Once with its boxes, once with what they came from.


def test_files_that_are_no_answer_get_one_sentence(page, place, tmp_path):
    bad = {"half.jpg": HOSTILE["half a JPEG"], "empty.png": b"", "text.gif": HOSTILE["text"]}
    files = [tmp_path / name for name in bad]
    for file in files:
        file.write_bytes(bad[file.name])
    for file in (*files, place.files["bomb.png"]):
        told = sent(page, file)
        assert told.startswith(f"{file.name} ") and told.endswith(".") and "\n" not in told
        assert page.run("return document.querySelectorAll('.demo-sorry').length") == 1


def test_a_file_that_is_too_large_is_refused_by_the_page(page, site, tmp_path):
    large = tmp_path / "large.bmp"
    large.write_bytes(bytes(2 * guard.MEGABYTE))
    page.choose(FIELD, large)
    page.wait(
        "return document.body.innerText.includes('exceed the maximum allowed size of 1.0 Mb')"
    )
    assert page.run(TOLD) == NOTHING_SENT
    assert not list(site.folder.rglob("large.bmp"))


def test_a_picture_of_the_camera_is_answered(page):
    for words in ("capture from camera", "click to access webcam", "capture photo"):
        button = (
            "[...document.querySelectorAll('#demo-image button')].find(one =>"
            f" (one.ariaLabel + one.innerText).toLowerCase().includes('{words}'))"
        )
        page.wait(f"return {button} !== undefined")
        if words == "capture photo":
            page.wait("return document.querySelector('#demo-image video').videoWidth > 0")
        page.run(f"{button}.click()")
    page.wait("return document.querySelector('.demo-answer') !== null")
    assert page.run("return document.querySelectorAll('.demo-boxes tbody tr').length") >= 2


def asked(address, content=None):
    """Status and text of a request beside the browser."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["/etc/hostname", "http://example.org/a.png", __file__])
def test_only_uploads_are_looked_at(site, path, tmp_path):
    _, config = asked(f"{site.address}config")
    number = json.loads(config)["dependencies"][0]["id"]
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    question = {"data": data, "fn_index": number, "session_hash": tmp_path.name}
    before = sorted(site.folder.rglob("*"))
    assert asked(f"{site.address}gradio_api/queue/join", question)[0] == 200
    _, told = asked(f"{site.address}gradio_api/queue/data?session_hash={tmp_path.name}")
    assert '"success":false' in told and "demo-answer" not in told and "Traceback" not in told
    assert sorted(site.folder.rglob("*")) == before
    assert asked(f"{site.address}gradio_api/file={path}")[0] in (403, 404)
    assert set(site.hosts) <= {"127.0.0.1", None}


@pytest.mark.parametrize("path", ["docs", "gradio_api/runs", "monitoring"])
def test_nothing_beside_the_page_is_shown(site, path):
    assert asked(site.address + path)[0] == 404


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_the_command_ends_cleanly_while_a_page_is_open(place, browser, tmp_path, kind, code):
    command = [sys.executable, "-m", "loc_keras.demo", "--model", str(place.run), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment, cwd=Path(__file__).parents[2])  # fmt: skip
    line = process.stdout.readline()
    address = re.fullmatch(
        rf"(http://127\.0\.0\.1:\d+/) shows {place.run}; Ctrl-C ends it\.\n", line
    )
    browser.open(address[1], DESK)
    browser.wait(f"return document.querySelector('{FIELD}') !== null")
    sent(browser, place.files["photo.jpg"])
    (uploads,) = tmp_path.glob("loc_keras-demo-*")
    assert list(uploads.rglob("photo.jpg"))
    process.send_signal(kind)
    start = time.monotonic()
    out, errors = process.communicate(timeout=60)
    print(f"ended after {time.monotonic() - start:.1f} s")
    assert process.returncode == code and out == ""
    assert "Traceback" not in errors and errors.endswith("stopped.\n"), errors
    assert not list(tmp_path.glob("loc_keras-demo-*"))
