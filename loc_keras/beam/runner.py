"""Makes the runner that a command line names, and runs a pipeline on it to its end."""

import contextlib
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from loc_keras.errors import ClusterError

GRACE = 15.0
"""Seconds in which the runner may find out by itself; it does where data were on their way."""

_THREAD = "run_worker"
"""Name of Beam's threads that wait for the process of a worker, and raise when it ends badly."""


class LostWorkerError(Exception):
    """A worker's process has ended before its work."""


@contextmanager
def lost_worker_ends_it(grace: float = GRACE) -> Iterator[None]:
    """Raises in the main thread, some time after a worker was lost, if it is still in there.

    Without signals, or in another thread, nothing is watched.

    Args:
        grace: Seconds.

    Raises:
        LostWorkerError: Then.
    """
    number = getattr(signal, "SIGUSR1", None)
    main = threading.main_thread()
    if number is None or threading.current_thread() is not main:
        yield
        return
    timers: list[threading.Timer] = []
    before = threading.excepthook

    def ended(told: threading.ExceptHookArgs) -> None:
        before(told)
        if told.thread is not None and told.thread.name == _THREAD:
            # To this thread, since it sleeps in a lock that only a signal of its own ends.
            timer = threading.Timer(grace, signal.pthread_kill, (main.ident, number))
            timer.daemon = True
            timers.append(timer)
            timer.start()

    def stop(_: int, __: FrameType | None) -> None:
        raise LostWorkerError("a worker's process has ended")

    handler = signal.signal(number, stop)
    threading.excepthook = ended
    try:
        yield
    finally:
        threading.excepthook = before
        for timer in timers:
            timer.cancel()
        for timer in timers:  # One may have been about to send.
            timer.join()
        signal.signal(number, handler)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Passes over what Python's logging would tell up to warnings, in all threads."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def told_to_a_file(*, workers: bool) -> Iterator[Path]:
    """Gives a temporary file, which holds the trace after an error and is removed without one.

    Args:
        workers: Whether all that is written to the error stream goes there, too. The processes that
            a runner starts inherit the stream, so it is redirected below Python.
    """
    number, name = tempfile.mkstemp(prefix="loc-keras-runner-", suffix=".log")
    log = Path(name)
    try:
        with _stderr_to(number) if workers else _nothing():
            yield log
    except Exception:
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        raise
    except BaseException:
        log.unlink()
        raise
    else:
        log.unlink()
    finally:
        os.close(number)


@contextmanager
def _stderr_to(number: int) -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(number, 2)
    try:
        with without_warnings():
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


DIRECT = "DirectRunner"

ATTEMPTS = 4
"""How often the direct runner begins, where it loses a worker; Dataflow tries a bundle as often."""

_OF_A_STEP = "[while running"
"""Beam says so where the code of a step raised; it would do so again."""

Build = Callable[[beam.Pipeline], None]


def options_of(runner: str, given: Sequence[str]) -> PipelineOptions:
    """The runner's own options, which from now on Beam's file systems go by as well.

    Raises:
        ClusterError: If Beam cannot read the value of one, or the direct runner does not know one;
            others may know more than Beam.
    """
    parsed = PipelineOptions(list(given))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _without_warnings():
            known = set(parsed.get_all_options())
            unknown = set(parsed.get_all_options(retain_unknown_options=True)) - known
    except SystemExit as error:  # Beam reads them by argparse, which prints its whole usage.
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise ClusterError(f"the runner's options cannot be read: {reason}.") from error
    if unknown and runner == DIRECT:
        raise ClusterError(
            f"{DIRECT} has no option --{min(unknown)}; those of several workers are "
            "--direct_running_mode=multi_processing --direct_num_workers=N."
        )
    FileSystems.set_options(parsed)
    return parsed


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Beam warns of options that it does not know, which are told in another way."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def run(build: Build, runner: str, options: PipelineOptions, clean: Callable[[], None]) -> int:
    """Builds a pipeline and waits until it has run.

    The direct runner gives up when a worker's process ends, so it is begun anew; the other runners
    repeat what was lost by themselves.

    Args:
        build: Adds the steps.
        runner: Name of one that Beam knows.
        options: Of the runner.
        clean: Called after each attempt that failed.

    Returns:
        How often it was begun anew.

    Raises:
        ClusterError: If it did not end well.
    """
    _pickle_ours_by_value()
    for attempt in range(ATTEMPTS):
        try:
            with told_to_a_file(workers=runner == DIRECT) as log, lost_worker_ends_it():
                _run_once(build, runner, options)
            return attempt
        except Exception as error:
            clean()
            lost_worker = runner == DIRECT and _OF_A_STEP not in str(error)
            if not lost_worker or attempt == ATTEMPTS - 1:
                raise ClusterError(
                    f"{runner} could not finish ({_last_line(error)}); all that was said is in "
                    f"{log}."
                ) from error
    raise AssertionError("the last attempt returns or raises")


def _run_once(build: Build, runner: str, options: PipelineOptions) -> None:
    made = _direct(options) if runner == DIRECT else runner
    pipeline = beam.Pipeline(runner=made, options=options)
    build(pipeline)
    state = pipeline.run().wait_until_finish()
    if state != "DONE":
        raise RuntimeError(f"it ended as {state}, not as DONE")


def _direct(options: PipelineOptions) -> beam.runners.PipelineRunner:
    """The direct runner that is written in Python.

    Under the name DirectRunner Beam would first look for another one, Prism, which it downloads.
    """
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    told = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=told)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(info))


def _pickle_ours_by_value() -> None:
    """Sends our code with the pipeline, so that workers need not have this package."""
    from apache_beam.internal.cloudpickle import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__.partition(".")[0]])


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
