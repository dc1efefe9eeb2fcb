"""Answers of a SavedModel in a process that has neither Keras nor loc_keras, as a server has.

It is run as text (`live_check.answers_of_copy`), and imports nothing of this package. Arguments:
the SavedModel's folder, an archive of requests and one to write. Arrays are named `SIGNATURE:NAME`;
strings travel as bytes in arrays of uint8 with their lengths, since archives that hold objects
would have to be unpickled.
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
    found: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        if value.dtype == object:
            found[name + LENGTHS] = np.array([len(one) for one in value], np.int64)
            found[name] = np.frombuffer(b"".join(value), np.uint8)
        else:
            found[name] = value
    return found


def unpacked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `packed`."""
    found = {}
    for name, value in arrays.items():
        if name.endswith(LENGTHS):
            continue
        if name + LENGTHS in arrays:
            ends = np.cumsum(arrays[name + LENGTHS])
            parts = zip([0, *ends[:-1]], ends, strict=True)
            found[name] = np.array([value[start:end].tobytes() for start, end in parts], object)
        else:
            found[name] = value
    return found


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
    model, asked, written = sys.argv[1:]
    with np.load(asked) as archive:
        found = answered(model, unpacked(dict(archive)))
    np.savez(written, **packed(found))  # type: ignore[arg-type]
