"""How fast one model answers in each format that it can be exported to, on the same images.

    python -m benchmarks.inference [--run RUN] [--rounds 30] [--json FILE] [--plot FILE.png]

Without a run it is an untrained ResNet18 on drawn photographs of 96 px. Formats whose packages are
missing (`requirements-export.txt`) are listed as absent. Each way is opened in a process of its own
on the same number of cores, all with TensorFlow's oneDNN kernels; exported models without Keras and
this package. They are asked in turn, round by round, so that a busy machine slows them alike: read
the ratios to the compiled call of the model. Times hold all from the request to arrays on the
host's side; ways that are given files also read the format, resize and bring boxes back. Memory is
the largest that the process ever held, its libraries included. No way states trust.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.common import markdown_of, median_ratio
from benchmarks.inference_asking import Measured, measure
from benchmarks.inference_material import (
    BARE,
    WAYS,
    Artifact,
    Material,
    Way,
    live_boxes,
    material_of_run,
    mib_of,
    untrained_material,
    write_artifacts,
    write_images,
)
from benchmarks.inference_worker import Job
from loc_keras.atomic_file import write_text
from loc_keras.report.style import (
    BLUE,
    FAINT,
    FONT,
    INK,
    LABEL_SIZE,
    MUTED,
    SKY,
    SMALL_SIZE,
    TITLE_SIZE,
    new_figure,
    save_figure,
)
from loc_keras.training.run_folder import BEST_FILE

NONE = "–"
NO_MODEL = "Python and NumPy alone"
PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "onnxruntime", "openvino")

FAR = 5.0
"""A bar is cut off at so many times the median of all, so that one slow way hides no other."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a run's folder in place of an untrained model")
    parser.add_argument("--images", type=int, default=32, help="images, and size of the batch")
    parser.add_argument("--rounds", type=int, default=30, help="how often all are asked in turn")
    parser.add_argument("--burst", type=int, default=5, help="calls with one image in a round")
    parser.add_argument("--threads", type=int, default=cores(), help="cores that each way gets")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="litert, saved_model, ...")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, help="draw bars here")
    args = parser.parse_args(arguments)
    # What the workers share with this process: no GPU, and not a line for each device.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    ways = [way for way in WAYS if way == BARE or not args.only or way.kind in args.only]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if args.run:
            material = material_of_run(args.run, folder / "run", args.images)
        else:
            material = untrained_material(folder / "run", args.images)
        rows, absent, empty_mib, load = _compare(material, folder, ways, args)
    said = settings(material, args, load, empty_mib)
    sys.stdout.write(page(rows, absent, said, len(material.bundle.samples)))
    if args.json:
        found = {"settings": said, "ways": [as_json(row) for row in rows], "absent": absent}
        write_text(args.json, json.dumps(found, indent=2) + "\n")
    if args.plot:
        save_bars(rows, args.plot, f"{said['model']}, {said['image']}, {args.threads} cores")


@dataclass(frozen=True)
class Figures:
    """Of one way.

    Attributes:
        way: Its name.
        given: With what it was asked.
        latency_ms: Median of the times of one image.
        latency_p95_ms: Their 95th percentile.
        latency_least_ms: The shortest, which other work on the machine lengthened least.
        to_bare: Median over the rounds of this way's median time by that of the bare call.
        images_per_s: Median over the rounds, with all images at once.
        most_images_per_s: In the best of the rounds.
        batch: How many that were.
        batch_to_bare: As `to_bare`, of the times of a batch; None where it takes one image.
        peak_mib: Memory of its process that answered about single images; None: not known.
        peak_batch_mib: The same with batches.
        file_mib: Of the model's files.
        box_difference: Largest of any side to the live model's, in fractions.
    """

    way: str
    given: str
    latency_ms: float
    latency_p95_ms: float
    latency_least_ms: float
    to_bare: float
    images_per_s: float
    most_images_per_s: float
    batch: int
    batch_to_bare: float | None
    peak_mib: float | None
    peak_batch_mib: float | None
    file_mib: float
    box_difference: float


