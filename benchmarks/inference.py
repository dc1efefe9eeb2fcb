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
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference_asking import Measured, measure
from benchmarks.inference_figures import Figures, absent_row, as_json, figures_of, row_of
from benchmarks.inference_material import (
    Artifact,
    Material,
    live_boxes,
    material_of_run,
    mib_of,
    untrained_material,
    write_artifacts,
    write_images,
)
from benchmarks.inference_plot import save_bars
from benchmarks.inference_ways import BARE, WAYS, Way
from benchmarks.inference_worker import Job
from benchmarks.table import markdown_of
from loc_keras.atomic_file import write_text
from loc_keras.run_folder_model import MODEL_FILE

FLOOR = "Python and NumPy alone"
PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "onnxruntime", "openvino")


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
        rows, absent, floor, load = _compare(material, folder, ways, args)
    said = settings(material, args, load, floor)
    sys.stdout.write(page(rows, absent, said, len(material.bundle.samples)))
    if args.json:
        found = {"settings": said, "ways": [as_json(row) for row in rows], "absent": absent}
        write_text(args.json, json.dumps(found, indent=2) + "\n")
    if args.plot:
        save_bars(rows, args.plot, f"{said['model']}, {said['image']}, {args.threads} cores")


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
    own = material.run / MODEL_FILE
    artifacts[None] = Artifact(own, mib_of(own))
    write_images(material.bundle, folder / "images")
    live = live_boxes(material.bundle)
    absent, jobs = split_ways(ways, artifacts, args.threads, folder / "images")
    floor_job = Job("nothing", "", "pixels", args.threads, str(folder / "images"))
    load = os.getloadavg()[0]
    found = measure({**jobs, FLOOR: floor_job}, args.rounds, args.burst)
    floor, bare = found.pop(FLOOR), found[BARE.name]
    assert isinstance(bare, Measured), bare
    rows = []
    for way in ways:
        measured, artifact = found.get(way.name), artifacts[way.exported]
        if isinstance(measured, str):
            absent[way.name] = measured
        elif measured is not None and isinstance(artifact, Artifact):
            truth = np.asarray(live[way.given])
            rows.append(figures_of(way.name, way.given, measured, bare, truth, artifact.mib))
    return rows, absent, floor.peak_one if isinstance(floor, Measured) else None, load


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
    material: Material, args: argparse.Namespace, load: float, floor: float | None
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
        "mib_without_model": floor,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def page(rows: Sequence[Figures], absent: dict[str, str], said: dict[str, Any], batch: int) -> str:
    """The settings, the table and what is absent, as Markdown."""
    shown = [row_of(row, batch) for row in rows]
    shown += [absent_row(way, shown[0]) for way in absent]
    floor = said["mib_without_model"]
    lines = [
        f"{said['model']} ({said['parameters']:,} parameters), {said['image']}, {batch} images, "
        f"{said['rounds']} rounds of {said['burst']} single images and a batch, "
        f"{said['threads']} threads on {said['cores_of_machine']} cores, load "
        f"{said['load_before']:.1f} before; "
        + ", ".join(f"{name} {found}" for name, found in said["versions"].items()),
        *([] if floor is None else [f"A process without a model: {floor:.0f} MiB."]),
    ]
    reasons = "".join(f"- {way} is absent: {reason}\n" for way, reason in absent.items())
    return "\n\n".join([*lines, markdown_of(shown)]) + (f"\n{reasons}" if reasons else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
