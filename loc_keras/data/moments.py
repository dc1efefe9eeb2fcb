"""Mean and variance of the training pixels, measured by streaming over batches."""

import numpy as np
import tensorflow as tf


def pixel_moments(dataset: tf.data.Dataset, steps: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel over the first batches of a dataset.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979) in float64,
    which does not cancel where the mean is large against the deviation.

    Args:
        dataset: Batches `(images, ...)`, images numeric (B, H, W, C) in 0..255.
        steps: Batches to read, or None to read a finite dataset to its end.

    Returns:
        float64 (C,) mean and float64 (C,) population variance, in pixel units 0..255.

    Raises:
        ValueError: If there is no pixel to measure.
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
