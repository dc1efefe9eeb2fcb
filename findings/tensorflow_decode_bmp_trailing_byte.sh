#!/usr/bin/env bash
# A BMP file says where its pixels start and, by size and depth, where they end; writers may pad the
# file behind them. tf.io.decode_bmp refuses a file with a single byte behind the pixels, also where
# the header's size of the file counts it; Pillow and OpenCV read it.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tensorflow==2.21.0" "pillow==13.0.0" "opencv-python-headless==5.0.0.93"
cat > "$folder/bmp.py" <<'PY'
import io
import sys

import cv2
import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

print("tensorflow", tf.__version__, "Pillow", PIL.__version__, "OpenCV", cv2.__version__)
pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
file = io.BytesIO()
Image.fromarray(pixels).save(file, "BMP")
plain = file.getvalue()
refused = []
for extra in (0, 1, 2, 4):
    content = plain[:2] + (len(plain) + extra).to_bytes(4, "little") + plain[6:] + bytes(extra)
    others = (
        np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels),
        np.array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), 1)[..., ::-1], pixels),
    )
    try:
        told = f"the same pixels: {np.array_equal(tf.io.decode_bmp(content), pixels)}"
    except tf.errors.InvalidArgumentError as error:
        told = error.message.partition("}} ")[2].partition(" [Op")[0]
        refused.append(extra)
    print(f"{extra} bytes behind the pixels: Pillow, OpenCV equal {others}; TensorFlow: {told}")
    assert all(others)
sys.exit(refused != [1, 2, 4])
PY
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" "$folder/bmp.py" 2> /dev/null
echo "as described: a byte behind the pixels of a BMP file makes decode_bmp refuse it"
