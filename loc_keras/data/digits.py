"""The synthetic localization task: digits pasted at random places, rendered in batches.

A picture is a pure function of a digit's index and one row of uniform random numbers, so that
whoever draws the rows (keyed by seed, epoch and index) decides alone what is fresh and what is
fixed, and the batch size, the number of workers and the execution mode change nothing.
"""

import math

import numpy as np
import tensorflow as tf
from pydantic import Field, model_validator

from loc_keras.config.data import DIGIT_SIDE_PX, AugmentConfig, DigitsConfig
from loc_keras.data.geometry import linear_map, warp_affine
from loc_keras.errors import DataError

INK_THRESHOLD = 64
"""A pixel of at least this value (a quarter of full white) is ink, for tight boxes."""

SMALLEST_SQUARE_PX = 8  # Side of the smallest square in which digits are legible.
NOISE_BITS = 7  # Noise pixels are uniform in 0..127, half as bright as full ink.

CLUTTER_SIDES = (6, 10)
DISTRACTOR_SIDES = (10, 13)
"""Shortest and longest side of a fragment in pixels of the 28 px digit.

The longer side of a digit's ink measures 20 of them, so a fragment never shows more than two
thirds of its height or width, and the label stays unambiguous.
"""

# Columns of a row of draws; each fragment adds its own group behind them.
_PLACE_X, _PLACE_Y, _SIDE, _ROTATION, _SCALE, _SHEAR, _ASPECT, _NOISE_A, _NOISE_B = range(9)
_DIGIT_COLUMNS = 9
_FRAGMENT_COLUMNS = 7
_INK_MARGIN = 4  # MNIST's ink lies in the central 20 x 20 pixels of its 28 x 28.


class DigitTask(DigitsConfig):
    """What the pictures look like; the defaults are the published task (28 px on black 100 x 100).

    The side of the digit's square is drawn uniformly between the ends of `scale` and rounded to
    whole pixels. The clutter background follows the cluttered MNIST of Mnih et al. 2014: small
    crops of other digits.
    """

    clutter: int = Field(default=8, ge=0)
    """Crops of the clutter background."""

    @model_validator(mode="after")
    def _digit_is_legible(self) -> "DigitTask":
        if self.smallest_side < SMALLEST_SQUARE_PX:
            raise ValueError(
                f"scale {self.scale[0]} makes squares of {self.smallest_side} px: at least "
                f"{SMALLEST_SQUARE_PX} px are needed, so a scale of "
                f"{SMALLEST_SQUARE_PX / DIGIT_SIDE_PX:.2f}"
            )
        return self

    @property
    def smallest_side(self) -> int:
        """Side of the smallest digit square in pixels."""
        return round(DIGIT_SIDE_PX * self.scale[0])

    @property
    def largest_side(self) -> int:
        """Side of the largest digit square in pixels."""
        return round(DIGIT_SIDE_PX * self.scale[1])

    @property
    def clutter_count(self) -> int:
        """Number of small crops that are really drawn."""
        return self.clutter if self.background == "clutter" else 0


