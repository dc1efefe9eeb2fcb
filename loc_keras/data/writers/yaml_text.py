"""YAML that every parser reads alike: each text quoted, so that `no` and `1e-3` stay text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_ONE_LINE_ITEMS = 10
_WORDS = {None: "null", True: "true", False: "false"}


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
    if isinstance(value, Mapping):
        return "{}"
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, float):
        # YAML 1.1 takes a number with an exponent but without a point for text.
        return np.format_float_positional(value, trim="0")
    return str(value)


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return "\\" + sign
    if sign.isprintable():
        return sign
    code = ord(sign)
    return (
        f"\\x{code:02x}"
        if code <= 0xFF
        else f"\\u{code:04x}"
        if code <= 0xFFFF
        else (f"\\U{code:08x}")
    )
