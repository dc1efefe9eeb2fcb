"""Hostile data sets for the readers of text formats: random text, and mutations of valid files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from loc_keras.data.annotations import SPLITS, Annotations
from loc_keras.errors import DataError

Files = dict[str, bytes]
"""Content of each file of a data set, by its path below the folder."""

QUICK = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(QUICK, max_examples=10_000)

TOKENS = [
    *(
        "",
        " ",
        "\0",
        '"',
        "'",
        '""',
        ",",
        ";",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\ufeff",
        "\u2028",
        "\x1c",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-0",
        "1_0",
        "0x10",
        "\u0661",
        "9" * 5000,
        "1e-400",
        "-1",
        "3.5",
    ),
    *("../a.png", "../../../etc/passwd", "/etc/passwd", "C:\\a.png", "C:/a.png", "ram://x/a.png"),
    *("a b.png", "é.png", "😀.png", "a" * 300, "./", "..", "*", "[", "{label}", "~", "%s", "{0}"),
    *("<", "&amp;", "&x;", "<a>" * 50, "</annotation>", "<!DOCTYPE a [<!ENTITY x 'y'>]>", "<!--"),
    *("[", "]", "{", "}", ":", "- ", "&a ", "*a", "<<: ", "!!python/object:os.system ", "---\n"),
    *("null", "true", "-", "? ", "|", ">", "#", "@", "`", "%YAML 9.9\n", "\\ud800", "\\u0000"),
]

_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2**70, 10**400, 1.5, "", "a", "\ud800", "../x"]),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-3, 3) | st.none(), max_size=5),
    st.dictionaries(st.sampled_from(["id", "name", "bbox", "file_name"]), st.integers(0, 3)),
)


@st.composite
def mutated_text(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with slices cut out, doubled, or replaced by hostile tokens."""
    text = valid.decode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        action = draw(st.sampled_from(["insert", "replace", "cut", "double", "truncate", "lines"]))
        token = draw(st.sampled_from(TOKENS)) if action in ("insert", "replace") else ""
        if action == "truncate":
            text = text[:start]
        elif action == "double":
            text = text[:stop] + text[start:]
        elif action == "lines":
            text = "\n".join(draw(st.permutations(text.split("\n"))))
        else:
            text = text[:start] + token + text[start if action == "insert" else stop :]
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"]))
    return text.encode(encoding, errors="replace")


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


def hostile_files(valid: Files, *more: Callable[[bytes], st.SearchStrategy[bytes]]) -> Any:
    """Data sets of which one file is random, a mutation, empty or absent.

    Args:
        valid: A valid data set.
        *more: Strategies that mutate a file beside those of any text.

    Returns:
        Strategy of the file's name and its content; None stands for an absent file.
    """

    def contents(name: str) -> st.SearchStrategy[tuple[str, bytes | None]]:
        # Each call makes a strategy of its own: alike ones would count once.
        chosen = (*[mutated_text] * 3, *more * 9)
        mutations = [strategy(valid[name]) for strategy in chosen]
        content = st.one_of(
            st.none(),
            st.binary(max_size=80),
            st.text(max_size=80).map(lambda text: text.encode(errors="replace")),
            st.lists(st.sampled_from(TOKENS), max_size=10).map(lambda all: "".join(all).encode()),
            *mutations,
        )
        return st.tuples(st.just(name), content)

    return st.sampled_from(sorted(valid)).flatmap(contents)


def write_files(folder: Path, content: Files) -> None:
    """Writes a data set."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def check_hostile(
    folder: Path, valid: Files, change: tuple[str, bytes | None], read: Callable[[], Annotations]
) -> None:
    """Reads a data set with one changed file: all that may escape is a `DataError`.

    Whatever is returned must be whole: images in the folder, faults that can be printed.
    """
    name, content = change
    path = folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    try:
        found = read()
    except DataError as error:
        assert_printable(str(error))
    else:
        assert_whole(folder, found)
    finally:
        path.write_bytes(valid[name])


def assert_whole(folder: Path, found: Annotations) -> None:
    """What every reader promises of what it returns."""
    assert set(found.objects) <= set(SPLITS)
    for _, one in found.all_objects():
        resolved = Path(one.image.path).resolve()
        assert resolved.is_relative_to(folder.resolve())
        assert len(one.box) == 4
        assert all(isinstance(side, float) for side in one.box)
        assert one.row >= 1
        assert one.size is None or min(one.size) > 0
        assert_printable(one.label)
        assert one.label.splitlines() == [one.label]
        assert "\0" not in one.name
    for fault in found.faults:
        assert fault.row >= 0
        assert fault.kind.isidentifier()
        assert fault.file.startswith(str(folder))
        assert_printable(fault.reason)
        assert "\n" not in fault.reason


def assert_printable(text: str) -> None:
    """A message must be short enough to read and fit for any terminal or file."""
    assert text.encode()
    assert 0 < len(text) < 2000
    assert "\0" not in text
