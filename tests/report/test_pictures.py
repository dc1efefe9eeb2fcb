"""Pictures and tables: where a line lies, what a caption says, what a diagram joins."""

import io
import math
from pathlib import Path
from typing import Any

import keras
import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from PIL import Image
from rich.console import Console

from loc_keras.errors import DataError, ModelError
from loc_keras.evaluation.outcomes import paired_iou
from loc_keras.models.assembly import build_localizer
from loc_keras.report import gallery as captions
from loc_keras.report import image_boxes as drawing
from loc_keras.report import style
from loc_keras.report.architecture import draw_structure, save_architecture, structure_of
from loc_keras.report.curves import (
    PANELS,
    Curve,
    Unit,
    format_value,
    panel_curves,
    read_history,
    save_curves,
    value_limits,
)
from loc_keras.report.gallery import draw_gallery
from loc_keras.report.style import (
    ELLIPSIS,
    figure_to_array,
    fill_lines,
    save_figure,
    shorten,
    text_width,
)
from loc_keras.report.terminal import print_metrics


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def has_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Boolean (H, W): where the picture has the colour to within what blending rounds."""
    near: np.ndarray = np.abs(pixels.astype(int) - rgb(colour)) <= 2
    return np.asarray(near.all(axis=-1))


# Drawing.


def render_example(
    image: Any, box_true: Any = None, box_pred: Any = None, *, shorter_side: int = 300
) -> np.ndarray:
    """An image with boxes, enlarged by the smallest whole factor that makes it large enough."""
    height, width = np.shape(image)[:2]
    factor = max(1, math.ceil(shorter_side / min(height, width)))
    dpi = drawing.DPI
    figure = style.new_figure(width * factor / dpi, height * factor / dpi, dpi)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    drawing.draw_image(axes, image)
    for box, kind in ((box_true, drawing.TRUE_BOX), (box_pred, drawing.PREDICTED_BOX)):
        if box is not None:
            drawing.draw_box(axes, box, kind)
    return figure_to_array(figure)


def test_true_box_is_drawn_on_its_pixel_edges() -> None:
    # 20 rows x 40 columns enlarged by 10 to 200 x 400; the box (.25, .5, .75, 1) has its left
    # edge at 100 px, its right edge at 300 px, its top at 100 px and its bottom at 200 px.
    picture = render_example(
        np.zeros((20, 40, 1), np.uint8), [0.25, 0.5, 0.75, 1.0], shorter_side=200
    )
    assert picture.shape == (200, 400, 3)
    truth = has_colour(picture, style.TRUTH)
    # At 144 dpi a line of 3 points is 6 px wide: 3 px on each side of the edge.
    row = np.flatnonzero(truth[150])
    assert row.tolist() == [*range(97, 103), *range(297, 303)]
    column = np.flatnonzero(truth[:, 200])
    assert column.tolist() == [*range(97, 103), *range(197, 200)]


@pytest.mark.parametrize("channels", [1, 3])
def test_image_and_box_share_one_scale(channels: int) -> None:
    # The white pixels 4..7 of 16, drawn with the box that bounds them: white must begin where
    # the line's inner half ends and never be seen outside of it.
    image = np.zeros((16, 16, channels), np.float32)
    image[4:8, 4:8] = 255.0
    picture = render_example(image, [0.25, 0.25, 0.5, 0.5], shorter_side=320)
    white = has_colour(picture, "#FFFFFF")
    # 20 px per pixel: the square covers 80..159, the line 3 px and the halo 1 px of each side.
    assert np.flatnonzero(white.any(axis=0)).tolist() == list(range(84, 156))
    assert np.flatnonzero(white.any(axis=1)).tolist() == list(range(84, 156))


def test_prediction_is_dashed_and_truth_solid() -> None:
    blank, box = np.zeros((50, 50), np.uint8), [0.2, 0.2, 0.8, 0.8]
    solid = has_colour(render_example(blank, box_true=box), style.TRUTH)
    dashed = has_colour(render_example(blank, box_pred=box), style.PREDICTION)
    # 300 px wide: the top edge is at 60 px and runs from 60 to 240.
    assert solid[60, 65:235].all()
    assert 0.3 < dashed[60, 65:235].mean() < 0.9


def test_box_that_is_not_finite_is_left_out() -> None:
    blank = np.zeros((8, 8), np.uint8)
    picture = render_example(blank, box_pred=[0.1, math.nan, 0.5, 0.9])
    assert not picture.any()


def test_large_image_is_not_enlarged() -> None:
    assert render_example(np.zeros((301, 400, 3), np.uint8)).shape == (301, 400, 3)


def test_to_rgb_rounds_clips_and_repeats_gray() -> None:
    pixels = drawing.to_rgb(np.array([[-3.0, 0.6, 254.4, 999.0]]))
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[[0, 0, 0], [1, 1, 1], [254, 254, 254], [255, 255, 255]]]


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (4, 4, 4), (1, 4, 4, 3), (0, 4, 3)])
def test_to_rgb_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W\)"):
        drawing.to_rgb(np.zeros(shape))


# Captions and choice.


def caption(*arguments: Any) -> str:
    return " · ".join(captions.caption_parts(*arguments))


def test_caption_of_a_success() -> None:
    assert caption("7", "7", 0.98, 0.968) == "true 7 · said 7 · 98 % · IoU .97"


def test_caption_marks_what_is_wrong() -> None:
    assert caption("7", "1", 0.63, 0.9) == "true 7 · ✗ said 1 · 63 % · IoU .90"
    assert caption("7", "7", 0.63, 0.499) == "true 7 · said 7 · 63 % · ✗ IoU .50"
    assert caption("7", "7", 0.63, 0.5) == "true 7 · said 7 · 63 % · IoU .50"
    assert caption("7", "7", 1.0, math.nan) == "true 7 · said 7 · 100 % · ✗ IoU –"


def test_localized_needs_class_and_box() -> None:
    assert captions.is_localized(3, 3, 0.5)
    assert not captions.is_localized(3, 4, 0.9)
    assert not captions.is_localized(3, 3, 0.49)
    assert not captions.is_localized(3, 3, math.nan)


def test_class_name_falls_back_to_the_number() -> None:
    assert captions.class_name(1, ["cat", "dog"]) == "dog"
    assert captions.class_name(2, ["cat", "dog"]) == "2"
    assert captions.class_name(-1, ["cat", "dog"]) == "-1"
    assert captions.class_name(1, None) == "1"


def test_spread_of_five_is_worst_quartiles_and_best() -> None:
    ious = np.random.default_rng(0).permutation(101) / 100
    assert ious[captions.spread_by_iou(ious, 5)].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ious[captions.spread_by_iou(ious, 1)].tolist() == [0.5]


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=2, max_size=40), st.integers(2, 50))
def test_spread_holds_worst_and_best_without_repeats(values: list[float], count: int) -> None:
    ious = np.array(values)
    chosen = captions.spread_by_iou(ious, count)
    assert len(chosen) == min(count, len(ious)) == len(set(chosen.tolist()))
    ranked = np.where(np.isnan(ious), -1.0, ious)
    assert ranked[chosen[0]] == ranked.min()
    assert ranked[chosen[-1]] == ranked.max()
    assert (np.diff(ranked[chosen]) >= 0).all()


def test_spread_refuses_nonsense() -> None:
    assert captions.spread_by_iou([], 3).tolist() == []
    with pytest.raises(ValueError, match="count must be at least 1"):
        captions.spread_by_iou([0.5], 0)
    with pytest.raises(ValueError, match="one dimension"):
        captions.spread_by_iou([[0.5]], 1)


def test_spread_title_says_how_it_was_chosen() -> None:
    ious = [0.2, 0.4, 0.6, 0.8]
    assert captions.spread_title(ious, 2, "test images") == (
        "2 of 4 test images at even ranks of IoU: worst .20, best .80, mean of all .50"
    )
    assert (
        captions.spread_title(ious, 9, "val images") == "All 4 val images, ordered by IoU, mean .50"
    )


# Gallery.


def gallery_arguments(label_said: int = 1) -> dict[str, Any]:
    """Four images with label 1; the first prediction may say another class."""
    box = np.tile([0.2, 0.2, 0.6, 0.6], (4, 1))
    scores = np.tile([0.1, 0.8, 0.1], (4, 1))
    scores[0] = 0.1
    scores[0, label_said] = 0.8
    return {
        "images": np.full((4, 20, 20, 1), 30, np.uint8),
        "truth": {"softmax": np.ones(4, np.int32), "bbox": box},
        "answers": {"softmax": scores, "bbox": box + 0.01},
    }


def test_gallery_is_a_png_of_the_size_its_cells_need(tmp_path: Path) -> None:
    figure = draw_gallery(**gallery_arguments(), columns=4, title="t")
    path = save_figure(figure, tmp_path / "new" / "g.png")
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as picture:
        picture.verify()
        # Pixels: four cells of 300, three gaps of 36, two margins of 36; margin, title 34,
        # legend 36, gap 16, image 300, gap 12, one caption line 24, margin.
        assert picture.size == (4 * 300 + 3 * 36 + 2 * 36, 36 + 34 + 36 + 16 + 300 + 12 + 24 + 36)
    assert [file.name for file in path.parent.iterdir()] == ["g.png"]


def test_gallery_frames_failures_only() -> None:
    right = figure_to_array(draw_gallery(**gallery_arguments()))
    wrong = figure_to_array(draw_gallery(**gallery_arguments(label_said=0)))
    assert not has_colour(right, style.WRONG).any()
    framed = has_colour(wrong, style.WRONG)
    # The frame lies just outside the first image, whose left edge is at the margin of 36 px;
    # its 3 points are 6 px. The three images that are right have none.
    assert np.flatnonzero(framed[300, :400]).tolist() == [*range(30, 36), *range(336, 342)]
    assert not framed[300, 400:].any()


def test_gallery_takes_photographs_of_any_shape_and_long_names(tmp_path: Path) -> None:
    arguments = gallery_arguments(label_said=0)
    arguments["images"] = [
        np.zeros(shape, np.uint8) for shape in ((30, 60, 3), (500, 300, 3), (7, 7), (28, 28, 1))
    ]
    names = ["a name that is much too long to be shown in one cell", "$x_1$", "c"]
    figure = draw_gallery(**arguments, class_names=names, columns=9)
    path = save_figure(figure, tmp_path / "g.png")
    with Image.open(path) as picture:
        assert picture.width == 4 * 300 + 3 * 36 + 2 * 36


def test_gallery_refuses_lengths_that_differ() -> None:
    arguments = gallery_arguments()
    with pytest.raises(ValueError, match="they have 4, 3, 4, 4, 4"):
        draw_gallery(**{**arguments, "truth": {**arguments["truth"], "softmax": [1, 1, 1]}})
    with pytest.raises(ValueError, match="columns must be at least 1; it is 0"):
        draw_gallery(**arguments, columns=0)


def test_paired_iou_by_hand() -> None:
    # Half of a unit square: 1/2; two unit squares shifted by half a side: .5 / 1.5.
    true = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]]
    pred = [[0.0, 0.0, 1.0, 0.5], [0.25, 0.0, 0.75, 0.5]]
    assert paired_iou(true, pred).tolist() == pytest.approx([1 / 2, 1 / 3], rel=1e-6)


# Saving.


def test_failed_save_leaves_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "g.png"
    path.write_text("old")
    figure = draw_gallery(**gallery_arguments())

    def break_off(canvas: object, file: Path) -> None:
        file.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr("loc_keras.report.style.FigureCanvasAgg.print_png", break_off)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_leave_pyplot_and_its_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    save_figure(draw_gallery(**gallery_arguments()), tmp_path / "g.png")
    save_curves({"loss": [1.0]}, tmp_path / "c.png")
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []
    sources = Path(drawing.__file__).parent.glob("*.py")
    imports = [
        line for file in sources for line in file.read_text().splitlines() if "import" in line
    ]
    assert any("matplotlib.figure" in line for line in imports)
    assert not any("pyplot" in line for line in imports)


# Text.


def test_shorten_keeps_what_fits_and_cuts_what_does_not() -> None:
    text = "a long name of a class"
    assert shorten(text, 1000.0, 9.0) == text
    cut = shorten(text, 60.0, 9.0)
    assert cut.endswith(ELLIPSIS)
    assert text.startswith(cut.removesuffix(ELLIPSIS))
    assert text_width(cut, 9.0) <= 60.0
    longer = text[: len(cut)] + ELLIPSIS
    assert text_width(longer, 9.0) > 60.0
    assert shorten(text, 0.0, 9.0) == ELLIPSIS


def test_fill_lines_never_splits_a_part() -> None:
    parts = ["true 7", "said 7", "98 %", "IoU .97"]
    assert fill_lines(parts, 1000.0, 9.0) == [" · ".join(parts)]
    room = max(text_width(line, 9.0) for line in ("true 7 · said 7", "98 % · IoU .97"))
    assert fill_lines(parts, room, 9.0) == ["true 7 · said 7", "98 % · IoU .97"]


# Curves.


def write_history(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_history_counts_epochs_from_one_and_reads_gaps_as_nan(tmp_path: Path) -> None:
    path = write_history(tmp_path / "h.csv", "epoch,loss,val_loss\n0,2.5,\n1,1.5,NA\n2,1,0.5\n")
    columns = read_history(path)
    assert columns["epoch"].tolist() == [1, 2, 3]
    assert columns["loss"].tolist() == [2.5, 1.5, 1.0]
    np.testing.assert_array_equal(columns["val_loss"], [math.nan, math.nan, 0.5])
    assert read_history({"loss": [3, 2], "epoch": [1, 2]})["epoch"].tolist() == [1, 2]
    assert read_history({"loss": [3, 2]})["epoch"].tolist() == [1, 2]


def test_history_without_rows_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: the training history cannot be read"):
        read_history(tmp_path / "none.csv")
    path = write_history(tmp_path / "h.csv", "epoch,loss\n")
    with pytest.raises(DataError, match=r"h\.csv: the training history holds no epoch"):
        read_history(path)


def test_curves_leave_out_what_was_not_logged(tmp_path: Path) -> None:
    columns = read_history(
        {"loss": [2.0, 1.0], "val_bbox_iou": [math.nan, 0.9], "val_bbox_acc50": [math.nan] * 2}
    )
    drawn = {panel.title: panel_curves(panel, columns) for panel in PANELS}
    assert [title for title, curves in drawn.items() if curves] == ["Total loss", "Mean IoU"]
    (iou,) = drawn["Mean IoU"]
    assert (iou.epochs.tolist(), iou.values.tolist(), iou.role) == ([2], [0.9], "validation")
    assert [curve.role for curve in drawn["Total loss"]] == ["training"]


@pytest.mark.parametrize("epochs", [1, 3, 40])
def test_curves_of_any_length_are_drawn(tmp_path: Path, epochs: int) -> None:
    names = [column for panel in PANELS for column in panel.labels]
    history = {name: np.linspace(0.2, 0.9, epochs) for name in names}
    history |= {f"val_{name}": values for name, values in history.items()}
    path = save_curves(history, tmp_path / "curves.png", title="run")
    with Image.open(path) as picture:
        # Three panels of 4.39 inches at 144 dpi; rounding of a pixel is free.
        assert abs(picture.width - 3 * 4.39 * 144) <= 1
        picture.verify()


def test_curves_without_known_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found colour, epoch"):
        save_curves({"colour": [1.0]}, tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


def curve(values: list[float]) -> Curve:
    epochs = np.arange(1.0, len(values) + 1)
    return Curve(epochs, np.array(values), "#000000", "validation", "")


def test_value_axis_shows_the_end_of_a_long_run() -> None:
    low, high = value_limits("percent", [curve([0.1, 0.95, 0.96, 0.97, 0.98, 0.99])])
    assert 0.9 < low < 0.95
    assert 0.99 < high < 1.01
    # Three epochs are shown whole, and so is a run without a steep beginning.
    assert value_limits("percent", [curve([0.1, 0.95, 0.99])])[0] < 0.1
    assert value_limits("percent", [curve([0.5, 0.6, 0.7, 0.8, 0.9])])[0] < 0.5


def test_value_axis_does_not_blow_up_noise() -> None:
    low, high = value_limits("percent", [curve([1.0, 0.9999])])
    assert low <= 0.98
    assert high >= 1.0
    assert value_limits("count", [curve([480.0])])[0] == 0.0
    low, high = value_limits("loss", [curve([0.0])])
    assert low < 0.0 < high


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.98716, "percent", "98.72 %"),
        (0.9666, "fraction", ".967"),
        (1.0, "fraction", "1.000"),
        (0.00012, "rate", "1.2e-4"),
        (0.001, "rate", "1e-3"),
        (0.0, "rate", "0"),
        (1234.4, "count", "1,234"),
        (0.012345, "loss", "0.0123"),
    ],
)
def test_end_labels(value: float, unit: Unit, text: str) -> None:
    assert format_value(value, unit) == text


# Architecture.


def tiny_model() -> keras.Model:
    """A model of the package's naming: a stem, a stage of two blocks, another one, two heads."""
    image = keras.Input((8, 8, 1), name="images")
    x = layers.Conv2D(2, 3, padding="same", name="stem_conv")(image)
    y = layers.Conv2D(2, 1, name="stage1_block1_conv1")(x)
    x = layers.Add(name="stage1_block1_add")([x, y])
    x = stage = layers.BatchNormalization(name="stage1_block2_bn")(x)
    x = layers.Conv2D(4, 3, strides=2, name="stage2_block1_conv1")(x)
    flat = [layers.Flatten(name=f"bbox_flat{i}")(m) for i, m in enumerate((stage, x))]
    bbox = layers.Concatenate(name="bbox_join")(flat)
    bbox = layers.Dense(4, activation="sigmoid", name="bbox")(bbox)
    softmax = layers.GlobalAveragePooling2D(name="softmax_pool")(x)
    softmax = layers.Concatenate(name="softmax_join")([softmax, bbox])
    softmax = layers.Dense(5, activation="softmax", name="softmax")(softmax)
    return keras.Model(image, {"softmax": softmax, "bbox": bbox}, name="tiny")


