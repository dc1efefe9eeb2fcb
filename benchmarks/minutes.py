"""Whether `train --data SET --minutes N` takes N minutes from its import to its export.

    python -m benchmarks.minutes --data photos vegetables caltech digits --minutes 3 10 --out DIR

Each run is a process of its own, whose wall time counts from its start to its end. Meant for a
machine that does nothing else. The table has, in seconds, what was told before the first epoch
(timed), what the run took, its difference to N minutes in per cent (the bound is 15), and its parts
by the times at which files were written: until the training began, the training, figures and
novelty, trust with its folds, the export.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

BOUND = 15.0
"""Per cent."""

TIMED = re.compile(r"import to export (?:(\d+):)?(\d+):(\d+)")


def measure(data: str, minutes: float, folder: Path, more: list[str]) -> list[str]:
    """Trains once and gives a row of the table."""
    run = folder / f"{Path(data).name}-{minutes:g}"
    command = [sys.executable, "-m", "loc_keras.train", "--data", data, "--run-dir", str(run)]
    command += ["--minutes", f"{minutes:g}", *more]
    began, started = time.monotonic(), time.time()
    with (folder / f"{run.name}.txt").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    taken = time.monotonic() - began
    told = TIMED.search((folder / f"{run.name}.txt").read_text())
    hours, whole, seconds = (int(part or 0) for part in told.groups()) if told else (0, 0, 0)
    epochs = len((run / "history.csv").read_text().splitlines()) - 1
    # The last file of each part; a run without a part has no such file.
    marks = ["environment.json", "last.keras", "novelty.json", "trust.json"]
    ends = [(run / name).stat().st_mtime - started for name in marks if (run / name).exists()]
    ends += [taken]
    parts = [end - begin for begin, end in zip([0.0, *ends], ends, strict=False)]
    off = 100 * (taken / (60 * minutes) - 1)
    return [
        *(Path(data).name, f"{minutes:g}", str(epochs)),
        *(f"{3600 * hours + 60 * whole + seconds}", f"{taken:.0f}", f"{off:+.1f}"),
        *("yes" if abs(off) <= BOUND else "NO", " + ".join(f"{part:.0f}" for part in parts)),
    ]


def main() -> int:
    """Measures every set at every length and prints the table; 1 where a bound is passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, help="folders of labelled images")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 10.0])
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and their output")
    parser.add_argument("--set", action="append", default=[], help="handed to every training")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    more = [word for setting in args.set for word in ("--set", setting)]
    names = ("set", "minutes", "epochs", "timed, s", "taken, s", "off, %", "within", "parts, s")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    rows = []
    for data in args.data:
        for minutes in args.minutes:
            rows.append(measure(data, minutes, args.out, more))
            print(f"| {' | '.join(rows[-1])} |", flush=True)
    return int(any("NO" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
