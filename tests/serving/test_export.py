"""The SavedModel: its files, its signatures, agreement with the live model, versions."""

import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.served_files import BAD, GOOD
from tensorflow.core.protobuf import saved_model_pb2

import loc_keras
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ExportError
from loc_keras.models import assembly
from loc_keras.serving import live_check, saved_model
from loc_keras.serving.bundle import (
    Bundle,
    folder_aside,
    next_version,
    parse_version,
    put_in_place,
)
from loc_keras.serving.signatures import CHUNK

CLASSES = ["egg plant", "pâté", "c"]
KINDS = ["jpeg", "turned jpeg", "png", "gif", "one pixel png"]
CARD = {"name": "a card"}


@pytest.fixture(scope="module")
def bundle():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        keras.utils.set_random_seed(1)
        localizer = loc_keras.build_localizer(image_shape=(32, 32, 3), num_classes=3, width=4)
    return Bundle(
        localizer,
        CLASSES,
        ImageFormat((32, 32), 3, "letterbox"),
        [GOOD[kind] for kind in KINDS],
        CARD,
        {"trust.json": "{}"},
    )


@pytest.fixture(scope="module")
def version(bundle, tmp_path_factory):
    """An export, which has been compared with the live model in a fresh process."""
    return saved_model.export_saved_model(bundle, tmp_path_factory.mktemp("saved") / "name")


@pytest.fixture(scope="module")
def signatures(version):
    return tf.saved_model.load(str(version)).signatures


def test_files_of_a_version(version):
    files = {path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()}
    assert files >= {
        *("saved_model.pb", "assets/labels.txt", "assets/model_card.json"),
        *("assets.extra/classes.txt", "assets.extra/model_card.json", "assets.extra/trust.json"),
        "assets.extra/tf_serving_warmup_requests",
    }
    for name in ("assets/labels.txt", "assets.extra/classes.txt"):
        assert (version / name).read_text(encoding="utf-8") == "egg plant\npâté\nc\n"
    for folder in ("assets", "assets.extra"):
        assert json.loads((version / folder / "model_card.json").read_text()) == CARD
    assert [child.name for child in version.parent.iterdir()] == ["1"]


def test_no_operation_is_our_own(version):
    # Operations that call back into Python exist only in the process that made them.
    parsed = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    graph = parsed.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    used = {node.op for node in nodes}
    assert not {one for one in used if "Py" in one or "Numpy" in one}
    assert "ParseSingleExample" in used or "ParseExampleV2" in used


def test_inputs_and_outputs(signatures):
    assert set(signatures) == {"serving_default", "image_bytes", "images", "tf_example"}
    answers = {
        *("label", "class_id", "score", "probabilities", "box", "box_fraction", "size"),
        *("ok", "reason"),
    }
    for name, key in (
        ("serving_default", "image_bytes"),
        ("image_bytes", "image_bytes"),
        ("tf_example", "examples"),
    ):
        (_, inputs) = signatures[name].structured_input_signature
        assert {one: (spec.shape.as_list(), spec.dtype) for one, spec in inputs.items()} == {
            key: ([None], tf.string)
        }
        outputs = signatures[name].structured_outputs
        assert set(outputs) == answers
        assert outputs["class_id"].dtype == tf.int64
        assert outputs["ok"].dtype == tf.bool
        assert (outputs["size"].shape.as_list(), outputs["size"].dtype) == ([None, 2], tf.int32)
        assert outputs["label"].dtype == outputs["reason"].dtype == tf.string
        assert outputs["probabilities"].shape.as_list() == [None, 3]
        assert (
            outputs["box"].shape.as_list() == outputs["box_fraction"].shape.as_list() == [None, 4]
        )
    (_, inputs) = signatures["images"].structured_input_signature
    assert inputs["images"].shape.as_list() == [None, 32, 32, 3]
    assert set(signatures["images"].structured_outputs) == {"softmax", "bbox"}


