#!/usr/bin/env bash
# Pillow's Image.resize(size, box=...) scales a region, but its filter also reads the pixels around that
# region: where a picture lies in a larger one, as in a letterbox, its edges take on the border's colour.
# crop(...).resize(...) of the same whole-number region reads the region alone.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pillow==13.0.0" "numpy==2.4.6"
cat > "$folder/scale.py" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image

print("Pillow", version("pillow"))
black = np.zeros((20, 20), np.uint8)
black[5:15] = 240  # A picture, all of one grey, between two black bars.
letterboxed, region = Image.fromarray(black), (0, 5, 20, 15)
found = {}
for name in ("BILINEAR", "BICUBIC", "LANCZOS"):
    kind = Image.Resampling[name]
    whole = np.asarray(letterboxed.resize((40, 20), kind, box=region))
    cut = np.asarray(letterboxed.crop(region).resize((40, 20), kind))
    found[name] = int(whole[0, 0]), int(cut[0, 0])
    print(f"{name}, upper edge of the picture (240): box= gives {whole[0, 0]}, crop first {cut[0, 0]}")
sys.exit(any(box == 240 or cut != 240 for box, cut in found.values()))
PY
"$folder/venv/bin/python" "$folder/scale.py"
