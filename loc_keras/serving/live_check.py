"""Compares an exported copy, run in a fresh process, with the live model."""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from loc_keras.data.image_bytes import file_orientation
from loc_keras.data.record_images import CONTENT, ORIENTATION, loader
from loc_keras.data.resize import ImageFormat, restore_boxes
from loc_keras.errors import ExportError, one_line
from loc_keras.serving import signatures
from loc_keras.serving.bundle import Bundle

Arrays = dict[str, np.ndarray]

_ALONE = """
import sys
sys.modules["keras"] = sys.modules["loc_keras"] = None
import numpy as np
import tensorflow as tf

folder, requests_file, answers_file = sys.argv[1:]
signatures = tf.saved_model.load(folder).signatures
answers = {}
with np.load(requests_file, allow_pickle=True) as requests:
    for name, value in requests.items():
        signature, key = name.split(":")
        for output, found in signatures[signature](**{key: tf.constant(value)}).items():
            answers[f"{signature}:{output}"] = found.numpy()
np.savez(answers_file, **answers)
"""
"""A program that knows neither Keras nor this package. Each signature has one input."""

P_VALUE_TOLERANCE = 0.05
"""Of `novelty`, which squares distances that rounding has changed; `known`, one comparison of it,
is not compared."""

TOLERANCES: Mapping[tuple[str, str], float] = {
    ("saved_model", "none"): 1e-5,
    ("litert", "none"): 1e-4,
    ("litert", "float16"): 1e-2,
    ("litert", "int8"): 0.5,
    ("onnx", "none"): 1e-4,
    ("onnx", "float16"): 5e-2,
    ("onnx", "int8"): 0.5,
    ("openvino", "none"): 1e-4,
    ("openvino", "float16"): 1e-2,
}
"""Largest difference that is allowed between an output of the model, computed in float32, and of
its copy, by format and quantization; boxes are compared in fractions of the picture, also those in
px. `python -m benchmarks.export_differences` measures it."""

SECONDS = 600  # How long the fresh process may take.
SPOILT = b"this is not an image"  # A row that must fail without the others.


def check_copy(bundle: Bundle, folder: Path) -> None:
    """Asks a SavedModel through each signature; ExportError if it differs from the live model."""
    requests = requests_for(bundle)
    for name in (signatures.DEFAULT, signatures.IMAGE_BYTES):
        contents = [*requests[name][signatures.IMAGE_BYTES], SPOILT]
        requests[name] = {signatures.IMAGE_BYTES: np.array(contents, object)}
    answers = answers_of_copy(folder, requests)
    expected = live_answers(bundle)
    tolerance = TOLERANCES["saved_model", "none"]
    of_images = {name: expected[name] for name in answers[signatures.IMAGES]}
    refuse_differences(
        f"signature {signatures.IMAGES}", answers[signatures.IMAGES], of_images, tolerance
    )
    for signature in (signatures.DEFAULT, signatures.IMAGE_BYTES, signatures.TF_EXAMPLE):
        outputs = answers[signature]
        if signature != signatures.TF_EXAMPLE:
            if outputs["ok"][-1] or not outputs["reason"][-1]:
                raise ExportError(f"signature {signature} takes a text for an image.")
            outputs = {name: value[:-1] for name, value in outputs.items()}
        _compare_answers(signature, outputs, expected, bundle, tolerance)


def requests_for(bundle: Bundle, count: int | None = None) -> dict[str, Arrays]:
    """A request for each signature, of the first samples or of all."""
    samples = list(bundle.samples[:count])
    contents = np.array(samples, object)
    pixels, _ = _pictures(samples, bundle.form)
    examples = np.array([_example(sample) for sample in samples], object)
    return {
        signatures.DEFAULT: {signatures.IMAGE_BYTES: contents},
        signatures.IMAGE_BYTES: {signatures.IMAGE_BYTES: contents},
        signatures.IMAGES: {signatures.IMAGES: pixels.astype(np.float32)},
        signatures.TF_EXAMPLE: {signatures.EXAMPLES: examples},
    }


def live_answers(bundle: Bundle) -> Arrays:
    """What the live model says of the samples, by the pipeline of training.

    Returns:
        Its outputs; `sizes` int32 (N, 2), heights and widths in px, turned upright; and each box
        that it gives, in fractions of the originals, as `whole:NAME`.
    """
    images, sizes = _pictures(bundle.samples, bundle.form)
    # The fresh process has no GPU, whose sums are rounded otherwise.
    with tf.device("CPU:0"):
        call = tf.function(lambda x: bundle.localizer(x, training=False))
        outputs = call(tf.constant(images, tf.float32))
        answers = {name: np.asarray(value) for name, value in outputs.items()}
        rule = bundle.form.rule_in_use
        for name in ("bbox", "box_outer", "box_inner"):
            if name in answers:
                whole = restore_boxes(answers[name], sizes, bundle.form.size, rule)
                answers[f"whole:{name}"] = np.asarray(whole)
    return {**answers, "sizes": sizes}


