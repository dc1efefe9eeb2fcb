"""Training and checking a folder by one line: what is printed, written, and trained again."""

import csv
import io
import json
import os

import keras
import numpy as np
import pytest
from helpers.converted import drawn, save
from rich.console import Console
from ruamel.yaml import YAML

from loc_keras import check, evaluate, train
from loc_keras.cli import data_source, folds
from loc_keras.cli.data_arguments import plan_folder, print_plan, safe_name, shown_value
from loc_keras.config.load import load_config
from loc_keras.errors import ConfigError, ModelError
from loc_keras.localizer.localizer import Localizer
from loc_keras.models import weights
from loc_keras.recipe.rules import AUTO_BODIES
from loc_keras.training.fit import fit_localizer

FAST = [
    *("--set", "data.image_size=32", "--set", "model.backbone.width=4"),
    *("--set", "train.epochs=2", "--set", "train.steps_per_epoch=2"),
    *("--set", "train.precision=float32", "--set", "train.deterministic=true"),
    *("--set", "export.enabled=false", "--set", "trust.folds=2"),
]


def write_set(root, count=40):
    """A CSV set without splits: images of 48 x 40 px, dark or bright objects."""
    rng = np.random.default_rng(0)
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for k in range(count):
        x, y = rng.integers(0, 20, 2).tolist()
        box = (x, y, x + 20, y + 16)
        pixels = drawn(48, 40, box)
        if k % 2:
            pixels = 255 - pixels
        pixels[-1] = k  # No two images are the same.
        save(root / "pictures" / f"{k}.png", pixels)
        rows.append(f"{k}.png,{['bright', 'dark'][k % 2]},{','.join(map(str, box))}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data") / "my set")


def flow(text):
    """A value of the table, read by a YAML parser of its own."""
    value = YAML(typ="safe", pure=True).load(text)
    return value


def at(tree, key):
    for part in key.split("."):
        tree = tree[part]
    return tree


