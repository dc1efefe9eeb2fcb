"""Keeps what a runner and its workers say off the terminal, and in a file for when it is needed."""

import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
