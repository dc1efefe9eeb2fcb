"""From a model's answers on a split to the figures, and to the files of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import ImageRef, Split
from loc_keras.data.load_records import image_refs
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.lookalikes import lookalikes
from loc_keras.data.split_pictures import SplitPictures
from loc_keras.evaluation.coco_files import write_coco
from loc_keras.evaluation.groups import position_places, size_places
from loc_keras.evaluation.metrics_file import METRICS_FILE, write_metrics
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.predictions_file import PREDICTIONS_FILE, write_predictions
from loc_keras.evaluation.results import Evaluation
from loc_keras.evaluation.scores import detection_scores
from loc_keras.evaluation.trust_figures import TrustFigures
from loc_keras.report.evaluation_choice import choose_suspects, suspect_words, wanted_pictures
from loc_keras.report.evaluation_input import (
    EvaluationPage,
    ImageRows,
    Lookalike,
    Suspect,
)
from loc_keras.report.evaluation_page import evaluation_page
from loc_keras.report.small_pictures import small_pictures
from loc_keras.trust_pictures import split_pictures_at

REPORT_FILE = "report.html"

_FLOOR_IMAGES = 10_000
"""Training boxes that the floors are computed from, where they are only known by drawing."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All that is known of a model on a split.

    Attributes:
        run: Name of the run.
        split: `"val"`, `"test"` or `"calibration"`.
        data: The data.
        outcomes: Truth and answer of each image.
        evaluation: The figures.
        trust: How true the model's statements about its answers were; None without trust.
    """

    run: str
    split: Split
    data: LocalizationData
    outcomes: Outcomes
    evaluation: Evaluation
    trust: TrustFigures | None

    @property
    def pictures(self) -> SplitPictures:
        """The pictures of the split."""
        return self.data.pictures[self.split]


def train_boxes(data: LocalizationData) -> npt.NDArray[np.float32]:
    """True boxes of the training split in fractions of the pictures, (M, 4).

    Where they are drawn, those of the first images that training sees.
    """
    boxes = data.pictures["train"].boxes
    if boxes is not None:
        return boxes
    drawn: list[np.ndarray] = []
    for _, targets in data.train(0):
        drawn.append(targets["bbox"].numpy())
        if sum(map(len, drawn)) >= min(_FLOOR_IMAGES, data.sizes["train"]):
            break
    return np.concatenate(drawn)


def write_evaluation(folder: Path, measured: Measured, facts: Sequence[tuple[str, str]]) -> None:
    """Writes figures, predictions, COCO's files and the page.

    Args:
        folder: Made where it is not there; files of an earlier evaluation are replaced.
        measured: What to write.
        facts: How it was measured, as (label, value), for the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [str(name) for name in measured.pictures.names]
    paths = _paths(measured.pictures)
    classes = measured.data.class_names
    # The figures first: a picture that cannot be drawn must not cost them.
    write_metrics(folder / METRICS_FILE, measured.evaluation, measured.trust, dict(facts))
    write_predictions(
        folder / PREDICTIONS_FILE, measured.outcomes, classes, names, paths, measured.trust
    )
    scores = detection_scores(measured.outcomes, measured.trust)
    write_coco(folder, measured.outcomes, classes, names, scores)
    write_text(folder / REPORT_FILE, evaluation_page(_page(measured, names, facts)))


def _page(
    measured: Measured, names: Sequence[str], facts: Sequence[tuple[str, str]]
) -> EvaluationPage:
    rows = _rows(measured)
    p_iou50 = None if measured.trust is None else measured.trust.p_iou50
    suspected = choose_suspects(rows, p_iou50).tolist()
    wanted = wanted_pictures(rows, suspected).tolist()
    again = _lookalikes(measured, suspected)
    return EvaluationPage(
        title=f"{measured.run}: evaluation on {measured.split} images",
        run=measured.run,
        split=measured.split,
        facts=facts,
        evaluation=measured.evaluation,
        rows=rows,
        names=names,
        pictures=split_pictures_at(measured.data, measured.split, wanted),
        trust=measured.trust,
        suspects=[
            Suspect(row, suspect_words(rows, row, p_iou50), alike)
            for row, alike in zip(suspected, again, strict=True)
        ],
    )


def _rows(measured: Measured) -> ImageRows:
    found = measured.outcomes
    probabilities = found.probabilities
    if measured.trust is not None:
        probabilities = measured.trust.probabilities
    own = np.take_along_axis(probabilities, found.predicted[:, None], axis=1)[:, 0]
    return ImageRows(
        labels=found.labels,
        predicted=found.predicted,
        confidence=own,
        ious=found.ious,
        corner_errors_px=found.corner_errors_px,
        boxes_px=found.boxes_px,
        boxes_pred_px=found.boxes_pred_px,
        sizes=found.sizes,
        background=found.background,
        size_groups=size_places(found),
        positions=position_places(found),
    )


def _lookalikes(measured: Measured, rows: list[int]) -> list[list[Lookalike]]:
    """For each image those of the training split that look like it."""
    train = measured.data.pictures["train"].records
    records = measured.pictures.records
    if train is None or records is None:
        return [[] for _ in rows]
    refs = image_refs(records)
    found = lookalikes([refs[row] for row in rows], image_refs(train))
    pictures = small_pictures(train, sorted({place for places in found for place in places}))
    classes = measured.data.class_names
    return [
        [
            Lookalike(str(train.names[at]), pictures.get(at), classes[int(train.labels[at])])
            for at in places
        ]
        for places in found
    ]


def _paths(pictures: SplitPictures) -> list[str]:
    if pictures.records is None:
        return [""] * len(pictures)
    return [_path(ref) for ref in image_refs(pictures.records)]


def _path(ref: ImageRef) -> str:
    """The file; within a file of many images also the first byte."""
    return ref.path if ref.length < 0 else f"{ref.path}@{ref.offset}"
