"""The data check: every planted fault is found once, at its file and row; a clean set has none.

The planted files are made by PIL or byte by byte; what is expected is written down by hand.
"""

import json
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotated import resolved
from helpers.planted_faults import (
    COLUMNS,
    SIZE,
    SPLITS,
    Row,
    clean_set,
    config_file,
    encoded,
    good,
    grouped_set,
    picture,
    planted_set,
    read_set,
    turned_jpeg,
    write_set,
)
from PIL import Image

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split, count_by_kind
from loc_keras.data.check.boxes import (
    best_baseline,
    box_findings,
    median_baseline,
    single_boxes,
)
from loc_keras.data.check.images import inspect_images, orphan_findings
from loc_keras.data.check.labels import class_findings, misspelt
from loc_keras.data.check.run import (
    CheckResult,
    check_data,
    lost_images,
    quick_check,
    refused_objects,
)
from loc_keras.data.fault_kinds import CATALOGUE, kind_of
from loc_keras.data.formats.csv_file import read_csv
from loc_keras.data.image_header import Header, read_header
from loc_keras.data.resolve import CheckedObjects, checked_objects
from loc_keras.report.image_boxes import thumb_of


def places(result: CheckResult, root: Path) -> list[tuple[str, str, int]]:
    return sorted((one.kind, one.file.removeprefix(f"{root}/"), one.row) for one in result.findings)


def test_every_planted_fault_is_found_once_at_its_place(tmp_path: Path) -> None:
    root, expected = planted_set(tmp_path / "set")
    result = check_data(read_set(root), SourceConfig())
    assert places(result, root) == sorted(expected)


def test_quick_check_finds_all_that_needs_no_pixels(tmp_path: Path) -> None:
    root, expected = planted_set(tmp_path / "set")
    result = quick_check(read_set(root), SourceConfig())
    # Only pixels tell that a file is cut behind its header, or that two pictures look alike.
    pixels = ("truncated", "near_duplicate")
    assert places(result, root) == sorted(one for one in expected if one[0] not in pixels)
    assert not result.decoded


def test_clean_set_has_no_finding(tmp_path: Path) -> None:
    annotations = read_set(clean_set(tmp_path / "set"))
    assert check_data(annotations, SourceConfig()).findings == []
    assert quick_check(annotations, SourceConfig()).findings == []


def test_what_training_refuses_is_an_error_of_the_check(tmp_path: Path) -> None:
    root, _ = planted_set(tmp_path / "set")
    annotations = read_set(root)
    refused = {(one.file, one.row) for one in resolved(annotations, SourceConfig()).errors}
    found = check_data(annotations, SourceConfig()).findings
    errors = {(one.file, one.row) for one in found if one.severity == "error"}
    assert refused and refused <= errors


def test_every_kind_tells_how_to_mend_it() -> None:
    for name, kind in CATALOGUE.items():
        assert kind.severity in ("error", "warning", "note"), name
        assert kind.title and kind.mend and not kind.mend.endswith("."), name
    assert kind_of("a kind that a new reader made up").severity == "error"


def test_reader_faults_come_through_unchanged() -> None:
    fault = Fault("a.xml", 3, "names no object", "no_object")
    result = quick_check(Annotations({"train": []}, "pixel", [fault]), SourceConfig())
    (finding,) = result.findings
    assert finding[:4] == ("a.xml", 3, "names no object", "no_object")


def thing(
    box: tuple[float, float, float, float],
    *,
    label: str = "cat",
    size: tuple[int, int] = (100, 100),
    split: Split = "train",
    name: str = "a.png",
    row: int = 1,
) -> tuple[Split, Annotated, Header]:
    return split, Annotated(ImageRef(name), name, label, box, "a.csv", row), Header(*size)


def checked(*things: tuple[Split, Annotated, Header]) -> CheckedObjects:
    objects: dict[Split, list[Annotated]] = {}
    for split, one, _ in things:
        objects.setdefault(split, []).append(one)
    headers = {one.image: header for _, one, header in things}
    return checked_objects(Annotations(objects, "fraction"), headers, SourceConfig())


