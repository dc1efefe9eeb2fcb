"""What `evaluate` does: measure runs on a split, write figures and page, compare."""

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console

from loc_keras.atomic_file import file_sha256, own_files, refuse_foreign, write_text
from loc_keras.cli.console import print_note
from loc_keras.cli.folds import meaning_of_folds
from loc_keras.cli.runs import (
    RunWithData,
    images_at,
    leak_note,
    load_run,
    print_data,
    split_pictures_at,
    usual_split,
    write_near_duplicates,
)
from loc_keras.cli.trust import observed, trust_of
from loc_keras.data.annotations import FOLDS, Split
from loc_keras.data.dataset import LocalizationData
from loc_keras.evaluation.figures import evaluate
from loc_keras.evaluation.files import (
    DETECTIONS_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    TRUTH_FILE,
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
    choose_worst,
    suspect_words,
    wanted_pictures,
)
from loc_keras.report.evaluation_report import MOST_NEAR_DUPLICATES, evaluation_page
from loc_keras.report.explanation import drawn_explanation, explainer, is_explainable
from loc_keras.report.image_boxes import Pixels, small_pictures
from loc_keras.report.terminal import SPLIT_NAMES, print_evaluation
from loc_keras.training.run_folder import EVALUATION, NEAR_DUPLICATES_FILE, package_versions
from loc_keras.trust.fit import trust_figures
from loc_keras.trust.statements import Trust

REPORT_FILE = "report.html"
COMPARISON_FILE = "comparison.png"
FILES = (
    METRICS_FILE,
    PREDICTIONS_FILE,
    TRUTH_FILE,
    DETECTIONS_FILE,
    REPORT_FILE,
    NEAR_DUPLICATES_FILE,
)
KNOWN = (METRICS_FILE, frozenset({"about", "confusion"}))

_BASELINE_IMAGES = 10_000
"""Training boxes that the baselines are computed from, where they are only known by drawing."""


def run(args: argparse.Namespace) -> int:
    """Measures one run, or compares several; gives the exit code."""
    first = args.compare[0] if args.compare else args.run
    if args.split is None:
        args.split = "test" if args.data else usual_split(first)
    work = _compare if args.compare else _evaluate
    return work(args, Console(markup=False))


def _measured(args: argparse.Namespace) -> tuple[str, Split] | None:
    return None if args.data is None else (args.data, args.split)


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    """Measures a run and writes figures, predictions, COCO's files and the page."""
    split: Split = args.split
    out: Path = args.out or args.run / EVALUATION / split
    mine = (out, FILES, "give another folder to --out", KNOWN)
    refuse_foreign(*mine)  # Before minutes are spent.
    run = load_run(args.run, args.config, args.set, measured=_measured(args))
    print_data(console, run.data, listed=False)
    # Answers out of fold are those that it was fitted to.
    trust = None if split == FOLDS else trust_of(run)
    outcomes, pictures = observed(run, split, trust), run.data.pictures[split]
    evaluation = evaluate(
        outcomes, run.data.class_names, _train_boxes(run.data), leaked=run.data.leaked(split)
    )
    figures = trust_figures(trust, outcomes, pictures.to_px) if trust else None
    note = _caution(run, split, trust)
    print_note(console, note)

    facts, classes = _facts(run, split, note), run.data.class_names
    names = [str(name) for name in pictures.names]
    with own_files(*mine):
        # The figures first: a picture that cannot be drawn must not cost them.
        write_metrics(out / METRICS_FILE, evaluation, figures, dict(facts))
        paths = pictures.paths
        write_predictions(out / PREDICTIONS_FILE, outcomes, classes, names, paths, figures)
        write_near_duplicates(out, run.data, [split])
        write_coco(out, outcomes, classes, names, detection_scores(outcomes, figures))
        page = _page(run, split, outcomes, evaluation, figures, names=names, facts=facts)
        write_text(out / REPORT_FILE, evaluation_page(page))
    print_evaluation(console, evaluation, figures)
    console.print(f"report: {out / REPORT_FILE}", highlight=False, soft_wrap=True)
    return 0


