"""How much a picture is like those that a model was trained on: a p-value with every answer.

A model answers about any pixels. What it makes of unusual ones shows in its feature maps: the mean
of each channel of every map that the heads read, under a signed square root since such means are
skewed, is one vector for a picture, and its Mahalanobis distance from the training images (Lee et
al. 2018) is measured in their principal directions, all others sharing one variance (Tipping and
Bishop 1999, equation 7; the residual of Wang et al. 2022). A channel counts the less, the more
there are in its map: else the last maps, which are wide and fitted to the training images, would
count for nearly all.

The distance becomes a p-value by images that it was not fitted to: a conformal one (Vovk et al.
2005; Bates et al. 2023), the share of them, with the picture itself, at least as far away. So of
pictures drawn as these images were, at most a share `a` has a p-value of `a` or less, for each `a`
of 1 / (n + 1) or more. Fewer images than that takes give no such promise: beyond the farthest of
them p-values go on falling at the rate at which the largest distances thin out (Hill 1975).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops
from pydantic import Field, TypeAdapter

from loc_keras.boxes import Tensor
from loc_keras.errors import TrustError
from loc_keras.trust.fitted_file import read_fitted, write_fitted
from loc_keras.trust.shift import rounded

STATED = ("novelty", "known")
"""Names of the outputs that this module adds."""

DIRECTIONS = 64
"""Principal directions that have a variance of their own, at most."""

RAMP = 0.01
"""Length of the ramps of `p_values`, in distances: a hundredth of a squared distance."""

MOST_TRAINING, MOST_KEPT = 4096, 1000
"""Images that the distance is fitted to, and distances that are kept for p-values, at most."""

VERSION = 1

_HEADS = ("bbox", "softmax")
_TAIL_SHARE = 0.2
_LEAST_TAIL = 0.01
_TINY = 1e-6
_MAP_RANK = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Novelty:
    """What pictures are compared with; F features, K directions, n distances.

    Attributes:
        version: Of its form.
        model_sha256: Of the model's file.
        split: Whose images gave the distances.
        training_images: To which the rest was fitted.
        level: Pictures with a p-value below are not known.
        mean: Of the signed root of each feature, (F,).
        scale: Its standard deviation, times the channels of its map over those of the narrowest.
        directions: Orthonormal, of the standardised roots, (K, F).
        variances: Along each of them, (K,).
        rest: Variance along every other direction.
        distances: Of images that it was not fitted to, in rising order, (n,).
        tail: Mean by which distances beyond the largest exceed it.
    """

    version: int
    model_sha256: str
    split: str
    training_images: int
    level: Annotated[float, Field(ge=0, le=1)]
    mean: list[float]
    scale: list[float]
    directions: list[list[float]]
    variances: list[float]
    rest: Annotated[float, Field(gt=0)]
    distances: Annotated[list[float], Field(min_length=1)]
    tail: Annotated[float, Field(gt=0)]


_ADAPTER: TypeAdapter[Novelty] = TypeAdapter(Novelty)


def write_novelty(path: Path, novelty: Novelty) -> None:
    """Writes the file whole or not at all."""
    write_fitted(path, novelty, _ADAPTER, indent=None)


def read_novelty(path: Path, model_path: Path) -> Novelty | None:
    """Reads the file that stands beside a model; None where there is none.

    Raises:
        TrustError: If it is damaged, of another version, or of another model.
    """
    return read_fitted(path, model_path, _ADAPTER, VERSION, lambda found: found.model_sha256)


def fit_novelty(
    training: npt.ArrayLike,
    others: npt.ArrayLike,
    *,
    widths: Sequence[int] | None = None,
    level: float,
    split: str,
    model_sha256: str,
) -> Novelty:
    """Fits the distance to training images and p-values to others.

    Args:
        training: Features of training images, float (M, F).
        others: Of images that were not trained on, float (n, F), at least one.
        widths: Channels of each map, which add up to F; None for one map.
        level: See `Novelty`, as the following.
        split: Whose images the others are.
        model_sha256: Of the model's file.

    Raises:
        TrustError: If a feature is not finite.
    """
    features = np.asarray(_signed_roots(ops.cast(training, "float32")), np.float64)
    if not (np.isfinite(features).all() and np.isfinite(others).all()):
        raise TrustError(
            "novelty cannot be fitted, since feature maps of the model are not finite; train anew, "
            "with train.precision: float32 if it was another."
        )
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # A channel that never moved among the training images must not divide by nothing.
    scale = np.maximum(scale, max(_TINY, 1e-3 * float(scale.mean())))
    if widths is not None:
        scale *= np.repeat(widths, widths) / min(widths)
    variances, directions = np.linalg.eigh(np.cov((features - mean) / scale, rowvar=False, ddof=0))
    kept = max(1, min(DIRECTIONS, len(features) // 2, len(mean) - 1))
    rest = float(variances[: len(mean) - kept].sum()) / max(1, len(mean) - kept)
    form = Novelty(
        version=VERSION,
        model_sha256=model_sha256,
        split=split,
        training_images=len(features),
        level=level,
        mean=rounded(mean),
        scale=rounded(scale),
        directions=[rounded(row) for row in directions.T[::-1][:kept]],
        variances=rounded(np.maximum(variances[::-1][:kept], _TINY)),
        rest=max(rest, _TINY),
        distances=[0.0],
        tail=1.0,
    )
    found = np.asarray(distance(ops.cast(others, "float32"), form), np.float64)
    if len(found) > MOST_KEPT:  # Drawn, since images may stand in the order of their classes.
        found = np.random.default_rng(0).choice(found, MOST_KEPT, replace=False)
    found = np.sort(found)
    most = max(1, round(_TAIL_SHARE * len(found)))
    beyond = found[-most:] - found[-most - 1] if len(found) > most else np.ones(1)
    return replace(form, distances=rounded(found), tail=max(float(beyond.mean()), _LEAST_TAIL))


def pooled_maps(localizer: keras.Model) -> Tensor:
    """Mean of each channel of every map that the heads of a localizer read, float32 (N, F)."""
    pooled = [layers.GlobalAveragePooling2D(dtype="float32")(one) for one in read_maps(localizer)]
    return layers.Concatenate(dtype="float32")(pooled) if len(pooled) > 1 else pooled[0]


def read_maps(localizer: keras.Model) -> list[Tensor]:
    """The feature maps (N, H, W, C) that the heads of a localizer read, each once."""
    heads = [layer for layer in localizer.layers if layer.name.startswith(_HEADS)]
    made = {id(tensor) for layer in heads for tensor in keras.tree.flatten(layer.output)}
    read = {
        id(tensor): tensor
        for layer in heads
        for tensor in keras.tree.flatten(layer.input)
        if len(tensor.shape) == _MAP_RANK and id(tensor) not in made
    }
    return list(read.values())


def distance(features: Tensor, novelty: Novelty) -> Tensor:
    """Logarithm of the squared Mahalanobis distance from the training images, float32 (N,).

    Args:
        features: float32 (N, F).
        novelty: The rest of it.
    """
    mean, scale, directions, variances = (
        ops.convert_to_tensor(np.array(one, np.float32))
        for one in (novelty.mean, novelty.scale, novelty.directions, novelty.variances)
    )
    standard = (_signed_roots(features) - mean) / scale
    along = ops.matmul(standard, ops.transpose(directions))
    rest = ops.sum(ops.square(standard), -1) - ops.sum(ops.square(along), -1)
    squared = ops.sum(ops.square(along) / variances, -1) + ops.maximum(rest, 0.0) / novelty.rest
    return ops.log(ops.maximum(squared, _TINY))


def p_values(distances: Tensor, novelty: Novelty) -> Tensor:
    """Probability of a picture as far away, or farther, float32 (N,) in [0, 1].

    Behind each of the distances that are known it falls along a short ramp: so it is never below
    the conformal p-value within their range, and rounding does not make it jump.

    Args:
        distances: float32 (N,).
        novelty: The rest of it.
    """
    known = np.array(novelty.distances, np.float32)
    ramps = np.clip(np.diff(known, append=np.inf), _TINY, RAMP).astype(np.float32)
    passed = ops.clip((distances[:, None] - known) / ramps, 0.0, 1.0)
    count = len(known) + 1.0
    beyond = ops.maximum(distances - known[-1] - RAMP, 0.0) / novelty.tail
    return (count - ops.sum(passed, -1)) / count * ops.exp(-beyond)


def novelty_of(features: Tensor, novelty: Novelty) -> dict[str, Tensor]:
    """`novelty` float32 (N,), the p-value, and `known` bool (N,), of features (N, F)."""
    found = p_values(distance(ops.cast(features, "float32"), novelty), novelty)
    return {"novelty": found, "known": found >= novelty.level}


@keras.saving.register_keras_serializable(package="loc_keras")
class StatedNovelty(layers.Layer):
    """Says of pooled features float32 (N, F) how much their pictures are like the training images.

    Args:
        novelty: What was fitted, or its form in JSON.
    """

    def __init__(self, novelty: Novelty | dict[str, Any], **kwargs: Any) -> None:
        """Stores what was fitted; see the class."""
        super().__init__(autocast=False, **kwargs)
        if not isinstance(novelty, Novelty):
            novelty = _ADAPTER.validate_python(novelty)
        self.novelty: Novelty = novelty

    def call(self, features: Tensor) -> dict[str, Tensor]:
        """Gives `novelty_of`."""
        return novelty_of(features, self.novelty)

    def compute_output_spec(self, features: Tensor) -> dict[str, Tensor]:
        """Gives shapes and dtypes."""
        batch = features.shape[:1]
        forms = zip(STATED, ("float32", "bool"), strict=True)
        return {name: keras.KerasTensor(batch, dtype) for name, dtype in forms}

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "novelty": _ADAPTER.dump_python(self.novelty, mode="json")}


def with_novelty(model: keras.Model, novelty: Novelty | None) -> keras.Model:
    """A localizer, perhaps with the outputs of trust, that also gives `STATED`.

    Args:
        model: It shares all its weights with the result.
        novelty: What was fitted; None leaves the model as it is.
    """
    if novelty is None:
        return model
    outputs = {**model.output, **novelty_outputs(model, novelty)}
    return keras.Model(model.inputs[0], outputs, name=model.name)


def novelty_outputs(localizer: keras.Model, novelty: Novelty) -> dict[str, Tensor]:
    """The tensors of `novelty_of` for a localizer's images."""
    layer = StatedNovelty(novelty, name="novelty", dtype="float32")
    outputs: dict[str, Tensor] = layer(pooled_maps(localizer))
    return outputs


def features_over(
    localizer: keras.Model, batches: Iterable[Any], most: int | None = None
) -> Floats:
    """Pooled maps of the images of some batches (images, ...), float64 (N, F).

    Args:
        localizer: The model.
        batches: Images raw pixels (B, H, W, C).
        most: Only the first ones, so many; None: all of finitely many.
    """
    # As for `observe`: answering needs no data set.
    from loc_keras.training.measure import answer_function

    answer = answer_function(keras.Model(localizer.inputs[0], pooled_maps(localizer)))
    parts: list[npt.NDArray[np.floating]] = []
    for images, *_ in batches:
        parts.append(np.asarray(answer(ops.cast(images, "float32"))))
        if most is not None and sum(map(len, parts)) >= most:
            break
    return np.concatenate(parts)[:most].astype(np.float64)


def _signed_roots(features: Tensor) -> Tensor:
    return ops.sign(features) * ops.sqrt(ops.abs(features))
