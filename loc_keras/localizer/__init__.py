"""A trained model as people use it: any image in, a label and a box in its pixels out."""

from loc_keras.localizer.localizer import Localizer
from loc_keras.localizer.results import ClassScore, Localization

__all__ = ["ClassScore", "Localization", "Localizer"]
