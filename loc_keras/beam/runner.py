"""Makes the runner that a command line names, and runs a pipeline on it quietly."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

import loc_keras
from loc_keras.errors import ClusterError

DIRECT = "DirectRunner"


def run(build: Callable[[beam.Pipeline], None], runner: str, options: Sequence[str]) -> None:
    """Builds a pipeline and waits until it has run.

    Args:
        build: Adds the steps.
        runner: Name of one that Beam knows.
        options: Of the runner, as `--name=value`.

    Raises:
        ClusterError: If it did not end well.
    """
    _pickle_ours_by_value()
    parsed = PipelineOptions(list(options))
    with _quiet():
        pipeline = beam.Pipeline(
            runner=_direct(parsed) if runner == DIRECT else runner, options=parsed
        )
        build(pipeline)
        result = pipeline.run()
        state = result.wait_until_finish()
    if state != "DONE":
        raise ClusterError(f"{runner} ended as {state}, not as DONE; its log says why.")


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

    cloudpickle.register_pickle_by_value(loc_keras)


@contextmanager
def _quiet() -> Iterator[None]:
    yield
