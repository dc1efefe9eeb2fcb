"""The localizer as it is compiled for a phase of a plan."""

from collections.abc import Mapping
from typing import Any

import keras

from loc_keras.training.batch_statistics import synchronize
from loc_keras.training.fused_batch_norm import fuse_batch_norms
from loc_keras.training.model import TrainingModel, compile_localizer, training_model
from loc_keras.training.optimizer import learning_rate_schedule, make_optimizer
from loc_keras.training.phases import Phase, rate_factors, set_trainable
from loc_keras.training.plan import FitPlan


def compiled_training_model(
    localizer: keras.Model, plan: FitPlan, losses: Mapping[str, Any], phase: Phase | None = None
) -> TrainingModel:
    """Wraps and compiles a localizer for a phase of a plan.

    Args:
        localizer: the model; which of its layers are trainable is set here.
        plan: how to train.
        losses: as in `compile_localizer`.
        phase: the part of the plan; None for a plan with one phase.
    """
    phase = phase or Phase(0, plan.epochs, body_learns=True)
    tune = plan.fine_tune
    set_trainable(localizer, body_learns=phase.body_learns, batch_norm=tune.batch_norm)
    synchronize(localizer, plan.sync_batch_norm)
    fuse_batch_norms(localizer)
    rate = learning_rate_schedule(
        peak=plan.learning_rate,
        # The heads' own phase ends at full speed: what they learn in it is but a start.
        schedule=plan.schedule if phase.body_learns else "constant",
        warmup_steps=round(min(plan.warmup_epochs, phase.epochs) * plan.steps_per_epoch),
        total_steps=phase.epochs * plan.steps_per_epoch,
    )
    optimizer = make_optimizer(
        plan.optimizer,
        learning_rate=rate,
        weight_decay=plan.weight_decay,
        clip_norm=plan.gradient_clip_norm,
        ema=plan.ema,
        accumulate=plan.accumulate,
        rate_factors=rate_factors(
            localizer, body_rate=tune.body_rate, layer_decay=tune.layer_decay
        ),
    )
    model = training_model(localizer)
    compile_localizer(model, optimizer=optimizer, jit_compile=plan.jit_compile, **losses)
    return model
