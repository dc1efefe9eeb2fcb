"""TF Serving's contract, kept by a SavedModel and by our client: both interfaces, every signature.

What the small bundle answers is worked out by hand: see `tiny_bundle`.
"""

import base64
import io
import json
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from helpers.serving_server import KINDS, MODEL, has_serving_api, running
from helpers.tiny_bundle import MIDDLE, SIDE, WARMUP, write_tiny_bundle, write_warmup
from PIL import Image

from loc_keras.errors import ServingError
from loc_keras.serving.client import ServingClient


def picture(brightness: int, width: int, height: int, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width), brightness, np.uint8)).save(file, form)
    return file.getvalue()


BRIGHT, DARK = picture(204, 40, 20), picture(51, 12, 80)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("served")
    version = write_tiny_bundle(base / "3")
    if has_serving_api():
        write_warmup(version, [BRIGHT, DARK], np.zeros((2, SIDE, SIDE, 1)))
    # What is no version, or an earlier one, is not served.
    (base / "2").mkdir()
    (base / ".writing-4").mkdir()
    return base


@pytest.fixture(scope="module", params=KINDS)
def server(request, base):
    with running(request.param, base) as server:
        yield server


@pytest.fixture(params=["rest", "grpc"])
def address(request, server):
    return server.address(request.param)


# The client.


def test_one_image_gets_one_answer(address, tmp_path):
    path = tmp_path / "bright.png"
    path.write_bytes(BRIGHT)
    with ServingClient(address, MODEL) as client:
        answer = client.predict(BRIGHT)
        assert client.predict(path) == client.predict(str(path)) == answer
    # 204 of 255 is .8; the middle half of 40 x 20 px.
    assert (answer.ok, answer.reason, answer.label, answer.class_id) == (True, "", "bright", 1)
    assert answer.score == pytest.approx(0.8)
    assert answer.probabilities == pytest.approx((0.2, 0.8))
    assert answer.box_px == (10, 5, 30, 15)
    assert answer.box_fraction == MIDDLE
    assert answer.p_iou50 is answer.box_outer_px is answer.box_inner_px is answer.label_set is None
    assert answer.novelty is answer.known is None


def test_several_images_keep_their_order_over_requests(address):
    images = [BRIGHT, DARK, DARK, BRIGHT, DARK]
    with ServingClient(address, MODEL, max_images=2) as client:
        answers = client.predict(images)
        assert client.predict([]) == []
    assert [one.label for one in answers] == ["bright", "dark", "dark", "bright", "dark"]
    assert [one.box_px[2] for one in answers] == [30, 9, 9, 30, 9]


def test_one_unreadable_image_does_not_sink_the_others(address):
    with ServingClient(address, MODEL) as client:
        good, broken, empty, last = client.predict([BRIGHT, b"no image", b"", DARK])
    assert (good.label, last.label) == ("bright", "dark")
    for bad in (broken, empty):
        assert not bad.ok
        assert bad.reason
        assert bad.label is bad.score is bad.box_px is None


def test_a_version_and_every_signature_of_strings_can_be_named(address):
    for signature in ("serving_default", "image_bytes"):
        with ServingClient(address, MODEL, 3, signature) as client:
            assert client.predict(DARK).box_px == (3, 20, 9, 60)
    with ServingClient(address, MODEL, signature="tf_example") as client:
        (answer,) = client.predict([example(DARK)])
    assert answer.box_px == (3, 20, 9, 60)


def example(image: bytes) -> bytes:
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    features = tf.train.Features(feature={"image/encoded": value})
    return tf.train.Example(features=features).SerializeToString()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "other"}, r"Servable not found for request: Latest\(other\)"),
        ({"version": 2}, rf"Servable not found for request: Specific\({MODEL}, 2\)"),
        ({"signature": "other"}, "other"),
        ({"signature": "images"}, "."),
    ],
)
def test_what_the_server_refuses_is_told_in_one_sentence(address, arguments, words):
    client = ServingClient(address, **{"model": MODEL, **arguments})
    with client, pytest.raises(ServingError, match=words) as told:
        client.predict([BRIGHT])
    assert "\n" not in str(told.value)
    assert str(told.value).endswith(".")


# REST as `curl` sees it.


