"""Trust and novelty as the commands use them: fitted to a run, read beside it, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from loc_keras.atomic_file import Known, file_sha256, own_files, written_aside
from loc_keras.cli.console import print_line
from loc_keras.cli.runs import RunWithData, split_pictures_at
from loc_keras.config.data import SplitConfig
from loc_keras.config.schema import Config, TrustConfig
from loc_keras.data.annotations import FOLDS, Split
from loc_keras.data.dataset import LocalizationData
from loc_keras.data.load_records import cut_folds
from loc_keras.errors import DataError, TrainingError, TrustError
from loc_keras.evaluation.figures import percent
from loc_keras.evaluation.files import trust_json
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.reliability import TrustFigures
from loc_keras.report.gallery import Example, draw_trusted, trusted_example
from loc_keras.report.image_boxes import Pixels
from loc_keras.report.style import save_figure
from loc_keras.report.terminal import print_trust_table
from loc_keras.training.run_folder import NOVELTY_FILE, PLOTS, TRUST_FILE
from loc_keras.trust.conformal import least_images
from loc_keras.trust.fit import PER_CLASS_WITH_BACKGROUND, fit_statements, trust_figures
from loc_keras.trust.novelty import (
    COMPARED,
    MOST_TRAINING,
    Novelty,
    fit_novelty,
    novelty_of,
    read_novelty,
    statistics_over,
    write_novelty,
)
from loc_keras.trust.observations import observe
from loc_keras.trust.shift import shift_reference
from loc_keras.trust.statements import (
    FOLDS_FILE,
    VERSION,
    Calibration,
    Method,
    Trust,
    guarantee_words,
    promised_share,
    read_folds,
    read_trust,
    write_trust,
)

if TYPE_CHECKING:
    from loc_keras.cli.folds import FoldAnswers

_SHOWN_RANKS = (0.1, 0.4, 0.7, 0.95)
"""Of `p_iou50`, from doubtful to sure: so that failures show too."""


class TrustOnSplit(NamedTuple):
    """How true the statements about the answers on a split were."""

    split: Split
    outcomes: Outcomes
    figures: TrustFigures


@dataclass(frozen=True, eq=False)
class TrustOfRun:
    """What the model card says of trust, what was fitted and how it was kept; None without trust.

    `error` is why there is none although it was asked for.
    """

    card: Mapping[str, Any] | None = None
    trust: Trust | None = None
    measured: TrustOnSplit | None = None
    error: TrustError | None = None

    @property
    def promised(self) -> float:
        """The share of images for which the boxes are proven to keep what they promise."""
        if self.trust is None or self.measured is None:
            return 0.0
        asked = self.measured.figures.guarantees[0].asked
        return promised_share(self.trust.calibration.method, asked)


def trust_of(run: RunWithData) -> Trust | None:
    """Reads the trust beside a run's model, as `read_trust`."""
    return read_trust(run.folder / TRUST_FILE, run.model_path)


def novelty_beside(run: RunWithData) -> Novelty | None:
    """Reads the novelty beside a run's model, as `read_novelty`."""
    return read_novelty(run.folder / NOVELTY_FILE, run.model_path)


