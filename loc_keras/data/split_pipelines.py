"""From the images of each split to the pipelines that training and measuring read."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from loc_keras.data import streams
from loc_keras.data.augment import augmentation_from
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.pipeline import ImageSet, eval_dataset, train_dataset


def localization_data(
    sets: Mapping[str, ImageSet],
    *,
    batch_size: int,
    seed: int,
    image_shape: tuple[int, int, int],
    image_knobs: Mapping[str, Any],
    cache: str,
    class_names: list[str],
    **facts: Any,
) -> LocalizationData:
    """Builds the pipelines of a data source.

    Args:
        sets: Images of `"train"` and, where there are any, of `"val"`, `"test"` and
            `"calibration"`.
        batch_size: Images in a batch.
        seed: Seed of the order, of what is drawn and of the augmentation.
        image_shape: (height, width, channels) of every image.
        image_knobs: Whole-image augmentation of the training images; see `ImageAugment`.
        cache: Whether evaluation images stay in memory: `pipeline.eval_dataset`.
        class_names: Name of each class, by index.
        **facts: The remaining fields of `LocalizationData`.

    Returns:
        The source, with None for a split without images.
    """
    evaluate = partial(
        eval_dataset, batch_size=batch_size, seed=seed, image_shape=image_shape, cache=cache
    )
    return LocalizationData(
        train=partial(
            train_dataset,
            sets["train"],
            batch_size=batch_size,
            seed=seed,
            augmentation=augmentation_from(image_knobs, len(class_names)),
        ),
        batch_indices=partial(streams.batch_indices, sets["train"].size, batch_size, seed),
        val=evaluate(sets["val"], split=streams.VALIDATION) if "val" in sets else None,
        val_share=partial(evaluate, sets["val"], split=streams.VALIDATION)
        if "val" in sets
        else None,
        test=evaluate(sets["test"], split=streams.TEST) if "test" in sets else None,
        calibration=evaluate(sets["calibration"], split=streams.CALIBRATION)
        if "calibration" in sets
        else None,
        image_shape=image_shape,
        class_names=class_names,
        steps_per_epoch=streams.steps_per_epoch(sets["train"].size, batch_size),
        **facts,
    )
