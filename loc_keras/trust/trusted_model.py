"""A localizer whose answers come with statements of trust, as one functional model."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from loc_keras.trust.observer import observed_outputs
from loc_keras.trust.statements import Statements, stated
from loc_keras.trust.trust_file import statements_from_json, statements_to_json

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


@keras.saving.register_keras_serializable(package="loc_keras")
class StatedTrust(layers.Layer):
    """Gives `statements.stated` of a localizer's outputs.

    Args:
        statements: What was fitted, or its form in JSON.
    """

    def __init__(self, statements: Statements | dict[str, Any], **kwargs: Any) -> None:
        """Stores what was fitted; see the class."""
        # Autocast would round boxes and probabilities to half precision.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(statements, Statements):
            statements = statements_from_json(statements)
        self.statements = statements

    def call(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """States; see the class."""
        return stated(outputs, self.statements)

    def compute_output_spec(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gives shapes and dtypes."""
        batch, classes = outputs["softmax"].shape
        forms = {
            "softmax_calibrated": ((batch, classes), "float32"),
            "p_iou50": ((batch,), "float32"),
            "box_outer": ((batch, 4), "float32"),
            "box_inner": ((batch, 4), "float32"),
            "label_set": ((batch, classes), "bool"),
        }
        return {name: keras.KerasTensor(shape, dtype) for name, (shape, dtype) in forms.items()}

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "statements": statements_to_json(self.statements)}


def trusted_model(localizer: keras.Model, statements: Statements) -> keras.Model:
    """The localizer with further outputs, sharing all its weights.

    Returns:
        A functional model that answers `softmax`, `bbox` and what `statements.stated` says.
    """
    seen = observed_outputs(localizer, flip=statements.flip)
    seen.pop("features")
    said = StatedTrust(statements, name="trust", dtype="float32")(seen)
    answers = {name: localizer.output[name] for name in ("softmax", "bbox")}
    return keras.Model(localizer.inputs[0], {**answers, **said}, name=localizer.name)
