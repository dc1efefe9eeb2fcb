"""A training that ends in time: timed, given its length, and corrected once."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.training_examples import plan, squares, tiny

from loc_keras.training import budget as budgets
from loc_keras.training.budget import Budget, Costs, Rehearsal
from loc_keras.training.fit import fit_localizer
from loc_keras.training.optimizer import learning_rate_schedule

WARM = {"warmup_epochs": 1.0, "ema": 0.9, "deterministic": True}


@pytest.fixture
def now(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def test_the_epochs_are_the_most_that_end_in_time(now):
    budget = Budget(100.0, lambda: now[0], lambda epochs, seconds: 20 + epochs, 2, 30)
    now[0] = 8.0
    # 8 spent, 20 and 1 an epoch afterwards: (100 - 28) / (5 + 1) = 12.
    assert budget.epochs_in_time(5.0) == 12
    # Ten of them are over: 90 s left, of which 20 + 1 an epoch go; 10 + (90 - 30) / 6 = 20.
    now[0] = 10.0
    assert budget.epochs_in_time(5.0, done=10) == 20
    assert budget.epochs_in_time(1000.0) == 2
    assert budget.epochs_in_time(1000.0, done=7) == 7
    assert budget.epochs_in_time(1e-3) == 30


def test_an_epoch_costs_its_steps_a_validation_and_a_checkpoint():
    assert Costs(9.0, 0.5, 2.0, 1.0).epoch(10) == 8.0


def test_the_length_is_corrected_once_by_the_epochs_that_were(now):
    budget = Budget(100.0, lambda: now[0], lambda epochs, seconds: 10.0, 2, 50)
    told = []
    budget.changed = told.append
    budget.epochs, budget.correct_after = 20, 3
    model = keras.Model()
    budget.set_model(model)
    model.stop_training = False
    for epoch, seconds in enumerate([20.0, 4.0, 6.0, 9.0]):
        budget.on_epoch_begin(epoch)
        now[0] += seconds
        budget.on_epoch_end(epoch)
    # After three epochs 30 s are spent, and 60 are left for epochs of 5 s: the first counts not.
    assert told == [15]
    assert budget.epochs == 15
    assert not model.stop_training
    budget.on_epoch_end(14)
    assert model.stop_training


def rehearsed(localizer, chosen):
    return Rehearsal(localizer, chosen, lambda step: squares(24).repeat(), squares(8, seed=1))


def fitted(localizer, chosen, folder, **more):
    keras.utils.set_random_seed(4)
    return fit_localizer(
        localizer,
        train=lambda step: squares(24).skip(step % 3).repeat(),
        val=squares(8, seed=1),
        plan=chosen,
        folder=folder,
        say=lambda words: None,
        **more,
    ).history


def figures(history):
    return [{key: value for key, value in row.items() if "second" not in key} for row in history]


@pytest.mark.whole
def test_a_rehearsal_leaves_no_trace_and_its_model_takes_another_course(tmp_path):
    shorter, wanted = plan(epochs=2, **WARM), plan(epochs=4, **{**WARM, "ema": 0.8})
    keras.utils.set_random_seed(1)
    localizer = tiny()
    before = [keras.ops.convert_to_numpy(one).copy() for one in localizer.variables]
    state = np.random.get_state()[1].copy()
    rehearsal = rehearsed(localizer, shorter)
    costs = rehearsal.costs
    assert min(costs.tracing, costs.step, costs.validation, costs.checkpoint) > 0
    assert costs.tracing > costs.step
    for variable, value in zip(localizer.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    rehearsal.adjust(wanted)
    traced = fitted(localizer, wanted, tmp_path / "traced", compiled=rehearsal)
    other = tiny()
    for variable, value in zip(other.variables, before, strict=True):
        variable.assign(value)
    plain = fitted(other, wanted, tmp_path / "plain")
    assert len(traced) == 4
    for one, two in zip(figures(traced), figures(plain), strict=True):
        assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.whole
def test_a_corrected_training_is_that_of_its_length_from_the_start(tmp_path):
    keras.utils.set_random_seed(1)
    localizer = tiny()
    before = [keras.ops.convert_to_numpy(one).copy() for one in localizer.variables]
    begun, ended = plan(epochs=9, **WARM), plan(epochs=3, **WARM)
    rehearsal = rehearsed(localizer, begun)
    budget = Budget(0.0, lambda: 1.0, lambda epochs, seconds: 0.0, 3, 9)
    budget.epochs, budget.correct_after = 9, 1
    budget.changed = lambda epochs: rehearsal.adjust(begun.with_train(epochs=epochs))
    history = fitted(localizer, begun, tmp_path / "a", compiled=rehearsal, budget=budget)
    assert len(history) == 3
    other = tiny()
    for variable, value in zip(other.variables, before, strict=True):
        variable.assign(value)
    for one, two in zip(
        figures(history), figures(fitted(other, ended, tmp_path / "b")), strict=True
    ):
        assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.whole
@pytest.mark.parametrize("schedule", ["one_cycle", "constant"])
def test_other_courses_are_compiled_anew(schedule):
    chosen = plan(epochs=3, schedule=schedule)
    localizer = tiny()
    rehearsal = rehearsed(localizer, chosen)
    assert not rehearsal.is_adjustable
    rehearsal.adjust(chosen)
    model = rehearsal.compiled(chosen, rehearsal.phase)
    assert model is not rehearsal.model


def test_variables_give_the_rates_of_the_plain_schedule():
    def course(steps):
        return learning_rate_schedule(
            peak=0.01, schedule="cosine", warmup_steps=5, total_steps=steps
        )

    schedule = course(40)
    optimizer = keras.optimizers.Adam(schedule)
    assert budgets._make_adjustable(optimizer)
    for name in ("initial_learning_rate", "warmup_steps", "decay_steps"):
        assert isinstance(getattr(schedule, name), tf.Variable)
        getattr(schedule, name).assign(getattr(course(90), name))
    rates = [float(schedule(tf.constant(step))) for step in (0, 3, 5, 60, 90)]
    assert rates == pytest.approx([float(course(90)(step)) for step in (0, 3, 5, 60, 90)])
