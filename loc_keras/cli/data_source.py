"""The data that a command works on: of a config, or of a folder whose settings are found."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.cli.box_view import likelier_view, require_view
from loc_keras.cli.console import print_line
from loc_keras.config.data import SourceConfig
from loc_keras.config.load import (
    asked_keys,
    commented_yaml,
    config_from_tree,
    flat_settings,
    load_config,
    value_text,
)
from loc_keras.config.schema import Config
from loc_keras.data import archives, files
from loc_keras.data.annotations import (
    Annotations,
    count_by_kind,
    in_units,
    kind_of,
    with_background,
    with_class,
)
from loc_keras.data.box_view import DECIDED
from loc_keras.data.check.boxes import may_be_sizes
from loc_keras.data.check.run import CheckResult, quick_check
from loc_keras.data.dataset import LocalizationData, build_file_data, image_format, store_of
from loc_keras.data.detect.formats import guesses, list_data_folder, truncated_note, unrecognised
from loc_keras.data.detect.label_files import LabelFiles, label_files
from loc_keras.data.formats.listing import Guess, Listing, list_folder, split_of
from loc_keras.data.formats.parsing import below, read_class_names
from loc_keras.data.formats.registry import FORMATS, WRITERS, read_annotations
from loc_keras.data.formats.tool_table import way_on
from loc_keras.data.load_records import Looks, load_records
from loc_keras.data.pixel_store import Keep, PixelStore
from loc_keras.data.records import all_grey, count_multi_object, measure
from loc_keras.data.resolve import DatasetRecords
from loc_keras.errors import ConfigError, DataError
from loc_keras.models.weights import names_a_run
from loc_keras.recipe.rules import BUDGET_MINUTES, Choice, Facts, choose, multi_object_policy
from loc_keras.training.precision import cpu_has_avx512, cpu_has_bfloat16, device_summary
from loc_keras.training.run_folder import CONFIG_FILE

WRONG_SHARE = 0.5
"""Share of unusable objects from which on a folder counts as being of another format."""

STOP_SHARE = 0.1
"""Share of unusable objects from which on training stops instead of leaving them out."""

_SHOWN = 3
_WEIGHTS = "model.backbone.weights"
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
        with files.noted_reads() as self._opened:
            annotations = read_annotations(source.format, self.root, **options)
        annotations = in_units(annotations, source.box_units)
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
        """Makes the quick check, unless it was made, and keeps its result.

        Args:
            progress: Called with the number of images that were finished since the last call.
        """
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

    def _store(self, found: DatasetRecords, keep: Keep | None = None) -> PixelStore:
        """The store of the training records."""
        data = self.config.data
        return store_of(found.splits["train"], image_format(found, data), data, keep)

    def uncut(self) -> "DataSource":
        """The source with nothing cut off for splits that the data set lacks."""
        split = self.config.data.split
        return self.with_data(
            split=split.model_copy(update={"val": 0.0, "test": 0.0, "calibration": 0.0})
        )

    def build(self, records: DatasetRecords | None = None) -> LocalizationData:
        """Builds the pipelines.

        Args:
            records: Some other than `records`, such as a part of them; None takes those.

        Raises:
            DataError: If the data are wrong.
        """
        config, data = self.config, self.config.data
        batch_size, seed = config.train.batch_size, config.train.seed
        if data.source.format != "digits":
            stores: list[PixelStore] = []  # Near duplicates are told by the pixels that are kept.

            def looks(found: DatasetRecords) -> npt.NDArray[np.uint8]:
                stores.append(self._store(found))
                return stores[0].looks

            found = records or self._records(looks)
            return build_file_data(
                found,
                data,
                config.augment,
                batch_size=batch_size,
                seed=seed,
                uncut=next(iter(stores), None),
            )
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
        return archives.unpacked(path, self.config.data.cache_dir)


def _warnings_note(checked: CheckResult) -> list[str]:
    counts = count_by_kind([one for one in checked.findings if one.severity == "warning"])
    if not counts:
        return []
    kinds = ", ".join(f"{kind_of(name).title} ({count})" for name, count in counts.items())
    return [
        f"the quick check warns of {sum(counts.values())}: {kinds}; python -m loc_keras.check "
        "lists them."
    ]


@dataclass(frozen=True, eq=False)
class Reading:
    """A folder as one reader understands it.

    Attributes:
        guess: Format and settings that it was read with.
        source: The data, with the settings that were asked for.
        records: What can be used, nothing cut off for validation or test.
        total: Number of all objects.
        notes: Sentences that the user should know.
        nothing_left: Why `records` has no split: then nothing can be trained on.
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
    """Detects the format of a folder and reads its annotations.

    Args:
        folder: The data folder, or the one file of labels that counts, near its images.
        overrides: `section.key=value` each; `data.source.format` tries that format alone.
        name: Name of the config.
        lenient: Whether data of which much cannot be used are read as well, to be checked.

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
    place = archives.unpacked(folder, asked.data.cache_dir)
    listing = list_data_folder(place)
    found = list(guesses(listing))
    if listing.root != place:
        file = below(listing.root, place)
        found = [guess for guess in found if _reads(guess, file)] or found
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
                f"{reading.refused_sentence()}; python -m loc_keras.check --data {listing.root} "
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
    lists = f" python -m loc_keras.check --data {folder} lists all; --fix DIR mends what it can."
    raise DataError(
        f"{listing.root} cannot be read: {'; '.join(failed)}{lists if doubtful is not None else ''}"
    )


def _reads(guess: Guess, file: str) -> bool:
    """Whether a guess reads a file, as far as it says so."""
    splits = guess.options.get("splits") or {}
    named = [value for one in splits.values() if isinstance(one, dict) for value in one.values()]
    return file in (*guess.files, *guess.options.values(), *named)


def _read(guess: Guess, overrides: Sequence[str], keys: Mapping[str, Any], name: str) -> Reading:
    source = _guessed_source(guess, overrides, name)
    notes = []
    empty = [
        split
        for split, objects in source.annotations.objects.items()
        if not objects and split != "train"
    ]
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
    trained_on = {one.file for one in annotations.objects.get("train", [])}
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
            f"{len(orphans):,} images that no annotation names are not used: {shown}"
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
    tree = {"data": {"source": _source_tree(guess), "on_error": "skip"}}
    return DataSource(
        config_from_tree(tree, overrides, origin="the settings that were found", name=name)
    )


def _source_tree(guess: Guess) -> dict[str, Any]:
    """The section `data.source` of a guess."""
    options = {guess.format: guess.options} if guess.options else {}
    return {"format": guess.format, "path": guess.path, **guess.source, **options}


def _other_notes(guess: Guess, possible: Sequence[Guess]) -> list[str]:
    """What else the folder could be read as, where that is a matter of choice."""
    if guess.format not in WRITERS:
        return []
    others = {
        other.format: other for other in possible if other.format in WRITERS and not other.question
    }
    others.pop(guess.format, None)
    return [
        f"the folder also holds {name} ({other.why}); --set data.source.format={name} reads that "
        f"in place of {guess.format}."
        for name, other in others.items()
    ]


@dataclass(frozen=True, eq=False)
class FolderPlan:
    """What a folder is trained with.

    Attributes:
        source: The data, with all settings.
        choices: Settings that were chosen or asked for, as they stand in the config, and why.
        notes: Sentences that the user should know.
    """

    source: DataSource
    choices: list[Choice]
    notes: list[str]


def plan_folder(
    folder: str,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    minutes: float = BUDGET_MINUTES,
    weights: str | None = None,
    lenient: bool = False,
) -> FolderPlan:
    """Reads a folder and chooses how it is trained on.

    Args:
        folder: The data folder, as the user wrote it.
        overrides: `section.key=value` each; they go before what would be chosen.
        name: Name of runs and exports; None makes one of the folder's.
        minutes: Time that training may take, about.
        weights: Pretrained weights to start from.
        lenient: As in `read_folder`.

    Raises:
        DataError: If the folder cannot be read.
        ConfigError: If an override is wrong.
    """
    folder = os.path.expanduser(folder)
    name = name or safe_name(os.path.dirname(folder) if files.is_file(folder) else folder)
    if weights is not None:
        overrides = [f"{_WEIGHTS}={weights}", *overrides]
    reading = read_folder(folder, overrides, name=name, lenient=lenient)
    flat = flat_settings(reading.source.config.model_dump())
    asked = {key: flat[key] for key in asked_keys(overrides)}
    chosen: list[Choice] = []
    notes: list[str] = []
    if reading.records.splits:
        facts = _facts(reading, asked.get(_WEIGHTS))
        chosen, notes = choose(facts, minutes=minutes, asked=asked)
    choices = [*_source_choices(reading.guess), *chosen, _on_error(reading)]
    tree = _tree_of(choices)
    config = config_from_tree(tree, overrides, origin=f"--data {folder}", name=name)
    return FolderPlan(
        reading.source.with_config(config),
        _in_force(config, choices, asked),
        [*reading.notes, *notes],
    )


def safe_name(folder: str) -> str:
    """A name for runs, made of a folder's own name."""
    last = os.path.basename(os.path.abspath(folder).rstrip("/"))
    return re.sub(r"[^\w.-]+", "_", last).strip("._") or "folder"


