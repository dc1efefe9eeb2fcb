"""Reading, overriding and writing a config; every fault becomes one sentence.

Files are YAML 1.2, so `1e-3` is a number, `no` and `on` are text, and a key that stands twice
is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from loc_keras.config import Config
from loc_keras.config_faults import (
    KeyPath,
    fault_sentence,
    is_between_keys,
    key_name,
    section_at,
    unknown_key_sentence,
)
from loc_keras.config_yaml import yaml_text
from loc_keras.errors import ConfigError


class _Override(NamedTuple):
    """One `--set`: as it was written, the key's parts, and the value that YAML reads in it."""

    text: str
    key: KeyPath
    value: Any


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a config file, applies overrides and checks the result.

    Args:
        path: A YAML 1.2 file whose top level is a mapping. Paths inside it stay as written, so
            relative ones count from the working directory.
        overrides: `section.key=value` each, the value a YAML scalar or `[list]`; of two for the
            same key the later one holds.

    Returns:
        The checked config; a missing `name` is filled with the file's name without its ending.

    Raises:
        ConfigError: If the file cannot be read or anything in it or in an override is wrong.
            The message has one sentence a line, one for each fault.
    """
    path = Path(path)
    return config_from_tree(_read_mapping(path), overrides, origin=str(path), name=path.stem)


def config_from_tree(
    tree: dict[Any, Any], overrides: Sequence[str], *, origin: str, name: str
) -> Config:
    """Checks settings that are there as nested values, as `load_config` does.

    Args:
        tree: The settings, as YAML would give them.
        overrides: As in `load_config`.
        origin: Where the settings come from, for messages.
        name: For a missing `name`.

    Raises:
        ConfigError: As `load_config`.
    """
    faults: list[str] = []
    applied: list[_Override] = []
    for text in overrides:
        try:
            override = _parse_override(text)
        except ConfigError as error:
            faults.append(f"--set {text}: {error}")
            continue
        tree = _with_value(tree, override.key, override.value)
        applied.append(override)
    if tree.get("name") is None:
        tree = {**tree, "name": name}
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        faults += [
            f"{_origin(origin, applied, fault)}: {fault_sentence(fault)}"
            for fault in error.errors(include_url=False)
        ]
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def asked_keys(overrides: Sequence[str]) -> list[str]:
    """Dotted names of the keys that overrides set.

    Args:
        overrides: As in `load_config`, checked by it before.
    """
    return [key_name(_parse_override(text).key) for text in overrides]


def dump_config(config: Config) -> str:
    """Writes a config as YAML with every key, so that reading it gives an equal config.

    Args:
        config: The config; only one whose `name` is set reads back equal, as `load_config` fills
            in a missing one.

    Returns:
        YAML text that ends with a line break.
    """
    return yaml_text(config.model_dump())


def _read_mapping(path: Path) -> dict[Any, Any]:
    """Reads the file's top level, or says why it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such config file.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the file is not UTF-8 text; save it as UTF-8.") from error
    except (OSError, ValueError) as error:  # A ValueError tells of a NUL in the path.
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: the file cannot be read: {reason}.") from error
    try:
        tree = _parse_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if tree is None:
        raise ConfigError(f"{path}: the file is empty; `name: {path.stem}` is the least it needs.")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: the top level must be `key: value` lines, but is not.")
    return tree


def _parse_yaml(text: str) -> Any:
    """Reads one YAML 1.2 document; raises ConfigError with line, column and problem."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        # The parser's own text goes on to explain how to allow such keys.
        key = str(error.problem).removeprefix('found duplicate key "').partition('" with value')[0]
        raise ConfigError(f"{_place(error)}the key '{key}' stands twice; keep one.") from error
    except MarkedYAMLError as error:
        hint = "; indent with spaces instead of tabs" if r"'\t'" in str(error.problem) else ""
        raise ConfigError(f"{_place(error)}this is not YAML: {error.problem}{hint}.") from error
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"this is not YAML: {reason}.") from error
    except RecursionError as error:
        raise ConfigError("this is not a config: it is nested too deeply.") from error
    except Exception as error:
        # Where a date, a number or a tag has an impossible value the parser's own slips come out:
        # ValueError for month 13, IndexError for an empty !!int.
        raise ConfigError(f"a value cannot be read: {error}.") from error


def _place(error: MarkedYAMLError) -> str:
    mark = error.problem_mark
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "


def _parse_override(text: str) -> _Override:
    """Splits `section.key=value` and checks that the key exists and the value is no mapping."""
    name, equals, value_text = text.partition("=")
    key = tuple(part.strip() for part in name.split("."))
    if not equals or not all(key):
        raise ConfigError("expected section.key=value, as in --set train.epochs=5.")
    _check_key(key)
    try:
        value = _parse_yaml(value_text)
    except ConfigError as error:
        raise ConfigError(f"{error} {_quote_hint(name)}") from error
    if isinstance(value, Mapping):
        raise ConfigError(f"expected one value or a [list], got a mapping. {_quote_hint(name)}")
    return _Override(text, key, value)


def _quote_hint(name: str) -> str:
    return f"Text with signs of YAML needs quotes: --set '{name}=\"...\"'."


def _check_key(key: KeyPath) -> None:
    for depth in range(len(key)):
        section = section_at(key[:depth])
        if section is None:
            above = key_name(key[:depth])
            raise ConfigError(f"'{above}' holds a value and has no keys of its own.")
        if key[depth] not in section.model_fields:
            raise ConfigError(unknown_key_sentence(key[: depth + 1]))
    section = section_at(key)
    if section is not None:
        names = ", ".join(section.model_fields)
        raise ConfigError(f"'{key_name(key)}' is a section; set one of its keys: {names}.")


def _with_value(tree: Mapping[Any, Any], key: KeyPath, value: Any) -> dict[Any, Any]:
    """Returns a copy with one value set; YAML aliases may share parts, which must not change."""
    head, *rest = key
    if not rest:
        return {**tree, head: value}
    below = tree.get(head)
    if below is None:
        below = {}
    if not isinstance(below, Mapping):
        return dict(tree)  # The file has a value where a section belongs: checking will say so.
    return {**tree, head: _with_value(below, tuple(rest), value)}


def _origin(origin: str, overrides: Sequence[_Override], fault: ErrorDetails) -> str:
    """Says where a fault comes from: an override of that key, or the file and what changed it."""
    loc = fault["loc"]
    setting = [one for one in overrides if loc[: len(one.key)] == one.key]
    if setting:
        return f"--set {setting[-1].text}"
    if not is_between_keys(fault):
        return origin
    changes = [f"--set {one.text}" for one in overrides if one.key[: len(loc)] == loc]
    return f"{origin} with {' '.join(changes)}" if changes else origin
