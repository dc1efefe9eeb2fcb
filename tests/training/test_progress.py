"""What a training shows, as a terminal of 80 or 160 columns has it, and as a file has it."""

import io
import re
import time

import pytest
from helpers.terminal import shown, terminal
from helpers.training_examples import plan, squares, tiny
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from loc_keras.training import progress
from loc_keras.training.callbacks import Checkpoints, EpochFigures, Place, Position
from loc_keras.training.fit import fit_localizer
from loc_keras.training.progress import LiveLine, TrainingProgress, clock_time, epoch_row, header

LOGS = {
    "loss": 2.3104,
    "softmax_accuracy": 0.1234,
    "bbox_iou": 0.41249,
    "val_loss": 2.1,
    "val_softmax_accuracy": 1.0,
    "val_bbox_iou": 0.5,
    "learning_rate": 0.001,
}
# By hand: the figures above, rounded.
HEADER = [
    "                         training                  validation",
    "epoch     loss accuracy  mean IoU     loss accuracy  mean IoU           left",
]
ROW = " 3/30    2.310   12.3 %      .412    2.100  100.0 %      .500  best     4:05"
ONE_CLASS = " 3/30    2.310      .412    2.100      .500        1:04:05"


def test_a_row_holds_six_figures_and_the_mark():
    assert list(header(30)) == HEADER
    assert epoch_row(3, 30, LOGS, True, 245.4) == ROW
    assert epoch_row(3, 30, LOGS, False, 3845, False) == ONE_CLASS
    assert epoch_row(3, 30, {"loss": float("nan")}, False, None).split() == ["3/30", *7 * "–"]


figures = st.one_of(st.floats(-9e99, 9e99), st.sampled_from([float("nan"), float("-inf")]))


@given(
    st.integers(1, 9999),
    st.tuples(figures, figures),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.one_of(st.none(), st.floats(0, 1e7)),
)
def test_a_row_of_any_figures_has_its_cells_and_at_most_100_characters(
    epochs, losses, shares, left
):
    logs = dict(zip(("loss", "val_loss"), losses, strict=True))
    names = ("softmax_accuracy", "bbox_iou", "val_softmax_accuracy", "val_bbox_iou")
    logs |= dict(zip(names, shares, strict=True))
    row = epoch_row(epochs, epochs, logs, True, left)
    assert len(row) <= 100
    assert len(row) <= 80 or epochs > 999
    # The epoch, two times three figures, the mark, the time left.
    assert len(re.sub("(?<=[<>]) | (?=[%h])", "", row).split()) == 1 + 2 * 3 + 1 + 1


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (360000, "100 h")]
)
def test_durations(seconds, words):
    assert clock_time(seconds) == words


@pytest.mark.parametrize("width", [80, pytest.param(160, marks=pytest.mark.whole)])
def test_the_live_line_stays_below_the_rows_and_goes_at_the_end(width, monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    console, drawn = terminal(width)
    with LiveLine(console) as line:
        line.show("epoch 1/2  step 1/3")
        assert shown(drawn()) == ["epoch 1/2  step 1/3"]
        assert not drawn().cursor.hidden  # Whatever ends the process leaves a usable terminal.
        line.print(Text("row"))
        line.show("x" * 200)
        assert shown(drawn()) == ["row", "x" * (width - 1) + "…"]
        print("a print by somebody else", file=console.file)
        line.show("epoch 2/2")
    assert shown(drawn())[-1] != "epoch 2/2"
    assert not drawn().cursor.hidden


def test_an_interrupt_leaves_the_rows_alone(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    console, drawn = terminal(80)

    def interrupted():
        with LiveLine(console) as line:
            line.print(Text("row"))
            line.show("epoch 1/2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    console.print("stopped.")
    assert shown(drawn()) == ["row", "stopped."]
    assert not drawn().cursor.hidden


def masked(lines):
    """Lines with a # for each figure."""
    return [re.sub(r"[\d:,]*\.?\d+( %)?", "#", line) for line in lines]


def fitted(folder, console, **more):
    return fit_localizer(
        tiny(),
        train=lambda step: squares(24).skip(step % 3).repeat(),
        val=squares(8, seed=1),
        plan=plan(**more.pop("train", {})),
        folder=folder,
        console=console,
        **more,
    )


@pytest.mark.parametrize("width", [80, 160])
def test_a_training_on_a_terminal(width, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    console, drawn = terminal(width)
    live = []
    show = LiveLine.show

    def noted(line, text):
        show(line, text)
        live.append(shown(drawn())[-1])

    monkeypatch.setattr(LiveLine, "show", noted)
    result = fitted(tmp_path, console)
    rows = shown(drawn())
    assert rows[:2] == list(header(2))
    assert len(rows) == 4
    for epoch, row in enumerate(rows[2:], start=1):
        logs = {key: float(value) for key, value in result.history[epoch - 1].items()}
        assert row.startswith(epoch_row(epoch, 2, logs, False, None)[:61])
    assert masked([live[1]]) == ["epoch #/#  step #/#  # images/s  loss #  # left"]
    assert masked([live[3]]) == ["epoch #/#  validating  # left"]
    assert [line.split("  ")[:2] for line in live if "step" in line] == [
        [f"epoch {epoch}/2", f"step {step}/3"] for epoch in (1, 2) for step in (1, 2, 3)
    ]


def test_a_training_into_a_file_writes_one_line_an_epoch(tmp_path):
    console = Console(file=io.StringIO())
    result = fitted(tmp_path, console)
    lines = console.file.getvalue().splitlines()
    assert lines[:2] == list(header(2))
    assert len(lines) == 4
    assert all(len(line) <= 100 for line in lines)
    last = result.history[-1]
    words = epoch_row(2, 2, last, result.best_epoch == 1, 0)
    assert lines[3] == words
    assert [("best" in line) for line in lines[2:]][result.best_epoch]


@pytest.mark.whole
def test_a_fold_shows_no_rows_and_a_silent_training_nothing(tmp_path, capsys):
    console = Console(file=io.StringIO())
    fitted(tmp_path / "fold", console, name="fold 1/5")
    fitted(tmp_path / "silent", None)
    assert console.file.getvalue() == ""
    assert capsys.readouterr().out == ""


@pytest.mark.whole
def test_early_stopping_is_told(tmp_path):
    told = []
    fitted(
        tmp_path,
        None,
        say=told.append,
        train={
            **{"epochs": 4, "learning_rate": 1e-12, "early_stopping_patience": 1},
            "monitor": "val_top1_loc",
        },
    )
    assert told == ["stopped after epoch 2: val_top1_loc was no better for 1 epochs."]


def test_the_time_left_is_that_of_the_whole_run(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    position = Position(steps_per_epoch=10)
    shown = TrainingProgress(
        LiveLine(None),
        position,
        EpochFigures(8, position),
        Checkpoints(None, tmp_path, "val_score", 8),
        epochs=4,
        after=lambda epochs, seconds: 2 * seconds + epochs,
    )
    assert shown.seconds_left() is None
    position.place = Place(0, 1)
    shown.on_train_batch_end(0, {"loss": 1.0})
    assert shown.seconds_left() is None
    # Ten steps in 30 s, a validation among them: 3 s for each of 29 steps, and two more epochs of
    # ten and 4 s.
    now[0] += 30.0
    position.place = Place(1, 1)
    assert shown.seconds_left() == pytest.approx(3 * 29 + 2 * 30 + 4)
