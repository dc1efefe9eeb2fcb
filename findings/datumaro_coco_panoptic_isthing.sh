#!/usr/bin/env bash
# Datumaro writes a data set as COCO panoptic with "isthing": 0 for every category, also for those whose
# annotations are instances with boxes. Who takes things only, as the panoptic quality's "things"
# columns do, finds no category.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "datumaro==1.13.12" 
cat > "$folder/write.py" <<'PY'
import importlib.metadata
import json
import pathlib
import sys

import numpy as np
from datumaro.components.annotation import Mask
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image

mask = np.zeros((20, 30), bool)
mask[5:15, 8:20] = True
item = DatasetItem(
    "one",
    subset="train",
    media=Image.from_numpy(np.full((20, 30, 3), 90, np.uint8)),
    annotations=[Mask(mask, label=1, id=7, group=7)],
)
out = pathlib.Path(sys.argv[1]) / "panoptic"
Dataset.from_iterable([item], categories=["cat", "dog"]).export(str(out), "coco_panoptic", save_media=True)
(path,) = out.rglob("panoptic_*.json")
written = json.loads(path.read_text())
print("datumaro", importlib.metadata.version("datumaro"))
print("categories:", written["categories"])
print("segments:", written["annotations"][0]["segments_info"])
boxes = [one["bbox"] for one in written["annotations"][0]["segments_info"]]
sys.exit({one["isthing"] for one in written["categories"]} != {0} or not boxes)
PY
"$folder/venv/bin/python" "$folder/write.py" "$folder" 2> "$folder/log" || { tail -5 "$folder/log"; exit 1; }
echo "as described: every category is written as stuff"
