"""Hostile data sets for the readers: random files, and valid ones that were changed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.annotated import all_objects
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loc_keras.data.annotations import SPLITS, Annotations
from loc_keras.errors import DataError

FEW_AND_MANY = pytest.mark.parametrize(
    "examples", [100, pytest.param(10_000, marks=pytest.mark.slow)]
)

TOKENS = [
    *("", " ", "\0", '"', "'", '""', ",", ";", "\\", "/", "\t", "\n", "\r", "\r\n", "\ufeff"),
    *("\u2028", "\x85", "\x1c", "nan", "inf", "-inf", "1e999", "1e-400", "-0", "-1", "0", "3.5"),
    *("1_0", "0x10", "\u0661", "9" * 5000, "x" * 5000, "001.", "n02165456"),
    *("../", "../a.png", "../../../etc/passwd", "/etc/passwd", "C:\\a.png", "C:/a.png"),
    *("ram://x/a.png", "gs://b/x", "a b.png", "é.png", "😀.png", "a" * 300, "./", "..", "*", "["),
    *("{label}", "~", "%s", "{0}", "<", ">", "&", "&amp;", "&x;", "<a>" * 50, "</annotation>"),
    *("<!DOCTYPE a [<!ENTITY x 'y'>]>", "<!--", "]", "{", "}", ":", "- ", "&a ", "*a", "<<: "),
    *("!!python/object:os.system ", "---\n", "null", "true", "-", "? ", "|", "#", "@", "`"),
    *("%YAML 9.9\n", "\\ud800", "\\u0000"),
]
_NO_TEXTS = [b"\xff", b"\xff\xfe", b"\x80", b"\x00" * 16, b"\xff" * 8]
_ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"]

_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2**70, 10**400, 1.5, "", "a", "\ud800", "../x"]),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-3, 3) | st.none(), max_size=5),
    st.dictionaries(st.sampled_from(["id", "name", "bbox", "file_name"]), st.integers(0, 3)),
)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file after one to four changes, perhaps in another encoding."""
    content = valid
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(content)))
        last = min(len(content), first + draw(st.integers(0, 12)))
        kinds = ("replace", "insert", "repeat", "cut", "end", "flip", "lines")
        kind = draw(st.sampled_from(kinds))
        if kind in ("replace", "insert"):
            tokens = st.sampled_from(TOKENS).map(str.encode) | st.sampled_from(_NO_TEXTS)
            content = (
                content[:first] + draw(tokens) + content[last if kind == "replace" else first :]
            )
        elif kind == "repeat":
            content = content[:last] + content[first:]
        elif kind == "cut":
            content = content[:first] + content[last:]
        elif kind == "end":
            content = content[:first]
        elif kind == "lines":
            content = b"\n".join(draw(st.permutations(content.split(b"\n"))))
        elif first < len(content):
            changed = content[first] ^ (1 << draw(st.integers(0, 7)))
            content = content[:first] + bytes([changed]) + content[first + 1 :]
    encoding = draw(st.sampled_from([None] * 12 + _ENCODINGS))
    if encoding is None:
        return content
    return content.decode(errors="replace").encode(encoding, errors="replace")


@st.composite
def mutated_fields(draw: st.DrawFn, valid: bytes, separator: str) -> bytes:
    """A valid table with some fields replaced, left out or added."""
    rows = [line.split(separator) for line in valid.decode().split("\n")]
    # A header that is wrong hides what is wrong below it.
    changeable = rows[draw(st.sampled_from([0, 1, 1, 1])) :]
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.sampled_from(changeable))
        place = draw(st.integers(0, len(row)))
        width = draw(st.integers(0, 1))
        row[place : place + width] = draw(st.lists(st.sampled_from(TOKENS), max_size=2))
    return "\n".join(map(separator.join, rows)).encode()


