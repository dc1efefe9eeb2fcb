"""Run in a server's own environment: an exported model behind KServe's or Triton's real server.

    python real_servers.py kserve PORT 0 NAME FOLDER/1 FOLDER/onnx/1/model.onnx
    python real_servers.py triton REST_PORT GRPC_PORT NAME FOLDER/1
    python real_servers.py ask GRPC_ADDRESS NAME FILE

The first two serve until they are told to stop. `ask` sends a file over gRPC by Triton's client and
prints the answer as JSON. None of our code, and no Keras, is imported.
"""

import asyncio
import base64
import json
import signal
import sys

import numpy as np

INPUT = "image_bytes"
V2_TYPES = {"f": "FP32", "i": "INT64", "b": "BOOL", "O": "BYTES"}
LARGEST, WAIT_US = 32, 2000
"""Images of a batch, and for how long the first one of it waits in Triton."""


class SavedModel:
    """The signature of encoded images, from bytes to arrays."""

    def __init__(self, folder):
        import tensorflow as tf

        self._tf, self._held = tf, tf.saved_model.load(folder)
        self._call = self._held.signatures["serving_default"]
        self.specs = {
            name: (tuple(spec.shape[1:]), np.dtype(spec.dtype.as_numpy_dtype))
            for name, spec in self._call.structured_outputs.items()
        }
        self([b"not an image"])  # Traced, so that the first client need not wait.

    def __call__(self, contents):
        outputs = self._call(image_bytes=self._tf.constant(contents, self._tf.string))
        return {name: value.numpy() for name, value in outputs.items()}


def plain(value):
    """An array as values of JSON."""
    return json.loads(json.dumps(value.tolist(), default=bytes.decode))


def kserve(port, _, name, folder, onnx_file):
    import kserve
    import onnxruntime
    from kserve.protocol.infer_type import InferOutput, InferResponse

    served = SavedModel(folder)
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def of_pixels(images):
        found = session.run(None, {"images": np.asarray(images, np.float32)})
        return dict(zip(names, found, strict=True))

    class Served(kserve.Model):
        def __init__(self, name, answer, read):
            super().__init__(name)
            self._answer, self._read, self.ready = answer, read, True

        async def predict(self, payload, headers=None, response_headers=None):
            # KServe parses bodies of the type application/json alone, which curl does not say.
            payload = json.loads(payload) if isinstance(payload, bytes) else payload
            if isinstance(payload, dict):  # REST v1, as TF Serving takes it.
                given = [self._read(one) for one in payload["instances"]]
            else:
                given = payload.inputs[0].as_numpy()
                # It takes binary strings for UTF-8 (0.21), so images come in base64.
                if payload.inputs[0].datatype == "BYTES":
                    given = [base64.b64decode(one) for one in given.ravel()]
            arrays = await asyncio.to_thread(self._answer, given)
            if isinstance(payload, dict):
                columns = {key: plain(value) for key, value in arrays.items()}
                rows = zip(*columns.values(), strict=True)
                return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}
            outputs = []
            for key, value in arrays.items():
                kind = V2_TYPES[value.dtype.kind]
                outputs.append(InferOutput(key, list(value.shape), kind, plain(value.ravel())))
            return InferResponse(payload.id or "", self.name, outputs)

    models = [
        Served(name, served, lambda one: base64.b64decode(one["b64"])),
        Served(f"{name}-onnx", of_pixels, lambda one: one),
    ]
    kserve.ModelServer(http_port=int(port), enable_grpc=False, workers=1).start(models)


def triton(port, grpc_port, name, folder):
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    served = SavedModel(folder)

    outputs = [
        Tensor(name=key, dtype=bytes if dtype.kind == "O" else dtype.type, shape=shape or (1,))
        for key, (shape, dtype) in served.specs.items()
    ]
    scalars = [key for key, (shape, _) in served.specs.items() if not shape]

    @batch
    def infer(image_bytes):
        found = served(image_bytes[:, 0].tolist())
        return {key: value[:, None] if key in scalars else value for key, value in found.items()}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(port),
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        allow_metrics=False,
    )
    with Triton(config=config) as server:
        server.bind(
            model_name=name,
            infer_func=infer,
            inputs=[Tensor(name=INPUT, dtype=bytes, shape=(1,))],
            outputs=outputs,
            config=ModelConfig(
                max_batch_size=LARGEST,
                batcher=DynamicBatcher(max_queue_delay_microseconds=WAIT_US),
            ),
        )
        server.run()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


def ask(address, name, file):
    import tritonclient.grpc as client

    with open(file, "rb") as content:
        images = np.array([[content.read()]], object)
    given = client.InferInput(INPUT, images.shape, "BYTES")
    given.set_data_from_numpy(images)
    with client.InferenceServerClient(address) as server:
        answer = server.infer(name, [given])
    found = {one.name: answer.as_numpy(one.name) for one in answer.get_response().outputs}
    print(json.dumps({key: plain(value[0]) for key, value in found.items()}))


if __name__ == "__main__":
    # A server has none of these.
    sys.modules["keras"] = sys.modules["loc_keras"] = None
    {"kserve": kserve, "triton": triton, "ask": ask}[sys.argv[1]](*sys.argv[2:])