def plain(value):
    """A setting without what was left out, square sides as one."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        both = [plain(one) for one in value]
        return both[0] if len(both) == 2 and both[0] == both[1] else both
    return value


def test_every_choice_that_is_printed_is_what_the_config_holds(folder):
    plan = plan_folder(str(folder), ["augment.hue=0.1", "train.schedule=constant"])
    screen = Console(file=io.StringIO(), width=400, markup=False)
    print_plan(screen, plan, explain=True)
    lines = screen.file.getvalue().splitlines()
    tree = plan.source.config.model_dump()
    printed = {}
    for line in lines[3:]:
        if not line.strip():
            break
        key, value, *_ = (part.strip() for part in line.strip().split("   ") if part.strip())
        printed[key] = flow(value)
    assert printed.keys() >= {"data.source.format", "train.epochs", "augment.flip", "train.seed"}
    for key, value in printed.items():
        assert value == plain(at(tree, key)), key
    # And nothing but the name differs from the defaults without being printed.
    assert {choice.key for choice in plan.choices if choice.value is not None} == set(printed)
    asked = {choice.key for choice in plan.choices if choice.why == "asked for"}
    assert asked == {"augment.hue", "train.schedule"}
    assert plan.source.config.augment.hue == 0.1
    assert plan.source.config.train.schedule == "constant"


def test_a_folder_is_read_and_checked_once(folder, monkeypatch):
    calls = []

    def counted(name, call):
        def count(*args, **options):
            calls.append(name)
            return call(*args, **options)

        return count

    for name in ("read_annotations", "quick_check"):
        monkeypatch.setattr(data_source, name, counted(name, getattr(data_source, name)))
    source = plan_folder(str(folder)).source
    assert len(source.records.splits["train"]) == 40  # None is cut off.
    assert calls == ["read_annotations", "quick_check"]


@pytest.mark.parametrize("sides", [(64, 64), (64, 48)])
def test_sides_are_shown_as_they_may_be_written(sides):
    assert plain(flow(shown_value(sides))) == plain(sides)


def test_written_config_gives_all_settings_again(folder, tmp_path, capsys):
    file = tmp_path / "chosen.yaml"
    arguments = ["--data", str(folder), "--write-config", str(file), "--set", "train.seed=7"]
    assert train.main(arguments) == 0
    assert f"--config {file}" in capsys.readouterr().out
    assert load_config(file) == plan_folder(str(folder), ["train.seed=7"]).source.config
    text = file.read_text(encoding="utf-8")
    assert "seed: 7 # asked for" in text
    assert "flip: true # no class depends on left or right" in text
    assert not (tmp_path / "runs").exists()


def test_config_on_the_screen_is_nothing_but_the_config(folder, capsys):
    assert train.main(["--data", str(folder), "--write-config", "-"]) == 0
    printed = capsys.readouterr()
    tree = YAML(typ="safe", pure=True).load(printed.out)
    assert tree["name"] == "my_set"
    assert tree["data"]["source"]["path"] == str(folder)
    assert "training  epochs" in printed.err


def history(run):
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: one[key] for key in one if "second" not in key} for one in rows]


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_run_of_a_folder_is_repeated_by_its_config(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(folder)
    first, again = tmp_path / "first", tmp_path / "again"
    held = ["--set", "train.folds=0"]
    assert train.main(["--data", relative, *FAST, *held, "--run-dir", str(first)]) == 0
    printed = capsys.readouterr().out
    assert "labels.csv" in printed and "28 train, 6 val, 6 test" in printed
    config = load_config(first / "config.yaml")
    assert config.data.source.path == relative
    assert config.name == "my_set"
    assert train.main(["--config", str(first / "config.yaml"), "--run-dir", str(again)]) == 0
    assert load_config(again / "config.yaml") == config
    facts = [json.loads((run / "environment.json").read_text()) for run in (first, again)]
    assert facts[0]["data_fingerprint"] == facts[1]["data_fingerprint"]
    assert facts[0]["label_files"] == [{"files": "labels.csv", "use": "train", "why": ""}]
    assert facts[1]["label_files"] == facts[0]["label_files"]
    assert history(first) == history(again)
    assert len(history(first)) == 2
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (first, again)]
    assert metrics[0] == metrics[1]
    # 28 training images are too few to hold any back: two models answered 14 each.
    trust, repeated = (json.loads((run / "trust.json").read_text()) for run in (first, again))
    base = trust["calibration"]
    assert (base["method"], base["folds"], base["images"], base["split"]) == (
        "cross",
        2,
        28,
        "train",
    )
    assert base["guarantee"].startswith("Proven for 80 %")
    assert trust["statements"] == repeated["statements"]
    assert not (first / "folds").exists() and (first / "folds.keras").is_file()
    (answer,) = Localizer.load(first).predict([folder / "pictures" / "0.png"])
    assert answer.box_outer is not None
    (promise,) = [line for line in printed.splitlines() if "object in the outer box" in line]
    assert promise.endswith("promised: 80 %")


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_a_run_killed_in_its_third_fold_goes_on_there(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = [*FAST, "--set", "train.folds=3", "--set", "trust.fold_length=1"]
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert train.main(["--data", str(folder), *settings, "--run-dir", str(alone)]) == 0

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 3:
                raise KilledError

    def fit(*arguments, folder, **more):
        third = [Kill()] if folder.name == "3" else []
        return fit_localizer(*arguments, folder=folder, extra_callbacks=third, **more)

    with monkeypatch.context() as patch:
        patch.setattr(folds, "fit_localizer", fit)
        with pytest.raises(KilledError):
            train.main(["--data", str(folder), *settings, "--run-dir", str(killed)])
    assert sorted(path.name for path in (killed / "folds").iterdir()) == ["1", "2", "3"]
    finished = (killed / "folds" / "2" / "history.csv").stat().st_mtime_ns
    capsys.readouterr()
    asked = []

    def note(*arguments, folder, **more):
        asked.append(folder.name)
        if folder.name == "3":
            assert (killed / "folds" / "2" / "history.csv").stat().st_mtime_ns == finished
        return fit_localizer(*arguments, folder=folder, **more)

    monkeypatch.setattr(folds, "fit_localizer", note)
    assert train.main(["--resume", str(killed)]) == 0
    assert asked == ["1", "2", "3"]
    printed = capsys.readouterr().out
    # All 40 images train the model that is kept, and all are answered by others.
    assert "data: 40 train images" in printed and "40 out-of-fold images" in printed
    assert "answered by one of 3 models, trained without it for 100% of the epochs" in printed
    figures = [json.loads((run / "metrics.json").read_text()) for run in (alone, killed)]
    assert figures[0] == figures[1] and figures[0].keys() == {"folds"}
    assert figures[0]["folds"]["images"] == 40
    assert (killed / "plots" / "folds_gallery.png").is_file()
    assert evaluate.main(["--run", str(killed)]) == 0
    measured = json.loads((killed / "evaluation" / "folds" / "metrics.json").read_text())
    accuracy = measured["figures"]["class_accuracy"]
    assert accuracy["value"] == pytest.approx(figures[0]["folds"]["softmax_accuracy"])
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    page = (killed / "evaluation" / "folds" / "report.html").read_text(encoding="utf-8")
    assert "trained without it" in page and "out-of-fold" in page
    # Three trainings are over, that of the third fold goes on behind its first epoch of two steps.
    assert printed.count("epoch-end: 2 epochs and 0 of 2 steps of the next are done") == 3
    assert printed.count("epoch-end: 1 epochs and 0 of 2 steps of the next are done") == 1
    said = [json.loads((run / "trust.json").read_text()) for run in (alone, killed)]
    for one in said:  # Of files in which Keras writes their date.
        del one["calibration"]["model_sha256"], one["calibration"]["folds_sha256"]
    assert said[0] == said[1]


def test_weights_at_hand_are_taken_and_their_lack_is_told(folder, monkeypatch):
    body = "applications/MobileNetV3Small"
    for device in ("cpu", "gpu"):
        monkeypatch.setitem(AUTO_BODIES, device, (("resnet18",), body))

    def missing(*_):
        raise ModelError("there is no network; do this.")

    monkeypatch.setattr(weights, "weights_at_hand", lambda *_: ("imagenet", body))
    chosen = plan_folder(str(folder), weights="auto").source.config.model.backbone
    assert (chosen.name, chosen.weights) == (body, "imagenet")
    monkeypatch.setattr(weights, "weights_at_hand", missing)
    plan = plan_folder(str(folder), weights="auto")
    assert plan.source.config.model.backbone.weights == "none"
    assert any("random weights" in note and "do this." in note for note in plan.notes)
    # Who asks for a body, or for random weights, is not asked about others.
    for asked in (
        {"overrides": ["model.backbone.width=4"], "weights": "auto"},
        {"weights": "none"},
    ):
        plan = plan_folder(str(folder), **asked)
        assert not any("random weights" in note for note in plan.notes)


class KilledError(Exception):
    """What a run dies of."""


def test_folder_is_checked_by_one_line(folder, tmp_path, capsys):
    copy = write_set(tmp_path / "copy", count=8)
    assert check.main(["--data", str(copy), "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "train 8 objects in 8 images" in printed
    assert "labels: labels.csv: used for train" in printed
    for k in range(6):
        (copy / "pictures" / f"{k}.png").unlink()
    # Most images are gone: training refuses, the check lists them.
    assert check.main(["--data", str(copy), "--quick"]) == 1
    assert "image file is missing" in capsys.readouterr().out
    assert train.main(["--data", str(copy)]) == 2
    assert "6 of 8 objects cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data", "x", "--config", "y"],
        ["--config", "y", "--minutes", "3"],
        ["--config", "y", "--name", "n"],
        ["--config", "y", "--write-config", "f"],
        ["--data", "x", "--minutes", "0"],
        ["--data", "x", "--minutes", "nan"],
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(arguments)
    assert stopped.value.code == 2
    assert "--" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.epoch=3", "train.epoch"),
        ("train.epochs=0", "train.epochs"),
        ("data.source.path=x", "goes with --config"),
    ],
)
def test_wrong_overrides_are_told_before_the_folder_is_read(override, told, capsys):
    assert train.main(["--data", "nowhere", "--set", override]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "nowhere does not exist" not in error


def test_override_that_cannot_go_with_a_choice_is_told(folder):
    with pytest.raises(ConfigError, match=r"warmup_epochs \(9\) must not exceed epochs \(2\)"):
        plan_folder(str(folder), ["train.warmup_epochs=9", "train.epochs=2"])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b/caltech3", "caltech3"),
        ("photos/", "photos"),
        ("my photos (2)", "my_photos_2"),
        ("/", "folder"),
        ("Käfer.v2", "Käfer.v2"),
    ],
)
def test_name_is_made_of_the_folders(path, name):
    assert safe_name(path) == name


def test_name_of_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert safe_name(".") == "here"


def test_name_can_be_given(folder):
    assert plan_folder(str(folder), name="other").source.config.name == "other"
