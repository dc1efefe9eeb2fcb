"""Trains and exports a localizer, from a config or from a folder of labelled images alone."""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from loc_keras.cli import runs as run_report
from loc_keras.cli.build import (
    board_from,
    export_base,
    localizer_from,
    losses_from,
    plan_from,
    resize_rule,
    start_from,
    validation_set,
)
from loc_keras.cli.console import print_note, run_command
from loc_keras.cli.data_source import (
    DataSource,
    add_data_arguments,
    add_plan_arguments,
    refuse_plan_arguments,
    source_to_train,
)
from loc_keras.cli.runs import bundle_of
from loc_keras.cli.trust import TrustStep, take_step, trust_step
from loc_keras.config.load import dump_config, flat_settings, load_config
from loc_keras.config.schema import Config
from loc_keras.data.dataset import LocalizationData
from loc_keras.errors import LocKerasError, TrainingError
from loc_keras.models.assembly import refuse_unknown_body
from loc_keras.models.body import WeightsOrigin
from loc_keras.models.weights import refuse_absent
from loc_keras.report.curves import save_rate_picture
from loc_keras.serving.bundle import CARD_FILE, prove_writable
from loc_keras.serving.saved_model import EXTRA_FOLDER, export_saved_model
from loc_keras.training import precision, run_folder
from loc_keras.training.distribution import (
    ALONE,
    LOST,
    Cluster,
    Distribution,
    cluster_from_environment,
    distribution,
)
from loc_keras.training.fit import fit_localizer
from loc_keras.training.plan import FitPlan, FitResult, small_batch_warning
from loc_keras.training.run_folder import (
    CONFIG_FILE,
    RunState,
    changed_packages,
    close_run,
    only_process,
    package_versions,
    refuse_changes,
    refuse_other_data,
    resumable,
    run_state,
)
from loc_keras.training.trials import (
    HIGHEST,
    BatchSpeed,
    batch_speeds,
    overfit_batch,
    suggested_batch,
    sweep_rates,
)

GO_ON = (
    "start all workers again, with --resume and the run folder: the run goes on from its last "
    "checkpoint."
)
"""What to do after a worker was lost."""


def refuse_for_workers(args: argparse.Namespace, cluster: Cluster | None) -> None:
    """Refuses arguments of `train` that several workers cannot follow alike.

    Raises:
        TrainingError: If there is one.
    """
    if cluster is None:
        return
    if args.data is not None:
        raise TrainingError(
            "with several workers every one must read the same settings, and each would find its "
            "own for --data; write them to a file first, by --write-config FILE and without "
            "TF_CONFIG, and give --config FILE."
        )
    if args.overfit_batch or args.find_lr or args.find_batch:
        raise TrainingError(
            "--overfit-batch, --find-lr and --find-batch work in one process; run them without "
            "TF_CONFIG."
        )


def refuse_for_devices(devices: Distribution, plan: FitPlan) -> None:
    """Refuses settings that Keras and TensorFlow fail at on several devices, once they trace.

    Keras 3.15 adds up gradients within a condition, where TensorFlow's strategies cannot exchange
    them; and TensorFlow 2.21 has no exchange between processors that XLA could compile.

    Raises:
        TrainingError: If there is one.
    """
    if devices.strategy is None:
        return
    if plan.accumulate > 1:
        raise TrainingError(
            f"train.accumulate {plan.accumulate} is for one device; set it to 1: several devices "
            "hold a larger batch."
        )
    if plan.jit_compile:
        raise TrainingError(
            "train.xla: on is for one device, since XLA cannot compile the exchange between "
            "several; set it to off."
        )


def small_share_note(devices: Distribution, plan: FitPlan) -> str | None:
    """One sentence where the results depend on the number of devices."""
    if devices.replicas == 1 or plan.sync_batch_norm:
        return None
    return (
        f"each of the {devices.replicas} devices normalises by its own "
        f"{plan.batch_size // devices.replicas} of {plan.batch_size} images, so that results "
        "differ from those of one device; train.sync_batch_norm: true uses all of them."
    )


