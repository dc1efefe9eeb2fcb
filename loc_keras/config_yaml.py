"""Settings as YAML text that reads back equal."""

import io
import sys
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

_ONE_LINE_ITEMS = 10


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


def yaml_text(tree: Mapping[str, Any]) -> str:
    """Writes nested settings, with a line break at the end; tuples become lists."""
    yaml = YAML(pure=True)
    yaml.Representer = _Representer
    yaml.width = sys.maxsize  # Text that is broken over lines does not always read back equal.
    buffer = io.StringIO()
    yaml.dump(tree if isinstance(tree, CommentedMap) else _plain(tree), buffer)
    return buffer.getvalue()


def value_text(value: Any) -> str:
    """One value on one line, as it would stand behind its key."""
    tree = CommentedMap(key=_flowing(value))
    return yaml_text(tree).removeprefix("key:").strip()


def commented_yaml(tree: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Writes nested settings as YAML with a comment behind some keys.

    Args:
        tree: The settings.
        comments: By dotted key. What lies below a key with a comment is written on one line.
    """
    return yaml_text(_commented(tree, comments, ""))


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
    """A value whose mappings and lists are written on one line."""
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
    """Turns tuples into YAML lists; short ones are written on one line."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        items = CommentedSeq(_plain(item) for item in value)
        if len(items) <= _ONE_LINE_ITEMS:
            items.fa.set_flow_style()
        return items
    return value
