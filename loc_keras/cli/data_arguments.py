"""The data that a command's arguments name, and what is chosen for training on them."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.atomic_file import LATEST, followed, own_files, write_text
from loc_keras.cli.console import print_line, print_note
from loc_keras.cli.data_source import DataSource, Reading, print_label_files, read_folder
from loc_keras.cli.options import program
from loc_keras.config.load import (
    asked_keys,
    commented_yaml,
    config_from_tree,
    flat_settings,
    load_config,
    value_text,
)
from loc_keras.config.schema import Config
from loc_keras.data import files
from loc_keras.data.formats.listing import Guess
from loc_keras.data.resolve import count_multi_object, measure
from loc_keras.errors import ConfigError, ModelError
from loc_keras.recipe.rules import (
    AUTO_BODIES,
    BUDGET_MINUTES,
    LARGE_SET,
    SHARED_BODY,
    Choice,
    Facts,
    choose,
)
from loc_keras.training.precision import cpu_has_avx512, cpu_has_bfloat16, device_summary
from loc_keras.training.run_folder import CONFIG_FILE

_WEIGHTS = "model.backbone.weights"
_EPOCHS, _STEPS = "train.epochs", "train.steps_per_epoch"
AUTO = "auto"  # Weights that are looked for, where neither weights nor a body are asked for.


@dataclass(frozen=True, eq=False)
class FolderPlan:
    """What a folder is trained with: data with all settings, those that were chosen, and notes.

    `with_length` gives the config of a training of other epochs and, unless None, steps of each,
    and all that depends on it; None where the epochs were asked for.
    """

    source: DataSource
    choices: list[Choice]
    notes: list[str]
    with_length: Callable[[int, int | None], Config] | None = None


def plan_to_train(args: argparse.Namespace, console: Console) -> FolderPlan | None:
    """What `--config` says, or what was chosen for `--data`, which is printed.

    None where the choices were written to a file and that was all.
    """
    if args.config is not None:
        config, shrunk = load_shrunk(args.config, args.set)
        print_note(console, shrunk)
        return FolderPlan(DataSource(config), [], [])
    minutes = BUDGET_MINUTES if args.minutes is None else args.minutes
    weights = args.weights or AUTO
    plan = plan_folder(args.data, args.set, name=args.name, minutes=minutes, weights=weights)
    to_screen = args.write_config == Path("-")
    shown_on = Console(markup=False, stderr=True) if to_screen else console
    print_plan(shown_on, plan, explain=args.explain)
    if args.write_config is None:
        return plan
    text = plan_text(plan)
    if to_screen:
        sys.stdout.write(text)
    else:
        file: Path = args.write_config
        with own_files(file.parent, (file.name,), "give another file to --write-config"):
            write_text(file, text)
        console.print(
            f"train on it: {program('train')} --config {args.write_config}", soft_wrap=True
        )
    return None


def load_shrunk(path: Path, overrides: Sequence[str]) -> tuple[Config, str | None]:
    """Reads a config of which fewer epochs are asked for than a part of its training would take.

    Such a part keeps its share of the epochs, unless it is asked for as well.

    Returns:
        The config, and a note of what was shrunk; None where nothing was.

    Raises:
        ConfigError: If anything in the config or in an override is wrong.
    """
    try:
        asked = asked_keys(overrides)
    except ConfigError:
        asked = {}  # Reading the config tells of it.
    epochs = asked.get("train.epochs")
    if not isinstance(epochs, int) or epochs < 1:
        return load_config(path, overrides), None
    others = [text for text in overrides if text.partition("=")[0].strip() != "train.epochs"]
    train = load_config(path, others).train
    parts = {
        "train.warmup_epochs": train.warmup_epochs,
        "train.fine_tune.freeze_epochs": train.fine_tune.freeze_epochs,
    }
    smaller = {
        key: type(value)(round(value * epochs / train.epochs, 2))
        for key, value in parts.items()
        if key not in asked and value > epochs
    }
    config = load_config(path, [*overrides, *(f"{key}={new}" for key, new in smaller.items())])
    told = ", ".join(f"{key} is {new} instead of {parts[key]:g}" for key, new in smaller.items())
    return config, f"{told}, for {epochs} of {train.epochs} epochs." if told else None


def source_to_check(args: argparse.Namespace, console: Console) -> DataSource:
    """The data, as by `plan_to_train`, also for a folder of which much cannot be used."""
    if args.config is not None:
        return DataSource(load_config(args.config, args.set))
    plan = plan_folder(args.data, args.set, lenient=True)
    print_plan(console, plan)
    return plan.source


def source_to_convert(args: argparse.Namespace, console: Console) -> DataSource:
    """The data of `--config`, or of `--data`, of which it is printed how they are read.

    Objects of a folder that cannot be used are left out, unless something else is asked for.
    """
    if args.config is not None:
        return DataSource(load_config(args.config, args.set))
    folder = os.path.expanduser(args.data)
    overrides = ["data.on_error=skip", *args.set]
    reading = read_folder(folder, overrides, name=name_of(folder))
    print_line(console, f"read as {reading.guess.format}: {reading.guess.why}")
    print_label_files(console, reading.source)
    for note in reading.notes:
        print_note(console, note)
    return reading.source


def plan_folder(
    folder: str,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    minutes: float = BUDGET_MINUTES,
    weights: str | None = None,
    lenient: bool = False,
) -> FolderPlan:
    """Reads a folder, as the user wrote it, and chooses how it is trained on in about `minutes`.

    `overrides`, `section.key=value` each, go before what would be chosen. Without a name of runs
    and exports one is made of the folder's; `lenient` is as in `read_folder`, for a look at the
    data alone, without notes on training.

    Raises:
        DataError: If the folder cannot be read.
        ConfigError: If an override is wrong.
    """
    folder = os.path.expanduser(folder)
    name = name or name_of(folder)
    if weights not in (None, AUTO):
        if os.path.basename(weights) == LATEST:  # The config is to name that very run.
            weights = str(followed(weights))
        overrides = [f"{_WEIGHTS}={weights}", *overrides]
    reading = read_folder(folder, overrides, name=name, lenient=lenient)
    flat = flat_settings(reading.source.config.model_dump())
    asked = {key: flat[key] for key in asked_keys(overrides)}
    facts = _facts(reading, asked.get(_WEIGHTS)) if reading.records.splits else None
    start: list[str] = []
    if weights == AUTO and facts and not any(key.startswith("model.backbone.") for key in asked):
        facts, start = _with_weights(facts)

    def chosen(more: Mapping[str, Any]) -> tuple[Config, list[Choice], list[str]]:
        asked_now = {**asked, **more}
        found, notes = (
            choose(facts, minutes=minutes, asked=asked_now, to_train=not lenient)
            if facts
            else ([], [])
        )
        choices = [*_source_choices(reading.guess), *found, _on_error(reading)]
        tree = _tree_of(choices)
        config = config_from_tree(tree, overrides, origin=f"--data {folder}", name=name)
        return config, choices, notes

    def with_length(epochs: int, steps: int | None) -> Config:
        own = {} if steps is None or _STEPS in asked else {_STEPS: steps}
        return chosen({_EPOCHS: epochs, **own})[0]

    config, choices, notes = chosen({})
    return FolderPlan(
        reading.source.with_config(config),
        _in_force(config, choices, asked),
        [*reading.notes, *start, *notes],
        None if _EPOCHS in asked or facts is None else with_length,
    )


def _with_weights(facts: Facts) -> tuple[Facts, list[str]]:
    """The facts with weights of ImageNet, where some suit and can be had; a note where not."""
    source = AUTO_BODIES.get(facts.device)
    if facts.images >= LARGE_SET or source is None:
        return facts, []
    from loc_keras.models.weights import weights_at_hand

    try:
        weights, body = weights_at_hand(*source)
    except ModelError as error:
        return facts, [f"it begins from random weights, since none are at hand: {error}"]
    shape = {key: SHARED_BODY[key] for key in ("width", "stem") if "/" not in body}
    return replace(facts, weights=weights, body={"name": body, **shape}), []


def name_of(folder: str) -> str:
    """A name for runs on the data of a folder, or of a file in it."""
    return safe_name(os.path.dirname(folder) if files.is_file(folder) else folder)


def safe_name(folder: str) -> str:
    """A name for runs, made of a folder's own name."""
    last = os.path.basename(os.path.abspath(folder).rstrip("/"))
    return re.sub(r"[^\w.-]+", "_", last).strip("._") or "folder"


