"""A grid of images with true and predicted boxes and what the model said of each."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from keras import ops
from matplotlib.figure import Figure

from loc_keras.boxes import iou
from loc_keras.report.captions import (
    caption_of_one_class,
    caption_parts,
    caption_without_object,
    class_name,
    is_localized,
)
from loc_keras.report.drawing import to_rgb
from loc_keras.report.grid import Example, draw_grid
from loc_keras.report.saving import save_figure

Images = Sequence[npt.ArrayLike] | npt.NDArray[np.generic]


def pair_ious(boxes_true: npt.ArrayLike, boxes_pred: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """IoU of aligned pairs as a NumPy array, for `spread_by_iou` and captions.

    Args:
        boxes_true: (N, 4) fractions `(x1, y1, x2, y2)`.
        boxes_pred: (N, 4) likewise.

    Returns:
        float64 (N,) in [0, 1].
    """
    true = np.asarray(boxes_true, dtype=np.float32).reshape(-1, 4)
    pred = np.asarray(boxes_pred, dtype=np.float32).reshape(-1, 4)
    return np.asarray(ops.convert_to_numpy(iou(true, pred)), dtype=np.float64)


def draw_gallery(
    images: Images,
    labels_true: npt.ArrayLike,
    boxes_true: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    boxes_pred: npt.ArrayLike,
    class_names: Sequence[str] | None = None,
    *,
    columns: int = 4,
    title: str = "",
    background: int | None = None,
) -> Figure:
    """Draw a grid of examples in the order given.

    Args:
        images: N images, each (H, W), (H, W, 1) or (H, W, 3), values 0..255; sizes may differ.
        labels_true: (N,) integer labels.
        boxes_true: (N, 4) fractions `(x1, y1, x2, y2)`.
        probabilities: (N, K) class probabilities; the largest is what the model said.
        boxes_pred: (N, 4) fractions `(x1, y1, x2, y2)`.
        class_names: K names; None names classes by number.
        columns: Cells in a row, at least 1.
        title: First line; say here how the examples were chosen (see `spread_title`).
        background: Label of images without an object, whose true box is not drawn, and a predicted
            one only where the model said another class; None where all show one.

    Returns:
        A figure of its own; `saving.figure_to_array` turns it into pixels.

    Raises:
        ValueError: No images, lengths that differ, or `columns` below 1.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1; it is {columns}.")
    labels = np.asarray(labels_true).reshape(-1)
    true = np.asarray(boxes_true, dtype=np.float64).reshape(-1, 4)
    pred = np.asarray(boxes_pred, dtype=np.float64).reshape(-1, 4)
    scores = np.asarray(probabilities, dtype=np.float64)
    _check_lengths(len(images), len(labels), len(true), len(scores), len(pred))
    overlaps = pair_ious(true, pred)
    examples = [
        _example(images[i], int(labels[i]), true[i], scores[i], pred[i], overlaps[i], class_names)
        if labels[i] != background
        else _empty_example(images[i], int(labels[i]), scores[i], pred[i], class_names)
        for i in range(len(images))
    ]
    return draw_grid(examples, min(columns, len(examples)), title)


def save_gallery(
    path: str | os.PathLike[str],
    images: Images,
    labels_true: npt.ArrayLike,
    boxes_true: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    boxes_pred: npt.ArrayLike,
    class_names: Sequence[str] | None = None,
    *,
    columns: int = 4,
    title: str = "",
    background: int | None = None,
) -> Path:
    """Write the grid of `draw_gallery` as PNG, whole or not at all.

    Args:
        path: File to write.
        images: This and all other arguments, and the errors, are those of `draw_gallery`.
        labels_true: (N,) integer labels.
        boxes_true: (N, 4) fractions `(x1, y1, x2, y2)`.
        probabilities: (N, K) class probabilities.
        boxes_pred: (N, 4) fractions `(x1, y1, x2, y2)`.
        class_names: K names or None.
        columns: Cells in a row.
        title: First line.
        background: Label of images without an object, or None.

    Returns:
        The path written.
    """
    figure = draw_gallery(
        images,
        labels_true,
        boxes_true,
        probabilities,
        boxes_pred,
        class_names,
        columns=columns,
        title=title,
        background=background,
    )
    return save_figure(figure, path)


def _check_lengths(*lengths: int) -> None:
    if len(set(lengths)) != 1 or not lengths[0]:
        raise ValueError(
            "images, labels_true, boxes_true, probabilities and boxes_pred must have one "
            f"common length of at least 1; they have {', '.join(map(str, lengths))}."
        )


def _example(
    image: npt.ArrayLike,
    label: int,
    box_true: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    box_pred: npt.NDArray[np.float64],
    overlap: float,
    class_names: Sequence[str] | None,
) -> Example:
    said = int(scores.argmax())
    name = class_name(label, class_names)
    if len(scores) == 1:
        parts = caption_of_one_class(name, float(overlap))
    else:
        name_said = class_name(said, class_names)
        parts = caption_parts(name, name_said, float(scores[said]), float(overlap))
    localized = is_localized(label, said, float(overlap))
    return Example(to_rgb(image), box_true, box_pred, parts, localized)


def _empty_example(
    image: npt.ArrayLike,
    label: int,
    scores: npt.NDArray[np.float64],
    box_pred: npt.NDArray[np.float64],
    class_names: Sequence[str] | None,
) -> Example:
    """An image without an object: right where the model says so, and then without any box."""
    said = int(scores.argmax())
    name, name_said = class_name(label, class_names), class_name(said, class_names)
    parts = caption_without_object(name, name_said, float(scores[said]))
    return Example(to_rgb(image), None, None if said == label else box_pred, parts, said == label)
