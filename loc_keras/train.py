"""Trains and exports a localizer, from a config or from a folder of labelled images alone."""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from rich.console import Console

from loc_keras import run_report
from loc_keras.command_line import run_command
from loc_keras.config import Config
from loc_keras.config_io import dump_config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data_arguments import (
    add_data_arguments,
    add_plan_arguments,
    refuse_plan_arguments,
)
from loc_keras.export_bundle import bundle_of
from loc_keras.from_config import (
    board_from,
    data_from,
    export_base,
    losses_from,
    plan_from,
    resize_rule,
    validation_set,
)
from loc_keras.model_from_config import localizer_from, start_from
from loc_keras.models.initial_weights import refuse_absent
from loc_keras.models.origin import WeightsOrigin
from loc_keras.models.other_bodies import refuse_unknown_body
from loc_keras.run_place import (
    exported_before,
    goes_on,
    how_it_ends,
    how_to_resume,
    made_folder,
    read_or_resume,
)
from loc_keras.serving.saved_model import export_saved_model
from loc_keras.serving.versions import prove_writable
from loc_keras.training import precision
from loc_keras.training.cluster import cluster_from_environment
from loc_keras.training.distribution import ALONE, Distribution, distribution
from loc_keras.training.fit import fit_localizer
from loc_keras.training.interruption import resumable
from loc_keras.training.overfit import overfit_batch
from loc_keras.training.phases import small_batch_warning
from loc_keras.training.plan import FitResult
from loc_keras.training.run_folder import package_versions
from loc_keras.training.run_state import (
    changed_packages,
    close_run,
    only_process,
    refuse_other_data,
)
from loc_keras.training_trials import find_batch, find_rate
from loc_keras.trust_step import TrustStep, take_step, trust_step
from loc_keras.worker_part import (
    GO_ON,
    help_chief,
    refuse_for_devices,
    refuse_for_workers,
    released_workers,
    small_share_note,
)

RATE_PICTURE = Path("learning_rate.png")

