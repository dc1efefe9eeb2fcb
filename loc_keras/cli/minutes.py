"""What a training command takes after its own training: for `--minutes`, and for the time left."""

import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import keras

from loc_keras.atomic_file import write_text
from loc_keras.cli.build import validation_set
from loc_keras.cli.folds import fold_training
from loc_keras.config.load import dump_config
from loc_keras.config.schema import Config
from loc_keras.data.dataset import LocalizationData
from loc_keras.recipe.rules import EPOCHS, LEAST_STEPS
from loc_keras.training.budget import After, Budget, Costs, Rehearsal
from loc_keras.training.model import FitPlan
from loc_keras.training.progress import clock_time
from loc_keras.training.run_folder import CONFIG_FILE
from loc_keras.trust.novelty import MOST_TRAINING

TRACING_SECONDS = 10.0
"""Of the first step, where it was not timed."""

FINISH_TRACINGS, FOLDS_TRACINGS, FOLD_TRACINGS = 3.0, 5.0, 1.0
"""What the end of a run takes without images (pictures, the export and its check), what folds add
to it, and what each does beside its epochs, in times of tracing a step: all of it builds graphs. Of
one run on two cores."""


def finish_seconds(config: Config, data: LocalizationData, costs: Costs | None = None) -> float:
    """How long the command goes on after its last training; without costs images do not count."""
    folds = config.trust.folds if config.has_folds else 0
    tracings = FINISH_TRACINGS + (FOLDS_TRACINGS if folds else 0)
    if costs is None:
        return tracings * TRACING_SECONDS
    sizes = data.sizes
    # Figures of both splits, answers of folds, novelty of training and test images, trust of these.
    images = min(sizes["train"], MOST_TRAINING) + sizes["val"] + sizes.get("calibration", 0)
    images += (2 + folds) * sizes.get("test", 0) + bool(folds) * sizes["train"]
    return tracings * costs.tracing + images * costs.validation / (sizes["val"] or sizes["train"])


def time_after(
    config: Config, data: LocalizationData, plan: FitPlan, costs: Costs | None = None
) -> After:
    """How long the command goes on after its training: trainings of the folds, and its end."""
    folds = config.trust.folds if config.has_folds else 0
    seconds = finish_seconds(config, data, costs)
    seconds += folds * FOLD_TRACINGS * (costs.tracing if costs else TRACING_SECONDS)
    share = 1.0 if plan.train.steps_per_epoch or not folds else 1 - 1 / folds

    def after(epochs: int, epoch_seconds: float) -> float:
        train = plan.train.model_copy(update={"epochs": epochs})
        fold_epochs = fold_training(train, config.trust.fold_length).epochs
        return seconds + folds * fold_epochs * epoch_seconds * share

    return after


class TimedTraining:
    """A training of a localizer that is to end with its command `seconds` after that `began`.

    The config is of about that length; `with_length` gives that of another one, by its epochs and,
    unless None, the steps of each, which replaces it.
    """

    def __init__(
        self,
        config: Config,
        with_length: Callable[[int, int | None], Config],
        data: LocalizationData,
        localizer: keras.Model,
        seconds: float,
        began: float,
    ) -> None:
        self.config = config
        self.data = data
        self.plan = FitPlan.for_data(config.train, config.loss, data)
        val = validation_set(data) or data.folds
        assert val is not None
        self.rehearsal = Rehearsal(localizer, self.plan, data.train, val)
        costs, steps = self.rehearsal.costs, self.plan.steps_per_epoch
        self.after = time_after(config, data, self.plan, costs)
        self.budget = Budget(seconds, lambda: time.monotonic() - began, self.after, *EPOCHS)
        epochs = self.budget.epochs_in_time(costs.epoch(steps))
        fewer = self._steps_in_time(epochs, steps)
        self._take(with_length(epochs, fewer if fewer < steps else None))
        steps = self.plan.steps_per_epoch
        phase = self.rehearsal.phase
        rise = min(int(self.config.train.warmup_epochs), phase.epochs)
        if self.rehearsal.is_adjustable and rise and not self.config.train.progressive_size:
            self.budget.correct_after = phase.first + rise
        total = self.budget.spent() + epochs * costs.epoch(steps)
        total += self.after(epochs, costs.epoch(steps))
        self.words = (
            f"timed: {self.config.train.batch_size / costs.step:,.0f} images/s, "
            f"{costs.validation:.1f} s a validation; {epochs} epochs, import to export "
            f"{clock_time(total)}"
        )

    def _steps_in_time(self, epochs: int, steps: int) -> int:
        """So many steps of an epoch, of those given, as let the epochs end in time."""

        def seconds(count: int) -> float:
            epoch = self.rehearsal.costs.epoch(count)
            return epochs * epoch + self.after(epochs, epoch)

        left = self.budget.seconds - self.budget.spent()
        fitting = bisect_right(range(1, steps + 1), left, key=seconds)
        return min(steps, max(LEAST_STEPS, fitting))

    def _take(self, config: Config) -> None:
        self.config = config
        self.plan = FitPlan.for_data(config.train, config.loss, self.data)
        self.budget.epochs = config.train.epochs
        self.rehearsal.adjust(self.plan)

    def correct(self, folder: Path, epochs: int) -> None:
        """Goes on with another number of epochs, also in the config of the run's folder."""
        train = self.config.train.model_copy(update={"epochs": epochs})
        self._take(self.config.model_copy(update={"train": train}))
        write_text(folder / CONFIG_FILE, dump_config(self.config))

    def folds_in_time(self, folder: Path) -> Config:
        """The config with the length of folds for which time is left, also in the run's folder.

        They are at least half as long as was planned, and at most as long as the training was.
        """
        config, planned = self.config, self.config.trust.fold_length
        seconds = self.budget.epoch_seconds
        if not config.has_folds or not seconds:
            return config
        epochs, left = config.train.epochs, self.budget.seconds - self.budget.spent()

        def with_length(fold_epochs: int) -> Config:
            length = {"fold_length": fold_epochs / epochs}
            return config.model_copy(update={"trust": config.trust.model_copy(update=length)})

        fewest = max(1, round(planned * epochs / 2))

        def ends_in_time(fold_epochs: int) -> bool:
            one, costs = with_length(fold_epochs), self.rehearsal.costs
            return time_after(one, self.data, self.plan, costs)(epochs, seconds) <= left

        counts = range(fewest, epochs + 1)
        self.config = with_length(max(filter(ends_in_time, counts), default=fewest))
        write_text(folder / CONFIG_FILE, dump_config(self.config))
        return self.config


_LENGTH = ("epochs", "steps_per_epoch", "warmup_epochs", "ema")


def as_begun(config: Config, before: Config) -> Config:
    """A config with the length, and what goes with it, of the run that it goes on with."""
    tuned = config.train.fine_tune.model_copy(
        update={"freeze_epochs": before.train.fine_tune.freeze_epochs}
    )
    length = {name: getattr(before.train, name) for name in _LENGTH}
    train = config.train.model_copy(update={**length, "fine_tune": tuned})
    trust = config.trust.model_copy(update={"fold_length": before.trust.fold_length})
    return config.model_copy(update={"train": train, "trust": trust})
