"""Measures trained localizers on a split, each figure with its interval, and compares them."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from loc_keras.atomic_file import write_text
from loc_keras.cli.console import add_set, print_note, run_command
from loc_keras.cli.runs import RunWithData, load_run, print_data
from loc_keras.cli.trust import (
    fitted_on,
    observed,
    split_pictures_at,
    trust_of,
)
from loc_keras.data.annotations import ImageRef, Split
from loc_keras.data.dataset import LocalizationData, SplitPictures
from loc_keras.data.duplicates import near_duplicates
from loc_keras.data.records import image_refs
from loc_keras.evaluation.figures import evaluate
from loc_keras.evaluation.files import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    write_coco,
    write_metrics,
    write_predictions,
)
from loc_keras.evaluation.outcomes import Evaluation, Outcomes
from loc_keras.evaluation.paired import compare
from loc_keras.evaluation.reliability import TrustFigures, detection_scores
from loc_keras.report.compare import print_comparison, save_comparison
from loc_keras.report.evaluation_content import (
    EvaluationPage,
    NearDuplicate,
    Suspect,
    choose_suspects,
    suspect_words,
    wanted_pictures,
)
from loc_keras.report.evaluation_report import evaluation_page
from loc_keras.report.terminal import print_evaluation
from loc_keras.report.thumbnails import small_pictures
from loc_keras.training.run_folder import EVALUATION
from loc_keras.trust.fit import trust_figures
from loc_keras.trust.statements import Trust

REPORT_FILE = "report.html"

_BASELINE_IMAGES = 10_000
"""Training boxes that the baselines are computed from, where they are only known by drawing."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All that is known of a model on a split.

    Attributes:
        run: Name of the run.
        split: `"val"`, `"test"` or `"calibration"`.
        data: The data.
        outcomes: Truth and answer of each image.
        evaluation: The figures.
        trust: How true the model's statements about its answers were; None without trust.
    """

    run: str
    split: Split
    data: LocalizationData
    outcomes: Outcomes
    evaluation: Evaluation
    trust: TrustFigures | None

    @property
    def pictures(self) -> SplitPictures:
        """The pictures of the split."""
        return self.data.pictures[self.split]


def train_boxes(data: LocalizationData) -> npt.NDArray[np.float32]:
    """True boxes of the training split in fractions of the pictures, (M, 4).

    Where they are drawn, those of the first images that training sees.
    """
    boxes = data.pictures["train"].boxes
    if boxes is not None:
        return boxes
    drawn: list[np.ndarray] = []
    for _, targets in data.train(0):
        drawn.append(targets["bbox"].numpy())
        if sum(map(len, drawn)) >= min(_BASELINE_IMAGES, data.sizes["train"]):
            break
    return np.concatenate(drawn)


def write_evaluation(folder: Path, measured: Measured, facts: Sequence[tuple[str, str]]) -> None:
    """Writes figures, predictions, COCO's files and the page.

    Args:
        folder: Made where it is not there; files of an earlier evaluation are replaced.
        measured: What to write.
        facts: How it was measured, as (label, value), for the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [str(name) for name in measured.pictures.names]
    paths = _paths(measured.pictures)
    classes = measured.data.class_names
    # The figures first: a picture that cannot be drawn must not cost them.
    write_metrics(folder / METRICS_FILE, measured.evaluation, measured.trust, dict(facts))
    write_predictions(
        folder / PREDICTIONS_FILE, measured.outcomes, classes, names, paths, measured.trust
    )
    scores = detection_scores(measured.outcomes, measured.trust)
    write_coco(folder, measured.outcomes, classes, names, scores)
    write_text(folder / REPORT_FILE, evaluation_page(_page(measured, names, facts)))


def _page(
    measured: Measured, names: Sequence[str], facts: Sequence[tuple[str, str]]
) -> EvaluationPage:
    outcomes, trust = measured.outcomes, measured.trust
    p_iou50 = None if trust is None else trust.p_iou50
    suspected = choose_suspects(outcomes, p_iou50).tolist()
    wanted = wanted_pictures(outcomes, detection_scores(outcomes, trust), suspected).tolist()
    near = _near_duplicates(measured, suspected)
    return EvaluationPage(
        title=f"{measured.run}: evaluation on {measured.split} images",
        run=measured.run,
        split=measured.split,
        facts=facts,
        evaluation=measured.evaluation,
        outcomes=outcomes,
        names=names,
        pictures=split_pictures_at(measured.data, measured.split, wanted),
        trust=trust,
        suspects=[
            Suspect(row, suspect_words(outcomes, row, p_iou50), images)
            for row, images in zip(suspected, near, strict=True)
        ],
    )


