"""All formats of the export through the same checks, and what is special to some of them."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.served_files import GOOD
from helpers.trust_examples import seen_by

import loc_keras
from loc_keras.config.schema import TrustConfig
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ExportError
from loc_keras.models import assembly
from loc_keras.models.weights import open_model
from loc_keras.serving import live_check, portable, runtimes, saved_model
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.portable import FORMATS, SAVED_MODEL
from loc_keras.serving.runtimes import RUNTIMES, open_file
from loc_keras.serving.signatures import pixel_function
from loc_keras.trust.conformal import fold_ensemble
from loc_keras.trust.fit import fit_statements
from loc_keras.trust.novelty import fit_novelty, statistics_over, with_novelty
from loc_keras.trust.observations import observer
from loc_keras.trust.statements import STATED, trusted_model

KINDS = (SAVED_MODEL, *FORMATS)
BODIES = ("resnet18", "applications/MobileNet")
POLICIES = ("mixed_bfloat16", "mixed_float16", "float32")
HALF_PRECISION = {"mixed_bfloat16": 5e-2, "mixed_float16": 1e-2, "float32": 0.0}
"""How far the answers of a model may lie from those of its float32 copy."""
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.float32)


def folder_of(base: Path, kind: str) -> Path:
    """Where the versions of a format stand."""
    return base if kind == SAVED_MODEL else base / kind


def export(bundle, base, kind, quantize="none", *, measure=lambda run: {}, version=None):
    if kind == SAVED_MODEL:
        return saved_model.export_saved_model(bundle, base, version)
    return portable.export_portable(
        bundle, base, kind, quantize, measure=measure, calibration=IMAGES, version=version
    )


def opened(kind: str, version: Path) -> Callable:
    """From images to outputs, as the format's own runtime gives them."""
    if kind != SAVED_MODEL:
        return open_file(version / RUNTIMES[kind].file, kind, 1)[0]
    loaded = tf.saved_model.load(str(version))
    call = loaded.signatures["images"]
    return lambda images: {
        # The model lives as long as what holds it.
        name: value.numpy()
        for name, value in (loaded and call(images=tf.constant(images))).items()
    }


def skip_without_packages(kind: str) -> None:
    if kind in FORMATS:
        for module in (RUNTIMES[kind].module, *portable.CONVERTERS.get(kind, ())):
            pytest.importorskip(module)


def built(body="resnet18", policy="float32", **heads):
    """An untrained localizer, the same for every policy but for what it computes in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        keras.backend.clear_session()
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(1)
        return loc_keras.build_localizer(
            image_shape=(32, 32, 3), num_classes=3, width=4, backbone=body, **heads
        )


def reopened(model):
    """As it was saved in a run's folder and is opened from there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "best.keras")
        model.save(path)
        return open_model(path)


def bundle_with(localizer):
    samples = [GOOD[kind] for kind in ("jpeg", "png", "one pixel png")]
    form = ImageFormat((32, 32), 3, "stretch")
    return Bundle(localizer, ["a", "b", "c"], form, samples, {"name": "card"}, {"more": "text"})


@pytest.fixture(scope="module")
def bundle():
    return bundle_with(built())


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((body, policy), marks=[pytest.mark.whole] if place else [])
        for place, (body, policy) in enumerate(product(BODIES, POLICIES))
    ],
    ids=lambda param: f"{param[0].rpartition('/')[2]}-{param[1]}",
)
def any_bundle(request):
    """As a run of each policy and body is exported."""
    return bundle_with(reopened(built(*request.param)))


