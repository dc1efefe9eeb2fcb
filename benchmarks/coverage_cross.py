"""Is what cross-fitted trust promises kept, over many random splits of a small set?

    python -m benchmarks.coverage_cross --folder NAME=FOLDER ... [--splits 200] [--out FILE.json]

A folder holds images with Pascal VOC files beside them; images with one object count. In every
split a quarter of the images are for testing. The rest are cut into folds, a model is fitted
without each fold and asked about it, and one more is fitted to all of them.

So that 200 splits are affordable, a model is no convolutional network but one on fixed features of
each picture (gradient directions and colours in 8 x 8 cells, their main components over the whole
set): ridge regression (`linear`), or a network with one hidden layer (`network`), which starts from
another seed each time and learns for a share of the length in the folds, as `trust.fold_length`
says. Repeated in every split are the cut, the folds and all fits; the features are not.

Reported for each promise: the share of test images for which CV+ keeps it, as `trust.method: cross`
does (`trust.cross`), and its mean size; and the share for which the one model would keep it with
the quantiles of the folds' scores, which nothing promises. Means over the splits, with the standard
error of splits that are taken as independent.
"""

import argparse
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from scipy.special import softmax
from sklearn.decomposition import PCA

from benchmarks.common import table_of
from loc_keras.atomic_file import write_text
from loc_keras.data.load_records import grouped_folds, stratified_split
from loc_keras.recipe.rules import FOLD_LENGTH, FOLDS
from loc_keras.trust.conformal import (
    K_REG,
    PENALTY,
    CrossScores,
    areas,
    conformal_quantile,
    cross_stated,
    inner_scores,
    label_scores,
    outer_scores,
    scales_of,
    threshold_above,
    within,
)

COVERAGES = (0.8, 0.9, 0.95)
TEST_SHARE = 0.25
COMPONENTS = 48
RIDGE = 30.0
HIDDEN, STEPS, RATE, DECAY, BOX_WEIGHT = 64, 200, 0.003, 0.1, 10.0
"""Of the network; not tuned to anything but boxes above the level of a constant one."""

Array = np.ndarray


class Pool(NamedTuple):
    """Features (N, F), classes (N,) and boxes (N, 4) in fractions of all images of a set."""

    features: Array
    labels: Array
    boxes: Array


class Answers(NamedTuple):
    """Probabilities (N, K) and boxes (N, 4)."""

    probabilities: Array
    boxes: Array


def read_pool(folder: Path) -> Pool:
    """The images with one object, in the order of their names."""
    features, names, boxes = [], [], []
    for file in sorted(folder.rglob("*.xml")):
        root = ET.parse(file).getroot()
        objects = root.findall("object")
        picture = next((p for p in file.parent.glob(f"{file.stem}.*") if p.suffix != ".xml"), None)
        if len(objects) != 1 or picture is None:
            continue
        with Image.open(picture) as opened:
            image = opened.convert("RGB")
        edges = [float(str(objects[0].findtext(f"bndbox/{k}"))) for k in ("xmin", "ymin", "xmax",
                                                                          "ymax")]  # fmt: skip
        boxes.append(np.clip(np.array(edges) / np.tile(image.size, 2), 0, 1))
        names.append(str(objects[0].findtext("name")))
        features.append(described(np.asarray(image.resize((64, 64)), float) / 255))
    table = np.array(features)
    table = (table - table.mean(0)) / (table.std(0) + 1e-6)
    components = PCA(COMPONENTS, random_state=0).fit_transform(table)
    return Pool(components / components.std(), np.unique(names, return_inverse=True)[1],
                np.array(boxes))  # fmt: skip


def described(pixels: Array) -> Array:
    """Histograms of gradient directions and mean colours in 8 x 8 cells of pixels (64, 64, 3)."""
    down, across = np.gradient(pixels.mean(2))
    strength = np.hypot(down, across)
    turn = ((np.arctan2(down, across) % np.pi) / np.pi * 9).astype(int) % 9
    one_hot = np.eye(9)[turn] * strength[..., None]

    def cells(values: Array) -> Array:
        return values.reshape(8, 8, 8, 8, -1).mean(axis=(1, 3))

    histograms = np.sqrt(cells(one_hot))
    return np.concatenate([histograms.ravel(), cells(pixels).ravel()])


def fitted_answers(
    kind: str, pool: Pool, rows: Array, asked: Sequence[Array], seed: int, length: float
) -> list[Answers]:
    """Fits a model to some rows and asks it about others."""
    classes = np.eye(pool.labels.max() + 1)
    targets = pool.boxes[rows], classes[pool.labels[rows]]
    fit = linear if kind == "linear" else partial(network, seed=seed, steps=round(length * STEPS))
    raw = fit(pool.features[rows], *targets)
    given = []
    for some in asked:
        box, logits = raw(pool.features[some])
        low, high = np.clip(box[:, :2], 0, 1), np.clip(box[:, 2:], 0, 1)
        box = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
        given.append(Answers(softmax(logits, axis=1), box))
    return given


Raw = Callable[[Array], tuple[Array, Array]]


def linear(x: Array, boxes: Array, classes: Array) -> Raw:
    """Ridge regression of boxes and of classes, whose scores are taken as logits."""
    both = np.concatenate([boxes, classes], axis=1)
    middle, means = x.mean(axis=0), both.mean(axis=0)
    x = x - middle
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (both - means))

    def answer(new: Array) -> tuple[Array, Array]:
        out = (new - middle) @ weights + means
        return out[:, :4], 6 * out[:, 4:]

    return answer


