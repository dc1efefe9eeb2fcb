"""The pipeline, and the runner that a command line names: paths become records, records lines."""

import contextlib
import io
import json
import logging
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from loc_keras.beam.worker import (
    LEFT_OUT,
    ExportedModelHandler,
    Find,
    PickledByValue,
    Record,
    Source,
)
from loc_keras.errors import ClusterError

ANSWERS_PREFIX, FAILURES_PREFIX, ENDING = "predictions", "failures", ".jsonl"
COUNTS_FILE = "counts.json"

DIRECT = "DirectRunner"

# Under the name DirectRunner Beam prefers another one, Prism, which it downloads. Prism does not
# take the first option, and the present version as its value changes nothing else.
_DIRECT_DEFAULTS = (
    f"--update_compatibility_version={beam.__version__}",
    "--default_sdk_harness_log_level=ERROR",
)

_FAILED = "failed"


def build(
    pipeline: beam.Pipeline,
    sources: Sequence[Source],
    handler: ExportedModelHandler,
    out: str,
    shards: int,
) -> None:
    """Adds all steps to a pipeline without any: from sources to shards in the folder or URL `out`.

    Paths are made distinct before they are answered about, so each has one record; this also
    spreads them over the workers. Lines are written by Beam's own sink: into a temporary folder,
    from where they are renamed when all are there. 0 `shards` leave their number to the runner.
    """
    out_folder = None if "://" in out else out
    found = (
        pipeline
        | "Sources" >> beam.Create(sources)
        | "Find" >> beam.ParDo(Find(out_folder)).with_outputs(LEFT_OUT, main="paths")
    )
    records = (
        found.paths
        | "Each once" >> beam.Distinct()
        | "Answer" >> RunInference(handler)
        | "Separate" >> beam.ParDo(SeparateFailures()).with_outputs(_FAILED, main="answered")
    )
    for lines, prefix, count in (
        (records.answered, ANSWERS_PREFIX, shards),
        (records[_FAILED], FAILURES_PREFIX, 1),
    ):
        sink = beam.io.WriteToText(f"{out}/{prefix}", ENDING, num_shards=count)
        lines | f"Write {prefix}" >> sink
    totals = [
        records.answered | "Answers" >> beam.combiners.Count.Globally() | _named("answered"),
        records[_FAILED] | "Failures" >> beam.combiners.Count.Globally() | _named("failed"),
        found[LEFT_OUT] | "Others" >> beam.CombineGlobally(sum) | _named("left_out"),
    ]
    (
        totals
        | beam.Flatten()
        | beam.combiners.ToDict()
        | "As JSON" >> beam.Map(json.dumps)
        | "Write counts" >> beam.io.WriteToText(f"{out}/{COUNTS_FILE}", shard_name_template="")
    )


class SeparateFailures(PickledByValue, beam.DoFn):
    """Records as lines of JSON, those with a reason in an output of their own."""

    def process(self, record: Record) -> Iterator[Any]:
        """Gives the line of a record."""
        line = json.dumps(record)
        yield beam.pvalue.TaggedOutput(_FAILED, line) if "reason" in record else line


def options_of(runner: str, arguments: Sequence[str]) -> PipelineOptions:
    """The runner's own options, which from now on Beam's file systems go by as well.

    Raises:
        ClusterError: If Beam cannot read the value of one, or the direct runner does not know one;
            others may know more than Beam.
    """
    defaults = _DIRECT_DEFAULTS if runner == DIRECT else ()
    options = PipelineOptions([*defaults, *arguments])
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), _quiet():
            known = set(options.get_all_options())
            unknown = set(options.get_all_options(retain_unknown_options=True)) - known
    except SystemExit as error:  # Beam reads them by argparse, which prints its whole usage.
        reason = output.getvalue().strip().rpartition("error: ")[2]
        raise ClusterError(f"the runner's options cannot be read: {reason}.") from error
    if unknown and runner == DIRECT:
        raise ClusterError(
            f"{DIRECT} has no option --{min(unknown)}; those of several workers are "
            "--direct_running_mode=multi_processing --direct_num_workers=N."
        )
    FileSystems.set_options(options)
    return options


def run(add_steps: Callable[[beam.Pipeline], None], runner: str, options: PipelineOptions) -> None:
    """Makes a pipeline and waits until it has run.

    Raises:
        ClusterError: If it did not end well; it names a file that holds the trace.
    """
    try:
        with _quiet() if runner == DIRECT else contextlib.nullcontext():
            pipeline = beam.Pipeline(runner=runner, options=options)
            add_steps(pipeline)
            state = pipeline.run().wait_until_finish()
        if state != "DONE":
            raise RuntimeError(f"it ended as {state}, not as DONE")
    except Exception as error:
        with tempfile.NamedTemporaryFile(
            "w", prefix="loc-keras-runner-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            traceback.print_exc(file=log)
        raise ClusterError(
            f"{runner} could not finish ({_last_line(error)}); the whole trace is in {log.name}."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Turns logging off: what Beam tells there, it raises as well, or is of no use to a user."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _named(name: str) -> beam.PTransform:
    return f"Name {name}" >> beam.Map(lambda count: (name, count))


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
