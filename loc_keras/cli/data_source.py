"""The data that a command works on: of a config, or of a folder whose settings are found."""

import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from loc_keras.cli.console import print_line
from loc_keras.cli.options import program
from loc_keras.config.data import SourceConfig
from loc_keras.config.load import asked_keys, config_from_tree
from loc_keras.config.schema import Config
from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotations,
    count_by_kind,
    in_units,
    with_background,
    with_class,
)
from loc_keras.data.box_view import DECIDED, UNDECIDED, VIEWS, View, view_samples
from loc_keras.data.check.boxes import may_be_sizes
from loc_keras.data.check.run import CheckResult, quick_check
from loc_keras.data.fault_kinds import kind_of
from loc_keras.data.formats.detection import (
    LabelFiles,
    guesses,
    label_files,
    list_data_folder,
    truncated_note,
    unrecognised,
)
from loc_keras.data.formats.listing import Guess, Listing, list_folder, split_of
from loc_keras.data.formats.parsing import CLASS_FILES, below, marked_lists, read_class_names
from loc_keras.data.formats.registry import FORMATS, WRITERS, read_annotations
from loc_keras.data.formats.tools import TOOLS, is_of_tool, way_on
from loc_keras.data.load_records import Looks, load_records
from loc_keras.data.resolve import DatasetRecords, checked_objects, count_multi_object
from loc_keras.errors import ConfigError, DataError, counted, first_line
from loc_keras.recipe.rules import multi_object_policy

if TYPE_CHECKING:
    from loc_keras.data.dataset import LocalizationData
    from loc_keras.data.pixel_store import Keep, PixelStore

WRONG_SHARE = 0.5
"""Share of unusable objects from which on a folder counts as being of another format."""

STOP_SHARE = 0.1
"""Share of unusable objects from which on training stops instead of leaving them out."""

VIEWS_FILE = "boxes_on.png"
"""Some pictures with their boxes in both readings of `boxes_on`."""

_SHOWN = 3
_TOLD = frozenset({"unused_entry", "score", "class_unused"})  # Kinds that stand for many.
_OF_A_FORMAT = re.compile(r"data\.source\.\w+\.")