@pytest.mark.parametrize(
    ("box", "kinds"),
    [
        ((0.1, 0.1, 0.5, 0.5), []),
        ((0.0, 0.1, 1.0, 0.5), []),
        ((0.1, 0.1, 1.0005, 0.5), ["box_overhang"]),
        ((0.1, 0.1, 1.002, 0.5), ["outside_image"]),  # beyond 1e-3
        ((0.1, 0.1, 1 + 1e-9, 0.5), []),  # rounding
        ((0.5, 0.1, 0.1, 0.5), ["inverted"]),
        ((0.5, 0.1, 0.5, 0.5), ["zero_area"]),
        ((0.1, float("inf"), 0.5, 0.5), ["not_finite"]),
        ((0.1, 0.1, 0.135, 0.5), ["box_tiny"]),  # 3.5 px of 100
        ((0.1, 0.1, 0.141, 0.5), []),  # 4.1 px
    ],
)
def test_box_findings(box: tuple[float, float, float, float], kinds: list[str]) -> None:
    assert [one.kind for one in box_findings(checked(thing(box)))] == kinds


def test_small_share_of_a_large_image_is_tiny() -> None:
    # 5 x 5 px of 200 x 200 are 0.0625 % of the area, below 0.1 %.
    found = box_findings(checked(thing((0.5, 0.5, 0.525, 0.525), size=(200, 200))))
    assert [one.kind for one in found] == ["box_tiny"]


def test_full_frames_are_odd_only_where_they_are_few() -> None:
    full, part = thing((0.0, 0.0, 1.0, 1.0)), thing((0.2, 0.2, 0.7, 0.7))
    assert [one.kind for one in box_findings(checked(full, part, part))] == ["box_full_frame"]
    assert box_findings(checked(full, full, part)) == []


def test_misspelt_labels() -> None:
    counts = {"bicycle": 80, "bicycel": 2, "Bicycle ": 9, "cat": 50, "car": 40, "bus": 3}
    # By hand: a slip beside a frequent name, and one that case and a space part from it; cat and
    # car are both frequent, bus resembles none.
    assert misspelt(counts) == {"bicycel": "bicycle", "Bicycle ": "bicycle"}


def test_numbers_are_not_misspelt() -> None:
    assert misspelt({"1001": 90, "1002": 2, "sign12": 90, "sign13": 3}) == {}


def test_unlisted_class_has_a_hint() -> None:
    objects = [thing((0.1, 0.1, 0.5, 0.5), label=label, row=row)
               for row, label in enumerate(["cat"] * 6 + ["Cat", "zebra"])]  # fmt: skip
    found = [
        one
        for one in class_findings(checked(*objects), ["cat"], ["train"])
        if one.kind == "class_unknown"
    ]
    assert [one.row for one in found] == [6, 7]
    assert "is it 'cat'?" in found[0].reason and "is it" not in found[1].reason


def test_search_for_hints_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "loc_keras.data.check.labels.difflib.get_close_matches",
        lambda label, *more, **options: asked.append(label) or [],
    )
    names = [f"class {n}" for n in range(1000)]
    # The last one differs in its case alone, which costs no search.
    labels = [f"unlike {n}" for n in range(400)] + ["CLASS 7"]
    objects = [thing((0.1, 0.1, 0.5, 0.5), label=label) for label in labels]
    unknown = [
        one for one in class_findings(checked(*objects), names, []) if one.kind == "class_unknown"
    ]
    assert len(unknown) == 401
    assert asked == labels[:100]
    assert unknown[-1].reason.endswith("is it 'class 7'?")


def test_balance_of_classes() -> None:
    objects = [thing((0.1, 0.1, 0.5, 0.5), label=label) for label in ["a"] * 66 + ["b"] * 6]
    objects += [thing((0.1, 0.1, 0.5, 0.5), label="a", split="test")]
    found = class_findings(checked(*objects), ["a", "b", "c"], ["train", "test"])
    # 66 is more than ten times 6; b has none in test; c has none at all.
    assert [(one.kind, one.reason.split("'")[1]) for one in found] == [
        ("class_imbalance", "a"),
        ("class_absent", "b"),
        ("class_rare", "c"),
    ]


