"""Trust as the commands use it: fitted to a run, read beside its model, measured on a split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from loc_keras.cli.runs import RunWithData, images_at
from loc_keras.config.schema import Config, TrustConfig
from loc_keras.data.annotations import Split
from loc_keras.data.dataset import LocalizationData, SplitPictures
from loc_keras.errors import TrustError
from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.files import trust_json
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.reliability import TrustFigures
from loc_keras.report.gallery import Example, draw_trusted, trusted_example
from loc_keras.report.style import save_figure
from loc_keras.report.terminal import print_trust_table
from loc_keras.report.thumbnails import Pixels, small_pictures
from loc_keras.training.run_folder import PLOTS, TRUST_FILE
from loc_keras.trust.conformal import least_images
from loc_keras.trust.fit import (
    PER_CLASS_WITH_BACKGROUND,
    fit_statements,
    trust_figures,
)
from loc_keras.trust.observations import observe
from loc_keras.trust.shift import shift_reference
from loc_keras.trust.statements import (
    VERSION,
    Calibration,
    Trust,
    model_digest,
    read_trust,
    trusted_model,
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


def observed(run: RunWithData, split: Split, trusted: Trusted | None = None) -> Outcomes:
    """What a run's model answers on a split, and what it went by.

    Raises:
        DataError: If the split has no images.
    """
    flip = trusted is not None and trusted.trust.statements.flip
    return observe(
        run.localizer,
        run.held_out(split),
        run.data.pictures[split],
        flip=flip,
        background=run.data.background,
    )


def measured_trust(trusted: Trusted, seen: Outcomes, pictures: SplitPictures) -> TrustFigures:
    """How true the statements were on a split."""
    return trust_figures(trusted.trust, seen, pictures.to_px, BOOTSTRAP)


def refuse_unfit(options: TrustConfig, data: LocalizationData, split: Split) -> None:
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
    options: TrustConfig,
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
            pictures = data.pictures[split]
            seen = observe(localizer, dataset, pictures, flip=flip, background=data.background)
            return TrustOnSplit(split, seen, measured_trust(trusted, seen, pictures))
    return None


_SHOWN_RANKS = (0.1, 0.4, 0.7, 0.95)
"""Of `p_iou50`, from doubtful to sure: so that failures show too."""


def split_pictures_at(
    data: LocalizationData, split: Split, rows: Sequence[int]
) -> dict[int, Pixels]:
    """Small pictures of some images: the original ones or, where they are drawn, the model's.

    Returns:
        By row, uint8 (H, W, 3); those that cannot be decoded are left out.
    """
    records = data.pictures[split].records
    if records is not None:
        return small_pictures(records, rows)
    dataset = data.held_out(split)
    if dataset is None or not len(rows):
        return {}
    return dict(zip(rows, map(_coloured, images_at(dataset, np.array(rows))), strict=True))


def save_trust_picture(
    path: Path, data: LocalizationData, split: Split, outcomes: Outcomes, trust: TrustFigures
) -> None:
    """Draws four answers, from doubtful to sure, with their outer and inner boxes."""
    shown = np.flatnonzero(outcomes.shown)
    ranked = shown[np.argsort(trust.p_iou50[shown], kind="stable")]
    places = [ranked[int(rank * (len(ranked) - 1))] for rank in _SHOWN_RANKS] if len(ranked) else []
    rows = list(dict.fromkeys(int(row) for row in places))
    answers = trusted_answers(data, split, outcomes, trust, rows)
    if answers:
        save_figure(draw_trusted(answers, trust.guarantees[0].asked), path)


def trusted_answers(
    data: LocalizationData,
    split: Split,
    outcomes: Outcomes,
    trust: TrustFigures,
    rows: Sequence[int],
) -> list[Example]:
    """Some answers with their pictures; those that cannot be decoded are left out."""
    pictures = split_pictures_at(data, split, rows)
    names = data.class_names

    def fractions(boxes_px: npt.NDArray[np.float64], row: int) -> npt.NDArray[np.float64]:
        return boxes_px[row] / np.tile(outcomes.sizes[row][::-1], 2)

    return [
        trusted_example(
            pictures[row],
            label=names[int(outcomes.predicted[row])],
            probability=float(trust.probabilities[row].max()),
            p_iou50=float(trust.p_iou50[row]),
            box=fractions(outcomes.boxes_pred_px, row),
            outer=fractions(trust.outer_px, row),
            inner=fractions(trust.inner_px, row),
            labels=[names[at] for at in np.flatnonzero(trust.label_sets[row]).tolist()],
        )
        for row in rows
        if row in pictures
    ]


def _coloured(image: npt.NDArray[np.uint8]) -> Pixels:
    """A model's image, uint8 (H, W, 1 or 3), with three channels."""
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


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
    options = config.trust
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
            picture = folder / PLOTS / f"{found.split}_trust.png"
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
