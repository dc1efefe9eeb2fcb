"""What is stated of a single answer, beside class and box: `trust.json` and the exported model.

`stated` is written once in `keras.ops`: on arrays when measuring, inside `trusted_model` when
exporting. `trust.json` holds all that was fitted on the calibration set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import Field, TypeAdapter

from loc_keras.atomic_file import file_sha256
from loc_keras.boxes import Tensor
from loc_keras.errors import TrustError
from loc_keras.models.weights import open_model
from loc_keras.training.run_folder import read_fitted, write_fitted
from loc_keras.trust import confidence, conformal
from loc_keras.trust.observations import observed_outputs
from loc_keras.trust.shift import ShiftReference

FOLDS_FILE = "folds.keras"
"""Models that were trained without a fold, beside the model that was trained on all."""

STATED = ("softmax_calibrated", "p_iou50", "box_outer", "box_inner", "label_set")
"""Names of the outputs that trust adds."""


@dataclass(frozen=True)
class Statements:
    """What was fitted on calibration images, as far as an answer needs it.

    The temperature divides class logits; with `flip` the model also looks at the mirrored image.
    Without folds `boxes` and `label_sets` decide, with folds `cross`; ValueError if neither can.
    """

    temperature: Annotated[float, Field(gt=0)]
    box_confidence: confidence.BoxConfidence
    label_sets: conformal.LabelSets | None = None
    boxes: conformal.BoxMargins | None = None
    flip: bool = False
    cross: conformal.CrossScores | None = None

    def __post_init__(self) -> None:
        """Refuses what would leave a statement out."""
        if self.cross is None and (self.boxes is None or self.label_sets is None):
            raise ValueError("boxes and label_sets are needed where cross is not given")


def stated(outputs: Mapping[str, Tensor], statements: Statements) -> dict[str, Tensor]:
    """What is stated of each answer, by `observed_outputs`.

    Label sets and boxes go by outputs to which nothing was fitted, the model's own or, with
    `cross`, those of the folds' models: so the promise holds for them as it stands.

    Returns:
        `softmax_calibrated` float32 (N, K), with the most probable class of `softmax`; `p_iou50`
        float32 (N,), probability that the box has an IoU of at least .5 with the true one;
        `box_outer` and `box_inner` float32 (N, 4) in fractions, the inner one all zero where it is
        empty; `label_set` bool (N, K).
    """
    softmax, bbox, boxes = outputs["softmax"], outputs["bbox"], statements.boxes
    if statements.cross is not None:
        promised = conformal.cross_stated(outputs, statements.cross)
    else:
        assert boxes is not None and statements.label_sets is not None
        scales = conformal.scales_of(bbox, boxes.scaling, outputs.get("spread"))
        predicted = confidence.most_probable(softmax)
        promised = {
            "box_outer": conformal.outer_boxes(
                bbox, scales, conformal.margins_of(boxes.outer, predicted)
            ),
            "box_inner": conformal.inner_boxes(
                bbox, scales, conformal.margins_of(boxes.inner, predicted)
            ),
            "label_set": conformal.label_sets(softmax, statements.label_sets),
        }
    return {
        "softmax_calibrated": confidence.apply_temperature(softmax, statements.temperature),
        "p_iou50": confidence.apply_box_confidence(
            confidence.box_signals(outputs), statements.box_confidence
        ),
        **promised,
    }


VERSION = 1

Method = Literal["split", "cross"]


def guarantee_words(method: Method, coverage: float, folds: int = 0) -> str:
    """What can be said of each promise of a share; `folds` models answered without their fold."""
    share = f"{100 * coverage:g} %"
    if method == "split":
        return (
            f"Proven for {share} of images, over calibration sets and images together, where both "
            "were drawn alike (split conformal prediction)."
        )
    low = f"{100 * promised_share(method, coverage):g} %"
    return (
        f"Proven for {low} of images (1 - 2 alpha, less a small term) where all were drawn alike, "
        f"and mostly the asked {share} in practice: {folds} models, each trained without a fold, "
        "decide together (CV+, Barber et al. 2021)."
    )


def promised_share(method: Method, coverage: float) -> float:
    """The share that is proven where `coverage` is asked; 0 where nothing is."""
    return coverage if method == "split" else max(0.0, round(2 * coverage - 1, 9))


@dataclass(frozen=True)
class Calibration:
    """On what trust was fitted, to promise the share `coverage`.

    Attributes:
        object_images: Images of the split with an object, on which everything about boxes rests.
        data_fingerprint: SHA-256 of the data and their splits, in hex.
        method: Whether the model itself answered images held back, or others in its place: so many
            `folds`, in the file of `folds_sha256`.
        guarantee: What can be said of each promise, in words; "" in files of before.
        compared: Split whose images new ones are compared with; likewise.
    """

    split: str
    images: int
    object_images: int
    data_fingerprint: str
    model_sha256: str
    coverage: float
    method: Method = "split"
    folds: int = 0
    guarantee: str = ""
    folds_sha256: str = ""

    compared: str = ""

    @property
    def compared_with(self) -> str:
        """The split whose images new ones are compared with; with folds mostly validation."""
        split = self.compared or ("val" if self.method == "cross" else self.split)
        return {"val": "validation", "folds": "training"}.get(split, split)


@dataclass(frozen=True)
class Trust:
    """The content of the file; `shift` has what new images are compared with."""

    version: int
    calibration: Calibration
    statements: Statements
    shift: ShiftReference


_ADAPTER: TypeAdapter[Trust] = TypeAdapter(Trust)
_STATEMENTS: TypeAdapter[Statements] = TypeAdapter(Statements)


def write_trust(path: Path, trust: Trust) -> None:
    """Writes the file whole or not at all."""
    write_fitted(path, trust, _ADAPTER)


def read_trust(path: Path, model_path: Path) -> Trust | None:
    """Reads the file that stands beside a model, as `read_fitted`."""
    return read_fitted(
        path, model_path, _ADAPTER, VERSION, lambda trust: trust.calibration.model_sha256
    )


def read_folds(folder: Path, trust: Trust) -> keras.Model | None:
    """Opens the models of the folds beside a run's model; None where trust needs none.

    TrustError where they are not there, or others than those that trust was fitted with.
    """
    if trust.statements.cross is None:
        return None
    path = folder / FOLDS_FILE
    if not path.is_file() or file_sha256(path) != trust.calibration.folds_sha256:
        raise TrustError(
            f"trust of {folder} asks the models of its folds, and {path.name} there is missing or "
            "another file; bring it back, or train anew."
        )
    return open_model(path)


@keras.saving.register_keras_serializable(package="loc_keras")
class StatedTrust(layers.Layer):
    """Gives `statements.stated` of a localizer's outputs; statements may be in the form of JSON."""

    def __init__(self, statements: Statements | dict[str, Any], **kwargs: Any) -> None:
        """Stores what was fitted; see the class."""
        # Autocast would round boxes and probabilities to half precision.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(statements, Statements):
            statements = _STATEMENTS.validate_python(statements)
        self.statements: Statements = statements

    def call(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """States; see the class."""
        return stated(outputs, self.statements)

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        plain = _STATEMENTS.dump_python(self.statements, mode="json")
        return {**super().get_config(), "statements": plain}


def trusted_model(
    localizer: keras.Model, statements: Statements, folds: keras.Model | None = None
) -> keras.Model:
    """A model with the outputs `softmax`, `bbox` and those of `stated`, sharing all weights.

    `folds` are of `read_folds`, needed with `statements.cross`.
    """
    outputs = observed_outputs(localizer, flip=statements.flip, folds=folds)
    outputs.pop("features")
    stated_outputs = StatedTrust(statements, name="trust", dtype="float32")(outputs)
    answers = {name: localizer.output[name] for name in ("softmax", "bbox")}
    return keras.Model(localizer.inputs[0], {**answers, **stated_outputs}, name=localizer.name)
