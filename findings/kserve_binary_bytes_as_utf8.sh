#!/usr/bin/env bash
# KServe's Python server refuses a file that comes as the v2 protocol's binary data: a BYTES input whose
# bytes stand behind the JSON head is encoded as UTF-8 once more while the request is read, so a JPEG
# raises "Failed to encode ... Please use binary_data=True", although it was sent as binary. Bytes that
# happen to be UTF-8 pass. The same bytes in base64 in the JSON body are left to the model.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "kserve==0.21.0"
cat > "$folder/request.py" <<'PY'
import json
import struct
import sys
from importlib.metadata import version

from kserve import InferRequest
from kserve.errors import InferenceError

print("kserve", version("kserve"))


def read(content):
    """What becomes of one element of BYTES, sent as binary data: its length, then itself."""
    element = struct.pack("<I", len(content)) + content
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    tensor["parameters"] = {"binary_data_size": len(element)}
    head = json.dumps({"inputs": [tensor]}).encode()
    try:
        request = InferRequest.from_bytes(head + element, len(head), "model")
    except InferenceError as error:
        return f"InferenceError: {str(error)[-80:]}"
    return f"read as {request.inputs[0].as_numpy().tolist()}"


text, picture = read(b"plain text"), read(b"\xff\xd8\xff\xe0 a JPEG")
print("b'plain text':", text)
print("the first bytes of a JPEG:", picture)
sys.exit(not text.startswith("read as") or "Please use binary_data=True" not in picture)
PY
"$folder/venv/bin/python" "$folder/request.py" 2>"$folder/log" || { tail -5 "$folder/log"; exit 1; }