def asked(url: str, body: bytes | None = None):
    """Status and JSON of an answer."""
    try:
        with urllib.request.urlopen(url, data=body, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def b64(image: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(image).decode()}


def test_rest_tells_state_and_signatures(server):
    status, state = asked(f"{server.rest}/v1/models/{MODEL}")
    assert status == 200
    assert [(one["version"], one["state"]) for one in state["model_version_status"]] == [
        ("3", "AVAILABLE")
    ]
    status, metadata = asked(f"{server.rest}/v1/models/{MODEL}/metadata")
    assert status == 200
    assert metadata["model_spec"]["version"] == "3"


def test_rest_answers_in_rows_and_in_columns(server):
    url = f"{server.rest}/v1/models/{MODEL}:predict"
    status, by_row = asked(url, json.dumps({"instances": [b64(BRIGHT), b64(DARK)]}).encode())
    assert status == 200
    assert [row["label"] for row in by_row["predictions"]] == ["bright", "dark"]
    named = {"instances": [{"image_bytes": b64(BRIGHT)}, {"image_bytes": b64(DARK)}]}
    assert asked(url, json.dumps(named).encode()) == (200, by_row)
    columns = json.dumps({"inputs": {"image_bytes": [b64(BRIGHT), b64(DARK)]}}).encode()
    status, by_column = asked(url, columns)
    assert status == 200
    assert by_column["outputs"]["label"] == ["bright", "dark"]
    assert by_column["outputs"]["box"] == [row["box"] for row in by_row["predictions"]]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"instances": []}',
        b'{"instances": "text"}',
        b'{"instances": [{"b64": "not base 64"}]}',
        b'{"instances": [1.5]}',
        b'{"instances": [["nested"]]}',
        b'{"instances": [{"other": "x"}]}',
        b'{"inputs": {}}',
        b'{"instances": ["x"], "inputs": ["x"]}',
        b'{"signature_name": "images", "instances": ["text"]}',
        b'{"signature_name": 1, "instances": ["x"]}',
        b"{}",
    ],
)
def test_rest_refuses_what_is_malformed_with_status_400(server, body):
    status, told = asked(f"{server.rest}/v1/models/{MODEL}:predict", body)
    assert status == 400
    assert told["error"]


# gRPC with the server's own protobufs.


@pytest.fixture
def stub(server):
    grpc = pytest.importorskip("grpc")
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")
    with grpc.insecure_channel(server.address("grpc")) as channel:
        yield apis.PredictionServiceStub(channel)


def predict_request(signature: str, name: str, tensor):
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signature
    request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
    return request


def test_grpc_takes_raw_pixels(stub):
    pixels = np.stack([np.full((SIDE, SIDE, 1), value, np.float32) for value in (255, 51)])
    answer = stub.Predict(predict_request("images", "images", pixels), timeout=30)
    assert sorted(answer.outputs) == ["bbox", "softmax"]
    softmax = tf.make_ndarray(answer.outputs["softmax"])
    np.testing.assert_allclose(softmax, [[0, 1], [0.8, 0.2]], atol=1e-6)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["bbox"]), [MIDDLE, MIDDLE])
    assert answer.model_spec.version.value == 3


def test_grpc_gives_the_outputs_that_are_asked_for(stub):
    request = predict_request("image_bytes", "image_bytes", [BRIGHT])
    request.output_filter.extend(["box", "label"])
    assert sorted(stub.Predict(request, timeout=30).outputs) == ["box", "label"]


@pytest.mark.parametrize(
    ("signature", "name", "tensor"),
    [
        ("image_bytes", "image_bytes", [1.0]),
        ("image_bytes", "image_bytes", 7),
        ("image_bytes", "image_bytes", [[BRIGHT]]),
        ("image_bytes", "image_bytes", BRIGHT),
        ("image_bytes", "other", [BRIGHT]),
        ("images", "images", np.zeros((1, SIDE, SIDE, 1), np.uint8)),
        ("images", "images", [BRIGHT]),
        ("images", "images", np.float32(1)),
        ("tf_example", "examples", [b"no example"]),
    ],
)
def test_grpc_refuses_wrong_types_and_shapes(stub, signature, name, tensor):
    import grpc

    with pytest.raises(grpc.RpcError) as told:
        stub.Predict(predict_request(signature, name, tensor), timeout=30)
    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told.value.details()


def test_the_warmup_file_is_answered_record_by_record(stub, base):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    replayed = []
    for record in tf.data.TFRecordDataset(str(base / "3" / WARMUP)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        # The server leaves the name out of account when it warms a model up.
        request.model_spec.name = MODEL
        answer = stub.Predict(request, timeout=30)
        assert all(len(tf.make_ndarray(tensor)) == 2 for tensor in answer.outputs.values())
        replayed.append(request.model_spec.signature_name)
    assert sorted(replayed) == ["image_bytes", "images", "serving_default", "tf_example"]


# TensorFlow's own command for SavedModels.


def test_saved_model_cli_shows_and_runs_it(base, tmp_path, capsys):
    from tensorflow.python.tools import saved_model_cli

    def run(*arguments: object) -> str:
        # As its `main` does, which reads sys.argv.
        parsed = saved_model_cli.create_parser().parse_args([str(one) for one in arguments])
        parsed.func()
        return capsys.readouterr().out

    shown = run("show", "--dir", base / "3", "--all")
    for signature in ("serving_default", "image_bytes", "images", "tf_example"):
        assert f"signature_def['{signature}']" in shown
    np.save(tmp_path / "images.npy", np.array([BRIGHT, b""]))
    ran = run(
        *("run", "--dir", base / "3", "--tag_set", "serve", "--signature_def", "image_bytes"),
        *("--inputs", f"image_bytes={tmp_path / 'images.npy'}", "--outdir", tmp_path),
    )
    assert "Result for output key label" in ran
    np.testing.assert_allclose(np.load(tmp_path / "box.npy"), [[10, 5, 30, 15], [0, 0, 0, 0]])


def test_the_real_server_is_asked_too_where_there_is_one():
    if shutil.which("tensorflow_model_server") is None:
        pytest.skip("no tensorflow_model_server on PATH: only the suite's own front was asked")
    assert "tensorflow_model_server" in KINDS
