"""How much a picture is like those that a model was trained on: a p-value with every answer.

Photographs of one source are alike in how light and dark, detail and plain ground are spread over
them, at every scale; noise, drawings, flat colours and photographs of another source differ. So a
picture is described by statistics of its Haar wavelet coefficients, as Lyu and Farid (2005) tell
photographs from rendered pictures, and compared by its Mahalanobis distance from the training
images (Lee et al. 2018). They are taken of the pixels that the model is given, inside the exported
graph: what training has learned has no part in them, so that training images are no more familiar
than new ones, and all heads, precisions and quantizations say the same.

The distance becomes a conformal p-value (Vovk et al. 2005; Bates et al. 2023): the share of images,
with the picture itself, that are at least as far away. Where no image is held back for this, the
training images are cut into folds, and each is compared with the others, as a new picture is
(cross-conformal, Vovk 2015; Barber et al. 2021). Below 1 / (n + 1) p-values go on falling at the
rate at which the largest of n distances thin out (Hill 1975).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops
from pydantic import Field, TypeAdapter

from loc_keras.boxes import Tensor
from loc_keras.training.run_folder import read_fitted, write_fitted
from loc_keras.trust.shift import rounded

STATED = ("novelty", "known")  # Names of the outputs that this module adds.
COMPARED = 5  # Of the training images, where no image is held back.
RAMP = 0.01  # Length of the ramps of `p_values`, in distances: a hundredth of a squared distance.

MOST_TRAINING, MOST_KEPT = 4096, 1000
"""Images that distances are fitted to, and distances that are kept for p-values, at most."""

VERSION = 2

_RIDGE = 0.01  # Part of the variance of each statistic that is its own alone.
_MOST_LEVELS, _LEAST_SIDE = 5, 8
_PLAIN = 2 / 255  # Coefficients below count as plain ground, the less the larger they are.
_LEAST_DETAIL, _LEAST_DEVIATION = 1e-3, 1e-2  # Before logarithms.
_TINY = 1e-6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """What pictures are compared with, and the distances of images that it was not fitted to.

    The mean is of each statistic, (F,); `factor` has the rows of the lower triangle of the Cholesky
    factor of the inverse covariance; distances rise.
    """

    mean: list[float]
    factor: list[list[float]]
    distances: Annotated[list[float], Field(min_length=1)]


@dataclass(frozen=True)
class Novelty:
    """What was fitted; n distances in all.

    The split gave the distances, training images the rest. Pictures with a p-value below `level`
    are not known; there is one fold where images were held back; `tail` is the mean by which
    distances beyond the largest exceed it.
    """

    version: int
    model_sha256: str
    split: str
    training_images: int
    level: Annotated[float, Field(ge=0, le=1)]
    folds: Annotated[list[Fold], Field(min_length=1)]
    tail: Annotated[float, Field(gt=0)]


_ADAPTER: TypeAdapter[Novelty] = TypeAdapter(Novelty)


def write_novelty(path: Path, novelty: Novelty) -> None:
    """Writes the file whole or not at all."""
    write_fitted(path, novelty, _ADAPTER, indent=None)


def read_novelty(path: Path, model_path: Path) -> Novelty | None:
    """Reads the file beside a model, as `read_fitted`."""
    return read_fitted(path, model_path, _ADAPTER, VERSION, lambda found: found.model_sha256)


def fit_novelty(
    training: npt.ArrayLike,
    others: npt.ArrayLike | None = None,
    *,
    folds: Sequence[npt.NDArray[np.integer]] = (),
    level: float,
    split: str,
    model_sha256: str,
) -> Novelty:
    """Fits distances to training images, and p-values to others or to each fold of them.

    `training`, float (M, F), are `statistics` of training images, `others`, float (n, F), those of
    images that were held back, None where there are folds, at least two, as rows of the former. For
    the rest see `Novelty`.
    """
    features = np.asarray(training, np.float64)
    parts = [(features, np.asarray(others, np.float64))] if others is not None else []
    parts += [(np.delete(features, rows, axis=0), features[rows]) for rows in folds]
    fitted = [_fitted(*part) for part in parts]
    found = np.sort(np.concatenate([fold.distances for fold in fitted]))
    most = max(1, round(0.2 * len(found)))
    beyond = found[-most:] - found[-most - 1] if len(found) > most else np.ones(1)
    tail = max(float(beyond.mean()), 0.01)
    return Novelty(VERSION, model_sha256, split, len(features), level, fitted, tail)


def _fitted(training: Floats, others: Floats) -> Fold:
    """The distance from training images (M, F), and those of others (n, F)."""
    mean, scale = training.mean(axis=0), training.std(axis=0)
    # A statistic that never moved among the training images must not divide by nothing.
    scale = np.maximum(scale, max(_TINY, 1e-3 * float(scale.mean())))
    standard = (training - mean) / scale
    covariance = standard.T @ standard / len(standard)
    covariance += _RIDGE * (np.eye(len(mean)) - covariance)
    factor = np.linalg.cholesky(np.linalg.inv(covariance)) / scale[:, None]
    rows = [rounded(row[: number + 1]) for number, row in enumerate(factor)]
    form = Fold(rounded(mean), rows, [0.0])
    if len(others) > MOST_KEPT:  # Drawn, since images may stand in the order of their classes.
        others = np.random.default_rng(0).permutation(others)[:MOST_KEPT]
    found = np.asarray(distance(ops.cast(others, "float32"), form), np.float64)
    return Fold(form.mean, rows, rounded(np.sort(found)))


def statistics(images: Tensor) -> Tensor:
    """What pictures, raw pixels 0..255 (N, H, W, C), are compared by, float32 (N, F).

    Of each channel mean and deviation; and, of lightness and of the differences of neighbouring
    channels, at up to five scales and for each of the three Haar wavelets, the mean size of the
    coefficients and the share of those near nothing.
    """
    pixels = ops.cast(images, "float32") / 255.0
    spread = ops.log(ops.std(pixels, axis=(1, 2)) + _LEAST_DEVIATION)
    found = [ops.mean(pixels, axis=(1, 2)), spread]
    rest = ops.mean(pixels, axis=-1, keepdims=True)
    if pixels.shape[-1] > 1:  # Converters do not take empty tensors.
        rest = ops.concatenate([rest, pixels[..., :-1] - pixels[..., 1:]], axis=-1)
    for _ in range(_MOST_LEVELS):
        height, width = rest.shape[1] // 2 * 2, rest.shape[2] // 2 * 2
        if min(height, width) < _LEAST_SIDE:
            break
        a, b = rest[:, 0:height:2, 0:width:2], rest[:, 0:height:2, 1:width:2]
        c, d = rest[:, 1:height:2, 0:width:2], rest[:, 1:height:2, 1:width:2]
        for wavelet in (a - b + c - d, a + b - c - d, a - b - c + d):
            size = ops.abs(wavelet) / 2.0
            plain = ops.maximum(1.0 - size / _PLAIN, 0.0)
            detail = ops.log(ops.mean(size, axis=(1, 2)) + _LEAST_DETAIL)
            found += [detail, ops.mean(plain, axis=(1, 2))]
        rest = (a + b + c + d) / 4.0
    return ops.concatenate(found, axis=-1)


def distance(features: Tensor, fold: Fold) -> Tensor:
    """Logarithm of the squared Mahalanobis distance, float32 (N,), of `statistics` (N, F)."""
    count = len(fold.mean)
    factor = np.array([row + [0.0] * (count - len(row)) for row in fold.factor], np.float32)
    along = ops.matmul(features - np.array(fold.mean, np.float32), factor)
    return ops.log(ops.maximum(ops.sum(ops.square(along), axis=-1), _TINY))


def p_values(distances: Tensor, novelty: Novelty) -> Tensor:
    """Probability of a picture as far away, or farther, float32 (N,) in [0, 1].

    Behind each of the distances that are known it falls along a short ramp: so it is never below
    the conformal p-value within their range, and rounding does not make it jump. `distances` are
    from each fold, float32 (N, K).
    """
    passed, count, farthest = 0.0, 1, -np.inf
    for number, fold in enumerate(novelty.folds):
        known = np.array(fold.distances, np.float32)
        ramps = ops.clip((distances[:, number : number + 1] - known) / RAMP, 0.0, 1.0)
        passed = passed + ops.sum(ramps, axis=-1)
        count, farthest = count + len(known), max(farthest, known[-1])
    # A picture is beyond all only where each fold says so.
    beyond = ops.maximum(ops.min(distances, axis=-1) - float(farthest) - RAMP, 0.0) / novelty.tail
    return (count - passed) / count * ops.exp(-beyond)


def novelty_of(features: Tensor, novelty: Novelty) -> dict[str, Tensor]:
    """`novelty` float32 (N,), the p-value, and `known` bool (N,), of `statistics` (N, F)."""
    features = ops.cast(features, "float32")
    distances = ops.stack([distance(features, fold) for fold in novelty.folds], axis=-1)
    found = p_values(distances, novelty)
    return {"novelty": found, "known": found >= novelty.level}


@keras.saving.register_keras_serializable(package="loc_keras")
class StatedNovelty(layers.Layer):
    """Says of images, raw pixels (N, H, W, C), how much they are like the training images.

    `novelty` may be in the form of JSON.
    """

    def __init__(self, novelty: Novelty | dict[str, Any], **kwargs: Any) -> None:
        """Stores what was fitted; see the class."""
        super().__init__(autocast=False, **kwargs)
        if not isinstance(novelty, Novelty):
            novelty = _ADAPTER.validate_python(novelty)
        self.novelty: Novelty = novelty

    def call(self, images: Tensor) -> dict[str, Tensor]:
        """Gives `novelty_of`."""
        return novelty_of(statistics(images), self.novelty)

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "novelty": _ADAPTER.dump_python(self.novelty, mode="json")}


def with_novelty(model: keras.Model, novelty: Novelty | None) -> keras.Model:
    """A localizer that also gives `STATED`, sharing all weights; as it is where novelty is None."""
    if novelty is None:
        return model
    outputs = {**model.output, **novelty_outputs(model, novelty)}
    return keras.Model(model.inputs[0], outputs, name=model.name)


def novelty_outputs(localizer: keras.Model, novelty: Novelty) -> dict[str, Tensor]:
    """The tensors of `novelty_of` for a localizer's images."""
    layer = StatedNovelty(novelty, name="novelty", dtype="float32")
    return dict(layer(localizer.inputs[0]))


def statistics_over(batches: Iterable[Any]) -> Floats:
    """`statistics` of raw pixels (B, H, W, C), first in each of some batches, float64 (N, F)."""
    parts = [np.asarray(statistics(ops.convert_to_tensor(images))) for images, *_ in batches]
    return np.concatenate(parts).astype(np.float64)
