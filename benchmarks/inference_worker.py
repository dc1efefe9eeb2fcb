"""A process that opens a model in one way, and times its own answers when it is told to.

`inference_asking.Worker` starts it with a `Job` as JSON. It reads a command a line from standard
input and answers each with a line of JSON on standard output:

    boxes       boxes (N, 4) in fractions, asked image by image
    one 5       seconds of each of 5 calls with one image, after one that is not counted
    batch       seconds of a call with all images; null where only one at a time is taken
    memory      most MiB that the process ever held; null where the system does not tell

Exported models are opened as a server or a device would: a SavedModel without Keras and this
package, files for devices without Keras and TensorFlow. So this module imports none of them.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.common import peak_mib

IMAGES_FILE = "images.npy"
"""Pixels uint8 (N, H, W, C) of the model's size; the pictures they are of lie beside it, by number,
in files without an ending."""

BLOCKED = {
    "saved_model": ("keras", "loc_keras"),
    **dict.fromkeys(("litert", "onnx", "openvino"), ("keras", "tensorflow")),
}

Requests = Any
"""N images: an array (N, H, W, C), or a list of encoded pictures."""

Ask = Callable[[Requests], np.ndarray]
"""From one or several images to their boxes (N, 4) in fractions; NaN where there is none."""


@dataclass(frozen=True)
class Job:
    """What a worker is started with.

    Attributes:
        kind: A key of `OPENERS`.
        path: The model's file or folder.
        given: With what it is asked, as in `inference_material.Way`.
        threads: How many may compute.
        images: Folder with `IMAGES_FILE` and the pictures.
    """

    kind: str
    path: str
    given: str
    threads: int
    images: str


def main() -> None:
    """Opens, and answers until the input ends."""
    job = Job(**json.loads(sys.argv[1]))
    # What libraries print must not come among the answers.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for package in BLOCKED.get(job.kind, ()):
        sys.modules[package] = None  # type: ignore[assignment]
    keep_to_cores(job.threads)
    ask = OPENERS[job.kind](job)
    serve(ask, requests_of(Path(job.images), job.given), sys.stdin, channel)


def keep_to_cores(count: int) -> None:
    """Holds the process to so many cores, whatever threads a runtime starts beside its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def requests_of(folder: Path, given: str) -> Requests:
    """The images as a way wants them."""
    pixels = np.load(folder / IMAGES_FILE)
    if given == "files":
        return [(folder / str(number)).read_bytes() for number in range(len(pixels))]
    return pixels.astype(np.float32) if given == "pixels" else pixels


def serve(ask: Ask, requests: Requests, commands: IO[str], channel: IO[str]) -> None:
    """Answers commands, one a line; see the module."""
    turn = 0
    for line in commands:
        command, *numbers = line.split()
        answer: Any
        if command == "boxes":
            found = [ask(requests[at : at + 1]) for at in range(len(requests))]
            answer = np.concatenate(found).tolist()
        elif command == "one":
            answer = [
                seconds_of(ask, _single(requests, turn + at)) for at in range(_calls(numbers))
            ]
            turn += len(answer)
            answer = answer[1:]
        elif command == "batch":
            answer = _batch_seconds(ask, requests)
        else:
            answer = _peak()
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


def seconds_of(ask: Ask, requests: Requests) -> float:
    """How long an answer takes."""
    started = time.perf_counter()
    ask(requests)
    return time.perf_counter() - started


def _calls(numbers: Sequence[str]) -> int:
    # The first finds the caches of the processor full of what other workers did.
    return int(numbers[0]) + 1


def _single(requests: Requests, turn: int) -> Requests:
    at = turn % len(requests)
    return requests[at : at + 1]


def _batch_seconds(ask: Ask, requests: Requests) -> float | None:
    try:
        return seconds_of(ask, requests)
    except Exception as error:  # Each runtime has its own for a shape that it does not take.
        sys.stderr.write(f"no batch: {error}\n")
        return None


def _peak() -> float | None:
    try:
        return peak_mib()
    except OSError:
        return None


def _keras(job: Job) -> Ask:
    model = _model(job)
    return lambda images: model.predict(images, batch_size=len(images), verbose=0)["bbox"]


def _compiled(job: Job) -> Ask:
    tf = _tensorflow(job)
    model = _model(job)
    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
    call = tf.function(lambda images: model(images, training=False), input_signature=[spec])
    return lambda images: _arrays(call(tf.constant(images)))["bbox"]


def _localizer(job: Job) -> Ask:
    _tensorflow(job)
    from loc_keras import Localizer

    localizer = Localizer.open(job.path)
    absent = (np.nan,) * 4

    def ask(requests: Requests) -> np.ndarray:
        if len(requests) == 1:
            answers = [localizer.predict(requests[0])]
        else:
            answers = localizer.predict(list(requests), batch_size=len(requests))
        return np.array([answer.box_fraction or absent for answer in answers])

    return ask


def _saved_model(job: Job) -> Ask:
    tf = _tensorflow(job)
    loaded = tf.saved_model.load(job.path)
    if job.given == "files":
        served = loaded.signatures["serving_default"]
        return lambda files: _arrays(served(image_bytes=tf.constant(files)))["box_fraction"]
    images_call = loaded.signatures["images"]
    return lambda images: _arrays(images_call(images=tf.constant(images)))["bbox"]


def _portable(job: Job) -> Ask:
    from loc_keras.serving.runtimes import open_file

    run, _ = open_file(Path(job.path), job.kind, job.threads)
    return lambda images: run(images)["bbox"]


def _nothing(job: Job) -> Ask:
    """Python and NumPy alone, from which the memory of the others is to be seen."""
    return lambda requests: np.zeros((len(requests), 4))


OPENERS: dict[str, Callable[[Job], Ask]] = {
    "keras": _keras,
    "compiled": _compiled,
    "localizer": _localizer,
    "saved_model": _saved_model,
    "litert": _portable,
    "onnx": _portable,
    "openvino": _portable,
    "nothing": _nothing,
}


def _tensorflow(job: Job) -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    tf.config.threading.set_inter_op_parallelism_threads(job.threads)
    return tf


def _model(job: Job) -> Any:
    _tensorflow(job)
    import keras

    import loc_keras  # noqa: F401  (registers the classes that the file names)

    return keras.saving.load_model(job.path)


def _arrays(outputs: Any) -> dict[str, np.ndarray]:
    """All outputs are brought over, as whoever asks would have it."""
    return {name: value.numpy() for name, value in outputs.items()}


if __name__ == "__main__":
    main()
