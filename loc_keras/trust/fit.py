"""Fits all of trust on the outcomes of a calibration set, and measures it on another one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops
from scipy.stats import betabinom

from loc_keras.config.schema import TrustConfig
from loc_keras.errors import TrustError
from loc_keras.evaluation import reliability
from loc_keras.evaluation.outcomes import BOX_HIT, Bootstrap, Outcomes, paired_iou
from loc_keras.trust import conformal
from loc_keras.trust.confidence import PRIOR, box_signals, fit_box_confidence, fit_temperature
from loc_keras.trust.shift import measure_shift
from loc_keras.trust.statements import Statements, Trust, promised_share, stated

BINS = 10  # Of reliability diagrams.

PER_CLASS_WITH_BACKGROUND = (
    "margins for each class (trust.per_class) cannot be fitted beside a class of images without an "
    "object; set trust.per_class to false."
)


def fit_statements(
    outcomes: Outcomes,
    options: TrustConfig,
    class_names: Sequence[str],
    folds: npt.NDArray[np.integer] | None = None,
) -> Statements:
    """Fits what is stated of answers.

    Outcomes, by `observe`, are of images that the model was not trained on and no choice was made
    by; or of training images, each by a model that was trained without it: its fold, int (N,).

    Raises:
        TrustError: If the images are too few, or do not serve what is asked for.
    """
    probabilities = np.asarray(outcomes.probabilities, np.float64)
    penalty = conformal.PENALTY if options.label_sets == "raps" else 0.0
    objects = outcomes.take(outcomes.shown)
    spread = objects.outputs.get("spread")
    scaling = options.scaling
    if scaling == "auto":
        scaling = "size" if spread is None else "spread"
    share = options.coverage
    promised: dict[str, Any]
    if folds is not None:
        scores = conformal.fit_cross(
            outcomes, folds, coverage=share, scaling=scaling, penalty=penalty, k_reg=conformal.K_REG
        )
        promised = {"cross": scores}
    else:
        if options.per_class and outcomes.background is not None:
            raise TrustError(PER_CLASS_WITH_BACKGROUND)
        boxes = conformal.fit_boxes(
            objects.outputs["bbox_true"],
            objects.outputs["bbox"],
            coverage=share,
            scaling=scaling,
            spread=spread,
            classes_pred=objects.predicted if options.per_class else None,
            class_names=class_names if options.per_class else None,
        )
        sets = conformal.fit_label_sets(
            probabilities, outcomes.labels, share, penalty, conformal.K_REG
        )
        promised = {"boxes": boxes, "label_sets": sets}
    return Statements(
        temperature=fit_temperature(probabilities, outcomes.labels),
        box_confidence=fit_box_confidence(signals_of(objects), good_boxes(objects), PRIOR),
        flip=options.flip,
        **promised,
    )


def trust_figures(
    trust: Trust,
    outcomes: Outcomes,
    to_px: Callable[[npt.NDArray[np.floating]], npt.NDArray[np.float64]],
    bootstrap: Bootstrap = reliability.DEFAULT,
) -> reliability.TrustFigures:
    """Measures every statement on outcomes of images with known truth that it was not fitted on.

    `to_px` takes boxes (N, 4) in fractions of the model's images to px of the pictures.
    """
    values = {
        name: np.asarray(value)
        for name, value in stated(outcomes.outputs, trust.statements).items()
    }
    before = np.asarray(outcomes.probabilities, np.float64)
    after = values["softmax_calibrated"].astype(np.float64)
    right = before.argmax(axis=1) == outcomes.labels
    shown, p_iou50 = outcomes.shown, values["p_iou50"]
    good = good_boxes(outcomes.take(shown))
    confidences = before.max(axis=1), after.max(axis=1)
    empty = np.asarray(ops.convert_to_numpy(conformal.is_empty(values["box_inner"])), bool)
    inner_px = np.where(empty[:, None], 0.0, to_px(values["box_inner"]))
    outer_px = to_px(values["box_outer"])
    # The whole of the model's image, cut to the picture: bars of a letterbox are none of it.
    whole = conformal.areas(to_px(np.tile(np.array([[0.0, 0.0, 1.0, 1.0]]), (len(outcomes), 1))))
    shares = {
        "outer": conformal.areas(outer_px) / whole,
        "inner": conformal.areas(inner_px) / whole,
    }
    first, second = (reliability.expected_calibration_error(one, right) for one in confidences)
    bins_before, bins_after = (
        reliability.reliability_bins(one, right, BINS) for one in confidences
    )
    losses = [reliability.negative_log_likelihood(one, outcomes.labels) for one in (before, after)]
    return reliability.TrustFigures(
        temperature=trust.statements.temperature,
        ece=(first, second),
        nll=(losses[0], losses[1]),
        class_bins=(bins_before, bins_after),
        box_bins=reliability.reliability_bins(p_iou50[shown], good, BINS),
        auroc_p_iou50=reliability.auroc_estimate(p_iou50[shown], good, bootstrap),
        auroc_confidence=reliability.auroc_estimate(confidences[0][shown], good, bootstrap),
        auroc_gain=reliability.auroc_difference(
            p_iou50[shown], confidences[0][shown], good, bootstrap
        ),
        guarantees=_guarantees(values, outcomes, trust, bootstrap, shares),
        shift=replace(measure_shift(trust.shift, outcomes), split=trust.calibration.compared_with),
        probabilities=after,
        p_iou50=p_iou50,
        outer_px=outer_px,
        inner_px=inner_px,
        label_sets=values["label_set"].astype(bool),
        guarantee=trust.calibration.guarantee,
    )


def signals_of(outcomes: Outcomes) -> dict[str, npt.NDArray[np.float64]]:
    """`box_signals` as arrays, float64 (N,)."""
    signals = box_signals(outcomes.outputs)
    return {name: np.asarray(value, np.float64) for name, value in signals.items()}


def good_boxes(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """Whether each box has an IoU of at least .5 with the true one in the model's image, (N,)."""
    return paired_iou(outcomes.outputs["bbox_true"], outcomes.outputs["bbox"]) >= BOX_HIT


