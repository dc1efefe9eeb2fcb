"""The pipeline: what was named becomes paths, each once; paths become records; records, lines."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from loc_keras.beam.worker import LEFT_OUT, ExportedModelHandler, Find, Record, Source

FAILED = "failed"

ANSWERS_PREFIX, FAILURES_PREFIX, ENDING, COUNTS_FILE = (
    *("predictions", "failures", ".jsonl", "counts.json"),
)


@dataclass(frozen=True)
class Plan:
    """What a pipeline is made of.

    Attributes:
        sources: Where the images are.
        handler: Answers about them.
        out: Folder or URL for the shards.
        shards: Files of answers; 0 leaves it to the runner.
    """

    sources: Sequence[Source]
    handler: ExportedModelHandler
    out: str
    shards: int


def build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Adds all steps to a pipeline.

    Paths are brought together before they are answered about, so each is there once, whatever
    names led to it; this also spreads them over the workers. Lines are written by Beam's own sink:
    into a temporary folder, from where they are renamed when all are there.
    """
    out_path = None if "://" in plan.out else plan.out
    found = (
        pipeline
        | "What is named" >> beam.Create(plan.sources)
        | "Find" >> beam.ParDo(Find(out_path)).with_outputs(LEFT_OUT, main="paths")
    )
    records = (
        found.paths
        | "Each once" >> beam.Distinct()
        | "Answer" >> RunInference(plan.handler)
        | "Tell apart" >> beam.ParDo(TellApart()).with_outputs(FAILED, main="answered")
    )
    _write(records.answered, plan, ANSWERS_PREFIX)
    _write(records[FAILED], plan, FAILURES_PREFIX)
    totals = [
        records.answered | "Answers" >> beam.combiners.Count.Globally() | _named("answered"),
        records[FAILED] | "Failures" >> beam.combiners.Count.Globally() | _named("failed"),
        found[LEFT_OUT] | "Others" >> beam.CombineGlobally(sum) | _named("left_out"),
    ]
    (
        totals
        | beam.Flatten()
        | beam.combiners.ToDict()
        | "As JSON" >> beam.Map(json.dumps)
        | "Write counts" >> beam.io.WriteToText(f"{plan.out}/{COUNTS_FILE}", shard_name_template="")
    )


class TellApart(beam.DoFn):
    """Records as lines of JSON, those that tell a reason beside the others."""

    def process(self, record: Record) -> Iterator[Any]:
        """Tells one."""
        line = json.dumps(record)
        yield beam.pvalue.TaggedOutput(FAILED, line) if "reason" in record else line


def _named(name: str) -> beam.PTransform:
    return f"Name {name}" >> beam.Map(lambda count: (name, count))


def _write(lines: beam.PCollection, plan: Plan, prefix: str) -> None:
    shards = plan.shards if prefix == ANSWERS_PREFIX else 1
    sink = beam.io.WriteToText(f"{plan.out}/{prefix}", ENDING, num_shards=shards)
    lines | f"Write {prefix}" >> sink
