"""A run's folder as commands begin, finish and open it, and what they print of a run."""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console

from loc_keras.atomic_file import csv_text, safe_cell, write_text, written_aside
from loc_keras.cli.console import print_line, print_note
from loc_keras.cli.data_source import DataSource, read_folder
from loc_keras.cli.options import program
from loc_keras.config.data import SourceConfig
from loc_keras.config.load import flat_settings, load_config, value_text
from loc_keras.config.schema import Config
from loc_keras.data.annotations import ALL_SPLITS, FOLDS, Split
from loc_keras.data.dataset import LocalizationData
from loc_keras.data.duplicates import leak_words
from loc_keras.data.resolve import DatasetRecords
from loc_keras.errors import DataError, ModelError
from loc_keras.evaluation.figures import APART_KEY, run_figures
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.models.body import WeightsOrigin, preprocessing_of
from loc_keras.models.weights import open_model
from loc_keras.report.evaluation_content import spread_by_iou
from loc_keras.report.gallery import choose_examples, draw_gallery
from loc_keras.report.image_boxes import Pixels, small_pictures, to_rgb
from loc_keras.report.style import save_figure
from loc_keras.report.terminal import SPLIT_NAMES, classes_words
from loc_keras.serving.bundle import EXTRA_FOLDER, model_card
from loc_keras.training.model import FitResult, answer_function, collect_outcomes
from loc_keras.training.precision import device_summary
from loc_keras.training.progress import clock_time
from loc_keras.training.run_folder import (
    BEST_FILE,
    CARD_FILE,
    CLASSES_FILE,
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    EXAMPLES,
    EXPORT,
    HISTORY_FILE,
    KNOWN_BY_SIZES,
    METRICS_FILE,
    NEAR_DUPLICATES_FILE,
    PLOTS,
    SKIPPED_FILE,
    TENSORBOARD,
    RunState,
    environment,
    open_run,
    package_versions,
    read_classes,
    read_environment,
    read_json,
    refuse_changes,
    refuse_used_folder,
    run_state,
    write_json,
)

Measured = dict[str, dict[str, float | int]]
SHOWN_SKIPPED = 5
GALLERY_IMAGES = 16
EXAMPLE_IMAGES = 3
MOST_TRIED = 20
"""Pictures of which the first that is a file is named in a command."""
LINES_AT_END = 15


def print_data(console: Console, data: LocalizationData, *, listed: bool = True) -> None:
    """Prints the sizes of the splits, the classes, and what was left out.

    `listed` says whether that is also written to the run folder.
    """
    sizes = ", ".join(
        f"{data.sizes[split]:,} {split}" for split in ALL_SPLITS if data.sizes.get(split)
    )
    height, width, channels = data.image_shape
    console.print(
        f"data: {sizes} images of {height} x {width} x {channels}, "
        f"{classes_words(data.class_names)}"
    )
    if len(data.class_names) == 1:
        print_note(
            console, f"{data.class_names[0]} is the only class: the model has only to find it."
        )
    for note in (*data.notes, *(leak_note(data, split) for split in data.near_duplicates)):
        print_note(console, note)
    if data.skipped:
        where = f"all listed in {SKIPPED_FILE}" if listed else f"{program('check')} lists all"
        noun = "row" if len(data.skipped) == 1 else "rows"
        console.print(f"left out: {len(data.skipped)} {noun}, {where}")
        for file, row, reason in data.skipped[:SHOWN_SKIPPED]:
            place = f"{file} row {row}:" if row else f"{file}:"
            print_line(console, f"  {place} {reason}")


def leak_note(data: LocalizationData, split: Split, *, listed: bool = True) -> str | None:
    """Says how many images of a split are near duplicates of training images, if any are.

    `listed` says whether they are also listed, and figures given without them.
    """
    leaked = data.leaked(split)
    if leaked is None:
        return None
    count = int(leaked.sum())
    words = leak_words(count, len(leaked), split)
    if not listed:
        return f"{words}, which flatters the figures."
    return f"{words}; {NEAR_DUPLICATES_FILE} lists them, and figures are given without them, too."


