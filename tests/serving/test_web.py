"""The page that `export --format web` writes: what it needs, and its answers in a real browser."""

import functools
import http.server
import json
import os
import re
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers.browser import found_browser, open_browser
from helpers.hostile_images import HOSTILE
from helpers.localizer_run import (
    SIZE,
    write_images,
    write_made_up_trust,
    write_novelty_of_photographs,
    write_run,
)

from loc_keras import Localizer
from loc_keras import export as command
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ExportError
from loc_keras.serving import web
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.portable import export_portable
from loc_keras.serving.runtimes import Facts
from loc_keras.trust.novelty import read_novelty, with_novelty
from loc_keras.trust.statements import read_trust, trusted_model

ODD = "<b>\"${1+1}'&amp;"
CLASSES = [ODD, "dog", "owl"]
INSTALLED = Path(os.environ.get("LOC_KERAS_ONNXRUNTIME_WEB", "node_modules/onnxruntime-web"))
needs_npm = pytest.mark.skipif(
    not INSTALLED.is_dir(), reason=f"needs {INSTALLED}: npm install onnxruntime-web@1.30"
)
needs_browser = pytest.mark.skipif(
    found_browser() is None, reason="needs Chromium and its driver on the PATH"
)
needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("tf2onnx", "onnx", "onnxruntime")),
    reason="needs requirements-export.txt",
)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
STATE = "return document.querySelector('#state').innerText"
READY = f"{STATE} === 'Ready.'"
TOLERANCE = 2e-3  # Of the side of a picture.