def help_chief(devices: Distribution, fit: Callable[..., Any]) -> int:
    """Trains along with the chief, which alone writes and prints, and ends when it does.

    Args:
        devices: All that train.
        fit: Trains; takes a folder, which is thrown away.
    """
    with devices.watching(GO_ON):
        with tempfile.TemporaryDirectory(prefix="loc_keras-worker-") as folder:
            fit(folder=Path(folder))
        devices.meet()
    return 0


@contextmanager
def released_workers(devices: Distribution) -> Iterator[None]:
    """Lets the other workers end after the chief has done the rest.

    They also end well where the chief could not do something of it that its user must mend; after
    a fault of ours they are left to notice that the chief is gone.
    """
    try:
        yield
    except LocKerasError:
        _let_go(devices)
        raise
    _let_go(devices)


def _let_go(devices: Distribution) -> None:
    """A worker that is lost by now is missed by nobody: the run is whole."""
    with suppress(*LOST):
        devices.meet()


def read_or_resume(args: argparse.Namespace, console: Console) -> DataSource | None:
    """What to work on: as `source_to_train`, or the config of the run that `--resume` names.

    Raises:
        TrainingError: If there is no run in that folder that could go on.
    """
    if args.resume is None:
        return source_to_train(args, console)
    state = run_state(args.resume)
    if state is RunState.OTHER:
        raise TrainingError(
            f"{args.resume} holds no unfinished run: a finished one needs nothing more, and one "
            "that is something else cannot go on."
        )
    if state is RunState.NEW:
        raise TrainingError(
            f"{args.resume} holds nothing to go on with; begin with --config and --run-dir "
            f"{args.resume}, or, where several machines train, put the run folder where all see it."
        )
    return DataSource(load_config(args.resume / CONFIG_FILE, args.set))


def goes_on(folder: Path | None, config: Config) -> bool:
    """Whether the folder holds an unfinished run of this config.

    Raises:
        TrainingError: If it holds a run of another config, a finished one, or something else.
    """
    if folder is None:
        return False
    if run_state(folder) is not RunState.UNFINISHED:
        run_folder.refuse_used_folder(folder)
        return False
    before = load_config(folder / CONFIG_FILE)
    refuse_changes(folder, flat_settings(before.model_dump()), flat_settings(config.model_dump()))
    return True


def made_folder(folder: Path | None, config: Config) -> Path:
    """Makes the folder of a new run."""
    if folder is not None:
        return run_folder.given_run_folder(folder)
    return run_folder.new_run_folder(Path(config.run.dir), str(config.name))


def how_to_resume(folder: Path) -> str:
    """How an unfinished run goes on, as the end of a sentence."""
    return f"go on with: python -m loc_keras.train --resume {shlex.quote(str(folder))}"


def how_it_ends(folder: Path, devices: Distribution) -> str:
    """What becomes of the run if it stops before its end, as a sentence."""
    workers = ", in all workers" if devices.workers > 1 else ""
    return f"if it stops, {how_to_resume(folder)}{workers}"


def exported_before(folder: Path, base: Path) -> Path | None:
    """The version that this run has exported already, told by its model card; else None.

    A run may be stopped after its export was put in place and before it was marked as finished.
    """
    card = folder / CARD_FILE
    if not card.is_file() or not base.is_dir():
        return None
    own = json.loads(card.read_text(encoding="utf-8"))
    for found in base.glob(f"*/{EXTRA_FOLDER}/{CARD_FILE}"):
        version = found.parents[1]
        # Folders aside, of exports that were stopped half-way, are no versions.
        if version.name.isdecimal() and json.loads(found.read_text(encoding="utf-8")) == own:
            return version
    return None


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
    source = read_or_resume(args, console)
    if source is None:
        return 0
    config = source.config
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
    data = source.build()
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
        print_note(console, small_batch_warning(plan.batch_size, plan.fine_tune))
    if args.overfit_batch:
        return _overfit(args.overfit_batch, config, data, localizer, console)
    if args.find_lr:
        return find_rate(config, data, localizer, plan, args.find_lr, console)
    if args.find_batch:
        return find_batch(config, data, localizer, plan, console)
    print_note(console, small_share_note(devices, plan))
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
        print_note(console, changed_packages(folder, package_versions()))
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
                say=partial(print_note, console),
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
