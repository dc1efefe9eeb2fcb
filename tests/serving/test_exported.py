"""What `export` writes, asked as a server asks it; `test_serving` is about the interfaces."""

import io

import numpy as np
import pytest
import tensorflow as tf
from helpers.hostile_images import noise
from helpers.served_bundles import NAMES, SIDE, exported_bundle
from helpers.serving_server import KINDS, MODEL, running
from helpers.tiny_bundle import WARMUP
from PIL import Image

from loc_keras.serving.client import ServingClient

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model_and_base():
    return exported_bundle()


@pytest.fixture(scope="module", params=KINDS)
def server(request, model_and_base):
    with running(request.param, model_and_base[1]) as server:
        yield server


@pytest.mark.parametrize("interface", ["rest", "grpc"])
def test_it_answers_like_the_model(server, model_and_base, interface):
    # Pictures of the model's own size need no resizing, and Pillow decodes them, so only the
    # model itself is on both sides.
    images = [noise(0, "png", SIDE, SIDE), noise(0, "bmp", SIDE, SIDE)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])
    live = model_and_base[0](pixels.astype(np.float32), training=False)
    softmax, bbox = np.asarray(live["softmax"]), np.asarray(live["bbox"])
    with ServingClient(server.address(interface), MODEL) as client:
        answers = client.predict(images)
    for answer, probabilities, box in zip(answers, softmax, bbox, strict=True):
        assert answer.label == NAMES[int(np.argmax(probabilities))]
        assert answer.class_id == int(np.argmax(probabilities))
        assert answer.score == pytest.approx(probabilities.max(), abs=1e-5)
        np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)
        np.testing.assert_allclose(answer.box_fraction, box, atol=1e-5)
        np.testing.assert_allclose(answer.box_px, box * SIDE, atol=1e-3)


def test_a_server_may_batch_it(model_and_base):
    # TF Serving's batching joins requests on the first axis of inputs and outputs, which must be
    # free in all of them (batching/README.md of tensorflow/serving).
    loaded = tf.saved_model.load(str(model_and_base[1] / "1"))
    assert sorted(loaded.signatures) == ["image_bytes", "images", "serving_default", "tf_example"]
    for signature in loaded.signatures.values():
        _, inputs = signature.structured_input_signature
        assert len(inputs) == 1
        for tensor in (*inputs.values(), *signature.structured_outputs.values()):
            assert tensor.shape[0] is None


def test_it_has_no_operation_that_a_server_lacks(model_and_base):
    from tensorflow.python.saved_model import loader_impl

    graph = loader_impl.parse_saved_model(str(model_and_base[1] / "1")).meta_graphs[0].graph_def
    used = {node.op for node in graph.node}
    used |= {node.op for function in graph.library.function for node in function.node_def}
    # Those that call back into the Python process that made them, and exist in no server.
    assert not used & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def test_its_warmup_file_is_answered_record_by_record(server, model_and_base):
    grpc = pytest.importorskip("grpc")
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    records = tf.data.TFRecordDataset(str(model_and_base[1] / "1" / WARMUP))
    replayed = []
    with grpc.insecure_channel(server.address("grpc")) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for record in records.as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            assert log.WhichOneof("log_type") == "predict_log"
            request = log.predict_log.request
            request.model_spec.name = MODEL
            answer = stub.Predict(request, timeout=60)
            replayed.append(request.model_spec.signature_name)
            if "ok" in answer.outputs:
                assert tf.make_ndarray(answer.outputs["ok"]).all()
    assert sorted(replayed) == ["image_bytes", "images", "serving_default", "tf_example"]


def test_saved_model_cli_shows_and_runs_it(model_and_base, tmp_path, capsys):
    from tensorflow.python.tools import saved_model_cli

    version = model_and_base[1] / "1"

    def run(*arguments: object) -> str:
        parsed = saved_model_cli.create_parser().parse_args([str(one) for one in arguments])
        parsed.func()
        return capsys.readouterr().out

    shown = run("show", "--dir", version, "--tag_set", "serve", "--signature_def", "tf_example")
    assert "DT_STRING" in shown
    np.save(tmp_path / "images.npy", np.array([noise(1), b""]))
    ran = run(
        *("run", "--dir", version, "--tag_set", "serve", "--signature_def", "image_bytes"),
        *("--inputs", f"image_bytes={tmp_path / 'images.npy'}", "--outdir", tmp_path),
    )
    assert "Result for output key reason" in ran
    assert np.load(tmp_path / "ok.npy").tolist() == [True, False]
