"""Images a second of `predict` in one process and on Beam's direct runner with one and two workers.

Each way is called with few and with many images, and the difference counts, so that neither the
start of Python and TensorFlow nor the opening of the model does. A way's rate a core is images over
seconds of processor time, of all its processes; it hardly depends on what else the machine does.

    python -m benchmarks.batch_inference --model saved_models/NAME --images FOLDER
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console

from benchmarks.common import table_of

WORKERS = ["--direct_running_mode=multi_processing"]
WAYS = {
    "predict, one process": [],
    "DirectRunner, 1 worker": ["--runner=DirectRunner", *WORKERS, "--direct_num_workers=1"],
    "DirectRunner, 2 workers": ["--runner=DirectRunner", *WORKERS, "--direct_num_workers=2"],
}
BATCH = 32
ENDINGS = {".jpg", ".jpeg", ".png"}


class Spent(NamedTuple):
    """Seconds on the clock, and of processors."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="an exported model")
    parser.add_argument("--images", type=Path, required=True, help="folder; repeated as needed")
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    files = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in ENDINGS)
    with tempfile.TemporaryDirectory() as place:
        lists = {count: copies(files, count, Path(place)) for count in (args.few, args.many)}
        found: dict[str, list[Spent]] = {name: [] for name in WAYS}
        for number in range(args.rounds):
            for name, options in WAYS.items():
                few, many = (
                    spent([*command(args.model, lists[count]), *options], place)
                    for count in (args.few, args.many)
                )
                found[name].append(Spent(*(b - a for a, b in zip(few, many, strict=True))))
                print(f"round {number + 1}, {name}: {found[name][-1]}", file=sys.stderr)
        size = sum(path.stat().st_size for path in lists[args.many].iterdir()) / args.many
    more = args.many - args.few
    base = more / median(one.processor for one in found[next(iter(WAYS))])
    rows = []
    for name, times in found.items():
        rates = sorted(more / one.processor for one in times)
        rows.append(
            {
                "way": name,
                "images/s": f"{more / median(one.wall for one in times):.1f}",
                "images/s a core": f"{median(rates):.1f} ({rates[0]:.1f}-{rates[-1]:.1f})",
                "ratio a core": f"{median(rates) / base:.2f}",
            }
        )
    console = Console(width=100)
    console.print(table_of(rows, f"{more:,} images, {size:,.0f} bytes read of each"))
    whole, alone = signature_seconds(args.model, files)
    console.print(
        f"of the exported graph's processor time the model takes {alone / whole:.0%}, "
        f"decoding and resizing the rest: {1 / whole:.1f} images/s a core in all"
    )


def signature_seconds(model: str, files: list[Path], batches: int = 20) -> tuple[float, float]:
    """Processor seconds an image: a file through the whole graph, and pixels through the model."""
    import tensorflow as tf

    from loc_keras.localizer.opening import version_folder

    bundle = tf.saved_model.load(str(version_folder(Path(model))))
    contents = [path.read_bytes() for path in islice(cycle(files), BATCH * (batches + 1))]
    shape = bundle.signatures["images"].structured_input_signature[1]["images"].shape[1:]
    pixels = tf.zeros([BATCH, *shape])
    found = []
    for name in ("image_bytes", "images"):
        ask = bundle.signatures[name]
        for number in range(batches + 1):
            if number == 1:  # The first call plans the graph.
                started = time.process_time()
            strings = tf.constant(contents[number * BATCH : (number + 1) * BATCH])
            ask(**{name: strings if name == "image_bytes" else pixels})
        found.append((time.process_time() - started) / (batches * BATCH))
    return found[0], found[1]


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
            [*arguments, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        told = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(told.decode())
        return Spent(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main()
