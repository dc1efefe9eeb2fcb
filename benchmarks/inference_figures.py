"""From what was measured to the table of `benchmarks.inference`."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.in_turn import median_ratio
from benchmarks.inference_asking import Measured

NONE = "–"


@dataclass(frozen=True)
class Figures:
    """Of one way.

    Attributes:
        way: Its name.
        given: With what it was asked.
        latency_ms: Median of the times of one image.
        latency_p95_ms: Their 95th percentile.
        latency_least_ms: The shortest, which other work on the machine lengthened least.
        to_bare: Median over the rounds of this way's median time by that of the bare call.
        images_per_s: Median over the rounds, with all images at once.
        most_images_per_s: In the best of the rounds.
        batch: How many that were.
        batch_to_bare: As `to_bare`, of the times of a batch; None where it takes one image.
        peak_mib: Memory of its process that answered about single images; None: not known.
        peak_batch_mib: The same with batches.
        file_mib: Of the model's files.
        box_difference: Largest of any side to the live model's, in fractions.
    """

    way: str
    given: str
    latency_ms: float
    latency_p95_ms: float
    latency_least_ms: float
    to_bare: float
    images_per_s: float
    most_images_per_s: float
    batch: int
    batch_to_bare: float | None
    peak_mib: float | None
    peak_batch_mib: float | None
    file_mib: float
    box_difference: float


def figures_of(
    way: str, given: str, measured: Measured, bare: Measured, live: np.ndarray, file_mib: float
) -> Figures:
    """Makes the figures of a way.

    Args:
        way: Its name.
        given: With what it was asked.
        measured: Of it.
        bare: Of the bare call, in the same rounds.
        live: Boxes (N, 4) of the live model in fractions.
        file_mib: Of the model's files.
    """
    times = np.concatenate([np.asarray(burst) for burst in measured.one])
    ones, bare_ones = ([median(burst) for burst in one.one] for one in (measured, bare))
    batched = bool(measured.batch)
    return Figures(
        way=way,
        given=given,
        latency_ms=1e3 * float(np.median(times)),
        latency_p95_ms=1e3 * float(np.percentile(times, 95)),
        latency_least_ms=1e3 * float(times.min()),
        to_bare=median_ratio(ones, bare_ones),
        images_per_s=len(live) / median(measured.batch) if batched else 1 / float(np.median(times)),
        most_images_per_s=len(live) / min(measured.batch) if batched else 1 / float(times.min()),
        batch=len(live) if batched else 1,
        batch_to_bare=median_ratio(measured.batch, bare.batch) if batched else None,
        peak_mib=measured.peak_one,
        peak_batch_mib=measured.peak_batch if batched else None,
        file_mib=file_mib,
        box_difference=box_difference(measured.boxes, live),
    )


def box_difference(boxes: np.ndarray, live: np.ndarray) -> float:
    """Largest difference of any side in fractions; boxes that were not told (NaN) are left out."""
    # Boxes for users are clipped to the picture, out of which a letterbox may lead.
    return float(np.nanmax(np.abs(np.clip(boxes, 0, 1) - np.clip(live, 0, 1)), initial=0.0))


def row_of(figures: Figures, batch: int) -> dict[str, Any]:
    """A row of the table that people read; `batch` is how many images the batches held."""
    single = "" if figures.batch == batch else f" (one by one: it takes {figures.batch})"
    return {
        "way": figures.way,
        "ms": f"{figures.latency_ms:.2f}",
        "95 %, ms": f"{figures.latency_p95_ms:.2f}",
        "least, ms": f"{figures.latency_least_ms:.2f}",
        "× bare": f"{figures.to_bare:.2f}",
        f"images/s by {batch}": f"{figures.images_per_s:.0f}{single}",
        "most": f"{figures.most_images_per_s:.0f}",
        "× bare by batch": _shown(figures.batch_to_bare, 2),
        "memory, MiB": _shown(figures.peak_mib, 0),
        f"by {batch}, MiB": _shown(figures.peak_batch_mib, 0),
        "file, MiB": f"{figures.file_mib:.1f}",
        "box differs by": f"{figures.box_difference:.0e}" if figures.box_difference else "0",
    }


def absent_row(way: str, columns: Iterable[str]) -> dict[str, Any]:
    """The row of a way that there is not, with the columns of the others."""
    return {name: way if name == "way" else NONE for name in columns}


def as_json(figures: Figures) -> dict[str, Any]:
    """All figures as plain values."""
    return asdict(figures)


def _shown(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
