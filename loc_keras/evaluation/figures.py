"""Figures of a split: the table of all of them, how they are written, and the evaluator.

A figure is a row of `FIGURES`: its key in files, its name, meaning and unit, and the column of one
value for each image whose mean it is. Terminal, page, pictures, comparison and files read this
table: a new figure is a row, a test and, where none is there yet, a property of `Outcomes`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from loc_keras.errors import DataError, ModelError
from loc_keras.evaluation.outcomes import TOP, Bootstrap, Estimate, Evaluation, Group, Outcomes

Column: TypeAlias = npt.NDArray[np.float64]
Box: TypeAlias = npt.NDArray[np.float64]
Unit = Literal["%", "iou", "px", "number"]

MISSING = "–"  # Stands for a figure that is not known.

BOX_ACCURACIES = {"acc50": 0.5, "acc75": 0.75, "acc90": 0.9}
"""Box accuracies by key, with the IoU that each asks for."""

_MAX_BOX_ACC_V2 = (0.3, 0.5, 0.7)  # Thresholds of Choe et al. 2020.


@dataclass(frozen=True)
class Figure:
    """A figure of answers: what it is called, how it is written, and what it is the mean of.

    Attributes:
        key: Its key in the files of `evaluate` and in `Evaluation.figures`.
        name: Its name in the field; `short` in narrow tables and legends.
        meaning: What it counts.
        unit: `%` (a share, kept as 0..1), `iou` (a number that is mostly within 0..1), `px` (of the
            original pictures; less is better) or `number`.
        column: Gives a value for each image, bool or float64 (N,); None for those of trust.
        of: Images that it is of: `all`, those with an `object`, or those without, `empty`.
        run_key: Its key in a run's own `metrics.json`, history and model card; "" where a run does
            not measure it by itself.
        box_only: Whether it looks at boxes alone, so that baselines have it.
        median: Whether it is the median of the column, not the mean.
        compared: Whether runs are compared by it.
        least_classes: Classes from which on it says something.
        background: Whether it needs a class of images without an object.
    """

    key: str
    name: str
    meaning: str
    unit: Unit
    column: Callable[[Outcomes], npt.NDArray[np.bool_] | Column] | None = None
    of: Literal["all", "object", "empty"] = "object"
    run_key: str = ""
    short: str = ""
    box_only: bool = False
    median: bool = False
    compared: bool = False
    least_classes: int = 1
    background: bool = False

    @property
    def short_name(self) -> str:
        """`short`, or the name where there is no shorter one."""
        return self.short or self.name

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better."""
        return self.unit == "px"

    def values(self, outcomes: Outcomes) -> Column:
        """A value for each image that the figure is of, float64 (M,)."""
        assert self.column is not None, f"{self.key} is no mean over images"
        column = np.asarray(self.column(outcomes), np.float64)
        if self.of == "all":
            return column
        return column[outcomes.shown if self.of == "object" else ~outcomes.shown]


def _box_accuracy(key: str) -> Callable[[Outcomes], npt.NDArray[np.bool_]]:
    return lambda outcomes: outcomes.ious >= BOX_ACCURACIES[key]


