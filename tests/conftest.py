"""What every test gets: quiet logs, no window, its own temporary folder, a clean dtype policy."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before the first import of TensorFlow, Matplotlib and NumPy; a value set by the caller wins.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# Test processes share the cores; threads that wait for each other over small matrices take longer.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

DATA_VARIABLE = "LOC_KERAS_DATA"


OPTIMIZED = ("cli",)
"""Folders of tests whose graphs TensorFlow optimizes, as it does for users."""


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from all that was imported, and from stopping at each model."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="module", autouse=True)
def _graphs_stay_as_traced(request: pytest.FixtureRequest) -> None:
    """Runs graphs as they were traced, but for commands and where tests behind a marker are run.

    Optimizing a graph takes longer than the few steps of a test; so it is left to the tests of
    commands, `-m whole`, `-m slow` and all that runs in a process of its own. Deterministic runs
    switch it off for their whole process: each file begins anew.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        within = request.path.relative_to(Path(__file__).parent).parts[0] in OPTIMIZED
        default = "not slow and not whole" in request.config.option.markexpr
        options = {"disable_meta_optimizer": default and not within}
        tensorflow.config.optimizer.set_experimental_options(options)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_are_cleaned_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sends `tempfile`, here and in child processes, to a folder of this test process alone.

    Two test processes at once never share a folder, and pytest removes old ones.
    """
    folder = str(tmp_path_factory.mktemp("tempfile"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(autouse=True)
def _dtype_policy_is_reset() -> Iterator[None]:
    """Puts Keras's global dtype policy and float type back to float32 after each test.

    A test that leaves mixed precision on would change what later tests measure. Keras is looked
    up, not imported, so that tests that do not need it stay fast.
    """
    yield
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="session")
def _no_weights_are_looked_for() -> None:
    """Lets `--data` begin from random weights: what a machine has at hand decides no test."""
    # Imported here, since the package sets what the lines above have to set first.
    from loc_keras.recipe.rules import AUTO_BODIES

    AUTO_BODIES.clear()


@pytest.fixture(scope="session")
def optional_data() -> Path:
    """The folder of larger data sets named by `LOC_KERAS_DATA`; skips the test where it is unset.

    A folder that is named but missing is a mistake, not a reason to skip, so it fails.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        pytest.skip(f"needs larger data: set {DATA_VARIABLE} to the folder that holds it")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        pytest.fail(f"{DATA_VARIABLE} names {str(folder)!r}, which is not a folder")
    return folder


@pytest.fixture
def short_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives `resnet18` one stage of one block, for tests that are about something else.

    Most of the time of a test that fits or exports a model is the tracing of its layers.
    """
    from loc_keras.models import assembly

    monkeypatch.setattr(assembly, "RESNETS", {"resnet18": ((1,), "basic", "")})