def answers_of_copy(folder: Path, requests: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """Outputs of a SavedModel by signature and name, by a fresh process without Keras.

    ExportError if that fails.
    """
    flat = {
        f"{name}:{key}": value for name, part in requests.items() for key, value in part.items()
    }
    with tempfile.TemporaryDirectory() as place:
        given, found = Path(place, "requests.npz"), Path(place, "answers.npz")
        np.savez(given, **flat)  # type: ignore[arg-type]
        try:
            done = subprocess.run(
                [sys.executable, "-c", _ALONE, str(folder.absolute()), str(given), str(found)],
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                cwd=place,
                timeout=SECONDS,
                # On a GPU this process may hold all the memory.
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            )
            code = done.returncode
            said = done.stderr.strip().splitlines() or [f"exit code {code}"]
        except subprocess.TimeoutExpired:
            code, said = 1, [f"no answer within {SECONDS} s"]
        if code:
            raise ExportError(
                f"the SavedModel cannot be used by a process without Keras ({one_line(said[-1])}); "
                "nothing was exported."
            )
        answers: dict[str, Arrays] = {}
        with np.load(found, allow_pickle=True) as archive:  # Strings are objects.
            for name, value in archive.items():
                signature, key = name.split(":")
                answers.setdefault(signature, {})[key] = value
    return answers


def refuse_differences(place: str, found: Arrays, expected: Arrays, tolerance: float) -> None:
    """Raises ExportError at the first output that differs by more than the tolerance.

    `place` is what gave them.
    """
    for name, value in expected.items():
        difference = largest_difference(name, found[name], value, tolerance)
        limit = max(tolerance, {"novelty": P_VALUE_TOLERANCE, "known": 1.0}.get(name, 0.0))
        if not difference <= limit:
            raise ExportError(
                f"the output {name} of {place} differs from the live model's by {difference:.2g}, "
                f"more than {limit:g}; nothing was exported."
            )


def largest_difference(name: str, found: Any, expected: Any, tolerance: float) -> float:
    """Of the values of an output; infinite where they are of other numbers.

    An inner box thinner than the tolerance may be gone in one of the two, which is all zero then.
    """
    copy, live = (np.asarray(value, np.float64) for value in (found, expected))
    if copy.shape != live.shape:
        return np.inf
    if name == "box_inner":
        boxes = np.stack([copy, live])
        thin = (boxes[..., 2:] - boxes[..., :2]).min(axis=-1, keepdims=True) <= tolerance
        copy, live = np.where(thin.all(axis=0), 0, boxes)
    return float(np.max(np.abs(copy - live), initial=0.0))


def _compare_answers(
    signature: str, found: Arrays, expected: Arrays, bundle: Bundle, tolerance: float
) -> None:
    if not found["ok"].all():
        which = int(np.argmin(found["ok"]))
        raise ExportError(
            f"signature {signature} says of sample {which}: {found['reason'][which].decode()}; "
            "nothing was exported."
        )
    sides = np.tile(expected["sizes"][:, ::-1], 2)
    same = ("softmax_calibrated", "p_iou50", "label_set", "novelty")
    pairs = {"probabilities": "softmax", "size": "sizes"}
    pairs |= {"box": "whole:bbox", "box_fraction": "whole:bbox"}
    pairs |= {name: f"whole:{name}" for name in signatures.BOXES if name in expected}
    pairs |= {name: name for name in same if name in expected}
    wanted = {name: expected[key] for name, key in pairs.items()}
    wanted["score"] = expected.get("softmax_calibrated", expected["softmax"]).max(axis=-1)
    answers = {
        name: found[name] / sides if name in signatures.BOXES else found[name] for name in wanted
    }
    place = f"signature {signature}"
    refuse_differences(place, answers, wanted, tolerance)
    names = [bundle.class_names[index].encode() for index in found["class_id"]]
    best = np.take_along_axis(expected["softmax"], found["class_id"][:, None], axis=-1)[:, 0]
    highest = expected["softmax"].max(axis=-1)
    refuse_differences(place, {"class_id": best}, {"class_id": highest}, 2 * tolerance)
    if list(found["label"]) != names:
        raise ExportError(f"signature {signature} gives classes other names; nothing was exported.")


def _pictures(contents: Sequence[bytes], form: ImageFormat) -> tuple[np.ndarray, np.ndarray]:
    """The model's images uint8 (N, H, W, C), and the sizes int32 (N, 2) of upright pictures."""
    form = replace(form, rule=form.rule_in_use)
    load = loader(form, frozenset({CONTENT, ORIENTATION}))
    with tf.device("CPU:0"):
        loaded = [
            load({CONTENT: tf.constant(file), ORIENTATION: file_orientation(io.BytesIO(file)) or 1})
            for file in contents
        ]
    images, sizes = zip(*loaded, strict=True)
    return np.stack(images), np.stack(sizes)


def _example(content: bytes) -> bytes:
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
    features = tf.train.Features(feature={signatures.ENCODED_KEY: value})
    return bytes(tf.train.Example(features=features).SerializeToString())
