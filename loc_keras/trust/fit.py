"""Fits all of trust on the observations of a calibration split."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from keras import ops
from scipy.stats import betabinom

from loc_keras.config.schema import TrustConfig
from loc_keras.errors import TrustError
from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.outcomes import BOX_HIT, Outcomes, paired_iou
from loc_keras.evaluation.reliability import (
    Guarantee,
    TrustFigures,
    auroc_difference,
    auroc_estimate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)
from loc_keras.trust.confidence import PRIOR, box_signals, fit_box_confidence, fit_temperature
from loc_keras.trust.conformal import (
    K_REG,
    PENALTY,
    BoxMargins,
    Scaling,
    areas,
    conformal_rank,
    fit_boxes,
    fit_label_sets,
    is_empty,
    within,
)
from loc_keras.trust.shift import measure_shift
from loc_keras.trust.statements import Statements, Trust, stated

PER_CLASS_WITH_BACKGROUND = (
    "margins for each class (trust.per_class) cannot be fitted beside a class of images without an "
    "object; set trust.per_class to false."
)


def fit_statements(seen: Outcomes, options: TrustConfig, class_names: Sequence[str]) -> Statements:
    """Fits what is said of answers.

    Args:
        seen: Of images that the model was not trained on and no choice was made by.
        options: What is asked for.
        class_names: Name of each class, by index.

    Raises:
        TrustError: If the images are too few, or do not serve what is asked for.
    """
    probabilities = np.asarray(seen.outputs["softmax"], np.float64)
    penalty = PENALTY if options.label_sets == "raps" else 0.0
    return Statements(
        temperature=fit_temperature(probabilities, seen.labels),
        label_sets=fit_label_sets(probabilities, seen.labels, options.coverage, penalty, K_REG),
        box_confidence=fit_box_confidence(
            signals_of(seen.take(seen.shown)), good_boxes(seen.take(seen.shown)), PRIOR
        ),
        boxes=_margins(seen, options, class_names),
        flip=options.flip,
    )


def signals_of(seen: Outcomes) -> dict[str, npt.NDArray[np.float64]]:
    """`box_signals` as arrays, float64 (N,)."""
    found = box_signals(seen.outputs)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def good_boxes(seen: Outcomes) -> npt.NDArray[np.bool_]:
    """Whether each box has an IoU of at least .5 with the true one, bool (N,)."""
    boxes = np.asarray(seen.outputs["bbox_true"], np.float64)
    return paired_iou(boxes, np.asarray(seen.outputs["bbox"], np.float64)) >= BOX_HIT


def _margins(seen: Outcomes, options: TrustConfig, class_names: Sequence[str]) -> BoxMargins:
    if options.per_class and seen.background is not None:
        raise TrustError(PER_CLASS_WITH_BACKGROUND)
    with_object = seen.take(seen.shown)
    spread = with_object.outputs.get("spread")
    scaling: Scaling = _auto_scaling(seen) if options.scaling == "auto" else options.scaling
    predicted = np.asarray(with_object.outputs["softmax"]).argmax(axis=1)
    return fit_boxes(
        with_object.outputs["bbox_true"],
        with_object.outputs["bbox"],
        coverage=options.coverage,
        scaling=scaling,
        spread=spread,
        classes_pred=predicted if options.per_class else None,
        class_names=class_names if options.per_class else None,
    )


def _auto_scaling(seen: Outcomes) -> Scaling:
    return "spread" if "spread" in seen.outputs else "size"


Boxes = npt.NDArray[np.floating]
BINS = 10


def trust_figures(
    trust: Trust,
    seen: Outcomes,
    to_px: Callable[[Boxes], npt.NDArray[np.float64]],
    bootstrap: Bootstrap | None = None,
) -> TrustFigures:
    """Measures every statement on images with known truth.

    Args:
        trust: What was fitted.
        seen: Of images that it was not fitted on.
        to_px: Takes boxes (N, 4) in fractions of the model's images to px of the pictures.
        bootstrap: For the intervals; None for the one of `evaluate`.
    """
    said = {
        name: np.asarray(value) for name, value in stated(seen.outputs, trust.statements).items()
    }
    before = np.asarray(seen.outputs["softmax"], np.float64)
    after = said["softmax_calibrated"].astype(np.float64)
    right = before.argmax(axis=1) == seen.labels
    shown = seen.shown
    good = good_boxes(seen.take(shown))
    confidences = before.max(axis=1), after.max(axis=1)
    empty = np.asarray(ops.convert_to_numpy(is_empty(said["box_inner"])), bool)
    inner_px = np.where(empty[:, None], 0.0, to_px(said["box_inner"]))
    outer_px = to_px(said["box_outer"])
    # The whole of the model's image, cut to the picture: bars of a letterbox are none of it.
    whole = areas(to_px(np.tile(np.array([[0.0, 0.0, 1.0, 1.0]]), (len(seen), 1))))
    shares = {"outer": areas(outer_px) / whole, "inner": areas(inner_px) / whole}
    return TrustFigures(
        temperature=trust.statements.temperature,
        ece=(
            expected_calibration_error(confidences[0], right),
            expected_calibration_error(confidences[1], right),
        ),
        nll=(
            negative_log_likelihood(before, seen.labels),
            negative_log_likelihood(after, seen.labels),
        ),
        class_bins=(
            reliability_bins(confidences[0], right, BINS),
            reliability_bins(confidences[1], right, BINS),
        ),
        box_bins=reliability_bins(said["p_iou50"][shown], good, BINS),
        auroc_p_iou50=auroc_estimate(said["p_iou50"][shown], good),
        auroc_confidence=auroc_estimate(confidences[0][shown], good),
        auroc_gain=auroc_difference(said["p_iou50"][shown], confidences[0][shown], good),
        guarantees=_guarantees(said, seen, trust, bootstrap or Bootstrap(), shares),
        shift=measure_shift(trust.shift, seen),
        probabilities=after,
        p_iou50=said["p_iou50"],
        outer_px=outer_px,
        inner_px=inner_px,
        label_sets=said["label_set"].astype(bool),
    )


def _guarantees(
    said: Mapping[str, npt.NDArray[np.floating]],
    seen: Outcomes,
    trust: Trust,
    bootstrap: Bootstrap,
    shares: Mapping[str, npt.NDArray[np.float64]],
) -> list[Guarantee]:
    base = trust.calibration
    shown = seen.shown
    sets = said["label_set"].astype(bool)
    boxes = seen.outputs["bbox_true"][shown].astype(np.float64)
    outer, inner = (said[name][shown].astype(np.float64) for name in ("box_outer", "box_inner"))
    nothing = (inner[:, 2:] <= inner[:, :2]).any(axis=1).astype(bool)

    def guarantee(
        name: str,
        kept: npt.NDArray[np.bool_],
        sizes: npt.NDArray[np.floating],
        empty: npt.NDArray[np.bool_],
        calibration_images: int,
    ) -> Guarantee:
        return Guarantee(
            name,
            base.coverage,
            bootstrap.estimates({"kept": kept})["kept"],
            float(sizes.mean()) if len(sizes) else float("nan"),
            float(empty.mean()) if len(empty) else float("nan"),
            chance_of_less(kept, base.coverage, calibration_images),
        )

    held = sets[np.arange(len(seen)), seen.labels]
    full = np.zeros(len(boxes), bool)
    return [
        guarantee(
            "label set", held, sets.sum(axis=1), np.logical_not(sets.any(axis=1)), base.images
        ),
        guarantee(
            "outer box", within(boxes, outer), shares["outer"][shown], full, base.object_images
        ),
        guarantee(
            "inner box",
            np.logical_or(nothing, within(inner, boxes)),
            shares["inner"][shown],
            nothing,
            base.object_images,
        ),
    ]


def chance_of_less(kept: npt.NDArray[np.bool_], coverage: float, calibration_images: int) -> float:
    """Probability that a guarantee that holds is kept so seldom, or less.

    Over calibration sets and images, the number kept among m images is beta-binomial with k and
    n + 1 - k for the k-th of n calibration scores (see `coverage_study`).

    Args:
        kept: bool (m,).
        coverage: Asked share.
        calibration_images: n.
    """
    rank = conformal_rank(calibration_images, coverage)
    luck = betabinom(len(kept), rank, calibration_images + 1 - rank)
    return float(luck.cdf(int(kept.sum()))) if len(kept) else 1.0
