"""A model that was saved before the package was redrawn opens, and answers as it did then."""

import json
from pathlib import Path

import keras
import numpy as np

import loc_keras  # noqa: F401  (registers the classes that the file names)

RECORDED = Path(__file__).parents[1] / "helpers" / "recorded"


def test_a_model_saved_before_answers_as_it_did():
    # Both files were written by commit 8832d82: build_localizer(image_shape=(32, 32, 1),
    # num_classes=3, width=2) with keras.utils.set_random_seed(0), and its answers to these pixels.
    model = keras.saving.load_model(RECORDED / "best_0_1_0.keras")
    pixels = (np.arange(2 * 32 * 32) % 251).reshape(2, 32, 32, 1).astype("float32")
    answer = model.predict(pixels, verbose=0)
    recorded = json.loads((RECORDED / "best_0_1_0.json").read_text())
    assert set(answer) == set(recorded)
    for name, values in recorded.items():
        np.testing.assert_allclose(answer[name], values, atol=1e-5)
