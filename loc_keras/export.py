"""Writes a run's best model for servers (SavedModel), devices (LiteRT, ONNX, OpenVINO) or browsers.

The copy is run in a process of its own, without Keras and this package, and compared with the
model before it gets its version.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from loc_keras.atomic_file import followed
from loc_keras.cli.console import run_work
from loc_keras.cli.options import add_run_data_arguments, command_parser

EXAMPLES = (
    "--run RUN_DIR --out saved_models/NAME",
    "--run RUN_DIR --out saved_models/NAME --format onnx",
    "--run RUN_DIR --out saved_models/NAME --format web --onnxruntime-web DIR",
)
PAGE = "export.md"

FORMATS = ("saved_model", "litert", "onnx", "openvino", "web")
"""`serving.portable` writes them, but for the first; the last is an ONNX file and a page."""
QUANTIZE = ("none", "float16", "int8")


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("export", __doc__, EXAMPLES, PAGE)
    parser.add_argument("--run", type=followed, required=True, help="run folder with best.keras")
    add_run_data_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="saved_models/NAME",
        help="folder of the served model; versions are numbered folders in it",
    )
    parser.add_argument("--version", help="number of the version; without it the next one")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    parser.add_argument(
        "--quantize", choices=QUANTIZE, default="none", help="for devices: smaller numbers"
    )
    parser.add_argument(
        "--onnxruntime-web",
        type=Path,
        metavar="DIR",
        help="for --format web: the unpacked npm package; else node_modules/onnxruntime-web",
    )
    return parser


def read_arguments(arguments: Sequence[str] | None = None) -> Namespace:
    """Reads the command line; a wrong one ends the program with code 2."""
    return build_parser().parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and exports; gives the exit code."""
    return run_work("export", read_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
