"""The page to try a model on, below the page: answers, sentences, limits, uploads, addresses."""

import asyncio
import base64
import io
import os
import re
import signal
import socket
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.hostile_images import HOSTILE
from helpers.localizer_run import SIZE, encoded, kinds, photograph
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loc_keras import Localizer, demo
from loc_keras.commands import demo as work
from loc_keras.commands.demo import FOLDER_VARIABLE, keep_newest, uploads_folder
from loc_keras.data.resize import ImageFormat
from loc_keras.demo_page import page as submission
from loc_keras.demo_page.guard import (
    MEGABYTE,
    UPLOAD,
    Guard,
    Limits,
    address_of,
    is_within,
    listen,
    refused,
    refused_sender,
)
from loc_keras.demo_page.page import (
    FAULT,
    GONE,
    NOTHING_SENT,
    Answered,
    answer,
    answer_html,
    box_rows,
    facts,
    percent,
)
from loc_keras.errors import DemoError
from loc_keras.localizer.opening import GraphReader
from loc_keras.localizer.results import ClassScore, Localization

BAD_NAME = '<b onclick="x">${1+1}{{value}}&\''


def found(**changes) -> Localization:
    values = {
        "label": "cat",
        "index": 0,
        "score": 0.9,
        "top_k": (ClassScore("cat", 0, 0.9), ClassScore(BAD_NAME, 1, 0.1)),
        "found": True,
        "box": (10.0, 20.0, 60.04, 50.0),
        "box_fraction": (0.1, 0.2, 0.6, 0.5),
        "size": (60, 90),
    }
    return Localization(**{**values, **changes})


TRUSTED = {
    "p_iou50": 0.875,
    "box_outer": (5.0, 10.0, 70.0, 55.0),
    "box_inner": (20.0, 25.0, 40.0, 45.0),
    "label_set": ("cat", BAD_NAME),
}


class OneAnswer:
    """A localizer whose pixels and pictures are the real ones, and whose answer is made up."""

    explains = False

    def __init__(self, channels=3):
        self.reader = GraphReader(ImageFormat(SIZE, channels, "letterbox"))

    def predict(self, image, top_k):
        size = self.reader.read(image).size
        return found(size=size, box=(1.0, 2.0, size[1] - 3.0, size[0] - 4.0))

    def annotate(self, image, result):
        return Localizer.annotate(self, image, result)


@pytest.fixture(scope="module")
def one():
    return OneAnswer()


