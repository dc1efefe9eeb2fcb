#!/usr/bin/env bash
# legend(labelcolor="linecolor") does not write in the colour of the line: the face of its marker is
# asked first, also where no marker is drawn. A line with open (white faced) markers gets white text,
# which is invisible on the usual white legend.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "matplotlib==3.11.2"
cat > "$folder/legend.py" <<'PY'
import sys

import matplotlib
from matplotlib.figure import Figure

print("Matplotlib", matplotlib.__version__)
seen = {}
for marker in ("", "o"):
    for face in (None, "white"):
        axes = Figure().add_subplot()
        style = {} if face is None else {"markerfacecolor": face}
        axes.plot([0, 1], [0, 1], color="tab:red", marker=marker, label="loss", **style)
        (text,) = axes.legend(labelcolor="linecolor").get_texts()
        seen[marker, face] = text.get_color()
        print(f"red line, marker {marker!r}, face {face}: text {text.get_color()}")
sys.exit(set(seen.values()) != {"tab:red", "white"} or seen["", "white"] != "white")
PY
"$folder/venv/bin/python" "$folder/legend.py"
echo "as described: the text has the colour of the marker's face, not of the line"