def _compare(args: argparse.Namespace, console: Console) -> int:
    out: Path = args.out or Path()
    mine = (out, (COMPARISON_FILE,), "give another folder to --out")
    refuse_foreign(*mine)
    outcomes, names = {}, {}
    for folder in args.compare:
        run = load_run(folder, args.config, args.set, measured=_measured(args))
        name = _short_name(folder, args.compare)
        outcomes[name] = observed(run, args.split)
        names[name] = [str(image) for image in run.data.pictures[args.split].names]
        leaked = leak_note(run.data, args.split, listed=False)
        for words in (_caution(run, args.split, None), leaked):
            print_note(console, words and f"{name}: {words}")
    comparison = compare(outcomes, names)
    print_comparison(console, comparison)
    with own_files(*mine):
        save_comparison(out / COMPARISON_FILE, comparison)
    console.print(f"picture: {out / COMPARISON_FILE}", highlight=False, soft_wrap=True)
    return 0


def _train_boxes(data: LocalizationData) -> npt.NDArray[np.float32]:
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


def _page(
    run: RunWithData,
    split: Split,
    outcomes: Outcomes,
    evaluation: Evaluation,
    trust: TrustFigures | None,
    *,
    names: Sequence[str],
    facts: Sequence[tuple[str, str]],
) -> EvaluationPage:
    """What the page shows, with pictures and near duplicates of suspect annotations."""
    p_iou50 = None if trust is None else trust.p_iou50
    suspected = choose_suspects(outcomes, p_iou50).tolist()
    scores = detection_scores(outcomes, trust)
    pictures = split_pictures_at(
        run.data, split, wanted_pictures(outcomes, scores, suspected).tolist()
    )
    worst = choose_worst(outcomes, scores).tolist()
    near = _near_duplicates(run.data, split, suspected)
    return EvaluationPage(
        title=f"{run.name}: evaluation on {SPLIT_NAMES.get(split, split)} images",
        run=run.name,
        split=split,
        facts=facts,
        evaluation=evaluation,
        outcomes=outcomes,
        names=names,
        pictures=pictures,
        trust=trust,
        explained={} if split == FOLDS else _explained(run, split, worst, pictures),
        suspects=[
            Suspect(row, suspect_words(outcomes, row, p_iou50), images)
            for row, images in zip(suspected, near, strict=True)
        ],
    )


def _explained(
    run: RunWithData, split: Split, rows: list[int], pictures: Mapping[int, Pixels]
) -> dict[int, Pixels]:
    """Pictures of some images with what the model's answers were read from."""
    if not rows or not is_explainable(run.localizer):
        return {}
    images = images_at(run.held_out(split), np.array(rows))
    found = zip(rows, explainer(run.localizer)(images), strict=True)
    rule = run.data.pictures[split].rule
    return {
        row: np.asarray(drawn_explanation(Image.fromarray(pictures[row]), one, rule)[0])
        for row, one in found
        if row in pictures
    }


def _near_duplicates(
    data: LocalizationData, split: Split, rows: list[int]
) -> list[list[NearDuplicate]]:
    """For each image its likeliest near duplicates in the training split."""
    train, pairs = data.pictures["train"].records, data.near_duplicates.get(split)
    if train is None or pairs is None:
        return [[] for _ in rows]
    order = np.argsort(-pairs.agreement, kind="stable")
    first, second, _ = pairs.take(order)
    places = [second[first == row][:MOST_NEAR_DUPLICATES].tolist() for row in rows]
    classes = data.class_names
    pictures = small_pictures(train, sorted({place for found in places for place in found}))
    return [
        [
            NearDuplicate(str(train.names[at]), pictures.get(at), classes[int(train.labels[at])])
            for at in found
        ]
        for found in places
    ]


def _caution(run: RunWithData, split: str, trust: Trust | None) -> str | None:
    """Why the figures may flatter the model; None where nothing speaks for it."""
    if not run.same_data:
        return (
            "these are not the splits that the run was trained with; make sure that none of the "
            "images measured here was among its training images."
        )
    if split == FOLDS:
        return meaning_of_folds(run.config)
    base = trust and trust.calibration
    if base and base.split == split and run.data.is_that_of(base.data_fingerprint):
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
        ("model SHA-256", file_sha256(run.model_path)),
        ("date", datetime.now().astimezone().isoformat(timespec="seconds")),
        ("packages", ", ".join(f"{name} {has}" for name, has in package_versions().items() if has)),
    ]
    return [*facts, ("note", note)] if note else facts


def _short_name(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's name; where two have the same, with as many parents as it takes."""
    parts = folder.resolve().parts
    for count in range(1, len(parts)):
        name = "/".join(parts[-count:])
        if sum("/".join(other.resolve().parts[-count:]) == name for other in folders) == 1:
            return name
    return str(folder)
