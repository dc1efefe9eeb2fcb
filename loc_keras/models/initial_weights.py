"""What a body starts from: random weights, ImageNet's, those of a file, or an earlier run's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from loc_keras.errors import ModelError
from loc_keras.models.backbone import STAGE_SIZES
from loc_keras.models.hub_presets import PRESETS, HubWeights, read_hub_weights
from loc_keras.models.origin import WeightsOrigin, random_weights
from loc_keras.models.preprocessing import Preprocessing
from loc_keras.models.run_weights import BEST_MODEL, read_run_weights
from loc_keras.models.safetensors_file import refuse_pickle
from loc_keras.models.torch_names import SHARED_CHANNELS, SHARED_STEM, SHARED_WIDTH
from loc_keras.models.torch_weights import read_torch_weights

NONE = "none"
IMAGENET_WEIGHTS = "imagenet"


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Weights to start from, found and checked, before the model is built.

    Attributes:
        preprocessing: the pixels that they were trained on, to build the model with; None: any.
        origin: where they come from.
        load: puts them into the body of a localizer that was built for them.
    """

    preprocessing: Preprocessing | None
    origin: WeightsOrigin
    load: Callable[[keras.Model], None]


def initial_weights(
    name: str, *, width: int, stem: str, weights: str, channels: int
) -> InitialWeights:
    """Finds the weights that a body is to start from.

    Args:
        name: the body, as `model.backbone.name` has it.
        width: channels of its first stage.
        stem: its stem.
        weights: "none", "imagenet", a `.safetensors` file, a run folder, a `.keras` file, or a
            folder that KerasHub's `save_to_preset` wrote. A body that is not one of our ResNets
            takes "none" and runs only: its builder has ImageNet weights of its own.
        channels: channels of the images.

    Raises:
        ModelError: if they are not there, broken, or made for another body.
    """
    if weights == NONE:
        return InitialWeights(None, random_weights(name), lambda localizer: None)
    if weights == IMAGENET_WEIGHTS:
        _refuse_unshared(name, width, stem, channels, "ImageNet weights")
        return _from_hub(read_hub_weights(PRESETS[name], name), name, weights)
    refuse_absent(weights)
    path = Path(weights).expanduser()
    kind = _kind(path)
    if kind == "run":
        run = read_run_weights(path, channels)
        origin = WeightsOrigin(name, weights, run.source, run.licence, run.sha256)
        return InitialWeights(run.preprocessing, origin, run.load)
    _refuse_unshared(name, width, stem, channels, f"the weights {path}")
    if kind == "preset":
        return _from_hub(read_hub_weights(str(path), name), name, weights)
    found = read_torch_weights(path, name)
    source = f"PyTorch weights in the file {path.name}"
    origin = WeightsOrigin(name, weights, source, found.licence, found.sha256)
    return InitialWeights(found.preprocessing, origin, found.load)


def _from_hub(found: HubWeights, name: str, weights: str) -> InitialWeights:
    origin = WeightsOrigin(name, weights, found.source, found.licence, found.sha256)
    return InitialWeights(found.preprocessing, origin, found.load)


def refuse_absent(weights: str) -> None:
    """Refuses a path at which nothing stands, before anything else is read.

    Args:
        weights: as in `initial_weights`.

    Raises:
        ModelError: if it names a path, and there is none.
    """
    path = Path(weights).expanduser()
    if weights not in (NONE, IMAGENET_WEIGHTS) and not path.exists():
        raise ModelError(
            f"model.backbone.weights: there is no file or folder {path}; give none, imagenet, a "
            ".safetensors file, a run folder, a .keras file or a KerasHub preset folder."
        )


def _kind(path: Path) -> str:
    """What stands at a path: "run", "preset" or "safetensors"."""
    if path.is_dir():
        if (path / BEST_MODEL).is_file():
            return "run"
        if (path / "config.json").is_file():
            return "preset"
        raise ModelError(
            f"model.backbone.weights: the folder {path} holds neither {BEST_MODEL}, as a run does, "
            "nor config.json, as a KerasHub preset does; give another."
        )
    if path.suffix == ".keras":
        return "run"
    refuse_pickle(path)
    if path.suffix == ".safetensors":
        return "safetensors"
    raise ModelError(
        f"model.backbone.weights: {path} ends in neither .safetensors nor .keras, the files that "
        "are read; give one of these, a run folder or a KerasHub preset folder."
    )


def _refuse_unshared(name: str, width: int, stem: str, channels: int, what: str) -> None:
    """Refuses a body that shared weights cannot fit."""
    if name not in STAGE_SIZES:
        raise ModelError(
            f"model.backbone.weights: {what} cannot be put into the body {name}; they are for "
            f"{', '.join(STAGE_SIZES)}."
        )
    wrong = []
    if width != SHARED_WIDTH:
        wrong.append(f"model.backbone.width: {SHARED_WIDTH} (it is {width})")
    if stem != SHARED_STEM:
        wrong.append(f"model.backbone.stem: {SHARED_STEM} (it is {stem})")
    if channels != SHARED_CHANNELS:
        wrong.append(f"data.channels: {SHARED_CHANNELS} (the images have {channels})")
    if wrong:
        raise ModelError(f"{what} need {' and '.join(wrong)}; set that, or weights: none.")
