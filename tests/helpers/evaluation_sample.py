"""A made-up evaluation for tests of its page: random, but with the structure of a real one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from loc_keras.evaluation.figures import (
    POSITION_NAMES,
    SIZE_NAMES,
    position_places,
    size_places,
)
from loc_keras.evaluation.outcomes import Estimate, Evaluation, Group, Outcomes
from loc_keras.evaluation.reliability import (
    Guarantee,
    Shift,
    ShiftTest,
    TrustFigures,
    detection_scores,
    reliability_bins,
)
from loc_keras.report import evaluation_content


def sample_outcomes(
    images: int, classes: int, *, seed: int = 1, background: int | None = None, skill: float = 0.9
) -> Outcomes:
    """Truth and answers: most boxes a little off, some far off; classes confuse neighbours."""
    random = np.random.default_rng(seed)
    sizes = random.choice([(480, 640), (640, 480), (600, 600)], images).astype(np.int32)
    labels = random.integers(0, classes, images).astype(np.int32)
    sides = random.uniform(0.12, 0.7, (images, 2))
    corners = random.uniform(0, 1, (images, 2)) * (1 - sides)
    scale = np.tile(sizes[:, ::-1], 2)
    true = np.concatenate([corners, corners + sides], axis=1)
    spread = random.choice([0.03, 0.12, 0.5], (images, 1), p=[skill, (1 - skill) * 0.6,
                                                              (1 - skill) * 0.4])  # fmt: skip
    pred = np.clip(true + random.normal(0, 1, (images, 4)) * spread * np.tile(sides, 2), 0, 1)
    pred = np.concatenate([np.minimum(pred[:, :2], pred[:, 2:]),
                           np.maximum(pred[:, :2], pred[:, 2:])], axis=1)  # fmt: skip
    predicted = np.where(random.random(images) < skill, labels,
                         (labels + random.integers(1, 3, images)) % classes)  # fmt: skip
    confidences = np.clip(1 - random.exponential(0.12, images), 1 / max(classes, 2) + 0.01, 1)
    if background is not None:
        true[labels == background] = 0
    # Some annotations are of another place.
    wrong = random.random(images) < 0.03
    if background is not None:
        wrong &= labels != background
    true[wrong] = np.roll(true[wrong], 1, axis=0)
    return Outcomes(
        labels=labels,
        probabilities=probabilities_of(predicted, confidences, classes),
        boxes_px=true * scale,
        boxes_pred_px=pred * scale,
        sizes=sizes,
        background=background,
    )


def probabilities_of(predicted: np.ndarray, confidences: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (N, K) with these classes on top; the others share the rest evenly."""
    rest = (1 - confidences) / max(classes - 1, 1)
    probabilities = np.repeat(rest[:, None], classes, axis=1)
    probabilities[np.arange(len(predicted)), predicted] = confidences
    return probabilities


def sample_evaluation(outcomes: Outcomes, names: Sequence[str]) -> Evaluation:
    """Figures of the outcomes, with intervals of the normal approximation."""
    shown = outcomes.shown
    figures = _figures(outcomes, np.ones(len(outcomes), bool))
    if outcomes.background is not None:
        figures["rejection"] = _estimate((outcomes.predicted == outcomes.labels)[~shown])
        figures["false_rejection"] = _estimate((outcomes.predicted == outcomes.background)[shown])
    right, hit = (outcomes.predicted == outcomes.labels)[shown], (outcomes.ious >= 0.5)[shown]
    errors = {"right": right & hit, "class_wrong": ~right & hit, "box_wrong": right & ~hit,
              "both_wrong": ~right & ~hit}  # fmt: skip
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (outcomes.labels, outcomes.predicted), 1)
    scale = np.tile(outcomes.sizes[:, ::-1], 2)
    baselines = {}
    for name, box in (
        ("constant box", (0.2, 0.2, 0.8, 0.8)),
        ("centre box", (0.15,) * 2 + (0.85,) * 2),
    ):
        blind = replace(outcomes, boxes_pred_px=np.array(box) * scale)
        baselines[name] = {
            key: found
            for key, found in _figures(blind, shown).items()
            if key not in ("class_accuracy", "top1_loc")
        }
    sizes, positions = size_places(outcomes), position_places(outcomes)
    return Evaluation(
        images=len(outcomes),
        object_images=int(shown.sum()),
        class_names=names,
        figures=figures,
        baselines=baselines,
        errors={key: _estimate(values) for key, values in errors.items()},
        classes=[_group(outcomes, outcomes.labels == k, name) for k, name in enumerate(names)],
        sizes=[_group(outcomes, sizes == g, name) for g, name in enumerate(SIZE_NAMES)],
        positions=[_group(outcomes, positions == g, name)
                   for g, name in enumerate(POSITION_NAMES)],
        confusion=confusion,
        level=0.95,
        resamples=2000,
        seed=1,
    )  # fmt: skip


_THRESHOLDS = {"acc50": 0.5, "acc75": 0.75, "acc90": 0.9}


def _figures(outcomes: Outcomes, of: np.ndarray) -> dict[str, Estimate]:
    boxes = of & outcomes.shown
    ious, right = outcomes.ious[boxes], (outcomes.predicted == outcomes.labels)
    hit = outcomes.ious >= 0.5
    found = {"class_accuracy": _estimate(right[of]), "mean_iou": _estimate(ious)}
    median = float(np.median(ious)) if len(ious) else float("nan")
    found["median_iou"] = Estimate(median, median, median, len(ious))
    found |= {key: _estimate(ious >= threshold) for key, threshold in _THRESHOLDS.items()}
    found["top1_loc"] = _estimate((right & hit)[boxes])
    found["gt_known_loc"] = _estimate(hit[boxes])
    found["max_box_acc_v2"] = _estimate(np.mean([ious >= t for t in (0.3, 0.5, 0.7)], axis=0))
    found["corner_error_px"] = _estimate(outcomes.corner_errors_px[boxes])
    return found


