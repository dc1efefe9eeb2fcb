"""The trained model of a run, and the data it is measured or calibrated on."""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from loc_keras.config import Config
from loc_keras.config_io import load_config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.errors import DataError, ModelError
from loc_keras.from_config import data_from
from loc_keras.models.model_file import open_model
from loc_keras.run_report import CLASSES_FILE

MODEL_FILE = "best.keras"


@dataclass(frozen=True, eq=False)
class RunWithData:
    """A run's best model with data that fit it.

    Attributes:
        folder: The run's.
        localizer: Its best model.
        config: Of the data.
        data: What the config names.
    """

    folder: Path
    localizer: keras.Model
    config: Config
    data: LocalizationData

    @property
    def same_data(self) -> bool:
        """Whether these are the very splits that the run was trained with."""
        file = self.folder / "environment.json"
        if not file.is_file():
            return False
        return json.loads(file.read_text())["data_fingerprint"] == self.data.fingerprint

    @property
    def name(self) -> str:
        """Name of the config, else that of the folder."""
        return str(self.config.name or self.folder.name)

    @property
    def model_path(self) -> Path:
        """The model's file."""
        return self.folder / MODEL_FILE

    def held_out(self, split: str) -> tf.data.Dataset:
        """The pipeline of a split that is not trained on.

        Raises:
            DataError: If the data have no such images.
        """
        found = self.data.held_out(split)
        if found is None:
            raise DataError(f"{self.config.data.source.path} has no {split} images to measure on.")
        return found


def load_run(
    folder: Path, config_path: Path | None = None, overrides: list[str] | None = None
) -> RunWithData:
    """Opens a run's best model with the run's own data, or those of another config.

    Args:
        folder: The run's.
        config_path: Another config than the run's own.
        overrides: `section.key=value` each, over the config.

    Raises:
        ModelError: If there is no model, it cannot be opened, or the data do not fit it.
        LocKerasError: If config or data are wrong.
    """
    localizer = load_model(folder)
    config = load_config(config_path or folder / "config.yaml", overrides or [])
    data = data_from(config)
    _check_fit(localizer, data.image_shape, data.class_names, folder)
    return RunWithData(folder, localizer, config, data)


def load_model(folder: Path) -> keras.Model:
    """Opens the best model of a run.

    Raises:
        ModelError: If there is none, or it cannot be opened.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise ModelError(f"{folder} holds no {MODEL_FILE}; give the folder of a run to --run.")
    return open_model(path)


def _check_fit(
    localizer: keras.Model, image_shape: tuple[int, ...], class_names: list[str], run: Path
) -> None:
    """Refuses data that the model was not made for."""
    takes = localizer.input_shape[1:]
    if tuple(takes) != tuple(image_shape):
        raise ModelError(
            f"the model takes images of {takes}, the data has {image_shape} (height, width, "
            "channels); set data.image_size and data.channels to the model's."
        )
    file = run / CLASSES_FILE
    learned = file.read_text(encoding="utf-8").splitlines() if file.is_file() else None
    gives = localizer.output["softmax"].shape[-1]
    if gives != len(class_names) or (learned is not None and learned != class_names):
        raise ModelError(
            f"the model knows the classes {', '.join(learned or [str(gives)])}, but the data has "
            f"{', '.join(class_names)}; name them alike and in that order, for example by "
            "data.source.class_names."
        )