def test_boxes_are_in_px_of_the_upright_original(bundle, signatures):
    found = signatures["image_bytes"](image_bytes=tf.constant([GOOD["turned jpeg"]]))
    # The picture is stored 90 x 60 and stands 60 x 90: in 32 x 32 its width is 21 (60 * 32 / 90,
    # rounded), 5 px from the left.
    images = live_check.requests_for(bundle)["images"]["images"][1:2]
    x1, y1, x2, y2 = np.asarray(bundle.localizer(images, training=False)["bbox"])[0]
    across = [np.clip((x * 32 - 5) / 21, 0, 1) * 60 for x in (x1, x2)]
    expected = [across[0], y1 * 90, across[1], y2 * 90]
    np.testing.assert_allclose(found["box"][0], expected, atol=1e-3)
    assert found["size"][0].numpy().tolist() == [90, 60]
    np.testing.assert_allclose(
        found["box_fraction"][0], np.array(expected) / (60, 90, 60, 90), atol=1e-5
    )


def test_answers_fit_together(signatures):
    found = signatures["serving_default"](image_bytes=tf.constant([GOOD[kind] for kind in KINDS]))
    probabilities = found["probabilities"].numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found["class_id"], probabilities.argmax(axis=1))
    np.testing.assert_array_equal(found["score"], probabilities.max(axis=1))
    labels = [CLASSES[index].encode() for index in found["class_id"].numpy()]
    assert found["label"].numpy().tolist() == labels


def test_a_bad_string_is_a_row_with_a_reason(signatures):
    contents = [GOOD["png"], *(content for content, _ in BAD.values()), GOOD["jpeg"]]
    found = signatures["image_bytes"](image_bytes=tf.constant(contents))
    assert found["ok"].numpy().tolist() == [True, *[False] * len(BAD), True]
    bad = {name: value.numpy()[1:-1] for name, value in found.items()}
    assert set(bad["label"]) == {b""}
    assert set(bad["class_id"]) == {-1}
    for name in ("score", "probabilities", "box", "box_fraction", "size"):
        assert not bad[name].any()
    assert all(bad["reason"])
    alone = signatures["image_bytes"](image_bytes=tf.constant([GOOD["png"], GOOD["jpeg"]]))
    np.testing.assert_allclose(found["box"].numpy()[[0, -1]], alone["box"], atol=1e-3)


def test_empty_batches_have_empty_answers(signatures):
    for name, key in (("image_bytes", "image_bytes"), ("tf_example", "examples")):
        found = signatures[name](**{key: tf.constant([], tf.string)})
        assert {len(value) for value in found.values()} == {0}
        assert found["probabilities"].shape == (0, 3)


def test_batches_beyond_a_chunk(signatures):
    count = 2 * CHUNK + 3
    kinds = [KINDS[index % len(KINDS)] for index in range(count)]
    found = signatures["image_bytes"](image_bytes=tf.constant([GOOD[kind] for kind in kinds]))
    few = signatures["image_bytes"](image_bytes=tf.constant([GOOD[kind] for kind in KINDS]))
    for name in ("box_fraction", "probabilities"):
        expected = few[name].numpy()[np.arange(count) % len(KINDS)]
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


def example(**features):
    made = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def test_examples(signatures):
    good = example(**{"image/encoded": GOOD["jpeg"], "image/format": b"jpeg"})
    found = signatures["tf_example"](
        examples=tf.constant(
            [good, b"\xff\xff\xff", example(other=b"a"), example(**{"image/encoded": b"text"})]
        )
    )
    same = signatures["image_bytes"](image_bytes=tf.constant([GOOD["jpeg"]]))
    np.testing.assert_allclose(found["box"][0], same["box"][0], atol=1e-3)
    assert found["ok"].numpy().tolist() == [True, False, False, False]
    assert [reason.decode() for reason in found["reason"].numpy()] == [
        "",
        "is not a tf.Example",
        "has no image/encoded, or an empty one",
        "is not a JPEG, PNG, GIF or BMP image",
    ]


@pytest.mark.parametrize("value", [0.5, 1.2, -1, 256, np.nan, np.inf])
def test_pixels_of_another_range_are_refused(signatures, value):
    images = np.full((3, 32, 32, 3), 200, np.float32)
    images[1] = 0 if np.isnan(value) else value
    images[1, 5, 6, 0] = value
    told = "image 1 has values from .*; give raw pixels 0..255"
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        signatures["images"](images=tf.constant(images))