def _near_duplicates(measured: Measured, rows: list[int]) -> list[list[NearDuplicate]]:
    """For each image its near duplicates in the training split."""
    train = measured.data.pictures["train"].records
    records = measured.pictures.records
    if train is None or records is None:
        return [[] for _ in rows]
    refs = image_refs(records)
    found = near_duplicates([refs[row] for row in rows], image_refs(train))
    pictures = small_pictures(train, sorted({place for places in found for place in places}))
    classes = measured.data.class_names
    return [
        [
            NearDuplicate(str(train.names[at]), pictures.get(at), classes[int(train.labels[at])])
            for at in places
        ]
        for places in found
    ]


def _paths(pictures: SplitPictures) -> list[str]:
    if pictures.records is None:
        return [""] * len(pictures)
    return [_path(ref) for ref in image_refs(pictures.records)]


def _path(ref: ImageRef) -> str:
    """The file; within a file of many images also the first byte."""
    return ref.path if ref.length < 0 else f"{ref.path}@{ref.offset}"


COMPARISON_FILE = "comparison.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.evaluate", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=Path, help="run folder with best.keras")
    which.add_argument(
        "--compare", type=Path, nargs="+", metavar="RUN", help="several runs, on the same images"
    )
    parser.add_argument("--config", type=Path, help="data of another config than the run's own")
    add_set(parser)
    parser.add_argument("--split", choices=("val", "test", "calibration"), default="test")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for figures, predictions and report; without it evaluation/SPLIT in the run, "
        "and for the picture of --compare this folder",
    )
    args = parser.parse_args(arguments)
    if args.compare and len(args.compare) < 2:
        parser.error("--compare needs two runs or more")
    work = _compare if args.compare else _evaluate
    return run_command(partial(work, args, Console(markup=False)))


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    run = load_run(args.run, args.config, args.set)
    print_data(console, run.data, listed=False)
    trust = trust_of(run)
    measured = _measure(run, args.split, trust)
    note = seen_before(run, args.split, trust)
    print_note(console, note)
    out = args.out or args.run / EVALUATION / args.split
    write_evaluation(out, measured, _facts(run, args.split, note))
    print_evaluation(console, measured.evaluation, measured.trust)
    console.print(f"report: {out / REPORT_FILE}", highlight=False, soft_wrap=True)
    return 0


def _compare(args: argparse.Namespace, console: Console) -> int:
    outcomes, names = {}, {}
    for folder in args.compare:
        run = load_run(folder, args.config, args.set)
        name = _short_name(folder, args.compare)
        outcomes[name] = observed(run, args.split)
        names[name] = [str(one) for one in run.data.pictures[args.split].names]
        print_note(console, seen_before(run, args.split, None))
    found = compare(outcomes, names)
    print_comparison(console, found)
    out = (args.out or Path()) / COMPARISON_FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    save_comparison(out, found)
    console.print(f"picture: {out}", highlight=False, soft_wrap=True)
    return 0


def _measure(run: RunWithData, split: Split, trust: Trust | None) -> Measured:
    outcomes = observed(run, split, trust)
    to_px = run.data.pictures[split].to_px
    return Measured(
        run=run.name,
        split=split,
        data=run.data,
        outcomes=outcomes,
        evaluation=evaluate(outcomes, run.data.class_names, train_boxes(run.data)),
        trust=trust_figures(trust, outcomes, to_px) if trust else None,
    )


def seen_before(run: RunWithData, split: str, trust: Trust | None) -> str | None:
    """Why the figures may flatter the model; None where nothing speaks for it."""
    if not run.same_data:
        return (
            "these are not the splits that the run was trained with; make sure that none of the "
            "images measured here was among its training images."
        )
    if trust and fitted_on(trust, run, split):
        return "trust was fitted on these very images, so what it promises looks kept here."
    if split == "val":
        return "the epoch that is kept was chosen by these very images, which flatters it a little."
    return None


def _facts(run: RunWithData, split: str, note: str | None) -> list[tuple[str, str]]:
    config = run.config
    facts = [
        ("run", str(run.folder)),
        ("data", f"{config.data.source.format}, {config.data.source.path}"),
        ("split", split),
        ("data fingerprint", run.data.fingerprint),
        ("model", f"{run.localizer.count_params():,} parameters"),
    ]
    return [*facts, ("note", note)] if note else facts


def _short_name(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's name; where two have the same, with as many parents as it takes."""
    parts = folder.resolve().parts
    for count in range(1, len(parts)):
        name = "/".join(parts[-count:])
        if sum("/".join(one.resolve().parts[-count:]) == name for one in folders) == 1:
            return name
    return str(folder)


if __name__ == "__main__":
    sys.exit(main())