def print_plan(console: Console, plan: FolderPlan) -> None:
    """Prints what was chosen as a table, and the notes; what was left at null is not shown."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("choice", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("why", overflow="fold")
    before = ""
    for key, value, why in plan.choices:
        if value is not None:
            table.add_row(Text(key), Text(shown_value(value)), Text("" if why == before else why))
            before = why
    console.print(table)
    print_label_files(console, plan.source)
    for note in plan.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def print_label_files(console: Console, source: DataSource) -> None:
    """Prints what was made of each file that looks like labels."""
    for one in source.label_files:
        print_line(console, f"labels: {one.sentence()}")


def shown_value(value: Any) -> str:
    """A setting as one line of YAML; a square's two sides as one."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return value_text(value)


def plan_text(plan: FolderPlan) -> str:
    """The chosen settings as a config file, each with its reason; loading it gives all of them."""
    tree = {"name": plan.source.config.name, **_tree_of(plan.choices)}
    return commented_yaml(tree, {choice.key: choice.why for choice in plan.choices})


def _facts(reading: Reading, weights: str | None) -> Facts:
    splits, class_names = reading.records.splits, reading.records.class_names
    train = splits["train"]
    figures = measure(train)
    several, annotated = count_multi_object(reading.source.annotations)
    device = device_summary()
    counts = np.bincount(train.labels, minlength=len(class_names)).tolist()
    return Facts(
        images=len(train),
        classes=dict(zip(class_names, counts, strict=True)),
        side=figures.side,
        spread=figures.spread,
        small_side=figures.small_side,
        grey=all_grey([image.header for image in reading.source.checked.images.values()]),
        given={split: len(records) for split, records in splits.items() if split != "train"},
        several=several,
        annotated=annotated,
        policy=reading.source.config.data.source.several,
        cores=device["cpu_cores"],
        gpus=tuple(device["gpus"]),
        bfloat16=cpu_has_bfloat16(),
        avx512=cpu_has_avx512(),
        weights=weights,
        body=_body_of(weights),
    )


