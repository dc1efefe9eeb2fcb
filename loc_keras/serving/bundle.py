"""What an export is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from loc_keras.data.image_format import ImageFormat


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained localizer and all that a server has to know beside it.

    Attributes:
        localizer: Functional model; its outputs are named `softmax` and `bbox`, and there may be
            those of trust.
        class_names: Names of the classes by index.
        form: How pictures become its images.
        samples: Encoded images (JPEG, PNG, GIF, BMP), at least one, on which the copy must agree
            with the model, and which warm a server up.
        card: The model card; None: no such file.
        texts: Further files to come with the model, by name.
    """

    localizer: keras.Model
    class_names: Sequence[str]
    form: ImageFormat
    samples: Sequence[bytes]
    card: Mapping[str, Any] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