@pytest.fixture
def file(tmp_path):
    def write(content, name="photo.jpg"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


# Answers


def test_every_kind_of_file_is_answered_upright_and_drawn_in_whole(one, file):
    for name, content in kinds().items():
        told = answer(one, file(content, name), MEGABYTE, 2)
        assert isinstance(told, Answered), told
        # Pillow's own reading of the orientation; a turn by 90 degrees exchanges the sides.
        raw = Image.open(io.BytesIO(content))
        turned = raw.getexif().get(0x0112, 1) >= 5
        assert told.result.size == (raw.size if turned else raw.size[::-1]), name
        wide, high = told.picture.size
        assert wide / high == pytest.approx(told.result.size[1] / told.result.size[0], rel=0.01)


def test_a_model_of_grey_images_answers_about_coloured_ones(file):
    told = answer(OneAnswer(channels=1), file(kinds()["photo.jpg"]), MEGABYTE, 2)
    assert isinstance(told, Answered)
    assert np.ptp(np.asarray(told.picture).astype(int), axis=-1).max() > 30  # Drawn in colour.


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_sentence(one, file, name, caplog):
    told = answer(one, file(HOSTILE[name], "sent.png"), 100 * MEGABYTE, 2)
    assert isinstance(told, str) and told != FAULT and not caplog.records
    assert told.startswith("sent.png ") and told.endswith(".") and "\n" not in told
    assert "/" not in told.replace("2**31", "")  # No path of the machine.
    if "20,000" in name or "2**31" in name:
        assert "at most 64 million are read" in told


def test_sentences_of_what_is_no_file(one, file, tmp_path, caplog, monkeypatch):
    assert answer(one, None, MEGABYTE, 2) == NOTHING_SENT
    assert answer(one, tmp_path / "gone.jpg", MEGABYTE, 2) == GONE
    large = file(bytes(MEGABYTE + MEGABYTE // 2))
    assert answer(one, large, MEGABYTE, 2) == "photo.jpg has 1.5 MB; at most 1 MB are taken."
    monkeypatch.setattr(one, "predict", lambda *_, **__: 1 / 0)
    assert answer(one, file(kinds()["photo.jpg"]), MEGABYTE, 2) == FAULT
    assert "ZeroDivisionError" in caplog.text  # The terminal has it.


def test_a_large_picture_is_shown_smaller(one, file):
    told = answer(one, file(encoded(photograph(1, 4000, 1000), "JPEG")), MEGABYTE, 2)
    assert told.picture.size == (1600, 400) and told.result.size == (1000, 4000)


def test_warming_up_uses_all_that_an_answer_uses(monkeypatch):
    asked = []
    made = SimpleNamespace(
        form=ImageFormat((8, 12), 3, "stretch"),
        predict=lambda image, top_k: asked.append(image) or found(),
        annotate=lambda image, result: Image.open(io.BytesIO(image)),
        explains=True,
        explain=lambda image: asked.append("why") or Image.open(io.BytesIO(image)),
    )
    monkeypatch.setattr(submission, "encoded", lambda picture: asked.append(picture.size))
    submission.warm(made, 3)
    assert asked[0].startswith(b"\x89PNG") and asked[1:3] == ["why", (24, 16)]


# What is answer_html


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def test_an_answer_shows_label_score_classes_boxes_and_trust():
    picture = photograph(3)
    html = answer_html(Answered(found(**TRUSTED), picture))
    page = Elements(html)
    for text in ("cat", "90.0 %", "10.0 %", BAD_NAME, "px of 90 x 60", "60.0", "55.0", "25.0"):
        assert text in page.texts, text
    assert page.texts.count("cat") == 2  # As the label and among the classes.
    assert any("probability of 87.5 %" in text for text in page.texts)
    assert f"Classes that cannot be ruled out: cat, {BAD_NAME}." in page.texts
    assert page.tags.count("img") == 1 and "b" in page.tags and "onclick" not in page.attributes
    content = base64.b64decode(re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)[1])
    seen = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert np.abs(seen - np.asarray(picture)).mean() < 4  # JPEG's own loss.


def test_boxes_that_are_not_there_are_not_told():
    assert [row[0] for row in box_rows(found(**TRUSTED))] == ["box", "outer", "inner"]
    assert [row[0] for row in box_rows(found(**{**TRUSTED, "box_inner": None}))] == ["box", "outer"]
    nothing = found(found=False, box=None, box_fraction=None, label_set=("cat",))
    assert box_rows(nothing) == []
    unknown = "Whether this picture is like those of training is not known."
    assert list(facts(nothing)) == [
        unknown,
        "No object is found, so there is no box.",
        "Classes that cannot be ruled out: cat.",
    ]
    assert "<thead>" not in answer_html(Answered(nothing, photograph(0)))
    unsure = "How sure the box is, is not known: no trust was fitted to this model."
    assert list(facts(found())) == [unknown, unsure]
    assert next(facts(found(**TRUSTED))) == unknown
    told = "Of pictures like those of training, 0.2 % are as unusual as this one."
    assert list(facts(found(novelty=0.002, known=True))) == [told, unsure]
    warned, second, _ = facts(found(novelty=0.002, known=False))
    assert "unlike those the model was trained on" in warned
    assert second == told


def test_sentences_are_escaped():
    assert Elements(answer_html(BAD_NAME)).texts == [BAD_NAME]
    assert "demo-sorry" in answer_html("x.") and "demo-hint" in answer_html(NOTHING_SENT)


@given(st.floats(0, 1))
def test_a_percentage_is_near_and_never_claims_certainty(value):
    told = percent(value)
    assert told.endswith(" %")
    if value < 1:
        assert not told.startswith("100")
    assert abs(float(told.strip("> %")) - 100 * value) <= 0.1


# Limits


LIMITS = Limits(file_bytes=MEGABYTE, uploads=2)


@pytest.mark.parametrize(
    ("method", "path", "length", "status"),
    [
        ("GET", "/", None, None),
        ("HEAD", "/", None, None),
        ("GET", "/assets/index.js", None, None),
        ("GET", "/assets/../etc", None, 404),
        ("GET", "/gradio_api/info", None, None),
        ("GET", "/gradio_api/api_names", None, 404),
        ("GET", "/docs", None, 404),
        ("GET", "/gradio_api/proxy=https://example.org", None, 404),
        ("GET", "/gradio_api/file=/tmp/x/photo.jpg", None, None),
        ("GET", "/gradio_api/file=http://example.org/a.png", None, 404),
        ("POST", UPLOAD, MEGABYTE + 1000, None),
        ("POST", UPLOAD, 2 * MEGABYTE, 413),
        ("POST", UPLOAD, None, 411),
        ("POST", "/gradio_api/queue/join", 1000, None),
        ("POST", "/gradio_api/queue/join", MEGABYTE, 413),
        ("POST", "/gradio_api/run/predict", 10, 404),
        ("POST", "/", 10, 404),
        ("DELETE", "/", None, 404),
    ],
)
def test_only_what_the_page_needs_is_let_through(method, path, length, status):
    told = refused(method, path, length, LIMITS)
    assert told is None if status is None else told[0] == status


class Inside:
    """An application that answers as soon as it is let, and counts."""

    def __init__(self):
        self.free, self.running, self.most = asyncio.Event(), 0, 0

    async def __call__(self, scope, receive, send):
        self.running += 1
        self.most = max(self.most, self.running)
        await self.free.wait()
        self.running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"ok"})


