"""When the benchmark says that a quality was reached."""

from benchmarks.time_to_quality import Point, reached, read, row_of


def points(*measured):
    return [Point(10.0 * n, n, *values) for n, values in enumerate(measured, start=1)]


def test_one_lucky_validation_is_not_enough():
    found = points((0.99, 0.9), (0.98, 0.95), (0.99, 0.89), (0.985, 0.9), (0.9, 0.9))
    # The first is followed by one that lacks accuracy; the third and the fourth have both.
    assert reached(found, 0.985, 0.89) == found[2]
    assert reached(found, 0.99, 0.89) is None
    assert reached(found[:3], 0.985, 0.89) is None
    assert reached([], 0.5, 0.5) is None


def test_rows_are_read_as_they_come(tmp_path):
    path = tmp_path / "history_steps.csv"
    assert read(path) == []
    path.write_text("step,epoch,val_softmax_accuracy,val_bbox_iou\n60,1,0.5,0.25\n120,1,0.75,0.5\n")
    assert read(path) == [(60, 0.5, 0.25), (120, 0.75, 0.5)]


def test_a_line_says_when_and_what_was_not():
    row = row_of("ours", points((0.99, 0.9), (0.99, 0.9)))
    assert row["98.5 % and .89"] == "10 s (step 1)"
    assert row["99.3 % and .975"] == "not reached"
    assert row["class accuracy, mean IoU there"] == "99.00%, 0.900"
