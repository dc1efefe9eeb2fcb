"""From a folder without a config to its annotations: each possible reading is tried."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from loc_keras.config import Config
from loc_keras.config_io import asked_keys, config_from_tree
from loc_keras.data.annotations import Annotations
from loc_keras.data.check.catalogue import kind_of
from loc_keras.data.check.run import CheckResult
from loc_keras.data.detect import bounded_note, guesses, look_through, nothing_found
from loc_keras.data.detect_guess import Guess
from loc_keras.data.detect_listing import Listing
from loc_keras.data.measure import count_several
from loc_keras.data.resolve import DatasetRecords
from loc_keras.errors import ConfigError, DataError
from loc_keras.from_config import annotations_from, checked_from, records_from
from loc_keras.recipe.choose import several_policy

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
