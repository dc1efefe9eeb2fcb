"""How Keras shows progress, by where its output goes."""

import sys

SILENT, BAR, LINE_AN_EPOCH = 0, 1, 2


def progress_style() -> int:
    """Keras's bar on a terminal; one line an epoch in a file, which a bar would flood."""
    return BAR if sys.stdout.isatty() else LINE_AN_EPOCH