def print_plan(console: Console, plan: FolderPlan, *, explain: bool = False) -> None:
    """Prints what was chosen, and the notes; what was left at null is not shown.

    The choices are a line for each part of `PARTS`, cut to the console's width, or, with `explain`,
    a row for each with its reason.
    """
    if explain:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("choice", no_wrap=True)
        table.add_column("value", overflow="fold")
        table.add_column("why", overflow="fold")
        before = ""
        for key, value, why in plan.choices:
            if value is not None:
                cells = key, shown_value(value), "" if why == before else why
                table.add_row(*map(Text, cells))
                before = why
        console.print(table)
    else:
        for part, words in chosen_parts(plan.choices).items():
            console.print(f"{part:10}{words}", highlight=False, no_wrap=True, overflow="ellipsis")
        console.print("          all of them, with reasons: --explain", highlight=False)
    print_label_files(console, plan.source)
    for note in plan.notes:
        print_note(console, note)


PARTS = {
    "data": ("data.source.format", "data.source.path", "data.source.several", "data.source"),
    "held back": ("data.split",),
    "input": ("data.image_size", "data.resize", "data.channels", "data"),
    "model": ("model.backbone.name", "model.backbone.width", "model.backbone.weights", "model"),
    "augment": ("augment",),
    "loss": ("loss",),
    "measured": ("train.folds", "trust.folds", "trust.fold_length"),
    "training": ("train.epochs", "train.batch_size", "train.learning_rate", "train"),
    "trust": ("trust",),
}
"""Lines of the choices: keys in their order, a section for all its other keys."""


