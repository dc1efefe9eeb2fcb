#!/usr/bin/env bash
# pandas: a column that is read with dtype="category" is not read as text. Categories that all look
# like numbers or truth values become such: the codes 01 and 1, or 1 and 1.0, are one category then, and
# the leading zeros are lost. With dtype=str they stay apart.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pandas==3.1.1"
"$folder/venv/bin/python" - <<'PY'
import io
import sys

import pandas as pd

print("pandas", pd.__version__)
seen = {}
for text in ("01\n1\n", "1\n1.0\n", "True\ntrue\n", "01\n1\na\n"):
    for dtype in ("category", str):
        column = pd.read_csv(io.StringIO(text), header=None, dtype={0: dtype})[0]
        seen[text, str(dtype)] = column.tolist()
        print(repr(text), "as", dtype, "->", column.tolist())
merged = seen["01\n1\n", "category"] == [1, 1] and seen["1\n1.0\n", "category"] == [1.0, 1.0]
kept = seen["01\n1\n", str(str)] == ["01", "1"] and seen["01\n1\na\n", "category"] == ["01", "1", "a"]
sys.exit(not (merged and kept))
PY
echo "as described: texts that differ become one category"
