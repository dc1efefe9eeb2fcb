"""Files that `docs/serving.md` prints are such as servers read; `docs/export.md` has tolerances."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "serving.md").read_text(encoding="utf-8")


def printed(beginning: str) -> str:
    """The block of the page that begins so."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(beginning))
    return found


def test_the_model_config_is_one_of_tf_serving():
    config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    config = text_format.Parse(printed("model_config_list"), config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == "vegetables"
    assert model.base_path == "/models/vegetables"
    assert model.model_version_policy.latest.num_versions == 1


def test_the_kubernetes_object_is_well_formed():
    from ruamel.yaml import YAML

    service = YAML(typ="safe").load(printed("apiVersion"))
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert service["spec"]["predictor"]["model"]["modelFormat"] == {"name": "tensorflow"}


def test_the_python_lines_name_what_there_is(monkeypatch, capsys):
    from loc_keras.serving import client
    from loc_keras.serving.client import ServedAnswer

    class Stub(client.ServingClient):
        def predict(self, images):
            good = ServedAnswer(True, label="carrot", score=0.9, box_px=(1, 2, 3, 4))
            bad = ServedAnswer(False, "is not an image")
            return [good, bad] if isinstance(images, list) else good

    monkeypatch.setattr(client, "ServingClient", Stub)
    exec(compile(printed("from loc_keras.serving"), "docs/serving.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "carrot 0.9 (1, 2, 3, 4)",
        "True ",
        "False is not an image",
    ]


def test_the_tolerances_of_exports_are_those_in_use():
    from loc_keras.serving.live_check import TOLERANCES

    said = {}
    for line in (DOCS / "export.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and cells[0] in {kind for kind, _ in TOLERANCES}:
            for quantize, cell in zip(("none", "float16", "int8"), cells[2:5], strict=True):
                if cell:
                    allowed, measured = cell.rstrip(")").split(" (")
                    assert max(map(float, measured.split("; "))) <= float(allowed)
                    said[cells[0], quantize] = float(allowed)
    assert said == TOLERANCES