HERE = (b"host", b"localhost:7860")


async def asked(
    guard,
    path,
    headers=((b"content-length", b"10"), HERE),
    method="POST",
    kind="http",
    receive=None,
    client="127.0.0.1",
):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": method, "path": path, "headers": headers}
    await guard({**scope, "client": (client, 1)}, receive, send)
    return sent


def test_uploads_at_a_time_are_counted_and_make_room_first():
    async def many():
        inside, room = Inside(), []
        guard = Guard(inside, LIMITS, lambda: room.append(inside.running))
        tasks = [asyncio.create_task(asked(guard, UPLOAD)) for _ in range(5)]
        await asyncio.sleep(0)
        inside.free.set()
        answers = [await task for task in tasks]
        assert sorted(sent[0]["status"] for sent in answers) == [200, 200, 503, 503, 503]
        assert inside.most == 2 and len(room) == 2
        (start, _) = await asked(guard, UPLOAD)  # The places are free again.
        assert start["status"] == 200 and (b"a", b"b") in start["headers"]
        policy = dict(start["headers"])[b"content-security-policy"]
        assert b"default-src 'self'" in policy and b"http" not in policy
        (refusal, _) = await asked(guard, UPLOAD, ((b"content-length", b"-1"), HERE))
        assert refusal["status"] == 411 and b"content-security-policy" in dict(refusal["headers"])
        assert await asked(guard, "/", kind="websocket") == []

    asyncio.run(many())


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:7860", None, None),
        ("LOCALHOST", "http://localhost", None),
        ("[::1]:7860", "http://[::1]:7860", None),
        ("Page.example:80", "https://page.example:80", None),
        ("evil.example", None, 403),
        ("evil.example", "http://evil.example", 403),
        ("localhost.evil.example", None, 403),
        ("localhost:7860", "http://localhost:9999", 403),
        ("localhost:7860", "http://evil.example", 403),
        ("localhost:7860", "null", 403),
        ("[::1", None, 403),
        ("", None, 403),
    ],
)
def test_only_the_page_itself_may_send_something(host, origin, status):
    """Names of the machine itself (RFC 6761, RFC 1122) and those given; origins as in RFC 6454."""
    headers = [(b"host", host.encode()), (b"accept", b"*/*")]
    headers += [] if origin is None else [(b"origin", origin.encode())]
    told = refused_sender(headers, ["page.example"], posts=True)
    assert told is None if status is None else told[0] == status
    other = refused_sender([HERE, *headers[2:]], [], posts=False)
    assert other is None  # A link elsewhere may lead here.


def test_two_names_or_none_are_refused():
    assert refused_sender([], [], posts=False)[0] == 403
    assert refused_sender([HERE, (b"host", b"evil.example")], [], posts=False)[0] == 403


class Body:
    """An application that waits for the whole body, as Gradio does."""

    async def __call__(self, scope, receive, send):
        while (await receive()).get("more_body"):
            continue
        sharing = (b"access-control-allow-origin", b"http://evil.example")
        await send({"type": "http.response.start", "status": 200, "headers": [sharing]})
        await send({"type": "http.response.body", "body": b"ok"})


def part(size=0, *, more=True):
    return {"type": "http.request", "body": bytes(size), "more_body": more}


async def silence():
    await asyncio.Event().wait()


def test_a_body_that_does_not_come_is_given_up():
    async def many():
        limits = Limits(file_bytes=MEGABYTE, uploads=2, pause_seconds=0.05, body_seconds=0.2)
        guard = Guard(Body(), limits, lambda: None)
        for path in (UPLOAD, "/gradio_api/queue/join"):
            (start, _) = await asked(guard, path, receive=silence)
            assert start["status"] == 408

        async def dripping():
            await asyncio.sleep(0.01)
            return part(1)

        (start, _) = await asked(guard, UPLOAD, receive=dripping)
        assert start["status"] == 408

        async def whole():
            return part(10, more=False)

        (start, _) = await asked(guard, UPLOAD, receive=whole)
        assert start["status"] == 200
        assert not [name for name, _ in start["headers"] if name.startswith(b"access-control")]

    asyncio.run(many())


