"""What a person reads of a training before and after it, on terminals of 80 and 160 columns."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.terminal import shown, terminal

from loc_keras.cli import data_arguments, runs
from loc_keras.cli.data_arguments import chosen_parts, print_plan
from loc_keras.evaluation.outcomes import Estimate, Outcomes
from loc_keras.evaluation.reliability import Guarantee
from loc_keras.recipe.rules import Choice, Facts, choose
from loc_keras.report.terminal import result_lines, weak_points

PHOTOS = Facts(
    images=186,
    classes={"corn": 60, "carrot": 66, "eggplant": 60},
    side=420.0,
    spread=1.2,
    small_side=0.3,
    annotated=186,
    bfloat16=True,
)
SOURCE = [Choice("data.source.format", "voc", "found"), Choice("data.source.path", "photos", "")]
# By hand, of the choices of `PHOTOS`: a line a part, cut at the 80th column.
NARROW = [
    "data      format voc, path photos, several skip",
    "input     image_size 128, resize stretch, channels 3, cache auto",
    "model     width 32, dropout 0.3",
    "augment   flip, translate 0.15, scale 0.3, aspect 0.2, rotation 10.0, crop 0.4,…",
    "loss      distribution_weight 0.25, label_smoothing 0.05",
    "measured  folds 5, fold_length 0.3",
    "trust     method cross",
    "          all of them, with reasons: --explain",
    "note: mind this.",
]


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.setattr(data_arguments, "print_label_files", lambda console, source: None)
    chosen, _ = choose(PHOTOS, minutes=10)
    return SimpleNamespace(choices=[*SOURCE, *chosen], notes=["mind this."], source=None)


@pytest.mark.parametrize("width", [80, 160])
def test_choices_are_told_in_at_most_12_lines(plan, width):
    console, drawn = terminal(width)
    print_plan(console, plan)
    lines = shown(drawn())
    assert len(lines) <= 12 + len(plan.notes)
    assert all(len(line) <= width for line in lines)
    (training,) = [line for line in lines if line.startswith("training")]
    assert training.startswith("training  epochs ")
    others = [line for line in lines if line != training]
    if width == 80:
        assert others == NARROW
    else:
        assert next(one for one in others if one.startswith("augment")).endswith(
            "saturation 0.3, hue 0.02, box_from ellipse"
        )


def test_every_choice_stands_in_a_part(plan):
    words = ", ".join(chosen_parts(plan.choices).values()).split(", ")
    assert len(words) == sum(choice.value is not None for choice in plan.choices)
    other = chosen_parts([Choice("new.section.key", 3, "?"), Choice("augment.flip", False, "?")])
    assert other == {"augment": "no flip", "other": "new.section.key 3"}


def test_reasons_are_given_on_demand(plan):
    console, drawn = terminal(160, lines=80)
    print_plan(console, plan, explain=True)
    told = shown(drawn())
    row = next(line for line in told if line.startswith(" train.warmup_epochs"))
    assert row.endswith("a tenth, 1 to 3")


NAMES = ["cat", "dog", "hen"]


def outcomes(wrong_classes, wrong_boxes, count=20, **more):
    """Of each class `count` images: some called the next class, some with a box elsewhere."""
    labels = np.repeat(np.arange(3), count).astype(np.int32)
    answers = labels.copy()
    boxes = np.tile([[0.0, 0, 10, 10]], (3 * count, 1))
    answered = boxes.copy()
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        answers[rows[: wrong_classes[label]]] = (label + 1) % 3
        answered[rows[len(rows) - wrong_boxes[label] :]] += 50
    return Outcomes(
        labels=labels,
        probabilities=np.eye(3)[answers],
        boxes_px=boxes,
        boxes_pred_px=answered,
        sizes=np.full((3 * count, 2), 100, np.int32),
        **more,
    )


def test_figures_that_mean_something_have_their_intervals():
    found = result_lines("test", outcomes([0, 6, 0], [0, 0, 3]))
    header, *rows = found
    assert header == "60 test images                value    95 % interval"
    assert [row[:26].strip() for row in rows] == [
        *("class accuracy", "mean IoU", "Top-1 localization")
    ]
    # 54 of 60 classes, 57 of 60 boxes, 51 of 60 both.
    assert [row[26:36].strip() for row in rows] == ["90.0 %", ".950", "85.0 %"]
    low, high = (float(part) for part in rows[0][36:].replace("%", "").split("–"))
    # The normal approximation: 90 % and 1.96 times the root of .9 * .1 / 60.
    assert low == pytest.approx(82.4, abs=2)
    assert high == pytest.approx(97.6, abs=2)


def test_one_class_has_no_class_accuracy_and_a_background_is_told():
    every = outcomes([0, 0, 0], [0, 0, 3])
    single = Outcomes(
        labels=np.zeros(60, np.int32),
        probabilities=np.ones((60, 1)),
        boxes_px=every.boxes_px,
        boxes_pred_px=every.boxes_pred_px,
        sizes=every.sizes,
    )
    names = [line[:26].strip() for line in result_lines("val", single)]
    assert names == ["60 validation images", "mean IoU", "box accuracy, IoU ≥ .5"]
    empty = outcomes([0, 0, 0], [0, 0, 0], background=2)
    names = [line[:26].strip() for line in result_lines("val", empty)]
    assert names[-2:] == ["background found empty", "object called background"]


def test_figures_without_near_duplicates_and_the_promise_stand_beside():
    leaked = np.zeros(60, bool)
    leaked[:20] = True
    kept = Guarantee("outer box", 0.9, Estimate(0.925, 0.86, 0.97, 60), 0.4, 0.0)
    trust = SimpleNamespace(guarantees=[kept])
    lines = result_lines("test", outcomes([0, 6, 0], [0, 0, 3]), leaked, trust, 0.8)
    assert lines[0].endswith("without near duplicates")
    assert lines[1].endswith("85.0 %")  # 34 of 40.
    assert lines[-1].split("  ")[0] == "object in the outer box"
    assert "92.5 %" in lines[-1] and lines[-1].endswith("promised: 80 %")
    assert all(len(line) <= 80 for line in lines)


def test_the_weakest_class_and_the_commonest_confusion_are_named():
    found = weak_points(outcomes([0, 6, 0], [0, 0, 3]), NAMES)
    assert found == [
        "weakest class: dog, class and box right in 14 of 20 images",
        "dog taken for hen: 6 of 20 images",
    ]
    assert weak_points(outcomes([0, 0, 0], [0, 0, 0]), NAMES) == []
    assert weak_points(outcomes([1, 0, 0], [0, 0, 0], count=4), NAMES) == []  # Of so few: luck.


@pytest.mark.parametrize("width", [80, 160])
def test_the_end_of_a_run_in_at_most_15_lines(width, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = Path("a photo.jpg")
    picture.touch()
    folder = Path("runs/my/20260102-030405")
    pictures = {"test": SimpleNamespace(paths=["", str(picture)])}
    data = SimpleNamespace(measured="test", pictures=pictures)
    result = SimpleNamespace(best_epoch=26, history=[{}] * 30)
    figures = result_lines("test", outcomes([0, 6, 0], [0, 0, 3], background=2))
    findings = weak_points(outcomes([0, 6, 0], [0, 0, 3]), NAMES)
    console, drawn = terminal(width)
    given = [*figures, "trust"], findings, folder / "export" / "1", 588.4, Path("saved_models/my")
    runs.print_end(console, folder, result, data, *given)
    screen = drawn()
    lines = shown(screen)
    # Commands stand alone in their lines, to be pasted.
    assert lines[7:12] == [
        "look at: weakest class: dog, class and box right in 14 of 20 images",
        "look at: dog taken for hen: 6 of 20 images",
        "look at: runs/my/20260102-030405/plots/test_gallery.png",
        "next:",
        "python -m loc_keras.evaluate --run runs/my/20260102-030405",
    ]
    assert lines[-2:] == [
        "python -m loc_keras.export --run runs/my/20260102-030405 --out saved_models/my",
        "finished in 9:48, epoch 27 of 30; exported to runs/my/20260102-030405/export/1",
    ]
    command = "".join(lines[12:-2]).replace(" ", "")
    whole = f"python -m loc_keras.predict --model {folder} '{picture}' --out answers --draw"
    assert command == whole.replace(" ", "")
    # One command needs a second line on a narrow screen.
    assert screen.cursor.y == len(lines) == (15 if width == 160 else 16)


def test_commands_fit_what_there_is():
    folder = Path("runs/my/1")
    drawn = SimpleNamespace(measured="val", pictures={"val": SimpleNamespace(paths=["", ""])})
    base = Path("saved_models/my")
    assert runs.next_commands(folder, drawn, base / "3", base) == [
        "python -m loc_keras.evaluate --run runs/my/1",
        "tensorboard --logdir runs/my/1/tensorboard",
        "python -m loc_keras.demo --model runs/my/1",
    ]