def test_orphans_that_a_fault_names_are_not_told_twice(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c d.png", "notes.txt", "e.png"):
        (tmp_path / name).touch()
    faults = [
        Fault(str(tmp_path / "a.xml"), 0, "names no object", "no_object"),
        Fault("list.csv", 4, "names no object in 'c d.png'", "no_object"),
    ]
    named = Annotated(ImageRef(str(tmp_path / "b.png")), "b.png", "x", (0, 0, 1, 1), "f", 1)
    annotations = Annotations({"train": [named]}, "pixel", faults, folders=[str(tmp_path)])
    assert [one.file for one in orphan_findings(annotations)] == [str(tmp_path / "e.png")]


def test_floor_of_constant_boxes() -> None:
    objects = [
        thing(box, name=f"{number}.png", split=split)
        for number, (split, box) in enumerate(
            [
                ("train", (0.0, 0.0, 0.4, 0.4)),
                ("train", (0.2, 0.2, 0.6, 0.6)),
                ("train", (0.4, 0.4, 0.8, 0.8)),
                ("test", (0.2, 0.2, 0.6, 0.4)),
            ]
        )
    ]
    boxes = single_boxes(checked(*objects), "skip")
    baseline = median_baseline(boxes)
    assert baseline is not None
    # By hand: the median is the middle box; with the two others it shares .04 of .28, and of the
    # test box it has all of .08 in .16, so its IoU is exactly .5, which is not above .5.
    assert baseline.box == pytest.approx((0.2, 0.2, 0.6, 0.6))
    assert baseline.mean_iou["train"] == pytest.approx((1 + 2 * 0.04 / 0.28) / 3)
    assert baseline.mean_iou["test"] == pytest.approx(0.5)
    assert baseline.share["train"] == pytest.approx(1 / 3)
    best = best_baseline(boxes)
    assert best is not None and best.mean_iou["train"] >= baseline.mean_iou["train"] - 1e-6


def test_image_with_several_boxes_counts_by_policy() -> None:
    objects = [thing((0.0, 0.0, 0.2, 0.2)), thing((0.1, 0.1, 0.9, 0.9))]
    assert single_boxes(checked(*objects), "skip") == {}
    assert single_boxes(checked(*objects), "first")["train"].tolist() == [
        pytest.approx([0, 0, 0.2, 0.2])
    ]
    assert single_boxes(checked(*objects), "largest")["train"].tolist() == [
        pytest.approx([0.1, 0.1, 0.9, 0.9])
    ]


def test_door_says_clean_and_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from loc_keras.check import main

    config = config_file(clean_set(tmp_path / "set"))
    assert main(["--config", str(config)]) == 0
    assert "clean" in capsys.readouterr().out
    assert main(["--config", str(config), "--quick"]) == 0


def test_door_lists_kinds_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from loc_keras.check import main

    root, expected = planted_set(tmp_path / "set")
    assert main(["--config", str(config_file(root)), "--report", str(tmp_path / "report")]) == 1
    out = " ".join(capsys.readouterr().out.split())
    kinds = {kind for kind, _, _ in expected}
    assert all(f"{kind_of(kind).severity}: {kind_of(kind).title}" in out for kind in kinds)
    found = json.loads((tmp_path / "report" / "findings.json").read_text(encoding="utf-8"))
    told = sorted(
        (one["kind"], one["file"].removeprefix(f"{root}/"), one["row"]) for one in found["findings"]
    )
    assert told == sorted(expected)
    assert sum(found["kinds"].values()) == sum(found["counts"].values()) == len(expected)


@pytest.mark.slow
def test_faulty_data_can_be_previewed(tmp_path: Path) -> None:
    from loc_keras.check import main

    root, _ = planted_set(tmp_path / "set")
    config = config_file(root, more="augment: {flip: true}\n")
    arguments = ["--config", str(config), "--quick", "--preview", "6"]
    assert main([*arguments, "--report", str(tmp_path / "out")]) == 1
    with Image.open(tmp_path / "out" / "preview.png") as page:
        page.load()


def test_preview_decodes_no_more_than_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loc_keras import check
    from loc_keras.data import dataset as file_data
    from loc_keras.report import data_report

    decoded: list[list[str]] = []
    store = file_data.store_pixels

    def counted(records: Any, *more: Any, **options: Any) -> Any:
        decoded.append(records.names.tolist())
        return store(records, *more, **options)

    monkeypatch.setattr(file_data, "store_pixels", counted)
    monkeypatch.setattr(data_report, "save_preview", lambda path, *more, **options: path)
    config = ["--config", str(config_file(clean_set(tmp_path / "set"))), "--quick"]
    less = ["--set", "train.batch_size=4", "--set", "data.split.val=0.4"]
    assert check.main([*config, *less, "--preview", "2"]) == 0
    # One split, and of its 12 images as many as a batch has.
    assert [len(names) for names in decoded] == [4]
    assert check.main([*config, *less, "--preview", "6"]) == 0
    assert len(decoded[-1]) == 6


def test_preview_that_fails_leaves_the_exit_code_of_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from loc_keras.check import main

    root = clean_set(tmp_path / "set")
    (root / "train.csv").write_text("c0.png,cat,30,10,10,30,60,40\n", encoding="utf-8")
    assert main(["--config", str(config_file(root)), "--preview", "2"]) == 1
    assert "no preview could be drawn: no object is left for training" in capsys.readouterr().err


def test_door_refuses_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from loc_keras.check import main

    assert main(["--config", str(tmp_path / "none.yaml")]) == 2
    config = config_file(clean_set(tmp_path / "set"))
    gone = ["--config", str(config), "--set", f"data.source.path={tmp_path / 'gone'}"]
    assert main(gone) == 2
    assert "does not exist" in capsys.readouterr().err
    for more in (["--preview", "0"], ["--quick", "--fix", str(tmp_path / "new")]):
        with pytest.raises(SystemExit) as stop:
            main(["--config", str(config), *more])
        assert stop.value.code == 2


def test_digits_have_nothing_to_check_but_can_be_previewed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from loc_keras.check import main

    digits = np.random.default_rng(0).integers(0, 256, (300, 28, 28), dtype=np.uint8)
    labels = np.arange(300) % 10
    np.savez(tmp_path / "few.npz", x_train=digits, y_train=labels, x_test=digits, y_test=labels)
    text = f"data: {{source: {{path: {json.dumps(str(tmp_path / 'few.npz'))}}}}}\n"
    (tmp_path / "digits.yaml").write_text(text, encoding="utf-8")
    config = ["--config", str(tmp_path / "digits.yaml")]
    assert main([*config, "--preview", "5", "--report", str(tmp_path / "out")]) == 0
    assert "synthetic" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "preview.png") as page:
        page.load()
        assert min(page.size) > 100