def write_near_duplicates(folder: Path, data: LocalizationData, splits: Iterable[Split]) -> None:
    """Lists the near duplicates of training images in some splits, if there are any, as CSV."""
    rows = [["split", "image", "path", "training_image", "training_path", "agreement"]]
    train = data.pictures["train"]
    found = [split for split in splits if split in data.near_duplicates]
    for split in found:
        pairs = data.near_duplicates[split]
        own = data.pictures[split]
        paths, train_paths = own.paths, train.paths
        for row, at, agreement in zip(*(column.tolist() for column in pairs), strict=True):
            cells = (own.names[row], paths[row], train.names[at], train_paths[at])
            rows.append([split, *map(safe_cell, cells), f"{agreement:.3f}"])
    if found:
        write_text(folder / NEAR_DUPLICATES_FILE, csv_text(rows))
    else:  # One of an earlier evaluation says nothing of these images.
        (folder / NEAR_DUPLICATES_FILE).unlink(missing_ok=True)


def goes_on(folder: Path | None, config: Config) -> bool:
    """Whether the folder holds an unfinished run of this config.

    Raises:
        TrainingError: If it holds a run of another config, a finished one, or something else.
    """
    if folder is None:
        return False
    if run_state(folder) is not RunState.UNFINISHED:
        refuse_used_folder(folder)
        return False
    before = load_config(folder / CONFIG_FILE)
    refuse_changes(folder, flat_settings(before.model_dump()), flat_settings(config.model_dump()))
    return True


def write_start(
    folder: Path, config_text: str, policy: str, data: LocalizationData, **more: Any
) -> None:
    """Writes what is known before training: environment and more facts, classes, rows left out.

    The config comes last: a folder that has it holds all that going on with its run needs.
    """
    open_run(folder)
    (folder / PLOTS).mkdir(exist_ok=True)
    write_text(folder / CLASSES_FILE, "".join(f"{name}\n" for name in data.class_names))
    facts = environment(
        device_summary(),
        precision=policy,
        data_fingerprint=data.fingerprint,
        images=data.sizes,
        **more,
    )
    write_json(folder / ENVIRONMENT_FILE, facts)
    write_near_duplicates(folder, data, data.near_duplicates)
    if data.skipped:
        rows = [{"file": str(f), "row": row, "reason": why} for f, row, why in data.skipped]
        write_json(folder / SKIPPED_FILE, {"skipped": rows})
    write_text(folder / CONFIG_FILE, config_text)


def finish_run(
    folder: Path,
    best: keras.Model,
    data: LocalizationData,
    name: str,
    out_of_fold: Outcomes | None = None,
) -> tuple[Measured, dict[Split, Outcomes]]:
    """Measures the best model on validation and test images, and draws the run's pictures.

    Answers out of fold, where there are any, are measured beside them.

    Returns:
        The figures, as in the file, and the answers, by split.
    """
    from loc_keras.report.architecture import save_architecture
    from loc_keras.report.curves import save_curves

    answer = answer_function(best)
    splits: dict[Split, tf.data.Dataset | None] = {"val": data.val, "test": data.test}
    outcomes = {
        split: collect_outcomes(answer, dataset, data.pictures[split], data.background)
        for split, dataset in splits.items()
        if dataset is not None
    }
    if out_of_fold is not None:
        outcomes[FOLDS] = out_of_fold
    measured: Measured = {}
    for split, found in outcomes.items():
        measured[split] = run_figures(found)
        leaked = data.leaked(split)
        if leaked is not None:
            measured[f"{split}{APART_KEY}"] = run_figures(found.take(~leaked))
    # Written before anything is drawn: a picture that fails must not cost the figures.
    write_json(folder / METRICS_FILE, measured)
    plots = folder / PLOTS
    classes = len(data.class_names)
    others = f", {data.sizes['val']:,} validation" if data.val is not None else ""
    title = f"{name}: {data.sizes['train']:,} training{others} images"
    save_curves(folder / HISTORY_FILE, plots / "curves.png", title=title, classes=classes)
    save_architecture(best, plots / "architecture.png")
    for split, found in outcomes.items():
        _draw_gallery(folder, split, found, data)
    if data.measured in outcomes:
        _save_examples(folder / EXAMPLES, data.measured, outcomes[data.measured], data)
    return measured, outcomes


