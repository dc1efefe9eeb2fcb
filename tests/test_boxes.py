"""Box functions: values worked out by hand or by another library, and the degenerate cases."""

import math
from collections.abc import Callable
from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from loc_keras import boxes
from loc_keras.config.train import LossConfig
from loc_keras.errors import ConfigError, DataError

NAMES = list(boxes.SIMILARITIES)
every_similarity = pytest.mark.parametrize("name", NAMES)

e, atan, pi = math.exp, math.atan, math.pi

# Each case: true box, predicted box, and for every similarity the sum done by hand.
BY_HAND = {
    # Squares of side .4, shifted by half a side. Intersection .04, union .28, hull .6 x .6;
    # squared centre distance .08 over .72; both corners off by sqrt(.08), image diagonal^2 is 2.
    # SIoU: diagonal offset, so angle cost 1 and gamma 1; (.2 / .6)^2 = 1/9 on both axes.
    "overlapping squares": (
        (0.0, 0.0, 0.4, 0.4),
        (0.2, 0.2, 0.6, 0.6),
        {
            "iou": 1 / 7,
            "giou": 1 / 7 - 2 / 9,
            "diou": 1 / 7 - 1 / 9,
            "ciou": 1 / 7 - 1 / 9,
            "eiou": 1 / 7 - 1 / 9,
            "siou": 1 / 7 - (1 - e(-1 / 9)),
            "mpdiou": 1 / 7 - 0.08,
        },
    ),
    # Lying .4 x .2 and standing .2 x .4 in one corner. Intersection .04, union .12, hull .16;
    # squared centre distance .02 over .32; sides differ by .2 of .4; top left corners agree.
    "lying and standing": (
        (0.0, 0.0, 0.4, 0.2),
        (0.0, 0.0, 0.2, 0.4),
        {
            "iou": 1 / 3,
            "giou": 1 / 3 - 1 / 4,
            "diou": 1 / 3 - 1 / 16,
            # v = 4 / pi^2 (atan 2 - atan 1/2)^2, alpha = v / (2/3 + v).
            "ciou": 1 / 3
            - 1 / 16
            - (4 / pi**2 * (atan(2) - atan(0.5)) ** 2) ** 2
            / (2 / 3 + 4 / pi**2 * (atan(2) - atan(0.5)) ** 2),
            "eiou": 1 / 3 - 1 / 16 - 1 / 4 - 1 / 4,
            "siou": 1 / 3 - (1 - e(-1 / 16)) - (1 - e(-1 / 2)) ** 4,
            "mpdiou": 1 / 3 - 0.04,
        },
    ),
    # Squares of side .2 in one row, .4 apart. Union .08, hull .8 x .2; centres .6 apart.
    # SIoU: offset along one axis, so angle cost 0 and gamma 2; 2 (.6 / .8)^2 = 1.125.
    "disjoint in a row": (
        (0.0, 0.0, 0.2, 0.2),
        (0.6, 0.0, 0.8, 0.2),
        {
            "iou": 0,
            "giou": -1 / 2,
            "diou": -0.36 / 0.68,
            "ciou": -0.36 / 0.68,
            "eiou": -0.36 / 0.68,
            "siou": -(1 - e(-1.125)) / 2,
            "mpdiou": -0.36,
        },
    ),
    # The middle quarter of the image against all of it: same centre and shape, half the sides.
    "concentric": (
        (0.0, 0.0, 1.0, 1.0),
        (0.25, 0.25, 0.75, 0.75),
        {
            "iou": 1 / 4,
            "giou": 1 / 4,
            "diou": 1 / 4,
            "ciou": 1 / 4,
            "eiou": 1 / 4 - 1 / 4 - 1 / 4,
            "siou": 1 / 4 - (1 - e(-1 / 2)) ** 4,
            "mpdiou": 1 / 4 - 1 / 8,
        },
    ),
    # Squares of side .5 that share an edge: no intersection, hull without a gap.
    "touching": (
        (0.0, 0.0, 0.5, 0.5),
        (0.5, 0.0, 1.0, 0.5),
        {
            "iou": 0,
            "giou": 0,
            "diou": -0.25 / 1.25,
            "ciou": -0.25 / 1.25,
            "eiou": -0.25 / 1.25,
            "siou": -(1 - e(-2 * 0.25)) / 2,
            "mpdiou": -0.25,
        },
    ),
    # A predicted point inside the true box of side .4, .1 off its centre along x. SIoU: 2 (.1/.4)^2
    # = 1/8, and both sides differ wholly. A point counts as a square, as the true box is.
    "point inside": (
        (0.0, 0.0, 0.4, 0.4),
        (0.3, 0.2, 0.3, 0.2),
        {
            "iou": 0,
            "giou": 0,
            "diou": -0.01 / 0.32,
            "ciou": -0.01 / 0.32,
            "eiou": -0.01 / 0.32 - 1 - 1,
            "siou": -((1 - e(-1 / 8)) + 2 * (1 - e(-1)) ** 4) / 2,
            "mpdiou": -(0.09 + 0.04 + 0.01 + 0.04) / 2,
        },
    ),
}


