"""Pictures of single answers with what is said of them, from a split's images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loc_keras.data.annotations import Split
from loc_keras.data.localization_data import LocalizationData
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.trust_figures import TrustFigures
from loc_keras.report.saving import save_figure
from loc_keras.report.small_pictures import Pixels, small_pictures
from loc_keras.report.trust_picture import TrustedAnswer, draw_trusted
from loc_keras.run_report import images_at

_SHOWN_RANKS = (0.1, 0.4, 0.7, 0.95)
"""Of `p_iou50`, from doubtful to sure: so that failures show too."""


def split_pictures_at(
    data: LocalizationData, split: Split, rows: Sequence[int]
) -> dict[int, Pixels]:
    """Small pictures of some images: the original ones or, where they are drawn, the model's.

    Returns:
        By row, uint8 (H, W, 3); those that cannot be decoded are left out.
    """
    records = data.pictures[split].records
    if records is not None:
        return small_pictures(records, rows)
    dataset = data.held_out(split)
    if dataset is None or not len(rows):
        return {}
    return dict(zip(rows, map(_coloured, images_at(dataset, np.array(rows))), strict=True))


def save_trust_picture(
    path: Path, data: LocalizationData, split: Split, outcomes: Outcomes, trust: TrustFigures
) -> None:
    """Draws four answers, from doubtful to sure, with their outer and inner boxes."""
    shown = np.flatnonzero(outcomes.shown)
    ranked = shown[np.argsort(trust.p_iou50[shown], kind="stable")]
    places = [ranked[int(rank * (len(ranked) - 1))] for rank in _SHOWN_RANKS] if len(ranked) else []
    rows = list(dict.fromkeys(int(row) for row in places))
    answers = trusted_answers(data, split, outcomes, trust, rows)
    if answers:
        save_figure(draw_trusted(answers, trust.guarantees[0].asked), path)


def trusted_answers(
    data: LocalizationData,
    split: Split,
    outcomes: Outcomes,
    trust: TrustFigures,
    rows: Sequence[int],
) -> list[TrustedAnswer]:
    """Some answers with their pictures; those that cannot be decoded are left out."""
    pictures = split_pictures_at(data, split, rows)
    names = data.class_names

    def fractions(boxes_px: npt.NDArray[np.float64], row: int) -> npt.NDArray[np.float64]:
        return boxes_px[row] / np.tile(outcomes.sizes[row][::-1], 2)

    return [
        TrustedAnswer(
            picture=pictures[row],
            label=names[int(outcomes.predicted[row])],
            probability=float(trust.probabilities[row].max()),
            p_iou50=float(trust.p_iou50[row]),
            box=fractions(outcomes.boxes_pred_px, row),
            outer=fractions(trust.outer_px, row),
            inner=fractions(trust.inner_px, row),
            labels=[names[at] for at in np.flatnonzero(trust.label_sets[row]).tolist()],
        )
        for row in rows
        if row in pictures
    ]


def _coloured(image: npt.NDArray[np.uint8]) -> Pixels:
    """A model's image, uint8 (H, W, 1 or 3), with three channels."""
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
