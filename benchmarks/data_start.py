"""How time and memory of `check`, of the start of a run and of `predict` grow, beside older code.

Run from the root of the repository, with a checkout of the older code in another folder:

    python -m benchmarks.data_start --against FOLDER [--images 1000 10000 100000] [--side 64]

All read the same new JPEG files. `check` and `predict` are whole commands, the latter with a model
of 32 px that is as small as can be. A start is all that happens before the first step, without
imports: annotations, headers, identical images, cut, every image decoded once and fingerprinted,
and near duplicates, with `--together near` among all, else across splits alone. Each measurement
is a process of its own, in turns; read the ratios, since machines differ.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.common import median_ratio, peak_mib, table_of

OLD, NEW = "older", "this"
WORKS = ("check", "start", "predict")
UNITS = ("seconds", "cpu_seconds", "peak_mib")
MODEL_SIDE = 32


def main() -> None:
    """Measures and prints, or does one part for another process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="checkout of the older code")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000])
    parser.add_argument("--side", type=int, default=200, help="of the images in px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--together", choices=("identical", "near"), default="identical")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        sys.stdout.write(json.dumps(_started(args.start)) + "\n")
    elif args.model:
        _save_model(args.model)
    elif args.against is None:
        parser.error("--against is needed")
    else:
        for images in args.images:
            with tempfile.TemporaryDirectory() as folder:
                config = _write_set(Path(folder), images, args.side, args.together)
                title = f"{images:,} images of {args.side} px"
                Console().print(table_of(_rows(config, args), title))


def _rows(config: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians and ratios of each work."""
    codes = {name: config.parent / name for name in (OLD, NEW)}
    for code, checkout in zip(codes.values(), (args.against, Path.cwd()), strict=True):
        # The package alone: this file and what it imports measure either code.
        code.mkdir()
        (code / "loc_keras").symlink_to(checkout.absolute() / "loc_keras")
    rows = []
    for work in args.works:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in codes}
        for number in range(args.rounds):
            for name, code in codes.items():
                found[name].append(_measured(work, config, code, f"{name}{number}"))
        for unit in UNITS:
            old, new = ([one[unit] for one in found[name]] for name in (OLD, NEW))
            medians = {
                name: round(float(np.median(values)), 2)
                for name, values in ((OLD, old), (NEW, new))
            }
            rows.append({"work": work, "unit": unit, **medians, "ratio": median_ratio(new, old)})
    return rows


def _measured(work: str, config: Path, code: Path, name: str) -> dict[str, float]:
    run = partial(_run, code, config.parent)
    if work == "check":
        return run("-m", "loc_keras.check", "--config", str(config))[0]
    if work == "start":
        return dict(json.loads(run(__file__, "--start", str(config))[1].splitlines()[-1]))
    model, out = config.parent / f"{name}.keras", config.parent / f"{name}_answers"
    run(__file__, "--model", str(model))
    command = ("--model", str(model), str(config.parent / "images"), "--out", str(out))
    return run("-m", "loc_keras.predict", *command)[0]


def _run(code: Path, folder: Path, *arguments: str) -> tuple[dict[str, float], str]:
    """Runs Python with the `loc_keras` of a folder; gives what it took, and what it printed."""
    began = time.perf_counter()
    with (folder / "printed").open("w+") as printed:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(code), str(Path.cwd())))},
            cwd=folder,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        printed.seek(0)
        told = printed.read()
    if status:
        raise RuntimeError(f"{code}: {told[-2000:]}")
    cpu_seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    return dict(zip(UNITS, (seconds, cpu_seconds, peak), strict=True)), told


def _started(config: Path) -> dict[str, float]:
    import keras  # noqa: F401  # What takes seconds to import, and older code imports first.

    import loc_keras.train  # noqa: F401

    try:
        from loc_keras.cli.data_source import DataSource
        from loc_keras.config.load import load_config

        build = DataSource(load_config(config)).build
    except ImportError:  # As it was called up to 8832d82.
        from loc_keras.config_io import load_config  # type: ignore[import-not-found, no-redef]
        from loc_keras.from_config import data_from  # type: ignore[import-not-found]

        build = partial(data_from, load_config(config))
    began, began_cpu = time.perf_counter(), time.process_time()
    build()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return dict(zip(UNITS, (seconds, cpu_seconds, peak_mib()), strict=True))


def _save_model(path: Path) -> None:
    from loc_keras.models.assembly import build_localizer

    shape = (MODEL_SIDE, MODEL_SIDE, 3)
    build_localizer(image_shape=shape, num_classes=5, width=4, stem="small").save(path)


def _write_set(root: Path, images: int, side: int, together: str) -> Path:
    """Different images of blobs and noise of all sizes, in one CSV file, nothing split off."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    rows = []
    for number in range(images):
        pixels = np.zeros((side, side, 3))
        for cells in (4, 8, 16, 32):
            coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
            pixels += np.asarray(coarse.resize((side, side), Image.Resampling.BILINEAR)) / 4
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{number}.jpg", quality=92)
        rows.append(f"{number}.jpg,{number % 5},0.2,0.2,0.7,0.8\n")
    (root / "all.csv").write_text("".join(rows))
    config = root / "config.yaml"
    config.write_text(f"""
name: start
data:
  source:
    format: csv
    path: "{root}"
    csv: {{splits: {{train: {{csv: all.csv, images: images}}, val: null, test: null}}}}
  image_size: 128
  cache: none
  split: {{val: 0.1, test: 0.1, together: {together}}}
train: {{batch_size: 32}}
""")
    return config


if __name__ == "__main__":
    main()