def value(name: str, true: object, pred: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(boxes.SIMILARITIES[name](true, pred))


@every_similarity
@pytest.mark.parametrize("case", BY_HAND)
def test_similarity_by_hand(name: str, case: str) -> None:
    true, pred, expected = BY_HAND[case]
    assert value(name, true, pred) == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # torchvision 0.29.1 in float64: box_iou, generalized_, distance_ and complete_box_iou.
        ("iou", [0.22360248447, 0.0, 0.45, 0.0588235294]),
        ("giou", [0.06214415114, -0.82539682540, 0.45, -0.66917647059]),
        ("diou", [0.15297749153, -0.46634611797, 0.44897541000, -0.07396333407]),
        ("ciou", [0.15247578550, -0.46791966206, 0.44893697159, -0.34530563681]),
    ],
)
def test_similarity_as_torchvision(name: str, expected: list[float]) -> None:
    true = [[0.1, 0.2, 0.45, 0.9], [0.05, 0.05, 0.3, 0.25], [0.3, 0.1, 0.9, 0.6], [0, 0, 0.08, 0.5]]
    pred = [
        [0.25, 0.1, 0.7, 0.65],
        [0.55, 0.6, 0.95, 0.75],
        [0.35, 0.2, 0.8, 0.5],
        [0.02, 0.3, 0.6, 0.38],
    ]
    np.testing.assert_allclose(value(name, true, pred), expected, atol=1e-6)


@every_similarity
@pytest.mark.parametrize("side", [1.0, 0.3, 0.001, 1e-5])
def test_identical_boxes_score_one_however_small(name: str, side: float) -> None:
    box = np.array([[0.0, 0.0, side, side], [1 - side, 1 - side, 1, 1]], "float32")
    np.testing.assert_allclose(value(name, box, box), 1, atol=1e-6)


def test_small_boxes_keep_their_exact_score() -> None:
    # Side .001, shifted by half a side along x: intersection 1/2, union 3/2 of an area.
    true, pred = [0.0, 0.0, 0.001, 0.001], [0.0005, 0.0, 0.0015, 0.001]
    assert value("iou", true, pred) == pytest.approx(1 / 3, abs=1e-5)


@every_similarity
def test_boxes_without_area_that_coincide_score_zero(name: str) -> None:
    for box in ([0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.8]):
        assert value(name, box, box) == 0


@every_similarity
def test_inverted_box_has_no_extent_at_its_middle(name: str) -> None:
    true = [0.1, 0.2, 0.5, 0.9]
    inverted, collapsed = [0.8, 0.1, 0.2, 0.6], [0.5, 0.1, 0.5, 0.6]
    np.testing.assert_allclose(value(name, true, inverted), value(name, true, collapsed))
    # Inverted or not, a box without area overlaps nothing.
    assert value("iou", true, inverted) == 0


@every_similarity
@pytest.mark.parametrize("column", range(4))
def test_nan_is_not_hidden(name: str, column: int) -> None:
    pred = np.array([0.1, 0.2, 0.5, 0.9], "float32")
    pred[column] = np.nan
    assert np.isnan(value(name, [0.1, 0.2, 0.5, 0.9], pred))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (5, 1), (2, 3, 1), (0,)])
