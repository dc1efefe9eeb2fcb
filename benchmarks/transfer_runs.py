"""One fine-tuning after another on few photographs, with graphs that are traced once a data set.

Every run has the same network, the same normalisation, the same steps and the same images; only the
first weights of the body, and the rates that suit them, differ. No image chooses an epoch: the
averaged weights after the last step are measured.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from loc_keras.cli.build import localizer_from
from loc_keras.config.schema import Config
from loc_keras.config.train import FineTuneConfig
from loc_keras.data.dataset import LocalizationData, build_file_data
from loc_keras.data.duplicates import identical_groups, merged_groups
from loc_keras.data.load_records import grouped_split, stratified_split
from loc_keras.data.resolve import DatasetRecords, Records, image_refs
from loc_keras.evaluation.figures import run_figures
from loc_keras.models.body import body_layers
from loc_keras.training.model import (
    FitPlan,
    Phase,
    TrainingModel,
    answer_function,
    collect_outcomes,
    compiled_training_model,
    set_trainable,
    training_phases,
    with_training_targets,
)

ALL = 0
"""A number of photographs that stands for all of them."""


@dataclass(frozen=True)
class Arm:
    """A way to start: with which weights, and how to train on from them."""

    name: str
    pretrained: bool
    fine_tune: FineTuneConfig


def few(found: DatasetRecords, count: int, seed: int) -> DatasetRecords:
    """Keeps `count` training photographs, every class in proportion."""
    train = found.splits["train"]
    if count in (ALL, len(train)):
        return found
    parts = stratified_split(train.labels, {"few": count / len(train)}, seed, min_per_class=0)
    kept = train.take(np.sort(parts["few"]))
    return dataclasses.replace(found, splits={**found.splits, "train": kept})


def folds(found: DatasetRecords, count: int, seed: int) -> Iterator[DatasetRecords]:
    """Splits all records into `count` folds, pictures of one photograph in one of them."""
    everything = found.splits["train"]
    refs = image_refs(everything)
    groups = merged_groups(refs, identical_groups(refs).tolist())
    names = {f"fold{index}": 1 / count for index in range(1, count)}
    parts = grouped_split(everything.labels, groups, names, seed)
    for held in parts.values():
        rest = np.setdiff1d(np.arange(len(everything)), held)
        splits: dict[str, Records] = {"train": everything.take(rest), "test": everything.take(held)}
        yield dataclasses.replace(found, splits=splits)


class Trainer:
    """Trains one network again and again from different first weights.

    Args:
        config: how to build and train it; `model.backbone.weights` names the pretrained body.
        found: records with the classes; the network is built for them.
        steps: steps of each training.
    """

    def __init__(self, config: Config, found: DatasetRecords, steps: int) -> None:
        self.config = config
        self.steps = steps
        data = self.data(found, 0)
        self.localizer = localizer_from(config, data)
        self.body = [layer.get_weights() for layer in body_layers(self.localizer)]
        self.answer = answer_function(self.localizer)
        self._compiled: dict[tuple[FineTuneConfig, bool], TrainingModel] = {}

    def run(self, arm: Arm, found: DatasetRecords, seed: int) -> dict[str, float | int]:
        """Trains on the training records and measures on the test records."""
        data = self.data(found, seed)
        self._start(arm, seed)
        train = self.config.train.model_copy(update={"fine_tune": arm.fine_tune})
        steps = self.steps // train.epochs
        plan = FitPlan(train, self.config.loss, steps, val_images=0, background=data.background)
        for phase in training_phases(train.epochs, arm.fine_tune.freeze_epochs):
            self._fit(plan, phase, data)
        return {
            "train": data.sizes["train"],
            **run_figures(collect_outcomes(self.answer, data.test)),
        }

    def data(self, found: DatasetRecords, seed: int) -> LocalizationData:
        """The pipelines of some records, as the config says."""
        config = self.config
        data = config.data.model_copy(update={"cache": "memory"})
        return build_file_data(
            found, data, config.augment, batch_size=config.train.batch_size, seed=seed
        )

    def _start(self, arm: Arm, seed: int) -> None:
        """Gives every layer fresh random weights, and the body those it was pretrained to."""
        keras.utils.set_random_seed(seed)
        fresh = keras.models.clone_model(self.localizer)
        self.localizer.set_weights(fresh.get_weights())
        if arm.pretrained:
            for layer, weights in zip(body_layers(self.localizer), self.body, strict=True):
                layer.set_weights(weights)

    def _fit(self, plan: FitPlan, phase: Phase, data: LocalizationData) -> None:
        # The optimizer's averages stand in the order of what was trainable when it was compiled.
        norm = plan.train.fine_tune.batch_norm
        set_trainable(self.localizer, body_learns=phase.body_learns, batch_norm=norm)
        key = (plan.train.fine_tune, phase.body_learns)
        if key not in self._compiled:
            self._compiled[key] = compiled_training_model(self.localizer, plan, phase)
        model = self._compiled[key]
        for variable in model.optimizer.variables:  # As new; an average begins with step 0.
            if "learning_rate" not in variable.path:
                variable.assign(keras.ops.zeros_like(variable))
        names = list(model.output)
        stream = data.train(phase.first * plan.steps_per_epoch).map(
            lambda images, targets: (images, with_training_targets(targets, names))
        )
        steps = phase.epochs * plan.steps_per_epoch
        model.fit(stream, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
        if plan.train.ema is not None:
            model.optimizer.finalize_variable_values(model.trainable_variables)
