"""What `train` does: read, build, fit, measure, calibrate and export."""

import argparse
import shlex
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from loc_keras.atomic_file import LATEST, own_files, point_to, refuse_foreign
from loc_keras.cli.build import board_from, bundle_of, export_base, localizer_from, validation_set
from loc_keras.cli.console import command_began, print_line, print_note
from loc_keras.cli.data_arguments import FolderPlan, plan_to_train
from loc_keras.cli.data_source import DataSource, print_label_files
from loc_keras.cli.folds import meaning_of_folds, out_of_fold, write_answers
from loc_keras.cli.minutes import TimedTraining, as_begun, finish_seconds, time_after
from loc_keras.cli.options import program
from loc_keras.cli.runs import (
    exported_before,
    finish_run,
    goes_on,
    print_data,
    print_end,
    write_card,
    write_start,
)
from loc_keras.cli.trust import add_novelty, add_trust, check_trust, novelty_words
from loc_keras.config.load import dump_config, load_config
from loc_keras.config.schema import Config
from loc_keras.data.annotations import FOLDS
from loc_keras.data.dataset import LocalizationData
from loc_keras.errors import DataError, TrainingError, TrustError
from loc_keras.models.assembly import refuse_unknown_body
from loc_keras.models.body import WeightsOrigin
from loc_keras.models.weights import find_start, open_model, refuse_absent
from loc_keras.recipe.rules import BUDGET_MINUTES
from loc_keras.report.terminal import result_lines, weak_points
from loc_keras.serving.bundle import behind_served, folder_aside
from loc_keras.training import precision
from loc_keras.training.cluster import Cluster, cluster_from_environment
from loc_keras.training.distribution import (
    ALONE,
    Distribution,
    distribution,
    refuse_for_devices,
    released_workers,
    small_share_note,
)
from loc_keras.training.fit import fit_localizer
from loc_keras.training.model import FitPlan, FitResult, small_batch_warning
from loc_keras.training.run_folder import (
    CONFIG_FILE,
    EXPORT,
    RunClock,
    RunState,
    changed_packages,
    close_run,
    given_run_folder,
    new_run_folder,
    only_process,
    package_versions,
    refuse_other_data,
    resumable,
    run_state,
)

GO_ON = (
    "start all workers again, with --resume and the run folder: the run goes on from its last "
    "checkpoint."
)
"""What to do after a worker was lost."""

WIDE = 32
"""Channels in the first stage from which a processor's bfloat16 units pay (as measured)."""


