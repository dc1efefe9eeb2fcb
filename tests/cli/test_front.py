"""The command line: help at once, the same commands in three ways, names that go with a table."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from loc_keras import __main__ as front
from loc_keras import convert, export, predict
from loc_keras.bulk import outputs
from loc_keras.cli.data_arguments import load_shrunk
from loc_keras.cli.options import BATCH_SIZE, TOP_K
from loc_keras.data.formats.registry import WRITERS
from loc_keras.errors import ConfigError
from loc_keras.localizer import localizer
from loc_keras.serving import portable, web

DOCS = Path(__file__).resolve().parents[2] / "docs"
HEAVY = {"tensorflow", "keras", "numpy", "pydantic", "rich", "matplotlib"}


@pytest.mark.parametrize("name", [*front.COMMANDS, "__main__"])
def test_help_imports_no_library(name):
    code = (
        f"import sys\nfrom loc_keras import {name} as command\n"
        "try:\n    command.main(['--help'])\nfinally:\n    print('modules', *sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    shown, _, modules = ended.stdout.partition("\nmodules ")
    assert HEAVY.isdisjoint(modules.split())
    assert re.search(r"\nexamples:\n(  .*\n)+\nmore: docs/\w+\.md$|\nmore: README.md", shown)


@pytest.mark.parametrize("name", front.COMMANDS)
def test_examples_are_read_and_name_a_page(name):
    command = import_module(f"loc_keras.{name}")
    for example in command.EXAMPLES:
        command.build_parser().parse_args(example.split())
    assert (DOCS / command.PAGE).is_file()


def test_names_are_those_of_the_tables():
    assert set(convert.WRITTEN) == set(WRITERS)
    assert (portable.SAVED_MODEL, *portable.FORMATS, web.WEB) == export.FORMATS
    assert export.QUANTIZE == portable.QUANTIZE
    assert tuple(outputs.FORMATS) == predict.FORMATS
    assert tuple(n for n, form in outputs.FORMATS.items() if form.printed) == predict.PRINTED
    assert (BATCH_SIZE, TOP_K) == (localizer.BATCH_SIZE, localizer.TOP_K)


def test_a_command_is_run_by_its_name(capsys, tmp_path):
    out = tmp_path / "digits"
    with pytest.raises(SystemExit, match="2"):
        front.main(["digits", "--out", str(out), "--limit", "0"])
    assert "--limit: must be at least 1, a whole number, not '0'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a command: train, check"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--data", ".", "--imgsz", "64"], "did you mean --image-size?"),
        (["train", "--data", ".", "--minuets", "3"], "did you mean --minutes?"),
        (["evaluate", "--run", "x", "--splits", "val"], "did you mean --split?"),
    ],
)
def test_a_wrong_word_is_told_the_right_one(arguments, told, capsys):
    with pytest.raises(SystemExit) as ended:
        front.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit):
        front.main(["--version"])
    assert re.fullmatch(r"loc-keras \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_shell_learns_every_option(capsys):
    assert front.main(["--completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "--find-lr" in script
    assert "--allow-host" in script
    checked = subprocess.run(
        ["bash", "-n"], check=False, input=script, text=True, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr


# Everyday settings of train


def refused(*arguments):
    """What `train` says of arguments that are wrong before anything is read."""
    return ["train", "--config", "base", *arguments]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "train.lr=1"], "unknown key 'train.lr'; did you mean 'train.learning_rate'?"),
        (["--set", "train.epoch=1"], "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (["--lr", "-1"], "train.learning_rate must be greater than 0"),
        (["--image-size", "8"], "data.image_size"),
        (["--device", "7"], "--device 7: TensorFlow finds"),
    ],
)
def test_train_refuses_wrong_settings_by_one_sentence(arguments, told, capsys):
    assert front.main(refused(*arguments)) == 2
    assert told in capsys.readouterr().err


def test_everyday_settings_are_short_for_set(monkeypatch):
    seen = []
    monkeypatch.setattr("loc_keras.train.run_work", lambda name, args, **_: seen.append(args) or 0)
    everyday = "--epochs 5 --batch 16 --image-size 96 --lr 0.01 --seed 3 --precision float32"
    front.main([*refused(*everyday.split()), "--set", "train.epochs=6"])
    config, note = load_shrunk(seen[0].config, seen[0].set)
    train = config.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (6, 16, 0.01)
    assert (train.seed, train.precision, config.data.image_size) == (3, "float32", (96, 96))
    assert note is None  # The warm-up of base takes 3 epochs.


def test_what_takes_more_epochs_than_asked_for_is_shrunk():
    config, note = load_shrunk(Path("base"), ["train.epochs=1"])
    # By hand: base warms up for 3 of its 26 epochs.
    assert config.train.warmup_epochs == pytest.approx(3 / 26, abs=0.005)
    assert note == "train.warmup_epochs is 0.12 instead of 3, for 1 of 26 epochs."
    with pytest.raises(ConfigError, match="must not exceed epochs"):
        load_shrunk(Path("base"), ["train.epochs=1", "train.warmup_epochs=3"])
