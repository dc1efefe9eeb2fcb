"""The sections of `data.source` that say how one annotation format is laid out."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from loc_keras.config_base import Section, Text, Texts, unique

CSV_COLUMNS = ("file", "label", "x1", "y1", "x2", "y2")
CSV_FILES = {
    "train": {"csv": "training_data.csv", "images": "training_images"},
    "val": {"csv": "validation_data.csv", "images": "validation_images"},
    "test": {"csv": "test_data.csv", "images": "test_images"},
}
BOX_COLUMNS = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x1", "y1", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
}


class CsvFilesConfig(Section):
    """Where one split of a CSV data set lies, relative to `data.source.path`."""

    csv: Text = Field(description="File with one row per image, or a pattern such as labels/*.csv.")
    images: Text = Field(
        description="Folder of the images that the rows name; {label} and {stem} stand for the "
        "row's label and the CSV file's name without ending."
    )


class CsvSplitsConfig(Section):
    """The files of each split of a CSV data set."""

    train: CsvFilesConfig = Field(
        default=CsvFilesConfig(**CSV_FILES["train"]), description="Files of the training split."
    )
    val: CsvFilesConfig | None = Field(
        default=CsvFilesConfig(**CSV_FILES["val"]),
        description="Files of the validation split; null: cut off train.",
    )
    test: CsvFilesConfig | None = Field(
        default=CsvFilesConfig(**CSV_FILES["test"]),
        description="Files of the test split; null: cut off train.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, value: Any) -> Any:
        # One name may be changed without repeating the other.
        if not isinstance(value, dict):
            return value
        return {
            split: {**CSV_FILES.get(split, {}), **files} if isinstance(files, dict) else files
            for split, files in value.items()
            if files is not None or split != "train"
        }


class CsvNamesConfig(Section):
    """Names of the columns in the header, where they are found by name and not by position."""

    file: Text = Field(default="file", description="Column of the image's file name.")
    label: Text | None = Field(default=None, description="Column of the class.")
    x1: Text | None = Field(default=None, description="Left edge.")
    y1: Text | None = Field(default=None, description="Top edge.")
    x2: Text | None = Field(default=None, description="Right edge.")
    y2: Text | None = Field(default=None, description="Bottom edge.")
    cx: Text | None = Field(default=None, description="Centre from the left.")
    cy: Text | None = Field(default=None, description="Centre from the top.")
    w: Text | None = Field(default=None, description="Width of the box.")
    h: Text | None = Field(default=None, description="Height of the box.")
    width: Text | None = Field(default=None, description="Width of the image in px, to check it.")
    height: Text | None = Field(default=None, description="Height of the image in px, likewise.")
    group: Text | None = Field(
        default=None, description="Images of one group (a patient, a video) stay in one split."
    )
    split: Text | None = Field(default=None, description="Column that says train, val or test.")


class CsvConfig(Section):
    """How the rows of a CSV data set are written."""

    header: bool = Field(default=False, description="Whether the first line names the columns.")
    delimiter: str = Field(
        default=",", min_length=1, max_length=1, description="The character between two fields."
    )
    columns: Texts = Field(
        default=CSV_COLUMNS,
        description="Meaning of the columns in order: file, label, those of the box, and perhaps "
        "width, height, group, split; columns of other names are not read.",
    )
    names: CsvNamesConfig | None = Field(
        default=None,
        description="Which column of the header means what, in place of columns; null: by order.",
    )
    box: Literal["xyxy", "xywh", "cxcywh"] = Field(
        default="xyxy",
        description="Box as x1 y1 x2 y2 (two corners), x1 y1 w h, or cx cy w h (centre).",
    )
    units: Literal["fraction", "pixel"] = Field(
        default="fraction", description="Box coordinates: fractions of the image side, or px."
    )
    label_from: Literal["column", "folder"] = Field(
        default="column", description="The class: a column, or the folder that holds the image."
    )
    splits: CsvSplitsConfig = Field(
        default=CsvSplitsConfig(), description="CSV file and image folder of each split."
    )

    @field_validator("columns")
    @classmethod
    def _columns_distinct(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        return unique(columns)

    @model_validator(mode="after")
    def _columns_complete(self) -> "CsvConfig":
        given = self.columns
        if self.names is not None:
            if not self.header:
                raise ValueError("names looks columns up in the header, so header must be true")
            given = tuple(key for key, name in self.names.model_dump().items() if name is not None)
        label = ("label",) if self.label_from == "column" else ()
        needed = ("file", *label, *BOX_COLUMNS[self.box])
        missing = [name for name in needed if name not in given]
        if missing:
            section = "columns" if self.names is None else "names"
            raise ValueError(
                f"{section} lacks {', '.join(missing)}; needed are {', '.join(needed)}"
            )
        return self


class VocFilesConfig(Section):
    """Where one split of a Pascal VOC data set lies, relative to `data.source.path`."""

    annotations: Text = Field(default=".", description="Folder of the XML files.")
    images: Text | None = Field(
        default=None, description="Folder of the images; null: beside the XML files."
    )
    list: Text | None = Field(
        default=None,
        description="File whose lines begin with the names (without ending) that belong to the "
        "split, such as ImageSets/Main/train.txt; null: all.",
    )


class VocSplitsConfig(Section):
    """The files of each split of a Pascal VOC data set."""

    train: VocFilesConfig = Field(default=VocFilesConfig(), description="The training split.")
    val: VocFilesConfig | None = Field(default=None, description="Validation; null: cut off train.")
    test: VocFilesConfig | None = Field(default=None, description="Test; null: cut off train.")


class VocConfig(Section):
    """Pascal VOC: one XML file an image."""

    first_pixel: Literal[0, 1] = Field(
        default=0,
        description="Number of the first pixel: 1 in the files of the Pascal VOC challenges, whose "
        "xmax and ymax name the last pixel of the box; most tools count edges from 0.",
    )
    splits: VocSplitsConfig = Field(default=VocSplitsConfig(), description="Files of each split.")


class CocoFilesConfig(Section):
    """Where one split of a COCO data set lies, relative to `data.source.path`."""

    annotations: Text = Field(description="The annotation file.")
    images: Text = Field(description="Folder that the file's names are relative to.")


class CocoSplitsConfig(Section):
    """The files of each split of a COCO data set."""

    train: CocoFilesConfig = Field(
        default=CocoFilesConfig(
            annotations="annotations/instances_train.json", images="images/train"
        ),
        description="The training split.",
    )
    val: CocoFilesConfig | None = Field(
        default=None, description="Validation; null: cut off train."
    )
    test: CocoFilesConfig | None = Field(default=None, description="Test; null: cut off train.")


class CocoConfig(Section):
    """COCO: one JSON file a split."""

    splits: CocoSplitsConfig = Field(default=CocoSplitsConfig(), description="Files of each split.")


class YoloSplitsConfig(Section):
    """Image folder of each split, relative to `data.source.path`, in place of a YAML file."""

    train: Text = Field(description="Folder of the training images.")
    val: Text | None = Field(default=None, description="Validation; null: cut off train.")
    test: Text | None = Field(default=None, description="Test; null: cut off train.")


class YoloConfig(Section):
    """YOLO: a text file of fractions an image, and one YAML file."""

    yaml: Text = Field(default="data.yaml", description="File with the splits and the class names.")
    splits: YoloSplitsConfig | None = Field(
        default=None,
        description="Image folders in place of the YAML file; classes are then named by "
        "data.source.class_names or class_names_file, or else by their numbers.",
    )


class ImagenetConfig(Section):
    """Tiny ImageNet and ImageNet-LOC, whose published test labels are secret."""

    val_as: Literal["test", "val"] = Field(
        default="test", description="What the published validation images are used as."
    )


class TfrecordSplitsConfig(Section):
    """Patterns of the shards of each split, relative to `data.source.path`."""

    train: Text = Field(default="train*.tfrecord*", description="Shards of the training split.")
    val: Text | None = Field(default=None, description="Validation; null: cut off train.")
    test: Text | None = Field(default=None, description="Test; null: cut off train.")


class TfrecordConfig(Section):
    """TFRecord files with the feature names of the TensorFlow object detection models."""

    splits: TfrecordSplitsConfig = Field(
        default=TfrecordSplitsConfig(), description="Shards of each split."
    )
    label_map: Text | None = Field(
        default=None, description="File label_map.pbtxt with the class names; null: as the records."
    )


class TfdsSplitsConfig(Section):
    """Splits of a TFDS data set, in its own notation such as train[:90%]."""

    train: Text = Field(default="train", description="The training split.")
    val: Text | None = Field(default=None, description="Validation; null: cut off train.")
    test: Text | None = Field(default="test", description="Test; null: cut off train.")


class TfdsConfig(Section):
    """A data set of TensorFlow Datasets that has boxes; `data.source.path` is its data_dir."""

    name: Text = Field(
        default="caltech_birds2011", description="Name, perhaps with :version and config."
    )
    splits: TfdsSplitsConfig = Field(default=TfdsSplitsConfig(), description="Which part is what.")
    image: Text | None = Field(default=None, description="Image feature; null: the only one.")
    box: Text | None = Field(default=None, description="Box feature; null: the only one.")
    label: Text | None = Field(default=None, description="Class feature; null: the likeliest.")
    download: bool = Field(
        default=False, description="Whether to fetch and prepare what is absent."
    )
