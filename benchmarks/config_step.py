"""The compiled training step of a config, with its live batches."""

import keras
import tensorflow as tf

from loc_keras.cli.build import localizer_from
from loc_keras.cli.data_source import DataSource
from loc_keras.config.schema import Config
from loc_keras.training.model import compiled_training_model, with_training_targets
from loc_keras.training.plan import FitPlan


def config_step(config: Config) -> tuple[keras.Model, tf.data.Dataset]:
    """The model, whose `train_function` takes a step from an iterator, and endless batches."""
    data = DataSource(config).build()
    localizer = localizer_from(config, data)
    model = compiled_training_model(localizer, FitPlan.for_data(config.train, config.loss, data))
    names = list(model.output)
    model.make_train_function()
    return model, data.train(0).map(lambda x, y: (x, with_training_targets(y, names)))