def test_group_in_two_splits_is_an_error_and_the_held_out_part_stays(tmp_path: Path) -> None:
    result = quick_check(grouped_set(tmp_path / "set"), SourceConfig(class_names=["cat"]))
    (finding,) = [one for one in result.findings if one.kind == "group_across_splits"]
    assert finding.severity == "error"
    assert (finding.file, finding.row) == (str(tmp_path / "set" / "train.csv"), 1)
    assert "'a'" in finding.reason and "stands in test" in finding.reason
    refused = refused_objects(result)
    assert [(one.file[-9:], one.row, one.kind) for one in refused] == [
        ("train.csv", 1, "duplicate")
    ]
    assert [(split, Path(ref.path).name) for split, ref in lost_images(result)] == [
        ("train", "0.png")
    ]


@pytest.mark.parametrize(
    ("labels", "names", "conflict"),
    [
        (("0", "00"), None, False),
        (("0", "cat"), ["cat", "dog"], False),  # A number is the index where no name is one.
        (("0", "dog"), ["cat", "dog"], True),
        (("x", "y"), ["cat", "dog"], True),  # Unknown both, and yet not the same.
    ],
)
def test_conflict_is_of_classes_not_of_spelling(
    tmp_path: Path, labels: tuple[str, str], names: list[str] | None, conflict: bool
) -> None:
    images = dict.fromkeys(["a.png", "b.png"], encoded(picture(1), "PNG"))
    rows = [good(name, label) for name, label in zip(images, labels, strict=True)]
    root = write_set(tmp_path / "set", images, {"train.csv": rows})
    annotations = read_csv(
        str(root), splits={"train": SPLITS["train"]}, columns=COLUMNS, units="pixel"
    )
    result = quick_check(annotations, SourceConfig(class_names=names))
    assert ("duplicate_conflict" in {one.kind for one in result.findings}) is conflict
    assert len(lost_images(result)) == (2 if conflict else 0)