@st.composite
def mutated_json(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid tree of JSON with some nodes replaced, left out or repeated."""
    tree = json.loads(valid)
    for _ in range(draw(st.integers(1, 4))):
        node = tree
        while isinstance(node, dict | list) and node:
            key = draw(
                st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node)))
            )
            if not isinstance(node[key], dict | list) or draw(st.integers(0, 2)) == 0:
                action = draw(st.sampled_from(["replace", "remove", "repeat"]))
                if action == "remove":
                    del node[key]
                elif action == "repeat" and isinstance(node, list):
                    node.append(node[key])
                else:
                    node[key] = draw(_VALUES)
                break
            node = node[key]
    return json.dumps(tree).encode()


def hostile_files(
    valid: Mapping[str, bytes], *more: Callable[[bytes], st.SearchStrategy[bytes]]
) -> st.SearchStrategy[dict[str, bytes | None]]:
    """All files of a data set, of which one to three are random, changed or missing (None).

    Args:
        valid: A valid data set. Files without content, as those of images, stay.
        *more: Strategies that mutate a file, beside `mutated`.
    """

    def hostile(name: str) -> st.SearchStrategy[bytes | None]:
        text = st.text(max_size=80).map(lambda value: value.encode("utf-8", "surrogatepass"))
        tokens = st.lists(st.sampled_from(TOKENS), max_size=10).map(
            lambda all: "".join(all).encode()
        )
        random = st.one_of(st.none(), st.binary(max_size=80), text, tokens)
        # Each call makes a strategy of its own: alike ones would count once.
        return st.one_of(
            random, *(strategy(valid[name]) for strategy in (*[mutated] * 3, *more * 6))
        )

    def with_hostile(names: list[str]) -> st.SearchStrategy[dict[str, bytes | None]]:
        return st.fixed_dictionaries({name: hostile(name) for name in names}).map(
            lambda changed: {**valid, **changed}
        )

    changeable = sorted(name for name, content in valid.items() if content)
    names = st.lists(st.sampled_from(changeable), min_size=1, max_size=3, unique=True)
    return names.flatmap(with_hostile)


def assert_only_data_errors(
    folder: Path,
    valid: Mapping[str, bytes],
    read: Callable[..., Annotations],
    examples: int,
    *more: Callable[[bytes], st.SearchStrategy[bytes]],
    options: st.SearchStrategy[Mapping[str, Any]] | None = None,
) -> None:
    """Reads hostile data sets: a `DataError` in one line, or objects and faults that make sense.

    Args:
        folder: Where there is room for them.
        valid: A valid data set.
        read: Takes the data set's folder, and what `options` draws.
        examples: How many.
        *more: As in `hostile_files`.
        options: Strategy of keyword arguments of `read`; None: there are none.
    """
    root = folder / "fuzz"
    on_disk: dict[str, object] = {}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile_files(valid, *more), st.just({}) if options is None else options)
    def body(contents: dict[str, bytes | None], drawn: Mapping[str, Any]) -> None:
        # What the last example left unchanged is not written again: files are most of the time.
        changed = {name: text for name, text in contents.items() if on_disk.get(name, ...) != text}
        write_files(root, changed)
        on_disk.update(contents)
        try:
            found = read(str(root), **drawn)
        except DataError as error:
            assert_printable(str(error).strip())
        else:
            assert_sensible(found, str(root))

    body()


def write_files(root: Path, contents: Mapping[str, bytes | None]) -> None:
    """Writes a data set; None removes a file."""
    for name, content in contents.items():
        path = root / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def assert_sensible(found: Annotations, root: str) -> None:
    """What every reader promises of what it returns."""
    names = found.class_names
    assert names is None or len(set(names)) == len(names)
    assert set(found.objects) <= set(SPLITS)
    for _, one in all_objects(found):
        assert one.image.path.startswith(root + "/")
        assert ".." not in one.image.path.split("/")
        assert len(one.box) == 4
        assert all(type(side) is float for side in one.box)
        assert one.label.splitlines() == [one.label]
        assert_printable(one.label)
        assert "\0" not in one.name
        assert names is None or one.label in names
        assert one.row >= 1
        assert one.size is None or all(type(side) is int and side > 0 for side in one.size)
    for fault in found.faults:
        assert fault.row >= 0
        assert fault.kind.isidentifier()
        # What is said of the whole set names no file.
        assert fault.file.startswith(root) or (fault.file == "" and fault.row == 0)
        assert_printable(fault.reason)


def assert_printable(text: str) -> None:
    """A message is one line, short enough to read, and fit for any terminal or file."""
    assert text.encode()
    assert 0 < len(text) < 7000
    assert "\0" not in text and "\n" not in text
