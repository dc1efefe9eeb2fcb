"""Outcomes made at random for the tests of the evaluation, with all that can be told apart."""

from dataclasses import replace

import numpy as np

from loc_keras.evaluation.outcomes import Outcomes


def random_outcomes(
    images: int = 300, classes: int = 8, background: int | None = None, seed: int = 0
) -> Outcomes:
    """Pictures of many sizes, boxes of all sizes, answers from right to far off, ties included."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(50, 900, (images, 2)).astype(np.int32)
    scale = np.tile(sizes[:, ::-1], 2).astype(np.float64)
    labels = rng.integers(0, classes, images).astype(np.int32)
    corners = np.sort(rng.random((images, 2, 2)), axis=1).reshape(images, 4)
    noise = rng.normal(0, rng.choice([0.005, 0.03, 0.2], (images, 1)), (images, 4))
    predicted = np.clip(corners + noise, 0, 1)
    predicted = np.concatenate(  # In order, as a localizer gives them.
        [np.minimum(predicted[:, :2], predicted[:, 2:]), np.maximum(*np.split(predicted, 2, 1))], 1
    )
    probabilities = rng.dirichlet(np.ones(classes), images)
    probabilities[np.arange(images), labels] += rng.choice([0, 0.5], images)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[::10] = 1 / classes  # A tie of all classes.
    boxes_px = corners * scale
    if background is not None:
        boxes_px[labels == background] = 0
    return Outcomes(
        labels=labels,
        probabilities=probabilities.astype(np.float32),
        boxes_px=boxes_px,
        boxes_pred_px=predicted * scale,
        sizes=sizes,
        background=background,
    )


def with_noise(outcomes: Outcomes, noise: float, seed: int) -> Outcomes:
    """The same truth, and answers moved by as much noise (boxes in parts of the picture)."""
    rng = np.random.default_rng(seed)
    scale = np.tile(outcomes.sizes[:, ::-1], 2)
    boxes = outcomes.boxes_pred_px + rng.normal(0, noise, (len(outcomes), 4)) * scale
    probabilities = outcomes.probabilities + rng.random(outcomes.probabilities.shape) * noise * 5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return replace(
        outcomes,
        boxes_pred_px=np.clip(boxes, 0, scale),
        probabilities=probabilities.astype(np.float32),
    )


def names_of(outcomes: Outcomes) -> list[str]:
    """A name for each image."""
    return [f"{index:05}.jpg" for index in range(len(outcomes))]