def test_each_object_is_refused_once(tmp_path: Path) -> None:
    picture_of = encoded(picture(1), "PNG")
    deep = encoded(Image.fromarray(np.ones((40, 60), np.float32)), "TIFF")
    images = {"a.png": picture_of, "b.png": picture_of, "c.png": encoded(picture(2), "PNG")}
    images["deep.tif"] = deep
    rows: dict[str, list[Row]] = {
        "train.csv": [
            ("a.png", "cat", 1, 1, 9, 9, 99, 99),  # Another size, and a copy in test.
            ("c.png", "cat", 9, 9, 1, 1, 99, 99),  # Another size, and inverted.
            good("deep.tif", "cat"),
            (*good("deep.tif", "cat")[:5], 31, *SIZE),  # The second object of a bad image.
            ("c.png", "cat"),
        ],
        "test.csv": [good("b.png", "cat")],
    }
    result = quick_check(read_set(write_set(tmp_path / "set", images, rows)), SourceConfig())
    about_a = {one.kind for one in result.findings if one.row == 1 and "train" in one.file}
    assert "size_mismatch" in about_a
    refused = [(one.file[-9:], one.row, one.kind) for one in refused_objects(result)]
    expected = ["columns", "duplicate", "size_mismatch", *["unsupported_mode"] * 2]
    assert [kind for *_, kind in refused] == expected
    assert [row for _, row, _ in refused] == [5, 1, 2, 3, 4]


def test_every_image_has_facts_and_a_number_of_its_bytes(tmp_path: Path) -> None:
    names = ["one.png", "gone.png", "copy.png", "words.png", "more.png"]
    images = dict.fromkeys(["one.png", "copy.png"], encoded(picture(1), "PNG"))
    images |= {"words.png": b"no picture", "more.png": b"no picture"}
    rows = {"train.csv": [good(name, "cat") for name in names], "test.csv": [good("t.png", "cat")]}
    result = quick_check(read_set(write_set(tmp_path / "set", images, rows)), SourceConfig())
    assert [Path(ref.path).name for ref in result.images] == [*names, "t.png"]
    assert [facts.header is not None for facts in result.images.values()] == [
        *(True, False, True, False, False, False)
    ]
    # Of what cannot be used each has a number of its own.
    assert list(result.identical) == list(result.images)
    assert list(result.identical.values()) == [0, 1, 0, 3, 4, 5]


def test_threads_leave_the_filters_of_warnings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(1), "PNG"))
    ref = ImageRef(str(tmp_path / "a.png"))
    before = list(warnings.filters)
    seen = []

    def watched(one: ImageRef) -> None:
        seen.append(list(warnings.filters))

    monkeypatch.setattr("loc_keras.data.image_header._read", watched)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(read_header, ref).result()
    read_header(ref)
    # A thread that changed them could restore them while another one's change is there.
    assert seen[0] == before
    assert seen[1][0][0] == "ignore" and warnings.filters == before


def test_counts_put_errors_first() -> None:
    kinds = ["box_tiny", "box_tiny", "inverted", "several_boxes"]
    found = count_by_kind([Fault("f", 1, "", kind) for kind in kinds])
    assert list(found.items()) == [("inverted", 1), ("box_tiny", 2), ("several_boxes", 1)]


@pytest.mark.slow
def test_no_damage_to_an_image_stops_the_check(tmp_path: Path) -> None:
    # Bytes changed at random, half of them in the header; every fifth file is also cut.
    rng = np.random.default_rng(0)
    forms = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
    seeds = [encoded(picture(1), form) for form in forms] + [turned_jpeg(2, 6)]
    refs = []
    for number in range(2000):
        content = bytearray(seeds[number % len(seeds)])
        reach = min(len(content), 200) if number % 2 else len(content)
        for place in rng.integers(0, reach, rng.integers(1, 8)):
            content[place] = rng.integers(256)
        end = rng.integers(0, len(content)) if number % 5 == 0 else len(content)
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes(content[:end]))
        refs.append(ImageRef(str(path)))
    facts, _ = inspect_images(refs, decode=True, near=True)
    assert len(facts) == 2000
    assert {one.trouble for one in facts.values()} - {""} <= set(CATALOGUE)
    assert sum(not one.trouble for one in facts.values()) > 200
    for ref in refs:
        thumb_of(ref, (0.1, 0.1, 0.5, 0.5))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a link")
def test_name_behind_a_link_that_leads_out_is_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(picture(1), "PNG"))
    root = clean_set(tmp_path / "set")
    (root / "images" / "link.png").symlink_to(secret)
    with (root / "train.csv").open("a", encoding="utf-8") as file:
        file.write("link.png,cat,10,10,40,30,60,40\n")
    result = check_data(read_set(root), SourceConfig())
    assert ("outside", "train.csv", 13) in places(result, root)
    assert all("secret" not in ref.path for ref in result.images)
