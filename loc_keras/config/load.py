"""Reading, overriding and writing a config; every fault becomes one sentence.

Files are YAML 1.2, so `1e-3` is a number, `no` and `on` are text, and a key that stands twice
is refused.
"""

import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from loc_keras.config.base import Section
from loc_keras.config.schema import Config
from loc_keras.errors import ConfigError

KeyPath = tuple[int | str, ...]

# What must hold, by the kind of fault that pydantic reports; {} are the fields of its context.
_RULES = {
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:.12g}",
    "less_than_equal": "must be at most {le:.12g}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "is a section and must hold `key: value` lines",
    "string_too_long": "must have at most {max_length} character(s)",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
SHIPPED = Path(__file__).parents[1] / "configs"
"""Folder of the configs that come with the package, which are found by their names alone."""

_OTHER_WORDS: dict[str, KeyPath] = {
    "batch": ("train", "batch_size"),
    "imgsz": ("data", "image_size"),
    "lr": ("train", "learning_rate"),
    "lr0": ("train", "learning_rate"),
}
"""What other packages call a key of ours."""

_SHOWN_LENGTH = 60
_SHOWN_BITS = 64
_ONE_LINE_ITEMS = 10


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML 1.2 config file, applies overrides and checks the result.

    `base` stands for the `base.yaml` that comes with the package, unless there is a file `base`.
    Paths inside it stay as written, so relative ones count from the working directory. Overrides
    are `section.key=value` each, the value a YAML scalar or `[list]`; of two for the same key the
    later one holds. A missing `name` is filled with the file's name without its ending.
    ConfigError, with a sentence a line for each fault, if the file cannot be read or anything is
    wrong.
    """
    path = Path(path)
    shipped = SHIPPED / f"{path}.yaml"
    if path.name == str(path) and not path.exists() and shipped.is_file():
        path = shipped
    return config_from_tree(_read_mapping(path), overrides, origin=str(path), name=path.stem)


def config_from_tree(
    tree: dict[Any, Any], overrides: Sequence[str], *, origin: str, name: str
) -> Config:
    """Checks settings that are there as nested values, as `load_config` does.

    Messages say that they come from `origin`; `name` stands for a missing one.
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
            f"{_origin(origin, applied, fault)}: {_fault_sentence(fault)}"
            for fault in error.errors(include_url=False)
        ]
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def asked_keys(overrides: Sequence[str]) -> dict[str, Any]:
    """Dotted names of the keys that checked overrides set, with their values."""
    parsed = map(_parse_override, overrides)
    return {_key_name(override.key): override.value for override in parsed}


def dump_config(config: Config) -> str:
    """Writes a config as YAML, so that reading it gives an equal config.

    Of what applies to other formats alone nothing is written, unless it was changed. Only a config
    whose `name` is set reads back equal, as `load_config` fills in a missing one.
    """
    tree, source = config.model_dump(), config.data.source
    for name in type(source).model_fields:
        section = getattr(source, name)
        if isinstance(section, Section) and name != source.format and section == type(section)():
            del tree["data"]["source"][name]
    for name, value in type(config.augment)():
        is_digits = name.startswith("digit_") and source.format != "digits"
        if is_digits and getattr(config.augment, name) == value:
            del tree["augment"][name]
    return _yaml_text(tree)


def value_text(value: Any) -> str:
    """One value on one line, as it would stand behind its key."""
    tree = CommentedMap(key=_flowing(value))
    return _yaml_text(tree).removeprefix("key:").strip()


