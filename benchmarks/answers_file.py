"""Answers of models on images they did not see, as files that other benchmarks read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loc_keras.trust.observations import Observations

_RENAMED = {"softmax": "probabilities", "bbox": "boxes_pred"}


def write_answers(path: Path, name: str, seen: Sequence[Observations]) -> None:
    """Writes observations, joined in their order, as compressed arrays.

    Args:
        path: Ends in `.npz`.
        name: What tables call them.
        seen: Of one data set.
    """
    columns = {
        "labels": [one.labels for one in seen],
        "boxes": [one.boxes for one in seen],
        "brightness": [one.brightness for one in seen],
        "contrast": [one.contrast for one in seen],
        **{_RENAMED.get(key, key): [one.outputs[key] for one in seen] for key in seen[0].outputs},
        "part": [np.full(len(one), number) for number, one in enumerate(seen)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    joined = {key: np.concatenate(values) for key, values in columns.items()}
    np.savez_compressed(path, name=np.array(name), **joined)


def read_answers(path: Path) -> tuple[str, Observations]:
    """Reads what `write_answers` wrote, with its name."""
    with np.load(path) as held:
        columns = {key: held[key] for key in held.files}
    name = str(columns.pop("name"))
    columns.pop("part")
    truth = {key: columns.pop(key) for key in ("labels", "boxes", "brightness", "contrast")}
    original = {new: old for old, new in _RENAMED.items()}
    outputs = {original.get(key, key): value for key, value in columns.items()}
    return name, Observations(outputs=outputs, **truth)
