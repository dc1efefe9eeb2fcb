"""The benchmark of formats: what it measures is what it says."""

import json
import sys
import time

import numpy as np
import pytest

from benchmarks import inference
from benchmarks.common import markdown_of
from benchmarks.inference import absent_row, box_difference, figures_of, row_of, save_bars
from benchmarks.inference_asking import Measured, measure
from benchmarks.inference_material import BARE, WAYS, mib_of, write_artifacts
from benchmarks.inference_worker import IMAGES_FILE, Job
from loc_keras.serving import portable, runtimes

# Workers without a model: they sleep, hold memory, refuse batches or break.
MADE_UP = """
import sys, time
import numpy as np
from benchmarks import inference_worker as worker

def asleep(job):
    def ask(images):
        time.sleep(float(job.path) * len(images))
        return np.tile(images[:, 0, 0], 2)[:, :4] / 255
    return ask

def heavy(job):
    held = np.ones(int(job.path) * 2**20, np.uint8)
    return lambda images: np.zeros((len(images), 4)) + 0 * held[0]

def alone(job):
    def ask(images):
        if len(images) > 1:
            raise ValueError("one image")
        print("libraries print")
        return np.zeros((1, 4))
    return ask

def broken(job):
    raise RuntimeError("no such thing")

def clean(job):
    missing = [float(name in sys.modules) for name in ("keras", "loc_keras", "tensorflow", "x")]
    return lambda images: np.array([missing] * len(images))

worker.OPENERS |= dict(asleep=asleep, heavy=heavy, alone=alone, broken=broken, clean=clean)
worker.main()
"""
COMMAND = (sys.executable, "-c", MADE_UP)
PIXELS = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    np.save(folder / IMAGES_FILE, PIXELS)
    return str(folder)


@pytest.fixture(scope="module")
def measured(images):
    # This process holds what must not be counted as theirs.
    held = np.ones(200 * 2**20, np.uint8)
    jobs = {
        name: Job(kind, path, "pixels", 1, images)
        for name, kind, path in [
            ("20 ms", "asleep", "0.02"),
            ("40 ms", "asleep", "0.04"),
            ("nothing", "nothing", ""),
            ("300 MiB", "heavy", "300"),
            ("alone", "alone", ""),
            ("broken", "broken", ""),
            ("clean", "clean", ""),
        ]
    }
    found = measure(jobs, rounds=3, burst=2, command=COMMAND)
    assert held[0]
    return found


def test_times_are_those_that_were_slept(measured):
    for name, slept in (("20 ms", 0.02), ("40 ms", 0.04)):
        found = measured[name]
        assert np.shape(found.one) == (3, 2)
        assert len(found.batch) == 3
        # It never sleeps less, and a busy machine lets it sleep longer.
        assert np.min(found.one) >= slept
        assert np.min(found.batch) >= 4 * slept
        assert np.median(found.one) < 10 * slept


def test_boxes_are_in_the_order_of_the_images(measured):
    # The made-up box of an image is its value by 255.
    expected = np.repeat(np.arange(4) / 255, 4).reshape(4, 4)
    np.testing.assert_allclose(measured["20 ms"].boxes, expected, atol=1e-7)


def test_memory_is_that_of_the_worker_alone(measured):
    nothing, heavy = measured["nothing"], measured["300 MiB"]
    if nothing.peak_one is None:
        pytest.skip("the system does not tell the memory of a process")
    assert 5 < nothing.peak_one < 150
    assert heavy.peak_one - nothing.peak_one == pytest.approx(300, abs=30)
    assert heavy.peak_batch >= heavy.peak_one


def test_what_takes_one_image_has_no_batches(measured):
    assert measured["alone"].batch == []
    assert len(measured["alone"].one) == 3


def test_what_cannot_be_opened_says_why(measured):
    assert measured["broken"] == "RuntimeError: no such thing"


def test_a_worker_loads_no_framework_by_itself(measured):
    np.testing.assert_array_equal(measured["clean"].boxes, np.zeros((4, 4)))


@pytest.mark.parametrize("kind", ["litert", "onnx", "openvino", "saved_model"])
def test_exported_models_are_opened_without_keras(kind):
    from benchmarks.inference_worker import BLOCKED

    assert "keras" in BLOCKED[kind]
    # What opens files for devices is ours; a SavedModel is opened by TensorFlow alone.
    assert {"loc_keras", "tensorflow"} - set(BLOCKED[kind]) == {
        "tensorflow" if kind == "saved_model" else "loc_keras"
    }


# The figures, by hand.


def _measured(one, batch, boxes=((0.1, 0.2, 0.3, 0.4),) * 4, peak_one=100.0, peak_batch=150.0):
    return Measured(np.array(boxes, float), one, batch, peak_one, peak_batch)


def test_figures_by_hand():
    bare = _measured([[0.010, 0.020, 0.010], [0.030, 0.030, 0.050]], [0.1, 0.4])
    way = _measured([[0.020, 0.020, 0.050], [0.015, 0.015, 0.090]], [0.2, 0.2])
    live = np.full((4, 4), [0.1, 0.2, 0.3, 0.377])
    found = figures_of("a", "pixels", way, bare, live, 7.5)
    # Sorted: 15 15 20 20 50 90. Between the fifth and sixth, at 0.75: 50 + 0.75 * 40.
    assert found.latency_ms == pytest.approx(20)
    assert found.latency_p95_ms == pytest.approx(80)
    assert found.latency_least_ms == pytest.approx(15)
    # Medians of the rounds: 20 by 10 and 15 by 30; the middle of 2 and 0.5.
    assert found.to_bare == 1.25
    # 4 images in 0.2 s; 0.2 by 0.1 and 0.2 by 0.4.
    assert found.images_per_s == pytest.approx(20)
    assert found.batch_to_bare == 1.25
    assert found.box_difference == pytest.approx(0.023)
    assert list(row_of(found, 4).values()) == [
        *("a", "20.00", "80.00", "15.00", "1.25", "20", "20", "1.25", "100", "150", "7.5", "2e-02"),
    ]


