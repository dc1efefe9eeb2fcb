"""The charts of a data set's boxes, from what a check found."""

import numpy as np
import numpy.typing as npt

from loc_keras.data.box_rules import BoxFault
from loc_keras.data.check.boxes import usable_of
from loc_keras.data.check.run import CheckResult
from loc_keras.report import page_html as html
from loc_keras.report.data_charts import place_charts, shape_charts
from loc_keras.report.embedded import figure_uri


def box_charts(result: CheckResult) -> list[str]:
    """HTML of the histograms and maps; a sentence where no box can be used."""
    boxes: dict[str, list[tuple[float, ...]]] = {split: [] for split in result.splits}
    aspects: dict[str, list[float]] = {split: [] for split in result.splits}
    for thing in result.objects:
        if thing.box is None:
            continue
        try:
            box = usable_of(thing)
        except BoxFault:
            continue
        boxes[thing.split].append(box)
        width, height = thing.size if thing.size[0] else (1, 1)
        aspects[thing.split].append((box[2] - box[0]) * width / ((box[3] - box[1]) * height))
    columns: dict[str, npt.NDArray[np.float32]] = {
        split: np.array(one, np.float32) for split, one in boxes.items() if one
    }
    if not columns:
        return ["<p>No box can be used.</p>"]
    shapes = shape_charts(columns, {split: np.array(aspects[split]) for split in columns})
    places = place_charts(np.concatenate(list(columns.values())))
    return [
        html.chart(figure_uri(shapes), "histograms: width, height, area and aspect of boxes"),
        html.chart(figure_uri(places), "maps: density of box centres, coverage by boxes"),
    ]
