"""Single-object image localization: one image in, one class label and one box out.

Importing the package registers its Keras classes, after which `keras.saving.load_model` opens
every model that it has saved. Keras looks for classes of other packages than its own in its
registry alone, so the imports below cannot wait until a name is asked for. `Localizer` can: it
needs TensorFlow, which models, losses and metrics do without under another backend of Keras.
"""

from typing import TYPE_CHECKING, Any

import loc_keras._environ  # Sets what TensorFlow reads at its import.
import loc_keras.trust.statements  # noqa: F401  (registers its layers)
from loc_keras import boxes, losses, metrics
from loc_keras.errors import LocKerasError
from loc_keras.models.assembly import build_localizer

if TYPE_CHECKING:
    from loc_keras.localizer import Localizer

__version__ = "0.1.0"

__all__ = ["LocKerasError", "Localizer", "boxes", "build_localizer", "losses", "metrics"]


def __getattr__(name: str) -> Any:
    """Imports what waits until it is asked for (PEP 562)."""
    if name == "Localizer":
        from loc_keras.localizer import Localizer

        return Localizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
