"""Coverage over splits: against theory, against a plain loop, and with too few images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import nhypergeom

from benchmarks import coverage
from benchmarks.coverage_study import (
    CoverageRow,
    CoverageStudy,
    HeldOutAnswers,
    coverage_over_splits,
)
from loc_keras.errors import TrustError
from loc_keras.trust.conformal import (
    fit_boxes,
    fit_label_sets,
    inner_boxes,
    label_sets,
    outer_boxes,
    scales_of,
)


def answers(images: int, seed: int = 0, classes: int = 5) -> HeldOutAnswers:
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.2, 0.5, (images, 2))
    low = rng.uniform(0, 1, (images, 2)) * (1 - size)
    true = np.concatenate([low, low + size], axis=1)
    spread = 0.02 * rng.gamma(2, 0.5, (images, 4))
    pred = np.clip(true + rng.normal(size=(images, 4)) * spread, 0, 1)
    p = softmax(rng.normal(0, 2, (images, classes)), axis=1)
    labels = (rng.random((images, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    return HeldOutAnswers(labels, p, true, pred, spread)


@pytest.fixture(scope="module")
def study() -> CoverageStudy:
    return coverage_over_splits(answers(600), splits=400, coverages=(0.8, 0.9))


def rows_of(study: CoverageStudy, kind: str) -> list[CoverageRow]:
    return [row for row in study.rows if row.kind == kind]


def test_there_is_a_row_for_each_promise(study: CoverageStudy) -> None:
    assert [(row.kind, row.scaling, row.asked) for row in study.rows] == [
        (kind, scaling, asked)
        for scaling in ("additive", "size", "spread")
        for kind in ("outer box", "inner box")
        for asked in (0.8, 0.9)
    ] + [("label set", None, 0.8), ("label set", None, 0.9)]
    assert (study.calibration_images, study.test_images, study.splits) == (300, 300, 400)


def test_theory_is_the_negative_hypergeometric(study: CoverageStudy) -> None:
    # Deal 600 ranks out, 300 to each side: the test ranks below the 241st (271st) calibration rank
    # are negative hypergeometric; SciPy's, not the beta-binomial that the study uses.
    for row in study.rows:
        rank = {0.8: 241, 0.9: 271}[row.asked]
        exact = nhypergeom(600, 300, rank)
        assert row.expected == pytest.approx(exact.mean() / 300)
        assert row.expected_error == pytest.approx(exact.std() / 300 / np.sqrt(400))


def test_coverage_and_its_error_are_those_of_theory(study: CoverageStudy) -> None:
    for row in rows_of(study, "outer box"):
        assert row.kept == pytest.approx(row.expected, abs=4 * row.expected_error)
        # The deviation of 400 draws is itself known to one in 28.
        assert row.standard_error == pytest.approx(row.expected_error, rel=0.15)
        assert row.empty == 0


def test_empty_boxes_and_top_labels_only_add(study: CoverageStudy) -> None:
    for row in rows_of(study, "inner box") + rows_of(study, "label set"):
        assert row.kept > row.expected - 4 * row.expected_error
    for row in rows_of(study, "inner box"):
        assert 0 < row.size < 0.13  # the mean true box covers .35^2
    for row in rows_of(study, "label set"):
        assert 1 < row.size < 5
        assert row.empty == 0


def test_met_is_within_one_standard_error_or_above() -> None:
    def met(kept: float) -> bool:
        row = CoverageRow("outer box", "size", 0.9, 9, False, kept=kept, standard_error=0.002)
        return row.met

    assert met(0.95)
    assert met(0.8981)
    assert not met(0.8979)


def test_sizes_grow_with_the_coverage(study: CoverageStudy) -> None:
    for kind, sign in (("outer box", 1), ("label set", 1), ("inner box", -1)):
        rows = rows_of(study, kind)
        for lower, higher in zip(rows[::2], rows[1::2], strict=True):
            assert sign * (higher.size - lower.size) > 0


def test_plain_loop_gives_the_same() -> None:
    pool = answers(60, seed=1)
    found = coverage_over_splits(pool, splits=3, coverages=(0.9,), calibration_share=0.5, seed=4)
    orders = np.random.default_rng(4).permuted(np.tile(np.arange(60), (3, 1)), axis=1)
    kept, sizes = {}, {}
    for order in orders:
        fit, test = order[:30], order[30:]
        true, pred, spread = pool.boxes[test], pool.boxes_pred[test], pool.spread[test]
        for scaling in ("additive", "size", "spread"):
            margins = fit_boxes(
                pool.boxes[fit],
                pool.boxes_pred[fit],
                coverage=0.9,
                scaling=scaling,
                spread=pool.spread[fit],
            )
            scales = scales_of(pred, scaling, spread)
            outer = np.asarray(outer_boxes(pred, scales, margins.outer[0]))
            inner = np.asarray(inner_boxes(pred, scales, margins.inner[0]))
            for kind, boxes in (("outer box", outer), ("inner box", inner)):
                good = []
                for box, one in zip(boxes, true, strict=True):
                    a, b = (one, box) if kind == "outer box" else (box, one)
                    held = a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]
                    good.append(held or not box.any())
                kept.setdefault((kind, scaling), []).append(np.mean(good))
                area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
                sizes.setdefault((kind, scaling), []).append(area.mean())
        fitted = fit_label_sets(pool.probabilities[fit], pool.labels[fit], 0.9)
        sets = np.asarray(label_sets(pool.probabilities[test], fitted))
        kept.setdefault(("label set", None), []).append(
            sets[np.arange(30), pool.labels[test]].mean()
        )
        sizes.setdefault(("label set", None), []).append(sets.sum(axis=1).mean())
    assert len(found.rows) == len(kept) == 7
    for row in found.rows:
        shares = kept[row.kind, row.scaling]
        assert row.kept == pytest.approx(np.mean(shares))
        assert row.standard_error == pytest.approx(np.std(shares, ddof=1) / np.sqrt(3))
        assert row.size == pytest.approx(np.mean(sizes[row.kind, row.scaling]), rel=1e-5)


def test_too_few_images_are_marked() -> None:
    found = coverage_over_splits(answers(100), splits=5, coverages=(0.9, 0.99))
    for row in found.rows:
        # 1 / .01 - 1 = 99 of which there are 50.
        assert (row.too_few, row.needed) == ((True, 99) if row.asked == 0.99 else (False, 9))
        assert np.isnan(row.kept) == row.too_few
        if row.too_few:
            assert not row.met


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = coverage_over_splits(answers(60), splits=5, coverages=(0.8,))
    monkeypatch.setattr("benchmarks.coverage_study._AT_ONCE", 70)
    assert coverage_over_splits(answers(60), splits=5, coverages=(0.8,)) == whole
    assert coverage_over_splits(answers(60), splits=5, coverages=(0.8,), seed=1) != whole


def test_without_a_spread_there_are_two_scalings() -> None:
    full = answers(60)
    pool = HeldOutAnswers(full.labels, full.probabilities, full.boxes, full.boxes_pred)
    found = coverage_over_splits(pool, splits=2, coverages=(0.8,))
    assert [row.scaling for row in rows_of(found, "outer box")] == ["additive", "size"]


@pytest.mark.parametrize("changes", [{"splits": 1}, {"calibration_share": 1.0}])
def test_what_cannot_be_split(changes: dict) -> None:
    with pytest.raises(TrustError, match="images on both sides"):
        coverage_over_splits(answers(20), **changes)


# The benchmark around it


def run_benchmark(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["coverage", *arguments])
    coverage.main()


def test_benchmark_reads_answers_and_writes_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = answers(80)
    boxes = pool.boxes.copy()
    boxes[:10] = 0  # ten images without an object
    file, out = tmp_path / "birds.npz", tmp_path / "coverage.json"
    np.savez(
        file,
        labels=pool.labels,
        probabilities=pool.probabilities,
        boxes=boxes,
        boxes_pred=pool.boxes_pred,
        spread=pool.spread,
        name="birds",
    )
    run_benchmark(
        monkeypatch,
        *("--answers", str(file), "--splits", "4", "--coverages", "0.9", "0.99"),
        *("--out", str(out)),
    )
    written = json.loads(out.read_text())
    assert [part["name"] for part in written] == ["birds"]
    assert written[0]["calibration_images"] == written[0]["test_images"] == 35
    by_hand = {row["asked"]: row for row in written[0]["rows"] if row["kind"] == "label set"}
    assert by_hand[0.9]["kept"] > 0.6
    assert by_hand[0.99]["kept"] is None
    assert by_hand[0.99]["needed"] == 99
    printed = capsys.readouterr().out
    assert "birds" in printed
    assert "needs 99" in printed


def test_benchmark_names_a_missing_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "half.npz"
    np.savez(file, labels=np.zeros(3, int))
    with pytest.raises(SystemExit, match=r"half\.npz lacks boxes, boxes_pred, probabilities"):
        run_benchmark(monkeypatch, "--answers", str(file))
