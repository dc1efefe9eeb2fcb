"""The tables of an evaluation on the terminal."""

import io

import numpy as np
import pytest
from helpers.evaluation_sample import sample_page
from rich.console import Console

from loc_keras.report.terminal import print_evaluation, trust_rows


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
