"""Training from Python: `loc_keras.train("my_photos", minutes=5)`, and the run that it gives."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from loc_keras.atomic_file import followed
from loc_keras.cli.data_arguments import name_of
from loc_keras.cli.runs import usual_split
from loc_keras.config.load import value_text
from loc_keras.errors import ModelError, TrainingError
from loc_keras.localizer.localizer import Localizer
from loc_keras.report.terminal import metrics_table
from loc_keras.training.run_folder import (
    BEST_FILE,
    EVALUATION,
    METRICS_FILE,
    PLOTS,
    new_run_folder,
    read_json,
)

RUNS = Path("runs")
_WIDTH = 100


@dataclass(frozen=True)
class Run:
    """A run by its folder; a notebook shows its figures and its gallery of test images.

    `Run("runs/latest")` opens one that was trained before; ModelError where there is none.

    Attributes:
        folder: The folder of the run, which `docs/architecture.md` describes.
    """

    folder: Path

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        found = followed(folder)
        if not found.is_dir():
            raise ModelError(f"{folder} does not exist; give the folder of a run.")
        object.__setattr__(self, "folder", found)

    @cached_property
    def localizer(self) -> Localizer:
        """The run's best model."""
        return Localizer.open(self.folder)

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Figures of the best model by split, as training measured them."""
        return read_json(self.folder / METRICS_FILE)

    def evaluate(self, data: str | Path | None = None, split: str = "") -> dict[str, Any]:
        """Measures the model as `loc-keras evaluate` does, on a split or on another folder.

        Returns:
            What `evaluation/SPLIT/metrics.json` holds: figures with intervals, and more.

        Raises:
            LocKerasError: If there are no such images, or they do not fit the model.
        """
        given = [] if data is None else ["--data", str(data)]
        split = split or ("test" if data else usual_split(self.folder))
        _run("evaluate", ["--run", str(self.folder), "--split", split, *given])
        return read_json(self.folder / EVALUATION / split / METRICS_FILE)

    def export(self, out: str | Path, form: str = "saved_model", quantize: str = "none") -> None:
        """Writes the next version for servers or devices, as `loc-keras export` does.

        Raises:
            LocKerasError: If that format needs packages that are missing, or fails on the model.
        """
        words = ["--out", str(out), "--format", form, "--quantize", quantize]
        _run("export", ["--run", str(self.folder), *words])

    def _repr_html_(self) -> str:
        console = Console(record=True, width=_WIDTH, file=io.StringIO())
        console.print(metrics_table(self.metrics))
        shown = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        picture = self.folder / PLOTS / f"{usual_split(self.folder)}_gallery.png"
        if picture.is_file():
            content = base64.b64encode(picture.read_bytes()).decode("ascii")
            shown += f'<img alt="test images" src="data:image/png;base64,{content}">'
        return shown


def train(
    data: str | Path | None = None,
    *,
    config: str | Path | None = None,
    minutes: float | None = None,
    weights: str | None = None,
    run_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **everyday: Any,
) -> Run:
    """Trains as `loc-keras train` does, printing the same.

    Args:
        data: Folder, or file of labels; its settings are found. Either this or `config`.
        config: Config file, or the name of one of the package's, such as `base`.
        minutes: With `data`: time that training may take, about.
        weights: With `data`: pretrained weights.
        run_dir: Folder of the run; None makes one below `runs`.
        settings: Values by dotted key of the config, such as `{"train.optimizer": "adam"}`.
        **everyday: `epochs`, `batch`, `image_size`, `lr`, `seed`, `precision`, `device`.

    Raises:
        LocKerasError: With what was wrong in arguments, config or data.
    """
    if (data is None) == (config is None):
        raise TrainingError("name the folder of your data, or a config: one of the two.")
    command = import_module("loc_keras.train")
    unknown = sorted(set(everyday) - {*command.SETTINGS, "device"})
    if unknown:
        known = ", ".join([*command.SETTINGS, "device"])
        raise TrainingError(f"train takes no {unknown[0]}; everyday settings are {known}.")
    name = name_of(str(data)) if data is not None else Path(str(config)).stem
    folder = new_run_folder(RUNS, name) if run_dir is None else Path(run_dir)
    options = {"data": data, "config": config, "minutes": minutes, "weights": weights, **everyday}
    words = ["--run-dir", str(folder)]
    for key, value in options.items():
        if value is not None:
            text = value_text(list(value)) if isinstance(value, tuple | list) else str(value)
            words += [f"--{key.replace('_', '-')}", text]
    for key, value in (settings or {}).items():
        words += ["--set", f"{key}={value_text(value)}"]
    _run("train", words)
    if not (folder / BEST_FILE).is_file():
        raise TrainingError(f"{folder} holds no {BEST_FILE}; what was printed says why.")
    return Run(folder)


def _run(name: str, words: Sequence[str]) -> None:
    """Runs a command in this process; its errors are raised."""
    try:
        args = import_module(f"loc_keras.{name}").read_arguments(words)
    except SystemExit as wrong:
        raise TrainingError("an argument is wrong; what was printed says which.") from wrong
    import_module(f"loc_keras.commands.{name}").run(args)
