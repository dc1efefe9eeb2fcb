"""Files for LiteRT, ONNX Runtime and OpenVINO: they answer as their run, without TensorFlow."""

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers.localizer_run import (
    CLASSES,
    LOUDER,
    SIZE,
    write_images,
    write_made_up_trust,
    write_novelty_of_photographs,
    write_run,
)

from loc_keras import Localizer
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ModelError
from loc_keras.localizer.exported import exported_file, fastest_of
from loc_keras.localizer.opening import GraphReader
from loc_keras.serving import portable
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.portable import FORMATS
from loc_keras.serving.runtimes import RUNTIMES, Facts, open_file
from loc_keras.trust.novelty import read_novelty, with_novelty
from loc_keras.trust.statements import read_trust, trusted_model

TITLES = {"litert": "LiteRT", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
CARD = {"name": "pets", "background": "owl"}
MADE_OF = ("best.keras", "classes.txt", "trust.json", "folds.keras", "novelty.json")


def needs(kind):
    for module in (RUNTIMES[kind].module, *portable.CONVERTERS.get(kind, ())):
        pytest.importorskip(module)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run with trust and novelty and a class of the background, images, what the run answers."""
    folder = tmp_path_factory.mktemp("exported")
    run = write_run(folder / "run", "letterbox", background="owl")
    write_made_up_trust(run)
    write_novelty_of_photographs(run)
    paths = write_images(folder / "images")
    model, trust = keras.saving.load_model(run / "best.keras"), run / "trust.json"
    model = trusted_model(model, read_trust(trust, run / "best.keras").statements)
    model = with_novelty(model, read_novelty(run / "novelty.json", run / "best.keras"))
    files = {name: run / name for name in MADE_OF}
    digests = {
        name: hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
        for name, file in files.items()
    }
    texts = {"trust.json": trust.read_text(), "source.json": json.dumps(digests)}
    form, samples = ImageFormat(SIZE, 3, "letterbox"), [paths[0].read_bytes()]
    bundle = Bundle(model, CLASSES, form, samples, CARD, texts)
    answers = Localizer.load(run).predict(paths)
    return SimpleNamespace(folder=folder, run=run, paths=paths, bundle=bundle, answers=answers)


@pytest.fixture(scope="module", params=FORMATS)
def exported(request):
    """A kind, and its version among the exports of the run."""
    needs(request.param)
    place = request.getfixturevalue("place")
    return request.param, export(place.bundle, place.run / "export", request.param)


def export(bundle, base, kind, quantize="none"):
    images = np.zeros((2, *SIZE, 3), np.float32)
    return portable.export_portable(
        bundle, base, kind, quantize, measure=lambda run: {}, calibration=images
    )


def assert_alike(found, expected, limit=1e-3):
    """Answers of a file, as values of JSON, and of its run; boxes in fractions of the sides.

    The model is untrained and steep, so that a wrong pixel shows.
    """
    assert len(found) == len(expected)
    for ours, theirs in zip(found, [one.as_dict() for one in expected], strict=True):
        assert set(ours) >= set(theirs)
        for name in ("label", "found", "label_set", "height", "width"):
            assert ours[name] == theirs[name]
        for name in ("score", "p_iou50", "novelty"):
            assert ours[name] == pytest.approx(theirs[name], abs=limit)
        sides = np.tile([theirs["width"], theirs["height"]], 2)
        for name in ("box", "box_outer", "box_inner"):
            assert (ours[name] is None) == (theirs[name] is None)
            if theirs[name] is not None:
                assert np.abs(np.subtract(ours[name], theirs[name]) / sides).max() < limit, name


def test_a_file_answers_as_its_run(exported, place):
    kind, version = exported
    found = Localizer.load(version / RUNTIMES[kind].file)
    assert (found.runtime, found.class_names, found.background) == (TITLES[kind], tuple(CLASSES), 2)
    assert found.form == place.bundle.form
    assert found.trusted and found.tells_novelty
    assert found.notes == ()
    assert any(one.found for one in place.answers)
    assert_alike([one.as_dict() for one in found.predict(place.paths, batch_size=4)], place.answers)
    # With the pixels of training all that is left is the rounding of the runtime.
    same = replace(found._opened, reader=GraphReader(found.form))
    answers = same.ask([same.reader.read(path) for path in place.paths], 5)
    assert_alike([one.as_dict() for one in answers], place.answers, 1e-4)
    for folder in (version, version.parent):
        assert Localizer.load(folder).digest == found.digest


ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in KEPT | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

KEPT = {"loc_keras", "numpy", "PIL", *sys.argv[1].split(",")}
KEPT |= {"rich", "pygments", "markdown_it", "mdurl"}
sys.meta_path.insert(0, Absent())
from loc_keras.__main__ import main

code = main(["predict", "--format", "jsonl", "--model", *sys.argv[2:]])
assert not {"tensorflow", "keras"} & set(sys.modules)
sys.exit(code)
"""
"""A program that is refused all packages but NumPy, Pillow, the terminal's, and a runtime's own."""

OWN = {
    "litert": ("ai_edge_litert", "backports"),
    "onnx": ("onnxruntime", "coloredlogs", "humanfriendly", "flatbuffers", "google"),
    "openvino": ("openvino", "openvino_telemetry"),
}


def test_the_command_answers_without_tensorflow_and_keras(exported, place):
    kind, version = exported
    asked = [",".join(OWN[kind]), str(version / RUNTIMES[kind].file), *map(str, place.paths)]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_alike([json.loads(line) for line in done.stdout.splitlines()], place.answers)
    assert done.stderr == f"{TITLES[kind]} answers, from {version / RUNTIMES[kind].file}\n"


def test_a_file_says_what_it_is(exported, place):
    kind, version = exported
    _, facts = open_file(version / RUNTIMES[kind].file, kind)
    assert facts.card == CARD
    assert facts.texts == place.bundle.texts
    if kind == "litert":
        with zipfile.ZipFile(version / "model.tflite") as archive:
            assert json.loads(archive.read("loc_keras.json"))["size"] == list(SIZE)


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["litert", "onnx"])
def test_quantized_files_say_what_they_are(request, tmp_path, kind):
    needs(kind)
    place = request.getfixturevalue("place")
    model = keras.saving.load_model(place.run / "best.keras")
    for weight in model.trainable_variables:  # Of heads as loud as the run's 8 bits are refused.
        if weight.path.startswith(("softmax_logits", "bbox")) and "kernel" in weight.path:
            weight.assign(weight / LOUDER)
    plain = replace(place.bundle, localizer=model, texts={})
    version = export(plain, tmp_path, kind, "int8")
    found = Localizer.load(version)
    assert not found.trusted
    assert found.predict(place.paths[0]).label in CLASSES
    assert open_file(version / RUNTIMES[kind].file, kind)[1].quantize == "int8"


