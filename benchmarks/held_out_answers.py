"""Answers on images that were held out, for the studies of coverage and of confidence.

    python -m benchmarks.held_out_answers --run RUN [--splits calibration,test] --out FILE.npz
    python -m benchmarks.held_out_answers --config FILE --folds 5 [--steps 320] --out FILE.npz

The first asks a trained run; the second trains once for every fold, each time on the others, as
`benchmarks.transfer` does, and asks each model for the images it did not see.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.transfer_runs import Arm, Trainer, folds
from loc_keras.cli.data_source import DataSource
from loc_keras.cli.runs import load_run
from loc_keras.config.load import load_config
from loc_keras.config.train import FineTuneConfig
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.training.model import outcomes_from
from loc_keras.trust.observations import observe

EPOCHS = 8  # Only to divide the steps.
_RENAMED = {"softmax": "probabilities", "bbox": "boxes_pred", "bbox_true": "boxes"}


def main() -> None:
    args = _arguments()
    console = Console()
    observed = _of_run(args) if args.run else _of_folds(args, console)
    write_answers(args.out, args.name or args.out.stem, observed)
    console.print(f"{sum(map(len, observed)):,} answers written to {args.out}")


def write_answers(path: Path, name: str, seen: Sequence[Outcomes]) -> None:
    """Writes observations, joined in their order, as compressed arrays.

    Args:
        path: Ends in `.npz`.
        name: What tables call them.
        seen: Of one data set.
    """
    columns = {
        "labels": [one.labels for one in seen],
        **{_RENAMED.get(key, key): [one.outputs[key] for one in seen] for key in seen[0].outputs},
        "part": [np.full(len(one), number) for number, one in enumerate(seen)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    joined = {key: np.concatenate(values) for key, values in columns.items()}
    np.savez_compressed(path, name=np.array(name), **joined)


def read_answers(path: Path) -> tuple[str, Outcomes]:
    """Reads what `write_answers` wrote, with its name."""
    with np.load(path) as held:
        columns = {key: held[key] for key in held.files}
    name = str(columns.pop("name"))
    columns.pop("part")
    labels = columns.pop("labels")
    original = {new: old for old, new in _RENAMED.items()}
    outputs = {original.get(key, key): value for key, value in columns.items()}
    return name, outcomes_from(labels, outputs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path)
    source.add_argument("--config", type=Path)
    parser.add_argument("--splits", default="calibration,test")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--name")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _of_run(args: argparse.Namespace) -> list[Outcomes]:
    run = load_run(args.run, args.config, args.set)
    return [
        observe(run.localizer, run.held_out(split), flip=True, background=run.data.background)
        for split in args.splits.split(",")
    ]


def _of_folds(args: argparse.Namespace, console: Console) -> list[Outcomes]:
    settings = [
        "data.split.val=0.0",
        "data.split.test=0.0",
        "data.split.calibration=0.0",
        f"train.epochs={EPOCHS}",
        "train.warmup_epochs=0.5",
        "train.steps_per_epoch=1",
        "train.precision=float32",
        f"train.seed={args.seed}",
    ]
    config = load_config(args.config, [*settings, *args.set])
    arm = Arm("start", config.model.backbone.weights != "none", FineTuneConfig())
    found = DataSource(config).records
    trainer, seen = None, []
    for fold, part in enumerate(folds(found, args.folds, args.seed)):
        trainer = trainer or Trainer(config, part, args.steps)
        measured = trainer.run(arm, part, args.seed)
        console.print(f"fold {fold + 1}:", {key: measured[key] for key in ("images", "top1_loc")})
        data = trainer.data(part, args.seed)
        seen.append(observe(trainer.localizer, data.held_out("test"), flip=True))
    return seen


if __name__ == "__main__":
    main()
