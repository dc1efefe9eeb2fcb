"""From a config to the plain values that the rooms below the doors take."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from loc_keras.config.load import flat_settings
from loc_keras.config.schema import Config
from loc_keras.data.annotations import Annotations, read_class_names, with_background, with_class
from loc_keras.data.check.run import CheckResult, lost_images, quick_check, refused_objects
from loc_keras.data.dataset import LocalizationData, build_file_data
from loc_keras.data.digits_data import build_digits_data
from loc_keras.data.faults import count_by_kind, kind_of
from loc_keras.data.formats.registry import read_annotations
from loc_keras.data.image_header import HeaderError
from loc_keras.data.load_records import Checked, SplitRule, load_records
from loc_keras.data.pipeline import pixel_moments
from loc_keras.data.resolve import DatasetRecords, ResolveRules
from loc_keras.errors import DataError
from loc_keras.models.assembly import build_localizer
from loc_keras.models.weights import Start, find_start
from loc_keras.report.gallery import panel_picture
from loc_keras.training.plan import FineTune, FitPlan, SizeStage, refuse_wrong_sizes
from loc_keras.training.precision import use_xla
from loc_keras.training.tensorboard import HyperParameters, ImagePanel, InferenceGraph

PANEL_IMAGES = 8
"""Validation images that TensorBoard shows each epoch."""


def annotations_from(config: Config) -> Annotations:
    """Reads the annotation files that the config names, without judging them.

    Images without an object are those of a class where the config names one.

    Raises:
        DataError: If there are none, as for digits, or they cannot be read.
    """
    source = config.data.source
    if source.format == "digits":
        raise DataError(
            "the digits are drawn, not read, so there are no annotation files; python -m "
            "loc_keras.digits writes them to a folder."
        )
    options = _reader_options(source.format, source.options())
    if source.format == "tfds":
        options["cache_dir"] = config.data.cache_dir
    found = read_annotations(source.format, _root(config), **options)
    if source.inclusive_pixels and found.units == "fraction":
        raise DataError(
            "data.source.inclusive_pixels is true, but the boxes are fractions of the image, not "
            "px; set it to null."
        )
    if source.background is None:
        return found
    return with_background(found, source.background, rules_from(config).class_names)


def checked_from(config: Config, annotations: Annotations) -> CheckResult:
    """What the quick check finds in annotations, understood as the config says."""
    return quick_check(annotations, rules_from(config))


def records_from(
    config: Config, annotations: Annotations | None = None, checked: CheckResult | None = None
) -> DatasetRecords:
    """Records of every split that passed the quick check, with what was left out.

    Args:
        config: The config.
        annotations: What `annotations_from` gives, where it is there already.
        checked: What `checked_from` gives for them, likewise.

    Raises:
        DataError: If the data are wrong and `data.on_error` is `stop`.
    """
    data = config.data
    rules = rules_from(config)
    annotations = annotations or annotations_from(config)
    result = checked or quick_check(annotations, rules)
    found = load_records(
        annotations,
        rules,
        SplitRule(**data.split.model_dump()),
        seed=config.train.seed,
        on_error=data.on_error,
        checked=Checked(
            refused=refused_objects(result),
            lost=lost_images(result),
            headers={
                image: facts.header or HeaderError(facts.reason, facts.trouble)
                for image, facts in result.images.items()
            },
            identical=result.identical,
        ),
    )
    return replace(found, notes=[*found.notes, *_warnings_note(result)])


def _warnings_note(checked: CheckResult) -> list[str]:
    counts = count_by_kind([one for one in checked.findings if one.severity == "warning"])
    if not counts:
        return []
    kinds = ", ".join(f"{kind_of(name).title} ({count})" for name, count in counts.items())
    return [
        f"the quick check warns of {sum(counts.values())}: {kinds}; python -m loc_keras.check "
        "lists them."
    ]


def rules_from(config: Config) -> ResolveRules:
    """How annotations are to be understood."""
    source = config.data.source
    names = source.class_names
    if source.class_names_file is not None:
        names = tuple(read_class_names(_root(config), source.class_names_file))
    if names is not None and source.background is not None:
        names = tuple(with_class(names, source.background))
    return ResolveRules(
        several=source.several,
        crop_margin=source.crop_margin,
        inclusive_pixels=source.inclusive_pixels,
        exif=source.exif,
        boxes_on=source.boxes_on,
        class_names=names,
        background=source.background,
    )


def data_from(config: Config, records: DatasetRecords | None = None) -> LocalizationData:
    """Builds the data source that the config names.

    Args:
        config: The config.
        records: What `records_from` gives, where it is there already.

    Raises:
        DataError: If the source is wrong.
    """
    data = config.data
    shared: dict[str, Any] = {
        "batch_size": config.train.batch_size,
        "seed": config.train.seed,
        "image_size": data.image_size,
        "channels": data.channels,
        "resize": data.resize,
        "augment": config.augment.model_dump(),
        "cache": data.cache,
    }
    if data.source.format == "digits":
        return build_digits_data(
            data.source.path,
            val_fraction=data.split.val,
            test_fraction=data.split.test,
            calibration_fraction=data.split.calibration,
            **shared,
            **data.source.options(),
        )
    return build_file_data(
        records or records_from(config),
        cache_dir=data.cache_dir,
        on_error=data.on_error,
        **shared,
    )


def _root(config: Config) -> str:
    """The data set's folder; `~` is the user's own."""
    return os.path.expanduser(config.data.source.path)


def _reader_options(format_name: str, options: dict[str, Any]) -> dict[str, Any]:
    """A format's settings as its reader takes them: splits that are not given are left out."""
    if options.get("splits") is not None:
        options["splits"] = {
            split: files for split, files in options["splits"].items() if files is not None
        }
    if format_name == "coco":
        options["splits"] = {
            split: {"json": files["annotations"], "images": files["images"]}
            for split, files in options["splits"].items()
        }
    names = options.pop("names", None) if format_name == "csv" else None
    if names is not None:
        options["columns"] = {key: name for key, name in names.items() if name is not None}
    return options