def test_layers_are_joined_to_stages_and_heads() -> None:
    model = tiny_model()
    structure = structure_of(model)
    softmax, bbox = structure.heads
    blocks = [*structure.before, *structure.stages, softmax, bbox]
    # Parameters by hand: 3*3*1*2+2; 1*1*2*2+2 and 4*2; 3*3*2*4+4; (4+4)*5+5; (8*8*2+3*3*4)*4+4.
    assert {block.name: (block.shape, block.parameters) for block in blocks} == {
        "images": ((8, 8, 1), 0),
        "stem": ((8, 8, 2), 20),
        "stage1": ((8, 8, 2), 14),
        "stage2": ((3, 3, 4), 76),
        "softmax": ((5,), 45),
        "bbox": ((4,), 660),
    }
    assert sum(block.parameters for block in blocks) == model.count_params()
    assert bbox.maps == {1: (8, 8, 2), 2: (3, 3, 4)}
    assert softmax.maps == {2: (3, 3, 4)}
    assert (softmax.takes_box, bbox.takes_box) == (True, False)
    assert [block.kinds for block in blocks] == [[], *[["Conv2D"]] * 3, ["Dense"], ["Dense"]]


def test_architecture_is_written(tmp_path: Path) -> None:
    path = save_architecture(tiny_model(), tmp_path / "plots" / "architecture.png")
    with Image.open(path) as picture:
        assert picture.size > (400, 400)
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    # A margin of white on every side: nothing is cut off.
    assert all((side == 255).all() for side in (pixels[:9], pixels[-9:]))
    assert all((side == 255).all() for side in (pixels[:, :9], pixels[:, -9:]))