def _rejected(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    return outcomes.predicted == outcomes.background


def _table(*figures: Figure) -> dict[str, Figure]:
    return {figure.key: figure for figure in figures}


# fmt: off
# Top-1 and Top-5 localization are those of Russakovsky et al. (2015), as accuracies.
FIGURES = _table(
    Figure("class_accuracy", "class accuracy", "the most probable class is right", "%",
           lambda of: of.class_hits, of="all", run_key="softmax_accuracy", compared=True),
    Figure("top5_accuracy", "Top-5 accuracy", "the five most probable hold the class", "%",
           lambda of: of.top5_hits, of="all", least_classes=TOP + 1),
    Figure("mean_iou", "mean IoU", "overlap of true and predicted box, 0 to 1", "iou",
           lambda of: of.ious, run_key="bbox_iou", box_only=True, compared=True),
    Figure("median_iou", "median IoU", "half of the boxes agree at least so well", "iou",
           lambda of: of.ious, box_only=True, median=True),
    Figure("acc50", "box accuracy, IoU ≥ .5", "the box is roughly right", "%",
           _box_accuracy("acc50"), run_key="bbox_acc50", short="IoU ≥ .5", box_only=True,
           compared=True),
    Figure("acc75", "box accuracy, IoU ≥ .75", "the box is right", "%",
           _box_accuracy("acc75"), run_key="bbox_acc75", short="IoU ≥ .75", box_only=True,
           compared=True),
    Figure("acc90", "box accuracy, IoU ≥ .9", "the box is tight", "%",
           _box_accuracy("acc90"), run_key="bbox_acc90", short="IoU ≥ .9", box_only=True,
           compared=True),
    Figure("top1_loc", "Top-1 localization", "class right and IoU ≥ .5", "%",
           lambda of: of.class_hits & of.box_hits, run_key="top1_loc", short="Top-1 loc.",
           compared=True),
    Figure("top5_loc", "Top-5 localization", "class among five and IoU ≥ .5", "%",
           lambda of: of.top5_hits & of.box_hits, run_key="top5_loc", short="Top-5 loc.",
           least_classes=TOP + 1),
    Figure("gt_known_loc", "GT-known localization", "IoU ≥ .5, whatever the class", "%",
           lambda of: of.box_hits, run_key="gt_known_loc", short="GT-known loc.", box_only=True,
           compared=True),
    Figure("max_box_acc_v2", "MaxBoxAccV2", "mean of IoU ≥ .3, .5 and .7", "%",
           # Of Choe et al. (2020), with one box an image: the share of thresholds reached.
           lambda of: (of.ious[:, None] >= np.array(_MAX_BOX_ACC_V2)).mean(axis=1),
           run_key="max_box_acc_v2", box_only=True),
    Figure("corner_error_px", "corner error", "mean distance of the corners", "px",
           lambda of: of.corner_errors_px, box_only=True, compared=True),
    Figure("rejection", "background found empty", "of images without an object", "%",
           _rejected, of="empty", run_key="rejection", background=True),
    Figure("false_rejection", "object called background", "of images with one", "%",
           _rejected, run_key="false_rejection", background=True),
)
"""Figures of answers by key, in the order of tables and files."""

ERRORS = _table(
    Figure("right", "class and box right", "the most probable class is true and IoU ≥ .5", "%",
           lambda of: of.class_hits & of.box_hits),
    Figure("class_wrong", "class wrong", "the box is right: IoU ≥ .5", "%",
           lambda of: ~of.class_hits & of.box_hits),
    Figure("box_wrong", "box wrong", "the class is right, but IoU < .5", "%",
           lambda of: of.class_hits & ~of.box_hits),
    Figure("both_wrong", "both wrong", "neither class nor box is right", "%",
           lambda of: ~of.class_hits & ~of.box_hits),
)
"""Errors of single-object localization (Russakovsky et al. 2015); their shares add up to 1."""

TRUST = _table(
    Figure("temperature", "temperature", "divides the class logits", "number"),
    Figure("ece", "calibration error, classes", "expected calibration error (ECE)", "%"),
    Figure("nll", "negative log-likelihood", "of the true class, natural", "number"),
    Figure("label set", "class in the label set", "the set of classes holds the true one", "%"),
    Figure("outer box", "object in the outer box", "the box holds the whole object", "%"),
    Figure("inner box", "inner box in the object", "the box lies inside the object", "%"),
    Figure("auroc_p_iou50", "bad boxes told by p_iou50", "area under ROC", "iou"),
    Figure("auroc_confidence", "by the class probability", "area under ROC", "iou"),
    Figure("auroc_gain", "gain of p_iou50 over it", "area under ROC", "iou"),
)
"""What is measured of trust: by its key in `metrics.json`, or the name of its guarantee."""
# fmt: on

BY_RUN_KEY: dict[str, Figure] = {
    figure.run_key: figure for figure in FIGURES.values() if figure.run_key
}
"""Figures of a run's own `metrics.json` by their keys there, in the order of its table."""


def figure_of(key: str) -> Figure:
    """The figure of a key of any of the tables; one that stands in none is named by its key."""
    for table in (FIGURES, ERRORS, TRUST, BY_RUN_KEY):
        if key in table:
            return table[key]
    return Figure(key, key.replace("_", " "), "", "number")


def format_value(key: str, value: float) -> str:
    """A figure with its unit: `93.2 %`, `.832`, `3.4 px`; a dash for NaN."""
    unit = figure_of(key).unit
    if not math.isfinite(value):
        return MISSING
    if unit == "%":
        return f"{percent(value)} %"
    return f"{_plain(unit, value)} px" if unit == "px" else _plain(unit, value)


def format_interval(key: str, estimate: Estimate) -> str:
    """The interval of a figure: `91.0 – 94.9 %`; a dash where there is none."""
    unit = figure_of(key).unit
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return MISSING
    if unit == "%":
        return f"{100 * estimate.low:.1f} – {100 * estimate.high:.1f} %"
    end = " px" if unit == "px" else ""
    return f"{_plain(unit, estimate.low)} – {_plain(unit, estimate.high)}{end}"


def format_difference(key: str, difference: float) -> str:
    """A difference of two values, with its sign: `+1.2`, `−.031`, `+0.4 px`."""
    unit = figure_of(key).unit
    size = f"{100 * abs(difference):.1f}" if unit == "%" else _plain(unit, abs(difference))
    return f"{'−' if difference < 0 else '+'}{size}{' px' if unit == 'px' else ''}"


def percent(share: float) -> str:
    """A share with one decimal; one that is not quite none or all does not look like it."""
    words = f"{100 * share:.1f}"
    if words == "100.0" and share < 1:
        return "> 99.9"
    return "< 0.1" if words == "0.0" and share > 0 else words


def _plain(unit: str, value: float) -> str:
    if unit == "px":
        return f"{value:,.1f}"
    if unit == "iou":
        return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
    return f"{value:.3g}"


APART = "without near duplicates of training images"
"""What is said of figures of the images of a split that are none."""

APART_KEY = "_without_near_duplicates"
"""What is added to the name of a split for these figures in a run's own `metrics.json`."""

SIZE_EDGES = (0.05, 0.2, 0.5)
SIZE_NAMES = (
    "less than 5 % of the picture",
    "5 to 20 % of the picture",
    "20 to 50 % of the picture",
    "50 % of the picture or more",
)
POSITION_NAMES = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)
NO_GROUP = -1

