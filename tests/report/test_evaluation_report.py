"""The page of an evaluation: what it says, and that it holds for odd splits and hostile names."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers.evaluation_sample import sample_outcomes, sample_page, sample_trust
from helpers.page_parser import Page, assert_needs_nothing_else

from loc_keras.evaluation.figures import evaluate
from loc_keras.evaluation.outcomes import Estimate, Group
from loc_keras.report.evaluation_content import (
    EvaluationPage,
    NearDuplicate,
    Suspect,
    choose_best,
    choose_worst,
    wanted_pictures,
)
from loc_keras.report.evaluation_report import evaluation_page
from loc_keras.report.html import Box, boxed_picture

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\n\"'&\u202e"
NAMES = (HOSTILE, "猫 und ü", "x" * 500, "שלום עולם", "")


def shown(page: EvaluationPage) -> Page:
    """The page parsed, after what must hold of every page."""
    parsed = assert_needs_nothing_else(evaluation_page(page))
    assert parsed.of("html") == [{"lang": "en"}]
    policy = [str(one.get("content")) for one in parsed.of("meta") if "http-equiv" in one]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(one["alt"] for one in parsed.of("img"))
    ids = [one["id"] for _, one in parsed.tags if "id" in one]
    assert len(ids) == len(set(ids))
    assert {str(one["href"])[1:] for one in parsed.of("a")} <= set(ids)
    assert not re.search(r"\bnan\b", parsed.text())
    for _ in parsed.images():
        pass
    return parsed


def test_page_of_one_image_has_dashes_and_no_nan() -> None:
    outcomes = sample_outcomes(1, 3, skill=1.0)
    names = ["cat", "dog", "owl"]
    found = evaluate(outcomes, names, np.array([[0.2, 0.2, 0.8, 0.8]]))
    page = replace(
        sample_page(images=1),
        evaluation=found,
        outcomes=outcomes,
        names=["one.jpg"],
        pictures={},
        trust=None,
        suspects=[],
    )
    words = shown(page).text()
    without_pictures = re.sub(r"base64,[^\"]*", "", evaluation_page(page))
    assert not re.search(r"\bnan|\binf\b", without_pictures, re.IGNORECASE)
    assert "Of so few images there is no interval to compare." in words
    assert "their intervals meet" not in words


@pytest.fixture(scope="module")
def usual() -> EvaluationPage:
    return sample_page()


@pytest.fixture(scope="module")
def usual_shown(usual: EvaluationPage) -> Page:
    return shown(usual)


def test_usual_page_says_what_was_measured(usual: EvaluationPage, usual_shown: Page) -> None:
    words = usual_shown.text()
    figures = usual.evaluation.figures
    for key, name in (("top1_loc", "Top-1 localization"), ("class_accuracy", "class accuracy")):
        # Percent with one decimal, and its interval.
        found = figures[key]
        assert f"{100 * found.value:.1f} %{name}" in words
        assert f"interval {100 * found.low:.1f} – {100 * found.high:.1f} %" in words
    assert f".{round(1000 * figures['mean_iou'].value)}" in words
    for name in ("constant box", "centre box", "gain", "Kinds of mistakes", "Confused classes",
                 "Guarantees", "Shift monitor", "Worst boxes", "Best boxes", "Suspect annotations",
                 "By size of the object", "By position", "2,000 resamples", "seed 1",
                 "ResNet18, best of epoch 41"):  # fmt: skip
        assert name in words, name


def test_only_the_worst_boxes_are_explained(usual: EvaluationPage, usual_shown: Page) -> None:
    worst, other = (int(choose_worst(usual.outcomes, usual.confidences)[at]) for at in (0, 1))
    best = choose_best(usual.outcomes, usual.confidences, without=[worst, other])
    grey = np.full((20, 30, 3), 120, np.uint8)
    page = replace(usual, explained={worst: grey, int(best[0]): grey})
    parsed = shown(page)
    assert len(parsed.of("img")) == len(usual_shown.of("img")) + 1
    words = "blue where each side may lie"
    assert words in parsed.text() and words not in usual_shown.text()


def test_error_bar_shows_the_shares(usual: EvaluationPage, usual_shown: Page) -> None:
    widths = {
        str(one["class"]): float(re.findall(r"[\d.]+", str(one["style"]))[0])
        for one in usual_shown.of("span")
        if "width" in str(one.get("style"))
    }
    # Each of the shares in percent, and nothing but them.
    expected = {key: 100 * one.value for key, one in usual.evaluation.errors.items()}
    assert widths == pytest.approx(expected, abs=1e-3)
    assert sum(widths.values()) == pytest.approx(100, abs=0.01)


def test_boxes_are_drawn_in_px_of_the_picture() -> None:
    picture = boxed_picture(
        np.zeros((30, 40, 3), np.uint8),
        (300, 400),
        [
            Box("truth", (10, 20, 110, 60)),
            Box("pred", (0, 0, 0, 0)),  # empty: not drawn
            Box("outer", (float("nan"), 0, 1, 1)),
            Box("inner", (5, 5, 5, 9)),  # without width: a line
        ],
        [],
        alt="a",
    )
    parsed = Page(picture)
    assert parsed.of("svg")[0]["viewbox"] == "0 0 400 300"
    places = {
        (str(one["class"]), *(str(one[side]) for side in ("x", "y", "width", "height")))
        for one in parsed.of("rect")
    }
    assert places == {
        ("halo truth", "10", "20", "100", "40"),
        ("line truth", "10", "20", "100", "40"),
        ("halo inner", "5", "5", "0.001", "4"),
        ("line inner", "5", "5", "0.001", "4"),
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (0, 0)])
def test_picture_of_any_proportions_keeps_a_side_that_can_be_seen(size: tuple[int, int]) -> None:
    parsed = Page(
        boxed_picture(np.zeros((*np.maximum(size, 1), 3), np.uint8), size, [], [], alt="a")
    )
    style = str(parsed.of("div")[0]["style"])
    width, height = map(float, re.findall(r"aspect-ratio: ([\d.]+) / ([\d.]+)", style)[0])
    # 14 of 200 px at least.
    assert 0.069 < width / height < 1 / 0.069


def test_a_row_of_a_gallery_tells_truth_answer_and_agreement(
    usual: EvaluationPage, usual_shown: Page
) -> None:
    worst = int(np.argmin(usual.outcomes.ious))
    names = usual.evaluation.class_names
    alt = (
        f"true class {names[usual.outcomes.labels[worst]]}, answered "
        f"{names[usual.outcomes.predicted[worst]]}, IoU {usual.outcomes.ious[worst]:.2f}".replace(
            "0.", "."
        )
    )
    assert any(one["alt"] == alt for one in usual_shown.of("img"))


def test_label_sets_are_named_counted_or_empty(usual: EvaluationPage) -> None:
    assert usual.trust is not None
    sets = np.zeros_like(usual.trust.label_sets)
    rows = [one.index for one in usual.suspects[:3]]
    sets[rows[0], [0, 2]] = True
    sets[rows[1]] = True
    trust = replace(usual.trust, label_sets=sets)
    words = shown(replace(usual, trust=trust, suspects=usual.suspects[:3])).text()
    suspects = words[words.index("Here the model was confident") :]
    for said in ("label set: cat, horse", "label set: 5 classes", "label set: empty"):
        assert said in suspects


def test_hostile_names_are_shown_as_text() -> None:
    page = sample_page(60, NAMES, title=HOSTILE, run=HOSTILE, split=HOSTILE, suspects=3)
    outcomes = page.outcomes
    names = [f"{HOSTILE}{row}/{'long ' * 40}{row}" for row in range(len(outcomes))]
    doubt = [Suspect(5, HOSTILE, [NearDuplicate(HOSTILE, None, HOSTILE)])]
    parsed = shown(replace(page, names=names, facts=[(HOSTILE, HOSTILE)], suspects=doubt))
    # The dangerous signs are words of the page; the line break and the turn are written out.
    assert "</td><script>alert(1)</script>" in parsed.text()
    assert "\\n" in parsed.text() and "\\u202e" in parsed.text()
    assert "\u202e" not in parsed.text()
    assert not any("onerror" in attributes for _, attributes in parsed.tags)


def test_one_class_has_no_class_figures_in_front() -> None:
    parsed = shown(sample_page(80, ("gauge",), trusted=False))
    words = parsed.text()
    assert "There is one class" in words
    assert "Confused classes" not in words and "By class, the weakest" not in words
    assert "Reliability" not in words and "said gauge" not in words
    front = words[: words.index("All figures")]
    assert "mean IoU" in front and "class accuracy" not in front


def test_images_without_an_object() -> None:
    page = sample_page(150, ("cat", "dog", "nothing"), background=2, shifted=True)
    words = shown(page).text()
    hollow = int((page.outcomes.labels == 2).sum())
    assert f"{hollow} of them without an object" in words
    assert "background found empty" in words and "Surest false alarms" in words
    assert "Box and localization figures are of the images with an object" in words
    # The sample breaks the promise of the outer box, and its images shifted.
    assert "Guarantees that were not kept: outer box" in words
    assert "shift monitor warns" in words and "p < .0001" in words


def test_without_trust() -> None:
    words = shown(sample_page(80, trusted=False)).text()
    assert "The model is not calibrated" in words
    assert "Guarantees" not in words and "Shift monitor" not in words and "outer box" not in words


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("names", [("only",), ("a", "b")])
def test_one_image(names: tuple[str, ...], trusted: bool) -> None:
    words = shown(sample_page(1, names, trusted=trusted)).text()
    assert "1 image ·" in words and "too few to tell models apart" in words


def test_no_image_with_an_object() -> None:
    outcomes = sample_outcomes(9, 2, background=0)
    page = sample_page(9, ("nothing", "cat"), background=0, trusted=False)
    empty = replace(outcomes, labels=np.zeros(9, np.int32))
    evaluation = replace(page.evaluation, object_images=0, errors={}, baselines={})
    words = shown(replace(page, outcomes=empty, evaluation=evaluation, suspects=())).text()
    assert "No image shows an object" in words
    assert "Worst boxes" not in words


def test_pictures_that_are_missing_leave_an_empty_field(usual: EvaluationPage) -> None:
    parsed = shown(replace(usual, pictures={}, suspects=usual.suspects[:1]))
    assert "no picture" in parsed.text()
    # Only charts are left: three of boxes, three of reliability.
    assert len(parsed.of("img")) == 6


def test_no_suspects(usual: EvaluationPage) -> None:
    words = shown(replace(usual, suspects=())).text()
    assert "No box stands out" in words and "perhaps annotated wrong" not in words


def test_near_duplicates_are_counted_and_three_are_shown(usual: EvaluationPage) -> None:
    near = [NearDuplicate(f"train/{n}.png", np.zeros((9, 9, 3), np.uint8), "cat") for n in range(5)]
    words = shown(replace(usual, suspects=[Suspect(0, "looks odd", near)])).text()
    assert "Looks odd. 5 near duplicates in the training split; 3 of them here." in words
    assert "train/2.png" in words and "train/3.png" not in words


def test_figures_without_near_duplicates_are_a_column(usual: EvaluationPage) -> None:
    found = usual.evaluation
    apart = Group("of some", found.images - 1, {"mean_iou": Estimate(0.123, 0.111, 0.222, 9)})
    words = shown(replace(usual, evaluation=replace(found, apart=apart))).text()
    assert f"1 of {found.images} images is a near duplicate of training images" in words
    assert ".111 – .222" in words
    assert "near duplicate of training images" not in shown(usual).text()


def test_many_classes_show_pairs_and_a_picture() -> None:
    page = sample_page(600, tuple(f"class {n}" for n in range(200)), trusted=False)
    parsed = shown(page)
    words = parsed.text()
    assert "The other 180 classes" in words and "Most confused pairs" in words
    assert any("confusion matrix of 200 classes" in str(one["alt"]) for one in parsed.of("img"))
    assert not any("confusion" in str(one.get("class")) for one in parsed.of("table"))


def test_page_stays_small_however_many_images_and_however_noisy() -> None:
    outcomes = sample_outcomes(10_000, 20)
    random = np.random.default_rng(0)
    # Noise is what JPEG stores worst.
    noise = random.integers(0, 256, (4, 300, 300, 3), np.uint8)
    page = sample_page(50, tuple(f"class {n}" for n in range(20)), suspects=0)
    doubt = [
        Suspect(n, "odd", [NearDuplicate("a", noise[k], "b") for k in range(3)]) for n in range(12)
    ]
    pictures = {
        int(row): noise[row % 4]
        for row in wanted_pictures(outcomes, outcomes.confidences, range(12))
    }
    names = [f"images/{row}.jpg" for row in range(10_000)]
    whole = replace(page, outcomes=outcomes, names=names, pictures=pictures, suspects=doubt,
                    trust=sample_trust(outcomes, 20))  # fmt: skip
    assert len(evaluation_page(whole).encode()) < 5_000_000
