"""Trains with several workers on this machine: `--workers 2 -- --config FILE`.

All arguments after `--` go to `python -m loc_keras.train`, in as many processes. It is for machines
with several processors, one worker on each, and for trying what is to run on several machines.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any

from loc_keras.cli.console import SIGNALLED, USER_ERROR, run_command
from loc_keras.errors import TrainingError, WorkerLostError
from loc_keras.training.cluster import VARIABLE, tf_config
from loc_keras.training.run_folder import SIGNALS, handled_signals

HANG_UP = getattr(signal, "SIGHUP", None)
"""What a terminal sends that is closed; workers, in groups of their own, do not get it."""

STOPPED = tuple(SIGNALLED + number for number in SIGNALS)
"""Exit codes of workers that were asked to end, and did with a checkpoint."""

GRACE_SECONDS = 20.0
"""How long the others may take to end by themselves after one has ended."""

_PR_SET_PDEATHSIG = 1  # In Linux's sys/prctl.h.

LINES_SHOWN = 20
"""Last lines of a worker that failed, which are shown."""


@dataclass(eq=False)
class Worker:
    """A process of the training, and the log that is shown only if it fails."""

    index: int
    process: subprocess.Popen[bytes]
    log: IO[bytes] | None

    def last_lines(self) -> str:
        """The end of what it wrote."""
        if self.log is None:
            return ""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LINES_SHOWN:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line, starts the workers and gives the exit code of the training."""
    parser = argparse.ArgumentParser(
        prog="python -m loc_keras.train_workers",
        usage="%(prog)s --workers N [--pin] [--restarts N] -- ARGUMENTS OF loc_keras.train",
        description=__doc__,
    )
    parser.add_argument("--workers", type=int, required=True, help="number of processes")
    parser.add_argument(
        "--pin", action="store_true", help="give each worker its own equal part of the cores"
    )
    parser.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="start all again up to N times after one was lost; needs train's --run-dir or "
        "--resume, and goes on from the last checkpoint",
    )
    parser.add_argument("train", nargs=argparse.REMAINDER, help="-- and what train is given")
    args = parser.parse_args(arguments)
    given = args.train[1:] if args.train[:1] == ["--"] else args.train
    if args.workers < 1:
        parser.error("--workers needs a number of at least 1")
    if not given:
        parser.error("after -- come the arguments of python -m loc_keras.train")
    if args.restarts < 0:
        parser.error("--restarts needs a number of at least 0")
    options = {text.partition("=")[0] for text in given}
    if args.restarts and options.isdisjoint(("--run-dir", "--resume")):
        parser.error("--restarts needs --run-dir or --resume after --, to find the run again")
    command = [sys.executable, "-m", "loc_keras.train", *given]

    def run() -> int:
        cores = core_parts(available_cores(), args.workers) if args.pin else None
        return run_workers(command, args.workers, cores, restarts=args.restarts)

    return run_command(run, waits=True)


def run_workers(
    command: Sequence[str],
    count: int,
    cores: Sequence[Sequence[int]] | None = None,
    *,
    restarts: int = 0,
) -> int:
    """Runs a command in `count` processes, each with the TF_CONFIG of one worker.

    The first is the chief, and writes to where this process does. When one fails, all end. SIGINT
    and SIGTERM are passed on to all, which end by themselves; SIGHUP as SIGTERM. `cores` are the
    numbers of those that each may use; None for all. After one was lost, ended by a signal or by a
    fault that is not the user's, all are started again, `restarts` times at most.

    Gives 0, or the exit code of the first that failed, or 128 plus the number of the signal.
    """
    while True:
        code, lost = _run_once(command, count, cores)
        if not lost or restarts == 0:
            return code
        restarts -= 1
        print(f"all are started again; restarts left: {restarts}.", file=sys.stderr, flush=True)