_FIELDS = 3  # Along each side of the picture.


def evaluate(
    outcomes: Outcomes,
    class_names: Sequence[str],
    train_boxes: npt.ArrayLike,
    *,
    leaked: npt.NDArray[np.bool_] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Measures a split: figures with intervals, baselines, errors, groups and confusion.

    `class_names` are by index, that of the background included. Training boxes, (M, 4) in
    fractions, are for the baselines, see there. `leaked`, bool (N,), says which images are near
    duplicates of training images; None for none. `level`, `resamples` and `seed` are of the
    `Bootstrap`.

    Raises:
        DataError: A column has another length than the labels, or a label no class.
        ModelError: Predictions are not finite, or are for another number of classes.
        ConfigError: The level or the number of resamples is out of range.
    """
    check(outcomes, len(class_names))
    outcomes = replace(outcomes, outputs={})  # Of no use here, and copied for every group.
    bootstrap = Bootstrap(level, resamples, seed)
    others = outcomes if leaked is None else outcomes.take(~leaked)

    def every(of: Outcomes) -> dict[str, Estimate]:
        return figures_of(of, bootstrap) | _rejections(of, bootstrap)

    return Evaluation(
        images=len(outcomes),
        object_images=int(outcomes.shown.sum()),
        class_names=tuple(class_names),
        figures=every(outcomes),
        apart=None if leaked is None else Group(APART, len(others), every(others)),
        baselines=baseline_figures(outcomes, train_boxes, bootstrap),
        errors=_estimates(ERRORS.values(), outcomes, bootstrap),
        classes=_groups(outcomes, class_names, outcomes.labels, bootstrap),
        sizes=_groups(outcomes, SIZE_NAMES, size_places(outcomes), bootstrap),
        positions=_groups(outcomes, POSITION_NAMES, position_places(outcomes), bootstrap),
        confusion=confusion(outcomes),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def run_figures(outcomes: Outcomes) -> dict[str, float | int]:
    """The figures of a run's own `metrics.json`: values of `evaluate`, by `Figure.run_key`.

    Top-5 localization is there with any number of classes. With a single class, whose accuracy says
    nothing, there is also `classes`, with a background also `object_images`, which all figures but
    the class accuracy are of, and the two rejections. A figure of no image is left out.
    """
    bootstrap = Bootstrap(resamples=1)
    classes = outcomes.probabilities.shape[1]
    estimates = figures_of(outcomes, bootstrap)
    if "top5_loc" not in estimates:
        estimates |= _estimates([FIGURES["top5_loc"]], outcomes, bootstrap)
    estimates = _rejections(outcomes, bootstrap) | estimates
    counts: dict[str, float | int] = {"images": len(outcomes)}
    if classes == 1:
        counts["classes"] = classes
    if outcomes.background is not None:
        counts["object_images"] = int(outcomes.shown.sum())
    return counts | {
        key: estimates[figure.key].value
        for key, figure in BY_RUN_KEY.items()
        if figure.key in estimates and estimates[figure.key].images
    }


def figures_of(outcomes: Outcomes, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """All figures of `Evaluation.figures` but the rejections, of any outcomes."""
    classes = outcomes.probabilities.shape[1]
    chosen = [figure for figure in FIGURES.values() if classes >= figure.least_classes]
    of_all = [figure for figure in chosen if figure.of == "all"]
    of_objects = [figure for figure in chosen if figure.of == "object" and not figure.background]
    if outcomes.shown.all():
        return _estimates([*of_all, *of_objects], outcomes, bootstrap)
    return _estimates(of_all, outcomes, bootstrap) | _estimates(of_objects, outcomes, bootstrap)


def estimates_of(keys: Iterable[str], outcomes: Outcomes) -> dict[str, Estimate]:
    """Some figures of `FIGURES`, each of its own images, with 95 % intervals."""
    bootstrap = Bootstrap()
    return {key: _estimates([FIGURES[key]], outcomes, bootstrap)[key] for key in keys}


def _rejections(outcomes: Outcomes, bootstrap: Bootstrap) -> dict[str, Estimate]:
    estimates: dict[str, Estimate] = {}
    for figure in FIGURES.values():
        if figure.background and outcomes.background is not None:
            estimates |= _estimates([figure], outcomes, bootstrap)
    return estimates


def _estimates(
    figures: Iterable[Figure], outcomes: Outcomes, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """Estimates of figures that are of the same images, on the same resamples."""
    columns = {figure.key: figure.values(outcomes) for figure in figures}
    return bootstrap.estimates(
        columns, [figure.key for figure in FIGURES.values() if figure.median]
    )


def baseline_boxes(train_boxes: npt.ArrayLike) -> dict[str, Box]:
    """Two boxes in fractions, float64 (4,), that see no image, of training boxes (M, 4), M > 0.

    They are the median of each coordinate, and a box in the middle of the picture of median sides.
    """
    boxes = np.asarray(train_boxes, np.float64)
    half = np.median(boxes[:, 2:] - boxes[:, :2], axis=0) / 2
    return {
        "constant box": np.median(boxes, axis=0),
        "centre box": np.concatenate([0.5 - half, 0.5 + half]),
    }


def baseline_figures(
    outcomes: Outcomes, train_boxes: npt.ArrayLike, bootstrap: Bootstrap
) -> dict[str, dict[str, Estimate]]:
    """Box figures of `baseline_boxes`, scaled to every picture; nothing without a training box.

    Training boxes, (M, 4) in fractions, that are all zero belong to images without an object.
    """
    boxes = np.asarray(train_boxes, np.float64).reshape(-1, 4)
    boxes = boxes[boxes.any(axis=1)]
    if not len(boxes):
        return {}
    scale = np.tile(outcomes.sizes[:, ::-1], 2)
    figures = [figure for figure in FIGURES.values() if figure.box_only]
    return {
        name: _estimates(figures, replace(outcomes, boxes_pred_px=box * scale), bootstrap)
        for name, box in baseline_boxes(boxes).items()
    }


def size_places(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """Place of each image in `SIZE_NAMES`, int64 (N,); -1 without an object.

    By the share of the picture that the true box covers; each group holds its lower bound.
    """
    return np.where(outcomes.shown, np.digitize(outcomes.covers, SIZE_EDGES), NO_GROUP)


def position_places(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """Place of each image in `POSITION_NAMES`, int64 (N,); -1 without an object.

    By the ninth of the picture that holds the centre of the true box, row by row.
    """
    fields = np.clip(np.nan_to_num(outcomes.centres * _FIELDS).astype(int), 0, _FIELDS - 1)
    return np.where(outcomes.shown, fields[:, 1] * _FIELDS + fields[:, 0], NO_GROUP)


def _groups(
    outcomes: Outcomes, names: Sequence[str], places: npt.NDArray[np.integer], bootstrap: Bootstrap
) -> list[Group]:
    groups = []
    for index, name in enumerate(names):
        part = outcomes.take(places == index)
        groups.append(Group(name, len(part), figures_of(part, bootstrap)))
    return groups


def confusion(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """Images of each true class (row) answered as each class (column), int64 (K, K)."""
    classes = outcomes.probabilities.shape[1]
    cells = outcomes.labels.astype(np.int64) * classes + outcomes.predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def check(outcomes: Outcomes, classes: int) -> None:
    """Refuses outcomes that no figure can be of, as `evaluate` says."""
    images = len(outcomes)
    columns = {
        "probabilities": (outcomes.probabilities, classes),
        "boxes_px": (outcomes.boxes_px, 4),
        "boxes_pred_px": (outcomes.boxes_pred_px, 4),
        "sizes": (outcomes.sizes, 2),
    }
    for name, (column, width) in columns.items():
        if column.shape != (images, width):
            error = ModelError if name == "probabilities" else DataError
            raise error(
                f"{images} images of {classes} classes need {name} of the shape "
                f"{(images, width)}, but have {column.shape}."
            )
    beyond = np.flatnonzero((outcomes.labels < 0) | (outcomes.labels >= classes))
    if len(beyond):
        raise DataError(
            f"Image {beyond[0] + 1} has the label {outcomes.labels[beyond[0]]}, but there are "
            f"{classes} classes, numbered from 0."
        )
    answered = np.isfinite(outcomes.probabilities).all(axis=1)
    answered &= np.isfinite(outcomes.boxes_pred_px).all(axis=1)
    if not answered.all():
        raise ModelError(
            f"The model answers {np.count_nonzero(~answered)} of {images} images, the first of "
            f"them number {np.argmin(answered) + 1}, with NaN or infinity: its weights are broken; "
            "take those of an earlier epoch, or train again with a smaller learning rate."
        )
