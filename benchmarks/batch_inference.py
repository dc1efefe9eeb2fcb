"""Images a second of `predict` in one process and on Beam's direct runner with one and two workers.

Each way is called with few and with many images, and the difference counts, so that neither the
start of Python nor the opening of the model does. A way's rate a core is images over seconds of
processor time, of all its processes; it hardly depends on what else the machine does. The memory is
the peak of a process that answers: of a worker or, without Beam, of `predict`.

    python -m benchmarks.batch_inference --model saved_models/NAME MODEL.tflite --images FOLDER
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console

from benchmarks.common import markdown_of

WORKERS = ["--direct_running_mode=multi_processing"]
WAYS = {
    "`predict`, one process": [],
    "`DirectRunner`, 1 worker": ["--runner=DirectRunner", *WORKERS, "--direct_num_workers=1"],
    "`DirectRunner`, 2 workers": ["--runner=DirectRunner", *WORKERS, "--direct_num_workers=2"],
}
ENDINGS = {".jpg", ".jpeg", ".png"}
WORKER = b"sdk_worker_main"
"""In the command line of Beam's workers."""


class Spent(NamedTuple):
    """Seconds on the clock, and of processors; the peak of a process that answers in MiB."""

    wall: float
    processor: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, nargs="+", help="exported models")
    parser.add_argument("--images", type=Path, required=True, help="folder; repeated as needed")
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    files = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in ENDINGS)
    more = args.many - args.few
    with tempfile.TemporaryDirectory() as place:
        lists = {count: copies(files, count, Path(place)) for count in (args.few, args.many)}
        cases = [(model, way) for model in args.model for way in WAYS]
        found: dict[tuple[str, str], list[Spent]] = {case: [] for case in cases}
        for number in range(args.rounds):
            for model, way in cases:
                few, many = (
                    spent([*command(model, lists[count]), *WAYS[way]], place)
                    for count in (args.few, args.many)
                )
                between = (b - a for a, b in zip(few[:2], many[:2], strict=True))
                found[model, way].append(Spent(*between, many.peak))
                print(f"round {number + 1}, {model}, {way}: {found[model, way][-1]}", flush=True)
        size = sum(path.stat().st_size for path in lists[args.many].iterdir()) / args.many
    rows = []
    for (model, way), times in found.items():
        rates = sorted(more / one.processor for one in times)
        rows.append(
            {
                "model": Path(model).name,
                "way": way,
                "images/s": f"{more / median(one.wall for one in times):.0f}",
                "images/s a core": f"{median(rates):.0f} ({rates[0]:.0f}-{rates[-1]:.0f})",
                "peak of a process, MiB": f"{median(one.peak for one in times):.0f}",
            }
        )
    Console(width=100).print(f"{more:,} images, {size:,.0f} bytes read of each", highlight=False)
    sys.stdout.write(markdown_of(rows))


def command(model: str, images: Path) -> list[str]:
    return [sys.executable, "-m", "loc_keras.predict", "--model", model, str(images)]


def copies(files: list[Path], count: int, place: Path) -> Path:
    """A folder of that many links to the files, in turn; each is read as a file of its own."""
    folder = place / str(count)
    folder.mkdir()
    for number, path in enumerate(islice(cycle(files), count)):
        (folder / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
    return folder


def spent(arguments: list[str], place: str) -> Spent:
    with tempfile.TemporaryDirectory(dir=place) as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*arguments, "--out", out],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        ended, peaks = threading.Event(), {True: 0.0, False: 0.0}
        watcher = threading.Thread(target=watch, args=(process.pid, peaks, ended))
        watcher.start()
        told = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        ended.set()
        watcher.join()
        if status:
            raise SystemExit(told.decode())
        return Spent(wall, usage.ru_utime + usage.ru_stime, peaks[True] or peaks[False])


def watch(session: int, peaks: dict[bool, float], ended: threading.Event) -> None:
    """Notes the highest peak in MiB of the processes of a session, those of workers as True."""
    while not ended.wait(0.1):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(folder.name)) == session:
                    is_worker = WORKER in (folder / "cmdline").read_bytes()
                    status = (folder / "status").read_text()
                    peak = int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024
                    peaks[is_worker] = max(peaks[is_worker], peak)
            except (OSError, IndexError):  # It has ended meanwhile.
                continue


if __name__ == "__main__":
    main()