@every_similarity
def test_rows_are_paired_for_any_leading_shape(name: str, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    corners = np.sort(generator.random((2, *shape, 2, 2), "float32"), axis=-2)
    true, pred = corners.reshape((2, *shape, 4))
    result = value(name, true, pred)
    assert result.shape == shape
    one_by_one = [
        float(value(name, a, b))
        for a, b in zip(true.reshape(-1, 4), pred.reshape(-1, 4), strict=True)
    ]
    np.testing.assert_allclose(result.reshape(-1), one_by_one, atol=1e-6)


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        ("float16", "float16", "float32"),
        ("bfloat16", "float32", "float32"),
        ("float32", "float32", "float32"),
        ("float64", "float64", "float64"),
        ("float32", "float64", "float64"),
        ("int32", "uint8", "float32"),
    ],
)
@every_similarity
def test_computed_in_float32_or_wider(name: str, true: str, pred: str, expected: str) -> None:
    # Pixel boxes, which every one of these types holds exactly: 2 x 4 of 4 x 4, so IoU 1/2.
    true_px = keras.ops.convert_to_tensor([[0, 0, 4, 4]], dtype=true)
    pred_px = keras.ops.convert_to_tensor([[0, 0, 2, 4]], dtype=pred)
    result = boxes.SIMILARITIES[name](true_px, pred_px)
    assert keras.backend.standardize_dtype(result.dtype) == expected
    assert boxes.iou(true_px, pred_px).numpy() == pytest.approx(0.5)


@every_similarity
def test_half_precision_boxes_lose_nothing_beyond_their_own_rounding(name: str) -> None:
    # In float16 the squared sides, 1e-6, would be a handful of steps above zero.
    true = np.array([[0.5, 0.5, 0.501, 0.501]], "float16")
    pred = np.array([[0.5, 0.5, 0.502, 0.501]], "float16")
    wide = value(name, true.astype("float64"), pred.astype("float64"))
    np.testing.assert_allclose(value(name, true, pred), wide, atol=1e-5)


def test_mpdiou_in_pixels_is_mpdiou_in_fractions() -> None:
    true, pred = np.array([0.1, 0.2, 0.5, 0.9]), np.array([0.2, 0.1, 0.7, 0.6])
    in_pixels = boxes.mpdiou(true * 224, pred * 224, image_height=224, image_width=224)
    assert float(in_pixels) == pytest.approx(float(boxes.mpdiou(true, pred)))
    # 3 x 4 image: diagonal^2 is 25. Corners off by 1 and by 1, intersection 2 of union 4.
    by_hand = boxes.mpdiou([0, 0, 3, 1], [1, 0, 4, 1], image_height=3, image_width=4)
    assert float(by_hand) == pytest.approx(2 / 4 - 1 / 25 - 1 / 25)


@pytest.mark.parametrize("sides", [(0, 1), (1, -2), (1, float("nan"))])
def test_mpdiou_refuses_an_image_without_size(sides: tuple[float, float]) -> None:
    box = [0.0, 0.0, 1.0, 1.0]
    with pytest.raises(ConfigError, match="image_height and image_width above 0"):
        boxes.mpdiou(box, box, image_height=sides[0], image_width=sides[1])


@every_similarity
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"\(3, 4\) and \(3, 1, 4\)"):
        boxes.SIMILARITIES[name](np.zeros((3, 4)), np.zeros((3, 1, 4)))
    with pytest.raises(DataError, match=r"same shape.*\(3, 4\) and \(1, 4\)"):
        boxes.SIMILARITIES[name](np.zeros((3, 4)), np.zeros((1, 4)))


def test_wrong_number_of_coordinates_is_refused() -> None:
    with pytest.raises(DataError, match=r"boxes_pred must hold the 4 coordinates.*\(2, 5\)"):
        boxes.iou(np.zeros((2, 4)), np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"shape \(\)"):
        boxes.area(1.0)


