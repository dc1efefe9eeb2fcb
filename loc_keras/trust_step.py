"""The step of a training run that calibrates: what it prints, exports and notes in the card."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import keras
from rich.console import Console

from loc_keras.config import Config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.errors import TrustError
from loc_keras.evaluation.metrics_file import trust_json
from loc_keras.trust.trust_file import TRUST_FILE
from loc_keras.trust.trusted_model import trusted_model
from loc_keras.trust_pictures import save_trust_picture
from loc_keras.trust_report import (
    calibrate_model,
    measured_on,
    options_from,
    print_trust,
    refuse_unfit,
)


@dataclass(frozen=True, eq=False)
class StepResult:
    """What became of the step.

    Attributes:
        model: What is exported: the localizer, with the outputs of trust where there is any.
        texts: Files that go into the export, by name.
        card: What the model card says; None without trust.
        print: Prints the summary, if there is one.
        error: Why there is no trust although it was asked for; None where all is well.
    """

    model: keras.Model
    texts: Mapping[str, str]
    card: Mapping[str, Any] | None
    print: Callable[[Console], None]
    error: TrustError | None = None


TrustStep: TypeAlias = Callable[[Path, Path, keras.Model], StepResult]
"""Takes run folder, model file and model."""


def trust_step(config: Config, data: LocalizationData) -> TrustStep | None:
    """The step, to be called with run folder, model file and model; None without calibration.

    Raises:
        TrustError: If the images held back are too few or do not serve what is asked.
    """
    if data.calibration is None:
        return None
    options = options_from(config)
    refuse_unfit(options, data, "calibration")
    if options.scaling == "spread" and config.model.bbox_head != "distribution":
        raise TrustError(
            f"trust.scaling 'spread' needs model.bbox_head 'distribution', not "
            f"'{config.model.bbox_head}'; set trust.scaling to auto, size or additive."
        )

    def step(folder: Path, model_path: Path, best: keras.Model) -> StepResult:
        trusted = calibrate_model(folder, model_path, best, data, options)
        found = measured_on(trusted, best, data, ("test", "val"))
        card: dict[str, Any] = {
            "coverage": options.coverage,
            "calibration_images": trusted.trust.calibration.images,
        }
        if found is not None:
            card |= {"measured_on": found.split, **trust_json(found.figures)}
            picture = folder / "plots" / f"{found.split}_trust.png"
            save_trust_picture(picture, data, found.split, found.outcomes, found.figures)

        def show(console: Console) -> None:
            if found is not None:
                print_trust(console, trusted, found)

        return StepResult(
            model=trusted_model(best, trusted.trust.statements),
            texts={TRUST_FILE: (folder / TRUST_FILE).read_text(encoding="utf-8")},
            card=card,
            print=show,
        )

    return step


def take_step(
    step: TrustStep | None,
    folder: Path,
    model_path: Path,
    best: keras.Model,
) -> StepResult:
    """Takes the step, if there is one.

    Where what was asked turns out not to be had, the model stays as it is and goes on to its
    export: hours of training must not end without one.
    """
    plain = StepResult(best, {}, None, lambda console: None)
    if step is None:
        return plain
    try:
        return step(folder, model_path, best)
    except TrustError as error:
        return replace(plain, error=TrustError(f"there is no trust with this model: {error}"))
