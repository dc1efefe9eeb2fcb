"""The picture of answers with outer and inner boxes: what is drawn, and where."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from loc_keras.report.gallery import Example, draw_trusted, meaning, trusted_example
from loc_keras.report.image_boxes import ANSWERED_BOX, INNER_BOX, OUTER_BOX, draw_answer
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


def near(picture: Image.Image, colour: str) -> int:
    """How many pixels have a colour."""
    wanted = tuple(bytes.fromhex(colour.removeprefix("#")))
    return int((np.asarray(picture) == wanted).all(axis=-1).sum())


def test_a_drawn_answer_says_below_it_what_its_boxes_are() -> None:
    picture = Image.new("RGB", (400, 300), (90, 60, 30))
    box, outer, inner = (100, 80, 300, 220), (40, 40, 360, 260), (150, 120, 200, 180)
    plain = draw_answer(picture, "owl 93 %", box)
    assert plain.size == (400, 300)
    whole = draw_answer(picture, "owl 93 %", box, outer, inner)
    assert whole.width == 400 and whole.height > 330
    strip = whole.crop((0, 300, *whole.size))
    for style in (OUTER_BOX, ANSWERED_BOX, INNER_BOX):
        assert near(strip, style.colour) > 20
    # An empty inner box is neither drawn nor explained.
    without = draw_answer(picture, "owl 93 %", box, outer)
    assert near(without.crop((0, 300, *without.size)), INNER_BOX.colour) == 0
    for drawn in (whole, without, draw_answer(picture.resize((30, 40)), "owl", None, (1, 1, 9, 9))):
        # Nothing is cut off at the right.
        edge = np.asarray(drawn)[-8:, -1]
        assert (edge == edge[0]).all()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (5, 2)])
def test_pictures_of_any_number_and_kind(count: int, rows: int) -> None:
    grey = answer(picture=np.zeros((30, 30, 1), np.uint8))
    figure = draw_trusted([grey] * count, 0.95)
    assert len(figure.axes) == 1 + count  # The page, and an image each.
    assert len({round(axes.get_position().y0, 6) for axes in figure.axes[1:]}) == rows
    pixels = figure_to_array(figure)
    assert pixels.std() > 5


def test_a_page_of_one_picture_is_wide_enough_for_its_legend() -> None:
    figure = draw_trusted([answer()], 0.9)
    drawn = figure.canvas.get_renderer()
    page = figure.axes[0]
    texts = [*page.texts, *page.get_legend().get_texts()]
    edges = [text.get_window_extent(drawn).x1 for text in texts]
    assert len(edges) > 5
    assert max(edges) <= figure.bbox.width


def test_the_sentence_names_the_share() -> None:
    (page, *_) = draw_trusted([answer()], 0.95).axes
    words = " ".join(text.get_text() for text in (*page.texts, *page.get_legend().get_texts()))
    assert words.startswith(meaning(0.95))
    assert words.startswith("For 95 % of pictures like those that trust was fitted on")
    assert all(kind in words for kind in ("outer box", "answered box", "inner box"))
