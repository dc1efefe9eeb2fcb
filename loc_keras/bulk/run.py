"""Answers about many files, one after the other, never twice about the same one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from loc_keras.bulk.inputs import image_name
from loc_keras.bulk.outputs import OutputFolder, PathSet, Sidecar
from loc_keras.errors import ImageError
from loc_keras.localizer.localizer import Localizer

Record = dict[str, Any]
T = TypeVar("T")

_WRITERS = 4


@dataclass
class Counts:
    """What became of the files that a call named, each once; earlier calls dealt with `before`."""

    answered: int = 0
    failed: int = 0
    before: int = 0
    named: PathSet = field(default_factory=PathSet)


def answered(
    localizer: Localizer,
    paths: Iterable[str],
    root: str,
    read: Callable[[str], str | bytes] = str,
    /,
    **settings: int,
) -> Iterator[Record]:
    """A record for each file, by its absolute path: its answer, or `reason` if unreadable.

    `read` gives what stands for a file, where that is not its path; `settings` are of
    `Localizer.stream`.
    """
    ahead: deque[str] = deque()

    def noted() -> Iterator[str | bytes]:
        for path in paths:
            ahead.append(path)
            yield read(path)

    for answer in localizer.stream(noted(), **settings):
        path = ahead.popleft()
        head = {"image": image_name(path, root), "path": path}
        if isinstance(answer, ImageError):
            yield {**head, "reason": answer.reason}
        else:
            yield {**head, **answer.as_dict()}


def answer_into(
    out: OutputFolder,
    localizer: Localizer,
    paths: Iterable[str],
    sidecars: Sequence[Sidecar],
    *,
    batch_size: int,
    advance: Callable[[int], None] = lambda files: None,
    **settings: int,
) -> Counts:
    """Appends an answer or a failure for each file that the folder has none of.

    What stands beside an answer is written before its line, so that a line proves all of it; what
    is missing beside an earlier one is written, too. `advance` is called with numbers of files that
    were dealt with, and `settings` are of `Localizer.stream`.
    """
    done, failed, counts = PathSet(), PathSet(), Counts()

    def not_done() -> Iterator[str]:
        for path in paths:
            if not counts.named.add(path):
                advance(1)
            elif done.add(path):
                yield path
            else:
                counts.before += 1
                counts.failed += path in failed
                counts.answered += path not in failed
                advance(1)

    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="sidecars") as pool:

        def write_sidecars(records: Sequence[Record]) -> None:
            named = [(done.stem(record["image"]), record) for record in records]
            for sidecar in sidecars:
                jobs = [pool.submit(sidecar.write_missing, out.folder, *one) for one in named]
                for job in jobs:
                    job.result()

        for records in _chunks(out.answers, batch_size):
            for record in records:
                done.add(record["path"])
            write_sidecars(records)
        for record in out.failures:
            done.add(record["path"])
            failed.add(record["path"])
        new = answered(localizer, not_done(), out.root, batch_size=batch_size, **settings)
        for part in _chunks(new, batch_size):
            good = [record for record in part if "reason" not in record]
            bad = [record for record in part if "reason" in record]
            write_sidecars(good)
            out.answers.append(good)
            out.failures.append(bad)
            counts.answered += len(good)
            counts.failed += len(bad)
            advance(len(part))
    return counts


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk
