"""Shares of batches: together they are the batch, and padding counts nowhere."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras.data.digits_data import build_digits_data
from loc_keras.data.pipeline import Share, in_pieces
from loc_keras.training.model import with_targets

BATCH = 8


@pytest.fixture(scope="module")
def data():
    """Digits whose validation images, 13 = 8 + 5, no number of workers divides."""
    return build_digits_data(
        batch_size=BATCH,
        limit=13,
        canvas=32,
        augment={"mixup": 0.4, "mix_probability": 0.9},
    )


def batches(dataset, count):
    return [tf.nest.map_structure(np.asarray, one) for one in dataset.take(count)]


def test_shares_are_the_batch_also_where_images_are_mixed_across_their_borders(data):
    count = 4
    whole = batches(data.train(3), 2)
    parts = [batches(data.train(3, share=Share(i, count)), 2) for i in range(count)]
    for step, (images, targets) in enumerate(whole):
        shares = [part[step] for part in parts]
        np.testing.assert_array_equal(np.concatenate([s[0] for s in shares]), images)
        for name, value in targets.items():
            np.testing.assert_array_equal(np.concatenate([s[1][name] for s in shares]), value)


@pytest.mark.parametrize(("count", "pieces"), [(1, 2), (2, 1), (2, 2), (4, 1)])
def test_shares_of_held_out_images_hold_each_once_and_are_equally_long(data, count, pieces):
    whole = batches(data.val, 9)
    parts = [batches(data.val_share(share=Share(i, count, pieces)), 9) for i in range(count)]
    assert [len(images) for images, _ in whole] == [8, 5]
    for step, (images, _) in enumerate(whole):
        shares = [part[step] for part in parts]
        assert len({len(share[0]) for share in shares}) == 1
        assert len(shares[0][0]) % pieces == 0
        kept = np.concatenate([share[0][share[2] > 0] for share in shares])
        np.testing.assert_array_equal(kept, images)


@settings(deadline=None, max_examples=25)
@given(
    size=st.integers(1, 40),
    batch=st.integers(1, 5),
    count=st.integers(1, 4),
    pieces=st.integers(1, 2),
)
def test_weights_make_keras_mean_the_mean_over_the_images(size, batch, count, pieces):
    # Keras adds each batch's weighted sum of losses and divides by the number of images, whatever
    # their weights are; the mean over the images is what that has to come to.
    batch_size = batch * count * pieces
    losses = np.random.default_rng(size).random(size)
    total = made = 0.0
    for index in range(count):
        share = Share(index, count, pieces)
        for number in range(-(-size // batch_size)):
            rows = {"index": tf.range(number * batch_size, min(size, (number + 1) * batch_size))}
            held = share.held_out_rows(rows)["index"].numpy()
            weights = share.weights(tf.constant(number, tf.int64), size, batch_size).numpy()
            assert len(weights) == len(held)
            total += float(np.sum(weights * losses[held]))
            made += len(held)
    assert total / made == pytest.approx(losses.mean(), rel=1e-6)


def test_pieces_follow_each_other():
    cut = in_pieces(tf.data.Dataset.range(12).batch(6).map(lambda x: (x, {"y": x})), 3)
    assert [x.tolist() for x, _ in cut.as_numpy_iterator()] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8, 9],
        [10, 11],
    ]


def test_weights_of_images_multiply_those_of_the_background():
    boxes = [[0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.5, 0.5]]  # The first shows no object.
    targets = {"softmax": tf.constant([0, 1]), "bbox": tf.constant(boxes)}
    one = tf.data.Dataset.from_tensors((tf.zeros((2, 4, 4, 1)), targets, tf.constant([2.0, 0.5])))
    names = ["softmax", "bbox"]
    _, _, weights = next(iter(with_targets(one, names, background=True)))
    assert weights["softmax"].numpy().tolist() == [2.0, 0.5]
    assert weights["bbox"].numpy().tolist() == [0.0, 0.5]
    _, _, weights = next(iter(with_targets(one, names, background=False)))
    assert weights["bbox"].numpy().tolist() == [2.0, 0.5]