def _group(outcomes: Outcomes, of: np.ndarray, name: str) -> Group:
    return Group(name, int(of.sum()), _figures(outcomes, of))


def _estimate(values: np.ndarray) -> Estimate:
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    mean, reach = float(np.mean(values)), 1.96 * float(np.std(values)) / len(values) ** 0.5
    most = max(1.0, float(np.max(values)))
    return Estimate(mean, max(mean - reach, 0.0), min(mean + reach, most), len(values))


def sample_trust(
    outcomes: Outcomes, classes: int, *, shifted: bool = False, seed: int = 2
) -> TrustFigures:
    """Statements that are about true; the second promise is broken where the images shifted."""
    random = np.random.default_rng(seed)
    count = len(outcomes)
    right, good = outcomes.predicted == outcomes.labels, outcomes.ious >= 0.5
    sure = good | (random.random(count) < 0.5)
    p_iou50 = np.clip(0.15 + 0.72 * sure + random.normal(0, 0.12, count), 0.01, 0.99)
    scale = np.tile(outcomes.sizes[:, ::-1], 2)
    margin = 0.04 * scale * np.array([-1, -1, 1, 1])
    outer = np.clip(outcomes.boxes_pred_px + margin, 0, scale)
    inner = outcomes.boxes_pred_px - 1.5 * margin
    inner[(inner[:, 2:] <= inner[:, :2]).any(axis=1)] = 0
    kept = _estimate(random.random(count) < (0.8 if shifted else 0.91))
    return TrustFigures(
        temperature=1.43,
        ece=(0.061, 0.014),
        nll=(0.412, 0.371),
        class_bins=(reliability_bins(np.clip(outcomes.confidences * 1.1, 0, 1), right),
                    reliability_bins(outcomes.confidences, right)),
        box_bins=reliability_bins(p_iou50, good),
        auroc_p_iou50=Estimate(0.913, 0.881, 0.942, count),
        auroc_confidence=Estimate(float("nan"), float("nan"), float("nan"), 0),
        guarantees=[
            Guarantee("label set", 0.9, _estimate(random.random(count) < 0.93), 1.31, 0.0),
            Guarantee("outer box", 0.9, kept, 0.274, 0.0, 0.001),
            Guarantee("inner box", 0.9, _estimate(random.random(count) < 0.9), 0.093, 0.062),
        ],
        shift=Shift(count, 1000, 3e-5 if shifted else 0.43, 0.01,
                    [ShiftTest("class confidence", 0.21 if shifted else 0.03,
                               3e-5 if shifted else 0.43),
                     ShiftTest("box size", 0.02, 0.9)]),
        probabilities=outcomes.probabilities,
        p_iou50=p_iou50,
        outer_px=outer,
        inner_px=inner,
        label_sets=np.eye(classes, dtype=bool)[outcomes.predicted],
    )  # fmt: skip


def drawn_picture(outcomes: Outcomes, row: int) -> np.ndarray:
    """A shape of the class's colour in its box, on a soft background; uint8 (H, W, 3)."""
    random = np.random.default_rng(row)
    height, width = (int(side) // 3 for side in outcomes.sizes[row])
    rough = random.integers(60, 200, (6, 8, 3)).astype(np.uint8)
    picture = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    x1, y1, x2, y2 = (float(side) / 3 for side in outcomes.boxes_px[row])
    colour = tuple(int(part) for part in random.integers(0, 255, 3))
    if x2 > x1:
        if outcomes.labels[row] % 2:
            draw.ellipse((x1, y1, x2, y2), fill=colour)
        else:
            draw.polygon([((x1 + x2) / 2, y1), (x2, y2), (x1, y2)], fill=colour)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1)))


def sample_page(
    images: int = 400,
    names: Sequence[str] = ("cat", "dog", "horse", "sheep", "cow"),
    *,
    trusted: bool = True,
    shifted: bool = False,
    background: int | None = None,
    suspects: int = 12,
    **other: Any,
) -> evaluation_content.EvaluationPage:
    """The whole input of a page."""
    outcomes = sample_outcomes(images, len(names), background=background)
    trust = sample_trust(outcomes, len(names), shifted=shifted) if trusted else None
    chances = None if trust is None else trust.p_iou50
    chosen = evaluation_content.choose_suspects(outcomes, chances, suspects)
    doubtful = [
        evaluation_content.Suspect(
            int(row),
            evaluation_content.suspect_words(outcomes, int(row), chances),
            [
                evaluation_content.NearDuplicate(
                    f"train/{row:05d}.jpg", drawn_picture(outcomes, int(row)), names[0]
                ),
                evaluation_content.NearDuplicate(f"train/{row + 1:05d}.jpg", None, names[-1]),
            ][: place % 3],
        )
        for place, row in enumerate(chosen)
    ]
    wanted = evaluation_content.wanted_pictures(outcomes, detection_scores(outcomes, trust), chosen)
    values: dict[str, Any] = {
        "title": "Animals of the farm",
        "run": "animals-resnet18",
        "split": "test",
        "facts": [("model", "ResNet18, best of epoch 41"), ("data", "animals, 400 test images"),
                  ("date", "2024-05-03 14:20")],
        "evaluation": sample_evaluation(outcomes, names),
        "outcomes": outcomes,
        "names": [f"images/test/{row:06d}.jpg" for row in range(images)],
        "pictures": {int(row): drawn_picture(outcomes, int(row)) for row in wanted},
        "trust": trust,
        "suspects": doubtful,
    }  # fmt: skip
    return evaluation_content.EvaluationPage(**{**values, **other})
