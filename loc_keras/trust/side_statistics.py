"""What the distribution over positions of each side says about a box."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from loc_keras.boxes import iou

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of a side's position that stand for its distribution, each for a fifth of it."""

GOOD_IOU = 0.5


def side_spread(logits: Tensor) -> Tensor:
    """Standard deviation of each side's position under its distribution.

    Args:
        logits: float32 (N, 4, B), bin k stands for the fraction k / (B - 1) of the image side.

    Returns:
        float32 (N, 4), in fractions of the image side.
    """
    shares = ops.softmax(logits, axis=-1)
    positions = _positions(logits)
    mean = ops.sum(shares * positions, axis=-1, keepdims=True)
    return ops.sqrt(ops.sum(shares * ops.square(positions - mean), axis=-1))


def side_quantiles(logits: Tensor) -> Tensor:
    """Positions below which each side lies with the probabilities `QUANTILES`.

    Within a bin the distribution is taken as even, so that positions move smoothly with the logits.

    Args:
        logits: float32 (N, 4, B).

    Returns:
        float32 (N, 4, Q), in fractions of the image side, rising along the last axis.
    """
    bins = logits.shape[-1]
    shares = ops.softmax(logits, axis=-1)
    upto = ops.cumsum(shares, axis=-1)
    wanted = ops.cast(np.asarray(QUANTILES)[:, None], logits.dtype)
    # The part of each bin that lies below the quantile; all of it, none, or a share of one bin.
    before = (upto - shares)[..., None, :]
    part = (wanted - before) / ops.maximum(shares[..., None, :], 1e-12)
    filled = ops.sum(ops.clip(part, 0.0, 1.0), axis=-1)
    # Bin k covers k - 1/2 to k + 1/2 in steps.
    return ops.clip((filled - 0.5) / (bins - 1), 0.0, 1.0)


def iou_under_distribution(boxes: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """How well a box would do if its sides were drawn from their distributions.

    The four sides are taken as independent; of each, `QUANTILES` are tried with each other.

    Args:
        boxes: float32 (N, 4), the answers.
        logits: float32 (N, 4, B).

    Returns:
        Mean IoU and the share of draws with an IoU of at least .5, both float32 (N,).
    """
    sides = side_quantiles(logits)
    count = len(QUANTILES)
    places = np.stack(np.meshgrid(*[np.arange(count)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    drawn = ops.stack([ops.take(sides[:, s], places[:, s], axis=-1) for s in range(4)], axis=-1)
    drawn = ops.concatenate(
        [
            ops.minimum(drawn[..., :2], drawn[..., 2:]),
            ops.maximum(drawn[..., :2], drawn[..., 2:]),
        ],
        axis=-1,
    )
    overlap = iou(drawn, ops.broadcast_to(boxes[:, None], ops.shape(drawn)))
    # A soft threshold: a hard one of so few draws would jump.
    good = ops.sigmoid((overlap - GOOD_IOU) / 0.05)
    return ops.mean(overlap, axis=-1), ops.mean(good, axis=-1)


@keras.saving.register_keras_serializable(package="loc_keras")
class SideStatistics(layers.Layer):
    """The statistics of this module of a box (N, 4) and the logits of its sides (N, 4, B)."""

    def call(self, boxes: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Gives `spread` (N, 4), `mean_iou` (N,) and `chance50` (N,)."""
        mean_iou, chance = iou_under_distribution(boxes, logits)
        return {"spread": side_spread(logits), "mean_iou": mean_iou, "chance50": chance}

    def compute_output_shape(
        self, boxes_shape: tuple[int | None, ...], logits_shape: tuple[int | None, ...]
    ) -> dict[str, tuple[int | None, ...]]:
        """Gives the shapes."""
        del logits_shape
        batch = boxes_shape[0]
        return {"spread": (batch, 4), "mean_iou": (batch,), "chance50": (batch,)}


def _positions(logits: Tensor) -> Tensor:
    return ops.cast(np.linspace(0.0, 1.0, logits.shape[-1]), logits.dtype)
