"""The pictures of a finished run: curves, a gallery for each split, the architecture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from loc_keras.report.architecture import save_architecture
from loc_keras.report.curves import CLASS_COLUMNS, save_curves
from loc_keras.report.gallery import draw_gallery, save_gallery
from loc_keras.report.saving import figure_to_array

GALLERY_IMAGES = 16


def save_run_curves(folder: Path, name: str, class_count: int) -> None:
    """Draws `history.csv` of a run folder to `plots/curves.png`.

    With one class there is no curve of its loss and accuracy, which are the same whatever is
    learned.
    """
    title = f"{name} (one class: only the box is learned)" if class_count == 1 else name
    hidden = CLASS_COLUMNS if class_count == 1 else ()
    path = folder / "plots" / "curves.png"
    save_curves(folder / "history.csv", path, title=title, hidden=hidden)


def save_run_architecture(model: keras.Model, folder: Path) -> None:
    """Draws the model to `plots/architecture.png`."""
    save_architecture(model, folder / "plots" / "architecture.png")


def save_split_gallery(
    folder: Path,
    split: str,
    images: np.ndarray,
    truth: Mapping[str, np.ndarray],
    said: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    title: str,
    background: int | None = None,
) -> Path:
    """Draws images of a split to `plots/<split>_gallery.png`.

    Args:
        folder: the run folder.
        split: name of the split.
        images: (M, H, W, C), those that `gallery_choice.choose_examples` chose.
        truth: `softmax` labels (M,) and `bbox` boxes (M, 4) of the same images.
        said: `softmax` probabilities (M, K) and `bbox` boxes (M, 4) of the same images.
        class_names: name of each class.
        title: how the images were chosen.
        background: label of images without an object, or None.
    """
    return save_gallery(
        folder / "plots" / f"{split}_gallery.png",
        images,
        truth["softmax"],
        truth["bbox"],
        said["softmax"],
        said["bbox"],
        class_names,
        title=title,
        background=background,
    )


def panel_picture(
    images: np.ndarray,
    truth: Mapping[str, np.ndarray],
    said: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    background: int | None = None,
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
        background=background,
    )
    return figure_to_array(figure)
