"""All numbers that recommended settings are made of, in one place.

What they rest on is in `docs/experiments.md`; what was not measured says so.
"""

import math
from typing import Any

SMALL_SET = 1_000
"""Training images below which a set is small: much is held back, and augmentation is strong."""

LARGE_SET = 20_000
"""Training images from which on augmentation is light."""

PRETRAINED_HELPS = 2_000
"""Training images below which pretrained weights help most."""

HELD_BACK = ((1_000, 0.15), (10_000, 0.1), (math.inf, 0.05))
"""Fraction for each missing split, for sets below so many images."""

MOST_HELD_BACK = 0.3
FEW_HELD_BACK = 50
"""Images of a given split below which its figures swing much."""

CALIBRATION, CALIBRATION_FROM = 0.1, 400
"""Fraction on which trust is fitted, for sets of so many images and more: with 40 of them what is
promised of 90 % of images is kept for 90 % give or take 5; smaller sets need them to train on."""

LEAST_A_CLASS = 3
"""Images that a class needs: one each to train, validate and test."""

SEVERAL_SHARE = 0.1
"""Share of images with several objects from which on each object is cut out."""

SIZES = {"cpu": (64, 128, 160), "gpu": (64, 224, 320)}
"""Smallest, usual and largest side of the model's input in px."""

SMALL_OBJECT_PX = 16
"""Least height or width that a small object should keep in the model's input."""

SIDE_STEP = 32
LETTERBOX_SPREAD = 1.5
"""Ratio of wide to narrow pictures (90th to 10th percentile of width by height) that stretching
would distort too unequally."""

WIDTHS = {"cpu": 32, "gpu": 64}
GREY_WIDTH = 16
"""Width of the body for grey pictures on a CPU, as for digits."""

BATCHES = ((500, 16), (3_000, 64), (math.inf, 128))
"""Images a step, for sets below so many images."""

LEARNING_RATES = ((16, 0.001), (64, 0.002), (math.inf, 0.004))
"""Learning rate up to a batch size."""

EPOCH_IMAGES = 448
"""Least images that count as an epoch: fewer would pause too often to validate."""

EPOCHS = (5, 100)
WARMUP_EPOCHS = 3
WARMUP_SHARE = 0.1
EMA_EPOCHS = 4
"""Epochs that the moving average of the weights spans, or a tenth of the training."""

EMA_STEPS = (10, 2_000)
"""Fewest and most steps that it spans."""

CHECKPOINT_SECONDS = 60
"""Most time, about, that an interruption should cost."""

BUDGET_MINUTES = 10
DROPOUT = 0.3
WEIGHT_DECAY = 0.05
DISTRIBUTION_WEIGHT = 0.25
LABEL_SMOOTHING = 0.05
MANY_CLASSES = 20
MANY_LABEL_SMOOTHING = 0.1

AUGMENT: dict[str, dict[str, float]] = {
    "strong": {
        **{"translate": 0.15, "scale": 0.3, "aspect": 0.2, "rotation": 10.0, "crop": 0.4},
        **{"brightness": 0.2, "contrast": 0.3, "saturation": 0.3, "hue": 0.02},
    },
    "medium": {
        **{"translate": 0.15, "scale": 0.3, "aspect": 0.2, "rotation": 0.0, "crop": 0.0},
        **{"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.02},
    },
    "light": {
        **{"translate": 0.1, "scale": 0.2, "aspect": 0.1, "rotation": 0.0, "crop": 0.0},
        **{"brightness": 0.1, "contrast": 0.2, "saturation": 0.2, "hue": 0.0},
    },
}
COLOUR_ONLY = ("saturation", "hue")
SIDE_WORDS = frozenset({"left", "right"})

# Two CPU cores, default heads, 100 px, width 32, bfloat16: 246 images/s. Smaller pictures cost less
# in the body, but the heads cost the same; the shares fit the times of the four photograph configs.
HEAD_SECONDS = 0.001
BODY_SECONDS = 0.0031
MEASURED_SIDE = 100
MEASURED_CORES = 2
MOST_CORES = 16
"""Cores that a step of this size can still use."""

WIDTH_FACTORS = {16: 0.49, 32: 1.0, 64: 2.7}
"""Time by width, in bfloat16."""

AVX2_FACTOR = 1.65
"""Time on two cores with 256-bit vectors: 201 images/s at 64 px, width 32, batch 128, float32."""

FLOAT32_FACTORS = {16: 1.05, 32: 1.33, 64: 1.48}
BATCH_FACTORS = ((32, 2.0), (64, 1.6), (10**9, 1.3))
"""Overhead of validation and of small steps, below a batch size."""

GPU_IMAGES = 1_000.0
"""Images a second on a GPU at 224 px and width 64: a guess, nothing was measured."""

GPU_SIDE = 224
GPU_MOST = 5_000.0

SHARED_BODY: dict[str, Any] = {"name": "resnet18", "width": 64, "stem": "imagenet"}
"""The body that ImageNet weights, and files of weights, are for."""

FINE_TUNING: dict[str, float] = {
    "train.learning_rate": 0.001,
    "train.fine_tune.body_rate": 0.3,
    "train.fine_tune.layer_decay": 0.7,
}
"""What differs when a training starts from weights of ImageNet: customary, not measured here."""

FREEZE_SHARE = 0.125
"""Share of the epochs in which only the heads learn, likewise."""

FINE_TUNING_RUN: dict[str, float] = {"train.learning_rate": 0.001}
"""What differs when it starts from an earlier run: one rate for all from the first step. A body
that has seen some thousand photographs gained nothing from lower ones (`docs/transfer.md`)."""

STEADY_BATCH = 16
"""Below this many images a step the statistics of batch normalisation stay as they came."""
