"""Requests that TF Serving replays before it serves a version, so that no user waits for a graph.

The file is a TFRecord of `tensorflow.serving.PredictionLog` messages. Their few fields are encoded
here, since the package that holds those messages (`tensorflow-serving-api`) is no requirement of a
training run; the tests read the file with it. Field numbers are those of its
`prediction_log.proto`, `predict.proto` and `model.proto` (TF Serving 2.x), the encoding is that of
protocol buffers.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

WARMUP_FILE = "tf_serving_warmup_requests"
"""The name that TF Serving looks for below `assets.extra`."""

_PREDICT_LOG = 6  # PredictionLog.predict_log
_REQUEST = 1  # PredictLog.request
_MODEL_SPEC, _INPUTS = 1, 2  # PredictRequest
_SIGNATURE_NAME = 3  # ModelSpec
_KEY, _VALUE = 1, 2  # An entry of a map.
_LENGTH_DELIMITED = 2

Requests = Mapping[str, Mapping[str, np.ndarray]]
"""For each signature its inputs by name."""


def write_warmup(path: Path, requests: Requests) -> None:
    """Writes one record for each signature."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(prediction_log(signature, inputs))


def prediction_log(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """A serialized `PredictionLog` of one request.

    Args:
        signature: Name of the signature.
        inputs: Its inputs by name; texts as arrays of `object`.
    """
    request = _field(_MODEL_SPEC, _field(_SIGNATURE_NAME, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(_INPUTS, _field(_KEY, name.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
