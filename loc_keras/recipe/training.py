"""How long and how to train, within a budget of time."""

import math
from collections.abc import Mapping
from typing import Any

from loc_keras.recipe import numbers
from loc_keras.recipe.chooser import Chooser, step_of
from loc_keras.recipe.facts import Facts
from loc_keras.recipe.speed import Cost, images_a_second


def choose_training(
    facts: Facts,
    chooser: Chooser,
    tuned: Mapping[str, Any],
    *,
    count: int,
    minutes: float,
    side: float,
    width: int,
) -> list[str]:
    """Chooses precision, batch, learning rate and length; gives notes for the user.

    Args:
        facts: What was measured.
        chooser: Takes the choices.
        tuned: From `fine_tuning`.
        count: Images for training.
        minutes: Time that it may take.
        side: Of the model's input in px.
        width: Of the body.
    """
    halves = facts.bfloat16 and not facts.gpus and width >= numbers.WIDTHS["cpu"]
    precision = chooser.pick(
        "train.precision", "auto", "bfloat16 on this CPU" if halves else "by device"
    )
    batch = chooser.pick(
        "train.batch_size", int(step_of(numbers.BATCHES, count)), f"{count:,} training images"
    )
    rate = next(rate for most, rate in numbers.LEARNING_RATES if batch <= most)
    chooser.pick("train.learning_rate", tuned.get("train.learning_rate", rate), f"batch of {batch}")
    decay = tuned.get("train.weight_decay", numbers.WEIGHT_DECAY)
    chooser.pick("train.weight_decay", decay, "as in all measured recipes")
    passes = max(1, count // batch)
    least = math.ceil(numbers.EPOCH_IMAGES / batch)
    steps = (
        chooser.pick(
            "train.steps_per_epoch",
            least if passes < least else None,
            f"some {least * batch / count:.0f} passes, for fewer pauses"
            if passes < least
            else "one pass over the images",
        )
        or passes
    )
    cost = Cost(
        side,
        width,
        batch,
        halves if precision == "auto" else precision.endswith("16"),
        facts.cores,
        bool(facts.gpus),
        facts.avx512,
    )
    speed = images_a_second(cost)
    affordable = minutes * 60 * speed / (steps * batch)
    fewest, most = numbers.EPOCHS
    between = max(1, round(numbers.CHECKPOINT_SECONDS * speed / batch))
    chooser.pick(
        "train.checkpoint_every_steps",
        between if between < steps else None,
        "an interruption costs a minute at most, about"
        if between < steps
        else "an epoch takes less than a minute",
    )
    wanted = min(max(math.floor(affordable), fewest), most)
    guess = "a guess, as no GPU was measured" if facts.gpus else "estimated"
    epochs = chooser.pick(
        "train.epochs", wanted, f"{minutes:g} min at some {speed:,.0f} images/s ({guess})"
    )
    if tuned:
        _fine_tune(chooser, tuned, epochs, batch)
    chooser.pick(
        "train.warmup_epochs",
        round(min(numbers.WARMUP_EPOCHS, numbers.WARMUP_SHARE * epochs), 2),
        "a tenth, at most 3",
    )
    shortest, longest = numbers.EMA_STEPS
    window = min(numbers.EMA_EPOCHS * steps, epochs * steps // 10)
    window = min(max(window, shortest), longest)
    chooser.pick("train.ema", round(1 - 1 / window, 4), f"averages over some {window:,} steps")
    chooser.pick("train.seed", 0, "the start of every random draw")
    taken = epochs * steps * batch / speed / 60
    notes = [f"training will take some {max(taken, 1):.0f} min ({guess}) and a minute around it."]
    if taken > minutes * 1.1:
        notes.append(f"{epochs} epochs take longer than the {minutes:g} min of --minutes.")
    return notes


def _fine_tune(chooser: Chooser, tuned: Mapping[str, Any], epochs: int, batch: int) -> None:
    """How a body that knows something is trained on."""
    slower = {key: value for key, value in tuned.items() if key.startswith("train.fine_tune.")}
    if slower:
        rest = round(numbers.FREEZE_SHARE * epochs)
        chooser.pick("train.fine_tune.freeze_epochs", rest, "the heads learn alone first")
    for key, value in slower.items():
        chooser.pick(key, value, "slower towards the pixels")
    frozen = batch < numbers.STEADY_BATCH
    chooser.pick(
        "train.fine_tune.batch_norm",
        "frozen" if frozen else "train",
        f"batches of {batch} are {'too small' if frozen else 'large enough'} for its statistics",
    )
