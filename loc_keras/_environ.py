"""Sets what TensorFlow's libraries read from the environment when they are imported.

This module comes before all others of the package, and is the only one whose import has an
effect. A variable that the user has set stays as it is.

- oneDNN kernels: TensorFlow switches them on by itself only where it finds AVX-512 neural-network
  instructions. On processors with AVX2 alone a training step takes a third of the time with them
  (`docs/experiments.md`).
- Log level: on machines without a GPU the libraries report at every start, as errors, that CUDA
  was not found. What goes wrong in an operation is raised in Python all the same. With an NVIDIA
  driver nothing is changed, since these lines then say why a GPU is not used.
"""

import os
from pathlib import Path

ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
LOG_LEVEL_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
HIDES_ERRORS = "3"

DRIVER = Path("/proc/driver/nvidia")
"""Where Linux shows NVIDIA's driver."""


def request_onednn() -> None:
    """Asks for the oneDNN kernels on every x86 processor."""
    os.environ.setdefault(ONEDNN_VARIABLE, "1")


def quieten_native_logs() -> None:
    """Hides the libraries' log lines where Linux has no NVIDIA driver."""
    if Path("/proc").is_dir() and not DRIVER.exists():
        os.environ.setdefault(LOG_LEVEL_VARIABLE, HIDES_ERRORS)


request_onednn()
quieten_native_logs()
