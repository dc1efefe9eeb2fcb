"""The tables of an evaluation on the terminal."""

import io
from dataclasses import replace

import numpy as np
import pytest
from helpers.evaluation_sample import sample_page
from rich.console import Console

from loc_keras.evaluation.outcomes import Estimate, Group
from loc_keras.report.terminal import print_evaluation, print_metrics, trust_rows


def printed(*parts, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False)
    print_evaluation(console, *parts)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def page():
    return sample_page()


def test_every_figure_stands_in_80_columns(page) -> None:
    told = printed(page.evaluation, page.trust)
    lines = told.splitlines()
    for name in ("class accuracy", "mean IoU", "MaxBoxAccV2", "object in the outer box"):
        assert any(name in line and "…" not in line for line in lines)
    assert "constant box" in told
    # Long sentences are left to the terminal; tables are not cut.
    assert all(len(line) <= 80 for line in lines if "─" in line)


def test_what_figures_do_not_say_is_told_as_on_the_page() -> None:
    told = printed(sample_page(80, ("gauge",), trusted=False).evaluation, None)
    assert "There is one class: the class is always right" in told
    assert "of the images with an object" not in told
    told = printed(sample_page(150, ("cat", "dog", "nothing"), background=2).evaluation, None)
    assert "Box and localization figures are of the images with an object" in told
    assert "There is one class" not in told


def test_a_broken_guarantee_is_warned_of(page) -> None:
    told = " ".join(printed(page.evaluation, page.trust).split())
    # The sample breaks that of the outer box.
    assert "warning: the outer box was right for" in told
    assert "warning: the inner box" not in told


def test_one_class_has_no_rows_about_classes(page) -> None:
    every = [row[0].strip() for row in trust_rows(page.trust)]
    assert "class in the label set" in every
    parts = {**page.trust.__dict__, "probabilities": np.ones((3, 1))}
    single = [row[0].strip() for row in trust_rows(type(page.trust)(**parts))]
    assert single == [
        *("object in the outer box", "inner box in the object", "bad boxes told by p_iou50")
    ]


def test_without_trust_there_is_no_second_table(page) -> None:
    told = printed(page.evaluation, None)
    assert "outer box" not in told
    assert "errors: class and box right" in told


def test_figures_without_near_duplicates_stand_beside_the_others(page) -> None:
    apart = Group("of some", page.evaluation.images - 7, {"mean_iou": Estimate(0.123, 0.1, 0.2, 9)})
    told = printed(replace(page.evaluation, apart=apart), None)
    lines = [line.split() for line in told.splitlines() if line.strip().startswith("mean IoU")]
    assert lines[1][2:] == [".123", ".100", "–", ".200"]
    total = page.evaluation.images
    assert f"7 of {total} images are near duplicates of training images" in told
    assert all(len(line) <= 80 for line in told.splitlines() if "─" in line)
    console = Console(file=io.StringIO(), width=80, markup=False)
    measured = {"test": {"images": 9, "bbox_iou": 0.5}}
    measured["test_without_near_duplicates"] = {"images": 5, "bbox_iou": 0.25}
    print_metrics(console, measured)
    (line,) = [line for line in console.file.getvalue().splitlines() if "mean IoU" in line]
    assert line.split()[2:4] == ["0.5000", "0.2500"]
    assert "near duplicates" in console.file.getvalue()
