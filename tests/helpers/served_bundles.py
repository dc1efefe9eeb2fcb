"""The SavedModel that `export` writes, small, for tests of serving."""

import tempfile
from functools import cache
from pathlib import Path

import pytest
from helpers.hostile_images import noise

# Small, and still with every layer of a localizer.
SIDE = 32
NAMES = ("one", "two", "three")


@cache
def exported_bundle():
    """An untrained localizer, and the base folder of version 1 as `export` writes it.

    Skips the test where there is no exporter. It is written once for a test process.
    """
    bundle = pytest.importorskip("loc_keras.serving.bundle")
    import keras

    from loc_keras.data.resize import ImageFormat
    from loc_keras.models import assembly
    from loc_keras.serving.saved_model import write_saved_model

    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        # Most of the time goes into the tracing of layers.
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        model = assembly.build_localizer(
            image_shape=(SIDE, SIDE, 3), num_classes=len(NAMES), width=4
        )
    form = ImageFormat((SIDE, SIDE), 3, "stretch")
    # The folder of temporary files is one of this test process, removed later.
    base = Path(tempfile.mkdtemp(prefix="exported-"))
    write_saved_model(bundle.Bundle(model, NAMES, form, [noise(0)]), base / "1")
    return model, base


def exported_litert(base):
    """The same localizer for LiteRT, below a folder: that of its version; skips without LiteRT."""
    pytest.importorskip("ai_edge_litert")
    model, _ = exported_bundle()
    from loc_keras.data.resize import ImageFormat
    from loc_keras.serving.bundle import Bundle
    from loc_keras.serving.portable import export_portable

    bundle = Bundle(model, NAMES, ImageFormat((SIDE, SIDE), 3, "stretch"), [noise(0)])
    return export_portable(bundle, base, "litert", "none", measure=lambda run: {})
