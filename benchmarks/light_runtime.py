"""Answers without TensorFlow beside those of the run itself, side by side in one call.

    python -m loc_keras.export --run RUN --out RUN/export --format litert  # and onnx, openvino
    python -m benchmarks.light_runtime --run RUN --images FOLDER [--folder 5000] [--rounds 5]

In turns, each in a process of its own: `predict` of one photograph from a cold shell (wall and CPU
seconds, peak MiB), single photographs one after the other with a `Localizer` that is open, and
`predict` of a folder of as many files (links to the photographs). Then how far pixels and boxes lie
from those of the run, over all photographs; `--also` names further exports for that, such as
quantized ones, and `--rounds 0` measures nothing else.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.common import markdown_of, median_ratio
from benchmarks.startup import Cost, measured

RUN = "the run, TensorFlow"
FILES = {
    "LiteRT": "litert/*/model.tflite",
    "ONNX Runtime": "onnx/*/model.onnx",
    "OpenVINO": "openvino/*/model.xml",
}
WARM = 40
"""Single photographs a round, after ten that are not counted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="with exports in RUN/export")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--photographs", type=int, default=500, help="that are compared")
    parser.add_argument("--folder", type=int, default=5000, help="files of the folder; 0: none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--also", type=Path, nargs="+", default=[], help="files that are compared")
    parser.add_argument("--warm", help=argparse.SUPPRESS)  # What a worker opens.
    args = parser.parse_args(arguments)
    found = sorted(path for path in args.images.rglob("*") if path.suffix.lower() == ".jpg")
    # Evenly from all folders.
    photographs = found[:: max(1, len(found) // args.photographs)][: args.photographs]
    if args.warm:
        serve(args.warm, photographs)
        return
    models = {RUN: args.run / "best.keras"}
    for name in args.only:
        models[name] = max((args.run / "export").glob(FILES[name]))
    if args.rounds:
        measure(models, photographs, args)
    models |= {f"{path}": path for path in args.also}
    sys.stdout.write(f"\n{len(photographs)} photographs\n\n")
    sys.stdout.write(markdown_of(list(compared(models, photographs))))


def measure(models: dict[str, Path], photographs: Sequence[Path], args: argparse.Namespace) -> None:
    """Prints what each costs."""
    rows = [{"": name} for name in models]
    costs = {name: list[Cost]() for name in models}
    for _ in range(args.rounds):
        for name, model in models.items():
            costs[name].append(measured(predict(model, photographs[0]), Path.cwd()))
    for field in ("wall", "cpu", "peak"):
        add(rows, costs, field, field, 0 if field == "peak" else 2)
    add_warm(rows, models, args)
    if args.folder:
        add_folder(rows, models, photographs, args)
    sys.stdout.write(markdown_of(rows))
    sys.stdout.flush()


def predict(model: Path, *more: object) -> list[str]:
    """The arguments of Python."""
    return ["-m", "loc_keras", "predict", "--model", str(model), *map(str, more)]


def add(
    rows: list[dict[str, str]],
    costs: dict[str, list[Cost]],
    heading: str,
    field: str,
    digits: int,
) -> None:
    """Adds medians, and medians of the ratios within the rounds."""
    values = {name: [getattr(one, field) for one in several] for name, several in costs.items()}
    unit = "MiB" if field == "peak" else "s"
    for row in rows:
        mine = values[row[""]]
        row[f"{heading}, {unit}"] = f"{statistics.median(mine):.{digits}f}"
        row[f"{heading}, ratio"] = f"{median_ratio(mine, values[RUN]):.3f}"


def add_warm(rows: list[dict[str, str]], models: dict[str, Path], args: argparse.Namespace) -> None:
    """Single photographs by open localizers, in turns."""
    command = [sys.executable, "-m", "benchmarks.light_runtime", "--run", str(args.run)]
    command += ["--images", str(args.images), "--warm"]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {
        name: subprocess.Popen([*command, str(model)], **pipe)  # type: ignore[call-overload]
        for name, model in models.items()
    }
    seconds = {name: list[float]() for name in models}
    for turn in range(args.rounds + 1):
        for name, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            answer = float(worker.stdout.readline())
            if turn:  # The first is not counted.
                seconds[name].append(answer)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    for row in rows:
        mine = seconds[row[""]]
        row["one warm, ms"] = f"{1e3 * statistics.median(mine):.2f}"
        row["warm, ratio"] = f"{median_ratio(mine, seconds[RUN]):.3f}"


def serve(model: str, photographs: Sequence[Path]) -> None:
    """Answers each line of standard input with the median seconds of single photographs."""
    from loc_keras import Localizer

    localizer, files = Localizer.open(model), cycle(photographs)
    for _ in sys.stdin:
        seconds = []
        for path in islice(files, WARM + 10):
            begun = time.perf_counter()
            localizer.predict(path)
            seconds.append(time.perf_counter() - begun)
        print(statistics.median(seconds[10:]), flush=True)


def add_folder(
    rows: list[dict[str, str]],
    models: dict[str, Path],
    photographs: Sequence[Path],
    args: argparse.Namespace,
) -> None:
    """A folder of links, written as JSON lines, twice."""
    costs = {name: list[Cost]() for name in models}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        folder.mkdir()
        for number, path in enumerate(islice(cycle(photographs), args.folder)):
            (folder / f"{number:06}.jpg").symlink_to(path.absolute())
        for turn in range(2):
            for name, model in models.items():
                out = Path(place, f"{name} {turn}")
                costs[name].append(measured(predict(model, folder, "--out", out), Path.cwd()))
    for field in ("wall", "peak"):
        heading = f"{args.folder:,} files, {field}"
        add(rows, costs, heading, field, 0 if field == "peak" else 1)


def compared(models: dict[str, Path], photographs: Sequence[Path]) -> Iterator[dict[str, str]]:
    """How far each lies from the run: pixels of 255, boxes and trust's in fractions of the side."""
    from loc_keras import Localizer

    run, *others = (Localizer.open(path) for path in models.values())
    names = list(models)[1:]
    expected = run.predict(photographs)
    pixels = [run._opened.reader.read(path).pixels.astype(int) for path in photographs]
    for name, localizer in zip(names, others, strict=True):
        read = localizer._opened.reader.read
        apart = [np.abs(read(p).pixels - own) for p, own in zip(photographs, pixels, strict=True)]
        pairs = list(zip(localizer.predict(photographs), expected, strict=True))
        boxes = np.array([np.subtract(a.box_fraction, b.box_fraction) for a, b in pairs])
        yield {
            "": name,
            "pixels, most": str(max(one.max() for one in apart)),
            "pixels that differ": f"{np.mean([one.mean() for one in apart]):.3f}",
            "boxes, most": f"{np.abs(boxes).max():.5f}",
            "boxes, mean": f"{np.abs(boxes).mean():.6f}",
            "scores, most": f"{max(abs(a.score - b.score) for a, b in pairs):.5f}",
            "other labels": str(sum(a.label != b.label for a, b in pairs)),
        }


if __name__ == "__main__":
    main()