@pytest.mark.whole
@pytest.mark.parametrize("body", BODIES)
def test_a_saved_model_opens_as_the_one_that_float32_builds(body):
    plain = built(body)
    assert reopened(plain).to_json() == plain.to_json()
    expected = plain(IMAGES, training=False)
    for policy in ("mixed_bfloat16", "mixed_float16"):
        model = built(body, policy)
        copy = reopened(model)
        assert {layer.compute_dtype for layer in model.layers} != {"float32"}
        # The policy of the process that exports must not reach it either.
        assert keras.config.dtype_policy().name == policy
        assert copy.to_json() == plain.to_json()
        for one, other in zip(copy.weights, plain.weights, strict=True):
            np.testing.assert_array_equal(one, other)
        own = model(IMAGES, training=False)
        for name, value in copy(IMAGES, training=False).items():
            np.testing.assert_array_equal(value, expected[name])
            np.testing.assert_allclose(own[name], value, atol=HALF_PRECISION[policy])


@pytest.mark.whole
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_in_half_precision_answers_as_it_is_served(tmp_path, policy):
    built(policy=policy).save(tmp_path / "best.keras")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    (tmp_path / "config.yaml").write_text("data: {resize: stretch}\n")
    pixels = IMAGES[0].astype(np.uint8)
    answer = loc_keras.Localizer.load(tmp_path).predict(pixels)
    served = pixel_function(built(), ImageFormat((32, 32), 3, "stretch"))(
        tf.constant(pixels[None], tf.float32)
    )
    np.testing.assert_allclose(answer.box_fraction, served["bbox"][0], atol=1e-6)
    assert answer.score == pytest.approx(float(served["softmax"][0].numpy().max()), abs=1e-6)


@pytest.mark.whole
def test_the_models_of_folds_open_likewise():
    folds = fold_ensemble([observer(built(policy="mixed_bfloat16")) for _ in range(2)])
    copy = reopened(folds)
    expected = fold_ensemble([observer(built()) for _ in range(2)])(IMAGES, training=False)
    for name, value in copy(IMAGES, training=False).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6)


# Every format


@pytest.mark.parametrize(("kind", "quantize"), live_check.TOLERANCES)
def test_files_answer_like_the_model(any_bundle, tmp_path, kind, quantize):
    skip_without_packages(kind)
    measured = []

    def measure(run):
        measured.append(run(IMAGES))
        return {"after": 0.5}

    bundle, limit = any_bundle, live_check.TOLERANCES[kind, quantize]
    # The exporter compares them with the live model in a process of its own.
    version = export(bundle, tmp_path / "name", kind, quantize, measure=measure)
    assert version == folder_of(tmp_path / "name", kind) / "1"
    if kind in FORMATS:
        names = {path.name for path in version.iterdir()}
        assert names - {"model.bin"} == {
            *(RUNTIMES[kind].file, "labels.txt", "figures.json", "model_card.json", "more"),
        }
        assert json.loads((version / "figures.json").read_text()) == {"after": 0.5}
        assert len(measured) == 1
    live = bundle.localizer(IMAGES, training=False)
    for found in (*measured, opened(kind, version)(IMAGES)):
        assert set(found) == {"softmax", "bbox"}
        for name, value in found.items():
            np.testing.assert_allclose(value, live[name], atol=limit)


@pytest.mark.whole
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [("gap_mlp", "pooled"), ("spatial", "region")], ids="-".join)
def test_files_of_other_heads_answer_like_the_model(tmp_path, kind, heads):
    skip_without_packages(kind)
    model = built(**dict(zip(("bbox_head", "class_head"), heads, strict=True)))
    version = export(bundle_with(model), tmp_path / "name", kind)
    live = model(IMAGES, training=False)
    for name, value in opened(kind, version)(IMAGES).items():
        limit = live_check.TOLERANCES[kind, "none"]
        np.testing.assert_allclose(value, live[name], atol=limit)


def rough_and_smooth():
    """Images float32 (9, 32, 32, 3), and novelty by five folds of others like them."""
    rng = np.random.default_rng(1)

    def drawn(count):
        smooth = rng.uniform(100, 120, (count, 32, 32, 3))
        return np.concatenate([smooth, rng.integers(0, 256, (2 * count, 32, 32, 3))])

    found, folds = statistics_over([(drawn(20), None)]), np.arange(60).reshape(12, 5).T
    novelty = fit_novelty(found, folds=[*folds], level=0.05, split="train", model_sha256="")
    return drawn(3).astype(np.float32), novelty