def chance_of_less(kept: npt.NDArray[np.bool_], coverage: float, calibration_images: int) -> float:
    """Probability that a guarantee that holds is kept so seldom, or less; `kept` is bool (m,).

    Over calibration sets and images, the number kept among m images is beta-binomial with k and
    n + 1 - k for the k-th of n calibration scores (see `benchmarks.coverage_study`).
    """
    rank = conformal.conformal_rank(calibration_images, coverage)
    distribution = betabinom(len(kept), rank, calibration_images + 1 - rank)
    return float(distribution.cdf(int(kept.sum()))) if len(kept) else 1.0


def _guarantees(
    values: Mapping[str, npt.NDArray[np.floating]],
    outcomes: Outcomes,
    trust: Trust,
    bootstrap: Bootstrap,
    shares: Mapping[str, npt.NDArray[np.float64]],
) -> list[reliability.Guarantee]:
    """How often label sets, outer and inner boxes were kept; boxes of images with an object."""
    base, shown = trust.calibration, outcomes.shown
    proven = promised_share(base.method, base.coverage)
    sets = values["label_set"].astype(bool)
    boxes = outcomes.outputs["bbox_true"][shown].astype(np.float64)
    outer, inner = (values[name][shown].astype(np.float64) for name in ("box_outer", "box_inner"))
    hollow = (inner[:, 2:] <= inner[:, :2]).any(axis=1).astype(bool)

    def guarantee(
        name: str,
        kept: npt.NDArray[np.bool_],
        sizes: npt.NDArray[np.floating],
        empty: npt.NDArray[np.bool_],
        calibration_images: int,
    ) -> reliability.Guarantee:
        return reliability.Guarantee(
            name,
            base.coverage,
            bootstrap.estimates({"kept": kept})["kept"],
            float(sizes.mean()) if len(sizes) else float("nan"),
            float(empty.mean()) if len(empty) else float("nan"),
            chance_of_less(kept, proven, calibration_images) if proven else 1.0,
        )

    in_set = sets[np.arange(len(outcomes)), outcomes.labels]
    in_outer, in_box = (
        conformal.within(boxes, outer),
        np.logical_or(hollow, conformal.within(inner, boxes)),
    )
    never, no_label = np.zeros(len(boxes), bool), np.logical_not(sets.any(axis=1))
    objects = base.object_images
    return [
        guarantee("label set", in_set, sets.sum(axis=1), no_label, base.images),
        guarantee("outer box", in_outer, shares["outer"][shown], never, objects),
        guarantee("inner box", in_box, shares["inner"][shown], hollow, objects),
    ]