def test_uploads_that_stand_still_make_room_for_others(monkeypatch):
    monkeypatch.setattr("loc_keras.demo_page.guard._SETTLED_SECONDS", 0)

    async def many():
        guard = Guard(Body(), LIMITS, lambda: None)
        slow = asyncio.Queue()
        slow.put_nowait(part(1000))
        bad, good = "198.51.100.1", "198.51.100.2"  # Of RFC 5737, for documentation.
        receivers = [(slow.get, bad), (silence, bad), (silence, good), (silence, good)]
        uploads = []
        for receive, client in receivers:
            task = asyncio.create_task(asked(guard, UPLOAD, receive=receive, client=client))
            uploads.append(task)
            await asyncio.sleep(0.01)
        # Of two places the third took that of which nothing came, and the fourth the third's:
        # of the slow one, at least, something had come.
        assert [task.done() for task in uploads] == [False, True, True, False]
        for task in uploads[1:3]:
            assert (await task)[0]["status"] == 408
        slow.put_nowait(part(10, more=False))
        assert (await uploads[0])[0]["status"] == 200
        uploads[3].cancel()

    asyncio.run(many())


def test_the_client_with_most_uploads_makes_room(monkeypatch):
    monkeypatch.setattr("loc_keras.demo_page.guard._SETTLED_SECONDS", 0)

    async def many():
        guard = Guard(Body(), Limits(file_bytes=MEGABYTE, uploads=3), lambda: None)
        quick = asyncio.Queue()
        quick.put_nowait(part(1000))
        greedy, other = "198.51.100.1", "198.51.100.2"
        receivers = [(quick.get, greedy), (quick.get, greedy), (silence, other), (silence, other)]
        uploads = []
        for receive, client in receivers:
            task = asyncio.create_task(asked(guard, UPLOAD, receive=receive, client=client))
            uploads.append(task)
            await asyncio.sleep(0.01)
        assert [task.done() for task in uploads] == [False, True, False, False]
        for task in uploads:
            task.cancel()

    asyncio.run(many())


# Uploads


def test_uploads_lie_in_a_folder_that_ends(monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, "before")
    with uploads_folder() as folder:
        assert os.environ[FOLDER_VARIABLE] == str(folder)
        (folder / "a").mkdir()
        (folder / "a" / "x.jpg").write_bytes(b"x")
    assert not folder.exists() and os.environ[FOLDER_VARIABLE] == "before"
    monkeypatch.delenv(FOLDER_VARIABLE)
    with pytest.raises(KeyboardInterrupt), uploads_folder() as folder:
        raise KeyboardInterrupt
    assert not folder.exists() and FOLDER_VARIABLE not in os.environ


def test_the_newest_uploads_are_kept(tmp_path):
    for number in range(6):
        entry = tmp_path / str(number)
        entry.mkdir() if number % 2 else entry.write_bytes(b"arriving")
        if number % 2:
            (entry / "x.jpg").write_bytes(b"x")
        os.utime(entry, (number, number))
    keep_newest(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "4", "5"]
    keep_newest(tmp_path, 9)
    assert len(list(tmp_path.iterdir())) == 4


def test_no_path_or_link_leads_out_of_the_folder(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    assert is_within(str(inside / "a" / "b.jpg"), inside)
    for path in ("/etc/passwd", f"{inside}/../x", f"{inside}/link/x", "http://h/x", f"{inside}2"):
        assert not is_within(path, inside)


# The door


def test_addresses():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address_of(taken) == f"http://127.0.0.1:{port}/"
        with pytest.raises(DemoError, match=rf"^port {port} of 127.0.0.1 is in use; .*--port"):
            listen("127.0.0.1", port)
    with listen("0.0.0.0", 0) as taken:
        assert address_of(taken).startswith("http://localhost:")
    with pytest.raises(DemoError, match=r"^--host no\.such\.host\.invalid is no address"):
        listen("no.such.host.invalid", 0)
    with pytest.raises(DemoError, match=r"^port 0 of 192\.0\.2\.1 cannot be taken"):
        listen("192.0.2.1", 0)  # Of RFC 5737, for documentation: no machine has it.


@pytest.fixture
def sigterm():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
def test_without_gradio_one_sentence_names_the_line_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(work, "find_spec", lambda name: None)
    assert demo.main(["--model", "nowhere"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "python -m pip install -r requirements-demo.txt" in told


@pytest.mark.usefixtures("sigterm")
def test_a_bad_model_and_a_port_in_use_are_told_in_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(work, "find_spec", lambda name: True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert demo.main(["--model", str(tmp_path), "--port", port]) == 2
    assert capsys.readouterr().err == (
        f"error: port {port} of 127.0.0.1 is in use; give another one by --port, 0 for any.\n"
    )
    assert demo.main(["--model", str(tmp_path), "--port", "0"]) == 2
    assert "holds neither best.keras" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--port", "70000"], ["--max-megabytes", "0"], ["--max-megabytes", "nan"]]
)
def test_settings_out_of_range_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        demo.main(["--model", "x", *arguments])
    assert stopped.value.code == 2 and "must be" in capsys.readouterr().err