def add_novelty(
    folder: Path, model_path: Path, data: LocalizationData, config: Config
) -> tuple[Novelty, dict[str, Any]]:
    """Fits novelty to a run's data, writes it beside the model and measures it.

    p-values rest on the calibration images or, where they are too few for the level, on folds of
    the training images; where these cannot be cut or are drawn, on the validation images.

    Returns:
        What was fitted, and what the model card says of it.
    """
    level = config.trust.novelty_level
    # The least p-value of n images is 1 / (n + 1). Digits are bent for training.
    few = level * (data.sizes.get("calibration", 0) + 1) < 1
    cut = few and data.pictures["train"].records is not None
    if data.folds is not None:
        from loc_keras.cli.folds import folds_of

        training, folds = statistics_over(data.folds), folds_of(config, data)
    else:
        training, folds = _training_statistics(data, cut=cut)
    split: Split = "val" if data.calibration is None else "calibration"
    held_out = None if folds else data.held_out(split)
    if folds:
        split = "train"
    novelty = fit_novelty(
        training,
        None if held_out is None else statistics_over(held_out),
        folds=folds,
        level=level,
        split=split,
        model_sha256=file_sha256(model_path),
    )
    _, names, instead, known_by = trust_place(folder)
    # With trust.json, which a list without it would make a foreign file.
    with own_files(folder, (NOVELTY_FILE, *names), instead, known_by):
        write_novelty(folder / NOVELTY_FILE, novelty)
    count = sum(len(fold.distances) for fold in novelty.folds)
    card: dict[str, Any] = {"level": level, f"{split}_images": count}
    if data.test is not None:
        known = novelty_of(statistics_over(data.test), novelty)["known"]
        card["unknown_test_images"] = float(1 - np.mean(known))
    return novelty, card