def run(args: argparse.Namespace) -> int:
    """Trains, measures and exports; gives the exit code."""
    console = Console(markup=False)
    began = command_began()
    if args.find_lr:
        refuse_foreign(*_rate_place(args.find_lr))
    if args.device != "cpu":
        print_note(console, precision.missing_gpu_note())
    precision.use_device(args.device)
    chosen = _read_or_resume(args, console)
    if chosen is None:
        return 0
    source = chosen.source
    config, is_trial = source.config, _is_trial(args)

    # What can fail at the end is tried before hours are spent.
    refuse_unknown_body(config.model.backbone.name)
    refuse_absent(config.model.backbone.weights)
    cluster = cluster_from_environment()
    _refuse_for_workers(args, cluster)
    wanted = args.resume or args.run_dir
    resumed, with_length = False, chosen.with_length
    if cluster is None or cluster.is_chief:
        if args.run_dir and with_length and run_state(args.run_dir) is RunState.UNFINISHED:
            config, with_length = as_begun(config, load_config(args.run_dir / CONFIG_FILE)), None
            source = source.with_config(config)
        resumed = goes_on(wanted, config)
        if config.export.enabled and config.export.publish and not is_trial:
            with folder_aside(export_base(config)):
                pass

    policy, devices = _set_up(config, alone=is_trial)
    if not devices.is_chief:
        console = Console(quiet=True)
    data = source.build()
    validation_set(data)
    if args.data is None and devices.is_chief:
        print_label_files(console, source)
    print_data(console, data)
    try:
        check_trust(config, data)
    except DataError as error:
        if args.data is None or any(text.startswith("train.folds") for text in args.set):
            raise
        print_note(console, f"{error} That is done.")
        args.set = [*args.set, "train.folds=0"]
        return run(args)
    with devices.watching(GO_ON), devices.scope():
        start = find_start(config.model.backbone, data.image_shape)
        localizer = localizer_from(config, data, start)
    if start.origin.weights != "none":
        print_line(console, f"weights: {start.origin.source}, licence {start.origin.licence}")
    plan = FitPlan.for_data(config.train, config.loss, data)
    refuse_for_devices(devices, config.train)
    if start.origin.weights != "none":
        print_note(console, small_batch_warning(config.train))
    if is_trial:
        return _try(args, plan, data, localizer, console)
    print_note(console, small_share_note(devices, config.train))
    fit = partial(
        fit_localizer,
        localizer,
        train=data.train,
        val=validation_set(data),
        val_share=data.val_share,
        plan=plan,
        devices=devices,
    )
    if not devices.is_chief:
        return _help_chief(devices, fit)
    timed = None
    if with_length and devices.strategy is None:
        minutes = BUDGET_MINUTES if args.minutes is None else args.minutes
        timed = TimedTraining(config, with_length, data, localizer, 60 * minutes, began)
        config, plan = timed.config, timed.plan
        fit = partial(fit, plan=plan, compiled=timed.rehearsal, budget=timed.budget)
        print_line(console, timed.words)

    if resumed:
        folder = wanted
        print_note(console, refuse_other_data(folder, data.fingerprint, data.fingerprint_by_sizes))
        print_note(console, changed_packages(folder, package_versions()))
    else:
        folder = (
            new_run_folder(Path(config.run.dir), str(config.name))
            if wanted is None
            else given_run_folder(wanted)
        )
        facts: dict[str, Any] = {"replicas": devices.replicas, "workers": devices.workers}
        facts["label_files"] = [one._asdict() for one in source.label_files]
        write_start(folder, dump_config(config), policy, data, **facts)
    root = Path(config.run.dir)
    if root.absolute() in folder.absolute().parents:
        point_to(root / LATEST, folder)
    console.print(
        f"run folder {folder}; {policy}, {devices.describe()}, {localizer.count_params():,} "
        "parameters",
        soft_wrap=True,
    )
    workers = ", in all workers" if devices.workers > 1 else ""
    resume = how_to_resume(folder)
    print_line(console, f"if it stops, {resume}{workers}")
    if timed:
        timed.budget.changed = partial(timed.correct, folder)
    with only_process(folder, began) as clock, resumable(resume):
        with devices.watching(GO_ON):
            result = fit(
                folder=folder,
                extra_callbacks=[
                    *board_from(config, data, localizer, folder),
                    keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.keep()),
                ],
                sources=data.batch_names,
                say=partial(print_note, console),
                how_to_resume=resume,
                console=console,
                after=timed.after if timed else time_after(config, data, plan),
            )
            config = timed.folds_in_time(folder) if timed else config
            after = finish_seconds(config, data, timed.rehearsal.costs if timed else None)
        with released_workers(devices):
            return _finish(config, data, folder, result, start.origin, console, clock, after)