class DigitRenderer:
    """Renders digits of one split into pictures with labels and boxes."""

    def __init__(
        self,
        digits: np.ndarray,
        labels: np.ndarray,
        task: DigitTask,
        *,
        deformation: AugmentConfig | None = None,
        places: np.ndarray | None = None,
    ) -> None:
        """Keeps the digits of one split, so fragments never come from another one.

        Args:
            digits: uint8 (N, 28, 28).
            labels: integer (N,).
            task: Options of the picture.
            deformation: Random deformation inside the square, by the keys `digit_*` (training
                only). What leaves the square is cut off, so the square stays a true box.
            places: int (N, 2), fixed (left, top) pixel of each digit's square, or None for random.

        Raises:
            DataError: If fragments of other digits are asked for and there is no other digit.
        """
        self.task = task
        self.deformation = deformation if deformation and deformation.deforms_digits else None
        with tf.device("CPU:0"):  # Input pipelines run there; GPU memory is for the model.
            self._digits = tf.constant(digits, tf.uint8)
            self._labels = tf.constant(labels, tf.int32)
            self._places = None if places is None else tf.constant(places, tf.int32)
        self._count = len(digits)
        if task.clutter_count + task.distractors and self._count < 2:
            raise DataError("digits: clutter and distractors need at least 2 digits in each split.")

    @property
    def columns(self) -> int:
        """Number of uniform random numbers that one picture takes."""
        fragments = self.task.clutter_count + self.task.distractors
        return _DIGIT_COLUMNS + _FRAGMENT_COLUMNS * fragments

    def __call__(
        self, index: tf.Tensor, draws: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Renders the digits of an index (B,) by draws (B, columns), uniform in [0, 1).

        Gives images uint8 (B, canvas, canvas, 1) and the targets: `"softmax"` int32 (B,) and
        `"bbox"` float32 (B, 4), fractions (x1, y1, x2, y2) of the canvas side.
        """
        task = self.task
        side = whole(draws[:, _SIDE], task.smallest_side, task.largest_side)
        linear = None
        if self.deformation is not None:
            linear = deformation_maps(draws[:, _ROTATION : _ASPECT + 1], self.deformation)
        # Each digit fills the top left `side` pixels of its tile.
        tiles = self._resized(tf.gather(self._digits, index), side, linear)
        left, top = self._place(index, side, draws)
        images = paste(tiles, left, top, task.canvas)
        if task.background == "noise":
            images = tf.maximum(images, noise(draws[:, _NOISE_A : _NOISE_B + 1], task.canvas))
        images = self._with_fragments(images, index, side, draws)
        extent = ink_extent(tiles, side) if task.box == "tight" else square_extent(side)
        corner = tf.stack([left, top, left, top], axis=-1)
        # In float64, as a graph may divide by multiplying with the rounded reciprocal.
        boxes = tf.cast(extent + corner, tf.float64) / float(task.canvas)
        targets = {"softmax": tf.gather(self._labels, index), "bbox": tf.cast(boxes, tf.float32)}
        return images[..., tf.newaxis], targets

    def _resized(
        self, tiles: tf.Tensor, side: tf.Tensor, linear: tf.Tensor | None = None
    ) -> tf.Tensor:
        smallest, largest = self.task.smallest_side, self.task.largest_side
        if linear is None:
            if smallest == largest == DIGIT_SIDE_PX:
                return tiles
            linear = tf.eye(2, batch_shape=[tf.shape(side)[0]], dtype=tf.float64)
        sides = tf.cast(side, tf.float64)
        warped = warp_affine(
            tiles[..., tf.newaxis],
            linear * (sides / DIGIT_SIDE_PX)[:, tf.newaxis, tf.newaxis],
            tf.constant([DIGIT_SIDE_PX / 2] * 2, tf.float64),
            tf.stack([sides, sides], axis=-1) / 2,
            (largest, largest),
        )[..., 0]
        return warped if smallest == largest else keep_corner(warped, side, side)

    def _place(
        self, index: tf.Tensor, side: tf.Tensor, draws: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if self._places is not None:
            places = tf.gather(self._places, index)
            return places[:, 0], places[:, 1]
        last = self.task.canvas - side
        return whole(draws[:, _PLACE_X], 0, last), whole(draws[:, _PLACE_Y], 0, last)

    def _with_fragments(
        self, images: tf.Tensor, index: tf.Tensor, side: tf.Tensor, draws: tf.Tensor
    ) -> tf.Tensor:
        """Adds the clutter and the distractors, uint8 (B, canvas, canvas)."""
        start = _DIGIT_COLUMNS
        for count, sides in (
            (self.task.clutter_count, CLUTTER_SIDES),
            (self.task.distractors, DISTRACTOR_SIDES),
        ):
            if count:
                end = start + count * _FRAGMENT_COLUMNS
                rows = tf.reshape(draws[:, start:end], [-1, _FRAGMENT_COLUMNS])
                images = self._add_fragments(images, index, side, rows, count, sides)
                start = end
        return images

    def _add_fragments(
        self,
        images: tf.Tensor,
        index: tf.Tensor,
        side: tf.Tensor,
        rows: tf.Tensor,
        count: int,
        sides: tuple[int, int],
    ) -> tf.Tensor:
        """Adds `count` fragments to each picture, from float32 (B * count, 7) draws."""
        canvas = self.task.canvas
        side = tf.repeat(side, count)
        shortest, longest = sides[0] * side // DIGIT_SIDE_PX, sides[1] * side // DIGIT_SIDE_PX
        width, height = whole(rows[:, 0], shortest, longest), whole(rows[:, 1], shortest, longest)
        margin = _INK_MARGIN * side // DIGIT_SIDE_PX
        crop_x = whole(rows[:, 2], margin, side - margin - width)
        crop_y = whole(rows[:, 3], margin, side - margin - height)
        # A step of 1..N-1 on the ring of digits never comes back to the digit itself.
        step = whole(rows[:, 4], 1, self._count - 1)
        others = (tf.repeat(tf.cast(index, tf.int32), count) + step) % self._count
        tiles = self._resized(tf.gather(self._digits, others), side)
        # Cut down to the fragment first: pasting costs what the tile measures.
        tiles = paste(tiles, -crop_x, -crop_y, sides[1] * self.task.largest_side // DIGIT_SIDE_PX)
        tiles = keep_corner(tiles, width, height)
        left = whole(rows[:, 5], 0, canvas - width)
        top = whole(rows[:, 6], 0, canvas - height)
        for k in range(count):
            pasted = paste(tiles[k::count], left[k::count], top[k::count], canvas)
            images = tf.maximum(images, pasted)
        return images


def whole(uniform: tf.Tensor, low: tf.Tensor | int, high: tf.Tensor | int) -> tf.Tensor:
    """Maps float32 draws in [0, 1) to int32 whole numbers low..high, both included."""
    low, high = tf.cast(low, tf.int32), tf.cast(high, tf.int32)
    value = tf.cast(uniform * tf.cast(high - low + 1, tf.float32), tf.int32)
    # A draw just below 1 may round up to the count itself.
    return low + tf.minimum(value, high - low)


def deformation_maps(draws: tf.Tensor, deformation: AugmentConfig) -> tf.Tensor:
    """Random maps float64 (B, 2, 2) by draws (B, 4): rotation, scale, shear, aspect."""
    signed = tf.cast(draws, tf.float64) * 2.0 - 1.0
    size = tf.exp(signed[:, 1] * math.log1p(deformation.digit_scale))
    stretch = tf.exp(signed[:, 3] * (0.5 * math.log1p(deformation.digit_aspect)))
    return linear_map(
        rotation=signed[:, 0] * math.radians(deformation.digit_rotation),
        scale_x=size * stretch,
        scale_y=size / stretch,
        shear=signed[:, 2] * deformation.digit_shear,
    )


def noise(draws: tf.Tensor, canvas: int) -> tf.Tensor:
    """Uniform pixels 0..127, uint8 (B, canvas, canvas), each picture seeded by two draws (B, 2)."""
    seeds = tf.cast(draws * 2.0**23, tf.int32)
    # One 32-bit draw gives four pixels.
    words = (canvas * canvas + 3) // 4

    def one(seed: tf.Tensor) -> tf.Tensor:
        bits = tf.random.stateless_uniform(
            [words], seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
        )
        return tf.reshape(tf.bitcast(bits, tf.uint8), [-1])[: canvas * canvas]

    pixels = tf.map_fn(one, seeds, fn_output_signature=tf.uint8)
    pixels = tf.bitwise.right_shift(pixels, tf.constant(8 - NOISE_BITS, tf.uint8))
    return tf.reshape(pixels, [-1, canvas, canvas])


def keep_corner(tiles: tf.Tensor, width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Blacks out all but the top left columns and rows (B,) of each tile uint8 (B, S, S)."""
    place = tf.range(tf.shape(tiles)[1])
    columns, rows = place < width[:, tf.newaxis], place < height[:, tf.newaxis]
    mask = rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :]
    return tf.where(mask, tiles, tf.zeros_like(tiles))