def test_one_at_a_time_is_told():
    bare = _measured([[0.01]], [0.1])
    way = _measured([[0.02]], [])
    found = figures_of("a", "pixels", way, bare, way.boxes, 1.0)
    assert (found.batch, found.batch_to_bare, found.peak_batch_mib) == (1, None, None)
    assert row_of(found, 4)["images/s by 4"] == "50 (one by one: it takes 1)"


def test_boxes_that_are_not_told_are_left_out():
    boxes = np.array([[np.nan] * 4, [0.1, 0.2, 1.0, 0.5]])
    live = np.array([[0.5] * 4, [0.1, 0.25, 1.2, 0.5]])
    assert box_difference(boxes, live) == pytest.approx(0.05)
    assert box_difference(boxes[:1], live[:1]) == 0


def test_markdown():
    rows = [{"way": "a", "ms": 1}, absent_row("b", ["way", "ms"])]
    assert markdown_of(rows) == "| way | ms |\n| --- | ---: |\n| a | 1 |\n| b | – |\n"


# What is compared.


def test_a_format_whose_packages_are_missing_is_absent(monkeypatch, tmp_path):
    for module in (portable, runtimes):
        monkeypatch.setattr(module, "find_spec", lambda module: None)
    (reason,) = write_artifacts(None, tmp_path, [("onnx", "none")]).values()
    assert "needs tf2onnx, onnx, onnxruntime, not installed here" in reason
    onnx = next(way for way in WAYS if way.kind == "onnx")
    artifacts = {("onnx", "none"): reason, None: inference.Artifact(tmp_path, 1.0)}
    absent, jobs = inference.split_ways([BARE, onnx], artifacts, 1, tmp_path)
    assert absent == {onnx.name: reason}
    assert list(jobs) == [BARE.name]


def test_absent_formats_stand_on_the_page():
    bare = _measured([[0.01]], [0.1])
    rows = [figures_of("bare", "pixels", bare, bare, bare.boxes, 1.0)]
    said = {"model": "m", "parameters": 5, "image": "2 x 2 x 3", "rounds": 1, "burst": 1}
    said |= {"threads": 1, "cores_of_machine": 2, "load_before": 0.5, "mib_without_model": None}
    text = inference.page(rows, {"ONNX": "not installed."}, said | {"versions": {"keras": "3"}}, 4)
    assert "| ONNX | – | – |" in text
    assert text.endswith("\n- ONNX is absent: not installed.\n")


def test_every_export_is_compared():
    # `refuse_format` says what is written at all.
    written = {
        (kind, quantize)
        for kind in (portable.SAVED_MODEL, *portable.FORMATS)
        for quantize in portable.QUANTIZE
        if (kind, quantize) != ("openvino", "int8")
        and (kind != portable.SAVED_MODEL or quantize == "none")
    }
    assert {way.exported for way in WAYS} - {None} == written
    assert len({way.name for way in WAYS}) == len(WAYS)


def test_sizes_are_those_of_files_and_folders(tmp_path):
    (tmp_path / "variables" / "more").mkdir(parents=True)
    (tmp_path / "graph").write_bytes(bytes(2**19))
    (tmp_path / "variables" / "more" / "data").write_bytes(bytes(2**20))
    assert mib_of(tmp_path / "graph", tmp_path / "variables") == 1.5


def test_bars_are_drawn(tmp_path):
    from PIL import Image

    bare = _measured([[0.01]], [0.1])
    rows = [figures_of(name, "pixels", bare, bare, bare.boxes, 1.0) for name in ("`a`", "b")]
    save_bars(rows, tmp_path / "bars.png", "title")
    assert Image.open(tmp_path / "bars.png").width == 1100


@pytest.mark.slow
def test_a_model_in_its_formats(tmp_path, monkeypatch, capsys, short_body):
    untrained = inference.untrained_material
    monkeypatch.setattr(
        inference, "untrained_material", lambda folder, count: untrained(folder, count, side=32)
    )
    started = time.perf_counter()
    only = ["keras", "localizer", "saved_model", "litert"]
    files = ["--json", str(tmp_path / "found.json"), "--plot", str(tmp_path / "bars.png")]
    few = ["--images", "3", "--rounds", "2", "--burst", "2"]
    inference.main([*few, *files, "--only", *only])
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    sys.stdout.write(f"{said}\n{time.perf_counter() - started:.0f} s\n")
    rows = {row["way"]: row for row in found["ways"]}
    wanted = {way.name for way in WAYS if way == BARE or way.kind in only}
    assert set(rows) | set(found["absent"]) == wanted
    assert len(rows) >= 6
    for name, row in rows.items():
        limit = {"float16": 1e-2, "int8": 0.1}.get(name.split()[-1], 1e-3)
        assert row["box_difference"] <= limit, name
        assert (row["batch"], row["latency_ms"] > 0) == (3, True)
    assert rows[BARE.name]["to_bare"] == rows[BARE.name]["batch_to_bare"] == 1
    assert (tmp_path / "bars.png").is_file()