def test_the_fastest_file_of_the_same_model_is_taken(tmp_path, monkeypatch):
    contents = {"best.keras": b"model", "trust.json": b"trust"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    texts, quantize = {"source.json": json.dumps({**digests, "novelty.json": None})}, ["none"]

    def load(path, threads):
        facts = Facts(tuple(CLASSES), None, SIZE, 3, "stretch", quantize[0], {}, texts)
        return lambda images: {"softmax": np.ones((len(images), 3))}, facts.as_text()

    for kind, runtime in RUNTIMES.items():
        monkeypatch.setitem(RUNTIMES, kind, replace(runtime, module="json", load=load))
    run = tmp_path / "run"
    for kind in ("openvino", "onnx"):
        file = run / "export" / kind / "12" / RUNTIMES[kind].file
        file.parent.mkdir(parents=True)
        file.touch()
    for name, content in contents.items():
        (run / name).write_bytes(content)
    found = Localizer.open(run, fastest=True)
    assert (found.runtime, found.path.name) == ("ONNX Runtime", "model.onnx")
    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], module="no_such_module"))
    assert fastest_of(run).runtime == "OpenVINO"
    quantize[0] = "float16"
    assert fastest_of(run) is None
    quantize[0] = "none"
    assert fastest_of(run) is not None
    (run / "trust.json").write_text("fitted anew")
    assert fastest_of(run) is None
    # Beside a SavedModel it counts whether both were made of the same run.
    served = tmp_path / "served"
    (run / "export" / "openvino").rename(served.mkdir() or served / "openvino")
    assert fastest_of(served).runtime == "OpenVINO"
    for number, text in (("9", "other"), ("10", texts["source.json"])):
        (served / number / "assets.extra").mkdir(parents=True)
        (served / number / "assets.extra" / "source.json").write_text(text)
    assert fastest_of(served).runtime == "OpenVINO"
    texts["source.json"] = "other"
    assert fastest_of(served) is None


def test_what_cannot_be_used_is_told_in_a_sentence(tmp_path, monkeypatch):
    file = tmp_path / "model.onnx"
    file.touch()
    said = [None]

    def load(path, threads):
        if said[0] == "damaged":
            raise RuntimeError("bad magic\nand more")
        return lambda images: {}, said[0]

    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], module="json", load=load))
    good = Facts(("a",), None, SIZE, 3, "stretch").as_text()
    assert json.loads(good)["version"] == 1
    for text in (None, "", "[]", "{}", good.replace('"version": 1', '"version": 2')):
        said[0] = text
        with pytest.raises(ModelError, match=r"not say what its answers mean.*loc-keras export"):
            Localizer.load(file)
    said[0] = "damaged"
    words = r"cannot be opened by ONNX Runtime \(bad magic\); export its run anew: loc-keras export"
    with pytest.raises(ModelError, match=words):
        Localizer.load(tmp_path)
    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], module="no_such_module"))
    with pytest.raises(ModelError, match=r"needs ONNX Runtime, not installed.* onnxruntime\.$"):
        Localizer.load(file)


def test_files_are_found_by_their_folders(tmp_path):
    assert exported_file(tmp_path / "none") is None
    for number in ("2", "10"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "model.tflite").touch()
    assert exported_file(tmp_path) == tmp_path / "10" / "model.tflite"
    assert exported_file(tmp_path / "2") == tmp_path / "2" / "model.tflite"
    (tmp_path / "own name.onnx").touch()
    assert exported_file(tmp_path / "own name.onnx") == tmp_path / "own name.onnx"
    (tmp_path / "best.keras").touch()
    assert exported_file(tmp_path / "best.keras") is None