def write_card(
    folder: Path,
    config: Config,
    best: keras.Model,
    data: LocalizationData,
    measured: Measured,
    origin: WeightsOrigin,
    **more: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Writes the model card into the run folder, and gives it for the export."""
    drawn = config.data.source.format == "digits"
    card = model_card(
        name=str(config.name),
        class_names=data.class_names,
        image_shape=data.image_shape,
        resize="none: digits are drawn at this size" if drawn else config.data.resize,
        preprocessing=preprocessing_of(best),
        origin=origin,
        images=data.sizes,
        fingerprint=data.fingerprint,
        test_fingerprint=data.test_fingerprint,
        figures=measured,
        packages=package_versions(),
        date=datetime.now().astimezone(),
        background=data.background,
        **more,
    )
    write_json(folder / CARD_FILE, card)
    return card


def exported_before(folder: Path, *bases: Path) -> Path | None:
    """The version that this run has exported already, recognised by its model card; else None.

    A run may be stopped after its export was put in place and before it was marked as finished.
    """
    card = folder / CARD_FILE
    if not card.is_file():
        return None
    own = read_json(card)
    for exported in (file for base in bases for file in base.glob(f"*/{EXTRA_FOLDER}/{CARD_FILE}")):
        version = exported.parents[1]
        # Folders aside, of exports that were stopped half-way, are no versions.
        with suppress(ModelError):  # Of another, damaged version.
            if version.name.isdecimal() and read_json(exported) == own:
                return version
    return None


def print_end(
    console: Console,
    folder: Path,
    result: FitResult,
    data: LocalizationData,
    figures: Sequence[str],
    findings: Sequence[str],
    exported: Path | None,
    seconds: float,
    base: Path,
) -> None:
    """Prints the figures, what is worth looking at, what to do next, and how long the run took.

    These are `LINES_AT_END` at most on a terminal that is as wide as the longest path.
    """
    print_line(console, "\n".join(figures))
    picture = folder / PLOTS / f"{data.measured}_gallery.png"
    commands = next_commands(folder, data, exported, base)
    room = max(0, LINES_AT_END - len(figures) - len(commands) - 3)
    for finding in [*findings[:room], str(picture)]:
        print_line(console, f"look at: {finding}")
    print_line(console, "\n".join(["next:", *commands]))
    epoch = f"epoch {result.best_epoch + 1} of {len(result.history)}"
    served = "not exported" if exported is None else f"exported to {exported}"
    print_line(console, f"finished in {clock_time(seconds)}, {epoch}; {served}")


def next_commands(
    folder: Path, data: LocalizationData, exported: Path | None, base: Path
) -> list[str]:
    """Three commands that go on from a finished run, with its own paths; `base` is for versions."""
    run = shlex.quote(str(folder))
    pictures = data.pictures[data.measured]
    shown = next(filter(os.path.isfile, pictures.paths[:MOST_TRIED]), None)
    picture = f"--model {run} {shlex.quote(shown or '')} --out answers --draw"
    out = shlex.quote(str(base))
    is_published = exported is not None and exported.parent != folder / EXPORT
    last = f"--run {run} --out {out}"
    return [
        f"{program('evaluate')} --run {run}",
        f"{program('predict')} {picture}" if shown else f"tensorboard --logdir {run}/{TENSORBOARD}",
        f"{program('demo')} --model {run}" if is_published else f"{program('export')} {last}",
    ]


def _draw_gallery(folder: Path, split: Split, outcomes: Outcomes, data: LocalizationData) -> None:
    """Draws answers on the pictures themselves, which the model may have seen in other shapes."""
    label = data.background
    chosen, title = choose_examples(
        np.nan_to_num(outcomes.ious),
        SPLIT_NAMES[FOLDS] if split == FOLDS else split,
        GALLERY_IMAGES,
        background=None if label is None else outcomes.probabilities[:, label],
        empty=None if label is None else ~outcomes.shown,
        one_class=len(data.class_names) == 1,
    )
    pictures = split_pictures_at(data, split, chosen.tolist())
    if not pictures:
        return
    found = outcomes.take(np.array(list(pictures), np.int64))
    sides = np.tile(found.sizes[:, ::-1], 2)
    figure = draw_gallery(
        list(pictures.values()),
        {"softmax": found.labels, "bbox": found.boxes_px / sides},
        {"softmax": found.probabilities, "bbox": found.boxes_pred_px / sides},
        data.class_names,
        title=title,
        background=label,
    )
    save_figure(figure, folder / PLOTS / f"{split}_gallery.png")


def _save_examples(folder: Path, split: Split, outcomes: Outcomes, data: LocalizationData) -> None:
    """Keeps a few pictures, at even ranks of IoU, the best first, for the page to try the model."""
    chosen = spread_by_iou(np.nan_to_num(outcomes.ious), EXAMPLE_IMAGES)[::-1].tolist()
    pictures = split_pictures_at(data, split, chosen)
    folder.mkdir(exist_ok=True)
    for number, pixels in enumerate(pictures.values(), start=1):
        with written_aside(folder / f"{number}.png") as aside:
            Image.fromarray(to_rgb(pixels)).save(aside)


def split_pictures_at(
    data: LocalizationData, split: Split, rows: Sequence[int]
) -> dict[int, Pixels]:
    """Small pictures of some images: the original ones or, where they are drawn, the model's.

    They are uint8 (H, W, 3), by row; those that cannot be decoded are left out.
    """
    records = data.pictures[split].records
    if records is not None:
        return small_pictures(records, rows)
    dataset = data.held_out(split)
    if dataset is None or not len(rows):
        return {}
    images = images_at(dataset, np.array(rows))
    return dict(zip(rows, np.broadcast_to(images, (*images.shape[:-1], 3)), strict=True))


def images_at(dataset: tf.data.Dataset, indices: np.ndarray) -> np.ndarray:
    """The images (M, H, W, C) at some places of a data set, in the order of `indices`."""
    found: dict[int, np.ndarray] = {}
    wanted = set(indices.tolist())
    start = 0
    for images, _ in dataset:
        here = [index for index in wanted if start <= index < start + len(images)]
        found |= {index: images[index - start].numpy() for index in here}
        start += len(images)
        if len(found) == len(wanted):
            break
    return np.stack([found[index] for index in indices.tolist()])


def usual_split(run: Path) -> Split:
    """Test, but for a run without test images that was measured out of fold."""
    file = run / METRICS_FILE
    found = read_json(file) if file.is_file() else {}
    return FOLDS if FOLDS in found and "test" not in found else "test"


@dataclass(frozen=True, eq=False)
class RunWithData:
    """A run's best model with data that fit it, and the config that names these."""

    folder: Path
    localizer: keras.Model
    config: Config
    data: LocalizationData

    @property
    def same_data(self) -> bool:
        """Whether these are the very splits that the run was trained with."""
        return self.data.is_that_of(self.trained_on)

    @property
    def trained_on(self) -> str | None:
        """Fingerprint of the data that the run was trained with; None where it is not known."""
        if not (self.folder / ENVIRONMENT_FILE).is_file():
            return None
        return read_environment(self.folder).get("data_fingerprint")

    @property
    def name(self) -> str:
        """Name of the config, else that of the folder."""
        return str(self.config.name or self.folder.name)

    @property
    def model_path(self) -> Path:
        """The model's file."""
        return self.folder / BEST_FILE

    def held_out(self, split: str) -> tf.data.Dataset:
        """The pipeline of a split that is not trained on.

        Raises:
            DataError: If the data have no such images.
        """
        dataset = self.data.held_out(split)
        if dataset is None:
            raise DataError(f"{self.config.data.source.path} has no {split} images to measure on.")
        return dataset


def load_run(
    folder: Path,
    config_path: Path | None = None,
    overrides: list[str] | None = None,
    *,
    measured: tuple[str, Split] | None = None,
) -> RunWithData:
    """Opens a run's best model with the run's own data, or those of another config.

    `overrides`, `section.key=value` each, go over the config. `measured` names a folder whose
    images stand for those of a split; the training images remain the run's own.

    Raises:
        ModelError: If there is no model, it cannot be opened, or the data do not fit it.
        LocKerasError: If config or data are wrong.
    """
    path = folder / BEST_FILE
    if not path.is_file():
        raise ModelError(f"{folder} holds no {BEST_FILE}; give the folder of a run to --run.")
    localizer = open_model(path)
    given = list(overrides or [])
    of_folder = [text for text in given if measured and text.startswith("data.source.")]
    rest = [text for text in given if text not in of_folder]
    config = load_config(config_path or folder / CONFIG_FILE, rest)
    source = DataSource(config)
    if measured is None:
        data = source.build()
    else:
        names = read_classes(folder / CLASSES_FILE) or ()
        section, records = _of_folder(source, *measured, names, of_folder)
        data = source.build(records)
        config = source.with_data(source=section).config
    _check_fit(localizer, data.image_shape, data.class_names, folder)
    run = RunWithData(folder, localizer, config, data)
    if run.trained_on in {data.fingerprint_by_sizes} - {""}:
        return replace(run, data=replace(data, notes=[*data.notes, KNOWN_BY_SIZES]))
    return run


def _of_folder(
    source: DataSource, folder: str, split: Split, names: Sequence[str], overrides: Sequence[str]
) -> tuple[SourceConfig, DatasetRecords]:
    """Reads a folder whose images are measured, as `split`, beside the training images of a run.

    Gives the settings that the folder was read with, and both as records. Of a folder without that
    split all images are measured.
    """
    if names:
        overrides = [f"data.source.class_names={value_text(list(names))}", *overrides]
    reading = read_folder(os.path.expanduser(folder), overrides, name=split)
    given = reading.records.splits
    if split not in given and list(given) != ["train"]:
        raise DataError(
            f"{folder} has images for {', '.join(given)}, but none for {split}; name one of those "
            "by --split."
        )
    own = source.records
    splits = {"train": own.splits["train"], split: given.get(split, given["train"])}
    notes = [*reading.notes, f"measured on {len(splits[split])} images of {folder}."]
    found = replace(own, splits=splits, faults=reading.records.faults, notes=notes, cut=None)
    return reading.source.section, found


def _check_fit(
    localizer: keras.Model, image_shape: tuple[int, ...], class_names: list[str], run: Path
) -> None:
    """Refuses data that the model was not made for."""
    takes = localizer.input_shape[1:]
    if tuple(takes) != tuple(image_shape):
        raise ModelError(
            f"the model takes images of {takes}, the data has {image_shape} (height, width, "
            "channels); set data.image_size and data.channels to the model's."
        )
    learned = read_classes(run / CLASSES_FILE)
    gives = localizer.output["softmax"].shape[-1]
    if gives != len(class_names) or (learned is not None and learned != tuple(class_names)):
        raise ModelError(
            f"the model knows the classes {', '.join(learned or [str(gives)])}, but the data has "
            f"{', '.join(class_names)}; name them alike and in that order, for example by "
            "data.source.class_names."
        )
