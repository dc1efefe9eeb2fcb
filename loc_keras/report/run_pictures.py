"""The pictures of a finished run: curves, a gallery for each split, the architecture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from loc_keras.report.architecture import save_architecture
from loc_keras.report.captions import spread_by_iou, spread_title
from loc_keras.report.curves import save_curves
from loc_keras.report.gallery import draw_gallery, save_gallery
from loc_keras.report.saving import figure_to_array

GALLERY_IMAGES = 16


def save_run_curves(folder: Path, name: str) -> None:
    """Draws `history.csv` of a run folder to `plots/curves.png`."""
    save_curves(folder / "history.csv", folder / "plots" / "curves.png", title=name)


def save_run_architecture(model: keras.Model, folder: Path) -> None:
    """Draws the model to `plots/architecture.png`."""
    save_architecture(model, folder / "plots" / "architecture.png")


def save_split_gallery(
    folder: Path,
    split: str,
    images: np.ndarray,
    truth: Mapping[str, np.ndarray],
    said: Mapping[str, np.ndarray],
    ious: np.ndarray,
    class_names: Sequence[str],
) -> Path:
    """Draws images of a split at even ranks of IoU to `plots/<split>_gallery.png`.

    Args:
        folder: the run folder.
        split: name of the split.
        images: (M, H, W, C), those at the indices that `gallery_choice` gives.
        truth: `softmax` labels (M,) and `bbox` boxes (M, 4) of the same images.
        said: `softmax` probabilities (M, K) and `bbox` boxes (M, 4) of the same images.
        ious: of all images of the split, for the title.
        class_names: name of each class.
    """
    return save_gallery(
        folder / "plots" / f"{split}_gallery.png",
        images,
        truth["softmax"],
        truth["bbox"],
        said["softmax"],
        said["bbox"],
        class_names,
        title=spread_title(ious, GALLERY_IMAGES, split),
    )


def gallery_choice(ious: np.ndarray) -> np.ndarray:
    """Indices of the images that a gallery shows, worst first."""
    return spread_by_iou(ious, GALLERY_IMAGES)


def panel_picture(
    images: np.ndarray,
    truth: Mapping[str, np.ndarray],
    said: Mapping[str, np.ndarray],
    class_names: Sequence[str],
) -> np.ndarray:
    """Draws validation images with both boxes as one uint8 picture (h, w, 3)."""
    figure = draw_gallery(
        images,
        truth["softmax"],
        truth["bbox"],
        said["softmax"],
        said["bbox"],
        class_names,
        title=f"The same {len(images)} validation images each epoch",
    )
    return figure_to_array(figure)
