#!/usr/bin/env bash
# A GIF file declares the size of its picture (the screen), and each frame its place in it. Where the
# first frame is smaller than the screen, tf.io.decode_gif gives the picture the size of a frame, and a
# single frame that does not start in the corner comes out black; Pillow gives the whole picture.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tensorflow==2.21.0" "pillow==13.0.0"
cat > "$folder/gif.py" <<'PY'
import io
import sys

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

WHITE = 1


def frame(x, y, width, height):
    """The block of a white frame at a place, cut out of a file that Pillow wrote."""
    image = Image.new("P", (width, height), WHITE)
    image.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    image.save(file, "GIF", optimize=False)
    content = file.getvalue()
    at = content.rindex(b"\x2c" + bytes(4))
    place = b"".join(number.to_bytes(2, "little") for number in (x, y))
    return b"\x2c" + place + content[at + 5 : -1]


def gif(width, height, *frames):
    sides = b"".join(number.to_bytes(2, "little") for number in (width, height))
    head = b"GIF89a" + sides + b"\x80\0\0" + bytes(3) + b"\xff\xff\xff"
    return head + b"".join(frame(*one) for one in frames) + b";"


def white(picture):
    """Left, top, right, bottom of what is white."""
    rows, columns = np.nonzero(np.asarray(picture)[..., 0] == 255)
    if not len(rows):
        return None
    return tuple(map(int, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))


print("tensorflow", tf.__version__, "Pillow", PIL.__version__)
seen = {}
for name, frames in {"whole": [(0, 0, 40, 30)], "placed": [(25, 20, 10, 8)]}.items():
    content = gif(40, 30, *frames)
    decoded = tf.io.decode_gif(content).numpy()
    opened = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    seen[name] = (decoded.shape[1:3], white(decoded[0]), opened.shape[:2], white(opened))
    print(f"{name} frame {frames[0]}: TensorFlow {decoded.shape[1:3]}, white {seen[name][1]};",
          f"Pillow {opened.shape[:2]}, white {seen[name][3]}")
same = seen["whole"][:2] == seen["whole"][2:]
lost = seen["placed"] == ((8, 10), None, (30, 40), (25, 20, 35, 28))
sys.exit(not (same and lost))
PY
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" "$folder/gif.py" 2> /dev/null
echo "as described: the place of a GIF frame is lost, and the screen's size with it"