def package(folder, name="onnxruntime-web", version="1.30.0", files=("mjs", "wasm")):
    """A folder that looks like the npm package."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": version}))
    for ending, file in zip(("mjs", "wasm"), web._RUNTIME_FILES, strict=True):
        if ending in files:
            (folder / "dist" / file).write_text(ending)
    return folder


def bundle_of(run, samples):
    """As `export` makes it of a run with trust and novelty."""
    model = keras.saving.load_model(run / "best.keras")
    model = trusted_model(model, read_trust(run / "trust.json", run / "best.keras").statements)
    model = with_novelty(model, read_novelty(run / "novelty.json", run / "best.keras"))
    form = ImageFormat(SIZE, 3, "letterbox")
    return Bundle(model, CLASSES, form, samples, {"name": "<i>pets</i>", "background": "owl"})


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"name": "onnxruntime-node"}, "is not the npm package onnxruntime-web: no package.json"),
        ({"version": "1.3.0"}, "holds onnxruntime-web 1.3.0, and the page needs 1.30; fetch it by"),
        ({"files": ["wasm"]}, "lacks dist/ort.wasm.bundle.min.mjs of onnxruntime-web; fetch it"),
    ],
)
def test_another_folder_is_one_sentence(tmp_path, made, words):
    folder = package(tmp_path / "npm", **made)
    with pytest.raises(ExportError) as told:
        web.find_runtime(folder)
    assert str(told.value).startswith(f"{folder} {words}")
    assert "npm install onnxruntime-web@1.30" in str(told.value)
    assert str(told.value).count(".\n") == 0 and str(told.value).endswith(".")


def test_the_package_is_found_beside_and_below(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match=r"not in node_modules/onnxruntime-web here; fetch it by"):
        web.find_runtime(None)
    folder = package(tmp_path / "node_modules" / "onnxruntime-web")
    assert web.find_runtime(None).resolve() == web.find_runtime(tmp_path) == folder
    with pytest.raises(ExportError, match=r"nothing is not the npm package"):
        web.find_runtime(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--format", "web", "--onnxruntime-web", "none"], "none is not the npm package"),
        (["--format", "litert", "--onnxruntime-web", "."], "--onnxruntime-web is for --format web"),
    ],
)
def test_what_is_wrong_is_told_before_the_run_is_read(capsys, monkeypatch, more, words):
    monkeypatch.setattr("loc_keras.commands.export.refuse_format", lambda kind, quantize: None)
    assert command.main(["--run", "nowhere", "--out", "models", *more]) == 2
    assert f"error: {words}" in capsys.readouterr().err


def test_the_page_shows_names_as_text_and_asks_nobody_else(tmp_path):
    names = [ODD, *map(str, range(20))]
    facts = Facts(tuple(names), None, (8, 9), 1, "stretch")
    web.page_writer(package(tmp_path / "npm"))(tmp_path, facts)
    page = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;&#34;${1+1}&#39;&amp;amp;, 0," in page and "10 and 9 more." in page
    assert page.count("<b>") == 0 and page.count('http-equiv="Content-Security-Policy"') == 1
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["version"] == 1 and told["class_names"] == names and told["background"] is None
    assert (told["size"], told["channels"], told["resize"]) == ([8, 9], 1, "stretch")
    for name in ("index.html", "page.mjs", "page.css"):
        assert "//" not in re.sub(r"// .*", "", (tmp_path / name).read_text()).replace("https", "")
    assert (tmp_path / "ort-wasm-simd-threaded.wasm").read_text() == "wasm"


# In the browser


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run with trust, novelty and a background, its page, pictures, and a server of them."""
    folder = tmp_path_factory.mktemp("web")
    run = write_run(folder / "run", "letterbox", background="owl")
    (run / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    write_made_up_trust(run)
    write_novelty_of_photographs(run)
    paths = [one for one in write_images(folder / "pictures") if one.suffix != ".tif"]
    version = export_portable(
        bundle_of(run, [paths[0].read_bytes()]),
        folder,
        web.ONNX,
        "none",
        measure=lambda run: {},
        place=web.WEB,
        beside=web.page_writer(web.find_runtime(INSTALLED)),
    )
    assert version == folder / "web" / "1"

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Says nothing."""

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_address[1]}/"
        yield SimpleNamespace(
            folder=folder,
            root=root,
            page=f"{root}web/1/",
            paths=paths,
            localizer=Localizer.load(run),
        )
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser"), CAMERA) as one:
        yield one


@pytest.fixture
def page(browser, place):
    browser.open(place.page, 1280)
    browser.wait(f"{READY}")
    yield browser
    asked = browser.requests()
    assert asked and all(one.startswith((place.root, "blob:")) for one in asked), asked
    assert browser.complaints() == []


def answer(page, place, path):
    """What the page's own function gives for a picture that it fetches."""
    return page.run(
        f"""
      const page = await import(new URL('page.mjs', location));
      const blob = await (await fetch({json.dumps(place.root + "pictures/" + path.name)})).blob();
      const picture = await createImageBitmap(blob, {{colorSpaceConversion: 'none'}});
      return page.answerOf(picture, [picture.height, picture.width], blob.type === 'image/jpeg');
    """.join(("return (async () => {", "})()"))
    )


@pytest.mark.whole
@needs_npm
@needs_browser
@needs_onnx
def test_answers_are_those_of_the_run(page, place):
    largest = {}
    for path in place.paths:
        found, expected = answer(page, place, path), place.localizer.predict(path)
        assert found["label"] == expected.label and found["found"] == expected.found, path.name
        assert found["size"] == list(expected.size), path.name
        assert found["known"] == expected.known
        assert found["label_set"] == list(expected.label_set)
        assert found["novelty"] == pytest.approx(expected.novelty, abs=0.05)
        assert found["score"] == pytest.approx(expected.score, abs=0.01)
        sides = np.tile(expected.size[::-1], 2)
        for name, box in (("bbox", expected.box), ("box_inner", expected.box_inner),
                          ("box_outer", expected.box_outer)):  # fmt: skip
            assert (name in found["boxes"]) == (box is not None)
            if box is not None:
                error = np.abs(np.subtract(found["boxes"][name], box) / sides).max()
                largest[path.name, name] = error
    print({key: f"{value:.5f}" for key, value in largest.items()})
    assert max(value for (_, name), value in largest.items() if name == "bbox") < TOLERANCE


@pytest.mark.whole
@needs_npm
@needs_browser
@needs_onnx
def test_a_chosen_file_the_camera_and_bad_files(page, place, tmp_path):
    path = place.folder / "pictures" / "large.jpg"
    page.choose("#file", path)
    page.wait(f"{STATE} === 'large.jpg'")
    expected = place.localizer.predict(path)
    assert page.run("return document.querySelector('#label').innerText") == expected.label
    assert f"{expected.score:.1%}".replace("%", " %") == page.run(
        "return document.querySelector('#score').innerText"
    )
    cells = page.run("return [...document.querySelectorAll('#boxes tbody .bbox td')]"
                     ".map(cell => Number(cell.innerText))")  # fmt: skip
    assert cells == pytest.approx(expected.box, abs=1)
    print(page.run("return document.querySelector('#time').innerText"))
    assert page.run("return document.querySelectorAll('#classes tbody tr').length") == 3
    for width in (1280, 390):
        page.chrome("Emulation.setDeviceMetricsOverride", width=width, height=900,
                    deviceScaleFactor=1, mobile=False)  # fmt: skip
        assert page.run("return document.documentElement.scrollWidth") <= width
        if folder := os.environ.get("LOC_KERAS_SCREENSHOTS"):
            (Path(folder) / f"web-{width}.png").write_bytes(page.screenshot())
    page.run("document.querySelector('#camera').click()")
    page.wait("return document.querySelector('#time').innerText.includes('frames a second')")
    time.sleep(3)
    print(page.run("return document.querySelector('#time').innerText"))
    page.run("document.querySelector('#camera').click()")
    assert page.run("return document.querySelector('#camera').innerText") == "Use the camera"
    for name in ("half a JPEG", "text"):
        bad = tmp_path / f"{name}.jpg"
        bad.write_bytes(HOSTILE[name])
        page.choose("#file", bad)
        page.wait("return document.querySelector('#state').className === 'sorry'")
        assert page.run(STATE).startswith(f"{bad.name} is no picture that this browser can read;")
        assert page.run("return document.querySelector('#answer').hidden")
        page.choose("#file", path)
        page.wait(f"{STATE} === 'large.jpg'")


@pytest.mark.whole
@needs_npm
@needs_browser
@needs_onnx
def test_a_model_that_is_not_there_is_one_sentence(browser, place):
    model = place.folder / "web" / "1" / "model.onnx"
    model.rename(model.with_suffix(".away"))
    try:
        browser.open(place.page, 390)
        browser.wait("return document.querySelector('#state').className === 'sorry'")
        assert browser.run(STATE).startswith("The model cannot be loaded: ")
        assert browser.run("return document.querySelector('#file').disabled")
    finally:
        model.with_suffix(".away").rename(model)