def _training_statistics(
    data: LocalizationData, *, cut: bool
) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.int64]]]:
    """`statistics` of training images, each once, and the rows of each fold of them.

    Near duplicates, images of a group and crops of one picture stay in one fold. There are no folds
    where none shall be cut, or the images do not make `COMPARED` of them.
    """
    assert data.batch_indices is not None
    steps = min(data.steps_per_epoch, -(-MOST_TRAINING // len(data.batch_indices(0))))
    # A set that is smaller than a batch repeats images.
    rows, once = np.unique(data.batch_indices(0, steps=steps), return_index=True)
    found = statistics_over(data.train(0, augmentation=None).take(steps))[once]
    records, store = data.pictures["train"].records, data.store
    if not cut or records is None or store is None:
        return found, []
    try:
        looks = store.thumbnails[rows]
        return found, cut_folds(records.take(rows), SplitConfig(), COMPARED, 0, lambda: looks)
    except DataError:
        return found, []


def novelty_words(card: Mapping[str, Any]) -> str:
    """How many of the test images are told unknown; "" where there are none."""
    if "unknown_test_images" not in card:
        return ""
    share = percent(card["unknown_test_images"])
    return f"novelty: {share} % of the test images are told unknown"


def observed(run: RunWithData, split: Split, trust: Trust | None = None) -> Outcomes:
    """What a run's model answers on a split, and the signals of trust.

    Raises:
        DataError: If the split has no images.
    """
    if split == FOLDS:
        from loc_keras.cli.folds import read_answers

        return read_answers(run.folder, run.data)
    return observe(
        run.localizer,
        run.held_out(split),
        run.data.pictures[split],
        flip=trust is not None and trust.statements.flip,
        background=run.data.background,
        folds=None if trust is None else read_folds(run.folder, trust),
        novelty=novelty_beside(run),
    )


def trust_place(folder: Path, file: str = TRUST_FILE) -> tuple[Path, Sequence[str], str, Known]:
    """A file of trust in a run's folder, as `own_files` takes it."""
    known = (TRUST_FILE, frozenset({"version", "calibration", "statements", "shift"}))
    return folder, (file,), "give --run a copy of the run", known


def calibrate_model(
    folder: Path,
    model_path: Path,
    localizer: keras.Model,
    data: LocalizationData,
    options: TrustConfig,
    split: Split = "calibration",
) -> Trust:
    """Fits trust on a split and writes `trust.json` into the folder of a run.

    Raises:
        TrustError: If the images are too few, or there are none.
    """
    check_images(options, data, split)
    dataset = data.held_out(split)
    assert dataset is not None
    outcomes = observe(localizer, dataset, flip=options.flip, background=data.background)
    return _fitted(folder, model_path, data, options, outcomes, split=split)


def _fitted(
    folder: Path,
    model_path: Path,
    data: LocalizationData,
    options: TrustConfig,
    outcomes: Outcomes,
    *,
    split: Split,
    folds: npt.NDArray[np.int64] | None = None,
    val: Outcomes | None = None,
) -> Trust:
    """Trust fitted to `outcomes`, written; new images are compared with `val`, else with these."""
    method: Method = "split" if folds is None else "cross"
    count = 0 if folds is None else int(folds.max()) + 1
    trust = Trust(
        version=VERSION,
        calibration=Calibration(
            split=split,
            images=len(outcomes),
            object_images=int(np.count_nonzero(outcomes.shown)),
            data_fingerprint=data.fingerprint,
            model_sha256=file_sha256(model_path),
            coverage=options.coverage,
            method=method,
            folds=count,
            guarantee=guarantee_words(method, options.coverage, count),
            folds_sha256=file_sha256(folder / FOLDS_FILE) if count else "",
            compared=("val" if val is not None else FOLDS) if count else split,
        ),
        statements=fit_statements(outcomes, options, data.class_names, folds),
        shift=shift_reference(val or outcomes, by_others=count > 0 and val is None),
    )
    with own_files(*trust_place(folder)):
        write_trust(folder / TRUST_FILE, trust)
    return trust


def measured_on(
    trust: Trust,
    localizer: keras.Model,
    data: LocalizationData,
    splits: Sequence[Split],
    folds: keras.Model | None = None,
) -> TrustOnSplit | None:
    """How true the statements were on the first of some splits that has images."""
    for split in splits:
        dataset = data.held_out(split)
        if dataset is not None and split != trust.calibration.split:
            pictures, background = data.pictures[split], data.background
            flip = trust.statements.flip
            outcomes = observe(
                localizer, dataset, pictures, flip=flip, background=background, folds=folds
            )
            return TrustOnSplit(split, outcomes, trust_figures(trust, outcomes, pictures.to_px))
    return None


def print_trust(console: Console, trust: Trust, measured: TrustOnSplit) -> None:
    """Prints on what trust was fitted, and how it was kept on a split."""
    base = trust.calibration
    others = f" as {base.folds} models answer them without their fold" if base.folds else ""
    print_line(
        console,
        f"trust: fitted on {base.images:,} {base.split} images{others}, measured on "
        f"{len(measured.outcomes):,} {measured.split} images",
    )
    if base.method == "cross":
        print_line(console, base.guarantee)
    print_trust_table(console, measured.figures)


def check_trust(config: Config, data: LocalizationData) -> None:
    """Refuses before a training what its calibration images, if there are any, cannot promise.

    Raises:
        TrustError: If they are too few or do not serve what is asked.
        DataError: If they cannot be cut into the folds.
    """
    if config.has_folds:
        from loc_keras.cli.folds import folds_of

        folds_of(config, data)
    split: Split = "train" if config.trust.method == "cross" else "calibration"
    if split == "calibration" and data.calibration is None:
        return
    check_images(config.trust, data, split)
    if config.trust.scaling == "spread" and config.model.bbox_head != "distribution":
        raise TrustError(
            f"trust.scaling 'spread' needs model.bbox_head 'distribution', not "
            f"'{config.model.bbox_head}'; set trust.scaling to auto, size or additive."
        )


def add_trust(
    config: Config,
    data: LocalizationData,
    folder: Path,
    model_path: Path,
    best: keras.Model,
    answers: "FoldAnswers | None" = None,
) -> TrustOfRun:
    """Fits trust to a trained model and measures it, where the config asks for it.

    Where what was asked turns out not to be had, the model stays as it is and goes on to its
    export: hours of training must not end without one. `answers` are those of the folds.
    """
    options = config.trust
    answers = answers if options.method == "cross" else None
    if data.calibration is None and answers is None:
        return TrustOfRun()
    models = None
    try:
        if answers is not None:
            models = answers.models
            file = folder / FOLDS_FILE
            with own_files(*trust_place(folder, FOLDS_FILE)), written_aside(file) as aside:
                models.save(aside)
            # New images are compared with those of validation, which this very model has answered.
            background, val = data.background, None
            if data.val is not None:
                val = observe(best, data.val, flip=options.flip, background=background)
            outcomes, folds = answers.outcomes, answers.folds
            trust = _fitted(
                folder, model_path, data, options, outcomes, split="train", folds=folds, val=val
            )
        else:
            trust = calibrate_model(folder, model_path, best, data, options)
        measured = measured_on(trust, best, data, ("test", "val"), models)
    except (TrustError, TrainingError) as error:
        return TrustOfRun(error=TrustError(f"there is no trust with this model: {error}"))
    card: dict[str, Any] = {
        "coverage": config.trust.coverage,
        "calibration_images": trust.calibration.images,
        "method": trust.calibration.method,
        "guarantee": trust.calibration.guarantee,
    }
    if measured is not None:
        card |= {"measured_on": measured.split, **trust_json(measured.figures)}
        # Above the picture stands what is proven, which with folds is less than what is asked.
        share = TrustOfRun(card, trust, measured).promised
        _save_picture(folder / PLOTS / f"{measured.split}_trust.png", data, measured, share)
    return TrustOfRun(card, trust, measured)


def check_images(options: TrustConfig, data: LocalizationData, split: Split) -> None:
    """Refuses what the images of a split cannot promise, before hours are spent.

    Raises:
        TrustError: Saying how many images are needed, or what cannot be had.
    """
    if not data.sizes.get(split):
        raise TrustError(
            f"the data hold no {split} images to fit trust on (folds, of trust.method cross, are "
            "fitted by training alone); set data.split.calibration (0.1, say) and train anew, or "
            "give others by --split or images that the model has not seen by --config."
        )
    if options.per_class and data.background is not None:
        raise TrustError(PER_CLASS_WITH_BACKGROUND)
    needed = least_images(options.coverage)
    kind, images = "images", data.sizes[split]
    boxes = data.pictures[split].boxes
    if data.background is not None:
        # Boxes are promised, and so calibrated, on the images that show an object alone.
        kind = "images with an object"
        images = images if boxes is None else int(boxes.any(axis=1).sum())
    if images < needed:
        raise TrustError(
            f"a coverage of {options.coverage:g} needs at least {needed} {kind} to calibrate on, "
            f"but the {split} split has {images}; raise "
            f"{'data.split.calibration' if split == 'calibration' else 'their number'} or lower "
            "trust.coverage."
        )


def _save_picture(path: Path, data: LocalizationData, measured: TrustOnSplit, share: float) -> None:
    """Draws four answers, from doubtful to sure, with their outer and inner boxes."""
    shown, p_iou50 = np.flatnonzero(measured.outcomes.shown), measured.figures.p_iou50
    ranked = shown[np.argsort(p_iou50[shown], kind="stable")]
    places = [ranked[int(rank * (len(ranked) - 1))] for rank in _SHOWN_RANKS] if len(ranked) else []
    rows = list(dict.fromkeys(int(row) for row in places))
    pictures = split_pictures_at(data, measured.split, rows)
    examples = [
        _example(measured, row, pictures[row], data.class_names) for row in rows if row in pictures
    ]
    if examples:
        save_figure(draw_trusted(examples, share), path)


def _example(measured: TrustOnSplit, row: int, picture: Pixels, names: Sequence[str]) -> Example:
    """An answer with its picture and what trust says of it."""
    outcomes, trust = measured.outcomes, measured.figures
    scale = np.tile(outcomes.sizes[row][::-1], 2)
    return trusted_example(
        picture,
        label=names[int(outcomes.predicted[row])],
        probability=float(trust.probabilities[row].max()),
        p_iou50=float(trust.p_iou50[row]),
        box=outcomes.boxes_pred_px[row] / scale,
        outer=trust.outer_px[row] / scale,
        inner=trust.inner_px[row] / scale,
        labels=[names[at] for at in np.flatnonzero(trust.label_sets[row]).tolist()],
    )