def validation_set(data: LocalizationData) -> tf.data.Dataset:
    """The validation images, without which no checkpoint can be chosen.

    Raises:
        DataError: if the source leaves none.
    """
    if data.val is None:
        raise DataError("no image is left for validation; raise data.split.val above 0.")
    return data.val


def resize_rule(config: Config) -> str:
    """How pictures are brought to the model's size, in words for the model card."""
    if config.data.source.format == "digits":
        return "none: digits are drawn at this size"
    return config.data.resize


def plan_from(config: Config, data: LocalizationData) -> FitPlan:
    """How long and how to train."""
    train = config.train
    sizes = tuple(SizeStage(one.share, one.side) for one in train.progressive_size)
    refuse_wrong_sizes(sizes, data.image_shape)
    return FitPlan(
        epochs=train.epochs,
        steps_per_epoch=train.steps_per_epoch or data.steps_per_epoch,
        batch_size=train.batch_size,
        val_images=data.sizes["val"],
        background=data.background,
        learning_rate=train.learning_rate,
        optimizer=train.optimizer,
        weight_decay=train.weight_decay,
        schedule=train.schedule,
        warmup_epochs=train.warmup_epochs,
        gradient_clip_norm=train.gradient_clip_norm,
        ema=train.ema,
        accumulate=train.accumulate,
        jit_compile=use_xla(train.xla),
        monitor=train.monitor,
        early_stopping_patience=train.early_stopping_patience,
        validate_every_steps=train.validate_every_steps,
        checkpoint_every_steps=train.checkpoint_every_steps,
        keep_checkpoints=train.keep_checkpoints,
        profile_steps=train.profile_steps,
        size_stages=sizes,
        fine_tune=FineTune(**train.fine_tune.model_dump()),
        sync_batch_norm=train.sync_batch_norm,
    )


def losses_from(config: Config) -> dict[str, Any]:
    """Which losses, and their weights, as arguments of `compile_localizer`."""
    return config.loss.model_dump()


def export_base(config: Config) -> Path:
    """The folder whose numbered subfolders are this model's versions."""
    return Path(config.export.dir) / str(config.name)


def board_from(
    config: Config, data: LocalizationData, localizer: keras.Model, folder: Path
) -> list[keras.callbacks.Callback]:
    """What TensorBoard shows of a run beside its scalars: graph, pictures, settings."""
    board = folder / "tensorboard"
    draw = partial(panel_picture, class_names=data.class_names, background=data.background)
    return [
        InferenceGraph(localizer, board),
        ImagePanel(localizer, board, validation_set(data), PANEL_IMAGES, draw),
        HyperParameters(board, flat_settings(config.model_dump()), folder.name),
    ]


MOMENT_IMAGES = 4096
"""Training images from which the pixels' mean and deviation are measured, at the least."""


def start_from(config: Config, data: LocalizationData) -> Start:
    """Finds the body that the config names and the weights that it starts from.

    Raises:
        ModelError: If they are not there, broken, or made for another body.
    """
    backbone = config.model.backbone
    return find_start(
        backbone.name,
        width=backbone.width,
        stem=backbone.stem,
        weights=backbone.weights,
        image_shape=data.image_shape,
    )


def localizer_from(
    config: Config, data: LocalizationData, start: Start | None = None
) -> keras.Model:
    """Builds the model, with the mean and deviation inside that its first weights were trained on.

    Where these are random, the mean and deviation are those of the training images.

    Args:
        config: The config.
        data: The data it is to be trained on.
        start: What `start_from` gives, where it is there already.
    """
    start = start or start_from(config, data)
    pixels = start.preprocessing
    mean, variance = (pixels.mean, pixels.variance) if pixels else _measured_moments(config, data)
    backbone = config.model.backbone
    localizer = build_localizer(
        image_shape=data.image_shape,
        num_classes=len(data.class_names),
        backbone=backbone.name,
        width=backbone.width,
        stem=backbone.stem,
        stochastic_depth=backbone.stochastic_depth,
        bbox_head=config.model.bbox_head,
        class_head=config.model.class_head,
        dropout=config.model.dropout,
        pixel_mean=mean,
        pixel_variance=variance,
        body=start.body,
    )
    start.load(localizer)
    return localizer


def _measured_moments(config: Config, data: LocalizationData) -> tuple[list[float], list[float]]:
    batch = config.train.batch_size
    steps = min(data.steps_per_epoch, max(1, -(-MOMENT_IMAGES // batch)))
    mean, variance = pixel_moments(data.train(0), steps)
    return [float(value) for value in mean], [float(value) for value in variance]
