#!/usr/bin/env bash
# Two tools that meet: a "CVAT for images 1.1" file written by globox is not read by datumaro, which
# wants the element <meta> with the labels, and an id of each image, as CVAT itself writes them;
# globox's own reader takes the file. With both put in, datumaro reads it, with the image in images/.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "globox==2.9.0" "datumaro[cli]==1.13.12"
cat > "$folder/meet.py" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

import globox
from datumaro.components.dataset import Dataset
from PIL import Image

root = Path(sys.argv[1])
(root / "images").mkdir()
Image.new("RGB", (96, 64), "white").save(root / "images" / "a.png")
box = globox.BoundingBox(label="cup", xmin=10, ymin=20, xmax=30, ymax=50)
written = globox.AnnotationSet([globox.Annotation("a.png", (96, 64), [box])])
path = root / "annotations.xml"
written.save_cvat(path)
print("globox", version("globox"), "datumaro", version("datumaro"))
again = globox.AnnotationSet.from_cvat(path)
print("globox reads its own file:", [(b.label, b.ltrb) for a in again for b in a.boxes])


def read():
    try:
        items = list(Dataset.import_from(str(root), "cvat"))
        return [tuple(label.get_bbox()) for item in items for label in item.annotations]
    except Exception as error:
        inner = error.__cause__ or error
        return f"{type(inner).__name__}: {inner}"


plain = read()
print("datumaro reads it:", plain)
meta = "<meta><task><size>1</size><labels><label><name>cup</name></label></labels></task></meta>"
text = path.read_text()
assert "<meta>" not in text
path.write_text(text.replace("<annotations>", f"<annotations>{meta}", 1))
added = read()
print("datumaro reads it with <meta>:", added)
path.write_text(path.read_text().replace("<image ", '<image id="0" '))
whole = read()
print("datumaro reads it with <meta> and ids:", whole)
refused = isinstance(plain, str) and "<meta>" in plain and isinstance(added, str)
sys.exit(not (refused and whole == [(10.0, 20.0, 20.0, 30.0)]))
PY
mkdir "$folder/set"
"$folder/venv/bin/python" "$folder/meet.py" "$folder/set" 2> /dev/null
echo "as described: globox leaves out what datumaro needs of a CVAT file"
