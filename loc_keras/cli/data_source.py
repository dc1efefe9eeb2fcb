"""From a folder without a config to a config: what is found, what is chosen, and why."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.atomic_file import write_text
from loc_keras.cli.build import annotations_from, checked_from, records_from
from loc_keras.cli.console import add_set
from loc_keras.config.load import (
    asked_keys,
    commented_yaml,
    config_from_tree,
    flat_settings,
    load_config,
    value_text,
)
from loc_keras.config.schema import Config
from loc_keras.data.annotations import Annotations
from loc_keras.data.check.run import CheckResult
from loc_keras.data.detect.formats import bounded_note, guesses, look_through, nothing_found
from loc_keras.data.detect.listing import Guess, Listing
from loc_keras.data.faults import kind_of
from loc_keras.data.records import all_grey, count_several, measure
from loc_keras.data.resolve import DatasetRecords
from loc_keras.errors import ConfigError, DataError
from loc_keras.models.weights import names_a_run
from loc_keras.recipe import numbers
from loc_keras.recipe.numbers import BUDGET_MINUTES
from loc_keras.recipe.rules import Choice, Facts, choose, several_policy
from loc_keras.training.precision import cpu_has_avx512, cpu_has_bfloat16, device_summary

WRONG_SHARE = 0.5
"""Share of objects that cannot be used from which on a reading counts as the wrong one."""

STOP_SHARE = 0.1
"""Share of objects that cannot be used from which on training stops instead of leaving them out."""

_COMMON = ("coco", "yolo", "voc", "csv", "tfrecord")


@dataclass(frozen=True, eq=False)
class Reading:
    """A folder as one reader understands it.

    Attributes:
        guess: The reading.
        config: A config with its settings and those that were asked for.
        annotations: What was read.
        checked: What the quick check found.
        records: What can be used, nothing cut off for validation or test.
        refused: Objects that cannot be used.
        total: All objects.
        notes: Sentences that the user should know.
    """

    guess: Guess
    config: Config
    annotations: Annotations
    checked: CheckResult
    records: DatasetRecords
    refused: int
    total: int
    notes: tuple[str, ...] = ()


def read_folder(
    folder: str, overrides: Sequence[str], *, name: str, lenient: bool = False
) -> Reading:
    """Tells the format of a folder and reads its annotations.

    Args:
        folder: The data folder.
        overrides: `section.key=value` each; `data.source.format` tries that format alone.
        name: Name of the config.
        lenient: Whether to give a reading, too, of which much cannot be used, to be checked.

    Raises:
        DataError: If no reading fits, or too much of it cannot be used.
        ConfigError: If an override is wrong.
    """
    # Mistakes in overrides are told before anything is looked for.
    tree = {"data": {"source": {"format": "csv", "path": folder}}}
    asked = config_from_tree(tree, overrides, origin=f"--data {folder}", name=name)
    keys = asked_keys(overrides)
    if "data.source.path" in keys:
        raise ConfigError("--set data.source.path goes with --config; --data names the folder.")
    listing = look_through(folder)
    wanted = asked.data.source.format if "data.source.format" in keys else None
    possible = [one for one in guesses(listing) if wanted in (None, one.format)]
    if wanted and not possible:
        possible = [Guess(wanted, folder, why="asked for")]
    return _first_fitting(listing, possible, overrides, keys, name, lenient)


def _first_fitting(
    listing: Listing,
    possible: Sequence[Guess],
    overrides: Sequence[str],
    keys: Sequence[str],
    name: str,
    lenient: bool,
) -> Reading:
    failed: list[str] = []
    doubtful: Reading | None = None
    for guess in possible:
        try:
            reading = _read(guess, overrides, keys, name)
        except DataError as error:
            failed.append(f"as {guess.format} ({guess.why}): {error}")
            continue
        if reading.refused > WRONG_SHARE * reading.total:
            failed.append(f"as {guess.format} ({guess.why}): {_refused_sentence(reading)}")
            doubtful = doubtful or reading
            continue
        if not lenient and "data.on_error" not in keys:
            _stop_at_many(reading, listing.root)
        notes = [*guess.notes, *reading.notes, *_other_notes(guess, possible)]
        if failed:
            notes.insert(0, f"not read {'; '.join(failed)}")
        notes.append(bounded_note(listing))
        return replace(reading, notes=tuple(filter(None, notes)))
    if doubtful is not None and lenient:
        return doubtful
    if not failed:
        raise DataError(nothing_found(listing))
    raise DataError(f"{listing.root} cannot be read: {'; '.join(failed)}")


def source_tree(guess: Guess) -> dict[str, Any]:
    """The section `data.source` of a reading."""
    options = {guess.format: guess.options} if guess.options else {}
    return {"format": guess.format, "path": guess.path, **guess.source, **options}


def _read(guess: Guess, overrides: Sequence[str], keys: Sequence[str], name: str) -> Reading:
    source = source_tree(guess)
    config = _config(source, overrides, name)
    annotations = annotations_from(config)
    empty = [
        split for split, found in annotations.objects.items() if not found and split != "train"
    ]
    notes = []
    if empty and isinstance(guess.options.get("splits"), dict):
        # Published test images often come with lists of no objects.
        splits = {**guess.options["splits"], **dict.fromkeys(empty)}
        guess = replace(guess, options={**guess.options, "splits": splits})
        source = source_tree(guess)
        config = _config(source, overrides, name)
        annotations = annotations_from(config)
        notes.append(f"{' and '.join(empty)}: annotation files without objects are not read.")
    if "data.source.several" not in keys:
        policy = several_policy(*count_several(annotations))
        config = _config({**source, "several": policy}, overrides, name)
    checked = checked_from(config, annotations)
    whole = config.data.model_copy(
        update={
            "on_error": "skip",
            "split": config.data.split.model_copy(
                update={"val": 0.0, "test": 0.0, "calibration": 0.0}
            ),
        }
    )
    records = records_from(config.model_copy(update={"data": whole}), annotations, checked)
    unread = sum(kind_of(fault.kind).severity == "error" for fault in annotations.faults)
    total = sum(map(len, annotations.objects.values())) + unread
    return Reading(
        guess, config, annotations, checked, records, len(records.errors), total, tuple(notes)
    )


def _config(source: dict[str, Any], overrides: Sequence[str], name: str) -> Config:
    tree = {"data": {"source": source, "on_error": "skip"}}
    return config_from_tree(tree, overrides, origin="the settings that were found", name=name)


def _stop_at_many(reading: Reading, folder: str) -> None:
    if reading.refused > STOP_SHARE * reading.total:
        raise DataError(
            f"{_refused_sentence(reading)}; python -m loc_keras.check --data {folder} lists all: "
            "mend them, or leave them out with --set data.on_error=skip."
        )


def _refused_sentence(reading: Reading) -> str:
    first = reading.records.errors[0]
    place = f"{first.file} row {first.row}" if first.row else first.file
    return (
        f"{reading.refused:,} of {reading.total:,} objects cannot be used, the first: {place} "
        f"{first.reason}"
    )


def _other_notes(guess: Guess, possible: Sequence[Guess]) -> list[str]:
    """What else the folder could be read as, where that is a matter of choice."""
    if guess.format not in _COMMON:
        return []
    others = {one.format: one for one in possible if one.format in _COMMON}
    others.pop(guess.format, None)
    return [
        f"the folder also holds {name} ({one.why}); --set data.source.format={name} reads that "
        f"in place of {guess.format}."
        for name, one in others.items()
    ]


_PAIR = 2
CONFIG_FILE = "config.yaml"
WEIGHTS = "model.backbone.weights"


@dataclass(frozen=True, eq=False)
class FolderPlan:
    """What a folder is trained with.

    Attributes:
        config: All settings.
        choices: Those that were chosen or asked for, as they stand in `config`, and why.
        notes: Sentences that the user should know.
        reading: What was read, so that it is not read again.
    """

    config: Config
    choices: list[Choice]
    notes: list[str]
    reading: Reading


def plan_folder(
    folder: str,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    minutes: float = numbers.BUDGET_MINUTES,
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
    name = name or safe_name(folder)
    if weights is not None:
        overrides = [f"model.backbone.weights={weights}", *overrides]
    reading = read_folder(folder, overrides, name=name, lenient=lenient)
    flat = flat_settings(reading.config.model_dump())
    asked = {key: flat[key] for key in asked_keys(overrides)}
    chosen, notes = choose(_facts(reading, asked.get(WEIGHTS)), minutes=minutes, asked=asked)
    choices = [*_source_choices(reading), *chosen, _on_error(reading)]
    tree: dict[str, Any] = {}
    for choice in choices:
        _put(tree, choice.key.split("."), choice.value)
    config = config_from_tree(tree, overrides, origin=f"--data {folder}", name=name)
    return FolderPlan(config, _in_force(config, choices, asked), [*reading.notes, *notes], reading)


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
    for note in plan.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def shown_value(value: Any) -> str:
    """A setting as one line of YAML; a square's two sides as one."""
    if isinstance(value, tuple) and len(value) == _PAIR and value[0] == value[1]:
        value = value[0]
    return value_text(value)