def _finish(
    config: Config,
    data: LocalizationData,
    folder: Path,
    result: FitResult,
    origin: WeightsOrigin,
    console: Console,
    clock: RunClock,
    after: float,
) -> int:
    """Measures, calibrates and exports; done again from its beginning when it was interrupted."""
    base, own = export_base(config), folder / EXPORT
    exported = exported_before(folder, own, base) if config.export.enabled else None
    best = open_model(result.best_path)
    answers, failed, by_folds = None, None, None
    try:
        answers = out_of_fold(config, data, folder, console, after) if config.has_folds else None
    except (TrustError, TrainingError) as error:
        failed = error  # The model is there, and goes on to its export without them.
    if config.train.folds and answers is not None:
        by_folds = answers.outcomes
        write_answers(folder, by_folds, data.fingerprint)
    measured, outcomes = finish_run(folder, best, data, str(config.name), by_folds)
    novelty, novelty_card = add_novelty(folder, result.best_path, data, config)
    trust = add_trust(config, data, folder, result.best_path, best, answers)
    try:
        if exported is None:
            cards = {"trust": trust.card, "novelty": novelty_card}
            card = write_card(folder, config, best, data, measured, origin, **cards)
            if config.export.enabled:
                from loc_keras.serving.saved_model import export_saved_model

                bundle = bundle_of(folder, best, data, card, trust.trust, novelty)
                behind = behind_served(card, base) if config.export.publish else None
                if behind:
                    print_note(
                        console,
                        f"{behind}; so it is not published, which {program('export')} --run "
                        f"{folder} --out {base} would do all the same.",
                    )
                to_servers = config.export.publish and not behind
                exported = export_saved_model(bundle, base if to_servers else own)
        close_run(folder)
    finally:
        kept, figures, findings = trust.measured, list[str](), list[str]()
        for split in dict.fromkeys([data.measured, FOLDS]):
            if split in outcomes:
                told = kept.figures if kept is not None and kept.split == split else None
                leaked = data.leaked(split)
                figures += result_lines(split, outcomes[split], leaked, told, trust.promised)
                findings = findings or weak_points(outcomes[split], data.class_names)
        figures += [meaning_of_folds(config)] if FOLDS in outcomes else []
        if novelty_card.get("unknown_test_images", 0) > 2 * config.trust.novelty_level:
            findings.insert(0, novelty_words(novelty_card))
        print_end(console, folder, result, data, figures, findings, exported, clock.seconds, base)
    if (fault := failed or trust.error) is not None:
        raise fault
    return 0


def _read_or_resume(args: argparse.Namespace, console: Console) -> FolderPlan | None:
    """What to work on: as `plan_to_train`, or the config of the run that `--resume` names."""
    if args.resume is None:
        return plan_to_train(args, console)
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
    return FolderPlan(DataSource(load_config(args.resume / CONFIG_FILE, args.set)), [], [])


def how_to_resume(folder: Path) -> str:
    """How an unfinished run goes on, as the end of a sentence."""
    return f"go on with: {program('train')} --resume {shlex.quote(str(folder))}"


def _refuse_for_workers(args: argparse.Namespace, cluster: Cluster | None) -> None:
    """Refuses arguments of `train` that several workers cannot follow alike."""
    if cluster is None:
        return
    if args.data is not None:
        raise TrainingError(
            "with several workers every one must read the same settings, and each would find its "
            "own for --data; write them to a file first, by --write-config FILE and without "
            "TF_CONFIG, and give --config FILE."
        )
    if _is_trial(args):
        raise TrainingError(
            "--overfit-batch, --find-lr and --find-batch work in one process; run them without "
            "TF_CONFIG."
        )


def _set_up(config: Config, *, alone: bool) -> tuple[str, Distribution]:
    """Prepares devices and seeds before the first operation; gives dtype policy and devices."""
    if config.train.gpu_memory_growth:
        precision.grow_gpu_memory()
    train = config.train
    devices = ALONE if alone else distribution(train.strategy, batch_size=train.batch_size)
    precision.make_deterministic(config.train.seed, config.train.deterministic)
    wide = config.model.backbone.width >= WIDE
    return precision.set_precision(config.train.precision, wide=wide), devices


def _help_chief(devices: Distribution, fit: Callable[..., Any]) -> int:
    """Trains along with the chief, which alone writes and prints, and ends when it does."""
    with devices.watching(GO_ON):
        with tempfile.TemporaryDirectory(prefix="loc_keras-worker-") as folder:
            fit(folder=Path(folder))
        devices.meet()
    return 0


def _is_trial(args: argparse.Namespace) -> bool:
    """Whether nothing is to be kept of what is trained."""
    return bool(args.overfit_batch or args.find_lr or args.find_batch)


