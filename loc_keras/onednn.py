"""Asks TensorFlow for its oneDNN kernels on every x86 processor, unless the user has decided.

TensorFlow switches them on by itself only where it finds AVX-512 neural-network instructions. On
processors with AVX2 alone a training step takes a third of the time with them
(`docs/experiments.md`). The variable is read when TensorFlow is imported, so this module has to
come before all others; with `native_logs` it is all of the package whose import has an effect.
"""

import os

SWITCH = "TF_ENABLE_ONEDNN_OPTS"

os.environ.setdefault(SWITCH, "1")