WIDE = 32
"""Channels in the first stage from which a processor's bfloat16 units pay (as measured)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.train", description=__doc__)
    add_data_arguments(parser, resume=True)
    add_plan_arguments(parser)
    parser.add_argument(
        "--run-dir",
        type=Path,
        help="run folder: new, empty, or with an unfinished run of the same config, which goes on",
    )
    trials = parser.add_mutually_exclusive_group()
    trials.add_argument(
        "--overfit-batch",
        type=int,
        metavar="N",
        help="only check that N steps on one batch bring its loss near zero",
    )
    trials.add_argument(
        "--find-lr",
        type=Path,
        nargs="?",
        const=RATE_PICTURE,
        metavar="PNG",
        help=f"only sweep the learning rate, print which to take and draw it ({RATE_PICTURE})",
    )
    trials.add_argument(
        "--find-batch", action="store_true", help="only time steps of growing batch sizes"
    )
    args = parser.parse_args(arguments)
    if args.overfit_batch is not None and args.overfit_batch < 1:
        parser.error("--overfit-batch needs a number of steps of at least 1")
    if args.resume and (args.run_dir or _only_tries(args)):
        parser.error(
            "--resume goes with none of --run-dir, --overfit-batch, --find-lr, --find-batch"
        )
    refuse_plan_arguments(parser, args)
    return run_command(partial(_train, args, Console(markup=False)))


def _train(args: argparse.Namespace, console: Console) -> int:
    started = time.perf_counter()
    given = read_or_resume(args, console)
    if given is None:
        return 0
    config = given.config
    # What can fail at the end is tried before hours are spent.
    refuse_unknown_body(config.model.backbone.name)
    refuse_absent(config.model.backbone.weights)
    cluster = cluster_from_environment()
    refuse_for_workers(args, cluster)
    wanted = args.resume or args.run_dir
    resumed = False
    if cluster is None or cluster.is_chief:
        resumed = goes_on(wanted, config)
        if config.export.enabled and not _only_tries(args):
            prove_writable(export_base(config))
    policy, devices = _set_up(config, alone=_only_tries(args))
    if not devices.is_chief:
        console = Console(quiet=True)
    data = data_from(config, given.records)
    validation_set(data)
    run_report.print_data(console, data)
    step = trust_step(config, data)
    with devices.watching(GO_ON), devices.scope():
        start = start_from(config, data)
        localizer = localizer_from(config, data, start)
    run_report.print_weights(console, start.origin)
    plan = plan_from(config, data)
    refuse_for_devices(devices, plan)
    if start.origin.weights != "none":
        run_report.print_note(console, small_batch_warning(plan.batch_size, plan.fine_tune))
    if args.overfit_batch:
        return _overfit(args.overfit_batch, config, data, localizer, console)
    if args.find_lr:
        return find_rate(config, data, localizer, plan, args.find_lr, console)
    if args.find_batch:
        return find_batch(config, data, localizer, plan, console)
    run_report.print_note(console, small_share_note(devices, plan))
    fit = partial(
        fit_localizer,
        localizer,
        train=data.train,
        val=validation_set(data),
        val_share=data.val_share,
        plan=plan,
        losses=losses_from(config),
        devices=devices,
    )
    if not devices.is_chief:
        return help_chief(devices, fit)
    if resumed:
        folder = wanted
        refuse_other_data(folder, data.fingerprint)
        run_report.print_note(console, changed_packages(folder, package_versions()))
    else:
        folder = made_folder(wanted, config)
        facts = {"replicas": devices.replicas, "workers": devices.workers}
        run_report.write_start(folder, dump_config(config), policy, data, **facts)
    console.print(
        f"run folder {folder}; {policy}, {devices.words()}, {localizer.count_params():,} "
        "parameters",
        soft_wrap=True,
    )
    console.print(how_it_ends(folder, devices), highlight=False, soft_wrap=True)
    with only_process(folder), resumable(how_to_resume(folder)):
        with devices.watching(GO_ON):
            result = fit(
                folder=folder,
                extra_callbacks=board_from(config, data, localizer, folder),
                sources=data.batch_names,
                say=partial(run_report.print_note, console),
                how_to_resume=how_to_resume(folder),
            )
        with released_workers(devices):
            return _finish(config, data, folder, result, step, start.origin, console, started)


def _finish(
    config: Config,
    data: LocalizationData,
    folder: Path,
    result: FitResult,
    step: TrustStep | None,
    origin: WeightsOrigin,
    console: Console,
    started: float,
) -> int:
    """Measures, calibrates and exports; done again from its beginning when it was interrupted."""
    base = export_base(config)
    exported = exported_before(folder, base) if config.export.enabled else None
    best = keras.saving.load_model(result.best_path)
    measured = run_report.finish_run(folder, best, data, str(config.name))
    trust = take_step(step, folder, result.best_path, best)
    try:
        if exported is None:
            card = run_report.write_card(
                folder,
                best,
                data,
                measured,
                name=str(config.name),
                resize=resize_rule(config),
                origin=origin,
                trust=trust.card,
            )
            if config.export.enabled:
                exported = export_saved_model(bundle_of(trust.model, data, card, trust.texts), base)
        close_run(folder)
    finally:
        seconds = time.perf_counter() - started
        run_report.print_end(
            console, folder, measured, result, exported, seconds, partial(trust.print, console)
        )
    if trust.error:
        raise trust.error
    return 0


def _only_tries(args: argparse.Namespace) -> bool:
    """Whether nothing is to be kept of what is trained."""
    return bool(args.overfit_batch or args.find_lr or args.find_batch)


def _set_up(config: Config, *, alone: bool) -> tuple[str, Distribution]:
    """Prepares devices and seeds before the first operation; gives dtype policy and devices."""
    if config.train.gpu_memory_growth:
        precision.grow_gpu_memory()
    train = config.train
    devices = ALONE if alone else distribution(train.strategy, batch_size=train.batch_size)
    precision.make_deterministic(config.train.seed, config.train.deterministic)
    wide = config.model.backbone.width >= WIDE
    return precision.set_precision(config.train.precision, wide=wide), devices


def _overfit(
    steps: int, config: Config, data: LocalizationData, localizer: keras.Model, console: Console
) -> int:
    batch = next(iter(data.train(0)))
    found = overfit_batch(
        localizer,
        batch,
        steps=steps,
        learning_rate=config.train.learning_rate,
        losses=losses_from(config),
        background=data.background,
    )
    run_report.print_overfit(console, found, len(batch[0]))
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
