"""What happens before and while Keras and TensorFlow are imported.

This module comes before all others of the package, and is the only one whose import has an
effect: it sets variables that TensorFlow's libraries read, and puts a finder first among those
that Python asks for modules. A variable that the user has set stays as it is.

- oneDNN kernels: TensorFlow switches them on by itself only where it finds AVX-512 neural-network
  instructions. On processors with AVX2 alone a training step takes a third of the time with them
  (`docs/experiments.md`).
- Native log lines: the libraries report at every start, before they read the level, which kernels
  they use and that there is no CUDA. What goes wrong in an operation is raised in Python all the
  same. `TF_CPP_MIN_LOG_LEVEL=0` brings all lines back; a GPU that is not used is a note of ours.
- Registration: `import loc_keras` imports neither Keras nor TensorFlow, yet
  `keras.saving.load_model` opens every model that the package has saved, whichever of the two was
  imported first: as soon as Keras is there, the modules that register our classes are imported.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import IO, Any

STARTED = time.monotonic()
"""About when the process began: this module is imported first."""

ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
LOG_LEVEL_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
SHOWS_ERRORS, HIDES_ERRORS = "2", "3"

DRIVER = Path("/proc/driver/nvidia")
"""Where Linux shows NVIDIA's driver."""
WSL = Path("/dev/dxg")
"""Where Linux within Windows shows the GPU of Windows."""

REGISTERS = ("boxes", "losses", "metrics", "models.assembly", "trust.statements")
"""Modules below the package whose import registers all of its Keras classes."""

STDERR = 2
_OF_NO_USE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)|"
    rb"[IWE]\d{4} .*(oneDNN|cuda|CUDA|cuInit|TensorRT|cpu_feature_guard)|"
    rb"To enable the following instructions:|"
    rb"INFO: Created TensorFlow Lite XNNPACK delegate"
)


def request_onednn() -> None:
    """Asks for the oneDNN kernels on every x86 processor."""
    os.environ.setdefault(ONEDNN_VARIABLE, "1")


def quieten_native_logs() -> AbstractContextManager[None]:
    """Hides the libraries' log lines, unless the user has set their level.

    Returns:
        What to enter while TensorFlow is imported, which heeds no level yet.
    """
    level = SHOWS_ERRORS if may_have_gpu() else HIDES_ERRORS
    wants_lines = os.environ.setdefault(LOG_LEVEL_VARIABLE, level) < SHOWS_ERRORS
    return nullcontext() if wants_lines else without_native_lines()


@contextmanager
def without_native_lines() -> Iterator[None]:
    """Holds back what is written to the process's stderr, then writes it but for known lines.

    After an error all is written.
    """
    try:
        stderr = os.dup(STDERR)
    except OSError:  # It is closed.
        yield
        return
    with _held() as held, open(stderr, "wb", buffering=0) as true_stderr:
        os.dup2(held.fileno(), STDERR)
        known = _OF_NO_USE
        try:
            yield
        except BaseException:
            known = re.compile(rb"(?!)")  # Matches nothing.
            raise
        finally:
            os.dup2(stderr, STDERR)
            held.seek(0)
            true_stderr.writelines(line for line in held if not known.match(line))


def _held() -> IO[bytes]:
    """A place for bytes: memory where the system offers it, since a disk may be full."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


class LateModule:
    """A library that is imported when something of it is asked for first.

    Modules that need TensorFlow for a part of what they do alone take it so. Their annotations must
    not be evaluated: `from __future__ import annotations`.
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(import_module(self._name), name)
        setattr(self, name, found)
        return found


tf: Any = LateModule("tensorflow")


def may_have_gpu() -> bool:
    """Whether a driver of NVIDIA may be there; where it is not, TensorFlow need not be asked."""
    return not Path("/proc").is_dir() or DRIVER.exists() or WSL.exists()


class ImportWatch(MetaPathFinder):
    """Runs what has to run around the import of TensorFlow and after that of Keras.

    Our classes are registered when Keras has been imported and none of our modules is imported by
    half, since those that register import each other's names.
    """

    def __init__(self, package: str, registers: Sequence[str]):
        self.package, self.registers = package, registers
        self.running = 0
        self.has_keras = "keras" in sys.modules
        self.registered = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds a module as the other finders do, with a loader that is watched."""
        ours = name.startswith(f"{self.package}.")
        if not ours and name not in ("keras", "tensorflow"):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchedLoader(spec.loader, self._around(name, ours=ours))
        return spec

    def _around(self, name: str, *, ours: bool) -> Callable[[], AbstractContextManager[None]]:
        if name == "tensorflow":
            return quieten_native_logs
        return self._counted if ours else self._then_register

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
        self.register()

    @contextmanager
    def _then_register(self) -> Iterator[None]:
        yield
        self.has_keras = True
        self.register()

    def register(self) -> None:
        """Imports what registers our classes, once, if the moment has come."""
        if self.has_keras and not (self.running or self.registered):
            self.registered = True
            for name in self.registers:
                import_module(f"{self.package}.{name}")


class _WatchedLoader(Loader):
    """Another loader, within a context while it executes the module."""

    def __init__(self, loader: Any, around: Callable[[], AbstractContextManager[None]]):
        self.loader, self.around = loader, around

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader
        with self.around():
            self.loader.exec_module(module)


def watch_imports() -> None:
    """Puts the finder first, and registers at once where Keras was imported before."""
    watch = ImportWatch(__package__, REGISTERS)
    sys.meta_path.insert(0, watch)
    watch.register()


request_onednn()
watch_imports()
