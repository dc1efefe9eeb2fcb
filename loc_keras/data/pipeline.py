"""Input pipelines: from a stream of indices to batches of images and targets.

Which image comes when, and what is drawn for it, is a pure function of seed, epoch and step.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loc_keras.data.resize import ImageFormat

TRAIN, VALIDATION, TEST, CALIBRATION = range(4)
"""Numbers that keep the random streams of the splits apart."""

CACHE_SHARE = 0.25  # Largest part of the free memory that a cache may take.

_UNKNOWN = 2 * 2**30  # Bytes assumed free where the system does not say.

Rows = dict[str, tf.Tensor]
Targets = dict[str, tf.Tensor]
BatchFn = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, Targets]]
AugmentFn = Callable[[tf.Tensor, Targets, tf.Tensor], tuple[tf.Tensor, Targets]]
SourcesFn = Callable[..., tuple[tf.Tensor, Targets]]
Fetch = Callable[[tf.data.Dataset], tf.data.Dataset]


@dataclass(frozen=True)
class ImageSet:
    """The images of one split, whatever they are made from.

    Making an image takes `columns` uniform random numbers. `fetch` turns a dataset of `{"index",
    "draws"}` batches into one of `(images, targets, draws)`, where `draws` lost these; `unresized`
    does so before the pictures are resized, if there is a way.
    """

    size: int
    columns: int
    fetch: Fetch
    unresized: "Unresized | None" = None


@dataclass(frozen=True)
class Unresized:
    """The images of one split, fetched as `(sources, targets, draws)`, and their common format."""

    form: ImageFormat
    fetch: Fetch


@dataclass(frozen=True)
class Augmentation:
    """What changes batches at random.

    Attributes:
        columns: The draws that one image takes.
        apply: Batch function `apply(images, targets, draws)`.
        apply_sources: Likewise `(sources, targets, draws, form)`, for pictures that are not resized
            yet; None where nothing is resampled.
        reach: Images behind an image in its batch that changing it takes; the first follows the
            last.
    """

    columns: int
    apply: AugmentFn
    apply_sources: SourcesFn | None = None
    reach: int = 0


@dataclass(frozen=True)
class Share:
    """Consecutive images of every global batch: the first share, the second, and so on.

    Cut this way, the shares of all workers together are the batch that one process would make, in
    its order; so the sum of what they learn does not depend on their number. There is one share a
    worker, cut again into equal `pieces`, one for each of its devices.
    """

    index: int
    count: int
    pieces: int = 1

    def training_rows(self, rows: Rows, batch_size: int, reach: int) -> Rows:
        """The rows of a full batch, tensors (B, ...), that this share needs.

        Behind the share, (B / count), come `reach` rows for `drop_reach` to take away; the first
        follows the last.
        """
        size = batch_size // self.count
        if self.count == 1:
            return rows
        places = tf.range(self.index * size, (self.index + 1) * size + reach) % batch_size
        return {name: tf.gather(value, places) for name, value in rows.items()}

    def drop_reach(self, batch: Any, batch_size: int) -> Any:
        """Takes away what `training_rows` added: structure of tensors (B / count + reach, ...)."""
        return tf.nest.map_structure(lambda value: value[: batch_size // self.count], batch)

    def held_out_rows(self, rows: Rows) -> Rows:
        """This share of a batch of any size, which is first filled up by repeating its last row.

        Tensors are (P / count, ...), P the first multiple of `count * pieces` from the rows given
        on.
        """
        found = tf.shape(rows["index"], tf.int64)[0]
        size = self._filled(found) // self.count
        places = tf.minimum(tf.range(self.index * size, (self.index + 1) * size), found - 1)
        return {name: tf.gather(value, places) for name, value in rows.items()}

    def weights(self, batch: tf.Tensor, size: int, batch_size: int) -> tf.Tensor:
        """How much each image of a held-out share counts, float32 (P / count,), as `held_out_rows`.

        Repeated images count 0. Keras divides sums of losses by the number of images, the repeated
        ones included; so the others count a little more than 1, by the same factor in all shares.
        `size` counts the images of all batches.
        """
        last = size % batch_size
        made = size - last + int(self._filled(last))
        found = tf.minimum(tf.constant(batch_size, tf.int64), size - batch * batch_size)
        part = self._filled(found) // self.count
        real = tf.range(self.index * part, (self.index + 1) * part) < found
        return tf.cast(real, tf.float32) * (made / size)

    def _filled(self, found: Any) -> Any:
        """The first number from `found` on that all devices share evenly."""
        parts = self.count * self.pieces
        return -(-found // parts) * parts


def batched_set(size: int, columns: int, function: BatchFn) -> ImageSet:
    """An image set whose batches are made at once from indices and draws."""

    def fetch(stream: tf.data.Dataset) -> tf.data.Dataset:
        def make(rows: dict[str, tf.Tensor]) -> tuple[tf.Tensor, Targets, tf.Tensor]:
            images, targets = function(rows["index"], rows["draws"][:, :columns])
            return images, targets, rows["draws"][:, columns:]

        return stream.map(make, num_parallel_calls=tf.data.AUTOTUNE)

    return ImageSet(size, columns, fetch)


def train_dataset(
    images: ImageSet,
    start_step: int = 0,
    *,
    batch_size: int,
    seed: int,
    augmentation: Augmentation | None = None,
    share: Share | None = None,
) -> tf.data.Dataset:
    """Endless shuffled training stream of `(images, targets)`, or a share; see `train_stream`.

    Where images come unresized and the augmentation resamples them, both are done in one
    resampling: pixels are a little sharper than those of images that are kept resized. Boxes and
    draws are the same.
    """
    extra = augmentation.columns if augmentation else 0
    stream = train_stream(
        images.size, batch_size, seed, columns=images.columns + extra, start_step=start_step
    )
    reach = augmentation.reach if augmentation else 0
    if share is not None:
        stream = stream.map(lambda rows: share.training_rows(rows, batch_size, reach))
    if augmentation is None:
        batches = images.fetch(stream).map(_drop_draws)
    elif augmentation.apply_sources is not None and images.unresized is not None:
        move = partial(augmentation.apply_sources, form=images.unresized.form)
        batches = images.unresized.fetch(stream).map(move, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        batches = images.fetch(stream).map(augmentation.apply, num_parallel_calls=tf.data.AUTOTUNE)
    if share is not None and reach:
        batches = batches.map(lambda *batch: share.drop_reach(batch, batch_size))
    return batches.prefetch(tf.data.AUTOTUNE)


def eval_dataset(
    images: ImageSet,
    *,
    batch_size: int,
    seed: int,
    split: int,
    image_shape: tuple[int, int, int],
    cache: str = "auto",
    share: Share | None = None,
) -> tf.data.Dataset:
    """Every image once, in order, the same in each pass, as `(images, targets)`.

    With a share it gives, and makes, only that part of every batch, filled up so that all shares
    are equal, and weights float32 (B,) in which what fills it counts 0; see `Share.weights`. The
    split is `VALIDATION`, `TEST` or `CALIBRATION`. `"auto"` as `cache` keeps the images in memory
    after the first pass where they fit, `"memory"` in any case, `"none"` makes them anew in each
    pass.
    """
    stream = eval_stream(images.size, batch_size, seed, split, columns=images.columns)
    if share is not None:
        stream = stream.map(share.held_out_rows)
    batches = images.fetch(stream).map(_drop_draws)
    cardinality = -(-images.size // batch_size)
    batches = batches.apply(tf.data.experimental.assert_cardinality(cardinality))
    if use_cache(cache, images.size * math.prod(image_shape)):
        batches = batches.cache()
    if share is not None:
        batches = batches.enumerate().map(
            lambda number, batch: (*batch, share.weights(number, images.size, batch_size))
        )
    return batches.prefetch(tf.data.AUTOTUNE)


def in_pieces(dataset: tf.data.Dataset, pieces: int) -> tf.data.Dataset:
    """Cuts every batch, structures of tensors (B, ...), into as many equal ones, in order."""
    if pieces == 1:
        return dataset

    def cut(value: tf.Tensor) -> tf.Tensor:
        size = value.shape[0]
        shape = [pieces, -1 if size is None else size // pieces, *value.shape[1:]]
        return tf.reshape(value, shape)

    return dataset.map(lambda *batch: tf.nest.map_structure(cut, batch)).unbatch()


def steps_per_epoch(size: int, batch_size: int) -> int:
    """Full batches in one training epoch; at least one (see `train_stream`)."""
    return _slots(size, batch_size) // batch_size


def train_stream(
    size: int, batch_size: int, seed: int, *, columns: int, start_step: int = 0
) -> tf.data.Dataset:
    """Endless stream of shuffled index batches with the random numbers of each image.

    Every epoch shuffles anew. The images that do not fill its last batch are left out of that epoch
    (others of them in each). With fewer images than a batch, an epoch is one batch that repeats
    images as evenly as possible. From `start_step` on the stream equals the full one after that
    many batches. Elements are `{"index": int64 (B,), "draws": float32 (B, columns)}`, draws uniform
    in [0, 1) and keyed by seed, epoch and index.
    """
    slots = _slots(size, batch_size)
    steps = slots // batch_size
    first_epoch, first_step = divmod(start_step, steps)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order, key = _epoch_order(slots, seed, epoch)
        draws = _uniform(slots, columns, key)
        start = tf.where(tf.equal(epoch, first_epoch), tf.cast(first_step, tf.int64), 0)

        def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
            slot = tf.slice(order, [step * batch_size], [batch_size])
            return {
                "index": tf.ensure_shape(slot % size, [batch_size]),
                "draws": tf.ensure_shape(tf.gather(draws, slot), [batch_size, columns]),
            }

        return tf.data.Dataset.range(start, steps).map(batch)

    return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_batches)


def batch_indices(
    size: int, batch_size: int, seed: int, step: int, steps: int = 1
) -> npt.NDArray[np.int64]:
    """Indices int64 (steps * B,) of the images in batches of the training stream from `step` on."""
    slots = _slots(size, batch_size)
    per_epoch = slots // batch_size
    numbers = np.arange(step, step + steps)
    found = []
    with tf.device("CPU:0"):  # As the pipeline draws them.
        for epoch in range(step // per_epoch, numbers[-1] // per_epoch + 1):
            order = _epoch_order(slots, seed, tf.constant(epoch, tf.int64))[0].numpy() % size
            places = numbers[numbers // per_epoch == epoch] % per_epoch
            found.append(order[: per_epoch * batch_size].reshape(per_epoch, batch_size)[places])
    return np.concatenate(found).ravel()


def eval_stream(
    size: int, batch_size: int, seed: int, split: int, *, columns: int
) -> tf.data.Dataset:
    """Every index once and in order, with random numbers fixed by seed and split.

    Elements are those of `train_stream`, of known cardinality; the last may hold fewer images.
    """
    with tf.device("CPU:0"):  # As in `train_stream`, where the pipeline draws them.
        draws = _uniform(size, columns, _epoch_key(seed, split, tf.zeros([], tf.int64)))
        rows = {"index": tf.range(size, dtype=tf.int64), "draws": draws}
        return tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)


def pixel_moments(dataset: tf.data.Dataset, steps: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance of each channel, float64 (C,), over a dataset's first batches.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979) in float64, which
    does not cancel where the mean is large against the deviation. Images are (B, H, W, C) in
    0..255; None for `steps` reads a finite dataset to its end. ValueError without a pixel.
    """
    count, mean, spread = 0, np.zeros(1), np.zeros(1)
    for images, *_ in dataset if steps is None else dataset.take(steps):
        pixels = np.asarray(images, np.float64)
        pixels = pixels.reshape(-1, pixels.shape[-1])
        batch_mean = pixels.mean(axis=0)
        batch_spread = np.square(pixels - batch_mean).sum(axis=0)
        total = count + len(pixels)
        delta = batch_mean - mean
        mean = mean + delta * (len(pixels) / total)
        spread = spread + batch_spread + np.square(delta) * (count * len(pixels) / total)
        count = total
    if count == 0:
        raise ValueError("pixel moments need at least one batch with images")
    return mean, spread / count