def plan_text(plan: FolderPlan) -> str:
    """The chosen settings as a config file, each with its reason; loading it gives all of them."""
    tree: dict[str, Any] = {"name": plan.config.name}
    for choice in plan.choices:
        _put(tree, choice.key.split("."), choice.value)
    reasons = {choice.key: choice.why for choice in plan.choices}
    return commented_yaml(tree, reasons)


def _facts(reading: Reading, weights: str | None) -> Facts:
    splits = reading.records.splits
    train = splits["train"]
    figures = measure(train)
    several, annotated = count_several(reading.annotations)
    device = device_summary()
    counts = dict.fromkeys(range(len(reading.records.class_names)), 0)
    for label in train.labels.tolist():
        counts[label] += 1
    return Facts(
        images=len(train),
        classes={reading.records.class_names[label]: count for label, count in counts.items()},
        side=figures.side,
        spread=figures.spread,
        object_side=figures.object_side,
        small_side=figures.small_side,
        grey=all_grey([image.header for image in reading.checked.images.values()]),
        given={split: len(records) for split, records in splits.items() if split != "train"},
        several=several,
        annotated=annotated,
        policy=reading.config.data.source.several,
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


def _source_choices(reading: Reading) -> list[Choice]:
    """Format, path, and one choice for each key of the format's own section."""
    tree = source_tree(reading.guess)
    found = [
        Choice("data.source.format", tree["format"], reading.guess.why),
        Choice("data.source.path", tree["path"], "--data"),
    ]
    found += [
        Choice(f"data.source.{key}", value, "as found")
        for key, value in reading.guess.source.items()
    ]
    for key, value in reading.guess.options.items():
        parts = value if key == "splits" else {"": value}
        for part, setting in parts.items():
            name = f"data.source.{reading.guess.format}.{key}" + (f".{part}" if part else "")
            found.append(Choice(name, setting, "as found" if setting is not None else "none found"))
    return found


def _on_error(reading: Reading) -> Choice:
    words = "all objects can be used"
    if reading.refused:
        words = f"{reading.refused:,} of {reading.total:,} objects cannot be used and are left out"
    return Choice("data.on_error", "skip", words)


def _in_force(config: Config, choices: Sequence[Choice], asked: dict[str, Any]) -> list[Choice]:
    """The choices as the config has them, with what was asked for beside them."""
    tree = config.model_dump()
    found = []
    for choice in choices:
        value = _value_at(tree, choice.key)
        if isinstance(value, dict):
            value = {key: one for key, one in value.items() if one is not None}
        why = "asked for" if choice.key in asked else choice.why
        found.append(Choice(choice.key, value, why))
    listed = {choice.key for choice in choices}
    return found + [
        Choice(key, _value_at(tree, key), "asked for") for key in asked if key not in listed
    ]


def _value_at(tree: dict[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def _put(tree: dict[str, Any], key: Sequence[str], value: Any) -> None:
    for part in key[:-1]:
        tree = tree.setdefault(part, {})
    tree[key[-1]] = value


STDOUT = Path("-")


@dataclass(frozen=True, eq=False)
class Given:
    """What the arguments came to.

    Attributes:
        config: All settings.
        annotations: What was read of a folder; None for a config.
        records: What can be used of it, likewise; None, too, where it is not to be trained on.
    """

    config: Config
    annotations: Annotations | None = None
    records: DatasetRecords | None = None


def add_data_arguments(parser: argparse.ArgumentParser, *, resume: bool = False) -> None:
    """Adds `--config`, `--data` and `--set`, and perhaps `--resume` beside the first two."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--config", type=Path, help="config file (YAML)")
    group.add_argument(
        "--data", metavar="FOLDER", help="folder of images and labels; its settings are found"
    )
    if resume:
        group.add_argument(
            "--resume", type=Path, metavar="RUN_DIR", help="go on with an unfinished run"
        )
    add_set(parser)


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what goes with `--data` when it is trained on."""
    parser.add_argument("--name", help="with --data: name of runs; else the folder's")
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"with --data: time that training may take, about; {BUDGET_MINUTES} if not given",
    )
    parser.add_argument("--weights", metavar="NAME", help="with --data: pretrained weights")
    parser.add_argument(
        "--write-config",
        type=Path,
        metavar="FILE",
        help="with --data: write what was chosen as a config, - for the screen, and stop",
    )


def refuse_plan_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where an argument of `--data` stands beside `--config`, or is wrong."""
    for name in ("name", "minutes", "weights", "write_config"):
        if args.data is None and getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} goes with --data")
    if args.minutes is not None and not args.minutes > 0:
        parser.error("--minutes needs a number above 0")


def read_given(args: argparse.Namespace, console: Console) -> Given | None:
    """Loads the config, or makes one for the folder and prints it; None where that was all."""
    if args.config is not None:
        return Given(load_config(args.config, args.set))
    plan = plan_folder(
        args.data,
        args.set,
        name=args.name,
        minutes=BUDGET_MINUTES if args.minutes is None else args.minutes,
        weights=args.weights,
    )
    to_screen = args.write_config == STDOUT
    print_plan(Console(markup=False, stderr=True) if to_screen else console, plan)
    if args.write_config is not None:
        text = plan_text(plan)
        if to_screen:
            sys.stdout.write(text)
        else:
            write_text(args.write_config, text)
            words = f"train on it: python -m loc_keras.train --config {args.write_config}"
            console.print(words, soft_wrap=True)
        return None
    reading = plan.reading
    records = records_from(plan.config, reading.annotations, reading.checked)
    return Given(plan.config, reading.annotations, records)


def read_to_check(args: argparse.Namespace, console: Console) -> Given:
    """As `read_given`, also for a folder of which much cannot be used."""
    if args.config is not None:
        return Given(load_config(args.config, args.set))
    plan = plan_folder(args.data, args.set, lenient=True)
    print_plan(console, plan)
    return Given(plan.config, plan.reading.annotations)
