"""Data sources by format name: each builder turns plain values into `LocalizationData`."""

from collections.abc import Callable

from loc_keras.data.csv_data import build_csv_data
from loc_keras.data.digits_data import build_digits_data
from loc_keras.data.localization_data import LocalizationData

BUILDERS: dict[str, Callable[..., LocalizationData]] = {
    "digits": build_digits_data,
    "csv": build_csv_data,
}
"""The builder of each `data.source.format`; all take the same keyword arguments for what all
sources share, and their own for the rest."""

__all__ = ["BUILDERS", "build_csv_data", "build_digits_data"]
