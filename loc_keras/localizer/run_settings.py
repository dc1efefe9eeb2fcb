"""What a run's folder says of its model beside the model itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from loc_keras.data.resize import ResizeRule
from loc_keras.errors import ModelError

CLASSES_FILE, CONFIG_FILE = "classes.txt", "config.yaml"
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
    names = read_names(folder / CLASSES_FILE)
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


def read_names(path: Path) -> tuple[str, ...] | None:
    """Class names, one a line; None where there is no such file."""
    try:
        return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}).") from error


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
        first = (str(error).splitlines() or [""])[0]
        raise ModelError(f"{path} cannot be read ({first}); it says how images are resized.") from (
            error
        )
    return found if isinstance(found, Mapping) else {}


def _section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tree.get(name)
    return found if isinstance(found, Mapping) else {}