def test_a_nested_model_is_one_body_that_says_what_it_holds() -> None:
    inner = keras.Input((8, 8, 1))
    fine = layers.Conv2D(2, 2, strides=2)(inner)
    coarse = layers.Conv2D(3, 2, strides=2)(layers.ReLU()(fine))
    body = keras.Model(inner, [fine, coarse], name="body")
    image = keras.Input((8, 8, 1), name="images")
    first, second = body(image)
    pooled = [layers.GlobalMaxPooling2D(name=f"bbox_{i}")(x) for i, x in enumerate((first, second))]
    bbox = layers.Concatenate(name="bbox")(pooled)
    softmax = layers.GlobalMaxPooling2D(name="softmax")(first)
    structure = structure_of(keras.Model(image, {"softmax": softmax, "bbox": bbox}))
    assert [block.name for block in structure.before] == ["images"]
    # By hand: 2*2*1*2+2 and 2*2*2*3+3.
    assert [(stage.shape, stage.parameters) for stage in structure.stages] == [
        ((4, 4, 2), 10),
        ((2, 2, 3), 27),
    ]
    assert [stage.kinds for stage in structure.stages] == [["Conv2D"]] * 2
    heads = structure.heads
    assert [head.maps for head in heads] == [{0: (4, 4, 2)}, {0: (4, 4, 2), 1: (2, 2, 3)}]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bbox_head": "gap_mlp", "class_head": "pooled"},
        {"backbone": "applications/mobilenetv3small"},
        {"backbone": "applications/convnexttiny"},
    ],
    ids=["base", "seed", "mobilenet", "convnext"],
)
def test_words_of_the_architecture_neither_overlap_nor_are_cut(options: dict[str, str]) -> None:
    model = build_localizer(image_shape=(64, 64, 3), num_classes=1000, **options)
    structure = structure_of(model)
    blocks = [*structure.before, *structure.stages, *structure.heads]
    assert sum(block.parameters for block in blocks) == model.count_params()
    # Each pooled feature or map comes from the body, whichever it is.
    assert len(structure.stages) - 1 in structure.heads[0].maps
    assert len(structure.stages) - 1 in structure.heads[1].maps
    (page,) = draw_structure(structure, "a model", "its parameters").axes
    renderer = page.figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in page.texts]
    frames = [patch.get_window_extent(renderer) for patch in page.patches]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        assert page.bbox.containsx(box.x0)
        assert page.bbox.containsx(box.x1)
        # A line of text lies within a block or outside of it.
        for frame in frames:
            inside = frame.containsx(box.x0) and frame.containsx(box.x1)
            assert inside or not box.overlaps(frame)