def _body_of(weights: str | None) -> dict[str, Any]:
    """Name, width and stem of the body of an earlier run; empty for weights of another kind."""
    path = Path(weights or "none").expanduser()
    file = (path if path.is_dir() else path.parent) / CONFIG_FILE
    if not names_a_run(str(path)) or not file.is_file():
        return {}
    backbone = load_config(file).model.backbone
    return {"name": backbone.name, "width": backbone.width, "stem": backbone.stem}


def _source_choices(guess: Guess) -> list[Choice]:
    """Format, path, and one choice for each key of the format's own section."""
    choices = [
        Choice("data.source.format", guess.format, guess.why),
        Choice("data.source.path", guess.path, "--data"),
    ]
    choices += [
        Choice(f"data.source.{key}", value, "as found") for key, value in guess.source.items()
    ]
    for key, value in guess.options.items():
        parts = value if key == "splits" else {"": value}
        for part, setting in parts.items():
            name = f"data.source.{guess.format}.{key}" + (f".{part}" if part else "")
            why = "as found" if setting is not None else "none found"
            choices.append(Choice(name, setting, why))
    return choices


def _on_error(reading: Reading) -> Choice:
    why = "all objects can be used"
    if reading.refused:
        why = f"{reading.refused:,} of {reading.total:,} objects cannot be used and are left out"
    return Choice("data.on_error", "skip", why)


def _in_force(config: Config, choices: Sequence[Choice], asked: dict[str, Any]) -> list[Choice]:
    """The choices as the config has them, with what was asked for beside them."""
    tree = config.model_dump()
    in_force = []
    for choice in choices:
        value = _value_at(tree, choice.key)
        if isinstance(value, dict):
            value = {key: item for key, item in value.items() if item is not None}
        why = "asked for" if choice.key in asked else choice.why
        in_force.append(Choice(choice.key, value, why))
    listed = {choice.key for choice in choices}
    return in_force + [
        Choice(key, _value_at(tree, key), "asked for") for key in asked if key not in listed
    ]


def _value_at(tree: dict[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def _tree_of(choices: Sequence[Choice]) -> dict[str, Any]:
    """The choices as nested settings."""
    tree: dict[str, Any] = {}
    for choice in choices:
        *sections, key = choice.key.split(".")
        section = tree
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = choice.value
    return tree
