#!/usr/bin/env bash
# A folder of modules without an __init__.py inside a package that has one: Python imports it (PEP
# 420), mypy and pytest take it, but griffe, which reads sources for mkdocstrings, passes over it at
# every log level above DEBUG. So a page that asks for `outer.inner.tool.answer` ends with "could
# not be found", while the same folder without any __init__.py at the top is read.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "griffelib==2.4.1" "mkdocs==1.6.1" "mkdocstrings[python]==1.0.6"
cat > "$folder/meet.py" <<'PY'
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import griffe

root = Path(sys.argv[1])
for top, starts in (("outer", True), ("loose", False)):
    (root / top / "inner").mkdir(parents=True)
    (root / top / "inner" / "tool.py").write_text('def answer() -> int:\n    """Of all."""\n    return 42\n')
    if starts:
        (root / top / "__init__.py").write_text("")
sys.path.insert(0, str(root))
print("griffelib", version("griffelib"), "mkdocstrings", version("mkdocstrings"))
print("Python:", importlib.import_module("outer.inner.tool").answer())


def read(name):
    try:
        return griffe.load(name, search_paths=[root], allow_inspection=False).path
    except Exception as error:
        return f"{type(error).__name__}: {error}"


found = {top: read(f"{top}.inner.tool") for top in ("outer", "loose")}
print("griffe:", found)
(root / "docs").mkdir()
(root / "docs" / "index.md").write_text("::: outer.inner.tool.answer\n")
(root / "mkdocs.yml").write_text(
    "site_name: x\nplugins:\n- mkdocstrings: {handlers: {python: {paths: [.]}}}\n"
)
build = [sys.executable, "-m", "mkdocs", "build", "-q"]


def built():
    done = subprocess.run(build, cwd=root, capture_output=True, text=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if "could not" in line]


missing = built()
print("mkdocs build:", missing)
(root / "outer" / "inner" / "__init__.py").write_text("")
whole = built()
print("with an __init__.py in the folder:", whole)
sys.exit(not (found["loose"] == "loose.inner.tool" and found["outer"] != "outer.inner.tool" and missing and not whole))
PY
mkdir "$folder/site"
"$folder/venv/bin/python" "$folder/meet.py" "$folder/site" 2> /dev/null
echo "as described: griffe passes over a folder without __init__.py inside a regular package"
