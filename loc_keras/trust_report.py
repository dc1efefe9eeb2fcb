"""Trust as the commands use it: fitted to a run, read beside its model, measured on a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from loc_keras.config import Config
from loc_keras.data.annotations import Split
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.split_pictures import SplitPictures
from loc_keras.errors import TrustError
from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.trust_figures import TrustFigures
from loc_keras.outcomes_of_split import outcomes_of
from loc_keras.report.evaluation_terminal import print_trust_table
from loc_keras.run_folder_model import RunWithData
from loc_keras.trust.conformal_quantile import least_images
from loc_keras.trust.fit import PER_CLASS_WITH_BACKGROUND, TrustOptions, fit_statements
from loc_keras.trust.measure import trust_figures
from loc_keras.trust.observations import Observations, observe
from loc_keras.trust.shift import shift_reference
from loc_keras.trust.trust_file import (
    TRUST_FILE,
    VERSION,
    Calibration,
    Trust,
    model_digest,
    read_trust,
    write_trust,
)

BOOTSTRAP = Bootstrap(level=0.95, resamples=2000, seed=0)
"""Of all intervals that commands print."""


@dataclass(frozen=True, eq=False)
class Trusted:
    """A run's trust.

    Attributes:
        trust: The content of its file.
    """

    trust: Trust

    def fitted_on(self, run: RunWithData, split: str) -> bool:
        """Whether a split of a run's data is the one that trust was fitted on."""
        base = self.trust.calibration
        return base.split == split and base.data_fingerprint == run.data.fingerprint


@dataclass(frozen=True, eq=False)
class TrustOnSplit:
    """How true the statements about the answers on a split were.

    Attributes:
        split: Its name.
        outcomes: Truth and answers.
        figures: What was measured.
    """

    split: Split
    outcomes: Outcomes
    figures: TrustFigures


def trust_of(run: RunWithData) -> Trusted | None:
    """Reads the trust beside a run's model; None where there is none.

    Raises:
        TrustError: If the file cannot be used.
    """
    found = read_trust(run.folder / TRUST_FILE, run.model_path)
    return None if found is None else Trusted(found)


def observed(run: RunWithData, split: str, trusted: Trusted | None = None) -> Observations:
    """What a run's model answers on a split, and what it went by.

    Raises:
        DataError: If the split has no images.
    """
    flip = trusted is not None and trusted.trust.statements.flip
    return observe(run.localizer, run.held_out(split), flip=flip, background=run.data.background)


def measured_trust(trusted: Trusted, seen: Observations, pictures: SplitPictures) -> TrustFigures:
    """How true the statements were on a split."""
    return trust_figures(trusted.trust, seen, pictures.to_px, BOOTSTRAP)


def options_from(config: Config) -> TrustOptions:
    """What the config asks for."""
    return TrustOptions(**config.trust.model_dump())


def refuse_unfit(options: TrustOptions, data: LocalizationData, split: Split) -> None:
    """Refuses what the images of a split cannot promise, before hours are spent.

    Raises:
        TrustError: Saying how many images are needed, or what cannot be had.
    """
    if options.per_class and data.background is not None:
        raise TrustError(PER_CLASS_WITH_BACKGROUND)
    needed = least_images(options.coverage)
    kind, images = "images", data.sizes[split]
    if data.background is not None:
        # Boxes are promised, and so calibrated, on the images that show an object alone.
        kind, images = "images with an object", _with_object(data.pictures[split])
    if images < needed:
        raise TrustError(
            f"a coverage of {options.coverage:g} needs at least {needed} {kind} to calibrate on, "
            f"but the {split} split has {images}; raise data.split.calibration or lower "
            "trust.coverage."
        )


def _with_object(pictures: SplitPictures) -> int:
    if pictures.boxes is None:
        return len(pictures)
    return int(pictures.boxes.any(axis=1).sum())


def calibrate_model(
    folder: Path,
    model_path: Path,
    localizer: keras.Model,
    data: LocalizationData,
    options: TrustOptions,
    split: Split = "calibration",
) -> Trusted:
    """Fits trust on a split and writes `trust.json` into a folder.

    Args:
        folder: Of the run.
        model_path: File of the model.
        localizer: The model.
        data: With the split.
        options: What is asked for.
        split: On which.

    Raises:
        TrustError: If the images are too few, or there are none.
    """
    dataset = data.held_out(split)
    if dataset is None:
        raise TrustError(
            "the data hold no images back for calibration; set data.split.calibration (0.1, say) "
            "and train anew, or give images that the model has not seen by --config."
        )
    refuse_unfit(options, data, split)
    seen = observe(localizer, dataset, flip=options.flip, background=data.background)
    trust = Trust(
        version=VERSION,
        calibration=Calibration(
            split=split,
            images=len(seen),
            object_images=int(np.count_nonzero(seen.shown)),
            data_fingerprint=data.fingerprint,
            model_sha256=model_digest(model_path),
            coverage=options.coverage,
        ),
        statements=fit_statements(seen, options, data.class_names),
        shift=shift_reference(seen),
    )
    write_trust(folder / TRUST_FILE, trust)
    return Trusted(trust)


def print_trust(console: Console, trusted: Trusted, found: TrustOnSplit) -> None:
    """Prints on what trust was fitted, and how it was kept on a split."""
    base = trusted.trust.calibration
    console.print(
        f"trust: fitted on {base.images:,} {base.split} images, measured on "
        f"{len(found.outcomes):,} {found.split} images",
        highlight=False,
        soft_wrap=True,
    )
    print_trust_table(console, found.figures)


def measured_on(
    trusted: Trusted, localizer: keras.Model, data: LocalizationData, splits: Sequence[Split]
) -> TrustOnSplit | None:
    """How true the statements were on the first of some splits that has images."""
    for split in splits:
        dataset = data.held_out(split)
        if dataset is not None and split != trusted.trust.calibration.split:
            flip = trusted.trust.statements.flip
            seen = observe(localizer, dataset, flip=flip, background=data.background)
            pictures = data.pictures[split]
            figures = measured_trust(trusted, seen, pictures)
            return TrustOnSplit(split, outcomes_of(seen, pictures), figures)
    return None
