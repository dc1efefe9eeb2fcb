"""Hushes what TensorFlow's libraries say on machines without a GPU, unless the user has decided.

There they report at every start, as errors, that CUDA was not found. What goes wrong in an
operation is raised in Python all the same. With an NVIDIA driver nothing is changed, since these
lines then say why a GPU is not used. The variable is read when TensorFlow is imported.
"""

import os
from pathlib import Path

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
ERRORS_TOO = "3"

DRIVER = Path("/proc/driver/nvidia")
"""Where Linux shows NVIDIA's driver."""


def hush() -> None:
    """Sets the level where Linux has no NVIDIA driver."""
    if Path("/proc").is_dir() and not DRIVER.exists():
        os.environ.setdefault(LEVEL, ERRORS_TOO)


hush()