@pytest.mark.parametrize(("kind", "quantize"), live_check.TOLERANCES)
def test_quantized_files_tell_novelty_as_the_model(bundle, tmp_path, kind, quantize):
    skip_without_packages(kind)
    images, novelty = rough_and_smooth()
    model = with_novelty(bundle.localizer, novelty)
    folder = tmp_path / "model"
    if kind == SAVED_MODEL:
        saved_model.write_saved_model(replace(bundle, localizer=model), folder)
    else:
        folder.mkdir()
        portable.convert(replace(bundle, localizer=model), folder, kind, quantize, images)
    found, live = opened(kind, folder)(images), model(images, training=False)
    assert np.std(live["novelty"]) > 0.01
    # Numbers of 16 bits are those that novelty was fitted to, too.
    limit = 0.03 if quantize == "float16" else 1e-3
    np.testing.assert_allclose(found["novelty"], live["novelty"], atol=limit)


@pytest.mark.whole
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "method", ["split", "cross", pytest.param("mirrored", marks=pytest.mark.whole)]
)
@pytest.mark.usefixtures("short_body")
def test_trust_and_novelty_are_converted_too(any_bundle, tmp_path, kind, method):
    skip_without_packages(kind)
    bundle = any_bundle
    keras.config.set_dtype_policy("mixed_bfloat16")  # As in a process that has trained.
    seen, numbers, folds = seen_by(np.random.default_rng(0)), None, None
    if method == "cross":
        numbers = np.arange(len(seen)) % 2
        shape = {"image_shape": (32, 32, 3), "num_classes": 3, "width": 4}
        others = [loc_keras.build_localizer(**shape) for _ in range(2)]
        folds = reopened(fold_ensemble([observer(one) for one in others]))
    if method == "mirrored":  # The network stands in the graph twice.
        for name in ("softmax", "bbox"):
            seen.outputs[f"{name}_mirrored"] = seen.outputs[name][::-1]
    options = TrustConfig(coverage=0.8, flip=method == "mirrored")
    statements = fit_statements(seen, options, "abc", numbers)
    assert statements.flip == options.flip
    images, novelty = rough_and_smooth()
    model = with_novelty(trusted_model(bundle.localizer, statements, folds), novelty)
    folder = tmp_path / "model"
    if kind == SAVED_MODEL:
        saved_model.write_saved_model(replace(bundle, localizer=model), folder)
    else:
        folder.mkdir()
        portable.convert(replace(bundle, localizer=model), folder, kind, "none", None)
    found, live = opened(kind, folder)(images), model(images, training=False)
    assert set(found) == set(live) == {"softmax", "bbox", *STATED, "novelty", "known"}
    assert np.std(live["novelty"]) > 0.01
    for name, value in live.items():
        limit = 1e-3 if name in ("novelty", "known") else live_check.TOLERANCES[kind, "none"]
        np.testing.assert_allclose(
            np.asarray(found[name], float), np.asarray(value, float), atol=limit
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_differs_is_refused(bundle, tmp_path, monkeypatch, kind):
    skip_without_packages(kind)
    bias = bundle.localizer.get_layer("softmax_logits").bias
    before = bias.numpy()

    def measure(run):
        raise AssertionError("nothing is measured of a wrong file")

    def then_moved(write):
        def wrong(*arguments):
            written = write(*arguments)
            bias.assign(before + np.array([0.5, 0.0, 0.0], np.float32))
            return written

        return wrong

    def asked_here(folder, requests):  # Without the start of a process, which others wait for.
        signatures = tf.saved_model.load(str(folder)).signatures
        inputs = {
            name: {key: tf.constant(value) for key, value in part.items()}
            for name, part in requests.items()
        }
        return {
            name: {key: value.numpy() for key, value in signatures[name](**part).items()}
            for name, part in inputs.items()
        }

    monkeypatch.setattr(live_check, "answers_of_copy", asked_here)
    monkeypatch.setattr(portable, "convert", then_moved(portable.convert))
    monkeypatch.setattr(saved_model, "write_saved_model", then_moved(saved_model.write_saved_model))
    file = "" if kind == SAVED_MODEL else f"of {RUNTIMES[kind].file} "
    base = tmp_path / "name"
    try:
        with pytest.raises(ExportError, match=rf"output softmax {file}.*differs"):
            export(bundle, base, kind, measure=measure)
    finally:
        bias.assign(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_that_exists_is_refused(bundle, tmp_path, kind):
    (folder_of(tmp_path, kind) / "3").mkdir(parents=True)
    with pytest.raises(ExportError, match="exists and is never overwritten"):
        export(bundle, tmp_path, kind, version=3)


def test_an_inner_box_that_is_nearly_gone_may_be_gone_in_a_copy():
    gone, thin, seen = np.zeros((1, 4)), [[0.3, 0.5, 0.6, 0.50004]], [[0.3, 0.5, 0.6, 0.51]]
    for copy, live in ((thin, gone), (gone, thin), (seen, seen)):
        live_check.refuse_differences("file", {"box_inner": copy}, {"box_inner": live}, 1e-4)
    for name, copy in (("box_inner", seen), ("box_outer", thin), ("box_inner", gone[:, :3])):
        with pytest.raises(ExportError, match=f"the output {name} of file differs"):
            live_check.refuse_differences("file", {name: copy}, {name: gone}, 1e-4)


# Formats for devices


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_converter_does_not_know_is_one_sentence(bundle, tmp_path, monkeypatch, capfd, kind):
    def fail(call, path, *_):
        path.write_text("half")
        # As compilers do, whose messages do not pass Python.
        os.write(2, b"error: failed to legalize\n" * 1000)
        print("not a flex op\n" * 1000)
        raise RuntimeError("loc(callsite(" * 3000)

    monkeypatch.setitem(FORMATS, kind, fail)
    told = f"the converter for {kind} fails on this network"
    with pytest.raises(ExportError, match=told) as caught:
        export(bundle, tmp_path / "saved" / "name", kind)
    assert len(str(caught.value)) < 300
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "quantize", "words"),
    [
        ("saved_model", "int8", "is for devices"),
        ("openvino", "int8", "int8 is not written for OpenVINO"),
        ("litert", "none", "needs ai-edge-litert, not installed here"),
        ("onnx", "int8", "needs tf2onnx, onnx, onnxruntime, not installed here"),
        ("openvino", "none", "needs openvino, not installed here"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(monkeypatch, kind, quantize, words):
    for module in (portable, runtimes):
        monkeypatch.setattr(module, "find_spec", lambda module: None)
    with pytest.raises(ExportError, match=words):
        portable.refuse_format(kind, quantize)


def test_the_saved_model_needs_no_further_package(monkeypatch):
    for module in (portable, runtimes):
        monkeypatch.setattr(module, "find_spec", lambda module: None)
    portable.refuse_format("saved_model", "none")


def test_onnx_int8_sums_fit_processors_without_vnni(bundle, tmp_path):
    skip_without_packages("onnx")
    import onnx

    path = portable.convert(bundle, tmp_path, "onnx", "int8", IMAGES)
    arrays = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    weights = [one.astype(int) for one in arrays if one.dtype == np.int8 and one.ndim == 4]
    # Two products of an unsigned byte are added in 16 bits (vpmaddubsw, Intel's manual, volume 2).
    assert weights and max(2 * 255 * abs(one).max() for one in weights) <= 32767
