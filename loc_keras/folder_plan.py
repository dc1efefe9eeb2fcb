"""From a folder without a config to a config: what is found, what is chosen, and why."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.config import Config
from loc_keras.config_io import asked_keys, config_from_tree, load_config
from loc_keras.config_yaml import commented_yaml, value_text
from loc_keras.data.measure import all_grey, count_several, measure
from loc_keras.folder_reading import Reading, read_folder, source_tree
from loc_keras.models.start import names_a_run
from loc_keras.recipe import numbers
from loc_keras.recipe.choose import choose
from loc_keras.recipe.facts import Choice, Facts
from loc_keras.training.precision import cpu_has_avx512, cpu_has_bfloat16, device_summary
from loc_keras.training.tensorboard import flat_settings

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
