#!/usr/bin/env bash
# Label Studio's converter writes Pascal VOC boxes by cutting off x and width, each for itself, after
# percent were turned into pixels: a box of 50..72 px, whose percent are not exact in binary, comes out
# as 49..70. Its COCO export of the same tasks is exact. Boxes of whole pixels do not come back whole.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "label-studio-sdk==2.1.0"
cat > "$folder/convert.py" <<'PY'
import importlib.metadata
import json
import pathlib
import re
import sys

from label_studio_sdk.converter import Converter
from PIL import Image

root = pathlib.Path(sys.argv[1])
width, height, box = 96, 64, (50, 33, 72, 53)
(root / "images").mkdir()
Image.new("RGB", (width, height)).save(root / "images" / "a.png")
x1, y1, x2, y2 = box
# As its own importer of YOLO computes percent: from the centre.
centre_x, w = (x1 + x2) / 2 / width, (x2 - x1) / width
centre_y, h = (y1 + y2) / 2 / height, (y2 - y1) / height
value = {"x": (centre_x - w / 2) * 100, "y": (centre_y - h / 2) * 100, "width": w * 100}
value |= {"height": h * 100, "rotation": 0, "rectanglelabels": ["cup"]}
result = {"id": "r", "type": "rectanglelabels", "value": value, "to_name": "image"}
result |= {"from_name": "label", "original_width": width, "original_height": height}
task = {"id": 1, "data": {"image": str(root / "images" / "a.png")}}
task["annotations"] = [{"id": 1, "result": [result]}]
(root / "tasks.json").write_text(json.dumps([task]))
config = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
<Label value="cup"/></RectangleLabels></View>"""
converter = Converter(config, str(root), download_resources=False)
for form in ("VOC", "COCO"):
    converter.convert(str(root / "tasks.json"), str(root / form), form, is_dir=False)
(path,) = (root / "VOC").rglob("*.xml")
voc = tuple(int(re.search(rf"<{k}>(\d+)<", path.read_text())[1]) for k in ("xmin", "ymin", "xmax", "ymax"))
x, y, w, h = json.loads((root / "COCO" / "result.json").read_text())["annotations"][0]["bbox"]
coco = (x, y, x + w, y + h)
print("label-studio-sdk", importlib.metadata.version("label-studio-sdk"))
print("drawn:", box, "| VOC:", voc, "| COCO:", tuple(round(v, 6) for v in coco))
far = max(abs(a - b) for a, b in zip(voc, box))
sys.exit(not (far == 2 and max(abs(a - b) for a, b in zip(coco, box)) < 1e-6))
PY
"$folder/venv/bin/python" "$folder/convert.py" "$folder" 2> "$folder/log" || { tail -5 "$folder/log"; exit 1; }
echo "as described: the far edge is up to 2 px off in VOC, exact in COCO"
