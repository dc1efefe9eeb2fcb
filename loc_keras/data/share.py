"""The part of every batch that one of several workers makes."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Rows = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Share:
    """Consecutive images of every global batch: the first share, the second, and so on.

    Cut this way, the shares of all workers together are the batch that one process would make, in
    its order; so the sum of what they learn does not depend on their number.

    Attributes:
        index: Which share, 0..count - 1.
        count: Number of shares of a batch, one for each worker.
        pieces: Equal pieces that a share is cut into again, one for each device of a worker.
    """

    index: int
    count: int
    pieces: int = 1

    def training_rows(self, rows: Rows, batch_size: int, reach: int) -> Rows:
        """The rows of a full batch that this share needs.

        Args:
            rows: Tensors (B, ...).
            batch_size: B, divisible by `count`.
            reach: Following images, the last one's being the first, that making an image takes;
                they come behind the share, for `drop_reach` to take away.

        Returns:
            Tensors (B / count + reach, ...).
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

        Args:
            rows: Tensors (B, ...), B >= 1.

        Returns:
            Tensors (P / count, ...), P the first multiple of `count * pieces` not below B.
        """
        found = tf.shape(rows["index"], tf.int64)[0]
        size = self._filled(found) // self.count
        places = tf.minimum(tf.range(self.index * size, (self.index + 1) * size), found - 1)
        return {name: tf.gather(value, places) for name, value in rows.items()}

    def weights(self, batch: tf.Tensor, size: int, batch_size: int) -> tf.Tensor:
        """How much each image of a held-out share counts.

        Repeated images count 0. Keras divides sums of losses by the number of images, the repeated
        ones included; so the others count a little more than 1, by the same factor in all shares.

        Args:
            batch: Number of the batch, int64 scalar.
            size: Images in all batches together.
            batch_size: Images in every batch but the last.

        Returns:
            float32 (P / count,), as `held_out_rows`.
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


def in_pieces(dataset: tf.data.Dataset, pieces: int) -> tf.data.Dataset:
    """Cuts every batch into as many equal ones, in order.

    Args:
        dataset: Structures of tensors (B, ...), B divisible by `pieces`.
        pieces: How many.

    Returns:
        Structures of tensors (B / pieces, ...), `pieces` for each batch.
    """
    if pieces == 1:
        return dataset

    def cut(value: tf.Tensor) -> tf.Tensor:
        size = value.shape[0]
        shape = [pieces, -1 if size is None else size // pieces, *value.shape[1:]]
        return tf.reshape(value, shape)

    return dataset.map(lambda *batch: tf.nest.map_structure(cut, batch)).unbatch()
