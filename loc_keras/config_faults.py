"""Sentences about what is wrong in a config: which key, what was expected, what was received."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic_core import ErrorDetails

from loc_keras.config import Config
from loc_keras.config_base import Section

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
_SHOWN_LENGTH = 60
_SHOWN_BITS = 64


def fault_sentence(fault: ErrorDetails) -> str:
    """Turns one of pydantic's errors into a sentence that begins with the key's full path."""
    kind, loc, context = fault["type"], fault["loc"], fault.get("ctx", {})
    if kind in ("extra_forbidden", "invalid_key"):
        return unknown_key_sentence(loc)
    if is_between_keys(fault):
        return f"{key_name(loc)}: {context['error']}." if loc else f"{context['error']}."
    if kind == "value_error":
        rule = str(context["error"])
    else:
        rule = _RULES.get(kind, f"is not valid ({fault['msg']})").format(**context)
        rule += " or null" if _may_be_null(loc) else ""
    return f"{key_name(loc)} {rule}; got {_shown(fault['input'])}{_hint(fault)}"


def is_between_keys(fault: ErrorDetails) -> bool:
    """Whether a rule about several keys of one section is broken, not one about a single key."""
    return fault["type"] == "value_error" and isinstance(fault["input"], dict)


def unknown_key_sentence(path: KeyPath) -> str:
    """Names an unknown key and the valid ones most like it, or else all that stand beside it."""
    above, key = path[:-1], str(path[-1])
    path = (*above, key)
    section = section_at(above) or Config
    near = [(*above, name) for name in _nearest(key, section.model_fields)] or _namesakes(key)
    if near:
        names = " or ".join(f"'{key_name(one)}'" for one in near)
        return f"unknown key '{key_name(path)}'; did you mean {names}?"
    place = f"'{key_name(above)}'" if above else "the top level"
    return (
        f"unknown key '{key_name(path)}'; {place} has the keys {', '.join(section.model_fields)}."
    )


def section_at(path: KeyPath) -> type[Section] | None:
    """Finds the section of the schema at a key path; None where there is a value or nothing.

    A key that is a number stands for an item of a list.
    """
    section: type[Section] | None = Config
    annotation: Any = Config
    for key in path:
        if isinstance(key, int):
            section = _section_in_list(annotation)
            annotation = section
            continue
        field = None if section is None else section.model_fields.get(str(key))
        annotation = None if field is None else field.annotation
        section = _section_in(annotation)
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that a key holds, also where the key may be null instead."""
    if get_origin(annotation) in (tuple, list):
        return None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _section_in_list(annotation: Any) -> type[Section] | None:
    """The section that each item of a list holds."""
    kinds = get_args(annotation) if get_origin(annotation) in (tuple, list) else ()
    return next((kind for kind in kinds if _section_in(kind)), None)


def key_name(path: Iterable[int | str]) -> str:
    """Writes a key path as `section.key`, with `[i]` for the i-th item of a list."""
    name = ""
    for key in path:
        name += f"[{key}]" if isinstance(key, int) else f".{key}" if name else key
    return name


def _nearest(word: str, valid: Iterable[str], n: int = 3) -> list[str]:
    """The most similar valid words, none if none is similar; the same word but for case wins."""
    near = get_close_matches(word.lower(), list(valid), n=n)
    return near[:1] if near[:1] == [word.lower()] else near


def _namesakes(key: str) -> list[KeyPath]:
    """The key paths anywhere in the schema that end in this very name."""
    return [path for path in _all_paths(Config, ()) if path[-1] == key.lower()]


def _all_paths(section: type[Section], above: KeyPath) -> Iterator[KeyPath]:
    for name in section.model_fields:
        path = (*above, name)
        yield path
        below = section_at(path)
        if below is not None:
            yield from _all_paths(below, path)


def _may_be_null(loc: KeyPath) -> bool:
    section = section_at(loc[:-1])
    field = section.model_fields.get(str(loc[-1])) if section else None
    return field is not None and type(None) in get_args(field.annotation)


def _shown(value: Any) -> str:
    """Writes a received value as a config file would, cut to a readable length."""
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