@every_similarity
def test_graph_and_xla_give_what_eager_gives(name: str) -> None:
    true = np.array([case[0] for case in BY_HAND.values()], "float32")
    pred = np.array([case[1] for case in BY_HAND.values()], "float32")
    spec = tf.TensorSpec((None, 4), tf.float32)
    graph = tf.function(boxes.SIMILARITIES[name], input_signature=[spec, spec])
    np.testing.assert_allclose(graph(true, pred), value(name, true, pred), atol=1e-6)
    compiled = tf.function(boxes.SIMILARITIES[name], jit_compile=True)
    np.testing.assert_allclose(compiled(true, pred), value(name, true, pred), atol=1e-6)


def test_usable_inside_a_functional_model() -> None:
    true, pred = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([true, pred], boxes.iou(boxes.cxcywh_to_xyxy(true), pred))
    # Centre (.5, .5), sides .4 and .4 against its left half.
    inputs = [np.array([[0.5, 0.5, 0.4, 0.4]]), np.array([[0.3, 0.3, 0.5, 0.7]])]
    assert model(inputs).numpy() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("convert", "given", "expected"),
    [
        (boxes.xyxy_to_xywh, [1, 2, 4, 6], [1, 2, 3, 4]),
        (boxes.xywh_to_xyxy, [1, 2, 3, 4], [1, 2, 4, 6]),
        (boxes.xyxy_to_cxcywh, [1, 2, 4, 6], [2.5, 4, 3, 4]),
        (boxes.cxcywh_to_xyxy, [2.5, 4, 3, 4], [1, 2, 4, 6]),
        # Inverted boxes are converted as they stand: mending them is not a conversion's business.
        (boxes.xyxy_to_xywh, [4, 2, 1, 6], [4, 2, -3, 4]),
    ],
)
def test_conversion_by_hand(
    convert: Callable[[np.ndarray], tf.Tensor], given: list, expected: list
) -> None:
    for leading in ((), (1,), (2, 1)):
        result = convert(np.broadcast_to(np.array(given, "float32"), (*leading, 4)))
        assert tuple(result.shape) == (*leading, 4)
        np.testing.assert_array_equal(result.numpy().reshape(-1, 4)[0], expected)


def test_pixels_and_fractions_by_hand() -> None:
    # An image of 100 rows and 200 columns: x scales by 200, y by 100.
    pixels = boxes.fractions_to_pixels([0.1, 0.2, 0.5, 1.0], height=100, width=200)
    np.testing.assert_allclose(pixels, [20, 20, 100, 100])
    fractions = boxes.pixels_to_fractions([20, 20, 100, 100], height=100, width=200)
    np.testing.assert_allclose(fractions, [0.1, 0.2, 0.5, 1.0])


def test_pixels_with_a_size_for_each_image() -> None:
    height, width = np.array([10, 100]), np.array([20, 1000])
    pixels = boxes.fractions_to_pixels([[0, 0, 1, 1], [0, 0, 0.5, 0.5]], height=height, width=width)
    np.testing.assert_allclose(pixels, [[0, 0, 20, 10], [0, 0, 500, 50]])


def test_clip_by_hand() -> None:
    np.testing.assert_allclose(boxes.clip([-0.1, 0.2, 1.3, 0.9]), [0, 0.2, 1, 0.9])
    np.testing.assert_array_equal(
        boxes.clip([[-5, 7, 90, 70], [30, -1, 50, 20]], height=60, width=80),
        [[0, 7, 80, 60], [30, 0, 50, 20]],
    )


def test_area_by_hand() -> None:
    given = [[1, 2, 4, 6], [0, 0, 0, 5], [3, 0, 1, 5], [3, 5, 1, 0]]
    # 3 x 4; no width; inverted along one axis; inverted along both, which is not -2 x -5 = 10.
    np.testing.assert_array_equal(boxes.area(given), [12, 0, 0, 0])


def test_arguments_are_left_alone() -> None:
    box = np.array([[-1.0, 2.0, 3.0, 4.0]], "float32")
    before = box.copy()
    boxes.clip(box)
    boxes.xyxy_to_cxcywh(box)
    boxes.ciou(box, box)
    np.testing.assert_array_equal(box, before)


def test_the_config_names_every_similarity() -> None:
    # The config may not import them: it is read without Keras.
    assert list(get_args(LossConfig.model_fields["bbox"].annotation)) == NAMES
