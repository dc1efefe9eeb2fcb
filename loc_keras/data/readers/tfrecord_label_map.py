"""Label maps of the TensorFlow object-detection tools (`label_map.pbtxt`)."""

import re

from loc_keras.data import files
from loc_keras.errors import DataError

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[A-Za-z_][\w.]*)
    |(?P<number>[+-]?\d[\w.+-]*)
    |(?P<sign>[{}:,;<>\[\]])""",
    re.VERBOSE,
)


def read_label_map(path: str) -> dict[int, str]:
    """Reads the classes of a label map.

    ```
    item {
      id: 1
      name: 'cat'
    }
    ```

    Args:
        path: The file. Other fields than `id`, `name` and, in its absence, `display_name` are not
            looked at.

    Returns:
        Name of each id, in the order of the ids.

    Raises:
        DataError: If it is missing, not in this form, or gives an id or a name twice.
    """
    names: dict[int, str] = {}
    for line, fields in _items(path, files.read_text(path, what="label map")):
        where = f"label map {path}, line {line}"
        text = fields.get("id", "")
        name = fields.get("name") or fields.get("display_name") or ""
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
            raise DataError(f"{where}: the item's id must be a whole number from 1, not {text!r}.")
        if not name:
            raise DataError(f"{where}: the item with id {text} has no name.")
        if int(text) in names or name in names.values():
            raise DataError(f"{where}: id {text} or name {name!r} stands in an earlier item too.")
        names[int(text)] = name
    if not names:
        raise DataError(f"label map {path} has no items; expected item {{ id: 1 name: 'cat' }}.")
    return dict(sorted(names.items()))


def _items(path: str, text: str) -> list[tuple[int, dict[str, str]]]:
    """Line and plain fields of each item."""
    items: list[tuple[int, dict[str, str]]] = []
    depth, key, previous = 0, "", ""
    for line, token in _tokens(path, text):
        if token in "{<":
            if depth == 0:
                if previous.rstrip(":") != "item":
                    raise DataError(f"label map {path}, line {line}: expected item {{ ... }}.")
                items.append((line, {}))
            depth += 1
        elif token in "}>":
            depth -= 1
            if depth < 0:
                raise DataError(f"label map {path}, line {line}: {token} closes nothing.")
        elif token == ":":
            key = previous
            continue
        elif depth == 1 and key:
            items[-1][1][key] = _unquoted(token)
        elif depth == 0 and token != "item":
            raise DataError(f"label map {path}, line {line}: expected item {{ ... }}.")
        key, previous = "", token
    if depth:
        raise DataError(f"label map {path} ends within an item; a closing brace is missing.")
    return items


def _tokens(path: str, text: str) -> list[tuple[int, str]]:
    position, line, tokens = 0, 1, []
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise DataError(
                f"label map {path}, line {line}: {text[position]!r} was not expected here."
            )
        if match.lastgroup != "skip":
            tokens.append((line, match[0]))
        line += match[0].count("\n")
        position = match.end()
    return tokens


def _unquoted(token: str) -> str:
    if token[0] not in "\"'":
        return token
    return re.sub(r"\\(.)", r"\1", token[1:-1])
