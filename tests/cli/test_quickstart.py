"""The notebook does what it says: its cells are run in their order, in a folder of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text("utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

# As IPython: the last expression of a cell is shown, as HTML where it can be.
SHOW = """
import ast, json, sys
scope, shown = {}, []
for cell in json.load(sys.stdin):
    tree = ast.parse(cell)
    *steps, last = tree.body
    exec(compile(ast.Module(steps, []), "cell", "exec"), scope)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), scope)
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    else:
        exec(compile(ast.Module([last], []), "cell", "exec"), scope)
print("SHOWN", json.dumps(shown))
"""


def test_outputs_are_not_kept_in_the_repository():
    assert all(not cell.get("outputs") for cell in NOTEBOOK["cells"])
    assert NOTEBOOK["nbformat"] == 4


@pytest.mark.whole
def test_every_cell_runs_and_shows_what_its_text_says(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        input=json.dumps(CODE),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(one for one in done.stdout.splitlines() if one.startswith("SHOWN "))
    first, figures, _, second, answer, drawn, found, _ = json.loads(line[6:])
    assert "data:image/png;base64," in first and "data:image/png;base64," in second
    iou, top1 = eval(figures)
    assert 0 < iou < 1 and 0 <= top1 <= 1
    label, score, box = eval(answer)
    assert label in "0123456789" and 0 < score <= 1
    assert len(box) == 4 and all(0 <= side <= 64 for side in box)
    assert "PIL.Image" in drawn
    assert set(eval(found)) == {"class_accuracy", "mean_iou", "top1_loc"}
    assert (tmp_path / "saved_models" / "my_pictures" / "1" / "saved_model.pb").is_file()
