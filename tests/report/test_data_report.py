"""The report of a data set: one page that needs nothing else, whatever users named their files."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.page_parser import Page, assert_needs_nothing_else
from helpers.planted_faults import (
    clean_set,
    encoded,
    good,
    picture,
    planted_set,
    read_set,
    write_set,
)
from PIL import Image

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Annotations, Fault, ImageRef
from loc_keras.data.check.run import check_data, quick_check
from loc_keras.data.fault_kinds import kind_of
from loc_keras.errors import clean
from loc_keras.report.data_report import (
    MOST_ROWS,
    class_chart,
    coverage,
    data_page,
    findings_json,
    place_charts,
    save_preview,
    shape_charts,
    write_report,
)
from loc_keras.report.image_boxes import SIDE, thumb_of, with_box
from loc_keras.report.style import TRUTH, figure_to_array

Report = tuple[Path, list[tuple[str, str, int]]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report on every planted fault, and what was planted."""
    folder = tmp_path_factory.mktemp("planted")
    root, expected = planted_set(folder / "set")
    result = check_data(read_set(root), SourceConfig())
    return write_report(folder / "report", result, title="planted", source="csv"), expected


def test_page_of_planted_faults(planted: Report) -> None:
    path, expected = planted
    page = assert_needs_nothing_else(path.read_text(encoding="utf-8"))
    words = " ".join(page.words)
    for kind in {kind for kind, _, _ in expected}:
        assert kind_of(kind).title in words
    images = list(page.images())
    # Three charts at least, 24 samples, and a picture of each kind that can be shown.
    assert len(images) > 3 + 24 + 15
    found = json.loads(path.with_name("findings.json").read_text(encoding="utf-8"))
    assert len(found["findings"]) == len(expected)
    assert {"severity", "kind", "file", "row", "message", "mend"} <= set(found["findings"][0])


def test_links_of_the_table_lead_to_the_kinds(planted: Report) -> None:
    page = Page(planted[0].read_text(encoding="utf-8"))
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
    assert links and links == targets


def test_page_of_clean_data(tmp_path: Path) -> None:
    result = quick_check(read_set(clean_set(tmp_path / "set")), SourceConfig())
    page = assert_needs_nothing_else(data_page(result, title="clean", source="here"))
    assert "Nothing was found" in " ".join(page.words)


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    name, label = "<img src=x onerror=alert(1)>\n.png", "</td><script>alert(2)</script>"
    rows = [good(name, label), (name, label, 30, 10, 10, 30, 60, 40)]
    images = {name: encoded(picture(1), "PNG")}
    root = write_set(tmp_path / "set", images, {"train.csv": rows, "test.csv": rows[:1]})
    result = check_data(read_set(root), SourceConfig())
    text = data_page(result, title="<script>", source="https is no link here: ' \" &")
    page = assert_needs_nothing_else(text)
    words = "".join(page.words)
    assert "onerror=alert(1)>\\n.png" in words and "<script>" in words
    assert "\n.png" not in words


def test_page_without_a_single_usable_image_is_still_a_page(tmp_path: Path) -> None:
    rows = {"train.csv": [good("gone.png", "cat")], "test.csv": [good("gone.png", "cat")]}
    root = write_set(tmp_path / "set", {}, rows)
    result = check_data(read_set(root), SourceConfig())
    assert_needs_nothing_else(data_page(result, title="t", source="s"))
    only_faults = Annotations({"train": []}, "pixel", [Fault("a.xml", 0, "is empty", "syntax")])
    assert_needs_nothing_else(
        data_page(check_data(only_faults, SourceConfig()), title="t", source="s")
    )


def test_thousands_of_findings_stay_small_and_say_how_many_more(tmp_path: Path) -> None:
    faults = [Fault("list.csv", row, "x" * 5000, "columns") for row in range(1, 6001)]
    annotations = read_set(clean_set(tmp_path / "set"))
    annotations.faults.extend(faults)
    result = quick_check(annotations, SourceConfig())
    text = data_page(result, title="t", source="s")
    assert len(text) < 20_000_000 / 10
    assert f"And {6000 - MOST_ROWS:,} more in findings.json" in text
    assert len(json.loads(findings_json(result))["findings"]) == 6000


