"""The command line of all commands: parser, shared arguments, and names that arguments take.

Help must come at once, so nothing here imports more than the standard library.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from loc_keras.atomic_file import followed

CONSOLE_SCRIPT = "loc-keras"

BATCH_SIZE, TOP_K = 32, 5
"""As of `Localizer.predict`."""
PREVIEW_FILE = "preview.png"

OTHER_WORDS = {
    "--batch-size": "--batch",
    "--img": "--image-size",
    "--imgsz": "--image-size",
    "--learning-rate": "--lr",
    "--lr0": "--lr",
    "--project": "--run-dir",
    "--source": "--model",
}
"""Options that users of other packages try, and ours."""


class CommandParser(argparse.ArgumentParser):
    """A parser that names the option which a wrong one is most like."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2."""
        unknown = re.match(r"unrecognized arguments: (.*)", message)
        if unknown:
            message += self._meant(unknown[1].split())
        super().error(message)

    def _meant(self, words: Sequence[str]) -> str:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for word in (word.partition("=")[0] for word in words if word.startswith("--")):
            other = OTHER_WORDS.get(word)
            near = [other] if other in known else get_close_matches(word, known, n=1)
            if near:
                return f"; did you mean {near[0]}?"
        return ""


def command_parser(
    name: str, description: str | None, examples: Sequence[str], page: str, *, abbrev: bool = True
) -> CommandParser:
    """The parser of a command, without its arguments.

    `examples` are arguments that follow the command, shown below its help with the page of `docs/`
    that tells more.
    """
    prog = program(name)
    lines = "\n".join(f"  {prog} {example}" for example in examples)
    return CommandParser(
        prog=prog,
        description=description,
        epilog=f"examples:\n{lines}\n\nmore: docs/{page}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=abbrev,
    )


def program(name: str) -> str:
    """How the user calls a command: `loc-keras NAME`, or as a module."""
    called = Path(sys.argv[0])
    if called.stem == CONSOLE_SCRIPT:
        return f"{CONSOLE_SCRIPT} {name}"
    if called.name == "__main__.py" and called.parent.name == "loc_keras":
        return f"python -m loc_keras {name}"
    return f"python -m loc_keras.{name}"


def add_set(parser: argparse.ArgumentParser) -> None:
    """Adds `--set SECTION.KEY=VALUE`, which changes settings of the config."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting, for example data.source.path; may be repeated",
    )


def add_data_arguments(parser: argparse.ArgumentParser, *, resume: bool = False) -> None:
    """Adds `--config`, `--data` and `--set`, and perhaps `--resume` beside the first two."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--config", type=Path, help="config file (YAML)")
    group.add_argument(
        "--data", metavar="FOLDER", help="folder, or file of labels; its settings are found"
    )
    if resume:
        group.add_argument(
            "--resume", type=followed, metavar="RUN_DIR", help="go on with an unfinished run"
        )
    add_set(parser)


def add_run_data_arguments(parser: argparse.ArgumentParser, *, folder: bool = False) -> None:
    """Adds what changes the data of a run that is measured, calibrated or exported."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", type=Path, help="data of another config than the run's own")
    if folder:
        group.add_argument(
            "--data", metavar="FOLDER", help="measure on a folder, or on its images for --split"
        )
    add_set(parser)


def count(text: str) -> int:
    """A whole number of at least 1, as argparse takes it."""
    value = int(text) if text.strip().isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, a whole number, not {text!r}")
    return value
