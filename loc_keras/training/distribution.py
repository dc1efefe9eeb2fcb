"""Which devices train together, and how batches and models reach them.

The batch of the config is the global one, whatever trains on it: each device takes an equal share,
and the gradients of all are added. So the number of devices changes no setting of the training.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from loc_keras.data.localization_data import HeldOutShare, TrainStream
from loc_keras.data.share import Share, in_pieces
from loc_keras.errors import TrainingError, WorkerLostError
from loc_keras.training.cluster import VARIABLE, Cluster, cluster_from_environment
from loc_keras.training.keras_multi_worker import strategy_for_keras
from loc_keras.training.worker_heartbeat import be_patient

Prepare = Callable[[tf.data.Dataset], tf.data.Dataset]

WHOLE = Share(0, 1)

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""What TensorFlow raises in the others when a worker is gone; which one, depends on the moment."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """The devices that train together.

    Attributes:
        strategy: TensorFlow's strategy; None for one device.
        cluster: The workers; None for this process alone.
    """

    strategy: tf.distribute.Strategy | None = None
    cluster: Cluster | None = None

    @property
    def replicas(self) -> int:
        """Devices of all workers together."""
        return self.strategy.num_replicas_in_sync if self.strategy is not None else 1

    @property
    def workers(self) -> int:
        """Processes that train together."""
        return len(self.cluster.workers) if self.cluster else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes and prints; one that trains alone does."""
        return self.cluster is None or self.cluster.is_chief

    def scope(self) -> AbstractContextManager[Any]:
        """Within it variables are made on all devices."""
        return self.strategy.scope() if self.strategy is not None else nullcontext()

    def train_batches(self, train: TrainStream, first_step: int, prepare: Prepare) -> Any:
        """The training batches from a global step on, as `spread` gives them.

        Args:
            train: Builds them.
            first_step: Where to begin.
            prepare: Brings them into the form that `fit` takes.
        """
        return self.spread(
            lambda share: prepare(
                train(first_step) if share is None else train(first_step, share=share)
            )
        )

    def held_out_batches(
        self, whole: tf.data.Dataset, of_share: HeldOutShare | None, prepare: Prepare
    ) -> Any:
        """Batches to measure by, as `spread` gives them.

        Args:
            whole: All of them.
            of_share: Builds a share of them; only several devices need it.
            prepare: As in `train_batches`.
        """
        if self.strategy is None:
            return prepare(whole)
        if of_share is None:
            raise ValueError("several devices need shares of the images to measure by")
        # Endless, with `held_out_steps` of them read in each pass: at the end of a finite one
        # TensorFlow hands out a batch without images, which Keras counts in the means of losses.
        return self.spread(lambda share: prepare(of_share(share=share or WHOLE)).repeat())

    def held_out_steps(self, whole: tf.data.Dataset) -> int | None:
        """How many batches of `held_out_batches` are a pass; None where they end by themselves."""
        return None if self.strategy is None else int(whole.cardinality())

    def spread(self, make: Callable[[Share | None], tf.data.Dataset]) -> Any:
        """Gives every device its part of each batch.

        Args:
            make: Builds the batches, or a worker's share of each; all shares must be cut into as
                many batches, since the workers wait for each other at each.

        Returns:
            What `keras.Model.fit` takes.
        """
        if self.strategy is None:
            return make(None)

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            pieces = self.replicas // context.num_input_pipelines
            share = Share(context.input_pipeline_id, context.num_input_pipelines, pieces)
            return in_pieces(make(share), pieces)

        # Not `experimental_distribute_dataset`: its sharding by file or element comes after ours.
        return self.strategy.distribute_datasets_from_function(of_worker)

    def meet(self) -> None:
        """Waits until every worker has come here."""
        strategy = self.strategy
        if self.cluster is None or strategy is None:
            return

        def together() -> tf.Tensor:
            one = strategy.run(lambda: tf.constant(1.0))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, one, axis=None)

        # In a graph: outside of one the strategy is slow, and says so.
        tf.function(together)()

    @contextmanager
    def watching(self, how_to_resume: str) -> Iterator[None]:
        """Says in one sentence that another worker was lost, instead of TensorFlow's many.

        Args:
            how_to_resume: What to do, as the end of a sentence.
        """
        try:
            yield
        except LOST as error:
            if self.cluster is None:
                raise
            raise WorkerLostError(
                f"worker {self.cluster.index} of {self.workers} lost its connection to another "
                f"one ({type(error).__name__}), which ended or cannot be reached; {how_to_resume}"
            ) from error

    def words(self) -> str:
        """Which devices there are, for the user."""
        devices = f"{self.replicas} devices" if self.replicas > 1 else "one device"
        return f"{devices} in {self.workers} workers" if self.workers > 1 else devices


ALONE = Distribution()
"""One process on one device."""


def distribution(
    strategy: str, *, batch_size: int, environment: Mapping[str, str] = os.environ
) -> Distribution:
    """Chooses the devices; with several workers it waits until all of them are there.

    It has to come before TensorFlow's first operation.

    Args:
        strategy: "single", "mirrored", "multi_worker" or "auto": multi_worker where TF_CONFIG
            names several workers, mirrored where several GPUs are visible, else single.
        batch_size: Images in a global batch.
        environment: Holds TF_CONFIG.

    Raises:
        TrainingError: If the strategy does not fit TF_CONFIG, or the batch the devices.
    """
    cluster = cluster_from_environment(environment)
    if strategy == "auto":
        strategy = "multi_worker" if cluster else "mirrored" if len(_devices()) > 1 else "single"
    if strategy == "multi_worker":
        if cluster is None:
            raise TrainingError(
                f"train.strategy is multi_worker, but {VARIABLE} names no other worker; set it in "
                "every process, or start them by python -m loc_keras.train_workers."
            )
        _refuse_uneven(batch_size, len(cluster.workers), "workers")
        be_patient()
        with Distribution(cluster=cluster).watching("start all workers within some minutes."):
            found = Distribution(strategy_for_keras(), cluster)
    elif cluster is not None:
        raise TrainingError(
            f"{VARIABLE} names {len(cluster.workers)} workers, which would all write the same run, "
            f"since train.strategy is {strategy}; set it to auto or unset {VARIABLE}."
        )
    elif strategy == "mirrored" and len(_devices()) > 1:
        found = Distribution(tf.distribute.MirroredStrategy(_devices()))
    else:
        found = ALONE
    _refuse_uneven(batch_size, found.replicas, "devices")
    return found


def _devices() -> list[str]:
    """Names of the GPUs or, where there are none, of the logical CPUs."""
    if tf.config.list_physical_devices("GPU"):
        return [device.name for device in tf.config.list_logical_devices("GPU")]
    return [device.name for device in tf.config.list_logical_devices("CPU")]


def _refuse_uneven(batch_size: int, parts: int, what: str) -> None:
    if batch_size % parts:
        below = batch_size // parts * parts
        near = f"{below} or {below + parts}" if below else f"{parts}"
        raise TrainingError(
            f"train.batch_size {batch_size} cannot be shared evenly by {parts} {what}; "
            f"set it to a multiple of {parts}, such as {near}."
        )