def test_many_classes_are_shortened(tmp_path: Path) -> None:
    counts = {"train": list(range(1, 101))}
    names = [f"class {number} " + "long " * 20 for number in range(100)]
    pixels = figure_to_array(class_chart(counts, names))
    # 40 rows of a fifth of an inch at 144 px an inch, and the axis.
    assert 40 * 0.2 * 144 < pixels.shape[0] < 40 * 0.2 * 144 + 144


def test_coverage_by_hand() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 1]], np.float32)
    expected = [
        [0.5, 1.0, 0.5, 0.0],
        [0.5, 1.0, 0.5, 0.0],
        [0.0, 0.5, 0.5, 0.0],
        [0.0, 0.5, 0.5, 0.0],
    ]
    np.testing.assert_allclose(coverage(boxes, grid=4), expected)


def test_charts_draw_odd_data_without_a_warning() -> None:
    one = np.array([[0.2, 0.2, 0.2001, 0.9]], np.float32)
    shape_charts({"train": one}, {"train": np.array([1e-4])})
    place_charts(one)
    class_chart({"train": [0], "test": [0]}, ["only"])


def test_box_is_drawn_on_its_pixels() -> None:
    black = Image.new("RGB", (100, 100))
    drawn = np.asarray(with_box(black.copy(), (0.2, 0.3, 0.8, 0.7)))
    colour = tuple(int(TRUTH[at : at + 2], 16) for at in (1, 3, 5))
    ys, xs = np.nonzero((drawn == colour).all(axis=-1))
    # The outline's outer edge is the box: pixels 20..79 and 30..69.
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (20, 79, 30, 69)
    assert tuple(drawn[50, 50]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("box", "wider", "higher"),
    [((0.5, 0.1, 1.2, 0.9), True, False), ((0.1, -9.0, 0.9, 0.5), False, True)],
)
def test_picture_grows_to_show_a_box_outside(
    box: tuple[float, float, float, float], wider: bool, higher: bool
) -> None:
    grown = with_box(Image.new("RGB", (100, 100)), box)
    assert (grown.width > 100, grown.height > 100) == (wider, higher)
    assert max(grown.size) < 160  # by half a side at most, however far it reaches


def test_box_without_area_can_be_seen() -> None:
    drawn = np.asarray(with_box(Image.new("RGB", (100, 100)), (0.2, 0.5, 0.8, 0.5)))
    assert (drawn.max(axis=-1) > 100).sum() > 60


def test_boxes_that_cannot_be_drawn_leave_the_picture_as_it_is() -> None:
    black = Image.new("RGB", (50, 50))
    assert with_box(black, (0.1, float("nan"), 0.5, 0.5)) is black
    for box in ((0.5, 0.5, 0.5, 0.5), (0.9, 0.9, 0.1, 0.1), (-1e300, 0.0, 1e300, 1.0)):
        with_box(black.copy(), box)


def test_thumbs_are_small_and_whole(tmp_path: Path) -> None:
    for size in ((1, 1), (3, 700), (64, 64), (1200, 900)):
        Image.new("RGB", size, "red").save(tmp_path / "a.png")
        thumb = thumb_of(ImageRef(str(tmp_path / "a.png")), None)
        assert thumb is not None and SIDE / 2 < max(thumb.size) <= SIDE
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert thumb_of(ImageRef(str(tmp_path / "a.png")), None) is None
    assert thumb_of(ImageRef(str(tmp_path / "gone.png")), None) is None


def test_clean_text_is_one_printable_line() -> None:
    assert clean("a\nb\x1b[31m\u202ec") == "a\\nb\\x1b[31m\\u202ec"
    assert clean("ü 猫") == "ü 猫"
    assert len(clean("x" * 999, 50)) == 50


def test_preview_takes_the_first_samples(tmp_path: Path) -> None:
    batches = [
        (np.zeros((4, 20, 30, 1), np.uint8), {"softmax": np.arange(4) % 2,
                                              "bbox": np.full((4, 4), [0.2, 0.2, 0.8, 0.8])})
    ] * 3  # fmt: skip
    path = save_preview(tmp_path / "p.png", batches, 6, ["a", "b$x_1$"], title="six <of> them")
    with Image.open(path) as page:
        pixels = np.asarray(page.convert("RGB"))
    # Three columns of 240 px wide cells: black pictures on white paper.
    black = (pixels == 0).all(axis=-1)
    assert black.any(axis=0).sum() > 3 * 200
