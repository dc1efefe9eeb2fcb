"""How large outer and inner boxes are said to be."""

import numpy as np
import pytest
from helpers.trust_examples import CLASSES, seen_by

from loc_keras.config.schema import TrustConfig
from loc_keras.data.dataset import SplitPictures
from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.trust.fit import fit_statements, trust_figures
from loc_keras.trust.shift import shift_reference
from loc_keras.trust.statements import VERSION, Calibration, Trust, stated


def test_a_box_is_a_share_of_the_picture_and_not_of_its_bars() -> None:
    seen = seen_by(np.random.default_rng(0))
    images = len(seen)
    base = Calibration("calibration", images, images, "data", "", 0.9)
    statements = fit_statements(seen, TrustConfig(coverage=0.9), CLASSES)
    trust = Trust(VERSION, base, statements, shift_reference(seen))
    # 60 x 30 px in 32 x 32: the picture lies at y .25 to .75, and the bars above and below it.
    pictures = SplitPictures(
        np.array(["a"] * images, object), np.tile([[30, 60]], (images, 1)), "letterbox", (32, 32)
    )
    found = trust_figures(trust, seen, pictures.to_px, Bootstrap(0.95, 100, 0))
    said = {
        name: np.asarray(value, float) for name, value in stated(seen.outputs, statements).items()
    }
    for guarantee, name in zip(found.guarantees[1:], ("box_outer", "box_inner"), strict=True):
        x1, y1, x2, y2 = said[name].T
        height = np.clip(y2, 0.25, 0.75) - np.clip(y1, 0.25, 0.75)
        assert guarantee.size == pytest.approx(((x2 - x1) * height / 0.5).mean(), abs=1e-5)
