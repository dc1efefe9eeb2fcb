"""Whether arrays of calibration images fit together, before anything is fitted on them."""

import numpy as np
import numpy.typing as npt

from loc_keras.errors import TrustError


def class_answers(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Probabilities (N, K) and true classes (N,) of at least one image.

    Raises:
        TrustError: They do not fit together, or hold what no model gives.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or not p.size:
        raise TrustError(
            f"Probabilities (N, K) and labels (N,) of one or more calibration images are needed, "
            f"but they have the shapes {p.shape} and {y.shape}."
        )
    if not (np.isfinite(p).all() and (p >= 0).all()):
        row = int(np.argmin((np.isfinite(p) & (p >= 0)).all(axis=1)))
        raise TrustError(
            f"Row {row} of the probabilities holds {p[row]}, but each must be a number of at "
            f"least 0; check the model's answer to that image."
        )
    classes = p.shape[1]
    outside = (y < 0) | (y >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise TrustError(
            f"Row {row} has the label {y[row]}, but with {classes} probabilities an image a label "
            f"lies in 0..{classes - 1}; calibrate with the classes the model was trained on."
        )
    return p, y.astype(np.int64)


def box_answers(
    boxes: npt.ArrayLike, boxes_pred: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """True and predicted boxes, each float64 (N, 4), of any number of images.

    Raises:
        TrustError: Their shapes differ or are not (N, 4), or a coordinate is not finite.
    """
    true, pred = np.asarray(boxes, np.float64), np.asarray(boxes_pred, np.float64)
    if true.shape != pred.shape or true.ndim != 2 or true.shape[1] != 4:
        raise TrustError(
            f"True and predicted boxes are compared row by row, each (N, 4), but have the shapes "
            f"{true.shape} and {pred.shape}."
        )
    finite = np.isfinite(true).all(axis=1) & np.isfinite(pred).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise TrustError(
            f"Row {row} has the true box {true[row]} and the predicted box {pred[row]}, but all "
            f"coordinates must be finite; leave the image out or mend it."
        )
    return true, pred
