"""The picture of answers with outer and inner boxes: what is drawn, and where."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from loc_keras.report.gallery import Example, draw_trusted, meaning, trusted_example
from loc_keras.report.style import figure_to_array


def answer(**changes: object) -> Example:
    parts = {
        "label": "owl",
        "probability": 0.934,
        "p_iou50": 0.18,
        "box": np.array([0.25, 0.25, 0.75, 0.75]),
        "outer": np.array([0.125, 0.0, 1.0, 1.0]),
        "inner": np.array([0.375, 0.5, 0.5, 0.75]),
        "labels": ["owl", "cat"],
    }
    picture = changes.pop("picture", np.full((40, 80, 3), 120, np.uint8))
    return trusted_example(picture, **{**parts, **changes})


def rectangles(axes) -> set[tuple[float, ...]]:
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return {tuple(round(v, 3) for v in (*p.get_xy(), p.get_width(), p.get_height())) for p in found}


def test_boxes_stand_where_they_say() -> None:
    page, axes = draw_trusted([answer()], 0.9).axes
    # By hand, as fractions: left, top, width, height.
    assert rectangles(axes) == {
        (0.25, 0.25, 0.5, 0.5),
        (0.125, 0.0, 0.875, 1.0),
        (0.375, 0.5, 0.125, 0.25),
    }
    caption = " · ".join(text.get_text() for text in page.texts[-2:])
    assert caption == "owl 93 % · box right: 18 % · 2 labels"


def test_an_empty_inner_box_is_told_and_not_drawn() -> None:
    page, axes = draw_trusted([answer(inner=np.zeros(4), labels=["owl"])], 0.9).axes
    assert len(rectangles(axes)) == 2
    caption = " · ".join(text.get_text() for text in page.texts[-2:])
    assert caption == "owl 93 % · box right: 18 % · 1 label · inner box empty"


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (5, 2)])
def test_pictures_of_any_number_and_kind(count: int, rows: int) -> None:
    grey = answer(picture=np.zeros((30, 30, 1), np.uint8))
    figure = draw_trusted([grey] * count, 0.95)
    assert len(figure.axes) == 1 + count  # The page, and an image each.
    assert len({round(axes.get_position().y0, 6) for axes in figure.axes[1:]}) == rows
    pixels = figure_to_array(figure)
    assert pixels.std() > 5


def test_the_sentence_names_the_share() -> None:
    (page, *_) = draw_trusted([answer()], 0.95).axes
    words = " ".join(text.get_text() for text in page.texts)
    assert words.startswith(meaning(0.95))
    assert words.startswith("For 95 % of pictures like those of calibration")
    assert all(kind in words for kind in ("outer box", "answered box", "inner box"))