def _try(
    args: argparse.Namespace,
    plan: FitPlan,
    data: LocalizationData,
    localizer: keras.Model,
    console: Console,
) -> int:
    """Does what was asked instead of a training; gives the exit code."""
    if args.find_lr:
        return _find_rate(data, localizer, plan, args.find_lr, console)
    if args.find_batch:
        return _find_batch(data, localizer, plan, console)
    return _overfit(data, localizer, plan, args.overfit_batch, console)


def _overfit(
    data: LocalizationData, localizer: keras.Model, plan: FitPlan, steps: int, console: Console
) -> int:
    """Learns one batch by heart and prints how well; gives the exit code."""
    from loc_keras.training.trials import NEAR_ZERO, overfit_batch

    batch = next(iter(data.train(0)))
    result = overfit_batch(localizer, batch, plan=plan, steps=steps, console=console)
    verdict = (
        f"learned by heart (both at most {NEAR_ZERO:g})"
        if result.passed
        else f"NOT learned by heart: both must be at most {NEAR_ZERO:g}; try more steps, then "
        "suspect the labels, the learning rate or the losses"
    )
    console.print(
        f"one batch of {len(batch[0])} images, {steps} steps: loss before {result.first_loss:.3f}; "
        f"after, class loss {result.class_loss:.4f} (accuracy {result.accuracy:.1%}) and box loss "
        f"{result.box_loss:.4f}; {verdict}",
        highlight=False,
    )
    return 0 if result.passed else 1


def _rate_place(picture: Path) -> tuple[Path, Sequence[str], str]:
    return picture.parent, (picture.name,), "give another file to --find-lr"


def _find_rate(
    data: LocalizationData, localizer: keras.Model, plan: FitPlan, picture: Path, console: Console
) -> int:
    """Sweeps the learning rate, prints what to take and draws why; gives the exit code."""
    from loc_keras.report.curves import save_rate_picture
    from loc_keras.training.trials import HIGHEST, sweep_rates

    console.print("sweeping the learning rate; the model is thrown away", highlight=False)
    sweep = sweep_rates(localizer, data.train(0), plan=plan)
    with own_files(*_rate_place(picture)):
        save_rate_picture(picture, sweep, plan.train.batch_size)
    end = "diverged at" if sweep.diverged else "did not diverge up to"
    print_line(
        console,
        f"{len(sweep.rates)} batches of {plan.train.batch_size}: the loss was lowest at a rate of "
        f"{sweep.lowest_at:.1e} and {end} {sweep.rates[-1] if sweep.diverged else HIGHEST:.1e}; "
        f"see {picture}.\n"
        f"suggested, a tenth of the lowest's: --set train.learning_rate={sweep.suggested:g} "
        f"(now {plan.train.learning_rate:g})",
    )
    return 0


def _find_batch(
    data: LocalizationData, localizer: keras.Model, plan: FitPlan, console: Console
) -> int:
    """Times steps of growing batches and prints a table; gives the exit code."""
    from loc_keras.training.trials import batch_speeds, suggested_batch

    console.print("timing batches; the model is thrown away", highlight=False)
    batch = next(iter(data.train(0)))
    speeds = batch_speeds(localizer, batch, plan=plan, largest=data.sizes["train"])
    table = Table(title="one training step, without reading images")
    for heading in ("batch", "step (ms)", "images/s"):
        table.add_column(heading, justify="right")
    for speed in speeds:
        figures = (f"{1000 * speed.step_seconds:,.0f}", f"{speed.images_per_second:,.1f}")
        table.add_row(str(speed.batch_size), *(figures if speed.fits else ("no memory", "")))
    console.print(table)
    size = suggested_batch(speeds)
    print_line(
        console,
        f"suggested, the smallest of nearly the best speed: --set train.batch_size={size} "
        f"(now {plan.train.batch_size}); a batch of another size wants another learning rate "
        "(--find-lr).",
    )
    return 0
