"""What `convert` does: read a data set, write it in another format and say what was lost."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import TimeRemainingColumn

from loc_keras.cli.console import progress_bar
from loc_keras.cli.data_arguments import source_to_convert
from loc_keras.cli.options import program
from loc_keras.config.schema import Config
from loc_keras.data.annotations import SPLITS, Split
from loc_keras.data.convert import SKIPPED, Conversion, refuse_place, write_dataset
from loc_keras.data.formats.csv_file import any_group
from loc_keras.data.formats.registry import WRITERS
from loc_keras.data.formats.yolo_yaml import to_yaml
from loc_keras.data.resolve import Records, even_sample
from loc_keras.errors import ConfigError

CONFIG_FILE = "loc_keras.yaml"
"""File in the converted folder: a config that reads it again."""

_TENTH = 10
_CARRIED = ("image_size", "channels", "resize")


def run(options: argparse.Namespace) -> int:
    """Reads and writes; gives the exit code."""
    for name in ("limit", "shards"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be 1 or more, got {value}.")
    if options.shards and not WRITERS[options.to].sharded:
        sharded = " or ".join(name for name, writer in WRITERS.items() if writer.sharded)
        raise ConfigError(f"--shards is for --to {sharded}; {options.to} is one file an image.")
    given = source_to_convert(options, Console(markup=False, highlight=False))
    config, source = given.config, given.config.data.source
    if source.format == "digits":
        raise ConfigError(
            "the digits are drawn and have no files to convert; write them as CSV and PNG with "
            f"{program('digits')} --out {options.out}, and convert those."
        )
    refuse_place(options.out, [os.path.expanduser(source.path)])
    # No format has a place for images for calibration: they stay in training, and are cut off again
    # where the copy is read.
    split = config.data.split.model_copy(update={"calibration": 0.0})
    found = given.with_data(split=split).records
    splits = {
        split: even_sample(found.splits[split], options.limit)
        for split in SPLITS
        if len(found.splits.get(split, ()))
    }
    with _progress({split: len(records) for split, records in splits.items()}) as advance:
        result = write_dataset(
            options.out,
            options.to,
            splits,
            found.class_names,
            shards=options.shards,
            background=source.background,
            faults=found.faults,
            stop_at_faults=config.data.on_error == "stop",
            texts={CONFIG_FILE: _read_again(config, options, splits, found.class_names)},
            advance=advance,
        )
    for note in [*found.notes, *_lost_groups(options.to, splits)]:
        print(f"note: {note}")
    _report(options.out, result)
    return 0


def _report(out: Path, result: Conversion) -> None:
    if result.done_before:
        print(f"{out} was complete already; nothing was written.")
    for split, count in result.counts.items():
        print(f"{split}: {count:,} images")
    if result.faults:
        kinds = Counter(fault.kind for fault in result.faults)
        listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        print(f"left out: {listed}; listed in {out / SKIPPED}")
    print(f"to read it: --config {out / CONFIG_FILE}")


def _lost_groups(target: str, splits: Mapping[Split, Records]) -> list[str]:
    """Says that groups are not written where the format has no place for them."""
    if WRITERS[target].grouped or not any_group(splits):
        return []
    grouped = " or ".join(name for name, writer in WRITERS.items() if writer.grouped)
    return [
        f"groups of images (which a split must not part) are lost: {target} has no place for them; "
        f"--to {grouped} writes them."
    ]


def _read_again(
    config: Config,
    options: argparse.Namespace,
    splits: Mapping[Split, Records],
    class_names: Sequence[str],
) -> str:
    """A config whose data are the converted ones, brought to the same input of the model."""
    source = {
        "path": os.path.abspath(options.out),
        **WRITERS[options.to].source(class_names, splits),
    }
    if config.data.source.background is not None:
        source["background"] = config.data.source.background
    data: dict[str, Any] = {"source": source}
    given = config.data.model_dump()
    data |= {key: given[key] for key in _CARRIED if given[key] is not None}
    # The splits are written; what was not cut off then shall not be cut off on reading.
    data["split"] = given["split"]
    tree = {"name": f"{config.name}_{options.to}", "data": data}
    return "# The data set of this folder; mend data.source.path after moving it.\n" + to_yaml(tree)


@contextmanager
def _progress(totals: Mapping[Split, int]) -> Iterator[Callable[[Split, int], None]]:
    """Bars on a terminal; in a file, which bars would flood, one line for each tenth."""
    if not sys.stderr.isatty():
        yield _tenths(totals)
        return
    with progress_bar(TimeRemainingColumn()) as bar:
        bars = {split: bar.add_task(split, total=total) for split, total in totals.items()}
        yield lambda split, records: bar.advance(bars[split], records)


def _tenths(totals: Mapping[Split, int]) -> Callable[[Split, int], None]:
    """Prints a line whenever a split has come a tenth further."""
    done: Counter[str] = Counter()

    def advance(split: Split, records: int) -> None:
        before, total = done[split], totals[split]
        done[split] += records
        if done[split] * _TENTH // total > before * _TENTH // total:
            print(f"{split}: {done[split]:,} of {total:,}", file=sys.stderr, flush=True)

    return advance
