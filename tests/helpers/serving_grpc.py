"""TF Serving's gRPC `PredictionService` over a session; needs tensorflow-serving-api."""

import os
from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)


def grpc_server(model, port: int):
    """Starts the service for a `serving_front.ServedModel` on 127.0.0.1; gives it and its port."""
    # The server takes messages of any size.
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    threads = futures.ThreadPoolExecutor(4 * (os.cpu_count() or 1))
    server = grpc.server(threads, options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(model), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata of one model."""

    def __init__(self, model) -> None:
        self._model = model

    def Predict(self, request, context):
        try:
            return predict(self._model, request)
        except Exception as error:
            _abort(context, error)

    def GetModelMetadata(self, request, context):
        try:
            self._find(request)
        except Exception as error:
            _abort(context, error)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self._model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = self._model.name
        answer.model_spec.version.value = self._model.version
        answer.metadata["signature_def"].Pack(signatures)
        return answer

    def _find(self, request) -> None:
        self._model.find(*asked_model(request))


def asked_model(request) -> tuple[str, int | None]:
    spec = request.model_spec
    return spec.name, spec.version.value if spec.HasField("version") else None


def predict(model, request) -> "predict_pb2.PredictResponse":
    """The answer to a `PredictRequest`."""
    model.find(*asked_model(request))
    name = request.model_spec.signature_name
    outputs = model.predict(name, request.inputs, request.output_filter)
    answer = predict_pb2.PredictResponse()
    answer.model_spec.name = model.name
    answer.model_spec.version.value = model.version
    answer.model_spec.signature_name = name or "serving_default"
    for alias, array in outputs.items():
        dtype = tf.as_dtype(model.signature(name).outputs[alias].dtype)
        answer.outputs[alias].CopyFrom(tf.make_tensor_proto(array, dtype))
    return answer


def _abort(context, error: Exception) -> None:
    status = getattr(error, "status", "INTERNAL")
    code = getattr(grpc.StatusCode, status, grpc.StatusCode.UNKNOWN)
    context.abort(code, getattr(error, "message", repr(error)))
