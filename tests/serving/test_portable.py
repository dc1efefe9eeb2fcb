"""LiteRT, ONNX and OpenVINO files: the model's answers, by their own runtimes."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers.served_files import GOOD
from helpers.trust_examples import seen_by

import loc_keras
from loc_keras.config.schema import TrustConfig
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ExportError
from loc_keras.models import assembly
from loc_keras.serving import portable
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.portable import FORMATS
from loc_keras.serving.signatures import pixel_function
from loc_keras.trust.fit import fit_statements
from loc_keras.trust.statements import STATED, trusted_model

WANTED = [
    *((kind, quantize) for kind in ("litert", "onnx") for quantize in portable.QUANTIZE),
    *(("openvino", quantize) for quantize in ("none", "float16")),
]


@pytest.fixture(scope="module")
def bundle():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        keras.utils.set_random_seed(1)
        localizer = loc_keras.build_localizer(image_shape=(32, 32, 3), num_classes=3, width=4)
    samples = [GOOD[kind] for kind in ("jpeg", "png", "one pixel png")]
    form = ImageFormat((32, 32), 3, "stretch")
    return Bundle(localizer, ["a", "b", "c"], form, samples, {"name": "card"}, {"more": "text"})


@pytest.mark.parametrize(("kind", "quantize"), WANTED)
def test_files_answer_like_the_model(bundle, tmp_path, kind, quantize):
    for module in FORMATS[kind].packages:
        pytest.importorskip(module)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.float32)
    seen = []

    def measure(run):
        seen.append(run(images))
        return {"after": 0.5}

    # The exporter compares them with the live model in a process of its own.
    version = portable.export_portable(
        bundle, tmp_path / "name", kind, quantize, measure=measure, calibration=images
    )
    assert version == tmp_path / "name" / kind / "1"
    names = {path.name for path in version.iterdir()}
    assert names - {"model.bin"} == {
        *(FORMATS[kind].file, "labels.txt", "figures.json", "model_card.json", "more"),
    }
    assert json.loads((version / "figures.json").read_text()) == {"after": 0.5}
    live = bundle.localizer(images, training=False)
    for found in (*seen, FORMATS[kind].open(str(version / FORMATS[kind].file), 1)(images)):
        assert set(found) == {"softmax", "bbox"}
        for name, value in found.items():
            # Eight bits cost something, but the boxes are still those of these images.
            limit = {"none": 1e-3, "float16": 1e-2, "int8": 0.1}[quantize]
            np.testing.assert_allclose(value, live[name], atol=limit)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_trust_is_converted_too(bundle, tmp_path, kind):
    for module in FORMATS[kind].packages:
        pytest.importorskip(module)
    statements = fit_statements(seen_by(np.random.default_rng(0)), TrustConfig(coverage=0.8), "abc")
    model = trusted_model(bundle.localizer, statements)
    images = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3)).astype(np.float32)
    path = portable.convert(
        pixel_function(model, bundle.form), _folder(tmp_path), kind, "none", None
    )
    found, live = FORMATS[kind].open(str(path), None)(images), model(images, training=False)
    assert set(found) == set(live) == {"softmax", "bbox", *STATED}
    for name, value in live.items():
        np.testing.assert_allclose(
            np.asarray(found[name], float), np.asarray(value, float), atol=1e-3
        )


def _folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.mark.parametrize("quantize", ["none"])
def test_a_file_that_differs_is_refused(bundle, tmp_path, quantize):
    pytest.importorskip("ai_edge_litert")
    base = tmp_path / "name"

    def measure(run):
        raise AssertionError("nothing is measured of a wrong file")

    def wrong(call, folder, kind, quantize, calibration):
        layer = bundle.localizer.get_layer("softmax_logits")
        path = portable.convert(call, folder, kind, quantize, calibration)
        layer.bias.assign(layer.bias.numpy() + np.array([0.5, 0.0, 0.0], np.float32))
        return path

    bias = bundle.localizer.get_layer("softmax_logits").bias
    before = bias.numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portable, "convert", wrong)
        with pytest.raises(ExportError, match=r"output softmax of model\.tflite differs"):
            portable.export_portable(bundle, base, "litert", quantize, measure=measure)
    bias.assign(before)
    assert list((base / "litert").iterdir()) == []


def test_a_version_that_exists_is_refused(bundle, tmp_path):
    (tmp_path / "litert" / "3").mkdir(parents=True)
    with pytest.raises(ExportError, match="exists and is never overwritten"):
        portable.export_portable(bundle, tmp_path, "litert", "none", measure=dict, version=3)


def test_what_a_converter_does_not_know_is_one_sentence(bundle, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        broken = replace(FORMATS["litert"], convert=lambda *_: {}["op"])
        patch.setitem(FORMATS, "litert", broken)
        with pytest.raises(ExportError, match="the converter for litert fails on this network"):
            portable.export_portable(bundle, tmp_path, "litert", "none", measure=dict)


@pytest.mark.parametrize(
    ("kind", "quantize", "words"),
    [
        ("saved_model", "int8", "is for devices"),
        ("openvino", "int8", "int8 is not written for OpenVINO"),
        ("litert", "none", "needs ai-edge-litert, not installed here"),
        ("onnx", "int8", "needs tf2onnx, onnx, onnxruntime, not installed here"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(monkeypatch, kind, quantize, words):
    monkeypatch.setattr(portable, "find_spec", lambda module: None)
    with pytest.raises(ExportError, match=words):
        portable.refuse_format(kind, quantize)


def test_the_saved_model_needs_no_further_package(monkeypatch):
    monkeypatch.setattr(portable, "find_spec", lambda module: None)
    portable.refuse_format("saved_model", "none")
