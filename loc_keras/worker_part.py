"""What the workers of a training do that are not its chief, and how the chief treats them."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from loc_keras.errors import LocKerasError, TrainingError
from loc_keras.training.cluster import Cluster
from loc_keras.training.distribution import LOST, Distribution
from loc_keras.training.plan import FitPlan

GO_ON = (
    "start all workers again, with --resume and the run folder: the run goes on from its last "
    "checkpoint."
)
"""What to do after a worker was lost."""


def refuse_for_workers(args: argparse.Namespace, cluster: Cluster | None) -> None:
    """Refuses arguments of `train` that several workers cannot follow alike.

    Raises:
        TrainingError: If there is one.
    """
    if cluster is None:
        return
    if args.data is not None:
        raise TrainingError(
            "with several workers every one must read the same settings, and each would find its "
            "own for --data; write them to a file first, by --write-config FILE and without "
            "TF_CONFIG, and give --config FILE."
        )
    if args.overfit_batch or args.find_lr or args.find_batch:
        raise TrainingError(
            "--overfit-batch, --find-lr and --find-batch work in one process; run them without "
            "TF_CONFIG."
        )


def refuse_for_devices(devices: Distribution, plan: FitPlan) -> None:
    """Refuses settings that Keras and TensorFlow fail at on several devices, once they trace.

    Keras 3.15 adds up gradients within a condition, where TensorFlow's strategies cannot exchange
    them; and TensorFlow 2.21 has no exchange between processors that XLA could compile.

    Raises:
        TrainingError: If there is one.
    """
    if devices.strategy is None:
        return
    if plan.accumulate > 1:
        raise TrainingError(
            f"train.accumulate {plan.accumulate} is for one device; set it to 1: several devices "
            "hold a larger batch."
        )
    if plan.jit_compile:
        raise TrainingError(
            "train.xla: on is for one device, since XLA cannot compile the exchange between "
            "several; set it to off."
        )


def small_share_note(devices: Distribution, plan: FitPlan) -> str | None:
    """One sentence where the results depend on the number of devices."""
    if devices.replicas == 1 or plan.sync_batch_norm:
        return None
    return (
        f"each of the {devices.replicas} devices normalises by its own "
        f"{plan.batch_size // devices.replicas} of {plan.batch_size} images, so that results "
        "differ from those of one device; train.sync_batch_norm: true uses all of them."
    )


def help_chief(devices: Distribution, fit: Callable[..., Any]) -> int:
    """Trains along with the chief, which alone writes and prints, and ends when it does.

    Args:
        devices: All that train.
        fit: Trains; takes a folder, which is thrown away.
    """
    with devices.watching(GO_ON):
        with tempfile.TemporaryDirectory(prefix="loc_keras-worker-") as folder:
            fit(folder=Path(folder))
        devices.meet()
    return 0


@contextmanager
def released_workers(devices: Distribution) -> Iterator[None]:
    """Lets the other workers end after the chief has done the rest.

    They also end well where the chief could not do something of it that its user must mend; after
    a fault of ours they are left to notice that the chief is gone.
    """
    try:
        yield
    except LocKerasError:
        _let_go(devices)
        raise
    _let_go(devices)


def _let_go(devices: Distribution) -> None:
    """A worker that is lost by now is missed by nobody: the run is whole."""
    with suppress(*LOST):
        devices.meet()
