"""Which devices train together, and how batches and models reach them.

The batch of the config is the global one, whatever trains on it: each device takes an equal share,
and the gradients of all are added. So the number of devices changes no setting of the training.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context  # TensorFlow offers these settings nowhere else.

from loc_keras.config.train import TrainConfig
from loc_keras.data.dataset import HeldOutShare, TrainStream
from loc_keras.data.pipeline import Share, in_pieces
from loc_keras.errors import LocKerasError, TrainingError, WorkerLostError
from loc_keras.training.cluster import VARIABLE, Cluster, cluster_from_environment

Prepare = Callable[[tf.data.Dataset], tf.data.Dataset]

WHOLE = Share(0, 1)
_INT32_BYTES = 4

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""What TensorFlow raises in the others when a worker is gone, depending on the moment."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """The devices that train together; without a strategy one, without a cluster those of here."""

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
        """The training batches from a global step on, as `fit` takes them, see `spread`."""
        return self.spread(
            lambda share: prepare(
                train(first_step) if share is None else train(first_step, share=share)
            )
        )

    def held_out_batches(
        self, whole: tf.data.Dataset, of_share: HeldOutShare | None, prepare: Prepare
    ) -> Any:
        """Batches to measure by, as `spread` gives them; for several devices from `of_share`."""
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
        """Gives every device its part of each batch, as `keras.Model.fit` takes it.

        `make` builds the batches, or a worker's share of each; shares have as many batches.
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
        if self.cluster is not None and self.strategy is not None:
            self._sum(np.ones(1, np.int32))

    def on_any(self, flag: bool) -> bool:
        """Whether a flag is set on one worker at least; all of them must call this."""
        if self.cluster is None:
            return flag
        return bool(self._sum(np.array([flag], np.int32))[0])

    def from_chief(self, content: bytes) -> bytes:
        """What the chief gave, for all workers; all of them must call this."""
        if self.cluster is None:
            return content
        own = content if self.is_chief else b""
        (length,) = self._sum(np.array([len(own)], np.int64))
        if length == 0:  # TensorFlow's exchange of no number ends the process.
            return b""
        # Sums of the chief's int32, the smallest type that workers can add, and all others' zeros.
        padded = own.ljust(-(-int(length) // _INT32_BYTES) * _INT32_BYTES, b"\0")
        return self._sum(np.frombuffer(padded, np.int32)).tobytes()[: int(length)]

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Adds the values of all workers, each counted once however many devices it has."""
        return np.asarray(self._adder(tf.constant(values)))

    @cached_property
    def _adder(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """In a graph, traced once for each shape: else the strategy is slow, and warns of it."""
        strategy = self.strategy
        assert strategy is not None
        of_worker = max(1, self.replicas // self.workers)

        def part(values: tf.Tensor) -> tf.Tensor:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            first = tf.equal(tf.convert_to_tensor(replica) % of_worker, 0)
            return tf.where(first, values, tf.zeros_like(values))

        def add(values: tf.Tensor) -> tf.Tensor:
            parts = strategy.run(part, args=(values,))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

        return tf.function(add)

    @contextmanager
    def watching(self, how_to_resume: str) -> Iterator[None]:
        """Raises one sentence where another worker was lost, in place of TensorFlow's many."""
        try:
            yield
        except LOST as error:
            if self.cluster is None:
                raise
            raise WorkerLostError(
                f"worker {self.cluster.index} of {self.workers} lost its connection to another "
                f"one ({type(error).__name__}), which ended or cannot be reached; {how_to_resume}"
            ) from error

    def describe(self) -> str:
        """Which devices there are, for the user."""
        devices = f"{self.replicas} devices" if self.replicas > 1 else "one device"
        return f"{devices} in {self.workers} workers" if self.workers > 1 else devices


ALONE = Distribution()  # One process on one device.


def distribution(
    strategy: str, *, batch_size: int, environment: Mapping[str, str] = os.environ
) -> Distribution:
    """Chooses the devices; with several workers it waits until all of them are there.

    It has to come before TensorFlow's first operation. The strategy is "single", "mirrored",
    "multi_worker" or "auto": multi_worker where TF_CONFIG in the environment names several workers,
    mirrored where several GPUs are visible, else single. The batch is the global one.

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
        set_worker_timeouts()
        with Distribution(cluster=cluster).watching("start all workers within some minutes."):
            devices = Distribution(PatchedMultiWorkerStrategy(), cluster)
    elif cluster is not None:
        raise TrainingError(
            f"{VARIABLE} names {len(cluster.workers)} workers, which would all write the same run, "
            f"since train.strategy is {strategy}; set it to auto or unset {VARIABLE}."
        )
    elif strategy == "mirrored" and len(_devices()) > 1:
        devices = Distribution(tf.distribute.MirroredStrategy(_devices()))
    else:
        devices = ALONE
    _refuse_uneven(batch_size, devices.replicas, "devices")
    return devices


def refuse_for_devices(devices: Distribution, train: TrainConfig) -> None:
    """Refuses settings that fail on several devices, with TrainingError.

    Keras 3.15 adds up gradients within a condition, where TensorFlow's strategies cannot exchange
    them; and TensorFlow 2.21 has no exchange between processors that XLA could compile.
    """
    if devices.strategy is None:
        return
    if train.accumulate > 1:
        raise TrainingError(
            f"train.accumulate {train.accumulate} is for one device; set it to 1: several devices "
            "hold a larger batch."
        )
    if train.xla == "on":
        raise TrainingError(
            "train.xla: on is for one device, since XLA cannot compile the exchange between "
            "several; set it to off."
        )


def small_share_note(devices: Distribution, train: TrainConfig) -> str | None:
    """One sentence where the results depend on the number of devices."""
    if devices.replicas == 1 or train.sync_batch_norm:
        return None
    return (
        f"each of the {devices.replicas} devices normalises by its own "
        f"{train.batch_size // devices.replicas} of {train.batch_size} images, so that results "
        "differ from those of one device; train.sync_batch_norm: true uses all of them."
    )


@contextmanager
def released_workers(devices: Distribution) -> Iterator[None]:
    """Lets the other workers end after the chief has done the rest.

    So they do after an error of the user; after a fault of ours they notice that the chief is gone.
    """
    try:
        yield
    except LocKerasError:
        _release(devices)
        raise
    _release(devices)


def _release(devices: Distribution) -> None:
    with suppress(*LOST):
        devices.meet()


def _devices() -> list[str]:
    kind = "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def _refuse_uneven(batch_size: int, parts: int, what: str) -> None:
    if batch_size % parts:
        below = batch_size // parts * parts
        near = f"{below} or {below + parts}" if below else f"{parts}"
        raise TrainingError(
            f"train.batch_size {batch_size} cannot be shared evenly by {parts} {what}; "
            f"set it to a multiple of {parts}, such as {near}."
        )


class PatchedMultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy for several workers, with `reduce` as Keras 3 calls it.

    Up to Keras 3.15 at least, `fit` reduces scalars along axis 0 (issue 20585), which fails.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        """As TensorFlow's; a structure gives the first replica's, of which Keras asks the shapes.

        Axis 0 of scalars is taken as None.
        """
        if tf.nest.is_nested(value):
            return tf.nest.map_structure(lambda one: self.experimental_local_results(one)[0], value)
        if axis == 0 and self.experimental_local_results(value)[0].shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis=axis)


HEARTBEAT_SECONDS = 100
"""TensorFlow's own 10 s end a training on busy machines: while a model is traced, a starved
process may not get to answer for longer. A process that ends is noticed at once all the same, since
its connections break; only a machine that falls silent is noticed this late."""

END_SECONDS = 30  # How long a worker that ends waits for the others to end.


def set_worker_timeouts() -> None:
    """Sets these times for the workers in TF_CONFIG; comes before their strategy is made."""
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    coordination = config_pb2.ConfigProto().experimental.coordination_config
    jobs = [job for job in ("chief", "worker") if job in cluster.jobs]
    for job in jobs:
        coordination.coordinated_job_list.add(name=job, num_tasks=cluster.num_tasks(job))
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
        shutdown_barrier_timeout_in_ms=END_SECONDS * 1000,
        coordinated_jobs=list(coordination.coordinated_job_list),
    )
