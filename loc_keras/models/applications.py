"""Bodies from `keras.applications`, with their own normalisation and ImageNet weights."""

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import keras

from loc_keras.atomic_file import file_sha256
from loc_keras.errors import ModelError
from loc_keras.models.body import (
    COLOURS,
    Body,
    Preprocessing,
    WeightsOrigin,
    cut_to_maps,
    measured_preprocessing,
    random_weights,
    raw_pixels,
    refuse_channels,
)

PREFIX = "applications/"
"""What the names of these bodies begin with."""

LICENCES = MappingProxyType(
    {
        "densenet": "BSD-3-Clause",
        "inception_resnet_v2": "Apache-2.0",
        "inception_v3": "Apache-2.0",
        "mobilenet": "Apache-2.0",
        "mobilenet_v2": "Apache-2.0",
        "nasnet": "Apache-2.0",
        "resnet": "MIT",
        "resnet_v2": "BSD (that of facebook/fb.resnet.torch)",
        "vgg16": "CC-BY-4.0",
        "vgg19": "CC-BY-4.0",
        "xception": "MIT",
    }
)
"""Licences of the weights by the module that builds the network, as the sections "License" of
Keras's own page on applications say (docs/templates/applications.md up to Keras 2.3). Nothing is
said about the weights that came later."""

MD5_LENGTH = 32
"""Hexadecimal digits of an MD5; a SHA-256 has twice as many."""


def build_application(name: str, image_shape: tuple[int, int, int], weights: str = "none") -> Body:
    """Builds `applications/<name>` for images of (height, width, channels).

    Weights are "none" for random ones, "imagenet", or the path of a file as Keras offers it for
    this body without its top.

    Raises:
        ModelError: If the name, the size, the channels or the weights do not fit.
    """
    found, module = find_application(name)
    body = f"{PREFIX}{found}"
    preprocessing = application_preprocessing(found)
    pretrained = weights != "none"
    if pretrained:
        refuse_channels(body, image_shape[-1])
    given = None if weights in ("none", "imagenet") else Path(weights).expanduser()
    with weights_files(body, given) as files:
        network = _build(found, body, image_shape, given, pretrained)
    if pretrained and not files:
        raise ModelError(
            f"this version of Keras does not say which weights it read for {body}; install the "
            "version that requirements.txt names."
        )
    normalises = preprocessing == raw_pixels(COLOURS)
    if normalises:
        preprocessing = raw_pixels(image_shape[-1])
    return Body(
        network=cut_to_maps(network, body),
        preprocessing=preprocessing if pretrained or normalises else None,
        origin=_origin(body, weights, module, files) if pretrained else random_weights(body),
    )


def find_application(name: str) -> tuple[str, ModuleType]:
    """Finds a body by its name, in any case, with or without `applications/` before it.

    Gives the name as Keras writes it, and the module that holds its `preprocess_input`.

    Raises:
        ModelError: If there is none, with the names most like it.
    """
    asked = name.removeprefix(PREFIX)
    names = {one.lower(): one for one in application_names()}
    found = names.get(asked.lower())
    if found is None:
        near = [names[one] for one in get_close_matches(asked.lower(), names)]
        hint = (
            f"did you mean {' or '.join(PREFIX + one for one in near)}?"
            if near
            else f"it has {', '.join(names.values())}."
        )
        raise ModelError(f"model.backbone.name: keras.applications has no {asked!r}; {hint}")
    # The function is at home in the private module of the same name as the public one.
    home = str(getattr(keras.applications, found).__module__).rpartition(".")[2]
    return found, getattr(keras.applications, home)


def application_names() -> list[str]:
    """The bodies that the installed Keras builds, as `keras.applications` names them."""
    return sorted(
        name
        for name, value in vars(keras.applications).items()
        if name[:1].isupper() and callable(value)
    )


def application_preprocessing(name: str) -> Preprocessing:
    """How the pixels of a body must be normalised, found by trying its `preprocess_input`.

    Raises:
        ModelError: If that function does more than shift, scale and reverse channels.
    """
    found, module = find_application(name)
    measured = measured_preprocessing(module.preprocess_input)
    if measured is None:
        raise ModelError(
            f"{PREFIX}{found} normalises its pixels in a way that this version does not know; "
            "choose another model.backbone.name."
        )
    return measured


