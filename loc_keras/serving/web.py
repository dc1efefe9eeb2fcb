"""Writes what stands beside an ONNX file as a page that answers in the browser, on any web server.

The page is in `templates/`; it computes with ONNX Runtime Web, which users fetch from npm.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from loc_keras.atomic_file import json_object, write_text
from loc_keras.errors import ExportError, clean
from loc_keras.serving.runtimes import Facts

WEB, ONNX = "web", "onnx"
"""The page's name among the formats, and the format of the file that it reads."""

PACKAGE, RELEASE = "onnxruntime-web", "1.30"
"""The package of npm, and the release that the page was written for."""

FACTS_FILE, PAGE_FILE = "model.json", "index.html"

_RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
_TEMPLATES = Path(__file__).with_name("templates")
_PAGE_FILES = ("page.mjs", "page.css")
_INSTALL = f"npm install {PACKAGE}@{RELEASE}"
_MOST_NAMES = 12  # Of classes in the heading.

Writer = Callable[[Path, Facts], None]
"""Writes what comes beside an exported file into its folder."""


def find_runtime(folder: Path | None) -> Path:
    """The unpacked npm package `onnxruntime-web`: the folder given, else in `node_modules` here.

    Raises:
        ExportError: If it is not there, is something else or of another release, or lacks a file.
    """
    beside = Path("node_modules") / PACKAGE
    if folder is None:
        if not beside.is_dir():
            raise ExportError(
                f"--format {WEB} needs {PACKAGE}, which is not in {beside} here; fetch it by "
                f"{_INSTALL}, or name its folder by --onnxruntime-web."
            )
        folder = beside
    elif (folder / beside).is_dir():
        folder = folder / beside
    described = json_object(folder / "package.json") or {}
    if described.get("name") != PACKAGE:
        raise ExportError(
            f"{folder} is not the npm package {PACKAGE}: no package.json there names it; give the "
            f"folder that {_INSTALL} makes, {beside}."
        )
    version = str(described.get("version"))
    if not version.startswith(f"{RELEASE}."):
        raise ExportError(
            f"{folder} holds {PACKAGE} {version}, and the page needs {RELEASE}; fetch it by "
            f"{_INSTALL}."
        )
    missing = [name for name in _RUNTIME_FILES if not (folder / "dist" / name).is_file()]
    if missing:
        raise ExportError(
            f"{folder} lacks dist/{missing[0]} of {PACKAGE}; fetch it anew by {_INSTALL}."
        )
    return folder


def page_writer(runtime: Path) -> Writer:
    """What writes the page beside `model.onnx`; `runtime` is what `find_runtime` gives."""

    def write(folder: Path, facts: Facts) -> None:
        names = [clean(name, 60) for name in facts.class_names]
        more = len(names) - _MOST_NAMES
        page = _ENVIRONMENT.get_template("web.html.j2").render(
            title=clean(str(facts.card.get("name") or "Localizer"), 120),
            classes=", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else ""),
        )
        write_text(folder / PAGE_FILE, page)
        # The page cannot read what the file itself says: ONNX Runtime Web does not tell it.
        write_text(folder / FACTS_FILE, replace(facts, card={}, texts={}).as_text() + "\n")
        for name in _PAGE_FILES:
            shutil.copyfile(_TEMPLATES / name, folder / name)
        for name in _RUNTIME_FILES:
            shutil.copyfile(runtime / "dist" / name, folder / name)

    return write


_ENVIRONMENT = Environment(
    loader=PackageLoader("loc_keras.serving"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