def test_model_without_a_graph_is_refused(tmp_path: Path) -> None:
    class Subclassed(keras.Model):
        def call(self, x: object) -> object:
            return x

    with pytest.raises(ModelError, match="is not functional"):
        save_architecture(Subclassed(), tmp_path / "a.png")


# Table.


def test_metrics_table_aligns_and_rounds() -> None:
    out = io.StringIO()
    test = {"images": 10000, "softmax_accuracy": 0.98765, "bbox_iou": 0.96543, "loss": 0.25}
    print_metrics(
        Console(file=out, width=100),
        {"val": {"images": 500, "softmax_accuracy": 1.0}, "test": test},
    )
    rows = {line.split("  ")[0].strip(): line.split() for line in out.getvalue().splitlines()}
    assert rows["images"][-3:] == ["500", "10,000", "images"]
    assert rows["class accuracy"][2:] == ["100.00", "%", "98.77", "%", "softmax_accuracy"]
    assert rows["mean IoU"][2:] == ["–", "0.9654", "bbox_iou"]
    assert rows["loss"] == ["loss", "–", "0.2500", "loss"]
    ends = {line.index("98.77 %") + 7 for line in out.getvalue().splitlines() if "98.77" in line}
    ends |= {line.index("0.9654") + 6 for line in out.getvalue().splitlines() if "0.9654" in line}
    assert len(ends) == 1  # right-aligned