@dataclass(frozen=True)
class WeightsFile:
    """A file that weights were read from, and the address, or words, of where it comes from.

    `known` tells whether it is the file that Keras offers, not one given in its place.
    """

    path: Path
    source: str
    known: bool


@contextmanager
def weights_files(body: str, given: Path | None = None) -> Iterator[list[WeightsFile]]:
    """Watches the files that Keras fetches for a body while the block runs, and gives their list.

    `keras.applications` tells neither which file it read nor, without a network, which file to
    put where. So its own function `get_file` is replaced for that time by one that asks it and
    takes notes. A given file is taken in place of what Keras would fetch.

    Raises:
        ModelError: If the given file is not there, or one cannot be fetched.
    """
    if given is not None and not given.is_file():
        raise ModelError(f"model.backbone.weights: there is no file {given}.")
    home = sys.modules[keras.utils.get_file.__module__]
    fetch = keras.utils.get_file
    files: list[WeightsFile] = []

    def get_file(fname: str, origin: str, **settings: Any) -> str:
        if given is not None:
            known = _has_digest(given, settings.get("file_hash"))
            words = origin if known else f"the file {given.name}, given by the user"
            files.append(WeightsFile(given, words, known))
            return str(given)
        cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        try:
            path = fetch(fname, origin, cache_dir=str(cache), **settings)
        except Exception as error:  # Keras raises the bare class where an address fails.
            folder = cache / settings.get("cache_subdir", "datasets")
            raise ModelError(
                f"the weights of {body} cannot be fetched ({_reason(error, origin)}); fetch "
                f"{origin} on a machine with a network and put it to {folder / fname}, or name "
                "it as model.backbone.weights."
            ) from error
        files.append(WeightsFile(Path(path), origin, known=True))
        return str(path)

    home.get_file = get_file  # type: ignore[attr-defined]
    try:
        yield files
    finally:
        home.get_file = fetch  # type: ignore[attr-defined]


def _has_digest(path: Path, digest: str | None) -> bool:
    """Whether a file has the digest, MD5 or SHA-256 in hex, that Keras knows of its own."""
    if digest is None:
        return False
    kind = "md5" if len(digest) == MD5_LENGTH else "sha256"
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == digest


def _reason(error: Exception, origin: str) -> str:
    """What went wrong, without the address, which the sentence names anyway."""
    text = str(error).replace(f"URL fetch failure on {origin}: ", "").removeprefix("None -- ")
    return " ".join(text.split()) or type(error).__name__


def _build(
    found: str, body: str, image_shape: tuple[int, int, int], given: Path | None, pretrained: bool
) -> keras.Model:
    height, width, channels = image_shape
    try:
        with warnings.catch_warnings():
            # MobileNets warn that weights for 224 px are taken at other sizes: that is meant.
            warnings.simplefilter("ignore", UserWarning)
            return getattr(keras.applications, found)(
                include_top=False,
                weights="imagenet" if pretrained else None,
                input_shape=image_shape,
            )
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        smallest = re.search(r"at least (\d+)", reason)
        if smallest:
            raise ModelError(
                f"image size {height} x {width} px is too small for {body}: each side must have "
                f"at least {smallest[1]} px; raise data.image_size."
            ) from error
        if given is not None:
            raise ModelError(
                f"model.backbone.weights: {given} does not fit {body} ({reason}); give the file "
                "that Keras offers for this body without its top."
            ) from error
        raise ModelError(
            f"{body} cannot be built for images of {height} x {width} x {channels} ({reason}); "
            "choose another data.image_size, data.channels or model.backbone.name."
        ) from error


def _origin(body: str, weights: str, module: ModuleType, files: list[WeightsFile]) -> WeightsOrigin:
    home = module.__name__.rpartition(".")[2]
    file = files[-1]
    return WeightsOrigin(
        body=body,
        weights=weights,
        source=f"keras.applications, ImageNet: {file.source}" if file.known else file.source,
        licence=LICENCES.get(home, "unknown") if file.known else "unknown",
        sha256=file_sha256(file.path),
    )
