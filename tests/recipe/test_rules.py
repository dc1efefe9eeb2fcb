"""What is recommended for a data set and a device: properties that hold whatever the facts."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras.config.load import config_from_tree
from loc_keras.recipe import rules
from loc_keras.recipe.rules import (
    Cost,
    Facts,
    choose,
    fine_tuning,
    held_fraction,
    images_a_second,
    multi_object_policy,
)

CLASS_NAMES = st.text(st.characters(categories=["L", "N"], include_characters=" _-"), min_size=1)


@st.composite
def any_facts(draw):
    classes = draw(st.dictionaries(CLASS_NAMES, st.integers(0, 10**6), min_size=1, max_size=30))
    share = st.floats(0, 1)
    return Facts(
        images=draw(st.integers(1, 10**7)),
        classes=classes,
        side=draw(st.floats(1, 20_000)),
        spread=draw(st.floats(1, 100)),
        small_side=draw(share),
        grey=draw(st.booleans()),
        given=draw(st.dictionaries(st.sampled_from(["val", "test"]), st.integers(1, 10**5))),
        several=draw(st.integers(0, 1000)),
        annotated=draw(st.integers(0, 1000)),
        policy=draw(st.sampled_from(["skip", "crop", "largest", "first"])),
        cores=draw(st.integers(1, 256)),
        gpus=draw(st.sampled_from([(), ("a GPU",), ("a GPU", "another")])),
        bfloat16=draw(st.booleans()),
    )


def facts(**changes):
    given = {"images": 2_000, "classes": {"cat": 1_000, "dog": 1_000}, "side": 300.0}
    return Facts(**{**given, **changes})


def values(known, **options):
    return {choice.key: choice.value for choice in choose(known, **options)[0]}


def as_config(chosen):
    tree = {"data": {"source": {"format": "csv", "path": "folder"}}}
    for key, value in chosen.items():
        *sections, last = key.split(".")
        at = tree
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = value
    return config_from_tree(tree, [], origin="test", name="x")


@given(any_facts(), st.floats(0.01, 10_000))
@settings(deadline=None, max_examples=150)
def test_any_facts_give_a_config_that_validates(known, minutes):
    choices, notes = choose(known, minutes=minutes)
    keys = [choice.key for choice in choices]
    assert len(set(keys)) == len(keys)
    assert all(choice.why for choice in choices)
    assert all(note.endswith(".") and "\n" not in note for note in notes)
    config = as_config({choice.key: choice.value for choice in choices})
    assert config.train.epochs >= 1
    height, width = config.data.image_size
    least, _, most = rules.SIZES[known.device]
    assert height == width
    assert least <= height <= most


@given(any_facts(), st.integers(1, 10**7))
@settings(deadline=None, max_examples=100)
def test_more_images_never_give_stronger_augmentation(known, images):
    fewer, more = sorted([known.images, images])
    weak = values(Facts(**{**vars(known), "images": more}))
    strong = values(Facts(**{**vars(known), "images": fewer}))
    for key, value in weak.items():
        if key.startswith("augment."):
            assert value <= strong.get(key, 0)


@given(any_facts(), st.floats(0.1, 1_000), st.floats(0.1, 1_000))
@settings(deadline=None, max_examples=100)
def test_more_time_never_gives_fewer_epochs(known, one, other):
    short, long = sorted([one, other])
    assert (
        values(known, minutes=short)["train.epochs"] <= values(known, minutes=long)["train.epochs"]
    )


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_held_back_fraction_never_grows_with_the_set(one, other):
    small, large = sorted([one, other])
    assert held_fraction(facts(images=large)) <= held_fraction(facts(images=small))


@pytest.mark.parametrize(
    ("images", "classes", "fraction"),
    # 40 images of 10 classes: a quarter, so that validation has 10.
    [(200, 4, 0.15), (2_000, 4, 0.1), (60_000, 4, 0.05), (40, 10, 0.25), (20, 10, 0.3)],
)
def test_held_back_fraction(images, classes, fraction):
    known = facts(images=images, classes={f"class {k}": 9 for k in range(classes)})
    chosen = values(known, asked={"train.folds": 0})
    assert chosen["data.split.val"] == chosen["data.split.test"] == fraction


@pytest.mark.parametrize(("images", "fraction"), [(399, None), (400, 0.1), (60_000, 0.1)])
def test_trust_is_fitted_where_there_are_images_for_it(images, fraction):
    chosen = values(facts(images=images, given={"val": 300, "test": 300}))
    assert chosen.get("data.split.calibration") == fraction


def test_small_sets_get_trust_by_folds_within_the_same_time():
    given_both = {"val": 300, "test": 300}
    small = facts(images=399, given=given_both)
    chosen = values(small, minutes=9)
    assert (chosen["trust.method"], chosen["trust.folds"]) == ("cross", 5)
    none_asked = values(small, minutes=9, asked={"trust.method": "split"})
    assert not {"trust.folds", "data.split.calibration"} & set(none_asked)
    # By hand: one training, and five of three tenths of its length, are 2.5 trainings, in what is
    # left of 540 s without what goes on around them.
    around = rules.AROUND_SECONDS
    left = (540 - around - rules.FOLDS_SECONDS - 5 * rules.FOLD_SECONDS) / (540 - around)
    ratio = none_asked["train.epochs"] / chosen["train.epochs"]
    assert ratio * left == pytest.approx(2.5, rel=0.1)
    assert "trust.method" not in values(facts(images=400, given=given_both))
    asked = values(facts(given=given_both), asked={"trust.method": "cross"})
    assert "data.split.calibration" not in asked
    held = values(small, asked={"data.split.calibration": 0.2})
    assert "trust.method" not in held
    assert "trust.method" not in values(facts(images=19, given=given_both))


@pytest.mark.parametrize(
    ("changes", "folds"),
    [
        ({}, 5),
        ({"images": 2_000}, None),
        ({"given": {"test": 300}}, 5),  # Only validation images would be cut off.
        ({"given": {"val": 300, "test": 300}}, None),
        ({"classes": {"cat": 90, "owl": 4, "rat": 0}}, 4),  # As many as the smallest class has.
        ({"classes": {"cat": 90, "owl": 3}}, 3),
        ({"classes": {"cat": 90, "owl": 2}}, None),
        ({"classes": {"cat": 90, "owl": 1}}, None),
    ],
)
def test_small_sets_are_measured_by_folds_and_all_images_train(changes, folds):
    chosen = values(facts(**{"images": 1_999, **changes}))
    assert chosen.get("train.folds") == folds
    config = as_config(chosen)
    split, given = config.data.split, changes.get("given", {})
    held = {"val": split.val, "test": split.test, "calibration": split.calibration}
    if folds:
        assert set(held.values()) == {0}
        assert (config.trust.method, config.trust.folds) == ("cross", folds)
    else:
        assert all(held[name] > 0 for name in {"val", "test"} - set(given))


def test_folds_are_cut_where_what_goes_on_around_their_epochs_takes_half_the_time_at_most():
    """By hand: 60 s around a training, 60 s for folds together and 12 s for each of five: 3 min."""
    known = facts(images=186)
    assert rules.MINUTES_FOR_FOLDS == 6
    short, notes = choose(known, minutes=5.9)
    chosen = {choice.key: choice.value for choice in short}
    assert not {"train.folds", "trust.folds", "trust.method"} & set(chosen)
    assert chosen["data.split.test"] > 0
    assert any("cross-validation, which needs none, takes --minutes 6" in note for note in notes)
    assert values(known, minutes=6)["train.folds"] == 5
    asked = values(known, minutes=3, asked={"train.folds": 4})
    assert asked["train.folds"] == 4


def test_given_splits_are_not_cut_off_and_small_ones_are_told():
    choices, notes = choose(facts(given={"val": 300, "test": 7}))
    assert not {"data.split.val", "data.split.test"} & {choice.key for choice in choices}
    # 1 of 7 is 14 %.
    assert [note for note in notes if "7 images for test" in note and "14%" in note]
    assert not [note for note in notes if "300" in note]


def test_classes_that_are_too_small_are_told():
    _, notes = choose(facts(classes={"cat": 90, "owl": 2, "rat": 1}))
    (note,) = [note for note in notes if "fewer than 3 images" in note]
    assert "2 of 3 classes" in note
    assert "owl (2), rat (1)" in note


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"side": 300.0}, 128),
        ({"side": 100.0}, 100),  # No picture is blown up,
        ({"side": 28.0}, 64),  # but for the least that the network can read.
        ({"side": 700.0, "small_side": 0.1}, 160),  # 16 px of a tenth of the side.
        ({"side": 700.0, "small_side": 0.01}, 160),
        ({"side": 700.0, "gpus": ("G",)}, 224),
        ({"side": 700.0, "gpus": ("G",), "small_side": 0.06}, 288),  # 16 / .06 = 267, in 32s
        ({"side": 700.0, "gpus": ("G",), "small_side": 0.01}, 320),
    ],
)
def test_image_size(changes, size):
    assert values(facts(**changes))["data.image_size"] == size


@pytest.mark.parametrize(("spread", "rule"), [(1.0, "stretch"), (1.4, "stretch"), (2, "letterbox")])
def test_resize_by_the_spread_of_shapes(spread, rule):
    assert values(facts(spread=spread))["data.resize"] == rule


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (["cat", "dog"], True),
        (["turn left", "turn right"], False),
        (["Left_shoe", "hat"], False),
        (["bright", "leftover"], True),  # No whole word.
        (["0", "1", "12"], False),
        (["a", "b"], False),
        (["7", "dog"], True),
    ],
)
def test_no_mirroring_where_the_class_may_depend_on_it(names, flip):
    chosen = values(facts(classes=dict.fromkeys(names, 100)))
    assert chosen["augment.flip"] is flip


def test_grey_pictures():
    chosen = values(facts(grey=True))
    assert (chosen["data.channels"], chosen["model.backbone.width"]) == (1, rules.GREY_WIDTH)
    assert not {"augment.saturation", "augment.hue"} & set(chosen)
    assert values(facts(grey=True, weights="some"))["data.channels"] == 3


@pytest.mark.parametrize(
    ("several", "annotated", "policy"),
    [(0, 100, "skip"), (10, 100, "skip"), (11, 100, "crop"), (0, 0, "skip")],
)
def test_policy_for_several_objects(several, annotated, policy):
    assert multi_object_policy(several, annotated) == policy


def test_what_was_asked_for_goes_first_and_the_rest_follows_it():
    plain = values(facts())
    asked = {"data.image_size": (64, 64), "train.batch_size": 16}
    choices, _ = choose(facts(), asked=asked)
    chosen = {choice.key: choice for choice in choices}
    assert chosen["data.image_size"].value == (64, 64)
    assert chosen["data.image_size"].why == chosen["train.batch_size"].why == "asked for"
    # Small batches take the small learning rate, and small pictures leave time for more epochs.
    assert chosen["train.learning_rate"].value == 0.001
    assert plain["train.learning_rate"] == 0.002
    faster = choose(facts(), asked={"data.image_size": (64, 64)})[0]
    epochs = next(choice.value for choice in faster if choice.key == "train.epochs")
    assert epochs > plain["train.epochs"]


def test_time_that_the_fewest_epochs_take_is_told():
    choices, notes = choose(facts(images=10**6), minutes=1)
    assert next(one.value for one in choices if one.key == "train.epochs") == rules.EPOCHS[0]
    assert any("take longer than the 1 min" in note for note in notes)


def test_an_epoch_is_a_part_of_the_images_where_five_passes_take_too_long():
    """8,000 images at the speed that the rules name; three minutes, one of them for the rest."""
    known = facts(images=10_000, side=64.0, given={"test": 1_000}, avx512=False)
    short, notes = values(known, minutes=3), choose(known, minutes=3)[1]
    assert short["train.epochs"] == 5
    images = 5 * short["train.steps_per_epoch"] * short["train.batch_size"]
    assert 64 * 2 * 60 / 2 < images < 201 * 2 * 60  # 201 images/s were measured at 64 px.
    assert not any("take longer" in note for note in notes)
    assert values(known, minutes=60)["train.steps_per_epoch"] is None
    asked = values(known, minutes=3, asked={"train.steps_per_epoch": 70})
    assert asked["train.steps_per_epoch"] == 70


def test_fine_tuning_is_for_given_weights_alone():
    assert fine_tuning(facts()) == fine_tuning(facts(weights="none")) == {}
    tuned = values(facts(weights="file.keras"))
    assert tuned["model.backbone.weights"] == "file.keras"
    assert tuned["train.learning_rate"] == rules.FINE_TUNING[False]["train.learning_rate"]
    assert tuned["model.backbone.width"] == 64  # torchvision's, which shared weights are for.
    assert tuned["train.fine_tune.freeze_epochs"] == round(tuned["train.epochs"] / 8)
    assert not any(key.startswith("train.fine_tune") for key in values(facts()))


def test_weights_of_a_run_bring_its_body():
    body = {"name": "resnet34", "width": 32, "stem": "small"}
    tuned = values(facts(weights="runs/a", body=body, of_run=True))
    assert {key: tuned[f"model.backbone.{key}"] for key in body} == body
    assert "train.fine_tune.freeze_epochs" not in tuned


def test_another_body_has_no_width_to_choose():
    choices, _ = choose(facts(), asked={"model.backbone.name": "applications/MobileNetV3Small"})
    assert "model.backbone.width" not in [one.key for one in choices]


def test_weights_of_another_body_bring_its_name_and_rest_at_first():
    body = {"name": "applications/MobileNetV3Small"}
    tuned = values(facts(weights="imagenet", body=body))
    assert tuned["model.backbone.name"] == body["name"]
    assert not {"model.backbone.width", "model.backbone.stem"} & set(tuned)
    assert tuned["train.fine_tune.freeze_epochs"] > 0
    as_config(tuned)


def test_without_training_nothing_is_noted_of_it():
    lone = facts(images=100, classes={"cat": 99, "owl": 1})
    _, notes = choose(lone, to_train=False)
    assert notes
    assert not [note for note in notes if "--weights" in note or " min " in note]


@pytest.mark.parametrize(
    ("cost", "measured"),
    [
        # docs/experiments.md, "The training step": without validation, batch 128, two cores.
        (Cost(100, 16, 128, halves=True), 508),
        (Cost(100, 32, 128, halves=True), 246),
        (Cost(100, 64, 128, halves=True), 91),
        (Cost(100, 16, 128), 485),
        (Cost(100, 32, 128), 185),
        (Cost(100, 64, 128), 62),
        # The same page, "oneDNN": AVX2 alone, 64 px.
        (Cost(64, 32, 128, avx512=False), 201),
    ],
)
def test_speed_is_near_the_measured_one(cost, measured):
    overhead = rules.BATCH_FACTORS[-1][1]
    assert images_a_second(cost) * overhead == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize(
    ("config", "images", "cost", "minutes"),
    # The configs of photographs: images seen in training, and minutes on two cores, start-up
    # and figures included.
    [
        ("tiny_imagenet_20", 50 * 9_013, Cost(64, 32, 128, halves=True), 21.8),
        ("caltech3", 40 * 1_524, Cost(128, 32, 64, halves=True), 8.9),
        ("microcontrollers", 60 * 28 * 16, Cost(160, 32, 16, halves=True), 7.4),
        ("vegetables3", 60 * 28 * 16, Cost(128, 32, 16, halves=True), 6.0),
    ],
)
def test_time_of_whole_trainings_is_near_the_measured_one(config, images, cost, minutes):
    estimate = images / images_a_second(cost) / 60
    assert estimate == pytest.approx(minutes, rel=0.25), config


@given(
    st.floats(8, 4096),
    st.integers(4, 256),
    st.integers(1, 512),
    st.booleans(),
    st.integers(1, 128),
    st.booleans(),
)
def test_speed_is_always_a_positive_number(side, width, batch, halves, cores, gpu):
    speed = images_a_second(Cost(side, width, batch, halves, cores, gpu))
    assert 0 < speed < math.inf
    assert images_a_second(Cost(side * 2, width, batch, halves, cores, gpu)) <= speed