def paste(tiles: tf.Tensor, left: tf.Tensor, top: tf.Tensor, canvas: int) -> tf.Tensor:
    """Puts each tile uint8 (B, S, S) on its own black canvas; what hangs over the edge is cut off.

    `left` and `top` int32 (B,), of any sign, are where the tile begins, in pixels.
    """
    # Two gathers, columns first: the second then copies whole rows, so the cost is that of
    # the small tile and not of the canvas.
    padded = tf.pad(tiles, [[0, 0], [0, 1], [0, 1]])
    side = tf.shape(tiles)[1]
    columns = _source_index(left, side, canvas)
    rows = _source_index(top, side, canvas)
    wide = tf.gather(padded, columns, axis=2, batch_dims=1)
    return tf.gather(wide, rows, axis=1, batch_dims=1)


def square_extent(side: tf.Tensor) -> tf.Tensor:
    """The whole square: int32 (B, 4), pixels (0, 0, side, side)."""
    zero = tf.zeros_like(side)
    return tf.stack([zero, zero, side, side], axis=-1)


def ink_extent(tiles: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Extent (x1, y1, x2, y2) of the ink of tiles uint8 (B, S, S), or the whole square, in px.

    It is int32 (B, 4), x2 and y2 one past the last ink pixel.
    """
    ink = tiles >= tf.constant(INK_THRESHOLD, tf.uint8)
    x1, x2 = _first_and_end(tf.reduce_any(ink, axis=1))
    y1, y2 = _first_and_end(tf.reduce_any(ink, axis=2))
    extent = tf.stack([x1, y1, x2, y2], axis=-1)
    has_ink = tf.reduce_any(ink, axis=[1, 2])
    return tf.where(has_ink[:, tf.newaxis], extent, square_extent(side))


def _first_and_end(present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Index of the first True of each row of bool (B, S), and one past the last."""
    number = tf.cast(present, tf.uint8)
    first = tf.argmax(number, axis=1, output_type=tf.int32)
    last = tf.argmax(tf.reverse(number, axis=[1]), axis=1, output_type=tf.int32)
    return first, tf.shape(present)[1] - last


def _source_index(start: tf.Tensor, side: tf.Tensor, canvas: int) -> tf.Tensor:
    """Tile index shown by each canvas index; `side` is the index of the zero padding."""
    index = tf.range(canvas)[tf.newaxis, :] - start[:, tf.newaxis]
    return tf.where((index >= 0) & (index < side), index, side)
