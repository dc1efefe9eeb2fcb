#!/usr/bin/env bash
# Split conformal intervals take the k-th smallest of n calibration residuals, k = ceil((n + 1) confidence).
# crepes computes the rank from 1 - confidence in floating point: where (n + 1) confidence is whole, its
# intervals for 80 % and 90 % are one rank too wide, for 95 % and 99 % exact. Nine residuals at 90 %, enough
# for the largest of them, give an infinite interval with the warning that there are too few.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "crepes==0.9.1" "scikit-learn==1.9.1" "numpy==2.4.6"
cat > "$folder/ranks.py" <<'PY'
import math
import sys
import warnings
from fractions import Fraction
from importlib.metadata import version

import numpy as np
from crepes import ConformalRegressor

print("crepes", version("crepes"), "numpy", version("numpy"))
warnings.simplefilter("ignore", UserWarning)


def upper(n, confidence):
    """The interval's upper end about 0; the residuals are 1..n, so it is the rank that was taken."""
    regressor = ConformalRegressor()
    regressor.fit(np.arange(1.0, n + 1))
    return regressor.predict_int(np.zeros(1), confidence=confidence)[0, 1]


wrong = {}
for confidence in ("0.8", "0.9", "0.95", "0.99"):
    for n in range(4, 200):
        rank = math.ceil((n + 1) * Fraction(confidence))
        right = rank if rank <= n else math.inf
        if upper(n, float(confidence)) != right:
            wrong.setdefault(confidence, []).append(n)
    found = wrong.get(confidence, [])
    print(f"confidence {confidence}: other than ceil((n + 1) confidence) for {len(found)} of 196 n: {found[:6]}")
print("n = 9, 90 %: rank 9 of 9 is meant, the interval ends at", upper(9, 0.9))
print("n = 19, 90 %: rank 18 is meant, taken is", upper(19, 0.9))
same = {key: len(value) for key, value in wrong.items()} == {"0.8": 40, "0.9": 20}
sys.exit(bool(not same or upper(9, 0.9) != math.inf or upper(19, 0.9) != 19))
PY
"$folder/venv/bin/python" "$folder/ranks.py"
