"""What all sections of the config are made of: types of values with their ranges, and a base."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from loc_keras.errors import DataError

_PAIR = 2


def _height_width(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, (list, tuple)) and len(value) == _PAIR:
        return value
    raise ValueError("must be one side in px, or [height, width]")


def _smallest_largest(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) == _PAIR:
        return tuple(value)
    raise ValueError("must be [smallest, largest]")


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Strict(False)]
SidePx = Annotated[int, Field(ge=8, le=4096)]
HeightWidth = Annotated[tuple[SidePx, SidePx], Strict(False), BeforeValidator(_height_width)]
Factor = Annotated[float, Field(ge=0.2, le=10)]
FactorRange = Annotated[tuple[Factor, Factor], BeforeValidator(_smallest_largest)]
Half = Annotated[float, Field(ge=0, le=0.5)]
Degrees = Annotated[float, Field(ge=0, le=45)]
Unit = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=0.9)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the config: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        # A section whose keys are all commented out reads as null.
        return {} if value is None else value

    @classmethod
    def from_options(cls, name: str, options: Self | Mapping[str, Any] | None) -> Self:
        """The section, `name` in messages, from options given in Python; None: the defaults.

        Raises:
            DataError: If a key is unknown or a value wrong.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(str(part) for part in fault["loc"])
            if fault["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields)
                raise DataError(f"{name} has no {key!r}; its keys are {known}.") from error
            rule = fault["msg"].removeprefix("Value error, ")
            place, given = (f"{name}.{key}", f", got {fault['input']!r}") if key else (name, "")
            raise DataError(f"{place}: {rule}{given}.") from error


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that stand twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice)} more than once")
    return names
