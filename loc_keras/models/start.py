"""What a localizer starts from: its body, the weights in it, and the pixels that these expect."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from loc_keras.models.backbone import STAGE_SIZES
from loc_keras.models.body import Body
from loc_keras.models.initial_weights import initial_weights
from loc_keras.models.origin import WeightsOrigin
from loc_keras.models.other_bodies import build_body
from loc_keras.models.preprocessing import Preprocessing
from loc_keras.models.run_weights import BEST_MODEL


@dataclass(frozen=True, eq=False)
class Start:
    """A body and its first weights, found and checked before the localizer is built.

    Attributes:
        body: the network, where it is none of our own ResNets.
        preprocessing: the pixels that the weights were trained on; None: any.
        origin: where the weights come from.
        load: puts the weights into the body of a localizer that was built for them.
    """

    body: Body | None
    preprocessing: Preprocessing | None
    origin: WeightsOrigin
    load: Callable[[keras.Model], None]


def find_start(
    name: str, *, width: int, stem: str, weights: str, image_shape: tuple[int, int, int]
) -> Start:
    """Finds what `model.backbone` names.

    Args:
        name: the body.
        width: channels of a ResNet's first stage.
        stem: stem of a ResNet.
        weights: "none", "imagenet" or a path, see `initial_weights` for our ResNets and runs, and
            `build_body` for other bodies.
        image_shape: (height, width, channels) of the images.

    Raises:
        ModelError: If body or weights are not there, broken, or do not fit each other.
    """
    ours = name in STAGE_SIZES
    if not ours and not names_a_run(weights):
        body = build_body(name, image_shape, weights)
        assert body is not None, name  # The config and `refuse_unknown_body` saw to that.
        return Start(body, body.preprocessing, body.origin, lambda localizer: None)
    found = initial_weights(name, width=width, stem=stem, weights=weights, channels=image_shape[-1])
    body = None if ours else build_body(name, image_shape)
    if body is not None:
        body = dataclasses.replace(body, preprocessing=found.preprocessing)
    return Start(body, found.preprocessing, found.origin, found.load)


def names_a_run(weights: str) -> bool:
    """Whether `model.backbone.weights` names a model of ours: a run's folder or a saved file."""
    path = Path(weights).expanduser()
    return path.suffix == ".keras" or (path / BEST_MODEL).is_file()