def network(x: Array, boxes: Array, classes: Array, *, seed: int, steps: int) -> Raw:
    """One hidden layer for both answers, trained by Adam on all images at once.

    The loss is the cross entropy and the squared error of the four sides, weighted as `BOX_WEIGHT`.
    """
    rng, x = np.random.default_rng(seed), with_one(x)
    both = np.concatenate([boxes, classes], axis=1)
    first = rng.normal(0, 1 / np.sqrt(x.shape[1]), (x.shape[1], HIDDEN))
    weights = [first, np.zeros((HIDDEN + 1, both.shape[1]))]
    weights[1][-1, :4] = boxes.mean(axis=0)

    def answer(new: Array) -> tuple[Array, Array]:
        hidden = with_one(np.maximum(new @ weights[0], 0))
        return hidden, hidden @ weights[1]

    moments = [(np.zeros_like(one), np.zeros_like(one)) for one in weights]
    for step in range(1, steps + 1):
        hidden, out = answer(x)
        error = np.concatenate([BOX_WEIGHT * out[:, :4], softmax(out[:, 4:], axis=1)], axis=1)
        error[:, :4] -= BOX_WEIGHT * boxes
        error[:, 4:] -= classes
        error /= len(x)
        back = (error @ weights[1][:-1].T) * (hidden[:, :-1] > 0)
        for place, gradient in enumerate((x.T @ back, hidden.T @ error)):
            mean, square = moments[place]
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            unbiased = mean / (1 - 0.9**step), square / (1 - 0.999**step)
            weights[place] -= RATE * (unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8))
            weights[place] -= RATE * DECAY * weights[place]
    return lambda new: (answer(with_one(new))[1][:, :4], answer(with_one(new))[1][:, 4:])


def with_one(x: Array) -> Array:
    """A column of ones more, for the bias."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def scores(answers: Answers, pool: Pool, rows: Array) -> Array:
    """Scores (3, N) of the truth: of outer box, inner box and label set."""
    scale = np.asarray(scales_of(answers.boxes, "size"))
    labels = np.asarray(label_scores(answers.probabilities))[
        np.arange(len(rows)), pool.labels[rows]
    ]
    both = [one(pool.boxes[rows], answers.boxes, scale) for one in (outer_scores, inner_scores)]
    return np.stack([*both, labels.astype(float)])


def one_split(kind: str, pool: Pool, seed: int, coverages: Sequence[float]) -> Array:
    """Kept by CV+, its mean size, kept by one model: (3, coverages, promises)."""
    cut = stratified_split(pool.labels, {"test": TEST_SHARE}, seed, min_per_class=0)
    train, test = cut["train"], cut["test"]
    held = grouped_folds(pool.labels[train], np.arange(len(train)), FOLDS, seed)
    own, folds, others = np.empty((3, len(train))), np.empty(len(train), int), []
    for number, fold in enumerate(held):
        asked = [train[fold], test]
        rest, start = np.delete(train, fold), FOLDS * seed + number
        out, there = fitted_answers(kind, pool, rest, asked, start, FOLD_LENGTH)
        own[:, fold], folds[fold] = scores(out, pool, train[fold]), number
        others.append(there)
    (answers,) = fitted_answers(kind, pool, train, [test], 10**6 + seed, 1.0)
    outputs = {
        "softmax": answers.probabilities,
        "softmax_folds": np.stack([one.probabilities for one in others], axis=1),
        "bbox_folds": np.stack([one.boxes for one in others], axis=1),
    }
    final, truth = scores(answers, pool, test), pool.boxes[test]
    found = np.empty((3, len(coverages), 3))
    of_image = tuple(folds.tolist())
    for place, coverage in enumerate(coverages):
        limits = np.array([conformal_quantile(row, coverage) for row in own])
        limits[2] = threshold_above(limits[2])
        found[2, place] = (final <= limits[:, None]).mean(1)
        outer, inner, labels = (tuple(row.tolist()) for row in own)
        labels = tuple(threshold_above(labels).tolist())
        cross = CrossScores(
            coverage, "size", PENALTY, K_REG, of_image, labels, of_image, outer, inner
        )
        said = {name: np.asarray(value) for name, value in cross_stated(outputs, cross).items()}
        empty = ~said["box_inner"].any(axis=1)
        found[0, place] = (
            within(truth, said["box_outer"]).mean(),
            (empty | within(said["box_inner"], truth)).mean(),
            said["label_set"][np.arange(len(test)), pool.labels[test]].mean(),
        )
        found[1, place] = (
            areas(said["box_outer"]).mean(),
            areas(said["box_inner"]).mean(),
            said["label_set"].sum(axis=1).mean(),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    console, rows = Console(width=120), []
    for given in args.folder:
        name, _, folder = given.partition("=")
        pool = read_pool(Path(folder))
        for kind in ("linear", "network"):
            found = np.stack([one_split(kind, pool, s, COVERAGES) for s in range(args.splits)])
            rows += summary(f"{name} ({len(pool.labels)}), {kind}", found)
            if args.out:
                write_text(args.out, json.dumps(rows, indent=1))
    console.print(table_of(rows, f"{args.splits} splits"))


def summary(name: str, found: Array) -> list[dict[str, Any]]:
    """Rows of the table from (splits, 3, coverages, promises)."""
    mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(len(found))
    return [
        {
            "set, model": name,
            "promise": promise,
            "asked": f"{100 * coverage:g}",
            "CV+": f"{100 * mean[0, c, p]:.2f}±{100 * error[0, c, p]:.2f}",
            "size": f"{mean[1, c, p]:.3f}",
            "one model": f"{100 * mean[2, c, p]:.2f}±{100 * error[2, c, p]:.2f}",
        }
        for p, promise in enumerate(("outer box", "inner box", "label set"))
        for c, coverage in enumerate(COVERAGES)
    ]


if __name__ == "__main__":
    main()
