"""The section `data` of the config."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from loc_keras.config_base import (
    HeightWidth,
    Section,
    Share,
    Text,
    height_width,
)
from loc_keras.config_source import SourceConfig


class SplitConfig(Section):
    """What is held back from training where the source has no such split."""

    val: Share = Field(
        default=0.05, description="Fraction of the images held for validation, 0..0.9."
    )
    test: Share = Field(default=0.05, description="Fraction of the images held for test, 0..0.9.")
    calibration: Share = Field(
        default=0.0,
        description="Fraction of the images held back from all choices, on which trust is fitted, "
        "0..0.9; 0: none.",
    )
    together: Literal["identical", "near", "none"] = Field(
        default="identical",
        description="Images kept on one side of the cut: those of the same bytes, also those that "
        "look nearly alike, or no two.",
    )

    @model_validator(mode="after")
    def _train_remains(self) -> "SplitConfig":
        parts = {"val": self.val, "test": self.test, "calibration": self.calibration}
        # A float sum of shares that make 1 may fall just short of it.
        if round(sum(parts.values()), 9) >= 1:
            named = [f"{name} ({share:g})" for name, share in parts.items() if share]
            raise ValueError(
                f"{', '.join(named[:-1])} and {named[-1]} together must stay below 1, "
                f"so that images remain for training"
            )
        return self


class DataConfig(Section):
    """The data set and how an image reaches the model."""

    source: SourceConfig = Field(default=SourceConfig(), description="Where the data come from.")
    image_size: Annotated[HeightWidth | None, BeforeValidator(height_width)] = Field(
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
    cache: Literal["auto", "memory", "disk", "none"] = Field(
        default="auto",
        description="Keep decoded images in memory or in a file; auto: memory if they fit. Without "
        "(none) images are resized and moved in one resampling, so a little sharper.",
    )
    cache_dir: Text = Field(
        default="cache", description="Folder for what cache: disk and tfds keep between runs."
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="At a record that cannot be read: stop, or skip and report it."
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _channels_counted(cls, value: Any) -> Any:
        # Python holds True equal to 1, so a Literal alone would let it pass.
        return str(value).lower() if isinstance(value, bool) else value
