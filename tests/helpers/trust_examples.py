"""Trust figures made up for outcomes, for the tests of what is written about them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.evaluation.outcomes import Estimate, Outcomes
from loc_keras.evaluation.reliability import (
    Guarantee,
    Shift,
    ShiftTest,
    TrustFigures,
    reliability_bins,
)
from loc_keras.training.model import outcomes_from


def write_noise(root: Path, sides: tuple[int, int], row: Callable[[int], str], rest: str) -> None:
    """40 pictures of noise (height, width), a CSV row for each, a config that ends in `rest`."""
    (root / "images").mkdir()
    lines = []
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 255, (*sides, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        lines.append(f"{number}.png,{row(number)}")
    (root / "all.csv").write_text("\n".join(lines) + "\n")
    (root / "config.yaml").write_text(f"""
data:
  source:
    format: csv
    path: "{root}"
    csv: {{splits: {{train: {{csv: all.csv, images: images}}, val: null, test: null}}}}
{rest}""")


def trust_of(outcomes: Outcomes) -> TrustFigures:
    """Values of the right kinds and shapes; the second inner box and the third set are empty."""
    images = len(outcomes)
    probabilities = outcomes.probabilities**0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    inner = outcomes.boxes_pred_px.copy()
    inner[1] = 0
    label_sets = probabilities > 0.1
    label_sets[2] = False
    kept = Estimate(0.91, 0.88, 0.94, images)
    bins = reliability_bins(outcomes.confidences, outcomes.class_hits, 5)
    return TrustFigures(
        temperature=1.5,
        ece=(0.2, 0.1),
        nll=(1.2, 1.1),
        class_bins=(bins, bins),
        box_bins=bins,
        auroc_p_iou50=Estimate(float("nan"), float("nan"), float("nan"), images),
        auroc_confidence=Estimate(0.7, 0.6, 0.8, images),
        guarantees=[Guarantee("label set", 0.9, kept, 1.7, 0.01)],
        shift=Shift(images, 100, 0.004, 0.01, [ShiftTest("class confidence", 0.3, 0.004)]),
        probabilities=probabilities,
        p_iou50=np.linspace(0, 1, images),
        outer_px=outcomes.boxes_pred_px + 1,
        inner_px=inner,
        label_sets=label_sets,
    )


CLASSES = ["cat", "dog", "owl"]


def seen_by(rng: np.random.Generator, images: int = 120) -> Outcomes:
    """Answers of a made-up model that is right about its own doubt."""
    logits = rng.normal(0, 1.5, (images, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in softmax])
    low = rng.uniform(0.1, 0.4, (images, 2))
    true = np.concatenate([low, low + rng.uniform(0.2, 0.4, (images, 2))], axis=1)
    spread = rng.gamma(2, 0.03, (images, 1)) * np.ones((1, 4))
    pred = np.clip(true + rng.normal(0, 1, (images, 4)) * spread, 0, 1)
    pred = np.concatenate(
        [np.minimum(pred[:, :2], pred[:, 2:]), np.maximum(pred[:, :2], pred[:, 2:])], 1
    )
    sure = np.exp(-8 * spread[:, 0])
    outputs = {
        "softmax": softmax,
        "bbox": pred,
        "spread": spread,
        "mean_iou": sure,
        "chance50": sure,
        "features": rng.normal(0, 1, (images, 6)),
        "bbox_true": true,
    }
    columns = {name: value.astype(np.float32) for name, value in outputs.items()}
    columns |= {"brightness": rng.normal(100, 9, images), "contrast": rng.normal(40, 4, images)}
    return outcomes_from(labels, columns)
