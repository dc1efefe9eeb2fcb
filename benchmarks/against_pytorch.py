"""Images per second of training steps, input included: ours against PyTorch on the same CPU.

    python -m benchmarks.against_pytorch [--torch-python FILE] [--seconds 20] [--rounds 3]

ResNet18 of full width at 224 px on digits in PNG files of 100 px. torch is a requirement of this
benchmark alone: `--torch-python` names an interpreter that has it, with numpy and Pillow, where it
is not this one. Every way is a process of its own; they train in turns, so that each round meets
one state of the machine: read the ratios.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.common import markdown_of, median_ratio, table_of
from loc_keras import digits

OURS = ("float32", "float32, not cached", "float32, XLA", "float32, our heads", "bfloat16")
THEIRS = (
    *("float32", "float32, 1 loader", "float32, 2 loaders"),
    *("float32, channels last", "float32, compiled", "bfloat16"),
)
BASE = "PyTorch, float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-python", default=sys.executable, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="WORD", help="ways with it")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "digits"
        if digits.main(["--out", str(folder), "--limit", "1000"]):
            raise SystemExit("the digits were not written")
        workers = {}
        for prefix, python, module, ways in (
            ("PyTorch", args.torch_python, "pytorch_worker", THEIRS),
            ("loc_keras", sys.executable, "keras_worker", OURS),
        ):
            for way in ways:
                if any(word in way for word in args.leave_out):
                    continue
                command = [python, "-m", f"benchmarks.{module}", str(folder), way, str(args.batch)]
                workers[f"{prefix}, {way}"] = start(command, log_of(name, f"{prefix}, {way}"))
        rates = in_turn(workers, name, args.seconds, args.rounds)
    rows = [
        {
            "way": way,
            "images/s, best round": f"{max(found):.1f}",
            "ratio to PyTorch's float32": f"{median_ratio(found, rates[BASE]):.2f}",
        }
        for way, found in rates.items()
    ]
    Console().print(table_of(rows))
    print(markdown_of(rows))
    if args.out:
        args.out.write_text(json.dumps(rates, indent=1))


def start(command: list[str], log: Path) -> Any:
    """Starts a way; what it says beside its answers goes to a file, to be shown if it fails."""
    with log.open("w") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            cwd=Path(__file__).parents[1],
        )


def log_of(folder: str, way: str) -> Path:
    return Path(folder) / f"{way}.log"


def in_turn(
    workers: dict[str, Any], logs: str, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Rates of each worker in each round; a worker that cannot start is told and left out."""
    rates: dict[str, list[float]] = {}
    for way, worker in workers.items():
        if "ready" in worker.stdout.readline():
            rates[way] = []
        else:
            last = log_of(logs, way).read_text().strip().splitlines()[-1:]
            print(f"{way}: did not start (code {worker.wait()}): {last}", flush=True)
    for number in range(rounds):
        for way, found in rates.items():
            workers[way].stdin.write(f"{seconds}\n")
            workers[way].stdin.flush()
            found.append(float(workers[way].stdout.readline()))
            print(f"round {number + 1}: {way}: {found[-1]:.1f} images/s", flush=True)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return rates


if __name__ == "__main__":
    main()