def test_pixels_may_be_dark_and_requests_empty(signatures):
    images = np.zeros((2, 32, 32, 3), np.float32)
    images[1, 3, 4] = 1
    assert signatures["images"](images=tf.constant(images))["bbox"].shape == (2, 4)
    assert signatures["images"](images=tf.constant(images[:0]))["bbox"].shape == (0, 4)


def test_warmup_requests_are_what_the_server_reads(version, signatures):
    serving = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    asked = set()
    for record in records:
        log = serving.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        found = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        assert found.get("ok", tf.constant(True)).numpy().all()
        # Nothing is left over: what the reader writes again are the same bytes.
        assert log.SerializeToString(deterministic=True) == record
        asked.add(name)
    assert asked == {"serving_default", "image_bytes", "images", "tf_example"}


def test_a_copy_that_differs_is_refused(bundle, version, signatures, monkeypatch):
    # Asked in this process, to save the time of another; the fixture was asked in its own.
    def answers_of_copy(_, requests):
        asked = {
            name: {key: tf.constant(value) for key, value in inputs.items()}
            for name, inputs in requests.items()
        }
        return {
            name: {key: value.numpy() for key, value in signatures[name](**inputs).items()}
            for name, inputs in asked.items()
        }

    monkeypatch.setattr(live_check, "answers_of_copy", answers_of_copy)
    live_check.check_copy(bundle, version)
    layer = bundle.localizer.get_layer("softmax_logits")
    before = layer.bias.numpy()
    layer.bias.assign(before + np.array([0.1, 0.0, 0.0], np.float32))
    try:
        with pytest.raises(ExportError, match="output softmax of signature images differs"):
            live_check.check_copy(bundle, version)
    finally:
        layer.bias.assign(before)


@pytest.mark.whole
def test_a_copy_that_cannot_be_loaded_is_refused(bundle, tmp_path):
    with pytest.raises(ExportError, match="cannot be used by a process without Keras"):
        live_check.check_copy(bundle, tmp_path)


# Versions


def test_versions_count_up_and_are_never_overwritten(tmp_path):
    base = tmp_path / "name"
    assert next_version(base) == 1
    for name in ("1", "7", "007", "notes", "٨", str(2**63)):
        (base / name).mkdir(parents=True)
        (base / name / "file").write_text(name)
    (tmp_path / "written").mkdir()
    assert put_in_place(tmp_path / "written", base, None) == base / "8"
    before = {path: hashlib.md5(path.read_bytes()).digest() for path in base.rglob("file")}
    for taken in (1, 7, 8):
        (tmp_path / "written").mkdir(exist_ok=True)
        with pytest.raises(ExportError, match=f"{taken} exists and is never overwritten"):
            put_in_place(tmp_path / "written", base, taken)
    assert before == {path: hashlib.md5(path.read_bytes()).digest() for path in base.rglob("file")}


@pytest.mark.parametrize("text", ["0", "-1", "01", "1.0", "", " 1", "1_0", "x", "٣", str(2**63)])
def test_versions_that_a_server_ignores_are_refused(text):
    with pytest.raises(ExportError, match="is no version that TF Serving loads"):
        parse_version(text)


def test_versions_that_a_server_loads():
    assert [parse_version(text) for text in ("1", "20", str(2**63 - 1))] == [1, 20, 2**63 - 1]


def test_a_version_that_exists_is_refused_before_anything_is_written(bundle, version):
    with pytest.raises(ExportError, match="exists and is never overwritten"):
        saved_model.export_saved_model(bundle, version.parent, 1)
    assert [child.name for child in version.parent.iterdir()] == ["1"]


def test_a_place_that_cannot_be_written_is_told(tmp_path, bundle):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"cannot be written.*export\.dir"):
        saved_model.export_saved_model(bundle, tmp_path / "file")
    with folder_aside(tmp_path / "new" / "name"):
        assert (tmp_path / "new" / "name").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