class DataSource:
    """The data that a config names; everything is read or computed once, when first asked for."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def section(self) -> SourceConfig:
        """`data.source`, with the names of classes where their file or the section gives them.

        Raises:
            DataError: If the file of class names cannot be read.
        """
        source = self.config.data.source
        names = source.class_names
        if source.class_names_file is not None:
            names = tuple(read_class_names(self.root, source.class_names_file))
        if names is not None and source.background is not None:
            names = tuple(with_class(names, source.background))
        return source.model_copy(update={"class_names": names})

    @cached_property
    def annotations(self) -> Annotations:
        """What the annotation files say, not judged yet.

        Images without an object are those of a class where the config names one.

        Raises:
            DataError: If there are none, as for digits, or they cannot be read.
        """
        source = self.config.data.source
        if source.format == "digits":
            raise DataError(
                "the digits are drawn, not read, so there are no annotation files; python -m "
                "loc_keras.digits writes them to a folder."
            )
        options = source.reader_options()
        if FORMATS[source.format].caches:
            options["cache_dir"] = self.config.data.cache_dir
        if source.file is not None:
            if source.format not in TOOLS:
                raise DataError(
                    f"data.source.file names a file of a labelling tool, but the files of the "
                    f"format {source.format} are named in its own section; set it to null."
                )
            options["file"] = source.file
        with files.noted_reads() as self._opened:
            annotations = read_annotations(source.format, self.root, **options)
        known = (*CLASS_FILES, "_classes.txt")
        lists = [path for path in self._opened if posixpath.basename(path) in known]
        if source.class_names_file is not None:
            lists.append(files.join(self.root, source.class_names_file))
        faults = [*annotations.faults, *marked_lists(set(lists))]
        annotations = in_units(replace(annotations, faults=faults), source.box_units)
        if source.inclusive_pixels and annotations.units == "fraction":
            raise DataError(
                "data.source.inclusive_pixels is true, but the boxes are fractions of the image, "
                "not px; set it to null."
            )
        if source.background is None:
            return annotations
        return with_background(annotations, source.background, self.section.class_names)

    @cached_property
    def label_files(self) -> list[LabelFiles]:
        """What was made of each file that looks like labels; none for data that are not listed."""
        name = self.config.data.source.format
        if name == "digits" or FORMATS[name].makes_folder or files.is_remote(self.root):
            return []
        return self.sorted_files(list_folder(self.root), {}, "the config does not name it")

    def sorted_files(
        self, listing: Listing, unused: Mapping[str, str], otherwise: str
    ) -> list[LabelFiles]:
        """As `detect.label_files.label_files`, of these data."""
        annotations = self.annotations
        named = self.config.data.source.class_names_file
        opened = {*self._opened, *([files.join(self.root, named)] if named else [])}
        return label_files(listing, annotations, opened, unused, otherwise)

    @cached_property
    def checked(self) -> CheckResult:
        """The result of the quick check, which decodes no image."""
        return self.quick_check()

    def quick_check(self, progress: Callable[[int], None] | None = None) -> CheckResult:
        """Makes the quick check, unless it was made; `progress` is told how many more are done."""
        if "checked" not in self.__dict__:
            self.checked = quick_check(self.annotations, self.section, progress=progress)
        return self.checked

    @cached_property
    def records(self) -> DatasetRecords:
        """Records of every split that passed the quick check, with what was left out.

        Raises:
            DataError: If the data are wrong and `data.on_error` is `stop`.
        """
        return self._records(lambda found: self._store(found, "none").looks)

    def _records(self, looks: Looks) -> DatasetRecords:
        config = self.config
        require_view(self.checked)
        found = load_records(
            self.checked,
            config.data.split,
            seed=config.train.seed,
            on_error=config.data.on_error,
            looks=looks,
        )
        views = [one.reason for one in self.checked.findings if one.kind == DECIDED]
        return replace(found, notes=[*found.notes, *views, *_warnings_note(self.checked)])

    def _store(self, found: DatasetRecords, keep: "Keep | None" = None) -> "PixelStore":
        """The store of the training records."""
        from loc_keras.data.dataset import image_format, store_of

        data = self.config.data
        return store_of(found.splits["train"], image_format(found, data), data, keep)

    def uncut(self) -> "DataSource":
        """The source with nothing cut off for splits that the data set lacks."""
        split = self.config.data.split
        return self.with_data(
            split=split.model_copy(update={"val": 0.0, "test": 0.0, "calibration": 0.0})
        )

    def build(self, records: DatasetRecords | None = None) -> "LocalizationData":
        """Builds the pipelines, of other records than `records` where some are given.

        Raises:
            DataError: If the data are wrong.
        """
        from loc_keras.data.dataset import build_file_data

        config, data = self.config, self.config.data
        batch_size, seed = config.train.batch_size, config.train.seed
        if data.source.format != "digits":
            stores: list[PixelStore] = []  # Near duplicates are told by the pixels that are kept.

            def looks(found: DatasetRecords) -> npt.NDArray[np.uint8]:
                stores.append(self._store(found))
                return stores[0].looks

            found = records or self._records(looks)
            uncut = next(iter(stores), None)
            folds = config.train.folds > 0
            common = partial(build_file_data, batch_size=batch_size, seed=seed, folds=folds)
            return common(found, data, config.augment, uncut=uncut)
        from loc_keras.data.digits_data import build_digits_data

        return build_digits_data(
            data.source.path,
            batch_size=batch_size,
            seed=seed,
            val_fraction=data.split.val,
            test_fraction=data.split.test,
            calibration_fraction=data.split.calibration,
            image_size=data.image_size,
            channels=data.channels,
            resize=data.resize,
            augment=config.augment,
            cache=data.cache,
            **data.source.digits.model_dump(),
        )

    def with_config(self, config: Config) -> "DataSource":
        """The source of another config, with what was read of the same files."""
        other = DataSource(config)
        own, new = self.config.data.source, config.data.source
        keep: list[str] = []
        if own == new.model_copy(update={"several": own.several}):
            keep = ["annotations", "_opened", "label_files"]
        if own == new:
            keep += ["section", "checked"]
        other.__dict__ |= {name: self.__dict__[name] for name in keep if name in self.__dict__}
        return other

    def with_data(self, **settings: Any) -> "DataSource":
        """The source with other settings of `data`."""
        data = self.config.data.model_copy(update=settings)
        return self.with_config(self.config.model_copy(update={"data": data}))

    @property
    def root(self) -> str:
        """The data set's folder; `~` is the user's own, and an archive is unpacked."""
        path = os.path.expanduser(self.config.data.source.path)
        return files.unpacked(path, self.config.data.cache_dir)


def _warnings_note(checked: CheckResult) -> list[str]:
    counts = count_by_kind([one for one in checked.findings if one.severity == "warning"])
    if not counts:
        return []
    kinds = ", ".join(f"{kind_of(name).title} ({count})" for name, count in counts.items())
    return [
        f"the quick check warns of {sum(counts.values())}: {kinds}; {program('check')} lists them."
    ]


@dataclass(frozen=True, eq=False)
class Reading:
    """A folder as one reader understands it, by the settings of the guess.

    Records are what can be used, nothing cut off for validation or test, of `total` objects;
    `nothing_left` is why they have no split, so that nothing can be trained on.
    """

    guess: Guess
    source: DataSource
    records: DatasetRecords
    total: int
    notes: tuple[str, ...] = ()
    nothing_left: str = ""

    @property
    def refused(self) -> int:
        """Number of objects that cannot be used."""
        return len(self.records.errors)

    def refused_sentence(self) -> str:
        """How many objects cannot be used, and the first of them; at least one."""
        first = self.records.errors[0]
        place = f"{first.file} row {first.row}" if first.row else first.file
        return (
            f"{self.refused:,} of {self.total:,} objects cannot be used, the first: {place} "
            f"{first.reason}"
        )


def read_folder(
    folder: str, overrides: Sequence[str], *, name: str, lenient: bool = False
) -> Reading:
    """Detects the format of a folder, or of the one file of labels that counts, and reads it.

    Overrides are `section.key=value` each; `data.source.format` tries that format alone. With
    `lenient` data of which much cannot be used are read as well, to be checked.

    Raises:
        DataError: If no format fits, or too much cannot be used.
        ConfigError: If an override is wrong.
    """
    # Mistakes in overrides are reported before anything is looked for.
    tree = {"data": {"source": {"format": "csv", "path": folder}}}
    # Whether those of a format fit shows with what is found.
    alone = [text for text in overrides if not _OF_A_FORMAT.match(text)]
    asked = config_from_tree(tree, alone, origin=f"--data {folder}", name=name)
    keys = asked_keys(overrides)
    if "data.source.path" in keys:
        raise ConfigError("--set data.source.path goes with --config; --data names the folder.")
    place = files.unpacked(folder, asked.data.cache_dir)
    listing = list_data_folder(place)
    found = list(guesses(listing))
    if listing.root != place:
        file = below(listing.root, place)
        found = [one for guess in found for one in _of_file(guess, listing, file)] or found
        up = os.path.normpath(os.path.join(folder, below(place, listing.root)))
        place, folder = listing.root, listing.root if place == folder else up
    # The settings name the archive, which is found unpacked again.
    possible = [
        replace(one, path=os.path.normpath(os.path.join(folder, below(place, one.path))))
        if place != folder
        else one
        for one in found
    ]
    if "data.source.format" in keys:
        wanted = asked.data.source.format
        possible = [guess for guess in possible if guess.format == wanted]
        possible = possible or [Guess(wanted, folder, why="asked for")]
    table = keys.get("data.source.csv.splits.train.csv")
    possible = [guess for guess in possible if table in guess.files] or possible
    failed: list[str] = []
    doubtful: Reading | None = None
    for guess in possible:
        if guess.question and not keys.keys() & guess.answers:
            failed.append(f"as {guess.format} ({guess.why}): {guess.question}")
            continue
        try:
            reading = _read(guess, overrides, keys, name)
        except DataError as error:
            failed.append(f"as {guess.format} ({guess.why}): {error}")
            continue
        if reading.refused > WRONG_SHARE * reading.total or not reading.records.splits:
            why = reading.nothing_left or reading.refused_sentence()
            failed.append(f"as {guess.format} ({guess.why}): {why}")
            doubtful = doubtful or reading
            continue
        if not lenient:
            require_view(reading.source.checked)
        many = reading.refused > STOP_SHARE * reading.total
        if many and not lenient and "data.on_error" not in keys:
            raise DataError(
                f"{reading.refused_sentence()}; {program('check')} --data {listing.root} "
                "lists all: mend them, or leave them out with --set data.on_error=skip."
            )
        notes = [*guess.notes, *reading.notes, *_other_notes(guess, possible)]
        if failed:
            notes.insert(0, f"not read {'; '.join(failed)}")
        notes.append(truncated_note(listing))
        unused = {name: why for one in reversed(possible) for name, why in one.unused.items()}
        otherwise = f"the folder is read as {guess.format}, without it"
        source = reading.source
        source.label_files = source.sorted_files(listing, unused, otherwise)
        return replace(reading, notes=tuple(filter(None, notes)))
    if doubtful is not None and lenient:
        return replace(doubtful, notes=(*doubtful.notes, f"not usable {'; '.join(failed)}"))
    if not failed or (doubtful is None and way_on(listing)):
        raise DataError(unrecognised(listing))
    lists = f" {program('check')} --data {folder} lists all; --fix DIR mends what it can."
    raise DataError(
        f"{listing.root} cannot be read: {'; '.join(failed)}{lists if doubtful is not None else ''}"
    )


def _of_file(guess: Guess, listing: Listing, file: str) -> list[Guess]:
    """A guess for one file of labels alone; none where it does not read that."""
    if guess.format in TOOLS:
        fits = is_of_tool(listing, file, TOOLS[guess.format])
        return [replace(guess, source={**guess.source, "file": file}, files=(file,))] * fits
    splits = guess.options.get("splits") or {}
    named = [value for one in splits.values() if isinstance(one, dict) for value in one.values()]
    return [guess] if file in (*guess.files, *guess.options.values(), *named) else []


def _read(guess: Guess, overrides: Sequence[str], keys: Mapping[str, Any], name: str) -> Reading:
    source = _guessed_source(guess, overrides, name)
    notes = []
    objects = source.annotations.objects
    empty = [split for split, found in objects.items() if not found and split != "train"]
    if empty and isinstance(guess.options.get("splits"), dict):
        # Published test images often come with lists of no objects.
        splits = {**guess.options["splits"], **dict.fromkeys(empty)}
        guess = replace(guess, options={**guess.options, "splits": splits})
        source = _guessed_source(guess, overrides, name)
        notes.append(f"{' and '.join(empty)}: annotation files without objects are not read.")
    notes += [
        f"{below(guess.path, one.file)}: {one.reason}."
        for one in source.annotations.faults
        if one.kind in _TOLD
    ]
    doubts = [one for one in source.annotations.faults if one.kind == "first_pixel"]
    if doubts and "data.source.voc.first_pixel" not in keys:
        first = 1 - source.config.data.source.voc.first_pixel
        guess = replace(guess, options={**guess.options, "first_pixel": first})
        source = _guessed_source(guess, overrides, name)
        notes.append(f"data.source.voc.first_pixel is {first}, since {doubts[0].reason}.")
    if "data.source.several" not in keys:
        policy = multi_object_policy(*count_multi_object(source.annotations))
        section = source.config.data.source.model_copy(update={"several": policy})
        source = source.with_data(source=section)
    annotations = source.annotations
    train = annotations.objects.get("train")
    trained_on = {one.file for one in train.subjects} if train else set()
    names = sorted(below(source.root, path) for path in trained_on)
    if names and all(split_of(one) in ("val", "test") for one in names):
        notes.append(f"nothing is called train, so {names[0]} is trained on.")
    unread = sum(fault.severity == "error" for fault in annotations.faults)
    total = sum(map(len, annotations.objects.values())) + unread
    source.quick_check()  # Made before the settings are changed, so that both sources have it.
    reader = source.uncut().with_data(on_error="skip")
    if source.checked.source.boxes_on is None:
        # Whoever trains is asked; to tell the format, and what a check prints, either will do.
        view = likelier_view(source.checked)
        section = source.config.data.source.model_copy(update={"boxes_on": view})
        reader = reader.with_data(source=section)
    nothing_left = ""
    try:
        records = reader.records
    except DataError as error:
        errors = [one for one in source.checked.findings if one.severity == "error"]
        if not errors:
            raise
        records, nothing_left = DatasetRecords({}, [], faults=errors), str(error)
    orphans = [one.file for one in source.checked.findings if one.kind == "orphan_image"]
    if orphans:
        shown = ", ".join(below(guess.path, path) for path in orphans[:_SHOWN])
        notes.append(
            f"not used: {counted(len(orphans), 'image')} that no annotation names: {shown}"
            f"{', ...' if orphans[_SHOWN:] else '.'}"
        )
    columns = guess.options.get("columns")
    told = keys.keys() & {"data.source.csv.box", "data.source.csv.columns"}
    if columns and "x2" in columns and not told and may_be_sizes(source.checked.objects):
        sizes = ", ".join({"x2": "w", "y2": "h"}.get(name, name) for name in columns)
        raise DataError(
            "its last two numbers may be corners or sizes: say --set data.source.csv.box=xyxy, or "
            f"--set data.source.csv.box=xywh --set 'data.source.csv.columns=[{sizes}]'"
        )
    return Reading(guess, source, records, total, tuple(notes), nothing_left)


def _guessed_source(guess: Guess, overrides: Sequence[str], name: str) -> DataSource:
    options = {guess.format: guess.options} if guess.options else {}
    section = {"format": guess.format, "path": guess.path, **guess.source, **options}
    tree = {"data": {"source": section, "on_error": "skip"}}
    return DataSource(
        config_from_tree(tree, overrides, origin="the settings that were found", name=name)
    )


def _other_notes(guess: Guess, possible: Sequence[Guess]) -> list[str]:
    """What else the folder could be read as, where that is a matter of choice."""
    if guess.format not in WRITERS:
        return []
    known = [one for one in possible if one.format in WRITERS and not one.question]
    others = {one.format: one for one in known if one.format != guess.format}
    return [
        f"the folder also holds {name} ({other.why}); --set data.source.format={name} reads that "
        f"in place of {guess.format}."
        for name, other in others.items()
    ]


def print_label_files(console: Console, source: DataSource) -> None:
    """Prints what was made of each file that looks like labels."""
    for one in source.label_files:
        print_line(console, f"labels: {one.sentence()}")


class UndecidedViewError(DataError):
    """Only the user can say on which view boxes were drawn."""


def likelier_view(result: CheckResult) -> View:
    """The view in which more boxes of a check can be used, `"stored"` of equal ones."""
    headers = {image: facts.opened for image, facts in result.images.items()}

    def refused(view: View) -> int:
        source = result.source.model_copy(update={"boxes_on": view})
        return len(checked_objects(result.annotations, headers, source).faults)

    return min(VIEWS, key=refused)


def require_view(result: CheckResult, folder: Path = Path()) -> None:
    """Stops where a check could not settle `boxes_on`; shows both readings in a `VIEWS_FILE`.

    Raises:
        UndecidedViewError: With the key to set and the file to look at.
    """
    if result.source.boxes_on is not None:
        return
    from loc_keras.report.image_boxes import save_box_views

    reason = next(one.reason for one in result.findings if one.kind == UNDECIDED)
    samples = view_samples(result.objects, result.annotations, result.source, 2)
    path = (folder / VIEWS_FILE).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_box_views(path, samples)
        shown = f"{path} shows both readings: "
    except OSError as error:
        shown = f"{path}, which would show both readings, cannot be written ({first_line(error)}): "
    raise UndecidedViewError(
        f"{reason}; {shown}set data.source.boxes_on to the one whose boxes lie on the objects, "
        "--set data.source.boxes_on=upright or stored."
    )
