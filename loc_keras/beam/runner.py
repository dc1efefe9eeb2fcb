"""Makes the runner that a command line names, and runs a pipeline on it to its end."""

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from loc_keras.beam.lost_worker import lost_worker_ends_it
from loc_keras.beam.quiet import told_to_a_file
from loc_keras.errors import ClusterError

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
