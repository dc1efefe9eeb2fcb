"""Answers of a SavedModel in a process that has neither Keras nor loc_keras, as a server has.

It is run as text (`live_check.run_alone`), and imports nothing of this package. Arguments: the
SavedModel's folder, an archive of requests and one to write. Arrays are named `SIGNATURE:NAME`;
strings are stored as uint8 with their lengths, since archives of objects have to be unpickled.
"""

import sys

import numpy as np
import tensorflow as tf

if __name__ == "__main__":  # Before TensorFlow could look for them.
    sys.modules["keras"] = None  # type: ignore[assignment]
    sys.modules["loc_keras"] = None  # type: ignore[assignment]


LENGTHS = ":lengths"


def packed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with those of strings as bytes and lengths."""
    result = dict(arrays)
    for name, value in arrays.items():
        if value.dtype == object:
            result[name + LENGTHS] = np.array([len(text) for text in value], np.int64)
            result[name] = np.frombuffer(b"".join(value), np.uint8)
    return result


def unpacked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `packed`."""
    result = {name: value for name, value in arrays.items() if not name.endswith(LENGTHS)}
    for name, value in result.items():
        if name + LENGTHS in arrays:
            ends = np.cumsum(arrays[name + LENGTHS])
            parts = zip([0, *ends[:-1]], ends, strict=True)
            result[name] = np.array([value[start:end].tobytes() for start, end in parts], object)
    return result


def answered(folder: str, requests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of each signature that the requests name."""
    signatures = tf.saved_model.load(folder).signatures
    inputs: dict[str, dict[str, tf.Tensor]] = {}
    for name, value in requests.items():
        signature, key = name.split(":")
        inputs.setdefault(signature, {})[key] = tf.constant(value)
    return {
        f"{signature}:{key}": value.numpy()
        for signature, given in inputs.items()
        for key, value in signatures[signature](**given).items()
    }


if __name__ == "__main__":
    model, requests_file, answers_file = sys.argv[1:]
    with np.load(requests_file) as archive:
        answers = answered(model, unpacked(dict(archive)))
    np.savez(answers_file, **packed(answers))  # type: ignore[arg-type]