def figures_of(
    way: str, given: str, measured: Measured, bare: Measured, live: np.ndarray, file_mib: float
) -> Figures:
    """Makes the figures of a way.

    Args:
        way: Its name.
        given: With what it was asked.
        measured: Of it.
        bare: Of the bare call, in the same rounds.
        live: Boxes (N, 4) of the live model in fractions.
        file_mib: Of the model's files.
    """
    times = np.concatenate([np.asarray(burst) for burst in measured.one])
    ones, bare_ones = ([median(burst) for burst in one.one] for one in (measured, bare))
    batched = bool(measured.batch)
    return Figures(
        way=way,
        given=given,
        latency_ms=1e3 * float(np.median(times)),
        latency_p95_ms=1e3 * float(np.percentile(times, 95)),
        latency_least_ms=1e3 * float(times.min()),
        to_bare=median_ratio(ones, bare_ones),
        images_per_s=len(live) / median(measured.batch) if batched else 1 / float(np.median(times)),
        most_images_per_s=len(live) / min(measured.batch) if batched else 1 / float(times.min()),
        batch=len(live) if batched else 1,
        batch_to_bare=median_ratio(measured.batch, bare.batch) if batched else None,
        peak_mib=measured.peak_one,
        peak_batch_mib=measured.peak_batch if batched else None,
        file_mib=file_mib,
        box_difference=box_difference(measured.boxes, live),
    )


def box_difference(boxes: np.ndarray, live: np.ndarray) -> float:
    """Largest difference of any side in fractions; boxes that were not told (NaN) are left out."""
    # Boxes for users are clipped to the picture, out of which a letterbox may lead.
    return float(np.nanmax(np.abs(np.clip(boxes, 0, 1) - np.clip(live, 0, 1)), initial=0.0))


def row_of(figures: Figures, batch: int) -> dict[str, Any]:
    """A row of the table that people read; `batch` is how many images the batches held."""
    single = "" if figures.batch == batch else f" (one by one: it takes {figures.batch})"
    return {
        "way": figures.way,
        "ms": f"{figures.latency_ms:.2f}",
        "95 %, ms": f"{figures.latency_p95_ms:.2f}",
        "least, ms": f"{figures.latency_least_ms:.2f}",
        "× bare": f"{figures.to_bare:.2f}",
        f"images/s by {batch}": f"{figures.images_per_s:.0f}{single}",
        "most": f"{figures.most_images_per_s:.0f}",
        "× bare by batch": _shown(figures.batch_to_bare, 2),
        "memory, MiB": _shown(figures.peak_mib, 0),
        f"by {batch}, MiB": _shown(figures.peak_batch_mib, 0),
        "file, MiB": f"{figures.file_mib:.1f}",
        "box differs by": f"{figures.box_difference:.0e}" if figures.box_difference else "0",
    }


def absent_row(way: str, columns: Iterable[str]) -> dict[str, Any]:
    """The row of a way that there is not, with the columns of the others."""
    return {name: way if name == "way" else NONE for name in columns}


def as_json(figures: Figures) -> dict[str, Any]:
    """All figures as plain values."""
    return asdict(figures)


