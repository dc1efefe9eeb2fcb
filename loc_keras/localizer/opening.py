"""Opens a trained model: a run's folder, a `.keras` file, an exported SavedModel."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from loc_keras.data.resize import ImageFormat, ResizeRule
from loc_keras.errors import ModelError, TrustError, first_line
from loc_keras.models.weights import open_model
from loc_keras.serving.bundle import EXTRA_FOLDER
from loc_keras.training.run_folder import (
    BEST_FILE,
    CARD_FILE,
    CLASSES_FILE,
    CONFIG_FILE,
    TRUST_FILE,
    read_classes,
)
from loc_keras.trust.statements import (
    STATED,
    Trust,
    model_digest,
    read_trust,
    trusted_model,
)

RULES: tuple[ResizeRule, ...] = ("stretch", "letterbox")


@dataclass(frozen=True)
class Settings:
    """What is known of a model beside itself.

    Attributes:
        class_names: By index; None where they are unknown.
        rule: How images are brought to its size.
        background: Name of the class of images without an object; None without one.
        named_by: File that names the classes.
    """

    class_names: tuple[str, ...] | None = None
    rule: ResizeRule = "stretch"
    background: str | None = None
    named_by: Path | None = None

    def named(self, names: Sequence[str]) -> "Settings":
        """The same with names for the classes."""
        return replace(self, class_names=tuple(names))


def run_settings(folder: Path) -> tuple[Settings, tuple[str, ...]]:
    """Reads `classes.txt` and `config.yaml`.

    The config is looked at as a plain file: of hundreds of settings two are about use.

    Args:
        folder: The one that holds the model.

    Returns:
        The settings, and a sentence for each file that is not there.

    Raises:
        ModelError: If the config cannot be read.
    """
    notes = []
    names = read_classes(folder / CLASSES_FILE)
    if names is None:
        notes.append(f"there is no {CLASSES_FILE} beside the model, so classes are told by number.")
    config = folder / CONFIG_FILE
    if not config.is_file():
        notes.append(f"there is no {CONFIG_FILE} beside the model, so images are stretched.")
        return Settings(names, named_by=folder / CLASSES_FILE), tuple(notes)
    data = _section(_read_yaml(config), "data")
    background = _section(data, "source").get("background")
    rule = rule_of(data.get("resize", "stretch"), config)
    return Settings(names, rule, background, folder / CLASSES_FILE), tuple(notes)


def rule_of(value: object, file: Path) -> ResizeRule:
    """A resize rule as a file names it.

    Raises:
        ModelError: If there is no such rule.
    """
    if value not in RULES:
        raise ModelError(f"{file} names the resize rule {value!r}; there are {', '.join(RULES)}.")
    return value


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise ModelError(
            f"{path} cannot be read ({first_line(error)}); it says how images are resized."
        ) from (error)
    return found if isinstance(found, Mapping) else {}


def _section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tree.get(name)
    return found if isinstance(found, Mapping) else {}


GRAPH_FILE = "saved_model.pb"
ASSET_FOLDERS = (EXTRA_FOLDER, "assets")
NAME_FILES = (CLASSES_FILE, "labels.txt")
SIGNATURES = ("images", "serving_default")
"""Signatures that may take raw pixels, in the order of preference."""

_IMAGE_RANK = 4


class Argument(NamedTuple):
    """The one input of a signature."""

    name: str
    shape: tuple[int | None, ...]
    dtype: tf.DType


def version_folder(path: Path) -> Path | None:
    """The folder itself where it is a version, else its newest version; None without one."""
    if (path / GRAPH_FILE).is_file():
        return path
    numbers = [child for child in path.iterdir() if child.name.isdecimal()]
    found = [child for child in numbers if (child / GRAPH_FILE).is_file()]
    return max(found, key=lambda child: int(child.name), default=None)


def signature_of(folder: Path) -> tuple[Any, Argument]:
    """The signature of a version that takes pixels.

    Raises:
        ModelError: If it cannot be opened or has none.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ModelError(
            f"{folder} cannot be opened as a SavedModel ({first_line(error)})."
        ) from error
    for name in SIGNATURES:
        signature = loaded.signatures.get(name)
        if signature is None:
            continue
        arguments = list(signature.structured_input_signature[1].values())
        if len(arguments) == 1 and arguments[0].shape.rank == _IMAGE_RANK:
            # The graph's variables live as long as the object that was loaded.
            signature.loaded_from = loaded
            spec = arguments[0]
            return signature, Argument(spec.name, tuple(spec.shape), spec.dtype)
    raise ModelError(
        f"{folder} has no signature that takes pixels (number, height, width, channels) under the "
        f"names {' or '.join(SIGNATURES)}; export the run anew."
    )


def exported_settings(folder: Path) -> tuple[Settings, tuple[str, ...]]:
    """Reads class names and model card of a version.

    Returns:
        The settings, and a sentence for each file that is not there.

    Raises:
        ModelError: If the card cannot be read.
    """
    notes = []
    files = [folder / place / name for place in ASSET_FOLDERS for name in NAME_FILES]
    named_by = next((file for file in files if file.is_file()), None)
    if named_by is None:
        notes.append("the export names no classes, so they are told by number.")
    cards = [folder / place / CARD_FILE for place in ASSET_FOLDERS]
    card_file = next((file for file in cards if file.is_file()), None)
    names = None if named_by is None else read_classes(named_by)
    if card_file is None:
        notes.append(f"the export holds no {CARD_FILE}, so images are stretched.")
        return Settings(names, named_by=named_by), tuple(notes)
    card = _read_card(card_file)
    preprocessing = card.get("preprocessing")
    said = preprocessing.get("resize", "stretch") if isinstance(preprocessing, Mapping) else None
    # Of drawn digits the card says that none is needed.
    plain = "stretch" if said is None or str(said).startswith("none") else said
    background = card.get("background")
    return Settings(names, rule_of(plain, card_file), background, named_by), tuple(notes)


