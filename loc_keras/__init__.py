"""Single-object image localization: one image in, one class label and one box out.

Importing the package takes milliseconds: what it offers is imported when it is asked for. Its Keras
classes are registered as soon as Keras is imported, before or after, so that
`keras.saving.load_model` opens every model that it has saved.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import loc_keras._environ  # noqa: F401  (sets what TensorFlow reads at its import)
from loc_keras.errors import LocKerasError

if TYPE_CHECKING:
    from loc_keras import boxes, losses, metrics
    from loc_keras.commands.python import train
    from loc_keras.localizer.localizer import Localizer
    from loc_keras.models.assembly import build_localizer

__version__ = "0.1.0"

__all__ = ["LocKerasError", "Localizer", "boxes", "build_localizer", "losses", "metrics", "train"]


def __getattr__(name: str) -> Any:
    """Imports what waits until it is asked for (PEP 562)."""
    if name == "Localizer":
        return import_module("loc_keras.localizer.localizer").Localizer
    if name == "build_localizer":
        return import_module("loc_keras.models.assembly").build_localizer
    if name in __all__:
        return import_module(f"loc_keras.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
