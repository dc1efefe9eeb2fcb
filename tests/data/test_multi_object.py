"""Policies for images with several objects, worked out by hand on a 100 x 50 px picture."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Annotated, Annotations, ImageRef
from loc_keras.data.image_header import Header
from loc_keras.data.resolve import checked_objects, resolve

SIZE = (100, 50)


class Kept(NamedTuple):
    row: int
    box: tuple[float, ...]
    size: tuple[int, ...]
    window: tuple[int, ...]


def usable(row, box_px):
    return Annotated(ImageRef("a.png"), "a.png", "cat", box_px, "a.xml", row)


SMALL = usable(1, (10, 10, 20, 20))
LARGE = usable(2, (50, 5, 90, 45))


def choose(objects, count, policy, margin):
    unread = {ImageRef("a.png"): count - len(objects)}
    annotations = Annotations({"train": objects}, "pixel", unread=unread)
    source = SourceConfig(several=policy, crop_margin=margin)
    headers = {ImageRef("a.png"): Header(*SIZE)}
    found = resolve(annotations, source, checked_objects(annotations, headers, source))
    kept = []
    if "train" in found.splits:
        one = found.splits["train"]
        columns = (one.rows, one.boxes, one.sizes[:, ::-1], one.windows)
        kept = [
            Kept(row, *map(tuple, more))
            for row, *more in zip(*map(np.ndarray.tolist, columns), strict=True)
        ]
    return kept, found.faults


def test_one_object_is_kept_under_every_policy():
    for policy in ("skip", "largest", "first", "crop"):
        (kept,), faults = choose([SMALL], 1, policy, 1.0)
        assert (kept.row, kept.window, faults) == (1, (0, 0, 0, 0), [])
        assert kept.box == pytest.approx((0.1, 0.2, 0.2, 0.4))


@pytest.mark.parametrize(
    ("policy", "kept", "left_out"),
    [("skip", [], [1, 2]), ("first", [1], [2]), ("largest", [2], [1])],
)
def test_policies_that_leave_objects_out(policy, kept, left_out):
    chosen, faults = choose([SMALL, LARGE], 2, policy, 1.0)
    assert [one.row for one in chosen] == kept
    assert [fault.row for fault in faults] == left_out
    assert {fault.kind for fault in faults} == {"several"}
    assert all("one of 2 objects in a.png" in fault.reason for fault in faults)


def test_an_object_beside_an_unusable_one_is_still_one_of_several():
    chosen, faults = choose([SMALL], 2, "skip", 1.0)
    assert chosen == []
    assert len(faults) == 1


def test_crops_hold_their_object_at_the_same_pixels():
    chosen, faults = choose([SMALL, LARGE], 2, "crop", 1.0)
    assert faults == []
    for one, box_px in zip(chosen, ((10, 10, 20, 20), (50, 5, 90, 45)), strict=True):
        left, top, right, bottom = one.window
        assert one.size == (right - left, bottom - top)
        x1, y1, x2, y2 = one.box
        width, height = one.size
        found = (x1 * width + left, y1 * height + top, x2 * width + left, y2 * height + top)
        assert found == pytest.approx(box_px)
    # The other object is 30 px to the right of the small one, more than its side of 10 px.
    assert chosen[0].window[2] <= 30
    assert chosen[1].window[0] >= 20


def test_without_margin_the_window_is_the_box():
    chosen, _ = choose([SMALL, LARGE], 2, "crop", 0.0)
    assert chosen[0].window == (10, 10, 20, 20)
    assert chosen[0].box == pytest.approx((0, 0, 1, 1))


coordinates = st.tuples(
    st.integers(0, 98), st.integers(0, 48), st.integers(1, 100), st.integers(1, 50)
).map(lambda b: (b[0], b[1], min(100, b[0] + b[2]), min(50, b[1] + b[3])))


@settings(deadline=None, max_examples=300)
@given(boxes=st.lists(coordinates, min_size=2, max_size=5, unique=True), margin=st.floats(0, 4))
def test_no_crop_shows_an_object_beside_its_own(boxes, margin):
    objects = [usable(row, box) for row, box in enumerate(boxes, start=1)]
    chosen, _ = choose(objects, len(objects), "crop", margin)
    for one, own in zip(chosen, boxes, strict=True):
        left, top, right, bottom = one.window
        assert 0 <= left <= own[0] and own[2] <= right <= 100
        assert 0 <= top <= own[1] and own[3] <= bottom <= 50
        for other in boxes:
            apart = (
                other[2] <= own[0] or other[0] >= own[2] or other[3] <= own[1] or other[1] >= own[3]
            )
            if other != own and apart:
                assert (
                    other[2] <= left or other[0] >= right or other[3] <= top or other[1] >= bottom
                )
