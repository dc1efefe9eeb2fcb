"""Hooks of `mkdocs.yml`: README is the first page, and links that leave docs/ become plain text."""

import re
import shutil
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_SOURCES = tempfile.TemporaryDirectory(prefix="loc_keras_docs_")
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)(#[^)]*)?\)")


@event_priority(100)  # Before mkdocstrings reads its settings.
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Shows mkdocstrings a copy of the package in which every folder has an `__init__.py`.

    Python needs none in a folder of a package; griffe 2.4.1, which reads the sources for
    mkdocstrings, passes over a folder without one.
    """
    package = Path(config.config_file_path).with_name("loc_keras")
    copy = Path(_SOURCES.name) / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for module in copy.rglob("*.py"):
        (module.parent / "__init__.py").touch()
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(copy.parent)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds README as the first page; its paths begin at the root, those of pages in docs/."""
    text = Path(config.config_file_path).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((?!docs/|https?:|#)", "](../", text).replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns a link to a file outside docs/ into its text and the path in the repository."""

    def plain(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3]
        if path == "README.md":
            return f"[{text}](index.md{anchor or ''})"
        return text if path in text else f"{text} (`{path}`)"

    return _OUTSIDE.sub(plain, markdown)
