"""Hostile files for the readers: random ones, and valid ones with some bytes changed."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loc_keras.data.annotations import Annotations, Fault
from loc_keras.errors import DataError

FEW_AND_MANY = pytest.mark.parametrize(
    "examples", [100, pytest.param(10_000, marks=pytest.mark.slow)]
)

_TEXTS = (
    *("", "\0", "\n", "\r", "\t", " ", ";", ",", '"', "'", "\\", "/", "<", ">", "&", "{", "}"),
    *("../", "/etc/passwd", "C:\\x", "gs://b/x", "nan", "-inf", "1e999", "1_0", "-1", "0"),
    *("9" * 400, "é", "\u2028", "\x85", "\ufeff", "x" * 5000, "001.", "n02165456", "&a;"),
)
_NO_TEXTS = (b"\xff", b"\xff\xfe", b"\x80", b"\x00" * 16, b"\xff" * 8)
TOKENS = (*(text.encode() for text in _TEXTS), *_NO_TEXTS)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file after one to four changes."""
    content = valid
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(content)))
        last = min(len(content), first + draw(st.integers(0, 12)))
        kind = draw(st.sampled_from(("replace", "insert", "repeat", "cut", "end", "flip")))
        token = draw(st.sampled_from(TOKENS))
        if kind == "replace":
            content = content[:first] + token + content[last:]
        elif kind == "insert":
            content = content[:first] + token + content[first:]
        elif kind == "repeat":
            content = content[:last] + content[first:]
        elif kind == "cut":
            content = content[:first] + content[last:]
        elif kind == "end":
            content = content[:first]
        elif first < len(content):
            changed = content[first] ^ (1 << draw(st.integers(0, 7)))
            content = content[:first] + bytes([changed]) + content[first + 1 :]
    return content


def hostile_files(valid: Mapping[str, bytes]) -> st.SearchStrategy[dict[str, bytes | None]]:
    """All files of a data set, of which one to three are random, changed or missing (None)."""

    def hostile(name: str) -> st.SearchStrategy[bytes | None]:
        text = st.text(max_size=60).map(lambda value: value.encode("utf-8", "surrogatepass"))
        random = st.one_of(st.binary(max_size=60), text, st.none())
        return st.one_of(mutated(valid[name]), mutated(valid[name]), mutated(valid[name]), random)

    def with_hostile(names: list[str]) -> st.SearchStrategy[dict[str, bytes | None]]:
        return st.fixed_dictionaries({name: hostile(name) for name in names}).map(
            lambda changed: {**valid, **changed}
        )

    names = st.lists(st.sampled_from(sorted(valid)), min_size=1, max_size=3, unique=True)
    return names.flatmap(with_hostile)


def assert_only_data_errors(
    folder: Path, valid: Mapping[str, bytes], read: Callable[[str], Annotations], examples: int
) -> None:
    """Reads hostile data sets: a `DataError` in one line, or objects and faults that make sense."""
    root = folder / "fuzz"
    on_disk: dict[str, object] = {}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile_files(valid))
    def body(contents: dict[str, bytes | None]) -> None:
        # What the last example left unchanged is not written again: files are most of the time.
        changed = {name: text for name, text in contents.items() if on_disk.get(name, ...) != text}
        write_files(root, changed)
        on_disk.update(contents)
        try:
            found = read(str(root))
        except DataError as error:
            assert "\n" not in str(error).strip()
            return
        assert_sensible(found, str(root))

    body()


def write_files(root: Path, contents: Mapping[str, bytes | None]) -> None:
    for name, content in contents.items():
        path = root / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def assert_sensible(found: Annotations, root: str) -> None:
    names = found.class_names
    assert names is None or len(set(names)) == len(names)
    for _, one in found.all_objects():
        assert one.image.path.startswith(root + "/")
        assert ".." not in one.image.path.split("/")
        assert len(one.box) == 4
        assert all(type(side) is float for side in one.box)
        assert one.label
        assert names is None or one.label in names
        assert one.row >= 1
        assert one.size is None or all(type(side) is int for side in one.size)
    for fault in found.faults:
        assert isinstance(fault, Fault)
        assert fault.file.startswith(root)
        assert fault.reason
        assert fault.kind
        assert len(fault.reason) < 7000
