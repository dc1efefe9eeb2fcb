"""What `check` does: read, find what is wrong, report it, mend it, draw samples."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from loc_keras.atomic_file import own_files, refuse_foreign
from loc_keras.cli.console import progress_bar
from loc_keras.cli.data_arguments import source_to_check
from loc_keras.cli.data_source import (
    DataSource,
    UndecidedViewError,
    print_label_files,
    require_view,
)
from loc_keras.cli.options import PREVIEW_FILE
from loc_keras.config.load import dump_config
from loc_keras.config.schema import Config
from loc_keras.data.check.fix import FixPlan, plan_fix, refuse_fix_folder, summary, write_fix
from loc_keras.data.check.run import CheckResult, check_data
from loc_keras.data.fault_kinds import OF_THE_WHOLE_SET
from loc_keras.data.formats.csv_file import GROUPED_COLUMNS
from loc_keras.data.resolve import even_sample
from loc_keras.errors import DataError, LocKerasError
from loc_keras.report.terminal import classes_words, print_findings

FOUND_ERRORS = 1
FIXED_CONFIG = "loc_keras.yaml"
KNOWN = frozenset({"counts", "kinds", "decoded", "findings"})
"""Keys by which findings that we have written are known."""


def run(args: argparse.Namespace) -> int:
    """Checks, reports and mends; gives the exit code: 0 clean, 1 errors."""
    console = Console(markup=False, highlight=False)
    picture = (args.report or Path(), (PREVIEW_FILE,), "give another folder to --report")
    if args.preview is not None:
        refuse_foreign(*picture)
    source = source_to_check(args, console)
    code = 0
    if source.config.data.source.format == "digits":
        if args.fix is not None or (args.report is not None and args.preview is None):
            print("note: there is no data set on disk to report on or to mend.", file=sys.stderr)
        console.print("The digits are synthetic: drawn, not read, so there is nothing to check.")
    else:
        code = _check_files(args, source, console)
    if args.preview is not None:
        try:
            with own_files(*picture):
                _preview(args, source, console)
        except LocKerasError as error:
            if not code:
                raise
            # That there are errors is what the caller asked for; they may be why.
            print(f"no preview could be drawn: {error}", file=sys.stderr)
    return code


def _check_files(args: argparse.Namespace, source: DataSource, console: Console) -> int:
    config = source.config
    section = config.data.source
    # What can fail at the end is tried before thousands of images are decoded.
    if args.report is not None:
        from loc_keras.report.data_report import FINDINGS_FILE, PAGE_FILE, write_report

        names, known = (FINDINGS_FILE, PAGE_FILE), (FINDINGS_FILE, KNOWN)
        report = (args.report, names, "give another folder to --report", known)
        refuse_foreign(*report)
    if args.fix is not None:
        refuse_fix_folder(args.fix, os.path.expanduser(section.path))
    images = len(source.annotations.joined.images)
    with _bar("reading headers" if args.quick else "decoding images", images) as advance:
        if args.quick:
            result = source.quick_check(advance)
        else:
            result = check_data(source.annotations, source.section, progress=advance)
    if args.config is not None:
        print_label_files(console, source)
    console.print(_what_was_read(result))
    print_findings(console, result.findings)
    if args.report is not None:
        words = f"{section.format} at {section.path}"
        with own_files(*report):
            page = write_report(args.report, result, title=str(config.name), source=words)
        console.print(
            f"report: {page}; all findings: {args.report / FINDINGS_FILE}", soft_wrap=True
        )
    try:
        require_view(result, args.report or Path())
    except UndecidedViewError as error:
        if args.fix is not None:
            raise
        console.print(f"note: {error}", soft_wrap=True)
    if args.fix is not None:
        _fix(args.fix, config, result, console)
    return FOUND_ERRORS if result.counts["error"] else 0


def _what_was_read(result: CheckResult) -> str:
    """Images and objects of each split: a pattern that misses half of the files shows here."""
    parts = []
    for split in result.splits:
        objects = result.annotations.objects[split]
        empty = int(objects.empty.sum())
        without = f", {empty:,} of them without an object" if empty else ""
        images = len(objects.images)
        parts.append(f"{split} {len(objects) - empty:,} objects in {images:,} images{without}")
    return f"read: {'; '.join(parts) or 'no object'}; {classes_words(result.class_names)}"


def _fix(folder: Path, config: Config, result: CheckResult, console: Console) -> None:
    whole = [one for one in result.findings if one.kind in OF_THE_WHOLE_SET]
    if whole:
        raise DataError(f"{whole[0].reason}; no copy can be mended before.")
    plan = plan_fix(result)
    text = dump_config(_config_of_copy(config, folder, plan))
    images = sum(len({one.image for one in part}) for part in plan.objects.values())
    with _bar("writing images", images) as advance:
        changes = write_fix(
            folder, plan, result, config_text=text, config_name=FIXED_CONFIG, progress=advance
        )
    config_path = folder / FIXED_CONFIG
    console.print(f"mended copy: {folder}; train on it with --config {config_path}", soft_wrap=True)
    for line in summary(changes, plan).splitlines():
        console.print(f"  {line}")


def _config_of_copy(config: Config, folder: Path, plan: FixPlan) -> Config:
    """The config with the copy for its source; what was mended is no longer asked for."""
    given = {
        "format": "csv",
        "path": str(folder.absolute()),
        "several": config.data.source.several,
        "crop_margin": config.data.source.crop_margin,
        "background": config.data.source.background,
        "class_names": tuple(plan.class_names),
    }
    if plan.grouped:
        given["csv"] = {"columns": GROUPED_COLUMNS}
    source = type(config.data.source).model_validate(given)
    data = config.data.model_copy(update={"source": source})
    return config.model_copy(update={"data": data})


def _preview(args: argparse.Namespace, source: DataSource, console: Console) -> None:
    # What is wrong with the data was reported already and does not hinder a look at the rest; and
    # what is drawn once is not worth a place on the disk.
    source = source.uncut().with_data(on_error="skip", cache="memory")
    config = source.config
    records = None
    if config.data.source.format != "digits":
        wanted = max(args.preview, config.train.batch_size)
        few = even_sample(source.records.splits["train"], wanted)
        records = replace(source.records, splits={"train": few})
    data = source.build(records)
    from loc_keras.report.data_report import save_preview

    path = (args.report or Path()) / PREVIEW_FILE
    title = f"{args.preview} training samples of {config.name} as they are augmented"
    save_preview(path, data.train(0), args.preview, data.class_names, title=title)
    console.print(f"preview: {path}")


@contextmanager
def _bar(words: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress_bar(transient=True) as progress:
        task = progress.add_task(words, total=total)
        yield lambda count: progress.advance(task, count)
