"""The compiled training step of a config, with its live batches."""

import keras
import tensorflow as tf

from loc_keras.cli.build import data_from, localizer_from, losses_from, plan_from
from loc_keras.config.schema import Config
from loc_keras.training.model import compiled_training_model, with_training_targets


def config_step(config: Config) -> tuple[keras.Model, tf.data.Dataset]:
    """The model, whose `train_function` takes a step from an iterator, and endless batches."""
    data = data_from(config)
    localizer = localizer_from(config, data)
    model = compiled_training_model(localizer, plan_from(config, data), losses_from(config))
    names = list(model.output)
    model.make_train_function()
    return model, data.train(0).map(lambda x, y: (x, with_training_targets(y, names)))
