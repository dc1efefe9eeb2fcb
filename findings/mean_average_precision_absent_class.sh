#!/usr/bin/env bash
# mean-average-precision averages over all classes it was built for: a class without any true box and any
# answer counts as 0, so perfect answers to pictures of one of two classes have a mAP of 0.5 (COCO's own
# evaluation leaves such classes out). Its IoU adds 1 to each side, as for whole pixels counted inclusively:
# boxes in fractions of the side overlap where they are apart, and a half of a box of 10 px has an IoU of .545.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "mean-average-precision==2024.1.5.0" "numpy==2.4.6"
cat > "$folder/score.py" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from mean_average_precision import MetricBuilder

print("mean-average-precision", version("mean-average-precision"), "numpy", version("numpy"))


def score(answer, truth, classes, iou):
    """mAP of one answer (x1, y1, x2, y2) of class 0 to one true box of class 0."""
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=classes)
    metric.add(np.array([[*answer, 0, 0.9]]), np.array([[*truth, 0, 0, 0]], float))
    return float(metric.value(iou_thresholds=iou)["mAP"])


whole = (0, 0, 10, 10)
one, two = score(whole, whole, 1, 0.5), score(whole, whole, 2, 0.5)
print(f"a perfect answer, built for one class: mAP {one}; for two classes: {two}")
half = score((0, 0, 10, 5), whole, 1, 0.54)
print(f"the upper half of a box (IoU .5) at threshold .54: mAP {half}")
apart = score((0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9), 1, 0.25)
print(f"fractions 0..0.4 and 0.5..0.9 (IoU 0) at threshold .25: mAP {apart}")
sys.exit((one, two, half, apart) != (1.0, 0.5, 1.0, 1.0))
PY
"$folder/venv/bin/python" "$folder/score.py"
