"""The YAML file of a YOLO data set: what it says, as plain text, with bounded effort."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Split, composed
from loc_keras.data.formats.parsing import label_problem, quoted
from loc_keras.errors import DataError

LARGEST_YAML = 2**20
"""Bytes of the largest YAML file that is parsed: tens of thousands of class names."""

MOST_CLASSES = 100_000  # Classes that a data set may have.
_DEEPEST = 20
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_ONE_LINE_ITEMS = 10


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says.

    Attributes:
        base: `path`, the folder that the others are relative to, or `""`.
        splits: Folders and lists of images of each split, as written.
        class_names: Names of the classes by index.
        has_keypoints: Whether label lines have key points behind the box.
    """

    base: str
    splits: dict[Split, list[str]]
    class_names: list[str] = field(default_factory=list)
    has_keypoints: bool = False


def read_data_yaml(path: str, *, names_alone: bool = False) -> DataYaml:
    """Reads a data.yaml, which need not say where the training images are for `names_alone`.

    DataError if it is missing, no YAML, uses aliases, or lacks `train` or the classes.
    """
    if not files.is_file(path):
        raise DataError(f"YAML file {path} {files.absence(path)}: mend data.source.yolo.yaml.")
    if files.file_size(path) > LARGEST_YAML:
        raise DataError(f"YAML file {path} is larger than {LARGEST_YAML >> 20} MiB; is it one?")
    tree = _parsed(path, files.read_text(path, what="YAML file"))
    if not isinstance(tree, dict):
        raise DataError(f"YAML file {path} holds {quoted(tree)}, expected train, val and names.")
    splits: dict[Split, list[str]] = {}
    for split in SPLITS:
        entries = tree.get(split)
        entries = entries if isinstance(entries, list) else [entries]
        if not all(isinstance(entry, str | None) for entry in entries):
            raise DataError(f"{path}: {split} must be a folder, a list file, or a list of these.")
        if given := [entry for entry in entries if entry is not None]:
            splits[split] = given
    if "train" not in splits and not names_alone:
        raise DataError(f"{path} has no train: name the folder of the training images.")
    base = tree.get("path") or ""
    if not isinstance(base, str):
        raise DataError(f"{path}: path is {quoted(base)}, expected a folder.")
    return DataYaml(base, splits, _class_names(path, tree), bool(tree.get("kpt_shape")))


def parse_yaml(text: str) -> Any:
    """Parses one YAML document into dicts, lists and text; nothing becomes a number or an object.

    Raises:
        ValueError: If it uses aliases, is nested deeply, repeats a key, or has two documents.
        YAMLError: If it is not YAML.
    """
    events = YAML(typ="safe", pure=True).parse(text)
    tree = None
    documents = 0
    for event in events:
        documents += isinstance(event, yaml_events.DocumentStartEvent)
        if documents > 1:
            raise ValueError("has more than one document")
        if isinstance(event, yaml_events.NodeEvent):
            tree = _value(event, events)
    return tree


def _value(event: Any, events: Iterator[Any], depth: int = 0) -> Any:
    """What begins with an event of a parser; takes the further events that belong to it."""
    if isinstance(event, yaml_events.AliasEvent):
        raise ValueError("uses an alias (*), which is not read; write the value out")
    if isinstance(event, yaml_events.ScalarEvent):
        return None if event.style is None and event.value in _NULLS else event.value
    if depth >= _DEEPEST:
        raise ValueError("is nested too deeply")
    items = []
    while not isinstance(one := next(events), yaml_events.CollectionEndEvent):
        items.append(_value(one, events, depth + 1))
    if isinstance(event, yaml_events.SequenceStartEvent):
        return items
    tree: dict[str, Any] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        name = "null" if key is None else key
        if not isinstance(name, str):
            raise ValueError("has a key that is not text")
        if name in tree:
            raise ValueError(f"has the key {quoted(name)} twice")
        tree[name] = value
    return tree


def _parsed(path: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f" in line {mark.line + 1}"
        raise DataError(f"{path} is not YAML{line}: {error.problem}.") from None
    except YAMLError as error:
        raise DataError(f"{path} is not YAML: {quoted(str(error))[1:-1]}.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"YAML file {path} {quoted(str(error))[1:-1]}.") from None


def _class_names(path: str, tree: Mapping[str, Any]) -> list[str]:
    count = _whole_number(tree.get("nc"))
    if tree.get("nc") is not None and (count is None or not 0 < count <= MOST_CLASSES):
        raise DataError(f"{path}: nc is {quoted(tree['nc'])}, expected the number of classes.")
    names = tree.get("names")
    if names is None:
        if count is None:
            raise DataError(f"{path} has no names: list the classes in the order of their indices.")
        return [str(index) for index in range(count)]
    listed = _in_order(path, names)
    if len(listed) > MOST_CLASSES:
        raise DataError(f"{path}: names has more than {MOST_CLASSES:,} classes; is that meant?")
    for index, name in enumerate(listed):
        if problem := label_problem(name):
            raise DataError(f"{path}: the name of class {index} {problem}; mend names.")
    if not listed:
        raise DataError(f"{path}: names is empty; list the classes.")
    stripped = [composed(name) for name in listed]
    name, times = Counter(stripped).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path}: {times} classes are called {quoted(name)}; rename them in names.")
    if count is not None and count != len(listed):
        raise DataError(f"{path}: nc is {count}, but names has {len(listed)} classes; mend one.")
    return stripped


def _in_order(path: str, names: Any) -> list[Any]:
    """Names as a list, from a list or a mapping of indices."""
    if isinstance(names, list):
        return names
    if not isinstance(names, dict):
        raise DataError(f"{path}: names is {quoted(names)}, expected a list of the classes.")
    by_index = {_whole_number(key): name for key, name in names.items()}
    missing = [index for index in range(len(names)) if index not in by_index]
    if missing:
        raise DataError(
            f"{path}: names has {len(names)} classes but not the index {missing[0]}; "
            "number them from 0 without gaps."
        )
    return [by_index[index] for index in range(len(names))]


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return None


def to_yaml(tree: Mapping[Any, Any]) -> str:
    """Writes nested mappings of texts, finite numbers, truth values, null and lists of these.

    The result means the same in YAML 1.1 and 1.2. Keys are numbers or plain words.
    """
    return "".join(f"{line}\n" for line in _lines(tree))


def _lines(tree: Mapping[Any, Any], indent: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _list_lines(key, value, indent)
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _list_lines(key: Any, values: Sequence[Any], indent: str) -> Iterator[str]:
    if len(values) <= _ONE_LINE_ITEMS:
        yield f"{indent}{key}: [{', '.join(map(_scalar, values))}]"
    else:
        yield f"{indent}{key}:"
        yield from (f"{indent}  - {_scalar(value)}" for value in values)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return '"' + "".join(map(_escaped, value)) + '"'
    if isinstance(value, float):
        # YAML 1.1 takes a number with an exponent but without a point for text.
        return np.format_float_positional(value, trim="0")
    return json.dumps(value)


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return "\\" + sign
    return sign if sign.isprintable() else f"\\U{ord(sign):08x}"
