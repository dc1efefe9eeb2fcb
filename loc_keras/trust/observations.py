"""The signals of a localizer that trust is built on, and its answers over a data set with them.

Beside class and box these are what the distribution over positions of each side says about the box,
pooled features, and, where it is asked for, the answer to the mirrored image.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import layers, ops

from loc_keras.boxes import Tensor, iou
from loc_keras.evaluation.outcomes import BOX_HIT, Outcomes
from loc_keras.models.heads import SIDES_LAYER
from loc_keras.trust.novelty import Novelty, novelty_outputs

if TYPE_CHECKING:
    import tensorflow as tf

    from loc_keras.data.dataset import SplitPictures
    from loc_keras.training.model import Answer

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of a side's position that stand for its distribution, each for a fifth of it."""

FEATURES_LAYER = "softmax_pool"
"""Name of the layer whose output is the pooled last feature map, (N, F), in every localizer."""


def observe(
    localizer: keras.Model,
    dataset: "Iterable[tuple[tf.Tensor, Mapping[str, tf.Tensor]]]",
    pictures: "SplitPictures | None" = None,
    *,
    flip: bool = False,
    background: int | None = None,
    folds: keras.Model | None = None,
    novelty: Novelty | None = None,
) -> Outcomes:
    """Asks for every image of a finite data set, with what trust is built on.

    Batches are (images, targets), images raw pixels (B, H, W, C), targets as for training;
    `pictures` are the same images, for boxes in px, `background` the index of that class. Outputs
    of the outcomes are `observed_outputs`, with novelty those of `novelty_of`, `bbox_true`, and
    `brightness` and `contrast`: mean and deviation of each image's pixels, float32 (N,), 0..255.
    """
    # Applying trust, as `predict` does, needs no data set.
    from loc_keras.training.model import collect_outcomes

    answer = observing(localizer, flip=flip, folds=folds, novelty=novelty)
    return collect_outcomes(answer, dataset, pictures, background)


