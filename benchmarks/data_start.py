"""What knowing images by their content costs: the start of a run, and `check`, beside older code.

Run from the root of the repository, with a checkout of the older code in another folder:

    python -m benchmarks.data_start --against FOLDER [--images 10000] [--side 200] [--rounds 3]

Both read the same new JPEG files. A start is all that happens before the first step: annotations,
headers, identical images, cut, and every image decoded once; ours also fingerprints the bytes and
looks for near duplicates, with `--together near` among all, else across splits alone. Each
measurement is a process of its own, in turns; read the ratios, since machines differ.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.common import median_ratio, peak_mib, table_of

OLD, NEW = "older", "this"
WORKS = ("start", "check")


def main() -> None:
    """Measures and prints, or does one measurement for another process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="checkout of the older code")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=200, help="of the images in px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--together", choices=("identical", "near"), default="identical")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        sys.stdout.write(json.dumps(_measured(*args.measure)) + "\n")
        return
    if args.against is None:
        parser.error("--against is needed")
    with tempfile.TemporaryDirectory() as folder:
        config = _write_set(Path(folder), args.images, args.side, args.together)
        Console().print(table_of(_rows(config, args)))


def _rows(config: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians and ratios of each work."""
    codes = {OLD: args.against, NEW: Path.cwd()}
    rows = []
    for work in args.works:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in codes}
        for _ in range(args.rounds):
            for name, code in codes.items():
                found[name].append(_in_process(work, config, code))
        for unit in ("seconds", "cpu_seconds", "peak_mib"):
            old, new = ([one[unit] for one in found[name]] for name in (OLD, NEW))
            medians = {
                name: round(float(np.median(values)), 2)
                for name, values in ((OLD, old), (NEW, new))
            }
            rows.append({"work": work, "unit": unit, **medians, "ratio": median_ratio(new, old)})
    return rows


def _in_process(work: str, config: Path, code: Path) -> dict[str, float]:
    # This file measures either code; only `loc_keras` is the one of the folder.
    told = subprocess.run(
        [sys.executable, __file__, "--measure", work, str(config)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(code), str(Path.cwd())))},
        cwd=config.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


def _measured(work: str, config: str) -> dict[str, float]:
    from loc_keras.cli.data_source import DataSource
    from loc_keras.config.load import load_config
    from loc_keras.data.check.run import check_data

    source = DataSource(load_config(config))
    began, began_cpu = time.perf_counter(), time.process_time()
    if work == "start":
        source.build()
    else:
        check_data(source.annotations, source.section)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - began_cpu,
        "peak_mib": peak_mib(),
    }


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
