"""Out-of-fold answers: every training image, answered by a model that was trained without it.

The training images are cut into folds. For each fold a model is trained on the others, chosen by
the run's own validation images where there are any, and asked about the fold. The answers measure
the run (`train.folds`), and trust is fitted to them (`trust.method: cross`).
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from loc_keras.atomic_file import written_aside
from loc_keras.cli.build import localizer_from
from loc_keras.cli.console import print_line, print_note
from loc_keras.config.schema import Config
from loc_keras.config.train import TrainConfig
from loc_keras.data.annotations import Split
from loc_keras.data.dataset import LocalizationData, build_file_data
from loc_keras.data.load_records import cut_folds
from loc_keras.data.resolve import Cut, DatasetRecords, Records
from loc_keras.errors import DataError, TrustError
from loc_keras.evaluation.outcomes import Outcomes, join_outcomes
from loc_keras.models.weights import open_model
from loc_keras.recipe.rules import EMA_STEPS
from loc_keras.training.fit import SharedLocalizer, fit_localizer
from loc_keras.training.model import FitPlan, collect_outcomes, outcomes_from
from loc_keras.training.run_folder import FOLD_ANSWERS, FOLDS, open_run
from loc_keras.trust.conformal import fold_ensemble
from loc_keras.trust.observations import observer, observing

DRAWN = (
    "trust.method cross and train.folds cut folds of pictures in files, and those of {} are drawn; "
    "set trust.method to split and data.split.calibration to 0.1, say, and train.folds to 0."
)


class FoldAnswers(NamedTuple):
    """Outcomes of all training images in their order, with `outputs` as by `observe`.

    Of each `folds`, int64 (N,), says which fold it is in, from 0; `models` are all as one.
    """

    outcomes: Outcomes
    folds: npt.NDArray[np.int64]
    models: keras.Model


def out_of_fold(
    config: Config, data: LocalizationData, folder: Path, console: Console, after: float
) -> FoldAnswers:
    """Trains a model without each fold and asks it about that fold.

    A fold whose training was interrupted goes on from its checkpoint, and a finished one is not
    trained again, as long as the run's folder is there, in whose folder `FOLDS` both are left.
    `config.trust` says how many folds, and how long each model trains; `after` how many seconds the
    command goes on behind all of them.

    Raises:
        TrustError: If the images are drawn, so that no fold can be cut.
        DataError: If a fold would be empty.
    """
    folds = folds_of(config, data)
    train, store = data.pictures["train"].records, data.store
    assert train is not None and store is not None
    val = None if data.val is None else data.pictures["val"].records
    options, seed = config.trust, config.train.seed
    height, width, channels = data.image_shape
    form = config.data.model_copy(update={"image_size": (height, width), "channels": channels})
    shorter = fold_training(config.train, options.fold_length)
    # Both are traced once; each fold lends its values, with the moments of its own pixels: to what
    # is trained, and to what answers, which computes as what is saved does.
    shared, served = SharedLocalizer(localizer_from(config, data)), None
    answered, models = [], []
    uncut = store.take(np.argsort(store.rows))
    for number, held in enumerate(folds, start=1):
        rest = np.setdiff1d(np.arange(len(train)), held)
        print_line(
            console,
            f"fold {number} of {len(folds)}: trained on {len(rest):,} images, asked about "
            f"{len(held):,}",
        )
        rows: dict[Split, npt.NDArray[np.int64]] = {
            "train": store.rows[rest],
            "calibration": store.rows[held],
        }
        parts: dict[Split, Records] = {"train": train.take(rest), "calibration": train.take(held)}
        cut = Cut(train, rows, parts, apart=True)
        splits = parts if val is None else {**parts, "val": val}
        found = DatasetRecords(splits, data.class_names, background=data.background, cut=cut)
        size = config.train.batch_size
        part = build_file_data(found, form, config.augment, batch_size=size, seed=seed, uncut=uncut)
        keras.utils.set_random_seed(seed + number)
        shared.become(localizer_from(config, part))
        plan = FitPlan.for_data(shorter, config.loss, part)
        open_run(folder / FOLDS / str(number))
        result = fit_localizer(
            shared.localizer,
            train=part.train,
            val=part.val,
            plan=plan,
            folder=folder / FOLDS / str(number),
            sources=part.batch_names,
            say=lambda words: print_note(console, words),
            compiled=shared,
            console=console,
            name=f"fold {number}/{len(folds)}",
            after=partial(_after_fold, len(folds) - number, after),
        )
        if served is None:
            served = SharedLocalizer(open_model(result.best_path))
            answer = observing(served.localizer, flip=options.flip)
        localizer = open_model(result.best_path)
        served.become(localizer)
        models.append(observer(localizer))
        assert part.calibration is not None
        pictures = part.pictures["calibration"]
        answered.append(collect_outcomes(answer, part.calibration, pictures, data.background))
    order = np.argsort(np.concatenate(folds))
    numbers = np.repeat(np.arange(len(folds)), [len(held) for held in folds])
    return FoldAnswers(join_outcomes(answered).take(order), numbers[order], fold_ensemble(models))


def _after_fold(others: int, after: float, epochs: int, epoch_seconds: float) -> float:
    return others * epochs * epoch_seconds + after


def folds_of(config: Config, data: LocalizationData) -> list[npt.NDArray[np.int64]]:
    """Rows of the training images in each fold.

    Raises:
        TrustError: If the images are drawn, so that no fold can be cut.
        DataError: If a fold would be empty or, with `train.folds`, a class be measured by models
            that do not know it.
    """
    train, store = data.pictures["train"].records, data.store
    if train is None or store is None:
        raise TrustError(DRAWN.format(config.data.source.format))
    count, seed, thumbnails = config.trust.folds, config.train.seed, store.thumbnails
    folds = cut_folds(train, config.data.split, count, seed, lambda: thumbnails)
    if not config.train.folds:
        return folds
    classes, images = np.unique(train.labels, return_counts=True)
    for label, own in zip(classes.tolist(), images.tolist(), strict=True):
        name = f"the class {data.class_names[label]}"
        if own < count:
            raise DataError(
                f"{count} folds need {count} images of each class, one for each, and {name} has "
                f"{own}; add images, or set train.folds to 0, with which splits are held back."
            )
        if any((train.labels[held] == label).sum() == own for held in folds):
            raise DataError(
                f"a fold holds all {own} images of {name}, which belong together "
                "(data.split.together), so that its model would not know that class; add images "
                "from 2 scenes or more, or set train.folds to 0, with which splits are held back."
            )
    return folds


def fold_training(train: TrainConfig, share: float) -> TrainConfig:
    """A training of a share of the epochs, at least one; what spans epochs shrinks with them."""
    epochs = max(1, round(share * train.epochs))
    rest = round(share * train.fine_tune.freeze_epochs)
    return train.model_copy(
        update={
            "epochs": epochs,
            "warmup_epochs": min(float(epochs), round(share * train.warmup_epochs, 2)),
            "ema": train.ema and 1 - 1 / max(EMA_STEPS[0], share / (1 - train.ema)),
            "fine_tune": train.fine_tune.model_copy(update={"freeze_epochs": rest}),
        }
    )


def meaning_of_folds(config: Config) -> str:
    """What an out-of-fold figure means, in a sentence."""
    return (
        f"out-of-fold figures: every image was answered by one of {config.train.folds} models, "
        f"trained without it for {config.trust.fold_length:.0%} of the epochs; the model that is "
        "kept learned longer and from all images, and was not measured itself."
    )


def write_answers(folder: Path, outcomes: Outcomes, fingerprint: str) -> None:
    """Keeps the answers of the folds in a run's folder, for `read_answers`."""
    columns = {name: value for name, value in outcomes.outputs.items() if name != "features"}
    columns |= {"labels": outcomes.labels, "fingerprint": np.array(fingerprint)}
    with written_aside(folder / FOLD_ANSWERS) as aside, aside.open("wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]


def read_answers(folder: Path, data: LocalizationData) -> Outcomes:
    """The answers of the folds to a run's training images, without their features.

    Raises:
        DataError: If there are none, or they are of other images.
    """
    path = folder / FOLD_ANSWERS
    if not path.is_file() or data.folds is None:
        raise DataError(
            f"{folder} holds no answers out of fold ({FOLD_ANSWERS}), which training with "
            "train.folds leaves; name another --split."
        )
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}
    if not data.is_that_of(str(columns.pop("fingerprint"))):
        raise DataError(f"{path} is of other images than these; train anew to measure out of fold.")
    labels = columns.pop("labels")
    return outcomes_from(labels, columns, data.pictures["folds"], data.background)