def observing(
    localizer: keras.Model,
    *,
    flip: bool = False,
    folds: keras.Model | None = None,
    novelty: Novelty | None = None,
) -> "Answer":
    """A function that gives the outputs of `observe`, traced once, for many data sets."""
    # The layers below are registered by `import loc_keras`, under any backend of Keras.
    import tensorflow as tf

    outputs = observed_outputs(localizer, flip=flip, folds=folds)
    if novelty is not None:
        outputs |= novelty_outputs(localizer, novelty)
    model = keras.Model(localizer.inputs[0], outputs)
    spec = tf.TensorSpec((None, *localizer.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[spec])
    def answer(images: "tf.Tensor") -> "dict[str, tf.Tensor]":
        mean, variance = tf.nn.moments(images, axes=[1, 2, 3])
        return {**model(images, training=False), "brightness": mean, "contrast": tf.sqrt(variance)}

    return answer


def observer(
    localizer: keras.Model, *, flip: bool = False, folds: keras.Model | None = None
) -> keras.Model:
    """The model of `observed_outputs`; it shares all weights with the localizer."""
    return keras.Model(localizer.inputs[0], observed_outputs(localizer, flip=flip, folds=folds))


def observed_outputs(
    localizer: keras.Model, *, flip: bool = False, folds: keras.Model | None = None
) -> dict[str, Tensor]:
    """The tensors of a localizer that trust is built on.

    With `flip` it also looks at the mirrored image, which takes twice the time; outputs of `folds`,
    by `fold_ensemble`, are added.

    Returns:
        `softmax` (N, K), `bbox` (N, 4), `features` (N, F); of a distribution head also `spread` (N,
            4), `mean_iou` (N,) and `chance50` (N,), see `SideStatistics`; with `flip` also
            `softmax_mirrored` (N, K) and `bbox_mirrored` (N, 4), turned back.
    """
    outputs = {name: localizer.output[name] for name in ("softmax", "bbox")}
    outputs["features"] = localizer.get_layer(FEATURES_LAYER).output
    if SIDES_LAYER in {layer.name for layer in localizer.layers}:
        logits = localizer.get_layer(SIDES_LAYER).output
        outputs |= SideStatistics(name="trust_sides", dtype="float32")(outputs["bbox"], logits)
    if flip:
        mirrored = localizer(Mirror(name="trust_mirror", dtype="float32")(localizer.inputs[0]))
        outputs["softmax_mirrored"] = mirrored["softmax"]
        turned = MirrorBox(name="trust_mirror_box", dtype="float32")
        outputs["bbox_mirrored"] = turned(mirrored["bbox"])
    if folds is not None:
        outputs |= folds(localizer.inputs[0])
    return outputs


def side_spread(logits: Tensor) -> Tensor:
    """Standard deviation of each side's position, float32 (N, 4), in fractions of the image side.

    Of logits float32 (N, 4, B), bin k stands for the fraction k / (B - 1) of the image side.
    """
    shares = ops.softmax(logits, axis=-1)
    positions = ops.cast(np.linspace(0.0, 1.0, logits.shape[-1]), logits.dtype)
    mean = ops.sum(shares * positions, axis=-1, keepdims=True)
    return ops.sqrt(ops.sum(shares * ops.square(positions - mean), axis=-1))


def side_quantiles(logits: Tensor) -> Tensor:
    """Positions below which each side lies with the probabilities `QUANTILES`, by logits (N, 4, B).

    Float32 (N, 4, Q), in fractions of the image side, rising along the last axis. Within a bin the
    distribution is taken as even, so that positions move smoothly with the logits.
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
    """How well boxes (N, 4) would do if their sides were drawn from the logits' distributions.

    The four sides are taken as independent; of each, `QUANTILES` are tried with each other. Gives
    the mean IoU and the share of draws with an IoU of at least .5, both float32 (N,).
    """
    sides = side_quantiles(logits)
    count = len(QUANTILES)
    places = np.stack(np.meshgrid(*[np.arange(count)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    drawn = ops.stack([ops.take(sides[:, s], places[:, s], axis=-1) for s in range(4)], axis=-1)
    low, high = drawn[..., :2], drawn[..., 2:]
    drawn = ops.concatenate([ops.minimum(low, high), ops.maximum(low, high)], axis=-1)
    overlap = iou(drawn, ops.broadcast_to(boxes[:, None], ops.shape(drawn)))
    # A soft threshold: a hard one of so few draws would jump.
    good = ops.sigmoid((overlap - BOX_HIT) / 0.05)
    return ops.mean(overlap, axis=-1), ops.mean(good, axis=-1)


@keras.saving.register_keras_serializable(package="loc_keras")
class SideStatistics(layers.Layer):
    """The statistics of this module of a box (N, 4) and the logits of its sides (N, 4, B)."""

    def call(self, boxes: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Gives `spread` (N, 4), `mean_iou` (N,) and `chance50` (N,)."""
        mean_iou, chance = iou_under_distribution(boxes, logits)
        return {"spread": side_spread(logits), "mean_iou": mean_iou, "chance50": chance}


@keras.saving.register_keras_serializable(package="loc_keras")
class Mirror(layers.Layer):
    """Mirrors images (N, H, W, C) left to right."""

    def call(self, images: Tensor) -> Tensor:
        """Turns the columns round."""
        return ops.flip(images, axis=2)


@keras.saving.register_keras_serializable(package="loc_keras")
class MirrorBox(layers.Layer):
    """Boxes (N, 4) of mirrored images as boxes of the images themselves."""

    def call(self, boxes: Tensor) -> Tensor:
        """Exchanges left and right."""
        x1, y1, x2, y2 = ops.unstack(boxes, 4, axis=-1)
        return ops.stack([1 - x2, y1, 1 - x1, y2], axis=-1)
