"""What an evaluation writes: JSON and CSV that others read, and COCO's files."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.outcome_examples import names_of, random_outcomes
from helpers.trust_examples import trust_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask
from pycocotools.coco import COCO

from benchmarks.second_reading import main as second_reading
from benchmarks.second_reading import matched_shares, their_figures
from loc_keras.evaluation.figures import evaluate
from loc_keras.evaluation.files import (
    DETECTIONS_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    TRUTH_FILE,
    coco_detections,
    coco_truth,
    label_set,
    metrics_json,
    safe_cell,
    write_coco,
    write_metrics,
    write_predictions,
)
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.reliability import detection_scores

NAMES = [f"class {index}" for index in range(8)]
BACKGROUND = 3
TRAIN_BOXES = np.array([[0.1, 0.2, 0.6, 0.9]])
OUTCOMES = random_outcomes(60, background=BACKGROUND)
EVALUATION = evaluate(OUTCOMES, NAMES, TRAIN_BOXES, resamples=30)


def strict(text: str) -> Any:
    """JSON as its standard has it: without NaN and infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


# metrics.json.


def test_metrics_hold_every_figure(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    write_metrics(path, EVALUATION)
    found = strict(path.read_text(encoding="utf-8"))
    assert found == metrics_json(EVALUATION)
    assert list(found)[:4] == ["images", "object_images", "class_names", "intervals"]
    assert found["intervals"]["level"] == 0.95 and found["intervals"]["resamples"] == 30
    assert list(found["figures"]) == list(EVALUATION.figures)
    for name, one in EVALUATION.figures.items():
        assert found["figures"][name] == one._asdict()
    assert found["confusion"] == EVALUATION.confusion.tolist()
    assert [group["name"] for group in found["sizes"]] == [one.name for one in EVALUATION.sizes]
    assert found["floors"]["centre box"]["acc50"]["images"] == EVALUATION.object_images
    assert "trust" not in found


def test_what_is_of_no_image_is_null(tmp_path: Path) -> None:
    write_metrics(tmp_path / METRICS_FILE, EVALUATION)
    text = (tmp_path / METRICS_FILE).read_text(encoding="utf-8")
    assert "NaN" not in text
    figure = strict(text)["classes"][BACKGROUND]["figures"]["mean_iou"]
    assert figure == {"value": None, "low": None, "high": None, "images": 0}


def test_a_row_of_the_confusion_is_a_line(tmp_path: Path) -> None:
    # Else a thousand classes make a million lines.
    write_metrics(tmp_path / METRICS_FILE, EVALUATION)
    lines = (tmp_path / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    start = lines.index('  "confusion": [')
    assert [json.loads(line.rstrip(",")) for line in lines[start + 1 : start + 9]] == (
        EVALUATION.confusion.tolist()
    )


def test_metrics_with_trust(tmp_path: Path) -> None:
    write_metrics(tmp_path / METRICS_FILE, EVALUATION, trust_of(OUTCOMES))
    found = strict((tmp_path / METRICS_FILE).read_text(encoding="utf-8"))["trust"]
    assert found["ece"] == {"before": 0.2, "after": 0.1}
    assert found["auroc_p_iou50"]["value"] is None
    assert found["auroc_confidence"]["high"] == 0.8
    assert found["guarantees"][0]["kept"] == {
        "value": 0.91,
        "low": 0.88,
        "high": 0.94,
        "images": 60,
    }
    assert found["shift"]["found"] is True and found["shift"]["tests"][0]["distance"] == 0.3
    assert sum(one["images"] for one in found["box_bins"]) == 60


# predictions.csv.


def predictions(path: Path, outcomes: Outcomes = OUTCOMES, **changes: Any) -> list[dict[str, str]]:
    names = changes.pop("names", NAMES)
    images = changes.pop("images", names_of(outcomes))
    write_predictions(path, outcomes, names, images, [f"all/{name}" for name in images], **changes)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_hold_a_row_for_each_image(tmp_path: Path) -> None:
    rows = predictions(tmp_path / PREDICTIONS_FILE)
    assert [row["image"] for row in rows] == names_of(OUTCOMES)
    for index, row in enumerate(rows):
        assert row["path"] == f"all/{row['image']}"
        assert row["true_label"] == NAMES[OUTCOMES.labels[index]]
        assert row["pred_label"] == NAMES[OUTCOMES.predicted[index]]
        assert float(row["probability"]) == pytest.approx(OUTCOMES.confidences[index], abs=1e-6)
        said = [float(row[f"pred_{side}_px"]) for side in ("x1", "y1", "x2", "y2")]
        assert said == pytest.approx(OUTCOMES.boxes_pred_px[index], abs=5e-4)
        truth = [row[f"true_{side}_px"] for side in ("x1", "y1", "x2", "y2")]
        if OUTCOMES.labels[index] == BACKGROUND:
            assert [*truth, row["iou"], row["corner_error_px"]] == [""] * 6
        else:
            assert list(map(float, truth)) == pytest.approx(OUTCOMES.boxes_px[index], abs=5e-4)
            assert float(row["iou"]) == pytest.approx(OUTCOMES.ious[index], abs=1e-6)
            error = OUTCOMES.corner_errors_px[index]
            assert float(row["corner_error_px"]) == pytest.approx(error, abs=5e-4)


PLAIN = [
    *("image", "path", "true_label", "pred_label", "probability"),
    *("true_x1_px", "true_y1_px", "true_x2_px", "true_y2_px"),
    *("pred_x1_px", "pred_y1_px", "pred_x2_px", "pred_y2_px", "iou", "corner_error_px"),
]
TRUSTED = [
    *(*PLAIN[:5], "p_iou50", *PLAIN[5:]),
    *("outer_x1_px", "outer_y1_px", "outer_x2_px", "outer_y2_px"),
    *("inner_x1_px", "inner_y1_px", "inner_x2_px", "inner_y2_px", "label_set"),
]


def test_columns_of_trust_are_there_only_with_trust(tmp_path: Path) -> None:
    assert list(predictions(tmp_path / "plain.csv")[0]) == PLAIN
    trust = trust_of(OUTCOMES)
    rows = predictions(tmp_path / "trusted.csv", trust=trust)
    assert list(rows[0]) == TRUSTED
    assert [float(row["p_iou50"]) for row in rows] == pytest.approx(trust.p_iou50, abs=1e-6)
    # The probability is then the calibrated one of the same class.
    own = trust.probabilities[np.arange(60), OUTCOMES.predicted]
    assert [float(row["probability"]) for row in rows] == pytest.approx(own, abs=1e-6)
    assert rows[1]["inner_x1_px"] == "" and rows[0]["inner_x2_px"] != ""
    assert rows[2]["label_set"] == ""
    expected = "|".join(NAMES[label] for label in np.flatnonzero(trust.label_sets[0]))
    assert rows[0]["label_set"] == expected


AWKWARD = ['a,b "c"\nd', "=1+1", "+1", "-1", "@sum", "\tx", "＝1", "grün|日本", "back\\slash", ""]  # noqa: RUF001


def test_awkward_names_come_back(tmp_path: Path) -> None:
    outcomes = random_outcomes(len(AWKWARD), 1)
    rows = predictions(tmp_path / PREDICTIONS_FILE, outcomes, names=["=cmd"], images=AWKWARD)
    formulas = {"=1+1", "+1", "-1", "@sum", "\tx", "＝1"}  # noqa: RUF001
    for row, name in zip(rows, AWKWARD, strict=True):
        assert row["image"] == (f"'{name}" if name in formulas else name)
        assert row["path"] == f"all/{name}"
        assert row["true_label"] == row["pred_label"] == "'=cmd"


@settings(deadline=None)
@given(st.text("=+-@\t\r\n'a1 ＝é", max_size=5))  # noqa: RUF001
def test_no_cell_begins_a_formula(text: str) -> None:
    # OWASP's list of first characters.
    assert not safe_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert safe_cell(text) in (text, f"'{text}")


def test_a_file_name_that_is_no_unicode_can_be_written(tmp_path: Path) -> None:
    name = b"gr\xfcn.jpg".decode("utf-8", "surrogateescape")
    outcomes = random_outcomes(1, 1)
    rows = predictions(tmp_path / PREDICTIONS_FILE, outcomes, names=["a"], images=[name])
    assert rows[0]["image"] == r"gr\udcfcn.jpg"
    write_coco(tmp_path, outcomes, ["a"], [name])
    images = json.loads((tmp_path / TRUTH_FILE).read_text(encoding="utf-8"))["images"]
    assert images[0]["file_name"] == name


@settings(deadline=None)
@given(st.lists(st.text("a|\\,", max_size=4), min_size=1, max_size=4))
def test_label_sets_can_be_taken_apart(names: list[str]) -> None:
    found, escaped = [""], False
    for sign in label_set(names):
        if escaped or sign not in "|\\":
            found[-1] += sign
            escaped = False
        elif sign == "|":
            found.append("")
        else:
            escaped = True
    assert found == names


# COCO's files.


def loaded(folder: Path, outcomes: Outcomes, **scores: Any) -> tuple[COCO, COCO]:
    write_coco(folder, outcomes, NAMES, names_of(outcomes), **scores)
    truth = COCO(folder / TRUTH_FILE)
    return truth, truth.loadRes(str(folder / DETECTIONS_FILE))


def test_pycocotools_reads_the_truth_and_the_detections(tmp_path: Path) -> None:
    truth, detections = loaded(tmp_path, OUTCOMES)
    assert [one["name"] for one in truth.loadCats(truth.getCatIds())] == NAMES
    assert truth.getCatIds(supNms=["background"]) == [BACKGROUND + 1]
    for index in range(len(OUTCOMES)):
        (image,) = truth.loadImgs([index + 1])
        assert image["file_name"] == names_of(OUTCOMES)[index]
        assert (image["height"], image["width"]) == tuple(OUTCOMES.sizes[index])
        annotations = truth.loadAnns(truth.getAnnIds(imgIds=[index + 1]))
        (detection,) = detections.loadAnns(detections.getAnnIds(imgIds=[index + 1]))
        assert detection["category_id"] == OUTCOMES.predicted[index] + 1
        assert detection["score"] == pytest.approx(OUTCOMES.confidences[index])
        if OUTCOMES.labels[index] == BACKGROUND:
            assert annotations == []
        else:
            assert annotations[0]["category_id"] == OUTCOMES.labels[index] + 1
            shared = mask.iou([detection["bbox"]], [annotations[0]["bbox"]], [0])[0, 0]
            assert OUTCOMES.ious[index] == pytest.approx(shared, abs=1e-12)


def test_coco_boxes_by_hand() -> None:
    outcomes = OUTCOMES.take(np.flatnonzero(OUTCOMES.shown)[:1])
    outcomes.boxes_px[0] = [10, 20, 40.5, 60]
    (annotation,) = coco_truth(outcomes, NAMES, ["a.jpg"])["annotations"]
    assert annotation["bbox"] == [10, 20, 30.5, 40] and annotation["area"] == 30.5 * 40
    assert (annotation["id"], annotation["image_id"], annotation["iscrowd"]) == (1, 1, 0)


def test_scores_of_detections(tmp_path: Path) -> None:
    trust = trust_of(OUTCOMES)
    own = trust.probabilities[np.arange(60), OUTCOMES.predicted]
    np.testing.assert_array_equal(detection_scores(OUTCOMES), OUTCOMES.confidences)
    np.testing.assert_allclose(detection_scores(OUTCOMES, trust), own)
    both = own * trust.p_iou50
    found = [one["score"] for one in coco_detections(OUTCOMES, both)]
    np.testing.assert_allclose(found, both)


# The second reading: COCOeval's matching and IoUs on the files.


@pytest.mark.parametrize("background", [None, BACKGROUND])
def test_pycocotools_finds_the_same_figures(
    background: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = random_outcomes(300, background=background, seed=2)
    found = evaluate(outcomes, NAMES, TRAIN_BOXES, resamples=5)
    write_metrics(tmp_path / METRICS_FILE, found)
    write_coco(tmp_path, outcomes, NAMES, names_of(outcomes))
    theirs = their_figures(tmp_path)
    # All but the top-5 figures, of which COCO's files know nothing.
    assert set(theirs) == {name for name in found.figures if not name.startswith("top5")}
    for name, value in theirs.items():
        assert found.figures[name].value == pytest.approx(value, abs=1e-9), name
    assert second_reading(["--evaluation", str(tmp_path)]) == 0
    assert "gt_known_loc" in capsys.readouterr().out


def test_a_figure_that_differs_is_told(tmp_path: Path) -> None:
    write_metrics(tmp_path / METRICS_FILE, EVALUATION)
    write_coco(tmp_path, OUTCOMES, NAMES, names_of(OUTCOMES))
    content = json.loads((tmp_path / METRICS_FILE).read_text(encoding="utf-8"))
    content["figures"]["acc50"]["value"] += 1e-4
    (tmp_path / METRICS_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert second_reading(["--evaluation", str(tmp_path)]) == 1


def test_the_second_reading_names_a_file_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert second_reading(["--evaluation", str(tmp_path)]) == 2
    assert METRICS_FILE in capsys.readouterr().err


def test_top1_of_coco_needs_the_class() -> None:
    # One box, found exactly, under the wrong name: right without classes only.
    outcomes = random_outcomes(1, 2)
    outcomes.boxes_pred_px[:] = outcomes.boxes_px
    outcomes.probabilities[0] = np.eye(2)[1 - outcomes.labels[0]]
    truth, detections = coco_truth(outcomes, NAMES[:2], ["a.jpg"]), coco_detections(outcomes)
    assert matched_shares(truth, detections, with_classes=False)[0.9] == 1
    assert matched_shares(truth, detections, with_classes=True)[0.3] == 0
    assert not math.isnan(outcomes.ious[0]) and outcomes.box_hits[0]
