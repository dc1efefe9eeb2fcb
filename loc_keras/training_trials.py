"""Trials before a training: which learning rate, which batch size. They change nothing."""

from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

from loc_keras.config import Config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.from_config import losses_from
from loc_keras.report.rate_picture import save_rate_picture
from loc_keras.training.batch_finder import BatchSpeed, batch_speeds, suggested_batch
from loc_keras.training.plan import FitPlan
from loc_keras.training.rate_finder import HIGHEST, sweep_rates


def find_rate(
    config: Config,
    data: LocalizationData,
    localizer: keras.Model,
    plan: FitPlan,
    picture: Path,
    console: Console,
) -> int:
    """Sweeps the learning rate, prints what to take and draws why; gives the exit code."""
    console.print("sweeping the learning rate; the model is thrown away", highlight=False)
    sweep = sweep_rates(localizer, data.train(0), plan=plan, losses=losses_from(config))
    save_rate_picture(
        picture,
        rates=sweep.rates,
        losses=sweep.losses,
        smooth=sweep.smooth,
        suggested=sweep.suggested,
    )
    end = "diverged at" if sweep.diverged else "did not diverge up to"
    console.print(
        f"{len(sweep.rates)} batches of {plan.batch_size}: the loss was lowest at a rate of "
        f"{sweep.lowest_at:.1e} and {end} {sweep.rates[-1] if sweep.diverged else HIGHEST:.1e}; "
        f"see {picture}.\n"
        f"suggested, a tenth of the lowest's: --set train.learning_rate={sweep.suggested:g} "
        f"(now {plan.learning_rate:g})",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def find_batch(
    config: Config,
    data: LocalizationData,
    localizer: keras.Model,
    plan: FitPlan,
    console: Console,
) -> int:
    """Times steps of growing batches and prints a table; gives the exit code."""
    console.print("timing batches; the model is thrown away", highlight=False)
    speeds = batch_speeds(
        localizer,
        next(iter(data.train(0))),
        plan=plan,
        losses=losses_from(config),
        largest=data.sizes["train"],
    )
    console.print(_table(speeds))
    size = suggested_batch(speeds)
    console.print(
        f"suggested, the smallest of nearly the best speed: --set train.batch_size={size} "
        f"(now {plan.batch_size}); a batch of another size wants another learning rate "
        "(--find-lr).",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _table(speeds: list[BatchSpeed]) -> Table:
    table = Table(title="one training step, without reading images")
    for heading in ("batch", "step (ms)", "images/s"):
        table.add_column(heading, justify="right")
    for one in speeds:
        told = (f"{1000 * one.step_seconds:,.0f}", f"{one.images_per_second:,.1f}")
        table.add_row(str(one.batch_size), *(told if one.fits else ("no memory", "")))
    return table
