"""Sentences, verdicts and formats of the page of an evaluation, against values made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.evaluation_sample import sample_page

from loc_keras.evaluation.figures import format_interval, format_value, percent
from loc_keras.evaluation.outcomes import Estimate, Evaluation
from loc_keras.evaluation.reliability import Guarantee, ReliabilityBin, Shift, reliability_bins
from loc_keras.report.evaluation_charts import (
    Pair,
    confused_pairs,
    corner_curve,
    ink_on,
    iou_curve,
    iou_histogram,
    reliability_chart,
    shade,
)
from loc_keras.report.evaluation_content import (
    easy_sentence,
    format_gain,
    gain_sentence,
    join_words,
    shift_sentence,
    verdict,
)
from loc_keras.report.evaluation_report import evaluation_page
from loc_keras.report.style import figure_to_array

NAN = float("nan")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("top1_loc", 0.9321, "93.2 %"),
        ("mean_iou", 0.8324, ".832"),
        ("mean_iou", 1.0, "1.000"),
        ("mean_iou", 0.0, ".000"),
        ("corner_error_px", 1234.56, "1,234.6 px"),
        ("class_accuracy", NAN, "–"),
        ("unheard_of", 0.25, "0.25"),
    ],
)
def test_values(key: str, value: float, words: str) -> None:
    assert format_value(key, value) == words


def test_shares_that_are_nearly_all_or_none_do_not_look_like_it() -> None:
    assert [percent(share) for share in (1.0, 0.9996, 0.999, 0.0004, 0.0)] == [
        "100.0", "> 99.9", "99.9", "< 0.1", "0.0",
    ]  # fmt: skip


def test_intervals() -> None:
    assert format_interval("acc50", Estimate(0.5, 0.41, 0.591, 9)) == "41.0 – 59.1 %"
    assert format_interval("mean_iou", Estimate(0.5, 0.41, 0.591, 9)) == ".410 – .591"
    assert format_interval("mean_iou", Estimate(NAN, NAN, NAN, 0)) == "–"


def test_join_words() -> None:
    assert [join_words(words) for words in (["a"], ["a", "b"], ["a", "b", "c"], [])] == [
        "a", "a and b", "a, b and c", "",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return sample_page(30, trusted=False).evaluation


def with_baselines(
    evaluation: Evaluation, model: Estimate, constant: Estimate, centre: Estimate
) -> Evaluation:
    baselines = {
        name: {"mean_iou": one, "acc50": one, "corner_error_px": one}
        for name, one in (("constant box", constant), ("centre box", centre))
    }
    figures = {"mean_iou": model, "acc50": model, "corner_error_px": model, "class_accuracy": model}
    return replace(evaluation, figures=figures, baselines=baselines)


LOW = Estimate(0.4, 0.38, 0.42, 100)
LOWER = Estimate(0.3, 0.28, 0.32, 100)


def test_clear_gain(evaluation: Evaluation) -> None:
    found = with_baselines(evaluation, Estimate(0.7, 0.65, 0.75, 100), LOWER, LOW)
    # The better floor is the centre box: .7 - .4 = .3, which is half of 1 - .4.
    words = gain_sentence(found)
    assert words.startswith("The centre box") and "mean IoU of .400" in words
    assert "gains .300, 50 % of the way to a perfect box" in words
    assert format_gain("mean_iou", found) == "+.300"
    assert format_gain("acc50", found) == "+30.0"
    # Of an error the better floor is the smaller one: .7 - .3.
    assert format_gain("corner_error_px", found) == "+0.4 px"
    assert format_gain("class_accuracy", found) == "–"


def test_gain_that_chance_explains_is_not_called_one(evaluation: Evaluation) -> None:
    found = with_baselines(evaluation, Estimate(0.45, 0.41, 0.49, 100), LOW, LOWER)
    assert "do not show that the model has learned" in gain_sentence(found)


def test_model_worse_than_a_baseline(evaluation: Evaluation) -> None:
    found = with_baselines(evaluation, Estimate(0.2, 0.1, 0.3, 100), LOW, LOWER)
    assert "worse than this baseline" in gain_sentence(found)
    assert format_gain("mean_iou", found) == "−.200"


def test_no_floor_no_sentence(evaluation: Evaluation) -> None:
    found = replace(evaluation, baselines={})
    assert gain_sentence(found) == "" and easy_sentence(found) == ""


def test_easy_set_is_called_easy(evaluation: Evaluation) -> None:
    high = Estimate(0.62, 0.6, 0.64, 100)
    found = with_baselines(evaluation, Estimate(0.9, 0.88, 0.92, 100), LOW, high)
    assert "the centre box is already right (IoU ≥ .5) on 62.0 % of the images" in easy_sentence(
        found
    )
    assert easy_sentence(with_baselines(evaluation, high, LOW, LOWER)) == ""


@pytest.mark.parametrize(
    ("kept", "p_value", "words"),
    [
        (Estimate(0.9, 0.87, 0.93, 100), 0.6, "kept"),
        (Estimate(0.88, 0.85, 0.91, 100), 0.3, "below, within chance"),
        # An interval that knows nothing of the luck of calibration does not decide.
        (Estimate(0.86, 0.84, 0.89, 100), 0.03, "below, within chance"),
        (Estimate(0.8, 0.76, 0.84, 100), 0.001, "broken"),
        (Estimate(NAN, NAN, NAN, 0), 1.0, "no image"),
    ],
)
def test_verdicts(kept: Estimate, p_value: float, words: str) -> None:
    assert verdict(Guarantee("outer box", 0.9, kept, 0.3, 0.0, p_value)) == words


def test_shift_in_words() -> None:
    none = shift_sentence(Shift(1, 2000, 0.43, 0.01, []))
    assert none.startswith("No shift was found") and "p = 0.43" in none
    assert "1 image here, 2,000 of calibration" in none and "no proof" in none
    some = shift_sentence(Shift(50, 2000, 0.003, 0.01, []))
    assert "do not look" in some and "p = 0.003, below 0.01" in some
    # Without images held back for calibration, those of validation are what others are held to.
    small = shift_sentence(Shift(28, 20, 0.43, 0.01, [], "validation"))
    assert "as those of the validation split did" in small and "20 of validation" in small
    assert "calibrat" not in small


def test_confused_pairs_by_hand() -> None:
    confusion = np.array([[5, 3, 0], [1, 9, 3], [0, 0, 2]])
    # Row sums 8, 13 and 2; of the two pairs with 3 images the larger share is first, and what
    # happened once is none.
    assert confused_pairs(confusion) == [Pair(0, 1, 3, 3 / 8), Pair(1, 2, 3, 3 / 13)]
    assert confused_pairs(confusion, 1) == [Pair(0, 1, 3, 3 / 8)]
    assert confused_pairs(np.diag([3, 0])) == []


def confusion_section(confusion: np.ndarray) -> str:
    """The part of a page that shows a confusion matrix."""
    page = sample_page(9, tuple(f"class {n}" for n in range(len(confusion))), trusted=False)
    figures = replace(page.evaluation, confusion=confusion)
    text = evaluation_page(replace(page, evaluation=figures))
    start = text.index('<h2 id="confusion">')
    return text[start : text.index("</section>", start)]


def test_confusion_of_two_classes_is_one_table_with_its_counts() -> None:
    matrix = confusion_section(np.array([[40, 2], [0, 0]]))
    assert "Rows are true classes" in matrix
    assert matrix.count("<table") == 1
    assert [matrix.count(f">{number}</td>") for number in (40, 2, 42)] == [1, 1, 1]
    assert "No class was taken" in confusion_section(np.diag([3, 4]))


def test_confusions_in_words() -> None:
    few = np.diag(np.full(30, 5))
    few[0, 1] = few[2, 3] = 1
    words = confusion_section(few)
    assert "No two classes were confused twice: 2 wrong" in words
    few[0, 1] = 4
    words = confusion_section(few)
    # Four of class 0, which has nine images.
    assert "4 of the 5 wrong classes; the others happened once each" in words
    assert "44.4 %" in words


def test_ink_can_be_read_on_every_shade() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for value in np.linspace(0, 1, 21):
        paper, ink = shade(float(value))
        assert ink == ink_on(paper)
        bright, dark = sorted((luminance(paper), luminance(ink)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA
    assert shade(NAN)[0] == "#FFFFFF"


@pytest.mark.parametrize(
    "ious", [[0.0], [1.0], [0.5, 0.5], [0.0, 1.0], list(np.linspace(0, 1, 99))]
)
def test_charts_draw_odd_data_without_a_warning(ious: list[float]) -> None:
    for figure in (iou_histogram(ious), iou_curve(ious, {}), corner_curve(np.array(ious) * 1e4)):
        assert figure_to_array(figure).min() < 255


def test_curve_passes_through_the_shares() -> None:
    # Of four boxes three reach .5, two .75 and one .9.
    line = iou_curve([0.2, 0.5, 0.75, 0.95], {}).axes[0].lines[0]
    found = np.interp([0.5, 0.75, 0.9], line.get_xdata(), line.get_ydata())
    np.testing.assert_allclose(found, [0.75, 0.5, 0.25], atol=1e-9)


def test_reliability_colours_only_gaps_that_chance_does_not_explain() -> None:
    few = ReliabilityBin(0.6, 0.8, 2, 0.7, 0.5)
    # Wilson's interval of 500 in 1,000 is about .47 to .53 and does not hold .7.
    many = ReliabilityBin(0.6, 0.8, 1000, 0.7, 0.5)
    assert [len(reliability_chart([one], "t").axes[0].patches) for one in (few, many)] == [0, 1]
    figure_to_array(reliability_chart(reliability_bins([], []), "empty"))
