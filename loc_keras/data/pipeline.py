"""Input pipelines: from a stream of indices to batches of images and targets."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from loc_keras.data import streams
from loc_keras.data.fused_sources import Sources
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.memory import fits_in_memory
from loc_keras.data.share import Share

Targets = dict[str, tf.Tensor]
BatchFn = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, Targets]]
AugmentFn = Callable[[tf.Tensor, Targets, tf.Tensor], tuple[tf.Tensor, Targets]]
SourcesFn = Callable[[Sources, Targets, tf.Tensor, ImageFormat], tuple[tf.Tensor, Targets]]
Fetch = Callable[[tf.data.Dataset], tf.data.Dataset]


@dataclass(frozen=True)
class ImageSet:
    """The images of one split, whatever they are made from.

    Attributes:
        size: Number of images.
        columns: Uniform random numbers that making one image takes.
        fetch: Turns a dataset of `{"index", "draws"}` batches into one of
            `(images, targets, draws)`, where `draws` lost its first `columns`.
        unresized: The same before the pictures are resized, where there is a way to have them so.
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
        apply_sources: The same, `apply_sources(sources, targets, draws, form)`, for pictures that
            are not resized yet; None where nothing is resampled.
        reach: Images behind an image in its batch that changing it takes; the first follows the
            last.
    """

    columns: int
    apply: AugmentFn
    apply_sources: SourcesFn | None = None
    reach: int = 0


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
    """Endless shuffled training stream of `(images, targets)`; see `streams.train_stream`.

    With a share it gives, and makes, only that part of every batch.

    Where images come unresized and the augmentation resamples them, both are done in one
    resampling. Their pixels then differ a little from those of images that are kept resized: they
    are sharper. Boxes and draws are the same.
    """
    extra = augmentation.columns if augmentation else 0
    stream = streams.train_stream(
        images.size, batch_size, seed, columns=images.columns + extra, start_step=start_step
    )
    reach = augmentation.reach if augmentation else 0
    if share is not None:
        stream = stream.map(lambda rows: share.training_rows(rows, batch_size, reach))
    if augmentation is None:
        batches = images.fetch(stream).map(_drop_draws)
    elif augmentation.apply_sources is not None and images.unresized is not None:
        move = _moved_to(images.unresized.form, augmentation.apply_sources)
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
    """Every image once, in order, the same in each pass.

    With a share it gives, and makes, only that part of every batch, filled up so that all shares
    are equal, and weights in which what fills it counts 0; see `Share.weights`.

    Args:
        images: The split.
        batch_size: Images in every batch but the last.
        seed: Seed of the random numbers that making the images takes.
        split: `streams.VALIDATION` or `streams.TEST`.
        image_shape: (height, width, channels), to judge the size of a cache.
        cache: `"auto"` keeps the images in memory after the first pass where they fit,
            `"memory"` does in any case, `"none"` makes them anew in each pass.
        share: The part to give; None for whole batches.

    Returns:
        Dataset of known cardinality of `(images, targets)`, with a share of `(images, targets,
        weights)`, weights float32 (B,).
    """
    stream = streams.eval_stream(images.size, batch_size, seed, split, columns=images.columns)
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


def side_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Gives one side, or (height, width), as (height, width)."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def use_cache(cache: str, num_bytes: int) -> bool:
    """Whether to hold this many bytes in memory under `cache` as in `eval_dataset`."""
    return cache == "memory" or (cache == "auto" and fits_in_memory(num_bytes))


def _moved_to(form: ImageFormat, move: SourcesFn) -> Callable[..., tuple[tf.Tensor, Targets]]:
    return lambda sources, targets, draws: move(sources, targets, draws, form)


def _drop_draws(images: tf.Tensor, targets: Targets, draws: tf.Tensor) -> tuple[tf.Tensor, Targets]:
    del draws
    return images, targets
