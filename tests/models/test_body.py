"""Where feature maps shrink: on small networks whose answers are read off their drawing."""

import keras
import pytest
from keras import layers

from loc_keras.errors import ModelError
from loc_keras.models.body import cut_to_maps, feature_maps


def heights(network):
    stem, maps = feature_maps(network)
    return stem.shape[1], [tensor.shape[1] for tensor in maps]


def chosen(network):
    stem, maps = feature_maps(network)
    names = {id(one.output): one.name for one in network.layers}
    return [names[id(tensor)] for tensor in (stem, *maps)]


def strided(x, name, filters=4, stride=2):
    return layers.Conv2D(filters, 3, strides=stride, padding="same", name=name)(x)


def test_last_map_before_each_shrinking():
    images = keras.Input((64, 64, 3))
    x = strided(images, "at32")
    x = layers.ReLU(name="last32")(x)
    x = layers.ZeroPadding2D(1, name="pad")(x)  # 34: no map of its own
    x = layers.Conv2D(4, 3, strides=2, name="at16")(x)
    x = layers.Conv2D(9, 1, name="last16")(x)
    x = strided(x, "last8")
    network = keras.Model(images, x)
    assert chosen(network) == ["last32", "last16", "last8"]
    assert heights(network) == (32, [16, 8])


def test_channel_weights_are_no_maps():
    images = keras.Input((32, 32, 3))
    x = strided(images, "at16")
    weights = layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = layers.Conv2D(4, 1, activation="sigmoid")(weights)
    x = layers.Multiply(name="last16")([x, weights])
    network = keras.Model(images, strided(x, "last8"))
    assert chosen(network) == ["last16", "last8"]


def test_a_branch_that_is_joined_later_is_not_taken():
    images = keras.Input((32, 32, 3))
    x = strided(images, "at16")
    trunk = layers.Conv2D(4, 1, name="trunk")(x)
    branch = strided(layers.Conv2D(64, 1, name="branch")(trunk), "branch8")
    pooled = layers.MaxPooling2D(2, name="pooled")(trunk)
    network = keras.Model(images, layers.Concatenate(name="joined")([branch, pooled]))
    assert chosen(network) == ["trunk", "joined"]


def test_where_all_maps_are_passed_by_the_widest_is_taken():
    images = keras.Input((32, 32, 3))
    left = strided(images, "left")
    wide = layers.Conv2D(32, 1, name="wide")(strided(images, "right"))
    narrow = layers.Conv2D(8, 1, name="narrow")(wide)
    ends = [strided(left, "left8"), strided(narrow, "right8")]
    network = keras.Model(images, layers.Concatenate(name="joined")(ends))
    assert chosen(network) == ["wide", "joined"]


def test_unpadded_convolutions_stay_on_their_level():
    images = keras.Input((70, 70, 3))
    x = layers.Conv2D(4, 3, strides=2, name="at34")(images)
    x = layers.Conv2D(4, 3, name="at32")(x)
    x = layers.MaxPooling2D(2, name="at16")(x)
    network = keras.Model(images, layers.Conv2D(4, 3, name="at14")(x))
    assert heights(network) == (32, [14])


def test_patches_give_a_stem_of_their_own():
    images = keras.Input((64, 64, 3))
    x = layers.Conv2D(4, 4, strides=4, name="patches")(images)
    x = layers.Conv2D(4, 3, padding="same", name="stage1")(x)
    network = keras.Model(images, strided(x, "stage2"))
    assert chosen(network) == ["patches", "stage1", "stage2"]


def test_maps_of_the_images_own_size_are_left_out():
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, padding="same")(images)
    x = layers.MaxPooling2D(2, name="half")(x)
    network = keras.Model(images, layers.MaxPooling2D(2, name="quarter")(x))
    assert chosen(network) == ["half", "quarter"]


def test_a_network_without_maps_is_refused():
    images = keras.Input((32, 32, 3))
    tokens = layers.Reshape((64, 48), name="tokens")(images)
    network = keras.Model(images, layers.Dense(8)(tokens))
    assert feature_maps(network) is None
    with pytest.raises(ModelError, match="hub/vit has no feature map"):
        cut_to_maps(network, "hub/vit")