def _read_card(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}).") from error
    return found if isinstance(found, Mapping) else {}


Answer = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
"""Takes raw pixels float32 (N, H, W, C), inside a graph."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A trained model with all that is known of it.

    Attributes:
        path: File or folder of the model itself.
        answer: What it answers: `softmax`, `bbox` and, where trust is fitted, what
            `statements.STATED` names.
        form: The images that it takes.
        settings: Names of classes, resize rule, class of the background.
        trusted: Whether trust is fitted.
        notes: What was not known and how it was taken instead, as sentences.
        digest: SHA-256, in hex, of the model and of what is said about its answers.
    """

    path: Path
    answer: Answer
    form: ImageFormat
    settings: Settings
    trusted: bool
    notes: tuple[str, ...]
    digest: str


_NEEDED = frozenset({"softmax", "bbox"})


def open_trained(path: Path) -> Opened:
    """Opens whichever it is.

    Raises:
        ModelError: If it is none, or cannot be opened.
        TrustError: If the run's trust cannot be used.
    """
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise ModelError(
                f"{path} is no .keras file; give a run's folder, a .keras file or an export. If it "
                "once was one, it is damaged."
            )
        return _open_file(path)
    if not path.is_dir():
        raise ModelError(
            f"{path} does not exist; give a run's folder, a model's file or an export."
        )
    if (path / BEST_FILE).is_file():
        return _open_file(path / BEST_FILE)
    version = version_folder(path)
    if version is None:
        _refuse_device_model(path)
        raise ModelError(
            f"{path} holds neither {BEST_FILE}, as a run's folder does, nor saved_model.pb, as an "
            "exported version does; give one of these."
        )
    return _open_export(version)


def _refuse_device_model(folder: Path) -> None:
    for name in ("model.tflite", "model.onnx", "model.xml"):
        if (folder / name).is_file():
            raise ModelError(
                f"{folder / name} is for programs on a device, which its own runtime opens; give "
                "the run it was exported from, or its SavedModel."
            )


def _open_file(path: Path) -> Opened:
    model = open_model(path)
    outputs = model.output if isinstance(model.output, dict) else {}
    if not set(outputs) >= _NEEDED:
        raise ModelError(
            f"{path} is a model without the outputs softmax and bbox; it is no localizer."
        )
    settings, notes = run_settings(path.parent)
    trust, told = _trust_beside(path)
    if trust is not None:
        model = trusted_model(model, trust.statements)
    height, width, channels = model.input_shape[1:]
    return _opened(
        path,
        lambda images: model(images, training=False),
        (height, width, channels),
        {name: value.shape for name, value in model.output.items()},
        settings,
        (*notes, *told),
        [path, *([path.parent / TRUST_FILE] if trust is not None else [])],
    )


def _trust_beside(path: Path) -> tuple[Trust | None, tuple[str, ...]]:
    """Trust of the run that a model belongs to; it is that of the best one alone."""
    file = path.parent / TRUST_FILE
    if path.name == BEST_FILE or not file.is_file():
        return read_trust(file, path), ()
    try:
        return read_trust(file, path), ()
    except TrustError:
        return None, (f"{file} was fitted to another model, so {path.name} answers without trust.",)


def _open_export(folder: Path) -> Opened:
    signature, argument = signature_of(folder)
    settings, notes = exported_settings(folder)
    outputs = signature.structured_outputs
    if not set(outputs) >= _NEEDED:
        raise ModelError(f"{folder} answers without softmax and bbox; it is no localizer.")
    _, height, width, channels = argument.shape

    def answer(images: tf.Tensor) -> Mapping[str, tf.Tensor]:
        found: Mapping[str, tf.Tensor] = signature(
            **{argument.name: tf.cast(images, argument.dtype)}
        )
        return found

    files = [folder / "saved_model.pb", *sorted((folder / "variables").glob("*"))]
    shapes = {name: value.shape for name, value in outputs.items()}
    return _opened(folder, answer, (height, width, channels), shapes, settings, notes, files)


def _opened(
    path: Path,
    answer: Answer,
    shape: tuple[int | None, int | None, int | None],
    outputs: Mapping[str, Sequence[int | None]],
    settings: Settings,
    notes: Sequence[str],
    files: Iterable[Path],
) -> Opened:
    height, width, channels = shape
    classes = int(outputs["softmax"][-1] or 0)
    if not (height and width and channels in (1, 3)):
        raise ModelError(f"{path} takes images of {shape}, not of one size with 1 or 3 channels.")
    if settings.class_names is None:
        settings = settings.named([str(index) for index in range(classes)])
    elif len(settings.class_names) != classes:
        raise ModelError(
            f"{path} knows {classes} classes, but {settings.named_by} names "
            f"{len(settings.class_names)}; put the right file there."
        )
    form = ImageFormat((height, width), channels, settings.rule)
    trusted = set(outputs) >= set(STATED)
    digest = digest_of(files, settings)
    return Opened(path, answer, form, settings, trusted, tuple(notes), digest)


def digest_of(files: Iterable[Path], settings: Settings) -> str:
    """SHA-256, in hex, of a model's files and of what is known of it, with its names."""
    digest = hashlib.sha256("".join(model_digest(file) for file in files).encode())
    digest.update(json.dumps([settings.class_names, settings.rule, settings.background]).encode())
    return digest.hexdigest()
