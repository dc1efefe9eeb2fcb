"""Single-object image localization: one image in, one class label and one box out.

Importing the package registers its Keras classes, after which `keras.saving.load_model` opens
every model that it has saved. Keras looks for classes of other packages than its own in its
registry alone, so the imports below cannot wait until a name is asked for.
"""

import loc_keras.native_logs
import loc_keras.onednn  # noqa: F401  (likewise)
from loc_keras import boxes, losses, metrics
from loc_keras.errors import LocKerasError
from loc_keras.localizer import Localizer
from loc_keras.models.assembly import build_localizer

__version__ = "0.1.0"

__all__ = ["LocKerasError", "Localizer", "boxes", "build_localizer", "losses", "metrics"]
