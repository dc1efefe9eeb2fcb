"""Which image comes when: index streams that are pure functions of seed, epoch and step."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

TRAIN, VALIDATION, TEST, CALIBRATION = range(4)
"""Numbers that keep the random streams of the splits apart."""


def steps_per_epoch(size: int, batch_size: int) -> int:
    """Full batches in one training epoch; at least one (see `train_stream`)."""
    return _slots(size, batch_size) // batch_size


def train_stream(
    size: int, batch_size: int, seed: int, *, columns: int, start_step: int = 0
) -> tf.data.Dataset:
    """Endless stream of shuffled index batches with the random numbers of each image.

    Every epoch shuffles anew. The images that do not fill its last batch are left out of that
    epoch (others of them in each). With fewer images than a batch, an epoch is one batch that
    repeats images as evenly as possible.

    Args:
        size: Number of images, >= 1.
        batch_size: Images in every batch, >= 1.
        seed: Any integer in 0..2**63-1.
        columns: Random numbers wanted for each image.
        start_step: Batch at which to start; the stream from there on equals the full
            stream after that many batches.

    Returns:
        Elements `{"index": int64 (B,), "draws": float32 (B, columns)}`, draws uniform in
        [0, 1) and keyed by seed, epoch and index.
    """
    slots = _slots(size, batch_size)
    steps = slots // batch_size
    first_epoch, first_step = divmod(start_step, steps)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        key = _epoch_key(seed, TRAIN, epoch)
        keys = tf.random.split(key, 2, alg="philox")
        order = tf.random.experimental.stateless_shuffle(
            tf.range(slots, dtype=tf.int64), keys[0], alg="philox"
        )
        draws = _uniform(slots, columns, keys[1])
        start = tf.where(tf.equal(epoch, first_epoch), tf.cast(first_step, tf.int64), 0)

        def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
            slot = tf.slice(order, [step * batch_size], [batch_size])
            return {
                "index": tf.ensure_shape(slot % size, [batch_size]),
                "draws": tf.ensure_shape(tf.gather(draws, slot), [batch_size, columns]),
            }

        return tf.data.Dataset.range(start, steps).map(batch)

    return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_batches)


def batch_indices(size: int, batch_size: int, seed: int, step: int) -> npt.NDArray[np.int64]:
    """Indices of the images in one batch of the training stream, int64 (B,).

    Args:
        size: As in `train_stream`.
        batch_size: Likewise.
        seed: Likewise.
        step: Which batch, from 0, over all epochs.
    """
    stream = train_stream(size, batch_size, seed, columns=0, start_step=step)
    return next(iter(stream))["index"].numpy()


def eval_stream(
    size: int, batch_size: int, seed: int, split: int, *, columns: int
) -> tf.data.Dataset:
    """Every index once and in order, with random numbers fixed by seed and split.

    Args:
        size: Number of images, >= 1.
        batch_size: Images in every batch but the last, which may hold fewer.
        seed: Any integer in 0..2**63-1.
        split: `VALIDATION`, `TEST` or `CALIBRATION`.
        columns: Random numbers wanted for each image.

    Returns:
        Elements as `train_stream`, of known cardinality.
    """
    with tf.device("CPU:0"):  # As in `train_stream`, where the pipeline draws them.
        draws = _uniform(size, columns, _epoch_key(seed, split, tf.zeros([], tf.int64)))
        rows = {"index": tf.range(size, dtype=tf.int64), "draws": draws}
        return tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)


def _slots(size: int, batch_size: int) -> int:
    """Places in one epoch: the size, or its first multiple that fills a batch."""
    return size if size >= batch_size else -(-batch_size // size) * size


def _epoch_key(seed: int, split: int, epoch: tf.Tensor) -> tf.Tensor:
    base = tf.constant([seed, split], tf.int64)
    return tf.random.fold_in(base, epoch, alg="philox")


def _uniform(rows: int, columns: int, key: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([rows, columns], key, alg="philox")
