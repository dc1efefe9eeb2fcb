"""Collecting choices, where what the user asked for goes before what is recommended."""

from collections.abc import Mapping
from typing import Any

from loc_keras.recipe.facts import Choice


class Chooser:
    """Collects choices; what the user asked for goes before what is recommended."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.choices: list[Choice] = []
        self._asked = asked

    def pick(self, key: str, value: Any, why: str) -> Any:
        """Adds a choice and gives the value in force."""
        if key in self._asked:
            value, why = self._asked[key], "asked for"
        self.choices.append(Choice(key, value, why))
        return value

    def asks_for_other_body(self) -> bool:
        """Whether the user named a body that is none of our ResNets, so that no width is chosen."""
        return "/" in str(self._asked.get("model.backbone.name", ""))


def step_of(table: tuple[tuple[float, float], ...], value: float) -> float:
    """The entry of the first row whose limit is above a value."""
    return next(entry for limit, entry in table if value < limit)
