"""Single-object image localization: what is in a picture, and where.

`loc-keras COMMAND --help` tells more of each command.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from loc_keras.cli.options import CONSOLE_SCRIPT, CommandParser, program

COMMANDS = (
    *("train", "check", "convert", "evaluate", "calibrate", "predict", "export"),
    *("demo", "digits"),
)
SHELLS = ("bash", "zsh", "tcsh")


def build_parser(*, whole: bool = False) -> argparse.ArgumentParser:
    """The parser of `loc-keras`; with the arguments of all commands if `whole`."""
    parser = CommandParser(
        prog=program("").strip(" ."),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="begin with: loc-keras train --data FOLDER\n\nmore: README.md, docs/",
    )
    version = f"{CONSOLE_SCRIPT} {sys.modules['loc_keras'].__version__}"
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument(
        "--completion", choices=SHELLS, help="print what a shell reads to complete commands"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"loc_keras.{name}")
        summary = str(module.__doc__).splitlines()[0]
        parents = [module.build_parser()] if whole else []
        commands.add_parser(
            name, help=summary, description=summary, parents=parents, add_help=not whole
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the commands; gives its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in COMMANDS:
        return int(import_module(f"loc_keras.{given[0]}").main(given[1:]))
    parser = build_parser()
    args = parser.parse_args(given)
    if args.completion:
        import shtab

        print(shtab.complete(build_parser(whole=True), args.completion))
        return 0
    parser.error(f"name a command: {', '.join(COMMANDS)}")


if __name__ == "__main__":
    sys.exit(main())
