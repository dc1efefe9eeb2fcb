"""The SavedModel: versions, agreement with the live model, a server without our code."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import loc_keras
from loc_keras.errors import ExportError
from loc_keras.serving import saved_model

# Runs in a process of its own that can import neither package, as on a server without them.
FOREIGN_PROCESS = """
import json, sys
sys.modules["keras"] = sys.modules["loc_keras"] = None
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
images = tf.constant(np.load(sys.argv[2]), tf.float32)
outputs = {name: value.numpy().tolist() for name, value in served(images=images).items()}
print(json.dumps(outputs))
"""


pytestmark = pytest.mark.usefixtures("short_body")


@pytest.fixture
def localizer():
    return loc_keras.build_localizer(image_shape=(32, 32, 1), num_classes=3, width=4)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype(np.uint8)


def test_an_export_names_its_classes(tmp_path, localizer, images):
    base = tmp_path / "name"
    folder = saved_model.export_saved_model(localizer, base, images, ["egg plant", "pâté"])
    names = (folder / "assets.extra" / "classes.txt").read_text(encoding="utf-8")
    assert names == "egg plant\npâté\n"


def test_served_model_needs_none_of_our_code(tmp_path, localizer, images):
    folder = saved_model.export_saved_model(localizer, tmp_path / "name", images)
    np.save(tmp_path / "images.npy", images)
    answer = subprocess.run(
        [sys.executable, "-c", FOREIGN_PROCESS, str(folder), str(tmp_path / "images.npy")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    found = json.loads(answer.stdout.splitlines()[-1])
    live = localizer(images.astype(np.float32), training=False)
    assert set(found) == {"softmax", "bbox"}
    for name, value in live.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_versions_count_up_and_are_never_overwritten(tmp_path, localizer, images):
    base = tmp_path / "name"
    assert saved_model.export_saved_model(localizer, base, images) == base / "1"
    (base / "7").mkdir()
    (base / "notes").mkdir()
    assert saved_model.export_saved_model(localizer, base, images) == base / "8"
    assert sorted(child.name for child in base.iterdir()) == ["1", "7", "8", "notes"]


def test_a_copy_that_differs_is_refused(tmp_path, localizer, images):
    folder = saved_model.export_saved_model(localizer, tmp_path / "name", images)
    layer = localizer.get_layer("softmax_logits")
    layer.bias.assign(layer.bias + keras.ops.convert_to_tensor([1.0, 0.0, 0.0]))
    with pytest.raises(ExportError, match="output softmax differs"):
        saved_model.check_copy(localizer, folder, images)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_exported_within_its_own_rounding(tmp_path, images, policy):
    keras.mixed_precision.set_global_policy(policy)
    model = loc_keras.build_localizer(image_shape=(32, 32, 1), num_classes=3, width=4)
    assert saved_model.lowest_dtype(model) == policy.removeprefix("mixed_")
    folder = saved_model.export_saved_model(model, tmp_path / "name", images)
    assert [path.name for path in (tmp_path / "name").iterdir()] == [folder.name] == ["1"]


def test_a_place_that_cannot_be_written_is_told(tmp_path, localizer, images):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"cannot be written.*export\.dir"):
        saved_model.export_saved_model(localizer, tmp_path / "file", images)
    with pytest.raises(ExportError, match=r"cannot be written.*export\.enabled"):
        saved_model.prove_writable(tmp_path / "file" / "name")
    saved_model.prove_writable(tmp_path / "new" / "name")
    assert list((tmp_path / "new" / "name").iterdir()) == []
