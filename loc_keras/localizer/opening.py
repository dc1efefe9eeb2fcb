"""Opens a trained model in TensorFlow: a run's folder, a `.keras` file, an exported SavedModel."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ruamel.yaml import YAML

from loc_keras.atomic_file import file_sha256, followed
from loc_keras.data import decode
from loc_keras.data.image_bytes import IN_GRAPH, file_orientation
from loc_keras.data.image_header import undecodable
from loc_keras.data.record_images import CONTENT, ORIENTATION, loader
from loc_keras.data.resize import ImageFormat, ResizeRule, resize_images
from loc_keras.errors import ImageError, ModelError, TrustError, first_line
from loc_keras.localizer.answers import Arrays, Opened
from loc_keras.localizer.pictures import PictureReader, Pixels, opened_content
from loc_keras.models.weights import open_model
from loc_keras.serving.bundle import EXTRA_FOLDER
from loc_keras.training.run_folder import (
    BEST_FILE,
    CARD_FILE,
    CLASSES_FILE,
    CONFIG_FILE,
    NOVELTY_FILE,
    TRUST_FILE,
    read_classes,
    read_json,
)
from loc_keras.trust import novelty, statements
from loc_keras.trust.statements import FOLDS_FILE, read_folds, read_trust, trusted_model

GRAPH_FILE = "saved_model.pb"

_ASSETS = (EXTRA_FOLDER, "assets")
_NAME_FILES = (CLASSES_FILE, "labels.txt")
_SIGNATURES = ("images", "serving_default")  # Those that may take raw pixels, the best first.
_IMAGE_RANK = 4
_RULES: tuple[ResizeRule, ...] = ("stretch", "letterbox")
_NEEDED = frozenset({"softmax", "bbox"})

T = TypeVar("T")

Call = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
"""Takes raw pixels float32 (N, H, W, C), inside a graph."""


@dataclass(frozen=True)
class Settings:
    """What the files beside a model say about it, with a sentence for each that is not there.

    `named_by` is the file that names the classes; without it they are None.
    """

    class_names: tuple[str, ...] | None
    rule: ResizeRule
    background: str | None
    named_by: Path | None
    notes: tuple[str, ...]


def open_trained(path: Path) -> Opened:
    """Opens whichever it is; ModelError if it is none, TrustError if its trust cannot be used."""
    path = followed(path)
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
    if version is not None:
        return _open_export(version)
    raise ModelError(
        f"{path} holds neither {BEST_FILE}, as a run's folder does, nor {GRAPH_FILE}, as an "
        "exported version does; give one of these."
    )


def version_folder(path: Path) -> Path | None:
    """The folder itself where it is a version, else its newest version; None without one."""
    if (path / GRAPH_FILE).is_file():
        return path
    numbers = [child for child in path.iterdir() if child.name.isdecimal()]
    versions = [child for child in numbers if (child / GRAPH_FILE).is_file()]
    return max(versions, key=lambda child: int(child.name), default=None)


def run_settings(folder: Path) -> Settings:
    """Reads class names, resize rule and background from a run's folder; ModelError if it cannot.

    The config is read as plain YAML, not by its schema: a run of another version of this package
    may have other keys, and needs these two alone.
    """
    names, config = folder / CLASSES_FILE, folder / CONFIG_FILE
    data = _section(_read_config(config), "data")
    notes = []
    if not names.is_file():
        notes.append(f"there is no {names.name} beside the model, so classes are shown by number.")
    if not config.is_file():
        notes.append(f"there is no {config.name} beside the model, so images are stretched.")
    rule = _rule(data.get("resize", "stretch"), config)
    background = _section(data, "source").get("background")
    return Settings(read_classes(names), rule, background, names, tuple(notes))


def exported_settings(folder: Path) -> Settings:
    """Reads class names and model card of an exported version; ModelError where one cannot be."""
    files = [folder / place / name for place in _ASSETS for name in _NAME_FILES]
    names = next((file for file in files if file.is_file()), files[0])
    cards = [folder / place / CARD_FILE for place in _ASSETS]
    card_file = next((file for file in cards if file.is_file()), cards[0])
    card = read_json(card_file) if card_file.is_file() else {}
    notes = []
    if not names.is_file():
        notes.append("the export names no classes, so they are shown by number.")
    if not card_file.is_file():
        notes.append(f"the export holds no {CARD_FILE}, so images are stretched.")
    rule = _section(card, "preprocessing").get("resize") or "stretch"
    if str(rule).startswith("none"):  # As the card says of drawn digits.
        rule = "stretch"
    background = card.get("background")
    return Settings(read_classes(names), _rule(rule, card_file), background, names, tuple(notes))


def digest_of(files: Iterable[Path], settings: Settings) -> str:
    """SHA-256, in hex, of a model's files and of what is known of it, with its names."""
    digest = hashlib.sha256("".join(file_sha256(file) for file in files).encode())
    digest.update(json.dumps([settings.class_names, settings.rule, settings.background]).encode())
    return digest.hexdigest()