def use_cache(cache: str, num_bytes: int) -> bool:
    """Whether to hold this many bytes in memory under `cache` as in `eval_dataset`."""
    return cache == "memory" or (cache == "auto" and num_bytes <= CACHE_SHARE * free_memory())


def free_memory() -> int:
    """Bytes that can be allocated without swapping, as far as the system tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN


def _slots(size: int, batch_size: int) -> int:
    """Places in one epoch: the size, or its first multiple that fills a batch."""
    return size if size >= batch_size else -(-batch_size // size) * size


def _epoch_order(slots: int, seed: int, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Places of a training epoch in its order, int64 (slots,), and the key of its draws."""
    keys = tf.random.split(_epoch_key(seed, TRAIN, epoch), 2, alg="philox")
    order = tf.range(slots, dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(order, keys[0], alg="philox"), keys[1]


def _epoch_key(seed: int, split: int, epoch: tf.Tensor) -> tf.Tensor:
    base = tf.constant([seed, split], tf.int64)
    return tf.random.fold_in(base, epoch, alg="philox")


def _uniform(rows: int, columns: int, key: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([rows, columns], key, alg="philox")


def _drop_draws(images: tf.Tensor, targets: Targets, draws: tf.Tensor) -> tuple[tf.Tensor, Targets]:
    del draws
    return images, targets
