"""Out-of-fold answers: every training image, answered by a model that was trained without it.

The training images are cut into folds. For each fold a model is trained on the others, chosen by
the run's own validation images, and asked about the fold.
"""

from functools import partial
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from loc_keras.cli.build import localizer_from, validation_set
from loc_keras.cli.console import print_line, print_note
from loc_keras.config.schema import Config
from loc_keras.config.train import TrainConfig
from loc_keras.data.annotations import Split
from loc_keras.data.dataset import LocalizationData, build_file_data, image_format, store_of
from loc_keras.data.load_records import cut_folds
from loc_keras.data.pixel_store import PixelStore
from loc_keras.data.resolve import Cut, DatasetRecords
from loc_keras.errors import TrustError
from loc_keras.evaluation.outcomes import Outcomes, join_outcomes
from loc_keras.training.fit import SharedLocalizer, fit_localizer
from loc_keras.training.model import FitPlan, collect_outcomes
from loc_keras.training.run_folder import FOLDS, open_run
from loc_keras.trust.conformal import fold_ensemble
from loc_keras.trust.observations import observer, observing

DRAWN = (
    "trust.method cross cuts folds of pictures in files, and those of {} are drawn; set "
    "trust.method to split and data.split.calibration to 0.1, say."
)


def out_of_fold(
    config: Config, data: LocalizationData, folder: Path, console: Console
) -> tuple[Outcomes, npt.NDArray[np.int64], keras.Model]:
    """Trains a model without each fold and asks it about that fold.

    A fold whose training was interrupted goes on from its checkpoint, and a finished one is not
    trained again, as long as the run's folder is there, in whose folder `FOLDS` both are left.
    `config.trust` says how many folds, and how long each model trains.

    Returns:
        The answers to all training images, fold by fold, with `outputs` as by `observe`; the fold
        of each, from 0; and all models as one (`fold_ensemble`).

    Raises:
        TrustError: If the images are drawn, so that no fold can be cut.
        DataError: If a fold would be empty.
    """
    train, val = data.pictures["train"].records, data.pictures["val"].records
    if train is None or val is None:
        raise TrustError(DRAWN.format(config.data.source.format))
    options, seed = config.trust, config.train.seed
    height, width, channels = data.image_shape
    form = config.data.model_copy(update={"image_size": (height, width), "channels": channels})
    shorter = fold_training(config.train, options.fold_length)
    # Traced once for all folds; each lends it first weights and the moments of its own pixels.
    shared = SharedLocalizer(localizer_from(config, data))
    answer = observing(shared.localizer, flip=options.flip)
    answered, models = [], []
    whole = DatasetRecords({"train": train}, data.class_names)
    uncut = store_of(train, image_format(whole, form), form)
    folds = folds_of(config, data, uncut)
    for number, held in enumerate(folds, start=1):
        rest = np.setdiff1d(np.arange(len(train)), held)
        print_line(
            console,
            f"fold {number} of {len(folds)}: trained on {len(rest):,} images, asked about "
            f"{len(held):,}",
        )
        rows: dict[Split, npt.NDArray[np.int64]] = {"train": rest, "calibration": held}
        parts = {split: train.take(index) for split, index in rows.items()}
        cut = Cut(train, rows, parts, apart=True)
        found = DatasetRecords(
            {**parts, "val": val}, data.class_names, background=data.background, cut=cut
        )
        size = config.train.batch_size
        part = build_file_data(found, form, config.augment, batch_size=size, seed=seed, uncut=uncut)
        keras.utils.set_random_seed(seed + number)
        localizer = localizer_from(config, part)
        shared.become(localizer)
        plan = FitPlan.for_data(shorter, config.loss, part)
        open_run(folder / FOLDS / str(number))
        result = fit_localizer(
            shared.localizer,
            train=part.train,
            val=validation_set(part),
            plan=plan,
            folder=folder / FOLDS / str(number),
            sources=part.batch_names,
            say=lambda words: print_note(console, words),
            compiled=shared,
            console=console,
            name=f"fold {number}/{len(folds)}",
            after=partial(_other_folds, len(folds) - number),
        )
        localizer.load_weights(result.best_path)
        shared.become(localizer)
        models.append(observer(localizer))
        assert part.calibration is not None
        answered.append(collect_outcomes(answer, part.calibration, background=data.background))
    numbers = np.repeat(np.arange(len(folds)), [len(part) for part in answered])
    return join_outcomes(answered), numbers, fold_ensemble(models)


def _other_folds(count: int, epochs: int, epoch_seconds: float) -> float:
    return count * epochs * epoch_seconds


def folds_of(
    config: Config, data: LocalizationData, uncut: PixelStore | None = None
) -> list[npt.NDArray[np.int64]]:
    """Rows of the training images in each fold; `uncut` is their store, where it is there already.

    Raises:
        TrustError: If the images are drawn, so that no fold can be cut.
        DataError: If a fold would be empty.
    """
    train = data.pictures["train"].records
    if train is None:
        raise TrustError(DRAWN.format(config.data.source.format))
    form = image_format(DatasetRecords({"train": train}, data.class_names), config.data)
    return cut_folds(
        train,
        config.data.split,
        config.trust.folds,
        config.train.seed,
        lambda: (uncut or store_of(train, form, config.data, "none")).looks,
    )


def fold_training(train: TrainConfig, share: float) -> TrainConfig:
    """The settings of a training of a share of its epochs, at least one."""
    epochs = max(1, round(share * train.epochs))
    rest = round(share * train.fine_tune.freeze_epochs)
    return train.model_copy(
        update={
            "epochs": epochs,
            "warmup_epochs": min(float(epochs), round(share * train.warmup_epochs, 2)),
            "fine_tune": train.fine_tune.model_copy(update={"freeze_epochs": rest}),
        }
    )
