"""Truth and answers of a split in px of its pictures."""

import numpy as np
import numpy.typing as npt

from loc_keras.data.split_pictures import SplitPictures
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.trust.observations import Observations


def outcomes_of(seen: Observations, pictures: SplitPictures) -> Outcomes:
    """Truth and answers in px of the pictures."""
    return Outcomes(
        labels=seen.labels,
        probabilities=seen.outputs["softmax"],
        boxes_px=_true_boxes_px(seen, pictures),
        boxes_pred_px=pictures.to_px(seen.outputs["bbox"]),
        sizes=pictures.sizes,
        background=seen.background,
    )


def _true_boxes_px(seen: Observations, pictures: SplitPictures) -> npt.NDArray[np.float64]:
    if pictures.boxes is None:
        boxes = pictures.to_px(seen.boxes)
    else:
        # Straight from the annotations: through a letterbox and back a digit would be lost.
        boxes = pictures.boxes.astype(np.float64) * np.tile(pictures.sizes[:, ::-1], 2)
    return np.where(seen.shown[:, None], boxes, 0.0)