def _read_config(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except Exception as error:  # The parser's own slips come out at dates, tags and deep nesting.
        raise ModelError(
            f"{path} cannot be read ({first_line(error)}); it says how images are resized."
        ) from error


def _section(tree: Any, name: str) -> Mapping[str, Any]:
    section = tree.get(name) if isinstance(tree, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _rule(value: Any, file: Path) -> ResizeRule:
    if value not in _RULES:
        raise ModelError(f"{file} names the resize rule {value!r}; there are {', '.join(_RULES)}.")
    return value


def _open_file(path: Path) -> Opened:
    model = plain = open_model(path)
    outputs = model.output if isinstance(model.output, dict) else {}
    if not set(outputs) >= _NEEDED:
        raise ModelError(
            f"{path} is a model without the outputs softmax and bbox; it is no localizer."
        )
    settings = run_settings(path.parent)
    files, notes = [path], list[str]()
    trust = _beside(path, TRUST_FILE, "trust", read_trust, notes)
    if trust is not None:
        folds = read_folds(path.parent, trust)
        model = trusted_model(model, trust.statements, folds)
        files += [path.parent / TRUST_FILE, *([path.parent / FOLDS_FILE] if folds else [])]
    familiar = _beside(path, NOVELTY_FILE, "novelty", novelty.read_novelty, notes)
    if familiar is not None:
        model = novelty.with_novelty(model, familiar)
        files.append(path.parent / NOVELTY_FILE)
    opened = _opened(
        path,
        lambda images: model(images, training=False),
        model.input_shape[1:],
        {name: value.shape for name, value in model.output.items()},
        settings,
        files,
        tuple(notes),
    )
    return replace(opened, model=plain)


def _beside(
    path: Path, name: str, what: str, read: Callable[[Path, Path], T | None], notes: list[str]
) -> T | None:
    """What was fitted to the run that a model belongs to; it is that of the best model alone."""
    file = path.parent / name
    try:
        return read(file, path)
    except TrustError:
        if path.name == BEST_FILE:
            raise
        notes.append(f"{file} was fitted to another model, so {path.name} answers without {what}.")
        return None


def _open_export(folder: Path) -> Opened:
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = first_line(error)
        raise ModelError(f"{folder} cannot be opened as a SavedModel ({reason}).") from error
    signature, argument = _pixel_signature(loaded, folder)
    settings = exported_settings(folder)
    outputs = signature.structured_outputs
    if not set(outputs) >= _NEEDED:
        raise ModelError(f"{folder} answers without softmax and bbox; it is no localizer.")

    # The graph's variables live as long as the object that was loaded.
    def answer(images: tf.Tensor, held: Any = loaded) -> Mapping[str, tf.Tensor]:
        answers: Mapping[str, tf.Tensor] = signature(
            **{argument.name: tf.cast(images, argument.dtype)}
        )
        return answers

    files = [folder / GRAPH_FILE, *sorted((folder / "variables").glob("*"))]
    shapes = {name: value.shape for name, value in outputs.items()}
    return _opened(folder, answer, argument.shape[1:], shapes, settings, files)


def _pixel_signature(loaded: Any, folder: Path) -> tuple[Any, tf.TensorSpec]:
    for name in _SIGNATURES:
        signature = loaded.signatures.get(name)
        if signature is not None:
            inputs = list(signature.structured_input_signature[1].values())
            if len(inputs) == 1 and inputs[0].shape.rank == _IMAGE_RANK:
                return signature, inputs[0]
    raise ModelError(
        f"{folder} has no signature that takes pixels (number, height, width, channels) under the "
        f"names {' or '.join(_SIGNATURES)}; export the run anew."
    )


def _opened(
    path: Path,
    call: Call,
    shape: Iterable[int | None],
    outputs: Mapping[str, Sequence[int | None]],
    settings: Settings,
    files: Iterable[Path],
    notes: tuple[str, ...] = (),
) -> Opened:
    height, width, channels = shape
    if not (height and width and channels in (1, 3)):
        raise ModelError(
            f"{path} takes images of {(height, width, channels)}, not of one size with 1 or 3 "
            "channels."
        )
    classes = int(outputs["softmax"][-1] or 0)
    names = settings.class_names or tuple(str(index) for index in range(classes))
    if len(names) != classes:
        raise ModelError(
            f"{path} knows {classes} classes, but {settings.named_by} names {len(names)}; put the "
            "right file there."
        )
    settings = replace(settings, class_names=names)
    background = names.index(settings.background) if settings.background in names else None
    reader = GraphReader(ImageFormat((height, width), channels, settings.rule))

    # With a fixed signature it is traced once, whatever the number of images.
    @tf.function(
        input_signature=[tf.TensorSpec([None, height, width, channels], tf.uint8)], autograph=False
    )
    def traced(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(call(tf.cast(images, tf.float32)))

    def answer(images: npt.NDArray[np.uint8]) -> Arrays:
        return {name: value.numpy() for name, value in traced(tf.constant(images)).items()}

    return Opened(
        path,
        answer,
        reader,
        names,
        background,
        set(outputs) >= set(statements.STATED),
        (*settings.notes, *notes),
        digest_of(files, settings),
        set(outputs) >= set(novelty.STATED),
    )


class GraphReader(PictureReader):
    """Makes the pixels that a model takes of any image: of files the very bits of training."""

    def __init__(self, form: ImageFormat) -> None:
        super().__init__(form)
        self._load = loader(form, frozenset({CONTENT, ORIENTATION}))

        @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.uint8)], autograph=False)
        def resize(pixels: tf.Tensor) -> tf.Tensor:
            pixels = tf.ensure_shape(
                decode.with_channels(pixels, form.channels), [None, None, form.channels]
            )
            return resize_images(pixels, form.size, form.rule_in_use)

        self._resize = resize

    def of_bytes(self, content: bytes, name: str) -> Pixels:
        """Of an encoded image; ImageError, by the name, if it cannot be decoded."""
        orientation = (
            1 if content.startswith(IN_GRAPH) else opened_content(content, name)[0].orientation
        )
        orientation = file_orientation(io.BytesIO(content)) or orientation
        row = {CONTENT: tf.constant(content), ORIENTATION: tf.constant(orientation)}
        try:
            pixels, size = self._load(row)
        except tf.errors.OpError as error:
            raise ImageError(name, undecodable(opened_content(content, name)[0])) from error
        height, width = size.numpy().tolist()
        return Pixels(pixels.numpy(), (height, width))

    def resized(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Pixels uint8 (H, W, 1, 3 or 4) in the model's size and channels."""
        found: npt.NDArray[np.uint8] = self._resize(tf.constant(pixels)).numpy()
        return found
