"""Asks workers in turn, and keeps what they tell."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.inference_worker import Job

ROOT = Path(__file__).parents[1]
WORKER = (sys.executable, "-m", "benchmarks.inference_worker")


class WorkerError(RuntimeError):
    """A worker came to an end before it answered."""


@dataclass
class Measured:
    """What was measured of one way.

    Attributes:
        boxes: (N, 4) in fractions.
        one: For each round, seconds of each call with one image.
        batch: For each round, seconds of a call with all N images; empty where the way takes one at
            a time.
        peak_one: Most MiB of its process when it had answered about single images; None where the
            system does not tell.
        peak_batch: The same after all.
    """

    boxes: np.ndarray
    one: list[list[float]] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    peak_one: float | None = None
    peak_batch: float | None = None


class Worker:
    """A process that answers in one way; used in a `with` statement.

    Args:
        job: What it opens.
        command: The program, which gets the job as its last argument.
    """

    def __init__(self, job: Job, command: Sequence[str] = WORKER) -> None:
        """Starts it."""
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed at the end)
        self._process = subprocess.Popen(
            [*command, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._said.close()

    def ask(self, command: str) -> Any:
        """Sends a command and waits for its answer.

        Raises:
            WorkerError: If the process ends instead, with the last line it wrote.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(f"{command}\n")
            stdin.flush()
        except BrokenPipeError:
            pass
        line = stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            last = (self._said.read().strip().splitlines() or ["it said nothing"])[-1]
            raise WorkerError(last)
        return json.loads(line)


def measure(
    jobs: Mapping[str, Job], rounds: int, burst: int, command: Sequence[str] = WORKER
) -> dict[str, Measured | str]:
    """Measures ways in turn: in each round every way is asked, one after the other.

    Args:
        jobs: By the name of the way.
        rounds: How often all are asked.
        burst: Calls with one image in each round.
        command: The worker's program.

    Returns:
        By name what was measured, or why the way does not work.
    """
    found: dict[str, Measured | str] = {}
    workers: dict[str, Worker] = {}
    with ExitStack() as stack:
        for name, job in jobs.items():
            # One is ready before the next is started, since two would slow each other.
            worker = stack.enter_context(Worker(job, command))
            try:
                found[name] = first_answers(worker)
                workers[name] = worker
            except WorkerError as error:
                found[name] = str(error)
        for _ in range(rounds):
            for name, worker in workers.items():
                _ask_round(worker, found[name], burst)
        for name, worker in workers.items():
            found[name].peak_batch = worker.ask("memory")  # type: ignore[union-attr]
    return found


def first_answers(worker: Worker) -> Measured:
    """Boxes and memory, before anything is timed; both kinds of calls are warm afterwards."""
    measured = Measured(np.array(worker.ask("boxes"), np.float64))
    measured.peak_one = worker.ask("memory")
    worker.ask("batch")
    return measured


def _ask_round(worker: Worker, measured: Measured | str, burst: int) -> None:
    assert isinstance(measured, Measured)
    measured.one.append(worker.ask(f"one {burst}"))
    seconds = worker.ask("batch")
    if seconds is not None:
        measured.batch.append(seconds)