def chosen_parts(choices: Sequence[Choice]) -> dict[str, str]:
    """The choices in a line for each part: the last word of each key and its value.

    What was switched off is named without its value.
    """
    left = {choice.key: choice.value for choice in choices if choice.value is not None}
    parts: dict[str, list[str]] = {}
    for part, wanted in PARTS.items():
        for start in wanted:
            for key in [key for key in left if key == start or key.startswith(f"{start}.")]:
                value, name = left.pop(key), key.rpartition(".")[2]
                words = f"{'' if value else 'no '}{name}" if isinstance(value, bool) else ""
                parts.setdefault(part, []).append(words or f"{name} {shown_value(value)}")
    other = [f"{key} {shown_value(value)}" for key, value in left.items()]
    found = parts | ({"other": other} if other else {})
    return {part: ", ".join(words) for part, words in found.items()}


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
    headers = [one.header for one in reading.source.checked.images.values() if one.header]
    several, annotated = count_multi_object(reading.source.annotations)
    device = device_summary()
    counts = np.bincount(train.labels, minlength=len(class_names)).tolist()
    return Facts(
        images=len(train),
        classes=dict(zip(class_names, counts, strict=True)),
        side=figures.side,
        spread=figures.spread,
        small_side=figures.small_side,
        grey=bool(headers) and all(header.grey for header in headers),
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
        of_run=bool(_body_of(weights)),
    )


def _body_of(weights: str | None) -> dict[str, Any]:
    """Name, width and stem of the body of an earlier run; empty for weights of another kind."""
    if weights is None:
        return {}
    from loc_keras.models.weights import names_a_run

    path = Path(weights).expanduser()
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
    choices += [Choice(f"data.source.{k}", value, "as found") for k, value in guess.source.items()]
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

    def value(key: str) -> Any:
        found: Any = reduce(getitem, key.split("."), tree)
        is_section = isinstance(found, dict)
        return {k: one for k, one in found.items() if one is not None} if is_section else found

    reasons = {choice.key: choice.why for choice in choices} | dict.fromkeys(asked, "asked for")
    return [Choice(key, value(key), why) for key, why in reasons.items()]


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