def commented_yaml(tree: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Writes nested settings as YAML with comments behind keys, by dotted key.

    What lies below a key with a comment is written on one line.
    """
    return _yaml_text(_commented(tree, comments, ""))


def flat_settings(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class _Override(NamedTuple):
    """One `--set`: as it was written, the key's parts, and the value that YAML reads in it."""

    text: str
    key: KeyPath
    value: Any


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
        section = _section_at(key[:depth])
        if section is None:
            above = _key_name(key[:depth])
            raise ConfigError(f"'{above}' holds a value and has no keys of its own.")
        if key[depth] not in section.model_fields:
            raise ConfigError(_unknown_key_sentence(key[: depth + 1]))
    section = _section_at(key)
    if section is not None:
        names = ", ".join(section.model_fields)
        raise ConfigError(f"'{_key_name(key)}' is a section; set one of its keys: {names}.")


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
    if not _is_between_keys(fault):
        return origin
    changes = [f"--set {one.text}" for one in overrides if one.key[: len(loc)] == loc]
    return f"{origin} with {' '.join(changes)}" if changes else origin


def _read_mapping(path: Path) -> dict[Any, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such config file{_shipped_names(path)}.") from error
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


def _shipped_names(path: Path) -> str:
    names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
    return "" if path.suffix else f"; those of the package are {names}"


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


def _fault_sentence(fault: ErrorDetails) -> str:
    """Turns one of pydantic's errors into a sentence that begins with the key's full path."""
    kind, loc, context = fault["type"], fault["loc"], fault.get("ctx", {})
    if kind in ("extra_forbidden", "invalid_key"):
        return _unknown_key_sentence(loc)
    if _is_between_keys(fault):
        return f"{_key_name(loc)}: {context['error']}." if loc else f"{context['error']}."
    if kind == "value_error":
        rule = str(context["error"])
    else:
        rule = _RULES.get(kind, f"is not valid ({fault['msg']})").format(**context)
        rule += " or null" if _may_be_null(loc) else ""
    return f"{_key_name(loc)} {rule}; got {_shown(fault['input'])}{_hint(fault)}"


def _is_between_keys(fault: ErrorDetails) -> bool:
    """Whether a rule about several keys of one section is broken, not one about a single key."""
    return fault["type"] == "value_error" and isinstance(fault["input"], dict)


def _unknown_key_sentence(path: KeyPath) -> str:
    """Names an unknown key and the valid ones most like it, or else all that stand beside it."""
    above, key = path[:-1], str(path[-1])
    path = (*above, key)
    section = _section_at(above) or Config
    near = [(*above, name) for name in _nearest(key, section.model_fields)]
    near = near or [path for path in _all_paths(Config, ()) if path[-1] == key.lower()]
    near = [_OTHER_WORDS[key]] if key in _OTHER_WORDS else near
    if near:
        names = " or ".join(f"'{_key_name(one)}'" for one in near)
        return f"unknown key '{_key_name(path)}'; did you mean {names}?"
    place = f"'{_key_name(above)}'" if above else "the top level"
    return (
        f"unknown key '{_key_name(path)}'; {place} has the keys {', '.join(section.model_fields)}."
    )


def _may_be_null(loc: KeyPath) -> bool:
    section = _section_at(loc[:-1])
    field = section.model_fields.get(str(loc[-1])) if section else None
    return field is not None and type(None) in get_args(field.annotation)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return "a huge number"
    if isinstance(value, str):
        return f"the text {_shortened(value)!r}"
    return _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _hint(fault: ErrorDetails) -> str:
    """The end of a sentence: what may mend the most common slips, or a full stop."""
    if fault["type"] == "string_type" and fault["input"] is not None:
        return "; put it in quotes to mean text."
    if fault["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        near = _nearest(str(fault["input"]), choices, n=1)
        return f"; did you mean '{near[0]}'?" if near else "."
    return "."


def _nearest(word: str, valid: Iterable[str], n: int = 3) -> list[str]:
    """The most similar valid words, none if none is similar; the same word but for case wins."""
    near = get_close_matches(word.lower(), list(valid), n=n)
    return near[:1] if near[:1] == [word.lower()] else near


def _all_paths(section: type[Section], above: KeyPath) -> Iterator[KeyPath]:
    for name in section.model_fields:
        path = (*above, name)
        yield path
        below = _section_at(path)
        if below is not None:
            yield from _all_paths(below, path)


def _section_at(path: KeyPath) -> type[Section] | None:
    """The section of the schema at a key path; None where there is a value or nothing.

    A key that is a number stands for an item of a list.
    """
    annotation: Any = Config
    for key in path:
        if isinstance(key, int):
            items = get_args(annotation) if get_origin(annotation) in (tuple, list) else ()
            annotation = next((kind for kind in items if _section_in(kind)), None)
        else:
            section = _section_in(annotation)
            field = section.model_fields.get(key) if section else None
            annotation = field.annotation if field else None
    return _section_in(annotation)


def _section_in(annotation: Any) -> type[Section] | None:
    if get_origin(annotation) in (tuple, list):
        return None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _key_name(path: Iterable[int | str]) -> str:
    """Writes a key path as `section.key`, with `[i]` for the i-th item of a list."""
    name = ""
    for key in path:
        name += f"[{key}]" if isinstance(key, int) else f".{key}" if name else key
    return name


class _Representer(RoundTripRepresenter):
    """Writes values so that they read back equal, and an absent one as the word `null`."""

    def represent_null(self, _: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")

    def represent_str(self, data: str) -> ScalarNode:
        # The other styles leave U+0085 and its like bare, which read back as line breaks.
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Representer.add_representer(type(None), _Representer.represent_null)
_Representer.add_representer(str, _Representer.represent_str)


def _yaml_text(tree: Mapping[str, Any]) -> str:
    yaml = YAML(pure=True)
    yaml.Representer = _Representer
    yaml.width = sys.maxsize  # Text that is broken over lines does not always read back equal.
    buffer = io.StringIO()
    yaml.dump(tree if isinstance(tree, CommentedMap) else _plain(tree), buffer)
    return buffer.getvalue()


def _commented(tree: Mapping[str, Any], comments: Mapping[str, str], prefix: str) -> CommentedMap:
    found = CommentedMap()
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name not in comments and isinstance(value, Mapping):
            found[key] = _commented(value, comments, f"{name}.")
            continue
        found[key] = _flowing(value)
        if name in comments:
            text = "".join(sign if sign.isprintable() else "?" for sign in comments[name])
            found.yaml_add_eol_comment(text, key, column=0)
    return found


def _flowing(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = CommentedMap({key: _flowing(item) for key, item in value.items()})
        found.fa.set_flow_style()
        return found
    if isinstance(value, (tuple, list)):
        items = CommentedSeq(map(_flowing, value))
        items.fa.set_flow_style()
        return items
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        items = CommentedSeq(_plain(item) for item in value)
        if len(items) <= _ONE_LINE_ITEMS:
            items.fa.set_flow_style()
        return items
    return value
