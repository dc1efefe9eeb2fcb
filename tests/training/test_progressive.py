"""Training on smaller images first: when, how small, and that only training sees it."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.training_examples import plan

import loc_keras
from loc_keras.config.load import load_config
from loc_keras.config.schema import Config
from loc_keras.config.train import SizeStageConfig
from loc_keras.errors import ConfigError, TrainingError
from loc_keras.models.heads import ResampleLike1D
from loc_keras.training import model as model_file
from loc_keras.training.fit import fit_localizer
from loc_keras.training.model import refuse_wrong_sizes, size_at, training_model


def stage(share, side):
    # Unchecked, so that sides are too small for the config, too.
    return SizeStageConfig.model_construct(share=share, side=side)


STAGES = (stage(0.5, 16), stage(0.25, 24))


def test_sizes_change_at_the_shares_of_all_steps():
    # By hand: 0.5 x 8 = 4 steps at 16 px, 0.25 x 8 = 2 at 24 px, the rest at full size.
    found = [size_at(step, STAGES, 8, (32, 32)) for step in range(9)]
    assert found == [(16, 16)] * 4 + [(24, 24)] * 2 + [None] * 3
    assert size_at(0, (), 8, (32, 32)) is None


def test_sides_keep_their_ratio():
    # The longer side is the one that is named; 48 x 64 / 96 = 32.
    assert size_at(0, [stage(0.5, 64)], 10, (48, 96)) == (32, 64)
    assert size_at(0, [stage(0.5, 64)], 10, (96, 48)) == (64, 32)


@pytest.mark.parametrize("side", [15, 32, 40])
def test_a_stage_must_shrink_the_image_but_not_to_nothing(side):
    with pytest.raises(
        TrainingError, match=rf"\[1\].side is {side} px.* 32 x 32 px: give 16 to 31"
    ):
        refuse_wrong_sizes([stage(0.5, 20), stage(0.2, side)], (32, 32, 1))
    # Half as high as wide: 31 px of width would leave less than 16 px of height.
    with pytest.raises(TrainingError, match="give 32 to 63"):
        refuse_wrong_sizes([stage(0.5, 31)], (32, 64, 3))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "train.progressive_size=[{share: .6, side: 20}, {share: .4, side: 24}]",
            "sum to 1, which",
        ),
        ("train.progressive_size=[{share: .5}]", "progressive_size[0].side is missing"),
        (
            "train.progressive_size=[{shar: .5, side: 20}]",
            "'train.progressive_size[0].share'?",
        ),
        ("train.progressive_size=3", "must be a list"),
        ("train.profile_steps=[9, 3]", "profile_steps must be [first, last]; got [9, 3]"),
    ],
)
def test_settings_that_make_no_sense(override, told, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("{}")
    with pytest.raises(ConfigError) as refused:
        load_config(path, [override])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"bbox_head": "spatial"}, "model.bbox_head is spatial"),
        ({"backbone": {"name": "applications/MobileNetV2"}}, "applications/MobileNetV2"),
    ],
)
def test_networks_for_one_size_are_refused(model, told):
    stages = [{"share": 0.5, "side": 48}]
    with pytest.raises(ValueError, match="progressive_size needs") as refused:
        Config.model_validate({"model": model, "train": {"progressive_size": stages}})
    assert told in str(refused.value)


def test_a_sequence_is_read_at_the_cells_of_another():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2, 5, 3)).astype(np.float32)
    layer = ResampleLike1D()
    for length in (12, 5, 3):
        read = np.asarray(layer([values, np.zeros((2, length, 7), np.float32)]))
        # numpy's own interpolation between cell centres, outermost values held.
        at, cells = (np.arange(length) + 0.5) / length, (np.arange(5) + 0.5) / 5
        wanted = [[np.interp(at, cells, row[:, c]) for c in range(3)] for row in values]
        np.testing.assert_allclose(read, np.swapaxes(wanted, 1, 2), atol=1e-6)


@pytest.fixture(scope="module")
def localizer():
    from loc_keras.models import assembly

    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        yield loc_keras.build_localizer(image_shape=(32, 48, 1), num_classes=3, width=4)


def pictures(count):
    return np.random.default_rng(1).integers(0, 256, (count, 32, 48, 1), np.uint8)


def test_training_alone_sees_small_images(localizer):
    model = training_model(localizer)
    images = pictures(4)
    full = model(images, training=False)
    model.train_size = (16, 24)
    for name, answer in model(images, training=False).items():
        np.testing.assert_array_equal(answer, full[name])
    # TensorFlow's own resize, and the localizer itself on what it gives.
    small = tf.image.resize(tf.cast(images, tf.float32), (16, 24), antialias=True)
    state = [np.array(weight) for weight in localizer.weights]
    wanted = localizer.call(small, training=True)
    for weight, value in zip(localizer.weights, state, strict=True):
        weight.assign(value)
    found = model(images, training=True)
    for name in ("softmax", "bbox"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
        assert np.abs(np.asarray(found[name]) - np.asarray(full[name])).max() > 1e-3


class Steps(keras.callbacks.Callback):
    """Notes which graph takes each step, and of which size its images are."""

    def __init__(self):
        super().__init__()
        self.taken = []

    def on_train_batch_end(self, batch, logs=None):
        self.taken.append((self.model.train_size, id(self.model.train_function)))


@pytest.mark.whole
def test_a_fit_goes_from_small_to_full_and_saves_a_plain_model(localizer, tmp_path, monkeypatch):
    made = []
    resized = model_file.resized
    monkeypatch.setattr(
        model_file, "resized", lambda x, size: made.append(size) or resized(x, size)
    )
    images = pictures(8)
    boxes = np.tile(np.float32([[0.25, 0.25, 0.75, 0.75]]), (8, 1))
    targets = {"softmax": np.zeros(8, np.int32), "bbox": boxes}
    data = tf.data.Dataset.from_tensor_slices((images, targets)).batch(4)
    seen = Steps()
    result = fit_localizer(
        localizer,
        train=lambda step: data.repeat(),
        val=data,
        plan=plan(batch_size=4, progressive_size=[{"share": 0.5, "side": 24}]),
        folder=tmp_path,
        extra_callbacks=[seen],
    )
    assert [size for size, _ in seen.taken] == [(16, 24)] * 3 + [None] * 3
    # Two graphs, of which the first alone resizes.
    assert len({graph for _, graph in seen.taken}) == 2
    assert set(made) == {(16, 24)}
    saved = keras.saving.load_model(result.last_path)
    for name, answer in saved.predict(images, verbose=0).items():
        np.testing.assert_allclose(answer, localizer.predict(images, verbose=0)[name], atol=1e-6)
    with (tmp_path / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