def _shown(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _compare(
    material: Material, folder: Path, ways: Sequence[Way], args: argparse.Namespace
) -> tuple[list[Figures], dict[str, str], float | None, float]:
    """Figures by way, reasons by absent way, MiB of a process without a model, load before."""
    wanted = [way.exported for way in ways if way.exported is not None]
    artifacts: dict[Any, Artifact | str] = dict(write_artifacts(material, folder, wanted))
    own = material.run / BEST_FILE
    artifacts[None] = Artifact(own, mib_of(own))
    write_images(material.bundle, folder / "images")
    live = live_boxes(material.bundle)
    absent, jobs = split_ways(ways, artifacts, args.threads, folder / "images")
    empty_job = Job("nothing", "", "pixels", args.threads, str(folder / "images"))
    load = os.getloadavg()[0]
    found = measure({**jobs, NO_MODEL: empty_job}, args.rounds, args.burst)
    empty, bare = found.pop(NO_MODEL), found[BARE.name]
    assert isinstance(bare, Measured), bare
    rows = []
    for way in ways:
        measured, artifact = found.get(way.name), artifacts[way.exported]
        if isinstance(measured, str):
            absent[way.name] = measured
        elif measured is not None and isinstance(artifact, Artifact):
            truth = np.asarray(live[way.given])
            rows.append(figures_of(way.name, way.given, measured, bare, truth, artifact.mib))
    return rows, absent, empty.peak_one if isinstance(empty, Measured) else None, load


def split_ways(
    ways: Sequence[Way], artifacts: dict[Any, Artifact | str], threads: int, images: Path
) -> tuple[dict[str, str], dict[str, Job]]:
    """Reasons of the ways without files, and jobs of the others, by the names of the ways."""
    absent, jobs = {}, {}
    for way in ways:
        artifact = artifacts[way.exported]
        if isinstance(artifact, str):
            absent[way.name] = artifact
        else:
            jobs[way.name] = Job(way.kind, str(artifact.path), way.given, threads, str(images))
    return absent, jobs


def settings(
    material: Material, args: argparse.Namespace, load: float, empty_mib: float | None
) -> dict[str, Any]:
    """Under what the figures came about."""
    height, width, channels = material.bundle.form.shape
    return {
        "model": material.title,
        "parameters": int(material.bundle.localizer.count_params()),
        "image": f"{height} x {width} x {channels}",
        "images": len(material.bundle.samples),
        "rounds": args.rounds,
        "burst": args.burst,
        "threads": args.threads,
        "cores_of_machine": os.cpu_count(),
        "processor": platform.machine(),
        "load_before": load,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "mib_without_model": empty_mib,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def page(rows: Sequence[Figures], absent: dict[str, str], said: dict[str, Any], batch: int) -> str:
    """The settings, the table and what is absent, as Markdown."""
    shown = [row_of(row, batch) for row in rows]
    shown += [absent_row(way, shown[0]) for way in absent]
    empty_mib = said["mib_without_model"]
    lines = [
        f"{said['model']} ({said['parameters']:,} parameters), {said['image']}, {batch} images, "
        f"{said['rounds']} rounds of {said['burst']} single images and a batch, "
        f"{said['threads']} threads on {said['cores_of_machine']} cores, load "
        f"{said['load_before']:.1f} before; "
        + ", ".join(f"{name} {found}" for name, found in said["versions"].items()),
        *([] if empty_mib is None else [f"A process without a model: {empty_mib:.0f} MiB."]),
    ]
    reasons = "".join(f"- {way} is absent: {reason}\n" for way, reason in absent.items())
    return "\n\n".join([*lines, markdown_of(shown)]) + (f"\n{reasons}" if reasons else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def save_bars(rows: Sequence[Figures], path: Path, title: str) -> None:
    """Draws a bar a way, in the order of the rows, which stand under the title."""
    figure = new_figure(10.0, 1.5 + 0.34 * len(rows), 110)
    left, right = figure.subplots(1, 2, sharey=True)
    latencies, high = [row.latency_ms for row in rows], [row.latency_p95_ms for row in rows]
    label = "one image: median time, ms (pale: to the 95th percentile)"
    _draw(left, latencies, label, digits=1, up_to=high)
    speeds = [row.images_per_s for row in rows]
    batch = max((row.batch for row in rows), default=1)
    _draw(right, speeds, f"{batch} images at once: images/s", digits=0)
    plain = [row.way.replace("`", "") for row in rows]
    left.set_yticks(range(len(rows)), plain, fontsize=LABEL_SIZE, fontfamily=FONT, color=INK)
    left.invert_yaxis()
    figure.suptitle(title, fontsize=TITLE_SIZE, fontfamily=FONT, color=INK)
    figure.tight_layout()
    save_figure(figure, path)


def _draw(
    axis: Axes,
    values: Sequence[float],
    label: str,
    *,
    digits: int,
    up_to: Sequence[float] | None = None,
) -> None:
    limit = min(max(up_to or values), FAR * sorted(values)[len(values) // 2]) * 1.15
    places = range(len(values))
    if up_to is not None:
        axis.barh(places, [min(value, limit) for value in up_to], color=SKY, alpha=0.35, height=0.7)
    # The first row is the bare call, to which the others are compared.
    colours = [MUTED, *[BLUE] * (len(values) - 1)]
    axis.barh(places, [min(value, limit) for value in values], color=colours, height=0.7)
    axis.axvline(values[0], color=MUTED, lw=0.8, ls=":")
    for place, value in enumerate(values):
        inside = value > 0.88 * limit
        axis.annotate(
            f"{value:,.{digits}f}",
            (min(value, limit), place),
            xytext=(-4 if inside else 4, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=SMALL_SIZE,
            fontfamily=FONT,
            color="white" if inside else INK,
        )
    axis.set_xlim(0, limit)
    axis.set_xlabel(label, fontsize=LABEL_SIZE, fontfamily=FONT, color=INK)
    axis.grid(axis="x", color=FAINT)
    axis.set_axisbelow(True)
    axis.tick_params(axis="x", labelsize=SMALL_SIZE)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