def _run_once(
    command: Sequence[str], count: int, cores: Sequence[Sequence[int]] | None
) -> tuple[int, bool]:
    """The exit code of all workers together, and whether one was lost."""
    hosts = [f"127.0.0.1:{port}" for port in free_ports(count)]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_started(command, hosts, index, cores[index] if cores else None))
            for index in range(count)
        ]
        asked = stack.enter_context(_passing_on(workers))
        failed = _first_failed(workers, asked)
        if asked:
            for worker in workers:  # They save first; a second signal is passed on, too.
                worker.process.wait()
            return SIGNALLED + asked[0], False
        if failed is None:
            return 0, False
        code = failed.process.returncode
        print(failed.last_lines(), file=sys.stderr)
        print(
            f"worker {failed.index} of {count} ended with code {code}, and the others with it.",
            file=sys.stderr,
            flush=True,
        )
        return (code if code > 0 else SIGNALLED - code), _is_lost(workers)


def _is_lost(workers: Sequence[Worker]) -> bool:
    """Whether a worker ended neither well nor by what the user did: a mistake, or a signal.

    Where one ended by a mistake of the user, the others, which only miss it, do not count.
    """
    codes = [worker.process.poll() for worker in workers]
    if USER_ERROR in codes:
        return False
    return any(code not in (None, 0, *STOPPED) for code in codes)


def _first_failed(workers: Sequence[Worker], asked: Sequence[int]) -> Worker | None:
    """Waits until all have ended well, or one has not, or they were asked to end."""
    left = list(workers)
    while left and not asked:
        failed = [worker for worker in left if worker.process.poll()]
        if failed:
            # The one that was lost, rather than one that only misses it.
            missing = WorkerLostError.code
            return next((w for w in failed if w.process.returncode != missing), failed[0])
        left = [worker for worker in left if worker.process.poll() is None]
        time.sleep(0.1)
    return None


@contextmanager
def _passing_on(workers: Sequence[Worker]) -> Iterator[list[int]]:
    """Passes signals on to all workers for a while; gives the list of those that came."""
    came: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM if number == HANG_UP else number)

    # Under nohup SIGHUP is ignored, and stays so.
    passed_on = list(SIGNALS)
    if HANG_UP is not None and signal.getsignal(HANG_UP) is not signal.SIG_IGN:
        passed_on.append(HANG_UP)
    with handled_signals(pass_on, passed_on):
        yield came


@contextmanager
def _started(
    command: Sequence[str], hosts: list[str], index: int, cores: Sequence[int] | None
) -> Iterator[Worker]:
    """A worker, which has ended when the context does."""
    environment = {**os.environ, VARIABLE: tf_config(hosts, index)}
    with ExitStack() as stack:
        log = None if index == 0 else stack.enter_context(tempfile.TemporaryFile())
        streams: Mapping[str, Any] = {} if log is None else {"stdout": log, "stderr": log}
        # In a group of its own: a terminal sends Ctrl-C to all of a group, and each worker must get
        # it once. Not in a session of its own, between which Linux shares out the cores.
        process = subprocess.Popen(
            command,
            env=environment,
            process_group=0,
            preexec_fn=_prepared(cores),  # noqa: PLW1509 (the other thread waits for Ctrl-C)
            **streams,
        )
        try:
            yield Worker(index, process, log)
        finally:
            _end(process)


def _prepared(cores: Sequence[int] | None) -> Callable[[], None] | None:
    """For a new process: its cores, and to be asked to end when this one is gone, however killed.

    None on systems other than Linux, which cannot be asked that.
    """
    if not sys.platform.startswith("linux"):
        return None
    # All that allocates comes before the fork, after which little is safe.
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def prepare() -> None:
        if cores is not None:
            os.sched_setaffinity(0, cores)
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM.value)
        if os.getppid() != parent:  # It was killed before this process had asked.
            os._exit(SIGNALLED + signal.SIGTERM)

    return prepare


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use.

    Raises:
        TrainingError: If the system does not say.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is None:
        raise TrainingError("--pin needs Linux, which alone says which cores a process may use.")
    return sorted(affinity(0))


def core_parts(cores: Sequence[int], count: int) -> list[list[int]]:
    """Neighbouring cores for each of `count` workers, equally many.

    Raises:
        TrainingError: If there are fewer cores than workers.
    """
    size = len(cores) // count
    if size == 0:
        raise TrainingError(
            f"--pin gives each worker cores of its own, but there are {len(cores)} for {count} "
            f"workers; take at most --workers {len(cores)}, or leave out --pin."
        )
    return [list(cores[index * size : (index + 1) * size]) for index in range(count)]


if __name__ == "__main__":
    sys.exit(main())
