"""What finds a rate and a batch size, and what else a recipe may take: cycle, sums, balance."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.training_examples import plan, squares, tiny

from loc_keras.config.train import TrainConfig
from loc_keras.errors import TrainingError
from loc_keras.training import trials
from loc_keras.training.model import LogVariances, UncertainLoss, as_batch, compiled_training_model
from loc_keras.training.optimizer import learning_rate_schedule, make_optimizer
from loc_keras.training.trials import (
    BatchSpeed,
    RateSweep,
    batch_sizes,
    batch_speeds,
    has_diverged,
    running_mean,
    suggested_batch,
    sweep_rates,
)

pytestmark = pytest.mark.usefixtures("short_body")

# torch.optim.lr_scheduler.OneCycleLR of PyTorch 2.13, max_lr .01, 20 steps, no momentum.
TORCH_ONE_CYCLE = (
    *(0.0004, 0.00131672, 0.00371672, 0.00668328, 0.00908328, 0.01, 0.00987464),
    *(0.00950485, 0.00890916, 0.00811746, 0.00716943, 0.00611262, 0.00500002, 0.00388742),
    *(0.00283061, 0.00188258, 0.00109088, 0.000495194, 0.0001254, 4e-08),
)


def test_one_cycle_is_that_of_pytorch():
    rate = learning_rate_schedule(peak=0.01, schedule="one_cycle", warmup_steps=3, total_steps=20)
    found = [float(rate(step)) for step in range(20)]
    np.testing.assert_allclose(found, TORCH_ONE_CYCLE, rtol=1e-5, atol=2e-9)
    assert float(rate(50)) == pytest.approx(4e-8, abs=2e-9)
    again = type(rate).from_config(rate.get_config())
    assert float(again(7)) == float(rate(7))


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_one_cycle_of_few_steps_stays_between_its_ends(steps):
    rate = learning_rate_schedule(peak=1.0, schedule="one_cycle", warmup_steps=0, total_steps=steps)
    found = [float(rate(step)) for step in range(steps)]
    assert all(0 < one <= 1 for one in found)


def updated(gradients, accumulate, name, factors):
    """A weight after each batch, and its moving average at the end."""
    weight = keras.Variable([1.0, -2.0], name="w")
    train = TrainConfig(
        optimizer=name,
        learning_rate=0.1,
        weight_decay=0.3,
        gradient_clip_norm=1.0,
        ema=0.81,
        accumulate=accumulate,
    )
    optimizer = make_optimizer(train, rate_factors=factors)
    found = []
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [weight])
        found.append(np.array(weight))
    optimizer.finalize_variable_values([weight])
    return found, np.array(weight)


@pytest.mark.parametrize("name", ["adamw", "adam"])
@pytest.mark.parametrize("factors", [None, {"w": 0.5}])
def test_accumulated_batches_are_one_batch_of_their_mean(name, factors):
    # Means by hand of the pairs (1, 3), (-1, 0) and (4, -2), (2, 2).
    halves = [[1.0, -1.0], [3.0, 0.0], [4.0, 2.0], [-2.0, 2.0]]
    found, average = updated(halves, 2, name, factors)
    expected, _ = updated([[2.0, -0.5], [1.0, 2.0]], 1, name, factors)
    np.testing.assert_array_equal(found[0], [1.0, -2.0])
    np.testing.assert_array_equal(found[2], found[1])
    np.testing.assert_allclose(found[1], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[3], expected[1], rtol=1e-5)
    # .81 an update is .9 a batch: the average stands at the first update, stays there for the third
    # batch, and goes a tenth of the way to the second update.
    np.testing.assert_allclose(average, 0.9 * found[1] + 0.1 * found[3], rtol=1e-5)


def test_uncertain_loss_by_hand():
    variances = LogVariances(("bbox",))
    variances.of["bbox"].assign(math.log(4.0))
    loss = UncertainLoss(keras.losses.MeanSquaredError(), variances.of["bbox"])
    truth, said = tf.zeros((2, 1)), tf.constant([[1.0], [3.0]])
    with tf.GradientTape() as tape:
        found = loss(truth, said)
    # L = (1 + 9) / 2 = 5; 5 / 4 + log(4) / 2; by s: -5 / 4 + 1 / 2.
    assert float(found) == pytest.approx(1.25 + math.log(2.0))
    slope = tape.gradient(found, variances.of["bbox"].value)
    assert float(slope) == pytest.approx(-0.75)
    # The second row does not count: L = 1 / 2.
    weighed = loss(truth, said, tf.constant([1.0, 0.0]))
    assert float(weighed) == pytest.approx(0.5 / 4 + math.log(2.0))


def test_a_weight_that_is_learned_ends_at_half_the_inverse_of_its_loss():
    # The slope by s of exp(-s) L + s / 2 is 0 at s = log(2 L): for L = 3 at 1.7918.
    variances = LogVariances(("bbox",))
    loss = UncertainLoss(keras.losses.MeanAbsoluteError(), variances.of["bbox"])
    optimizer = make_optimizer(TrainConfig(learning_rate=0.1, weight_decay=0.5))
    for _ in range(120):
        with tf.GradientTape() as tape:
            found = loss(tf.zeros((1, 1)), tf.constant([[3.0]]))
        slopes = tape.gradient(found, [variances.of["bbox"].value])
        optimizer.apply(slopes, variances.trainable_variables)
    assert float(variances.of["bbox"]) == pytest.approx(math.log(6), abs=0.01)


def test_balance_is_learned_with_the_model_and_stays_out_of_the_localizer():
    localizer = tiny()
    model = compiled_training_model(localizer, plan(loss={"balance": "uncertainty"}))
    names = {variable.name for variable in model.trainable_variables}
    terms = ("softmax", "bbox")
    assert {f"{term}_log_variance" for term in terms} <= names
    assert len(model.trainable_variables) == len(localizer.trainable_variables) + len(terms)
    batch = as_batch(*next(iter(squares(8))), list(model.output), background=False)
    model.fit(batch, epochs=1, verbose=0)
    assert all(float(one) != 0 for one in model.variances.weights)


def test_sweep_tells_each_batch_s_own_loss_at_its_rate():
    keras.utils.set_random_seed(2)  # Some starts have nearly the same loss for both batches.
    easy, hard = squares(8, seed=3), squares(8, seed=4)
    sweep = sweep_rates(
        tiny(),
        easy.concatenate(hard).repeat(),
        plan=plan(optimizer="adam", ema=0.9),
        steps=40,
    )
    # 40 rates from 1e-6 to 1: the 14th is 1e-6 * 10 ** (6 * 13 / 39) = 1e-4.
    assert sweep.rates[0] == pytest.approx(1e-6)
    assert sweep.rates[13] == pytest.approx(1e-4)
    # At rates of almost 0 two batches in turn have two losses in turn, which a mean would hide.
    losses = np.array(sweep.losses[:6])
    assert np.ptp(losses[::2]) < 0.05 * abs(losses[0] - losses[1]) + 1e-3
    assert len(sweep.losses) == len(sweep.smooth) == len(sweep.rates)


@pytest.mark.whole
def test_sweep_ends_where_the_loss_is_no_number():
    def with_last(value, good):
        images = squares(8).map(lambda images, targets: (tf.cast(images, tf.float32), targets))
        bad = images.map(lambda images, targets: (images * value, targets))
        return images.repeat(good).concatenate(bad).repeat()

    with pytest.raises(TrainingError, match="very first batch is not finite"):
        sweep_rates(tiny(), with_last(np.nan, 0), plan=plan(), steps=4)
    sweep = sweep_rates(tiny(), with_last(np.nan, 2), plan=plan(), steps=9)
    assert sweep.diverged
    assert len(sweep.losses) == 2


def test_running_mean_and_divergence_by_hand():
    # .1 * 5 / .1; (.9 * .5 + .1 * 1) / .19 = .55 / .19.
    assert running_mean([5.0, 1.0]) == pytest.approx([5.0, 0.55 / 0.19])
    assert not has_diverged([5.0, 1.0, 3.9])
    assert has_diverged([5.0, 1.0, 4.1])
    # From 1 down to -1 it gained 2; four times that above the lowest is 7.
    assert not has_diverged([1.0, -1.0, 6.9])
    assert has_diverged([1.0, -1.0, 7.1])


def test_suggested_rate_is_a_tenth_of_the_lowest_s():
    sweep = RateSweep((0.001, 0.0123, 0.1), (3, 1, 2), (3.0, 1.0, 2.0), diverged=False)
    assert sweep.lowest_at == 0.0123
    assert sweep.suggested == 0.0012


def test_batch_sizes_double():
    assert batch_sizes(40) == [4, 8, 16, 32]
    assert batch_sizes(1) == [4]


def test_smallest_batch_of_nearly_the_best_speed_is_suggested():
    # 95 % of 100 is 95.
    rows = [(4, 50), (8, 94), (16, 96), (32, 100), (64, 0)]
    assert suggested_batch([BatchSpeed(size, speed, 1.0) for size, speed in rows]) == 16


@pytest.mark.whole
def test_batches_are_timed_until_the_memory_ends(monkeypatch):
    one = next(iter(squares(8)))
    found = batch_speeds(tiny(), one, plan=plan(), largest=16)
    assert [row.batch_size for row in found] == [4, 8, 16]
    assert all(
        row.images_per_second == pytest.approx(row.batch_size / row.step_seconds) for row in found
    )

    def step_of(*_, **__):
        def step(size):
            if size > 4 * room:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM")
            return 1.0

        return step

    monkeypatch.setattr(trials, "_timed_step", step_of)
    room = 2
    found = batch_speeds(tiny(), one, plan=plan(), largest=64)
    assert [(row.batch_size, row.fits) for row in found] == [(4, True), (8, True), (16, False)]
    room = 0
    with pytest.raises(TrainingError, match=r"not even 4 images.*data\.image_size"):
        batch_speeds(tiny(), one, plan=plan(), largest=64)
