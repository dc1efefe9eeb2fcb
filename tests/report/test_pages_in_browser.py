"""Pages in a real browser: nothing asked for, nothing complained of, nothing cut off.

A page has no script and its policy allows none; what is measured here runs beside it, through the
browser's own door for tests.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers.browser import Browser, found_browser, open_browser
from helpers.evaluation_sample import sample_page
from helpers.planted_faults import planted_set, read_set

from loc_keras.config.data import SourceConfig
from loc_keras.data.check.run import check_data
from loc_keras.report.data_report import data_page
from loc_keras.report.evaluation_report import evaluation_page

pytestmark = pytest.mark.skipif(
    found_browser() is None, reason="needs Chromium and its driver on the PATH"
)

PHONE, DESK = 360, 1200
PAPER = 717
"""Px across A4 (210 mm) within Chromium's margins of 1 cm: 794 less two times 38."""

LONG = ("a", "x" * 400, "many short words " * 20, "<b>&amp;</b>", "شلوم עולם 猫")

PAGES = {
    "usual": lambda: sample_page(120),
    "one image": lambda: sample_page(1, ("only",)),
    "background": lambda: sample_page(90, ("cat", "dog", "none"), background=2, shifted=True),
    "25 classes": lambda: sample_page(300, tuple(f"a class of number {n}" for n in range(25))),
    "200 classes": lambda: sample_page(400, tuple(f"class {n}" for n in range(200)), trusted=False),
    "names": lambda: sample_page(60, LONG, title="t" * 300),
}

OVERFLOW = """
const wide = document.documentElement.scrollWidth, room = innerWidth;
return [wide, room];
"""
BROKEN = "return [...document.images].filter(one => !one.complete || !one.naturalWidth).length"
CUT = """
return [...document.querySelectorAll('.scroll')]
  .filter(one => one.scrollWidth > one.clientWidth && !one.querySelector('.confusion')).length
"""
UNNAMED = """
return [...document.querySelectorAll('table.wide')].filter(table => {
  const heads = [...table.querySelectorAll('thead th')].map(one => one.textContent);
  return [...table.querySelectorAll('tbody tr')].some(row => heads.join('|') !=
    [...row.children].map(cell => cell.dataset.head).join('|'));
}).length
"""
FOLDED = """
return [...document.querySelectorAll('details > :not(summary)')]
  .filter(one => !one.getBoundingClientRect().height || !one.checkVisibility()).length
"""


@cache
def made(name: str) -> str:
    return evaluation_page(PAGES[name]())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


def assert_shows_well(browser: Browser, page: Path) -> None:
    for width in (PHONE, DESK):
        browser.open(page, width)
        assert browser.complaints() == []
        assert browser.requests() == [page.as_uri()]
        wide, room = browser.run(OVERFLOW)
        assert room == width and wide <= width
        assert browser.run("return document.images.length") > 0
        assert browser.run(BROKEN) == 0
        assert browser.run(CUT) == 0
        assert browser.run(UNNAMED) == 0
    assert browser.run("return document.querySelector('.wide thead').offsetHeight") > 0
    browser.open(page, PHONE)
    assert browser.run("return document.querySelector('.wide thead').offsetHeight") == 0
    if browser.run("return document.querySelector('details:not([open])') !== null"):
        assert browser.run(FOLDED) > 0
    browser.open(page, PAPER, media="print")
    wide, _ = browser.run(OVERFLOW)
    assert wide <= PAPER
    assert browser.run(FOLDED) == 0


@pytest.mark.parametrize("name", PAGES)
def test_page_of_an_evaluation(browser: Browser, folder: Path, name: str) -> None:
    page = folder / "evaluation.html"
    page.write_text(made(name), encoding="utf-8")
    assert_shows_well(browser, page)


def test_page_of_a_data_check(browser: Browser, folder: Path) -> None:
    root, _ = planted_set(folder / "set")
    result = check_data(read_set(root), SourceConfig())
    page = folder / "data.html"
    page.write_text(data_page(result, title="planted", source="csv"), encoding="utf-8")
    assert_shows_well(browser, page)


def test_paper_has_everything_and_no_figure_cut_in_two(browser: Browser, folder: Path) -> None:
    page = folder / "evaluation.html"
    page.write_text(made("usual"), encoding="utf-8")
    browser.open(page, DESK)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    browser.open(page, PAPER, media="print")
    kept = "return getComputedStyle(document.querySelector('{}')).{}"
    for place in ("figure", "tr", ".chart", ".card", ".whole"):
        assert browser.run(kept.format(place, "breakInside")) == "avoid"
        assert browser.run(kept.format(place, "printColorAdjust")) == "exact"


def test_the_measure_itself_finds_faults(browser: Browser, folder: Path) -> None:
    page = folder / "bad.html"
    page.write_text(
        '<img src="data:image/png;base64,AAAA"><img src="gone.png">'
        '<div style="width: 700px">x</div><details><summary>s</summary><p>folded</p></details>'
        "<script>console.error('words')</script>",
        encoding="utf-8",
    )
    browser.open(page, PHONE)
    assert browser.run(BROKEN) == 2
    assert any("words" in one for one in browser.complaints())
    assert any(one.endswith("gone.png") for one in browser.requests())
    assert browser.run(OVERFLOW)[0] > PHONE
    assert browser.run(FOLDED) == 1


def test_policy_of_the_page_stops_a_script(browser: Browser, folder: Path) -> None:
    page = folder / "policy.html"
    text = made("one image")
    page.write_text(text.replace("<main>", "<script>var ran = 1</script><main>"), encoding="utf-8")
    browser.open(page, DESK)
    assert browser.run("return typeof ran") == "undefined"
    assert any("Content Security Policy" in one for one in browser.complaints())
